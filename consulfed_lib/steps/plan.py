"""The plan of a step: what people see of it, and the data that is approved, under a digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..plans import Document, Item, item_of
from ..results import Changes
from ..show import Page, Text


class Plan(Page):
    """What would change: values, diffs and a row for each action, and the same as data under a digest.

    Args:
        items: the plan as data; by default an item for each row.
        values: the Helm values that the plan leads to.
    """

    MIME = "application/vnd.consulfed.plan+json"

    def __init__(
        self,
        changes: Changes,
        *parts: Any,
        items: Sequence[Item] | None = None,
        values: Mapping[str, Any] | None = None,
    ):
        self.changes = changes
        self.items = [item_of(row) for row in changes] if items is None else list(items)
        self.values = values
        self.document: Document | None = None
        super().__init__(*parts, changes)

    def seal(self, document: Document) -> None:
        """Show the digest below the rest, once what the plan is about is known."""
        self.document = document
        if document.items:
            self.parts.append(Text("Digest of the plan", document.digest))

    def data(self) -> dict[str, Any] | None:
        """`{digest, document}`; None where nothing is ever changed."""
        if self.document is None or not self.document.items:
            return None
        return {"digest": self.document.digest, "document": self.document.data()}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        shown: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return shown | ({self.MIME: data} if (data := self.data()) else {})
