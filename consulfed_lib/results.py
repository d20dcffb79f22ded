"""What a step found and did: objects with a table for a person and data for a machine.

Two kinds, never mixed: a check reads and ends in a `Finding`; an action changes and ends in a `Change`.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

Severity = Literal["ok", "warning", "error", "skipped"]
MARKS: dict[str, str] = {
    "ok": "✔", "warning": "!", "error": "✘", "skipped": "–",
    "unchanged": "=", "created": "+", "changed": "~", "deleted": "−",
    "would create": "+", "would change": "~", "would delete": "−", "would restart": "↻", "waits": "…",
}  # fmt: skip
"""A sign beside each word, because colour alone is lost in print and for many readers."""

_COLOURS = {"ok": "#1a7f37", "warning": "#9a6700", "error": "#cf222e", "skipped": "#6e7781"}


def now() -> str:
    """This moment in UTC, as records write it: `2026-11-28T21:04:05.678Z`."""
    return f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        id: the check's id, stable for as long as the check exists.
        subject: the cluster, datacenter or ordered pair that it looked at.
        severity: `ok`, `warning`, `error`, or `skipped` (not looked at: never counts as proven).
        found: what was seen, with the value expected where it differs; never a secret.
        hint: what to do about it; empty when all is well.
        at: when its check began to look, in UTC (ISO 8601).
        seconds: how long its check looked.
    """

    id: str
    subject: str
    severity: Severity
    found: str
    hint: str = ""
    at: str = field(default="", compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Change:
    """What one action did, or would do in a dry run.

    Attributes:
        id: the action's id.
        subject: the cluster that it writes to.
        outcome: `unchanged`, `created`, `changed`, `deleted`, or `would create` …, or `waits` for another step.
        what: the object, and what about it.
        seconds: how long it took, waiting included.
        undo: how it is taken back.
        at: when it began, in UTC (ISO 8601).
    """

    id: str
    subject: str
    outcome: str
    what: str
    seconds: float = 0.0
    undo: str = ""
    at: str = field(default="", compare=False)

    @property
    def wrote(self) -> bool:
        return self.outcome in {"created", "changed", "deleted"}


class Table:
    """Rows of one dataclass with a title: plain text for the log, HTML for the notebook, JSON for the record.

    Attributes:
        about: what a machine should know beside the rows; people see it elsewhere.
    """

    MIME = "application/vnd.consulfed.table+json"
    columns: Sequence[str] = ()
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
        widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns[:-1])]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip()
            for line in [columns, *cells]
        ]
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        def cell(row: Any, column: str) -> str:
            style = "text-align:left"
            if column in {"severity", "outcome"}:
                style += ";white-space:nowrap"
            if column == "severity":
                style += f";font-weight:600;color:{_COLOURS[row.severity]}"
            return f'<td style="{style}">{html.escape(self._cell(row, column))}</td>'

        columns = self._shown()
        head = "".join(f'<th style="text-align:left">{html.escape(c)}</th>' for c in columns)
        body = "".join(
            f"<tr>{''.join(cell(row, column) for column in columns)}</tr>" for row in self._rows_shown()
        )
        return f"<p><b>{html.escape(self.title)}</b>: {html.escape(self.summary())}</p>" + (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        data = {"title": self.title, "kind": self.kind, "rows": self.data(), **self.about}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), self.MIME: data}


def several(number: int, word: str) -> str:
    """
    >>> several(1, "server"), several(3, "server")
    ('1 server', '3 servers')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _said(finding: Finding) -> tuple[str, ...]:
    """Family of the check, and all that it says."""
    return finding.id.partition("-")[0], finding.subject, finding.severity, finding.found, finding.hint


class Findings(Table):
    """The findings of several checks."""

    kind = "findings"
    columns = ("id", "subject", "severity", "found", "hint")

    def _rows_shown(self) -> list[Finding]:
        """Checks of one family that say the same, one after another, are one row: `values-… (29 checks)`."""
        shown = []
        for (family, *_), group in groupby(self.rows, _said):
            rows = list(group)
            shown += rows if len(rows) < 4 else [replace(rows[0], id=f"{family}-… ({len(rows)} checks)")]
        return shown

    @property
    def errors(self) -> list[Finding]:
        return [row for row in self.rows if row.severity == "error"]

    @property
    def passed(self) -> bool:
        """Nothing wrong; a skipped check is not wrong, but it is not green either (see `proven`)."""
        return not self.errors

    @property
    def proven(self) -> bool:
        """Everything was looked at, and all of it is well (warnings allowed)."""
        return bool(self.rows) and all(row.severity in {"ok", "warning"} for row in self.rows)

    def summary(self) -> str:
        counts = {
            s: sum(row.severity == s for row in self.rows) for s in ("ok", "warning", "error", "skipped")
        }
        return ", ".join(f"{n} {s}" for s, n in counts.items() if n) or "nothing to check"


def count(changes: Iterable[Mapping[str, Any]]) -> str:
    """How many changes of which outcome, in words.

    >>> count([{"outcome": "created"}, {"outcome": "unchanged"}, {"outcome": "unchanged"}])
    '1 created, 2 unchanged'
    """
    counts = Counter(change["outcome"] for change in changes)
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "nothing to do"


class Changes(Table):
    """What the actions of a step did, or would do."""

    kind = "changes"
    columns = ("id", "subject", "outcome", "what", "seconds", "undo")

    @property
    def wrote(self) -> bool:
        return any(row.wrote for row in self.rows)

    @property
    def pending(self) -> bool:
        """Something is still to be done: the rows of a plan that are not `unchanged`."""
        return any(row.outcome != "unchanged" for row in self.rows)

    def summary(self) -> str:
        return count(self.data())


@dataclass
class Result:
    """The end of a notebook: what it is worth as a record.

    Attributes:
        outcome: `planned` (dry run), `unchanged`, `applied` or `verified`; a notebook that failed has no result.
        plan: `{"digest", "document"}` of what would have been, or was, changed; None where nothing ever is.
        approved_plan: digest of the plan under which it was applied; empty: without approval.
        clusters: datacenter → who we were there, and which cluster it was (see `identity`).
        versions: of consulfed and of what it drove, as far as it met them.
        by: user and host.
        parameters: the effective ones; papermill records only those that were passed.
        started, ended: in UTC (ISO 8601).
    """

    notebook: str
    federation: str
    subject: str
    outcome: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    plan: dict[str, Any] | None = None
    approved_plan: str = ""
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    ended: str = ""

    MIME = "application/vnd.consulfed.result+json"

    def data(self) -> dict[str, Any]:
        return asdict(self)

    def __repr__(self) -> str:
        return (
            f"{self.notebook} {self.subject}: {self.outcome}"
            f" ({len(self.checks)} checks; {count(self.changes)}; {self.seconds:.1f} s)"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(k)}</th>'
            f'<td style="text-align:left">{html.escape(str(v))}</td></tr>'
            for k, v in {
                "outcome": self.outcome, "federation": self.federation, "subject": self.subject,
                "checks": len(self.checks), "changes": count(self.changes),
                **self.facts, "seconds": f"{self.seconds:.1f}",
            }.items()
        )  # fmt: skip
        return {
            "text/plain": repr(self),
            "text/html": f"<p><b>{html.escape(self.notebook)}</b></p><table>{rows}</table>",
            self.MIME: self.data(),
        }
