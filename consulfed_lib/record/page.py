"""The page of an executed notebook: one HTML file that loads nothing from anywhere, to be read and printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from typing import Any

from .. import iris

_PRINT = """<style>
@page { margin: 15mm }
@media print {
  body, .jp-Notebook { overflow: visible !important; height: auto !important; background: white }
  pre, .jp-OutputArea-output { white-space: pre-wrap; overflow-wrap: anywhere; max-height: none !important }
  td, th { white-space: normal; overflow-wrap: break-word; max-height: none !important }
  .jp-Cell { break-inside: auto }
  h1, h2, h3, tr { break-inside: avoid; break-after: auto }
}
</style>
"""

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:\">\n"
)
"""By this the browser itself refuses to load or to run anything."""

_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9a-f]{1,6})\s?|(.))", re.IGNORECASE | re.DOTALL)
_STYLE_LOADS = re.compile(
    r"(?:url|src)\(\s*(?:\"([^\"]*)|'([^']*)|([^)]*))|@import\s*[\"']([^\"']*)|image-set\(\s*[\"']([^\"']*)",
    re.IGNORECASE,
)
_LOADING = {"src", "poster", "background", "data", "manifest", "lowsrc", "dynsrc", "classid", "codebase"}
"""Attributes whose value is loaded; `href` is, too, but of a link that a reader may follow."""


def html(notebook: Mapping[str, Any], title: str) -> str:
    """The page of an executed notebook (as JSON gives it)."""
    iris.leave_out()
    import nbformat

    node = nbformat.v4.reads(json.dumps(notebook))  # as a file is read: lists of lines become texts
    body, _ = _exporter().from_notebook_node(node, {"metadata": {"name": title}})
    body = _SCRIPT.sub("", body)  # for formulas, diagrams and widgets; a record has none
    return body.replace("</head>", f"{_PRINT}</head>", 1).replace("<head>", f"<head>{_POLICY}", 1)


def ready() -> None:
    """Load what takes a second to load, before the first page is wanted."""
    html({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, "ready")


def outside(text: str) -> list[str]:
    """What a page would load from outside itself, a few words each; empty: nothing.

    A script counts, whatever it does: what it loads cannot be told. A link that a reader may follow does not.
    """
    return list(dict.fromkeys(_Loads(text).found))


class _Loads(HTMLParser):
    """Collects what the tags, attributes and styles of a page would load."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._in_style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        if tag == "script":
            self.found.append("a script")
        values = {name.rpartition(":")[2]: value or "" for name, value in attrs}
        if tag == "meta" and values.get("http-equiv", "").strip().lower() == "refresh":
            self.found.append(f"another page (refresh: {values.get('content', '')[:80]})")
        for name, value in values.items():
            self._attribute(tag, name, value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._style(data)

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if tag in {"iframe", "frame", "object", "embed", "applet"} and value:
            self.found.append(f"a page or program within the page ({tag})")
        elif name in _LOADING or (name == "href" and tag not in {"a", "area"}):
            self._reference(value)
        elif name in {"srcset", "imagesrcset"}:
            # A data: URL may hold commas; what follows one without a space is no other image.
            for candidate in re.split(r",\s+", value):
                self._reference(candidate.strip().partition(" ")[0])
        elif name == "style":
            self._style(value)
        elif name.startswith("on") or value.strip().lower().startswith("javascript:"):
            self.found.append(f"a script (in {name} of {tag})")

    def _style(self, text: str) -> None:
        def plain(match: re.Match[str]) -> str:
            return chr(min(int(match[1], 16), 0x10FFFF)) if match[1] else match[2]

        for match in _STYLE_LOADS.finditer(_ESCAPE.sub(plain, _COMMENT.sub(" ", text))):
            self._reference(next((group for group in match.groups() if group), ""))

    def _reference(self, value: str) -> None:
        """Whatever is not in the page itself: another machine's, or a file beside it."""
        place = re.sub(r"[\t\r\n]", "", value).strip()
        if place and not place.lower().startswith(("data:", "#")):
            self.found.append(place[:120])


@cache
def _exporter() -> Any:
    """Made once: its templates are compiled when they are first used."""
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name="lab",
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        jupyter_widgets_base_url="",
        html_manager_semver_range="",
        widget_renderer_url="",
        mermaid_js_url="",
        mermaid_layout_elk_js_url="",
        embed_images=True,
        exclude_anchor_links=True,
    )
