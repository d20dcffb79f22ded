"""The three patches of objects: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

Each function returns a new object and leaves what it is given as it was; parts may be shared.
"""

from __future__ import annotations

from typing import Any

from .schema import Node
from .status import ApiError, bad_request
from .store import clone


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386.

    >>> merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}})
    {'a': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _refused(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902.

    Raises:
        ApiError: 400 when it is no list of operations, 422 when one of them cannot be done.
    """
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = clone(target)
    for operation in operations:
        document = _operate(document, operation)
    return document


def _pointer(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise _refused(f"invalid path {path!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(parts: list[Any], token: str, adding: bool) -> int:
    if token == "-" and adding:
        return len(parts)
    if not token.isdigit() or int(token) >= len(parts) + adding:
        raise _refused(f"unable to access invalid index: {token}")
    return int(token)


def _look_up(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(document, token, adding=False)]
        else:
            raise _refused(f"path not found: /{'/'.join(path)}")
    return document


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation.get("op"), _pointer(operation.get("path"))
    if kind in ("add", "replace", "test") and "value" not in operation:
        raise _refused(f"{kind} operation without a value")
    if kind == "test":
        try:
            held = _look_up(document, path)
        except ApiError:
            held = None
        if held != operation["value"]:
            raise _refused(f"testing path /{'/'.join(path)} failed")
        return document
    if kind in ("move", "copy"):
        value = clone(_look_up(document, _pointer(operation.get("from"))))
        if kind == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
        return _operate(document, {"op": "add", "path": operation["path"], "value": value})
    if kind not in ("add", "remove", "replace"):
        raise _refused(f"unexpected kind of operation: {kind}")
    if not path:
        return None if kind == "remove" else operation["value"]
    parent, last = _look_up(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        index = _index(parent, last, adding=kind == "add")
        if kind == "add":
            parent.insert(index, operation["value"])
        elif kind == "replace":
            parent[index] = operation["value"]
        else:
            del parent[index]
    elif isinstance(parent, dict):
        if kind != "add" and last not in parent:
            raise _refused(f"{kind} operation does not apply: path not found: /{'/'.join(path)}")
        if kind == "remove":
            del parent[last]
        else:
            parent[last] = operation["value"]
    else:
        raise _refused(f"path not found: /{'/'.join(path)}")
    return document


def strategic_merge_patch(target: Any, patch: Any, node: Node) -> Any:
    """A merge patch that merges keyed lists item by item, with the `$patch` family of directives."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _merge_map(target if isinstance(target, dict) else {}, patch, node)


def _merge_map(target: dict[str, Any], patch: dict[str, Any], node: Node) -> dict[str, Any]:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch directive: {directive}")
    result = dict(target)
    retained = patch.get("$retainKeys")
    if retained is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys"):
            continue
        command, _, name = key.partition("/")
        if command == "$deleteFromPrimitiveList":
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif command == "$setElementOrder":
            if name not in patch and isinstance(result.get(name), list):
                result[name] = _ordered(result[name], value, node.child(name))
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            held = result.get(key)
            result[key] = _merge_map(held if isinstance(held, dict) else {}, value, node.child(key))
        elif isinstance(value, list):
            result[key] = _merge_list(result.get(key), value, node.child(key))
            order = patch.get(f"$setElementOrder/{key}")
            if order is not None:
                result[key] = _ordered(result[key], order, node.child(key))
        else:
            result[key] = value
    return result


def _merge_key(node: Node) -> str:
    return node.merge_key or (node.keys[0] if node.list_type == "map" else "")


def _merge_list(target: Any, patch: list[Any], node: Node) -> list[Any]:
    held = list(target) if isinstance(target, list) else []
    key = _merge_key(node)
    if not key:
        if node.list_type != "set":
            return patch
        return held + [item for item in patch if item not in held]
    changes = [change for change in patch if isinstance(change, dict)]
    if any(change.get("$patch") == "replace" for change in changes):
        return [change for change in changes if "$patch" not in change]
    for change in changes:
        if key not in change:
            raise bad_request(f"map: {change} does not contain declared merge key: {key}")
        place = next((i for i, item in enumerate(held) if item.get(key) == change[key]), None)
        if change.get("$patch") == "delete":
            held = [item for item in held if item.get(key) != change[key]]
        elif place is None:
            held.append(_merge_map({}, change, node.item()))
        else:
            held[place] = _merge_map(held[place], change, node.item())
    return held


def _ordered(items: list[Any], order: list[Any], node: Node) -> list[Any]:
    """The items that the order names in its order; each of the others stays behind the one that it followed."""
    key = _merge_key(node)
    wanted = [entry.get(key) if isinstance(entry, dict) else entry for entry in order]

    def rank(item: Any) -> int | None:
        value = item.get(key) if key and isinstance(item, dict) else item
        return wanted.index(value) if value in wanted else None

    ranks: list[tuple[int, int]] = []
    last = -1
    for position, item in enumerate(items):
        found = rank(item)
        last = last if found is None else found
        ranks.append((last, position))
    return [items[position] for _, position in sorted(ranks)]
