"""The form as widgets, around a draft: each change is checked at once, by what `consulfed params check` says."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..errors import ConsulfedError
from ..params import SANDBOX, kubeconfig_servers
from ..params.files import home
from ..results import MARKS
from .clusters import ClusterRows
from .contexts import Contexts, look
from .draft import Draft, Mistake
from .fields import Field, federation_groups
from .preview import commands, parameters_cell, values
from .rows import STYLE, Row, Sections, block, note
from .start import beginning

_FIRST = ("federation", "reason", "change_id", "kubeconfig")
_PAUSE = 0.25
"""Seconds without a key being pressed after which is checked what was typed."""


class _Form(ipywidgets.VBox):
    """The form where it is displayed; as text it says where the same stands as text."""

    def __repr__(self) -> str:
        return "The form. Without widgets, the cells below say what it says."


class Panel:
    """The whole form. `box` is what is displayed.

    Args:
        contexts: what the kubeconfig of the draft offers.
        given: whether the user named the file; if not, its name follows that of the federation.
    """

    def __init__(self, draft: Draft, contexts: Contexts, given: bool):
        self.draft = draft
        self._kubeconfig = str(draft.value("kubeconfig"))
        self._servers = kubeconfig_servers(self._kubeconfig)
        self._given, self._new = given, draft.is_new
        self._due: asyncio.TimerHandle | None = None
        self._clusters = ClusterRows(draft, self._soon)
        self._file = ipywidgets.Text(
            value=str(draft.file), description="File to write", style={"description_width": "17em"},
            layout={"width": "36em", "max_width": "100%"},
        )  # fmt: skip
        self._file.observe(self._file_changed, names="value")
        self._again = ipywidgets.Button(
            description="Ask the clusters again", layout={"width": "auto", "align_self": "flex-start"}
        )
        self._again.on_click(self._ask_again)
        self._save = ipywidgets.Button(
            description="Save", button_style="primary", tooltip="Write the params file"
        )
        self._save.on_click(self._saved)
        self._reason = self._html("consulfed-form-reason")
        self._messages = self._html("consulfed-form-messages")
        self._preview = ipywidgets.Tab()
        self._preview.add_class("consulfed-form-preview")
        self._commands = self._html("consulfed-form-commands")
        for button, name in ((self._save, "save"), (self._again, "again")):
            button.add_class(f"consulfed-form-{name}")
        self.box = _Form(self._parts())
        self.box.add_class("consulfed-form")
        self._clusters.offer(contexts)
        self.refresh()

    @staticmethod
    def _html(name: str) -> Any:
        found = ipywidgets.HTML()
        found.add_class(name)
        return found

    def _parts(self) -> list[Any]:
        groups = federation_groups()
        top = groups[0].fields
        self._first = {field.place: self._row(field) for field in top if field.place in _FIRST}
        rest = [("The whole federation", [field for field in top if field.place not in _FIRST])]
        rest += [(f"{group.place}: {group.help}", list(group.fields)) for group in groups[1:]]
        self._options = Sections(rest, self._row, self.refresh)
        self._options.box.add_class("consulfed-form-options")
        title = "<h4>{}</h4>".format
        return [
            ipywidgets.HTML(STYLE),
            ipywidgets.HTML(title("Federation")), *(row.box for row in self._first.values()),
            ipywidgets.HTML(title("Clusters")), self._clusters.box, self._again,
            ipywidgets.HTML(title("Options")), self._options.box,
            ipywidgets.HTML(title("Check and save")), self._messages, self._file,
            ipywidgets.HBox([self._save, self._reason]),
            ipywidgets.HTML(title("Preview")), self._preview,
            ipywidgets.HTML(title("The same without this form")), self._commands,
        ]  # fmt: skip

    def _row(self, field: Field) -> Row:
        return Row(field, field.place, self.draft.value(field.place), partial(self._say, field.place))

    @property
    def _rows(self) -> dict[str, Row]:
        """The rows that are there by now."""
        return self._first | self._options.rows

    # -- what somebody does -------------------------------------------------------------------------------------

    def _say(self, place: str, value: Any) -> None:
        self.draft.say(place, value)
        if place == "federation" and self._new and not self._given:
            self._name_file(str(value))
        self._soon()

    def _name_file(self, federation: str) -> None:
        """A new file is called as its federation, until somebody calls it something else."""
        self._file.unobserve(self._file_changed, names="value")
        name = re.sub(r"[^\w.-]+", "-", federation) or "new"
        self._file.value = str(self.draft.file.with_name(f"{name}.yaml"))
        self._file.observe(self._file_changed, names="value")
        self.draft.file = Path(self._file.value)

    def _file_changed(self, change: Any) -> None:
        self._given = True
        self.draft.file = home(change["new"].strip() or "params.yaml")
        self._soon()

    def _ask_again(self, _: Any) -> None:
        self._offer()
        self.refresh()

    def _saved(self, _: Any) -> None:
        if self._due:
            self._due.cancel()  # what it would check, saving checks
        try:
            where = self.draft.save()
        except ConsulfedError as error:
            self._reason.value = note("mistake", f"✘ {error}")
            return
        self._given, self._new = True, False
        self.refresh()
        self._reason.value = note("well", f"✔ Written: {where}")

    def _soon(self) -> None:
        """Check when nobody has typed for a moment; at once where there is no event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.refresh()
            return
        if self._due:
            self._due.cancel()
        self._due = loop.call_later(_PAUSE, self.refresh)

    # -- what is shown ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Check what is said, and show what comes of it."""
        kubeconfig = self.draft.value("kubeconfig")
        servers = kubeconfig_servers(kubeconfig) if isinstance(kubeconfig, str) else {}
        if (kubeconfig, servers) != (self._kubeconfig, self._servers):
            self._kubeconfig, self._servers = kubeconfig, servers
            self._offer()
        mistakes = self.draft.mistakes()

        def sentences(place: str) -> list[str]:
            return [each.sentence for each in mistakes if each.place == place]

        self._options.wrong(sentences)
        for place, row in self._rows.items():
            row.wrong(sentences(place))
            row.keep_up(self.draft.value(place), partial(self.draft.clean, place))
        self._clusters.refresh(mistakes)
        self._messages.value = f"<div role='status'>{self._verdict(mistakes)}</div>"
        reason = self._why_not(len(mistakes))
        self._save.disabled = bool(reason)
        self._reason.value = note(
            "fact", reason or "Nothing but this file is written, and no cluster is changed."
        )
        self._show_preview()
        self._commands.value = block(commands(self.draft.file), "commands")

    def _verdict(self, mistakes: list[Mistake]) -> str:
        """Every mistake; else that there is none, with what `params check` would warn of or could not look at."""
        if mistakes:
            return "".join(note("mistake", f"✘ {each.sentence}") for each in mistakes)
        told = [each for each in self.draft.judgement().found if each.severity != "ok"]
        lines = [note("fact", f"{MARKS[each.severity]} {each.severity}: {each.found}") for each in told]
        return note("well", f"✔ No mistake is found in {self.draft.file}.") + "".join(lines)

    def _why_not(self, mistakes: int) -> str:
        """Why the file cannot be saved now; empty where it can."""
        if mistakes:
            return (
                "Save is off: there is a mistake."
                if mistakes == 1
                else f"Save is off: there are {mistakes} mistakes."
            )
        if self.draft.is_new and os.path.exists(self.draft.file):
            return f"Save is off: {self.draft.file} is there already. Open that file, or give another name."
        return ""

    def _offer(self) -> None:
        """Ask the clusters of the kubeconfig; a new file in which no cluster was chosen begins anew for them."""
        contexts = look(self._kubeconfig)
        if self._new and not self.draft.clusters() and self._kubeconfig == SANDBOX:
            self.draft.raw |= beginning(SANDBOX, contexts, str(self.draft.said("federation") or ""))
            for place, row in self._rows.items():
                row.show(self.draft.value(place))
            if not self._given:
                self._name_file(str(self.draft.value("federation")))
        self._clusters.offer(contexts)

    def _show_preview(self) -> None:
        """The file, the values of each datacenter, and the parameters cell, a tab each."""
        pages = [("Params file", _text(self.draft.text))]
        if federation := self.draft.federation:
            pages += [
                (f"Helm values of {each.datacenter} ({each.role})", each.text) for each in values(federation)
            ]
        else:
            pages.append(("Helm values", "There are none while there are mistakes."))
        pages.append(("Parameters cell", parameters_cell(self.draft.raw, self.draft.file)))
        if len(self._preview.children) != len(pages):
            self._preview.children = [ipywidgets.HTML() for _ in pages]
        self._preview.titles = tuple(title for title, _ in pages)
        for child, (title, text) in zip(self._preview.children, pages, strict=True):
            child.value = block(text, title)


def _text(make: Callable[[], str]) -> str:
    try:
        return make()
    except ConsulfedError as error:
        return str(error)
