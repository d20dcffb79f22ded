"""The federation as a picture: its datacenters, their mesh gateways, and a link for each direction of each pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

from ..palette import FAINT, INK, PANEL, PAPER, STYLES, Severity
from .layout import Anchor, Unit, arrange, label_places, link
from .svg import Picture, Point, Rect, around, box, line, shortened, text, text_width
from .verdict import Verdict, verdict

_NAME: Sequence[float] = (14.0, 12.0, 11.0, 10.0)
_SMALL, _TINY = 12.0, 11.0
_FEW = 4
"""Up to so many datacenters there is room for whole labels; beyond, a link bears its word, and a list the rest."""
_GATEWAYS = 4
"""At most so many boxes for the gateways of a datacenter; the last one counts the rest."""
_NONE = "no mesh gateway"
_LINES: Mapping[Severity, float] = {"ok": 1.6, "error": 3.0, "warning": 2.4, "skipped": 2.0}
_ORDER: Sequence[Severity] = ("error", "warning", "skipped", "ok")


class _Label(NamedTuple):
    """The words of a link, in rows, and where they stand."""

    place: Rect
    anchor: Anchor
    rows: list[str]

    def moved(self, dx: float, dy: float) -> _Label:
        return self._replace(place=self.place.moved(dx, dy))


class Topology(Picture):
    """Datacenters on a circle, their mesh gateways at their edges, an arrow for each direction with its verdict.

    Args:
        datacenters: name → facts shown in its box (the first is the primary), at most three short lines.
        links: (from, to) → its verdict; what is not in it counts as not looked at.
        gateways: name → the addresses (`host:port`) at which the others dial its mesh gateways; None: not shown.
        verdicts: name → the datacenter's own verdict; None: not shown.
    """

    title = "Topology"

    def __init__(
        self,
        datacenters: Mapping[str, Sequence[str]],
        links: Mapping[tuple[str, str], Verdict | Severity],
        *,
        gateways: Mapping[str, Iterable[str]] | None = None,
        verdicts: Mapping[str, Verdict | Severity] | None = None,
    ):
        self.datacenters = {name: list(facts) for name, facts in datacenters.items()}
        self.links = {pair: verdict(links.get(pair)) for pair in permutations(self.datacenters, 2)}
        self.gateways = {
            name: sorted(gateways.get(name, ())) if gateways is not None else None
            for name in self.datacenters
        }
        self.verdicts = {
            name: verdict(verdicts.get(name)) if verdicts is not None else None for name in self.datacenters
        }

    def __repr__(self) -> str:
        lines = [self.title]
        for name, facts in self.datacenters.items():
            said = [own.words] if (own := self.verdicts[name]) else []
            gateways = self.gateways[name]
            said += facts
            if gateways is not None:
                said.append(f"mesh gateways {', '.join(gateways)}" if gateways else _NONE)
            lines.append(
                f"{name} ({self._role(name)}): {', '.join(said)}" if said else f"{name} ({self._role(name)})"
            )
        lines += [f"{a} → {b}: {way.line}" for (a, b), way in self.links.items()]
        return "\n".join(lines)

    def _role(self, name: str) -> str:
        return "primary" if name == next(iter(self.datacenters)) else "secondary"

    # What stands in the boxes

    @property
    def _few(self) -> bool:
        return len(self.datacenters) <= _FEW

    def _rows(self, name: str) -> list[tuple[str, str, bool]]:
        """What stands under a datacenter's name (words, colour, bold): role and verdict, broken layer, facts."""
        role, own = self._role(name), self.verdicts[name]
        rows = (
            [(f"{role}: {own.mark} {own.style.word}", own.style.colour, True)]
            if own
            else [(role, FAINT, False)]
        )
        if own and own.layer:
            rows.append((own.layer, own.style.colour, True))
        return rows + [(fact, FAINT, False) for fact in self.datacenters[name][:3]]

    def _gateway_lines(self, name: str) -> list[str]:
        gateways = self.gateways[name]
        if gateways is None:
            return []
        if len(gateways) > _GATEWAYS:
            return [*gateways[: _GATEWAYS - 1], f"and {len(gateways) - _GATEWAYS + 1} more"]
        return gateways or [_NONE]

    def _card_size(self) -> tuple[float, float]:
        rows = {name: self._rows(name) for name in self.datacenters}
        needs = [text_width(name, _NAME[0], bold=True) for name in rows]
        needs += [text_width(words, _SMALL, bold) for each in rows.values() for words, _, bold in each]
        tall = max(len(each) for each in rows.values())
        return min(max([120.0, *needs]) + 20, 250.0 if self._few else 200.0), 36.0 + 17 * tall

    def _gateway_size(self) -> tuple[float, float]:
        widest = 200.0 if self._few else 150.0
        needs = [text_width(words, _TINY) for name in self.datacenters for words in self._gateway_lines(name)]
        return min(max([60.0, *needs]) + 12, widest), 19.0

    def _labels(self, way: Verdict) -> list[list[str]]:
        """What a link may bear, the fullest first."""
        whole = [way.words, way.latency] if way.latency else [way.words]
        if self._few:
            return [whole, [way.words], [way.style.word]]
        return [[way.style.word]]

    # The drawing

    def drawing(self) -> tuple[float, float, list[str]]:
        units = self._arranged()
        labels = self._placed(units)
        whole = around(
            [*(unit.whole for unit in units.values()), *(label.place for label in labels.values())]
        )
        dx, dy = 16 - whole.x, 16 - whole.y
        units = {name: unit.moved(dx, dy) for name, unit in units.items()}
        labels = {pair: label.moved(dx, dy) for pair, label in labels.items()}
        shapes = [shape for pair, ends in self._ways(units).items() for shape in self._arrow(pair, ends)]
        shapes += [shape for name, unit in units.items() for shape in self._unit(name, unit)]
        shapes += [shape for pair, label in labels.items() for shape in self._label(pair, label)]
        width, top = max(whole.width + 32, 460.0), whole.height + 32
        listed = self._listed(labels, width)
        shapes += [text(16, top + 14 + 17 * i, row, _SMALL, FAINT) for i, row in enumerate(listed)]
        top += 17 * len(listed) + (12 if listed else 0)
        legend, height = self._legend(top, width)
        return width, top + height, [*shapes, *legend]

    def _arranged(self) -> dict[str, Unit]:
        counts = {name: len(self._gateway_lines(name)) for name in self.datacenters}
        widths = [text_width(row, _TINY) for way in self.links.values() for row in self._labels(way)[0]]
        length = min(max([60.0, *widths]) + 60, 330.0) if self._few else 130.0
        return arrange(self._card_size(), self._gateway_size(), counts, length)

    def _ways(self, units: Mapping[str, Unit]) -> dict[tuple[str, str], tuple[Point, Point]]:
        """Where each link runs; what is broken comes last, to be drawn above what is well."""
        pairs = sorted(self.links, key=lambda pair: -_ORDER.index(self.links[pair].severity))
        return {(a, b): ends for a, b in pairs if (ends := link(units[a], units[b])) is not None}

    def _placed(self, units: Mapping[str, Unit]) -> dict[tuple[str, str], _Label]:
        """A place for each label, what is broken first; if there is one, where no other link runs through it."""
        ways = self._ways(units)
        taken = [rect.grown(2) for unit in units.values() for rect in (unit.card, *unit.gateways)]
        taken += [Rect(end[0] - 7, end[1] - 7, 14, 14) for _, end in ways.values()]
        placed: dict[tuple[str, str], _Label] = {}
        for pair, ends in reversed(ways.items()):
            others = [other for name, other in ways.items() if name != pair]
            for rows in self._labels(self.links[pair]):
                size = max(text_width(row, _TINY, bold=True) for row in rows) + 6, 14.0 * len(rows)
                free = [
                    _Label(place, anchor, rows)
                    for place, anchor in label_places(*ends, *size, beside=self._few)
                    if not any(place.overlaps(other) for other in taken)
                ]
                clear = (each for each in free if not any(each.place.crossed(*other) for other in others))
                if free:
                    placed[pair] = next(clear, free[0])
                    taken.append(placed[pair].place.grown(1))
                    break
        return placed

    def _arrow(self, pair: tuple[str, str], ends: tuple[Point, Point]) -> list[str]:
        way = self.links[pair]
        (x1, y1), (x2, y2) = ends
        length = math.dist(*ends)
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        wings = [(x2 - ux * 10 - uy * 5 * s, y2 - uy * 10 + ux * 5 * s) for s in (1, -1)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (wings[0], (x2, y2), wings[1]))
        neck = x2 - ux * 8, y2 - uy * 8
        return [
            line((x1, y1), neck, way.style.colour, _LINES[way.severity], way.style.dashes, "link"),
            f"<polygon points='{points}' fill='{way.style.colour}'/>",
        ]

    def _label(self, pair: tuple[str, str], label: _Label) -> list[str]:
        place, way = label.place, self.links[pair]
        x = {"start": place.x + 3, "middle": place.centre[0], "end": place.right - 3}[label.anchor]
        return [box(place, PAPER, kind="label")] + [
            text(x, place.y + 11 + 14 * i, row, _TINY, FAINT if i else way.style.colour, anchor=label.anchor,
                 bold=not i and way.severity != "ok", full=f"{pair[0]} → {pair[1]}: {way.line}")
            for i, row in enumerate(label.rows)
        ]  # fmt: skip

    def _unit(self, name: str, unit: Unit) -> list[str]:
        card = unit.card
        room, x = card.width - 16, card.centre[0]
        size = next((s for s in _NAME if text_width(name, s, bold=True) <= room), _NAME[-1])
        shapes = [
            box(
                card,
                PANEL,
                INK,
                line=2.5 if self._role(name) == "primary" else 1.2,
                radius=8,
                kind="datacenter",
            )
        ]
        shapes.append(text(x, card.y + 22, shortened(name, room, size, True), size, anchor="middle", bold=True,
                           full=name))  # fmt: skip
        for i, (words, colour, bold) in enumerate(self._rows(name)):
            short = shortened(words, room, _SMALL, bold)
            shapes.append(
                text(x, card.y + 40 + 17 * i, short, _SMALL, colour, anchor="middle", bold=bold, full=words)
            )
        for rect, words in zip(unit.gateways, self._gateway_lines(name), strict=True):
            missing = words == _NONE
            colour = STYLES["error"].colour if missing else INK
            shapes.append(box(rect, PAPER, colour, dashes="3 2" if missing else "", radius=3, kind="gateway"))
            short = shortened(words, rect.width - 8, _TINY)
            shapes.append(
                text(rect.centre[0], rect.y + 13.5, short, _TINY, colour, anchor="middle", full=words)
            )
        return shapes

    def _listed(self, labels: Mapping[tuple[str, str], _Label], width: float) -> list[str]:
        """Which links are not well, for those whose label does not say all of it, in lines as long as the picture."""
        groups: dict[str, list[str]] = {}
        for (a, b), way in self.links.items():
            label = labels.get((a, b))
            if way.severity != "ok" and (label is None or way.words not in label.rows):
                groups.setdefault(way.words, []).append(f"{a} → {b}")
        lines = []
        for words, pairs in groups.items():
            current = f"{words}:"
            for i, pair in enumerate(pairs):
                more = f" {pair}{',' if i + 1 < len(pairs) else ''}"
                if text_width(current + more, _SMALL) > width - 32:
                    lines.append(current)
                    current = "   "
                current += more
            lines.append(current)
        return lines

    def _legend(self, top: float, width: float) -> tuple[list[str], float]:
        """What the lines and boxes mean, those that are in the picture; the shapes and their height."""
        shown = {way.severity for way in self.links.values()}
        rows = [(STYLES[s], _LINES[s]) for s in reversed(_ORDER) if s in shown]
        shapes, x, y = [], 16.0, top + 12
        for style, stroke in rows:
            words = f"{style.word}: the first broken layer" if style is STYLES["error"] else style.word
            if x + 44 + text_width(words, _TINY) > width:
                x, y = 16.0, y + 18
            shapes.append(line((x, y), (x + 34, y), style.colour, stroke, style.dashes, "legend"))
            shapes.append(text(x + 40, y + 4, words, _TINY, FAINT))
            x += 58 + text_width(words, _TINY)
        if any(gateways is not None for gateways in self.gateways.values()):
            words = "mesh gateway, with the address that others dial"
            if x + 44 + text_width(words, _TINY) > width:
                x, y = 16.0, y + 18
            shapes.append(box(Rect(x, y - 7, 30, 14), PAPER, INK, radius=3, kind="legend"))
            shapes.append(text(x + 38, y + 4, words, _TINY, FAINT))
        return shapes, y - top + 16
