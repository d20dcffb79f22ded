"""The part of the form that gives each context its role, and says more of the clusters that take part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets

from .contexts import Context, Contexts
from .draft import Draft, Mistake
from .fields import Field, cluster_groups
from .rows import Row, Sections, note
from .start import cluster, existing

_ROLES = [("not part of it", ""), ("primary", "primary"), ("secondary", "secondary")]
_FIELDS = {field.place: field for group in cluster_groups() for field in group.fields}
_MORE = [field for place, field in _FIELDS.items() if place not in ("context", "datacenter")]


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

    def opened(self) -> None:
        self._changed()

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
        self._datacenter: Row | None = None
        self._rest: Sections | None = None
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
        if bool(place) is (self._datacenter is None):
            self._ask(place)
        mine = (place, f"{place}.context") if place else ()
        self._wrong.value = "".join(note("mistake", f"✘ {m.sentence}") for m in mistakes if m.place in mine)
        if self._datacenter is None or self._rest is None:
            return

        def sentences(at: str) -> list[str]:
            return [each.sentence for each in mistakes if each.place == f"{place}.{at}"]

        self._datacenter.wrong(sentences("datacenter"))
        self._rest.wrong(sentences)
        for at, row in {"datacenter": self._datacenter, **self._rest.rows}.items():
            row.keep_up(self._owner.said(f"{place}.{at}"), partial(self._owner.clean, f"{place}.{at}"))

    def _ask(self, place: str) -> None:
        """Ask about a cluster that takes part now; no longer about one that does not."""
        if not place:
            self._datacenter = self._rest = None
            self._more.children = ()
            return
        self._datacenter = self._row(_FIELDS["datacenter"])
        heading = f"More about {self._context.context}"
        self._rest = Sections([(heading, _MORE)], self._row, self._owner.opened)
        self._more.children = [self._datacenter.box, self._rest.box]

    def _row(self, field: Field) -> Row:
        name = self._context.context
        said = self._owner.said(f"{self._owner.place(name)}.{field.place}")
        label = ("Datacenter" if field.place == "datacenter" else field.place) + f" of {name}"
        value = field.default if said is None else said
        return Row(field, label, value, partial(self._owner.tell, name, field.place))
