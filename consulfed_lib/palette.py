"""Signs, words and colours of verdicts: none of them is needed to understand the others.

What has a meaning brings its own ground with it, because a theme's may be dark; what has none takes the theme's colours
(JupyterLab's variables, with a colour for where there are none: the classic export, a mail, a browser by itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Severity = Literal["ok", "warning", "error", "skipped"]
MARKS: dict[str, str] = {
    "ok": "✔", "warning": "!", "error": "✘", "skipped": "–",
    "unchanged": "=", "created": "+", "changed": "~", "deleted": "−",
    "would create": "+", "would change": "~", "would delete": "−", "would restart": "↻", "waits": "…",
}  # fmt: skip
"""A sign beside each word, because colour alone is lost in print and for many readers."""


class Style(NamedTuple):
    """How a severity is drawn: text and line, the ground behind the text, an SVG dash pattern, a CSS border, a word."""

    colour: str
    ground: str
    dashes: str
    border: str
    word: str


STYLES: Mapping[Severity, Style] = {
    "ok": Style("#176f30", "#eaf6ec", "", "1px solid", "ok"),
    "error": Style("#b3151f", "#fdeced", "8 4", "3px solid", "BROKEN"),
    "warning": Style("#7a5200", "#fff6dd", "10 3 2 3", "2px dashed", "warning"),
    "skipped": Style("#57606a", "#f1f2f4", "2 4", "2px dotted", "not proven"),
}
"""Each colour has a contrast of 5 : 1 or more with its ground and with white."""

INK, FAINT, PAPER, PANEL = "#1f2328", "#57606a", "#ffffff", "#f6f8fa"
"""Text, text beside it, the ground of a picture, the ground of a box."""

EDGE = "var(--jp-border-color1,#8c959f)"
"""The frame of a block of text, in the theme's colour."""

ADDED, REMOVED = "rgba(46,160,67,.2)", "rgba(248,81,73,.2)"
"""Grounds of lines of a diff, under text of the theme's own colour: clear enough for it in a light and a dark theme."""

LITERAL = "var(--jp-mirror-editor-keyword-color,green)"
"""What JupyterLab's own editor draws numbers and truth values in, in each theme."""


def badge(severity: Severity, words: str) -> str:
    """A verdict within a line of text: its words (HTML) in its colour, on its ground."""
    style = STYLES[severity]
    look = f"color:{style.colour};background:{style.ground};white-space:nowrap"
    return f'<span class="consulfed-{severity}" style="{look}">{words}</span>'
