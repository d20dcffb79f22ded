"""Blocks of text: YAML, diffs, transcripts; and a page of several objects, one below the other."""

from __future__ import annotations

import difflib
import html
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import yaml

from ..palette import ADDED, EDGE, LITERAL, REMOVED
from ..redact import scrub

_PRE = (
    f"border:1px solid {EDGE};padding:8px;overflow-x:auto;white-space:pre;font-family:monospace;font-size:12px;"
    "line-height:1.4;text-align:left"
)


class Text:
    """A block of text under a title: a transcript, directions."""

    kind = "text"

    def __init__(self, title: str, text: str):
        self.title = title
        self.text = text.rstrip("\n")

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text}"

    def _repr_html_(self) -> str:
        title = html.escape(self.title)
        # Whoever has no mouse must be able to reach what is wider than the page: the arrow keys then move it.
        return (
            f'<p><b>{title}</b></p><pre class="consulfed-{self.kind}" role="region" aria-label="{title}"'
            f' tabindex="0" style="{_PRE}">{self._body()}</pre>'
        )

    def _body(self) -> str:
        return html.escape(self.text)


class Yaml(Text):
    """YAML with its keys set off, and its numbers and truth values in a colour of the theme's editor."""

    kind = "yaml"

    def _body(self) -> str:
        """Marks in the middle of a secret would hide it from the guard; it is looked for before they are set."""
        from pygments.lexers.data import YamlLexer

        tokens = YamlLexer(stripnl=False, ensurenl=False).get_tokens(scrub(self.text))
        pieces = []
        for kind, group in groupby(tokens, lambda token: _kind(str(token[0]), token[1])):
            words = "".join(text for _, text in group)
            pieces.append(_MARKS[kind](words))
        return "".join(pieces)


def _kind(token: str, text: str) -> str:
    """Which part of YAML a token belongs to; the words of a value are tokens, and so are the blanks between them."""
    if token.startswith("Token.Name.Tag"):
        return "key"
    if token.startswith("Token.Literal.Scalar") or (text.isspace() and "\n" not in text):
        return "value"
    return ""


def _value(words: str) -> str:
    """A value as a whole: `on` is a truth value, and in `by: root on vm` it is none."""
    value, shown = words.strip(), html.escape(words)
    if not value or yaml.SafeLoader("").resolve(yaml.ScalarNode, value, (True, False)) == _STRING:
        return shown
    return f'<span style="color:{LITERAL}">{shown}</span>'


_STRING = "tag:yaml.org,2002:str"
_MARKS: Mapping[str, Callable[[str], str]] = {
    "key": lambda words: f"<b>{html.escape(words)}</b>",
    "value": _value,
    "": html.escape,
}


class Diff(Text):
    """A unified diff; its signs tell as much as its colours."""

    kind = "diff"

    def _body(self) -> str:
        return "\n".join(_marked(line) for line in scrub(self.text).splitlines())


def _marked(line: str) -> str:
    """A line of a diff: text in the theme's colour on a ground that any theme shines through."""
    words = html.escape(line)
    if line.startswith(("+++", "---", "@@")):
        return f"<b>{words}</b>"
    if line.startswith("+"):
        return f'<ins style="text-decoration:none;background-color:{ADDED}">{words}</ins>'
    if line.startswith("-"):
        return f'<del style="text-decoration:none;background-color:{REMOVED}">{words}</del>'
    return words


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
