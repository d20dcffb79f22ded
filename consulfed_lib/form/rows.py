"""One line of the form: a widget for a parameter, what the parameter means, and what is wrong with it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import ipywidgets
import yaml

from .fields import Field

_WIDE = "17em"
_AS_ELSEWHERE = "as in the federation"

STYLE = """<style>
.consulfed-form { color: var(--jp-ui-font-color1, #1a1a1a); }
.consulfed-form { --jp-widgets-horizontal-tab-width: 19em; }
.consulfed-form .consulfed-fact { line-height: 1.5; }
.consulfed-form .consulfed-help { line-height: var(--jp-widgets-inline-height, 28px); }
.consulfed-form .jupyter-widget-Collapse-header { color: var(--jp-ui-font-color1, #1a1a1a); }
.consulfed-form .consulfed-mistake { color: var(--jp-error-color1, #b00020); font-weight: 600; line-height: 1.4; }
.consulfed-form .consulfed-well { color: var(--jp-success-color0, #1a7f37); font-weight: 600; }
.consulfed-form pre { color: var(--jp-content-font-color1, #1a1a1a); background: var(--jp-layout-color1, #fff);
  border: 1px solid var(--jp-border-color1, #bbb); padding: 8px; overflow-x: auto; white-space: pre;
  font-size: 12px; line-height: 1.4; }
</style>"""
"""Colours are JupyterLab's own, so that both themes can be read; beside each of them stands a word."""


def note(kind: str, text: str) -> str:
    """A sentence of the form, as HTML; nothing that somebody typed is HTML in it."""
    return f'<div class="consulfed-{kind}">{html.escape(text)}</div>' if text else ""


def block(text: str, label: str) -> str:
    """Text as it stands in a file."""
    return f'<pre tabindex="0" aria-label="{html.escape(label, quote=True)}">{html.escape(text)}</pre>'


def shown(field: Field, value: Any) -> Any:
    """A value as its widget has it; what is no such value at all is shown as it stands, or as the default."""
    if field.kind == "switch":
        return value if isinstance(value, bool) else bool(field.default)
    if value is None:
        return ""
    if field.kind == "texts" and isinstance(value, list):
        return "\n".join(map(str, value))
    if field.kind == "mapping" and isinstance(value, dict):
        return yaml.safe_dump(value, sort_keys=False, default_flow_style=False) if value else ""
    return str(value)


def meant(field: Field, value: Any) -> Any:
    """What somebody says with a widget's value; a mapping and a number are still text."""
    if field.kind == "texts":
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def _widget(field: Field, label: str, value: Any) -> Any:
    common: dict[str, Any] = {
        "description": label,
        "style": {"description_width": _WIDE},
        "layout": {"width": "36em", "max_width": "100%"},
    }
    if field.kind == "switch":
        return ipywidgets.Checkbox(value=shown(field, value), **(common | {"indent": True}))
    if field.kind == "choice":
        words = [(_AS_ELSEWHERE, "")] if field.optional else []
        words += [(each, each) for each in field.choices]
        text = shown(field, value)
        if text not in [each for _, each in words]:
            words.append((f"{text} (unknown)", text))
        return ipywidgets.Dropdown(options=words, value=text, **common)
    if field.kind in ("texts", "mapping"):
        hint = "one in a line" if field.kind == "texts" else "YAML"
        return ipywidgets.Textarea(value=shown(field, value), rows=3, placeholder=hint, **common)
    hint = _AS_ELSEWHERE if field.optional else "needed" if field.default is None else ""
    if field.place == "kubeconfig":
        return ipywidgets.Combobox(value=shown(field, value), options=["sandbox"], **common)
    return ipywidgets.Text(value=shown(field, value), placeholder=hint, **common)


class Row:
    """A parameter with its meaning and what is wrong with it.

    Args:
        label: the widget's description, by which people and tests find it.
        told: called with what was said, each time that somebody changes it.
    """

    def __init__(self, field: Field, label: str, value: Any, told: Callable[[Any], None]):
        self.field = field
        self.widget = _widget(field, label, value)
        self._told = told
        self._wrong = ipywidgets.HTML(layout={"display": "none", "margin": f"0 0 0 {_WIDE}"})
        self._wrong.add_class("consulfed-field-mistakes")
        default = "" if field.default in (None, "", [], {}) else f" Default: {_word(field.default)}."
        help = ipywidgets.HTML(note("help", f"{field.help}.{default}"), layout={"margin": "0 0 0 1em"})
        line = ipywidgets.HBox([self.widget, help], layout={"flex_flow": "row wrap"})
        self.box = ipywidgets.VBox([line, self._wrong])
        self.box.add_class("consulfed-field")
        self.box.add_class(f"consulfed-field-{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}")
        self.widget.observe(self._changed, names="value")

    def _changed(self, change: Any) -> None:
        self._told(meant(self.field, change["new"]))

    def show(self, value: Any) -> None:
        """Show another value than was typed; nobody is told of it."""
        self.widget.unobserve(self._changed, names="value")
        self.widget.value = shown(self.field, value)
        self.widget.observe(self._changed, names="value")

    def keep_up(self, value: Any, clean: Callable[[str], str]) -> None:
        """Show what is said where it was not typed here; and nothing that was taken out of what was typed."""
        there = self.widget.value
        if self.field.kind in ("switch", "choice"):
            if there != shown(self.field, value):
                self.show(value)
        elif clean(there) != there:
            self.show(clean(there))

    def wrong(self, sentences: list[str]) -> None:
        """Say what is wrong with it, below it."""
        self._wrong.value = "".join(note("mistake", f"✘ {each}") for each in sentences)
        self._wrong.layout.display = None if sentences else "none"


class Sections:
    """Rows below headings, made when somebody opens them: a hundred fields that nobody looks at cost seconds.

    Args:
        sections: (heading, its fields).
        make: makes the row of a field.
        opened: called when rows were made.
    """

    def __init__(
        self,
        sections: list[tuple[str, list[Field]]],
        make: Callable[[Field], Row],
        opened: Callable[[], None],
    ):
        self.rows: dict[str, Row] = {}
        self._sections, self._make, self._opened = sections, make, opened
        self.box = ipywidgets.Accordion(
            [ipywidgets.VBox() for _ in sections], titles=tuple(title for title, _ in sections)
        )
        self.box.observe(self._open, names="selected_index")

    def _open(self, change: Any) -> None:
        if change["new"] is None or self.box.children[change["new"]].children:
            return
        made = {field.place: self._make(field) for field in self._sections[change["new"]][1]}
        self.rows |= made
        self.box.children[change["new"]].children = [row.box for row in made.values()]
        self._opened()

    def wrong(self, sentences: Callable[[str], list[str]]) -> None:
        """Say what is wrong: below each field, and in the heading, which is seen before it is opened."""
        titles = []
        for title, fields in self._sections:
            found = [each for field in fields for each in sentences(field.place)]
            titles.append(f"{title} ✘ {len(found)} wrong" if found else title)
        if self.box.titles != tuple(titles):
            self.box.titles = tuple(titles)
        for place, row in self.rows.items():
            row.wrong(sentences(place))


def _word(default: Any) -> str:
    return (
        {True: "yes", False: "no"}.get(default, str(default)) if isinstance(default, bool) else str(default)
    )
