"""What people look at: YAML, diffs, transcripts, the topology picture. Static, readable in print and without colour."""

from __future__ import annotations

import difflib
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_PRE = (
    "border:1px solid #d0d7de;padding:8px;overflow-x:auto;white-space:pre;font-family:monospace;font-size:12px;"
    "line-height:1.4;text-align:left"
)


class Text:
    """A block of text under a title: values, a transcript."""

    def __init__(self, title: str, text: str):
        self.title = title
        self.text = text.rstrip("\n")

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text}"

    def _repr_html_(self) -> str:
        return f'<p><b>{html.escape(self.title)}</b></p><pre style="{_PRE}">{self._body()}</pre>'

    def _body(self) -> str:
        return html.escape(self.text)


class Diff(Text):
    """A unified diff; its signs tell as much as its colours."""

    def _body(self) -> str:
        colours = {"+": "#1a7f37", "-": "#cf222e", "@": "#6e7781"}
        return "\n".join(
            f'<span style="color:{colours.get(line[:1], "inherit")}">{html.escape(line)}</span>'
            for line in self.text.splitlines()
        )


class Page:
    """Several objects, one below the other."""

    def __init__(self, *parts: Any):
        self.parts = [part for part in parts if part is not None]

    def __repr__(self) -> str:
        return "\n\n".join(repr(part) for part in self.parts)

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=100)


def diff(name: str, before: Any, after: Any) -> str:
    """A unified diff of two values as YAML; empty if they are the same."""
    lines = difflib.unified_diff(
        as_yaml(before).splitlines() if before else [],
        as_yaml(after).splitlines() if after else [],
        f"{name} (now)",
        f"{name} (planned)",
        lineterm="",
        n=2,
    )
    return "\n".join(lines)


def display(value: Any) -> None:
    """Show an object now: as a cell's output in a notebook, as text elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display as show
    except ImportError:
        get_ipython = None
    if get_ipython is not None and get_ipython() is not None:
        show(value)
    else:
        print(value)


class Topology:
    """The federation as a picture: datacenters on a circle, a link for each pair, labelled with its verdict.

    Args:
        datacenters: name → facts shown in its box (the first is the primary), at most three short lines.
        links: (from, to) → `ok`, `error` or `skipped`. Both directions of a pair make one line; each end's
            arrow has its own verdict.
    """

    WORDS: Mapping[str, tuple[str, str, str]] = {
        "ok": ("#1a7f37", "", "ok"),
        "error": ("#cf222e", "7 5", "BROKEN"),
        "skipped": ("#6e7781", "2 4", "not proven"),
    }

    def __init__(self, datacenters: Mapping[str, Sequence[str]], links: Mapping[tuple[str, str], str]):
        self.datacenters = dict(datacenters)
        self.links = dict(links)

    def __repr__(self) -> str:
        boxes = [f"{name}: {', '.join(facts)}" for name, facts in self.datacenters.items()]
        lines = [f"{a} → {b}: {self.WORDS[v][2]}" for (a, b), v in self.links.items()]
        return "\n".join(["Topology", *boxes, *lines])

    def _places(self) -> dict[str, tuple[float, float]]:
        n = len(self.datacenters)
        if n <= 2:
            return {name: (150.0 + 420 * i, 90.0) for i, name in enumerate(self.datacenters)}
        radius = max(190.0, 62.0 * n)
        return {
            name: (
                radius * 1.25 + 130 + radius * 1.25 * math.sin(2 * math.pi * i / n),
                radius * 0.8 + 70 - radius * 0.8 * math.cos(2 * math.pi * i / n),
            )
            for i, name in enumerate(self.datacenters)
        }

    def _repr_html_(self) -> str:
        places = self._places()
        width = max(x for x, _ in places.values()) + 150
        height = max(y for _, y in places.values()) + 90
        shapes = [self._link(a, b, verdict, places) for (a, b), verdict in self.links.items()]
        shapes += [
            self._box(name, facts, *places[name], primary=not i)
            for i, (name, facts) in enumerate(self.datacenters.items())
        ]
        label = html.escape(repr(self).replace("\n", "; "))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px;width:100%;background:#fff" '
            f'font-family="sans-serif" font-size="12"><title>{label}</title>{"".join(shapes)}</svg>'
        )

    @staticmethod
    def _box(name: str, facts: Sequence[str], x: float, y: float, *, primary: bool) -> str:
        lines = [
            f'<text x="{x:.0f}" y="{y - 12 + 16 * i:.0f}" text-anchor="middle" fill="#57606a">'
            f"{html.escape(fact)}</text>"
            for i, fact in enumerate(facts[:3])
        ]
        role = "primary" if primary else "secondary"
        return (
            f'<rect x="{x - 110:.0f}" y="{y - 55:.0f}" width="220" height="{50 + 16 * len(facts[:3]):.0f}" rx="8" '
            f'fill="#f6f8fa" stroke="#24292f" stroke-width="{2.5 if primary else 1.2}"/>'
            f'<text x="{x:.0f}" y="{y - 34:.0f}" text-anchor="middle" font-weight="bold" fill="#24292f">'
            f"{html.escape(name)} ({role})</text>{''.join(lines)}"
        )

    def _link(self, a: str, b: str, verdict: str, places: Mapping[str, tuple[float, float]]) -> str:
        """An arrow from a to b, a little beside the line between them so that both directions are seen."""
        colour, dashes, word = self.WORDS[verdict]
        (x1, y1), (x2, y2) = places[a], places[b]
        length = math.hypot(x2 - x1, y2 - y1)
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        sx, sy = -uy * 11, ux * 11
        reach = min(112 / max(abs(ux), 1e-6), 58 / max(abs(uy), 1e-6)) + 12
        x1, y1, x2, y2 = (
            x1 + ux * reach + sx,
            y1 + uy * reach + sy,
            x2 - ux * reach + sx,
            y2 - uy * reach + sy,
        )
        head = f"{x2 - ux * 9 - uy * 5:.1f},{y2 - uy * 9 + ux * 5:.1f} {x2:.1f},{y2:.1f} " + (
            f"{x2 - ux * 9 + uy * 5:.1f},{y2 - uy * 9 - ux * 5:.1f}"
        )
        label_x, label_y = x1 + (x2 - x1) * 0.62 + sx * 0.9, y1 + (y2 - y1) * 0.62 + sy * 0.9 + 4
        return (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"/><polygon points="{head}" fill="{colour}"/>'
            f'<text x="{label_x:.1f}" y="{label_y:.1f}" text-anchor="middle" fill="{colour}" stroke="#fff" '
            f'stroke-width="4" paint-order="stroke">{word}</text>'
        )
