"""Tables: rows of one dataclass as plain text for a log, HTML for people, JSON for a record.

The HTML is a table in every sense that a screen reader, a printer and another program know. Where a person is there,
the columns of a long one can be sorted; what does that is not written into a record, whose page runs no script.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from . import presence
from .palette import MARKS, badge

LONG = 16
"""A table of so many rows can be sorted."""

_LEFT = "text-align:left"
_BUTTON = "all:unset;cursor:pointer;outline:revert;white-space:nowrap"
"""Its sign stays beside its word."""
_ORDER = {"error": "0", "warning": "1", "skipped": "2", "ok": "3"}
"""Sorted upwards, the worst comes first."""

_SORT = """
const button = event.target.closest('button');
if (!button) return;
const head = button.closest('th'), at = head.cellIndex;
const down = head.getAttribute('aria-sort') === 'ascending';
for (const other of head.parentNode.cells) {
  other.removeAttribute('aria-sort');
  other.querySelector('span').textContent = '⇅';
}
head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
button.querySelector('span').textContent = down ? '▼' : '▲';
const key = row => row.cells[at].dataset.key ?? row.cells[at].textContent;
const body = this.parentNode.tBodies[0];
[...body.rows]
  .sort((a, b) => (down ? -1 : 1) * key(a).localeCompare(key(b), undefined, {numeric: true}))
  .forEach(row => body.append(row));
"""
"""What a click on a heading does. JupyterLab drops it from a notebook that is not trusted: the table stays as it is."""


class Table:
    """Rows of one dataclass with a title.

    Attributes:
        headings: what people read above a column whose name is for machines.
        about: what a machine should know beside the rows; people see it elsewhere.
    """

    MIME = "application/vnd.consulfed.table+json"
    columns: Sequence[str] = ()
    headings: Mapping[str, str] = {}
    kind = "rows"

    def __init__(self, title: str, rows: Iterable[Any] = ()):
        self.title = title
        self.rows = list(rows)
        self.about: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def data(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, for who wants to filter and sort them."""
        import pandas

        return pandas.DataFrame(self.data(), columns=list(self.columns))

    def summary(self) -> str:
        return f"{len(self.rows)} rows"

    def _shown(self) -> list[str]:
        """The columns in which any row has something to say."""
        return [column for column in self.columns if any(self._cell(row, column) for row in self.rows)]

    def _headings(self, columns: Iterable[str]) -> list[str]:
        return [self.headings.get(column, column) for column in columns]

    def _rows_shown(self) -> list[Any]:
        """The rows as people see them; machines get all of them (`data`)."""
        return self.rows

    def _cell(self, row: Any, column: str) -> str:
        value = getattr(row, column)
        if column in {"severity", "outcome"}:
            return f"{MARKS.get(value, '')} {value}".strip()
        if isinstance(value, float):
            return f"{value:.1f}" if value else ""
        return str(value)

    def __repr__(self) -> str:
        head = f"{self.title}: {self.summary()}"
        if not self.rows:
            return head
        columns = self._shown()
        cells = [[self._cell(row, column) for column in columns] for row in self._rows_shown()]
        headings = self._headings(columns)
        widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(headings[:-1])]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip()
            for line in [headings, *cells]
        ]
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{titled(self.title, self.summary())}</p>"
        columns, rows = self._shown(), self._rows_shown()
        sortable = presence.somebody() and len(rows) >= LONG
        body = "".join(
            f"<tr>{''.join(self._td(row, column, not i) for i, column in enumerate(columns))}</tr>"
            for row in rows
        )
        return table(
            titled(self.title, self.summary()),
            f"{_head(self._headings(columns), sortable)}<tbody>{body}</tbody>",
            f"consulfed-{self.kind}" + (" consulfed-sortable" if sortable else ""),
        )

    def _td(self, row: Any, column: str, first: bool) -> str:
        """The first cell of a row says what the row is about."""
        words = html.escape(self._cell(row, column))
        style, key = _LEFT, ""
        if column == "severity":
            words, key = badge(row.severity, words), f' data-key="{_ORDER[row.severity]}"'
        elif column == "outcome":
            style += ";white-space:nowrap"
            words = words if row.outcome == "unchanged" else f"<b>{words}</b>"
        if first:
            return f'<th scope="row" style="{style}"{key}>{words}</th>'
        return f'<td style="{style}"{key}>{words}</td>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        data = {"title": self.title, "kind": self.kind, "rows": self.data(), **self.about}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), self.MIME: data}


def titled(title: str, words: str) -> str:
    """A title and what it says in short, as HTML."""
    return f"<b>{html.escape(title)}</b>: {html.escape(words)}"


def table(caption: str, rows: str, kinds: str) -> str:
    """A table around its rows and its caption, which are HTML already."""
    return (
        f'<table class="consulfed-table {kinds}"><caption style="{_LEFT};caption-side:top;padding:4px 0">'
        f"{caption}</caption>{rows}</table>"
    )


def pairs(rows: Mapping[str, Any], caption: str, kinds: str) -> str:
    """A table of names and their values; both are texts."""
    body = "".join(
        f'<tr><th scope="row" style="{_LEFT}">{html.escape(name)}</th>'
        f'<td style="{_LEFT}">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return table(caption, f"<tbody>{body}</tbody>", kinds)


def _head(headings: Sequence[str], sortable: bool) -> str:
    words = [html.escape(heading) for heading in headings]
    if sortable:
        sign = '<span aria-hidden="true">⇅</span>'
        words = [f'<button type="button" style="{_BUTTON}">{each} {sign}</button>' for each in words]
    cells = "".join(f'<th scope="col" style="{_LEFT}">{each}</th>' for each in words)
    does = f' onclick="{html.escape(" ".join(_SORT.split()))}"' if sortable else ""
    return f"<thead{does}><tr>{cells}</tr></thead>"
