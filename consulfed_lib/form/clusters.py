"""The part of the form that gives each context its role, and says more of the clusters that take part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets

from .contexts import Context, Contexts
from .draft import Draft, Mistake
from .fields import cluster_groups
from .rows import Row, note
from .start import cluster, existing

_ROLES = [("not part of it", ""), ("primary", "primary"), ("secondary", "secondary")]
_OF_ITS_OWN = ("context", "datacenter")
_FIELDS = [field for group in cluster_groups() for field in group.fields]


class ClusterRows:
    """A block for each context: what its cluster is, its role, its datacenter, and all that can be said of it.

    Args:
        changed: called when anything was said.
    """

    def __init__(self, draft: Draft, changed: Callable[[], None]):
        self._draft = draft
        self._changed = changed
        self._facts: dict[str, Context] = {}
        self._blocks: dict[str, _Block] = {}
        self.box = ipywidgets.VBox()
        self.box.add_class("consulfed-form-clusters")

    def offer(self, contexts: Contexts) -> None:
        """Show these contexts, and those of the draft that are not among them."""
        self._facts = {each.context: each for each in contexts}
        missing = [name for name in self._draft.clusters() if name not in self._facts]
        self._facts |= {name: Context(name, "", note="not in the kubeconfig") for name in missing}
        self._blocks = {name: _Block(each, self) for name, each in self._facts.items()}
        head = note("fact", repr(contexts).splitlines()[0])
        self.box.children = [ipywidgets.HTML(head), *(each.box for each in self._blocks.values())]
        self.refresh([])

    def refresh(self, mistakes: list[Mistake]) -> None:
        """Show roles as they are now, and what is wrong where."""
        places = self._draft.clusters()
        for name, block in self._blocks.items():
            block.refresh(places.get(name, ""), mistakes)

    # -- called by the blocks

    def place(self, context: str) -> str:
        return self._draft.clusters().get(context, "")

    def said(self, place: str) -> Any:
        return self._draft.said(place)

    def clean(self, place: str, text: str) -> str:
        return self._draft.clean(place, text)

    def role_changed(self, context: str, role: str) -> None:
        names = [str(self.said(f"{place}.datacenter")) for place in self._draft.clusters().values()]
        new = cluster(self._facts[context], taken=names)
        self._draft.give_role(context, role, **{key: new[key] for key in new if key != "context"})
        if role == "primary" and "upgrade" not in self._draft.raw:
            self._draft.raw |= {
                key: value for key, value in existing(self._facts[context]).items() if key == "upgrade"
            }
        self._changed()

    def tell(self, context: str, field: str, value: Any) -> None:
        if place := self.place(context):
            self._draft.say(f"{place}.{field}", value)
            self._changed()


class _Block:
    """One context."""

    def __init__(self, context: Context, owner: ClusterRows):
        self._context, self._owner = context, owner
        name = context.context
        self._role = ipywidgets.Dropdown(
            options=_ROLES, value="", description=f"Role of {name}", style={"description_width": "17em"},
            layout={"width": "36em", "max_width": "100%"},
        )  # fmt: skip
        self._role.observe(self._role_changed, names="value")
        self._rows: dict[str, Row] = {}
        self._wrong = ipywidgets.HTML()
        self._wrong.add_class("consulfed-field-mistakes")
        self._more = ipywidgets.VBox()
        fact = ipywidgets.HTML(note("fact", f"{name}: {context.line() or 'nothing is known of it'}"))
        self.box = ipywidgets.VBox(
            [fact, self._role, self._more, self._wrong], layout={"margin": "0 0 10px 0"}
        )
        self.box.add_class("consulfed-cluster")

    def _role_changed(self, change: Mapping[str, Any]) -> None:
        self._owner.role_changed(self._context.context, change["new"])

    def refresh(self, place: str, mistakes: list[Mistake]) -> None:
        role = place.partition("[")[0].replace("secondaries", "secondary")
        if self._role.value != role:
            self._role.unobserve(self._role_changed, names="value")
            self._role.value = role
            self._role.observe(self._role_changed, names="value")
        if bool(place) is not bool(self._rows):
            self._ask(place)
        for name, row in self._rows.items():
            where = f"{place}.{name}"
            row.wrong([each.sentence for each in mistakes if each.place == where])
            if isinstance(row.widget.value, str):
                clean = self._owner.clean(where, row.widget.value)
                if clean != row.widget.value:
                    row.show(clean)
        mine = (place, f"{place}.context") if place else ()
        self._wrong.value = "".join(note("mistake", f"✘ {m.sentence}") for m in mistakes if m.place in mine)

    def _ask(self, place: str) -> None:
        """Make the rows of a cluster that takes part now, or drop those of one that no longer does."""
        if not place:
            self._rows, self._more.children = {}, ()
            return
        name = self._context.context
        for field in _FIELDS:
            if field.place != "context":
                said = self._owner.said(f"{place}.{field.place}")
                label = ("Datacenter" if field.place == "datacenter" else field.place) + f" of {name}"
                value = field.default if said is None else said
                tell = partial(self._owner.tell, name, field.place)
                self._rows[field.place] = Row(field, label, value, tell)
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([row.box for at, row in self._rows.items() if at not in _OF_ITS_OWN])],
            titles=(f"More about {name}",),
        )
        self._more.children = [self._rows["datacenter"].box, more]
