"""Where the datacenters, their mesh gateways and the links between them stand in the topology picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

from .svg import Point, Rect, around

BESIDE = 8.0
"""How far each direction of a pair is from the line between the two: both are seen."""
_GAP, _OVERLAP, _MARGIN = 5.0, 6.0, 16.0
_STEP, _LARGEST = 10, 2000
_NEXT_TO = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
_ON = (0.3, 0.36, 0.24, 0.42, 0.48, 0.18, 0.54, 0.6, 0.66, 0.72, 0.78, 0.84)
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Unit:
    """A datacenter in the picture: its box, and those of its gateways at the edge that faces the others."""

    card: Rect
    gateways: tuple[Rect, ...]

    @property
    def anchor(self) -> Rect:
        """Where its links begin and end."""
        return around(self.gateways) if self.gateways else self.card

    @property
    def whole(self) -> Rect:
        return around((self.card, *self.gateways))

    def moved(self, dx: float, dy: float) -> Unit:
        return Unit(self.card.moved(dx, dy), tuple(rect.moved(dx, dy) for rect in self.gateways))


def arrange(card: tuple[float, float], gateway: tuple[float, float], counts: Mapping[str, int],
            length: float) -> dict[str, Unit]:  # fmt: skip
    """Datacenters on the smallest ellipse on which none lies on another and each link has its length.

    Args:
        card, gateway: width and height of a datacenter's box and of a gateway's.
        counts: datacenter → how many boxes its gateways take; the first one stands at the top (of two: at the left).
        length: how long a link is at least.
    """
    names = list(counts)
    units: dict[str, Unit] = {}
    for size in range(120, _LARGEST, _STEP):
        units = {
            name: _unit(_direction(i, len(names)), size, card, gateway, counts[name])
            for i, name in enumerate(names)
        }
        if _good(list(units.values()), length):
            break
    return units


def _direction(i: int, n: int) -> Point:
    """From the centre to the i-th of n; one below the other reads worse than side by side, so two lie flat."""
    angle = 2 * math.pi * i / n - (math.pi / 2 if n == 2 else 0)
    return math.sin(angle), -math.cos(angle)


def _unit(
    direction: Point, size: float, card: tuple[float, float], gateway: tuple[float, float], count: int
) -> Unit:
    (ux, uy), (width, height) = direction, card
    x, y = 1.2 * size * ux, size * uy
    box = Rect(x - width / 2, y - height / 2, width, height)
    if not count:
        return Unit(box, ())
    tall = gateway[1] * count + 2 * (count - 1)
    if abs(uy) < 0.4:  # at the left or the right: on the side that faces the centre
        at_x, at_y = x - math.copysign(width / 2 + gateway[0] / 2 - _OVERLAP, ux), y
    else:  # at the top or the bottom: on the corner that faces the centre, so that no link runs through the box
        at_x = x - (math.copysign(width / 2, ux) if abs(ux) > 0.1 else 0.0)
        at_y = y - math.copysign(height / 2 + tall / 2 - _OVERLAP, uy)
    left, top = at_x - gateway[0] / 2, at_y - tall / 2
    return Unit(box, tuple(Rect(left, top + (gateway[1] + 2) * i, *gateway) for i in range(count)))


def _good(units: Sequence[Unit], length: float) -> bool:
    if any(a.whole.grown(_MARGIN).overlaps(b.whole) for a, b in combinations(units, 2)):
        return False
    ways = [link(a, b) for a, b in permutations(units, 2)]
    if any(way is None or math.dist(*way) < length for way in ways):
        return False
    boxes = [box for unit in units for box in (unit.card, *unit.gateways)]
    return not any(box.crossed(*way) for way in ways if way for box in boxes)


def link(a: Unit, b: Unit) -> tuple[Point, Point] | None:
    """The line from the gateways of one datacenter to those of another, beside the way back; None: no room for it."""
    (x1, y1), (x2, y2) = a.anchor.centre, b.anchor.centre
    length = math.hypot(x2 - x1, y2 - y1)
    if length == 0:
        return None
    sx, sy = -(y2 - y1) / length * BESIDE, (x2 - x1) / length * BESIDE
    start, end = (x1 + sx, y1 + sy), (x2 + sx, y2 + sy)
    leaves, enters = a.anchor.grown(_GAP).clipped(start, end), b.anchor.grown(_GAP).clipped(start, end)
    if leaves is None or enters is None or leaves[1] >= enters[0]:
        return None
    at = _along(start, end)
    return at(leaves[1]), at(enters[0])


def _along(start: Point, end: Point) -> Callable[[float], Point]:
    return lambda t: (start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t)


def label_places(
    start: Point, end: Point, width: float, height: float, *, beside: bool
) -> list[tuple[Rect, Anchor]]:
    """Places for a label on its link, the best first, and how its text is set there.

    Args:
        beside: next to the line if there is room, on the side that is away from the way back; else on the line,
            nearer to its begin, where it is told from the way back.
    """
    at = _along(start, end)
    length = math.dist(start, end)
    nx, ny = -(end[1] - start[1]) / length, (end[0] - start[0]) / length
    off = abs(nx) * width / 2 + abs(ny) * height / 2 + 3
    close: Anchor = "middle" if abs(nx) < 0.3 else "start" if nx > 0 else "end"
    ways: list[tuple[float, Anchor, tuple[float, ...]]] = [(0.0, "middle", _ON)]
    if beside:
        ways = [(off, close, _NEXT_TO), (0.0, "middle", _NEXT_TO)]
    places = []
    for move, anchor, shares in ways:
        for share in shares:
            x, y = at(share)
            rect = Rect(x + nx * move - width / 2, y + ny * move - height / 2, width, height)
            places.append((rect, anchor))
    return places
