"""What the form asks for: every parameter, from the models themselves, so that a new one shows up by itself."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..params import Cluster, Federation

Kind = Literal["switch", "choice", "number", "text", "texts", "mapping"]

CLUSTERS = ("primary", "secondaries")
"""Parameters that the form asks for cluster by cluster."""


@dataclass(frozen=True)
class Field:
    """One parameter.

    Attributes:
        place: where it stands, as in the messages: `mesh_gateway.port`; in a cluster's group without the cluster.
        default: what it is when it is not said; None: it has to be said, or (`optional`) is as in the federation.
        choices: what it can be, where that is a list of words.
        optional: whether it may be left empty, and means then what another parameter says.
    """

    place: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Group:
    """Parameters that belong together: those of one mapping, or those that stand at the top."""

    place: str
    help: str
    fields: tuple[Field, ...]


def federation_groups() -> tuple[Group, ...]:
    """Everything but the clusters: what stands at the top, then a group for each mapping."""
    return tuple(_groups(Federation, "", "the whole federation", CLUSTERS))


def cluster_groups() -> tuple[Group, ...]:
    """What can be said of one cluster; places begin below it."""
    return tuple(_groups(Cluster, "", "this cluster", ()))


def known(place: str) -> Field:
    """The field at a place such as `mesh_gateway.port` or `secondaries[0].release`. Raises KeyError."""
    head, _, rest = place.partition(".")
    if head.partition("[")[0] in CLUSTERS:
        return _CLUSTER[rest]
    return _FEDERATION[place]


def _groups(model: type[BaseModel], place: str, about: str, without: tuple[str, ...]) -> Iterator[Group]:
    fields: list[Field] = []
    inner: list[Group] = []
    for name, info in model.model_fields.items():
        if name in without:
            continue
        where = f"{place}.{name}" if place else name
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inner += _groups(info.annotation, where, info.description or "", ())
        else:
            fields.append(_field(where, info))
    yield Group(place, about, tuple(fields))
    yield from inner


def _field(place: str, info: FieldInfo) -> Field:
    """Raises TypeError for a type that the form cannot ask for, so that a test finds it and not a user."""
    annotation, optional = info.annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
        optional = True
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    kinds: dict[Any, Kind] = {bool: "switch", int: "number", str: "text", list: "texts", dict: "mapping"}
    kind = "choice" if choices else kinds.get(get_origin(annotation) or annotation)
    if kind is None or (kind == "texts" and get_args(annotation) != (str,)):
        raise TypeError(f"the form knows no way to ask for {place}: {annotation}")
    default = None if info.is_required() else info.default
    return Field(place, kind, default, info.description or "", choices, optional)


_FEDERATION = {field.place: field for group in federation_groups() for field in group.fields}
_CLUSTER = {field.place: field for group in cluster_groups() for field in group.fields}
