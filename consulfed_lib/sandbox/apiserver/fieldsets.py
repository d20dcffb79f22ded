"""Sets of field paths, as `metadata.managedFields` records who owns what.

A path is a tuple of FieldsV1 path elements: ``f:name`` a field, ``k:{…}`` the item of a keyed list,
``v:…`` a member of a set. Atomic values, scalars and empty maps and lists are leaves; the item of a keyed
list is a member itself too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .schema import Node

Path = tuple[str, ...]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def item_element(item: dict[str, Any], node: Node) -> str:
    """The path element of an item of a keyed list."""
    return "k:" + _compact(dict(zip(node.keys, node.key_of(item), strict=True)))


def set_element(value: Any) -> str:
    """The path element of a member of a set."""
    return "v:" + _compact(value)


def _are_scalars(keys: tuple[Any, ...]) -> bool:
    return all(isinstance(key, (str, int, float)) for key in keys)


def is_keyed(value: Any, node: Node) -> bool:
    return (
        isinstance(value, list)
        and node.list_type == "map"
        and all(isinstance(item, dict) and _are_scalars(node.key_of(item)) for item in value)
    )


def _children(value: Any, node: Node) -> list[tuple[str, Any, Node, bool]] | None:
    """(element, value, node, whether the element is a member by itself) of each part; None for a leaf."""
    if isinstance(value, dict) and not node.atomic:
        return [(f"f:{key}", part, node.child(key), False) for key, part in value.items()]
    if is_keyed(value, node):
        return [(item_element(item, node), item, node.item(), True) for item in value]
    if isinstance(value, list) and node.list_type == "set":
        return [(set_element(item), item, node.item(), True) for item in value]
    return None


def paths_of(value: Any, node: Node) -> set[Path]:
    """Every path that a value holds.

    >>> sorted(paths_of({"a": 1, "b": {"c": [1]}}, Node()))
    [('f:a',), ('f:b', 'f:c')]
    """
    found: set[Path] = set()
    _collect(value, node, (), found)
    found.discard(())
    return found


def _collect(value: Any, node: Node, path: Path, found: set[Path]) -> None:
    parts = _children(value, node)
    if not parts:
        found.add(path)
        return
    for element, part, below, member in parts:
        if member:
            found.add((*path, element))
        _collect(part, below, (*path, element), found)


@dataclass
class Difference:
    """Paths that `new` has and `old` has not, that both have with other values, that only `old` has."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def compare(old: Any, new: Any, node: Node) -> Difference:
    difference = Difference()
    _compare(old, new, node, (), difference)
    return difference


def _compare(old: Any, new: Any, node: Node, path: Path, found: Difference) -> None:
    if old == new:
        return
    before, after = _children(old, node), _children(new, node)
    if before is None or after is None or not before or not after:
        if before:
            found.removed |= {(*path, *p) for p in paths_of(old, node)}
        if after:
            found.added |= {(*path, *p) for p in paths_of(new, node)}
        if not before and not after:
            found.modified.add(path)
        elif not after:
            found.added.add(path)
        elif not before:
            found.removed.add(path)
        return
    held = {element: (part, below) for element, part, below, _ in before}
    for element, part, below, member in after:
        here = (*path, element)
        if element in held:
            _compare(held.pop(element)[0], part, below, here, found)
            continue
        if member:
            found.added.add(here)
        _collect(part, below, here, found.added)
    for element, (part, below) in held.items():
        found.removed.add((*path, element))
        _collect(part, below, (*path, element), found.removed)


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """As FieldsV1.

    >>> encode([("f:a",), ("f:b", "f:c"), ("f:b",)])
    {'f:a': {}, 'f:b': {'.': {}, 'f:c': {}}}
    """
    members = set(paths)
    root: dict[str, Any] = {}
    for path in sorted(members):
        place = root
        for depth, element in enumerate(path):
            below = place.setdefault(element, {})
            if not below and depth + 1 < len(path) and path[: depth + 1] in members:
                below["."] = {}
            place = below
    return root


def decode(fields: dict[str, Any]) -> set[Path]:
    """The paths of a FieldsV1.

    >>> sorted(decode({"f:b": {".": {}, "f:c": {}}}))
    [('f:b',), ('f:b', 'f:c')]
    """
    found: set[Path] = set()

    def visit(place: dict[str, Any], path: Path) -> None:
        for element, below in place.items():
            if element == ".":
                found.add(path)
                continue
            here = (*path, element)
            if below:
                visit(below, here)
            else:
                found.add(here)

    visit(fields, ())
    return found


def has_prefix(paths: Iterable[Path], prefix: Path) -> bool:
    """Whether one of the paths is `prefix` or below it."""
    size = len(prefix)
    return any(path[:size] == prefix for path in paths)


def printed(path: Path) -> str:
    """As conflict messages print it.

    >>> printed(("f:spec", "f:containers", 'k:{"name":"a"}', "f:image"))
    '.spec.containers[name="a"].image'
    """
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{k}={_compact(v)}" for k, v in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text
