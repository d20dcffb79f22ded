"""What an API server answers: objects, lists, refusals, and the events of a watch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

ADDED, MODIFIED, DELETED, SYNCED = "ADDED", "MODIFIED", "DELETED", "SYNCED"


class KubeError(Exception):
    """What the API server answered instead of success.

    `status` is the HTTP status, or 0 when there was no answer at all; `reason` is the Status object's reason
    (`NotFound`, `AlreadyExists`, `Conflict`, …), `ConnectionError` when there was no answer.
    """

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(f"{message} ({status} {reason})")
        self.status = status
        self.reason = reason
        self.message = message


def object_key(item: Object) -> tuple[str, str]:
    """(namespace, name); the namespace of a cluster-scoped object is the empty string."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def object_path(
    api_version: str,
    plural: str,
    name: str | None = None,
    namespace: str | None = None,
    subresource: str = "",
) -> str:
    """URL path of a collection or an object.

    >>> object_path("apps/v1", "deployments", "web", "consul", "status")
    '/apis/apps/v1/namespaces/consul/deployments/web/status'
    """
    parts = ["apis" if "/" in api_version else "api", api_version]
    if namespace:
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name:
        parts.append(name)
    if subresource:
        parts.append(subresource)
    return "/" + "/".join(parts)


def items_of(answer: Object) -> list[Object]:
    """The items of a list; a real server leaves apiVersion and kind out of each."""
    kind = answer["kind"].removesuffix("List")
    return [{"apiVersion": answer["apiVersion"], "kind": kind, **item} for item in answer["items"] or []]


def differences(known: dict[tuple[str, str], Object], items: list[Object]) -> Iterator[tuple[str, Object]]:
    """The changes that lead from `known` to `items`; brings `known` up to date as they are taken."""
    present = {object_key(item): item for item in items}
    for key in [key for key in known if key not in present]:
        yield DELETED, known.pop(key)
    for key, item in present.items():
        before = known.get(key)
        if before is not None and before["metadata"].get("uid") != item["metadata"].get("uid"):
            yield DELETED, known.pop(key)
            before = None
        known[key] = item
        if before is None:
            yield ADDED, item
        elif before["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
            yield MODIFIED, item


def refusal(status: int, text: str, doing: str) -> KubeError:
    """The error of an answer that is no success; `doing` stands in for a body without a message."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return KubeError(status, answer.get("reason", ""), answer.get("message", "") or text.strip() or doing)


def no_answer(method: str, path: str, error: BaseException) -> KubeError:
    """The error of a request that the server did not answer."""
    return KubeError(0, "ConnectionError", f"{method} {path}: {str(error) or type(error).__name__}")
