"""The plan of one notebook: what it would do, and a digest of that which is the same on every machine.

Into the digest goes what the change comes to: for each cluster (by its own identity, not by the name of somebody's
context) the Helm values, every object with what it is now and what it would be, what would be restarted. Not into it
goes what differs from machine to machine or from look to look: titles, times, the commands that would undo it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..canonical import digest
from ..results import Change

ACTIONS = {
    "would create": "create", "would change": "change", "would delete": "delete", "would restart": "restart",
    "unchanged": "none", "waits": "none",
}  # fmt: skip
"""Outcome of a plan's row → action of its item."""


@dataclass(frozen=True)
class Item:
    """One thing of a plan.

    Attributes:
        id: the action's id: `namespace`, `release`, `object`, `restart`, `federation-secret`, …
        subject: the datacenter.
        what: which object, in words that do not change from look to look.
        action: `create`, `change`, `delete`, `restart`, or `none` where it is so already.
        now: digest of what is there; empty: nothing is, or it is secret.
        then: digest of what would be there; empty where that is not known yet (see `by`), or secret.
        diff: what would change in it, as a unified diff without secrets.
        by: the notebook of the same plan that makes it, or makes what it is made of: until that one is applied,
            `then` is not known, and whatever it makes is what is approved.
    """

    id: str
    subject: str
    what: str
    action: str
    now: str = ""
    then: str = ""
    diff: str = ""
    by: str = ""

    @property
    def pending(self) -> bool:
        return self.action != "none"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.id, self.subject, self.what

    @property
    def label(self) -> str:
        """As people are told of it."""
        return f"{self.subject}: {self.id} {self.what}"


def item_of(row: Change, *, now: str = "", then: str = "", by: str = "", what: str = "") -> Item:
    """The item that a row of the plan's table shows. Raises KeyError for a row that is no plan's."""
    return Item(row.id, row.subject, what or row.what, ACTIONS[row.outcome], now, then, by=by)


@dataclass(frozen=True)
class Document:
    """The plan of one notebook.

    Attributes:
        clusters: datacenter → UID of its cluster's kube-system.
        values: the Helm values of the release; None where the notebook works on none.
    """

    notebook: str
    subject: str
    clusters: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Item] = ()
    values: Mapping[str, Any] | None = None

    def data(self) -> dict[str, Any]:
        """Without what is empty, so that a plan stays short to read."""
        items = [{k: v for k, v in asdict(each).items() if v} for each in self.items]
        data = {"notebook": self.notebook, "subject": self.subject, "clusters": dict(self.clusters)}
        return data | {"items": items} | ({} if self.values is None else {"values": self.values})

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Document:
        """Raises KeyError or TypeError for what is no document."""
        items = [Item(**each) for each in data["items"]]
        return cls(data["notebook"], data["subject"], data["clusters"], items, data.get("values"))

    @property
    def digest(self) -> str:
        return digest(self.data())

    @property
    def pending(self) -> list[Item]:
        """What is still to be done."""
        return [each for each in self.items if each.pending]

    def opened(self) -> Document:
        """The same plan as it was before the notebooks were applied that it builds on."""
        items = [replace(each, now="", then="") if each.by else each for each in self.items]
        return replace(self, items=items)
