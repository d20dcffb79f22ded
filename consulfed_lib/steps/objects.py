"""The objects of a Helm release, as they are and as they would be: what is created, changed, deleted, restarted.

Of Secrets only the names are compared: what they hold is nobody's to see, and `preview` has dropped it already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from ..canonical import digest
from ..plans import Item, item_of
from ..results import Change
from ..show import Diff, diff

_WORKLOADS = {"StatefulSet", "Deployment", "DaemonSet"}

Manifest = Mapping[str, Any]
Name = tuple[str, str]


class Objects:
    """Two states of a release's objects in one datacenter."""

    def __init__(self, subject: str, before: Iterable[Manifest], after: Iterable[Manifest]):
        self._subject = subject
        self._old = {_name(each): each for each in before}
        self._new = {_name(each): each for each in after}

    @property
    def created(self) -> list[Name]:
        return sorted(self._new.keys() - self._old.keys())

    @cached_property
    def changed(self) -> dict[Name, str]:
        """Object → unified diff of what would change in it."""
        both = sorted(self._new.keys() & self._old.keys())
        diffs = {
            (kind, name): diff(f"{kind} {name}", self._old[kind, name], self._new[kind, name])
            for kind, name in both
            if kind != "Secret"
        }
        return {name: text for name, text in diffs.items() if text}

    @property
    def deleted(self) -> list[Name]:
        return sorted(each for each in self._old.keys() - self._new.keys() if each[0] != "Secret")

    @property
    def restarted(self) -> list[Name]:
        """Workloads whose pods Kubernetes replaces, because their template changes."""
        return [
            name
            for name in self.changed
            if name[0] in _WORKLOADS and _template(self._old[name]) != _template(self._new[name])
        ]

    def rows(self) -> list[Change]:
        """For people: what is created by kind, the rest one by one."""
        by_kind: dict[str, list[str]] = {}
        for kind, name in self.created:
            by_kind.setdefault(kind, []).append(name)
        return [
            *(self._row("object", "would create", f"{k}: {', '.join(n)}") for k, n in by_kind.items()),
            *(self._row("object", "would change", f"{k}: {n}") for k, n in self.changed),
            *(self._row("restart", "would restart", f"pods of {k} {n}") for k, n in self.restarted),
            *(self._row("object", "would delete", f"{k}: {n}") for k, n in self.deleted),
        ]

    def items(self) -> list[Item]:
        """For machines: every object, with what it is and what it would be."""
        return [
            *(self._item("would create", name, "") for name in self.created),
            *(self._item("would change", name, text) for name, text in self.changed.items()),
            *(item_of(self._row("restart", "would restart", f"pods of {k} {n}")) for k, n in self.restarted),
            *(self._item("would delete", name, "") for name in self.deleted),
        ]

    def diffs(self) -> list[Diff]:
        return [Diff(f"{k} {n} in {self._subject}", text) for (k, n), text in self.changed.items()]

    def _row(self, id: str, outcome: str, what: str) -> Change:
        return Change(id, self._subject, outcome, what)

    def _item(self, outcome: str, name: Name, text: str) -> Item:
        row = self._row("object", outcome, " ".join(name))
        now, then = (digest(side[name]) if name in side else "" for side in (self._old, self._new))
        item = item_of(row, now=now, then=then)
        return Item(**{**vars(item), "diff": text})


def _template(manifest: Manifest) -> Any:
    return manifest.get("spec", {}).get("template")


def _name(manifest: Manifest) -> Name:
    return str(manifest.get("kind")), str(manifest.get("metadata", {}).get("name"))
