"""What the notebook calls: the form, and the same as text, so that nothing is reachable only through a widget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..params.files import home
from ..show import Page, Text
from .contexts import Contexts, look
from .draft import Draft
from .preview import commands, parameters_cell, values
from .start import beginning, usual_kubeconfig


class FormPage:
    """A params file that is opened or begun.

    Args:
        file: the params file; one that is not there is begun; empty for a new one, named after its federation.

    Raises ParamsError where the file holds no parameters.
    """

    def __init__(self, file: str = ""):
        self._given = bool(file)
        path = home(file) if file else _params_folder() / "new.yaml"
        self._contexts: Contexts | None = None
        if self._given and path.exists():
            self.draft = Draft.of(path)
            return
        self._contexts = look(usual_kubeconfig())
        raw = beginning(usual_kubeconfig(), self._contexts, path.stem if self._given else "")
        name = path if self._given or not raw["federation"] else path.with_name(f"{raw['federation']}.yaml")
        self.draft = Draft(raw, name)

    def __repr__(self) -> str:
        kind = "a new file" if self.draft.is_new else "a file that is there"
        return f"{self.draft.file}: {kind}"

    def contexts(self) -> Contexts:
        """The contexts of the kubeconfig: version of each cluster, and the Consul there. All are asked at once."""
        kubeconfig = self.draft.value("kubeconfig")
        if self._contexts is None:
            self._contexts = look(kubeconfig if isinstance(kubeconfig, str) else "")
        return self._contexts

    def form(self) -> Any:
        """The form, as widgets; where nobody is there to use it, what it would say."""
        from ..steps.base import interactive

        if not interactive("auto"):
            return self.check()
        from .panel import Panel

        return Panel(self.draft, self.contexts(), self._given).box

    def check(self) -> Text:
        """What is wrong with what is said so far, as `consulfed params check` says it."""
        mistakes = [each.sentence for each in self.draft.mistakes()]
        return Text("Mistakes" if mistakes else "No mistakes", "\n".join(mistakes) or str(self.draft.file))

    def text(self) -> Text:
        """The params file as it would be written now."""
        return Text(str(self.draft.file), self.draft.text())

    def values(self) -> Page:
        """The Helm values of each datacenter that it leads to now."""
        if federation := self.draft.federation:
            return Page(
                *(Text(f"Helm values of {each.datacenter}", each.text) for each in values(federation))
            )
        return Page(Text("Helm values", "There are none while there are mistakes."), self.check())

    def commands(self) -> Page:
        """The same without a form: in a shell, and in the parameters cell of a notebook."""
        cell = parameters_cell(self.draft.raw, self.draft.file)
        return Page(
            Text("In a shell", commands(self.draft.file)), Text("As the parameters cell of a notebook", cell)
        )


def _params_folder() -> Path:
    """The repository's folder `params`, seen from a notebook beside it or from the top."""
    for folder in (Path("../params"), Path("params")):
        if folder.is_dir():
            return folder
    return Path()
