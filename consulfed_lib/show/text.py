"""Blocks of text: YAML, diffs, transcripts; and a page of several objects, one below the other."""

from __future__ import annotations

import difflib
import html
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
