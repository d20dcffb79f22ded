"""Who reaches whom: a table of all ordered pairs of datacenters."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import permutations

from ..palette import PAPER, Severity
from .verdict import Verdict, verdict

_CORNER = "from \\ to"
_UNBROKEN = "\u00a0"
"""The space behind a sign: a sign at the end of a line would belong to no word."""
_FEW = 4


class Matrix:
    """Rows are where one goes from, columns where one goes to; on the diagonal is the datacenter's own verdict.

    Args:
        datacenters: their names, the primary first.
        links: (from, to) → its verdict; what is not in it counts as not looked at.
        verdicts: name → the datacenter's own verdict.
    """

    title = "Matrix"

    def __init__(
        self,
        datacenters: Sequence[str],
        links: Mapping[tuple[str, str], Verdict | Severity],
        verdicts: Mapping[str, Verdict | Severity],
    ):
        self.datacenters = list(datacenters)
        self.cells = {pair: verdict(links.get(pair)) for pair in permutations(self.datacenters, 2)}
        self.cells |= {(name, name): verdict(verdicts.get(name)) for name in self.datacenters}

    @property
    def _fit(self) -> str:
        """So that eight datacenters fit on a printed page, and no word is broken that need not be."""
        fit = (
            "padding:4px 8px;font-size:12px"
            if len(self.datacenters) <= _FEW
            else "padding:2px 4px;font-size:11px"
        )
        return f"{fit};overflow-wrap:break-word"

    def summary(self) -> str:
        """How many ordered pairs have which verdict, the worst first."""
        words: dict[str, str] = {
            "error": "broken",
            "skipped": "not proven",
            "warning": "with a warning",
            "ok": "ok",
        }
        pairs = [way.severity for (a, b), way in self.cells.items() if a != b]
        counts = [f"{pairs.count(s)} {word}" for s, word in words.items() if s in pairs]
        if not pairs:
            return "one datacenter, no directions"
        latency = "; latency as p50 / p99 in ms" if any(cell.latency for cell in self.cells.values()) else ""
        return f"{len(pairs)} directions: {', '.join(counts)}{latency}"

    @staticmethod
    def _rows(cell: Verdict) -> list[str]:
        rows = [f"{cell.mark} {cell.style.word}", cell.layer, cell.short_latency]
        return [row for row in rows if row]

    def __repr__(self) -> str:
        columns = [[_CORNER]] + [[name] for name in self.datacenters]
        lines = [columns]
        for a in self.datacenters:
            cells = [[a]] + [self._rows(self.cells[a, b]) for b in self.datacenters]
            tall = max(len(cell) for cell in cells)
            lines.append([cell + [""] * (tall - len(cell)) for cell in cells])
        widths = [max(len(row) for line in lines for row in line[i]) for i in range(len(columns))]
        text = [
            "  ".join(cell[row].ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
            for row in range(len(line[0]))
        ]
        return "\n".join([f"{self.title}: {self.summary()}", *text])

    def _repr_html_(self) -> str:
        left = f"text-align:left;{self._fit}"

        def heading(scope: str, words: str) -> str:
            return f'<th scope="{scope}" style="{left}">{html.escape(words)}</th>'

        head = "".join(heading("col", words) for words in (_CORNER, *self.datacenters))
        body = "".join(
            f"<tr>{heading('row', a)}{''.join(self._cell(a, b) for b in self.datacenters)}</tr>"
            for a in self.datacenters
        )
        return (
            f"<p><b>{self.title}</b>: {self.summary()}; on the diagonal each datacenter by itself</p>"
            '<table class="consulfed-matrix" style="border-collapse:separate;border-spacing:2px">'
            f'<caption style="{left}">'
            "Row: from; column: to</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _cell(self, a: str, b: str) -> str:
        """Its own colours on its own ground: a theme's may be dark."""
        cell = self.cells[a, b]
        word, *more = self._rows(cell)
        rows = [f"<b>{html.escape(word.replace(' ', _UNBROKEN, 1))}</b>", *(html.escape(row) for row in more)]
        said = html.escape(f"{a} by itself: {cell.line}" if a == b else f"{a} → {b}: {cell.line}")
        style = (
            f"text-align:left;vertical-align:top;{self._fit};color:{cell.style.colour}"
            f";background-color:{PAPER if a == b else cell.style.ground};border:{cell.style.border} {cell.style.colour}"
            f"{';font-style:italic' if a == b else ''}"
        )
        return f'<td title="{said}" style="{style}">{"<br/>".join(rows)}</td>'
