"""Pictures: how wide text is without a browser, rectangles, places for labels, and the frame around a drawing."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from ..palette import INK, PAPER

FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
_NARROW, _WIDE = frozenset("iljtfrI.,:;|!'()[]/- "), frozenset("mwMW@%→✔✘█—…")
_SOURCE_SAFE = " =/:;,.()'+-_~!*"
"""What stays as it is in the data: URL of a picture, so that whoever looks for a secret in an output sees the text."""


Point = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    """A rectangle; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def centre(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2

    def grown(self, by: float) -> Rect:
        return Rect(self.x - by, self.y - by, self.width + 2 * by, self.height + 2 * by)

    def moved(self, dx: float, dy: float) -> Rect:
        return Rect(self.x + dx, self.y + dy, self.width, self.height)

    def overlaps(self, other: Rect) -> bool:
        return (
            self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom
        )

    def clipped(self, start: Point, end: Point) -> tuple[float, float] | None:
        """Where the line between two points enters and leaves it, as shares of the line's length (Liang and Barsky)."""
        (x1, y1), (x2, y2) = start, end
        low, high = 0.0, 1.0
        for p, q in (
            (x1 - x2, x1 - self.x),
            (x2 - x1, self.right - x1),
            (y1 - y2, y1 - self.y),
            (y2 - y1, self.bottom - y1),
        ):
            if p == 0 and q <= 0:
                return None
            if p < 0:
                low = max(low, q / p)
            elif p > 0:
                high = min(high, q / p)
        return (low, high) if low < high else None

    def crossed(self, start: Point, end: Point) -> bool:
        return self.clipped(start, end) is not None


def around(rects: Iterable[Rect]) -> Rect:
    """The smallest rectangle that holds them all."""
    rects = list(rects)
    x, y = min(r.x for r in rects), min(r.y for r in rects)
    return Rect(x, y, max(r.right for r in rects) - x, max(r.bottom for r in rects) - y)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """How wide a line of text is at most, in the units of its size: as in DejaVu Sans, the widest of the fonts."""
    ems = sum(0.42 if c in _NARROW else 0.98 if c in _WIDE else 0.7 if c.isupper() else 0.64 for c in text)
    return ems * size * (1.13 if bold else 1.0)


def shortened(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text, or as much of its begin and end as there is room for: both ends of an address say where it is.

    >>> shortened("dc1-gateway.example.com:443", 100, 10)
    'dc1-gat…com:443'
    """
    keep = len(text)
    short = text
    while text_width(short, size, bold) > room and keep > 2:
        keep -= 1
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
    return short


def text(x: float, y: float, words: str, size: float, colour: str = INK, *, anchor: str = "start",
         bold: bool = False, full: str = "") -> str:  # fmt: skip
    """A line of text; y is its base line. `full`: what is said when one points at it."""
    title = f"<title>{html.escape(full)}</title>" if full and full != words else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' fill='{colour}' text-anchor='{anchor}'"
        f"{' font-weight=' + chr(39) + 'bold' + chr(39) if bold else ''}>{html.escape(words)}{title}</text>"
    )


def box(rect: Rect, fill: str, stroke: str = "none", *, line: float = 1, dashes: str = "", radius: float = 0,
        kind: str = "") -> str:  # fmt: skip
    return (
        f"<rect x='{rect.x:.1f}' y='{rect.y:.1f}' width='{rect.width:.1f}' height='{rect.height:.1f}'"
        f" rx='{radius:g}' fill='{fill}' stroke='{stroke}' stroke-width='{line:g}'"
        f" stroke-dasharray='{dashes}'{f' class={chr(39)}{kind}{chr(39)}' if kind else ''}/>"
    )


def line(start: Point, end: Point, colour: str, width: float = 1,
         dashes: str = "", kind: str = "") -> str:  # fmt: skip
    return (
        f"<line x1='{start[0]:.1f}' y1='{start[1]:.1f}' x2='{end[0]:.1f}' y2='{end[1]:.1f}' stroke='{colour}'"
        f" stroke-width='{width:g}' stroke-dasharray='{dashes}'"
        f"{f' class={chr(39)}{kind}{chr(39)}' if kind else ''}/>"
    )


class Picture(ABC):
    """A drawing that says itself in words: as `repr` in a log, to a screen reader, and in a fold below the drawing.

    In a notebook it is an image whose source is the drawing itself. JupyterLab takes `<svg>` out of the outputs of a
    notebook that is not trusted, and one that papermill made is not, when it is opened elsewhere; an image stays.
    """

    title = ""

    @abstractmethod
    def drawing(self) -> tuple[float, float, list[str]]:
        """Width, height, and what is drawn, in this order."""

    def svg(self) -> str:
        """The drawing by itself."""
        return self._drawn()[1]

    def _drawn(self) -> tuple[float, str]:
        width, height, shapes = self.drawing()
        label = html.escape(repr(self).replace("\n", "; "))
        return width, (
            f"<svg xmlns='http://www.w3.org/2000/svg' role='img' aria-label='{label}' width='{width:.0f}'"
            f" height='{height:.0f}' viewBox='0 0 {width:.0f} {height:.0f}' font-family=\"{FONT}\">"
            f"<title>{label}</title>{box(Rect(0, 0, width, height), PAPER)}{''.join(shapes)}</svg>"
        )

    def _repr_html_(self) -> str:
        width, drawn = self._drawn()
        said = html.escape(repr(self))
        source = "data:image/svg+xml;charset=utf-8," + quote(drawn, safe=_SOURCE_SAFE)
        return (
            f'<img class="consulfed-picture" role="img" alt="{said}" src="{source}"'
            f' style="width:100%;max-width:{width:.0f}px;height:auto;background-color:{PAPER}"/>'
            f"<details><summary>{html.escape(self.title)} in words</summary>"
            f'<pre style="white-space:pre;overflow-x:auto">{said}</pre></details>'
        )
