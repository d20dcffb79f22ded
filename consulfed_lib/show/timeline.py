"""When the credentials of a federation expire, on one axis that begins today."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..palette import FAINT, INK, MARKS, STYLES, Severity, Style
from .svg import Picture, Rect, box, line, shortened, text, text_width

_BAR = 32
_SIZE, _ROW = 12.0, 22.0
_AXIS = 440.0
_TICKS = ((0, "today"), (1, "1 day"), (7, "1 week"), (30, "30 days"), (90, "90 days"), (365, "1 year"),
          (2 * 365, "2 years"), (5 * 365, "5 years"), (10 * 365, "10 years"), (30 * 365, "30 years"))  # fmt: skip


@dataclass(frozen=True)
class Expiry:
    """One credential that expires.

    Attributes:
        datacenter: whose it is.
        credential: what it is, for example `server certificate (served)`; never its value.
        date: when it expires, with a time zone; None: it could not be read.
    """

    datacenter: str
    credential: str
    date: datetime | None


@dataclass(frozen=True)
class _Row:
    """A credential with the datacenters that share it, and what is left of it."""

    datacenters: tuple[str, ...]
    credential: str
    date: datetime | None
    days: float | None
    severity: Severity

    @property
    def name(self) -> str:
        return f"{', '.join(self.datacenters)}: {self.credential}"

    @property
    def left(self) -> str:
        """Whole days, rounded down: what has 23 hours left has no day left."""
        if self.days is None:
            return "not read"
        days = math.floor(abs(self.days))
        count = "less than a day" if not days else "1 day" if days == 1 else f"{days} days"
        return f"expired {count} ago" if self.days <= 0 else count

    @property
    def day(self) -> str:
        return f"{self.date.astimezone(UTC):%Y-%m-%d}" if self.date else "–"


class Timeline(Picture):
    """Expiries on an axis from today, the next first. The axis is not linear: near days have more room than far years.

    One credential that several datacenters have, with the same date to the second, is one line.

    Args:
        expiries: in any order.
        warning, error: how much has to be left; less is a warning, or an error. None: no such threshold. What has
            expired is always an error, and what could not be read is never well.
        today: now, if it is not to be the clock's.
    """

    title = "Expiries"

    def __init__(
        self,
        expiries: Iterable[Expiry],
        *,
        warning: timedelta | None = None,
        error: timedelta | None = None,
        today: datetime | None = None,
    ):
        self.today = today or datetime.now(UTC)
        limits: tuple[tuple[Severity, timedelta | None], ...] = (("error", error), ("warning", warning))
        self.thresholds = [
            (severity, limit / timedelta(days=1)) for severity, limit in limits if limit is not None
        ]
        groups: dict[tuple[str, datetime | None], list[str]] = {}
        for each in expiries:
            groups.setdefault((each.credential, each.date), []).append(each.datacenter)
        rows = [self._row(tuple(dict.fromkeys(names)), *key) for key, names in groups.items()]
        self.rows = sorted(rows, key=lambda r: (r.days is None, r.days or 0.0, r.credential, r.datacenters))

    def _row(self, datacenters: tuple[str, ...], credential: str, date: datetime | None) -> _Row:
        if date is None:
            return _Row(datacenters, credential, None, None, "skipped")
        days = (date - self.today) / timedelta(days=1)
        worst: Severity = "error" if days <= 0 else "ok"
        for severity, limit in self.thresholds:
            if worst == "ok" and days < limit:
                worst = severity
        return _Row(datacenters, credential, date, days, worst)

    def _limits(self) -> str:
        """What the thresholds are, in words."""
        return "; ".join(f"{_word(s)} below {limit:g} days" for s, limit in self.thresholds)

    def _share(self, days: float) -> float:
        """Where a day lies between today (0) and the end of the axis (1)."""
        return math.log1p(max(days, 0.0) / 7) / math.log1p(self._end() / 7)

    def _end(self) -> float:
        """Days up to the end of the axis: the first tick behind everything that is shown."""
        far = max([30.0, *(r.days for r in self.rows if r.days), *(limit for _, limit in self.thresholds)])
        return next((float(days) for days, _ in _TICKS if days >= far), far)

    def __repr__(self) -> str:
        head = f"{self.title}, from {self.today.astimezone(UTC):%Y-%m-%d} (UTC)"
        if limits := self._limits():
            head += f"; {limits}"
        if not self.rows:
            return f"{head}: nothing was read"
        cells = [self._cells(row) for row in self.rows]
        widths = [max(len(cell[i]) for cell in cells) for i in range(6)]
        return "\n".join(
            [
                head,
                *(
                    "  ".join(c.ljust(w) for c, w in zip(cell, widths, strict=True)).rstrip()
                    for cell in cells
                ),
            ]
        )

    def _cells(self, row: _Row) -> list[str]:
        names, verdict = ", ".join(row.datacenters), f"{MARKS[row.severity]} {_word(row.severity)}"
        return [names, row.credential, row.day, row.left, self._bar(row), verdict]

    def _bar(self, row: _Row) -> str:
        full = 0 if row.days is None else round(self._share(row.days) * _BAR)
        return ("?" * _BAR) if row.days is None else "#" * full + "." * (_BAR - full)

    # The drawing

    def drawing(self) -> tuple[float, float, list[str]]:
        names = min(max([120.0, *(text_width(r.name, _SIZE) for r in self.rows)]), 330.0)
        lefts = max([150.0, *(text_width(_said(r), _SIZE, bold=True) for r in self.rows)])
        x0, top = 16 + names + 12, 16 + 16.0 * len(self.thresholds) + 8
        bottom = top + _ROW * max(len(self.rows), 1) + 4
        shapes = self._areas(x0, top, bottom) + self._axis(x0, top, bottom)
        for i, row in enumerate(self.rows):
            shapes += self._line(row, x0, top + _ROW * i + _ROW / 2 + 2, names)
        if not self.rows:
            shapes.append(text(x0 + 8, top + 18, "nothing was read", _SIZE, FAINT))
        note = (
            f"days from {self.today.astimezone(UTC):%Y-%m-%d} (UTC); near days have more room than far ones"
        )
        shapes.append(text(x0, bottom + 34, note, 11, FAINT))
        return x0 + _AXIS + 14 + lefts + 16, bottom + 46, shapes

    def _areas(self, x0: float, top: float, bottom: float) -> list[str]:
        """What lies under each threshold: hatched, the denser the worse, with its words above it."""
        shapes = []
        start = 0.0
        for i, (severity, limit) in enumerate(self.thresholds):
            style, end = STYLES[severity], self._share(limit)
            left, right = x0 + start * _AXIS, x0 + max(end, start) * _AXIS
            pattern, gap = f"consulfed-{severity}", 5 if severity == "error" else 10
            shapes.append(
                f"<pattern id='{pattern}' width='{gap}' height='{gap}' patternUnits='userSpaceOnUse'"
                f" patternTransform='rotate(45)'><rect width='{gap}' height='{gap}' fill='{style.ground}'/>"
                f"<line x1='0' y1='0' x2='0' y2='{gap}' stroke='{style.colour}' stroke-opacity='0.35'"
                " stroke-width='1'/></pattern>"
            )
            shapes.append(
                box(Rect(left, top, right - left, bottom - top), f"url(#{pattern})", kind="threshold")
            )
            y = 20.0 + 16 * (len(self.thresholds) - 1 - i)  # the nearer one below: no line runs through words
            edge = x0 + end * _AXIS
            shapes.append(line((edge, y - 9), (edge, bottom), style.colour, 1.2, style.dashes))
            words = f"{_word(severity)} below {limit:g} days"
            fits = edge - 6 - text_width(words, 11, bold=True) > 4
            at, anchor = (edge - 6, "end") if fits else (edge + 6, "start")
            shapes.append(text(at, y, words, 11, style.colour, anchor=anchor, bold=True))
            start = max(end, start)
        return shapes

    def _axis(self, x0: float, top: float, bottom: float) -> list[str]:
        shapes = [
            line((x0, bottom), (x0 + _AXIS, bottom), INK, 1.2),
            line((x0, top - 4), (x0, bottom), INK, 1.2),
        ]
        free = -math.inf
        for days, words in _TICKS:
            if days > self._end():
                break
            x, half = x0 + self._share(days) * _AXIS, text_width(words, 11) / 2
            if x - half < free:
                continue
            shapes += [
                line((x, bottom), (x, bottom + 4), INK),
                text(x, bottom + 17, words, 11, FAINT, anchor="middle"),
            ]
            free = x + half + 4
        return shapes

    def _line(self, row: _Row, x0: float, y: float, room: float) -> list[str]:
        style = STYLES[row.severity]
        x = x0 if row.days is None else x0 + self._share(row.days) * _AXIS
        name = shortened(row.name, room, _SIZE)
        shapes = [
            text(x0 - 12, y + 4, name, _SIZE, anchor="end", full=row.name),
            text(x0 + _AXIS + 14, y + 4, _said(row), _SIZE, style.colour, bold=row.severity != "ok"),
        ]
        if row.days is not None:
            shapes += [
                line((x0, y), (x, y), style.colour, 2, style.dashes, "expiry"),
                _marker(row, x, y, style),
            ]
        return shapes


def _marker(row: _Row, x: float, y: float, style: Style) -> str:
    """A circle that is well, a triangle that warns, a cross that is broken."""
    if row.severity == "error":
        return (
            f"<path d='M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10' stroke='{style.colour}' stroke-width='3'"
            " class='marker'/>"
        )
    if row.severity == "warning":
        return f"<path d='M{x:.1f} {y - 7:.1f}l7 12h-14z' fill='{style.colour}' class='marker'/>"
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{style.colour}' class='marker'/>"


def _said(row: _Row) -> str:
    return f"{MARKS[row.severity]} {row.left}, {row.day}" if row.date else f"{MARKS[row.severity]} {row.left}"


def _word(severity: Severity) -> str:
    """Of a credential: it is not broken before it has expired."""
    return "not proven" if severity == "skipped" else severity
