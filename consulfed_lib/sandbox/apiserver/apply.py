"""Server-side apply, and the bookkeeping of field managers that every write takes part in.

An applied configuration states the fields that its manager wants. What it no longer states, and no one
else owns, is removed; what another manager owns with another value is a conflict, unless forced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from .fieldsets import (
    Path,
    compare,
    decode,
    encode,
    has_prefix,
    is_keyed,
    item_element,
    paths_of,
    printed,
    set_element,
)
from .schema import Node
from .status import ApiError
from .store import now

_UNOWNED = {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
    ),
}
"""What no manager owns."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Where client-side apply keeps what it applied."""

MAX_UPDATE_MANAGERS = 10
"""More of them than this are folded into one entry, `ancient-changes`, as in a real API server."""


@dataclass(frozen=True)
class Manager:
    """Who made a change: the fieldManager, whether it applied or updated, and through which subresource."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def described(self, time: str) -> str:
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == "Update":
            text += f" using {self.api_version}" + (f" at {time}" if time else "")
        return text


@dataclass
class _Entry:
    paths: set[Path] = field(default_factory=set)
    time: str = ""


Managers = dict[Manager, _Entry]


def _managers_of(obj: dict[str, Any]) -> Managers:
    found: Managers = {}
    for entry in obj["metadata"].get("managedFields") or ():
        manager = Manager(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        found[manager] = _Entry(decode(entry.get("fieldsV1") or {}), entry.get("time", ""))
    return found


def _recorded(managers: Managers) -> list[dict[str, Any]]:
    ordered = sorted(
        ((m, e) for m, e in managers.items() if e.paths),
        key=lambda pair: (pair[0].operation, pair[1].time, pair[0].name, pair[0].subresource),
    )
    return [
        {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode(entry.paths),
            **({"subresource": manager.subresource} if manager.subresource else {}),
        }
        for manager, entry in ordered
    ]


def _with_managers(obj: dict[str, Any], managers: Managers) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    recorded = _recorded(managers)
    if recorded:
        metadata["managedFields"] = recorded
    return {**obj, "metadata": metadata}


def record_update(
    old: dict[str, Any] | None, new: dict[str, Any], manager: Manager, node: Node
) -> dict[str, Any]:
    """`new` with managedFields that say that this manager made what differs from `old`.

    A caller may have changed the managedFields themselves (kubectl does, when it moves from client-side to
    server-side apply; ``[{}]`` clears them): then those count.
    """
    given = new["metadata"].get("managedFields")
    if given == [{}] or (given == [] and old is not None):
        managers: Managers = {}
    elif given:
        managers = _managers_of(new)
    else:
        managers = _managers_of(old) if old is not None else {}
    difference = compare(old or {}, new, node)
    changed = (difference.added | difference.modified) - _UNOWNED
    for entry in managers.values():
        entry.paths -= changed | difference.removed
    if changed:
        own = managers.setdefault(manager, _Entry())
        own.paths |= changed
        own.time = now()
    return _with_managers(new, _folded(managers))


def _folded(managers: Managers) -> Managers:
    updates = sorted(
        (m for m, e in managers.items() if m.operation == "Update" and e.paths),
        key=lambda m: managers[m].time,
    )
    if len(updates) <= MAX_UPDATE_MANAGERS:
        return managers
    for manager in updates[: len(updates) - MAX_UPDATE_MANAGERS + 1]:
        entry = managers.pop(manager)
        ancient = managers.setdefault(replace(manager, name="ancient-changes", subresource=""), _Entry())
        ancient.paths |= entry.paths
        ancient.time = max(ancient.time, entry.time)
    return managers


def apply(
    live: dict[str, Any] | None, config: dict[str, Any], manager: Manager, node: Node, force: bool
) -> dict[str, Any]:
    """The object after this manager applied its configuration; `live` itself when nothing differs.

    Raises:
        ApiError: 409 that names each field that another manager owns with another value.
    """
    wanted = paths_of(config, node) - _UNOWNED
    if live is None:
        return _with_managers(config, {manager: _Entry(wanted, now())})
    managers = _managers_of(live)
    before = managers.pop(manager, _Entry())
    merged = _merged(live, config, node)
    difference = compare(live, merged, node)
    changed = (difference.added | difference.modified) - _UNOWNED
    if not force and manager.name == "kubectl":
        # What this manager applied from the client's side before is its own, whatever the entry is called.
        mine = _last_applied(live, node)
        force = all(path in mine for entry in managers.values() for path in entry.paths & changed)
    _settle_conflicts(managers, changed, force)
    others: set[Path] = set().union(*(entry.paths for entry in managers.values()))
    dropped = {
        path
        for path in before.paths - wanted
        if not has_prefix(others, path) and not has_prefix(wanted, path)
    }
    result = _without(merged, dropped, (), node) if dropped else merged
    unchanged = wanted == before.paths and result == live
    managers[manager] = before if unchanged else _Entry(wanted, now())
    if manager.name == "kubectl" and not unchanged:
        result = _with_last_applied(result, config)
    result = _with_managers(result, managers)
    return live if unchanged and _recorded(_managers_of(live)) == _recorded(managers) else result


def _last_applied(live: dict[str, Any], node: Node) -> set[Path]:
    """The paths that client-side apply set, and that still are as it set them."""
    annotation = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        config = json.loads(annotation or "{}")
    except ValueError:
        return set()
    if not isinstance(config, dict) or config.get("apiVersion") != live["apiVersion"]:
        return set()
    difference = compare(config, live, node)
    return paths_of(config, node) - difference.modified - difference.added - difference.removed


def _with_last_applied(obj: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Keep the annotation of client-side apply true, where there is one."""
    annotations = obj["metadata"].get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return obj
    metadata = {key: value for key, value in config["metadata"].items() if key != "managedFields"}
    kept = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    if kept:
        metadata["annotations"] = kept
    text = json.dumps({**config, "metadata": metadata}, separators=(",", ":")) + "\n"
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations, LAST_APPLIED: text}}}


def _settle_conflicts(managers: Managers, changed: set[Path], force: bool) -> None:
    conflicts = [(m, path) for m, e in managers.items() for path in sorted(e.paths & changed)]
    if not conflicts:
        return
    if force:
        for manager, path in conflicts:
            managers[manager].paths.discard(path)
        return
    described = {manager: manager.described(managers[manager].time) for manager, _ in conflicts}
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {described[manager]}: {printed(path)}"
    else:
        lines = []
        for manager in sorted(described, key=lambda m: described[m]):
            lines.append(f"conflicts with {described[manager]}:")
            lines += [f"- {printed(path)}" for m, path in conflicts if m == manager]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {described[manager]}",
            "field": printed(path),
        }
        for manager, path in conflicts
    ]
    raise ApiError(409, "Conflict", message, {"causes": causes})


def _merged(live: Any, config: Any, node: Node) -> Any:
    if isinstance(live, dict) and isinstance(config, dict) and not node.atomic:
        result = dict(live)
        for key, value in config.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = _merged(live.get(key), value, node.child(key))
        return result
    if live and is_keyed(live, node) and is_keyed(config, node):
        held = {node.key_of(item): item for item in live}
        wanted = {node.key_of(item): item for item in config}
        items = {key: _merged(held.get(key), item, node.item()) for key, item in wanted.items()}
        return _interleaved(list(held), list(wanted), held | items)
    if isinstance(live, list) and isinstance(config, list) and node.list_type == "set":
        return live + [item for item in config if item not in live]
    return config


def _interleaved(held: list[Any], wanted: list[Any], items: dict[Any, Any]) -> list[Any]:
    """The wanted ones in their order; each other one stays behind the one that it followed."""
    rank = {key: position for position, key in enumerate(wanted)}
    places: list[tuple[int, int, Any]] = []
    last = -1
    for position, key in enumerate(held):
        if key in rank:
            last = rank[key]
        places.append((last, position + 1, key) if key not in rank else (rank[key], 0, key))
    places += [(rank[key], 0, key) for key in wanted if key not in held]
    return [items[key] for _, _, key in sorted(places, key=lambda place: place[:2])]


def _without(value: Any, dropped: set[Path], path: Path, node: Node) -> Any:
    """The value without those paths, and without the maps and lists that become empty by it."""
    if isinstance(value, dict) and not node.atomic:
        result = {}
        for key, part in value.items():
            here = (*path, f"f:{key}")
            if here in dropped:
                continue
            kept = _without(part, dropped, here, node.child(key))
            if kept in ({}, []) and part not in ({}, []):
                continue
            result[key] = kept
        return result
    if is_keyed(value, node):
        return [
            _without(item, dropped, (*path, item_element(item, node)), node.item())
            for item in value
            if (*path, item_element(item, node)) not in dropped
        ]
    if isinstance(value, list) and node.list_type == "set":
        return [item for item in value if (*path, set_element(item)) not in dropped]
    return value
