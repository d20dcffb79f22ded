"""Lists and watches, and the forms in which objects are shown: whole, as metadata only, as tables."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from aiohttp import web

from . import tables
from .cluster import Cluster
from .request import RequestInfo, Wanted
from .resources import Resource
from .rest import as_version
from .selectors import Matcher, matcher
from .status import ApiError, Cause, bad_request, expired, invalid, invalid_value
from .store import Event, Object

BOOKMARK_SECONDS = 60.0
_INITIAL_END = "k8s.io/initial-events-end"


def selected(info: RequestInfo, resource: Resource) -> Matcher | None:
    """What the selectors of a request ask for."""
    return matcher(info.option("labelSelector"), info.option("fieldSelector"), resource.storage_key)


def shown(obj: Object, resource: Resource, wanted: Wanted) -> dict[str, Any]:
    """One object in the form that the client takes."""
    if wanted.form == "Table":
        return tables.table(resource, [obj], wanted.parameters, obj["metadata"].get("resourceVersion", ""))
    if wanted.form == "PartialObjectMetadata":
        return _partial(obj, wanted)
    return obj


def _partial(obj: Object, wanted: Wanted) -> dict[str, Any]:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{wanted.version}",
        "metadata": obj["metadata"],
    }


def _check_revision(cluster: Cluster, info: RequestInfo) -> None:
    """Raises when the asked resourceVersion cannot be served."""
    asked, match = info.option("resourceVersion"), info.option("resourceVersionMatch")
    if match and match not in ("Exact", "NotOlderThan"):
        why = 'supported values: "", "Exact", "NotOlderThan"'
        raise _invalid_list(invalid_value("resourceVersionMatch", match, why))
    if match and not asked and not info.flag("sendInitialEvents"):
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _invalid_list(Cause("resourceVersionMatch", why, reason="FieldValueForbidden"))
    if asked and not asked.isdigit():
        raise bad_request(f'Invalid value: "{asked}": strconv.ParseUint: parsing "{asked}": invalid syntax')
    current = cluster.store.revision
    if asked and int(asked) > current:
        message = f"Timeout: Too large resource version: {asked}, current: {current}"
        raise ApiError(504, "Timeout", message, {"retryAfterSeconds": 1}, {"Retry-After": "1"})
    if match == "Exact" and int(asked) < current and not info.option("continue"):
        raise expired(f"The provided resource version {asked} is too old; only the current one is kept")


def _invalid_list(cause: Cause) -> ApiError:
    return invalid("ListOptions", "meta.k8s.io", "", [cause])


def list_objects(cluster: Cluster, info: RequestInfo, resource: Resource, wanted: Wanted) -> dict[str, Any]:
    """A list, a page of it when `limit` is given."""
    _check_revision(cluster, info)
    namespace = info.namespace if resource.namespaced else ""
    found = cluster.store.list(resource.storage_key, namespace, selected(info, resource))
    metadata: dict[str, Any] = {"resourceVersion": str(cluster.store.revision)}
    token, limit = info.option("continue"), info.number("limit") or 0
    if token:
        start = _decode_continue(token)
        found = [obj for obj in found if _place(obj) > start]
    if 0 < limit < len(found):
        if not (info.option("labelSelector") or info.option("fieldSelector")):
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
        metadata["continue"] = _encode_continue(found[-1])
    found = [as_version(obj, resource) for obj in found]
    if wanted.form == "Table":
        table = tables.table(resource, found, wanted.parameters, metadata["resourceVersion"])
        table["metadata"] = metadata
        return table
    if wanted.form.startswith("PartialObjectMetadata"):
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{wanted.version}",
            "metadata": metadata,
            "items": [_partial(obj, wanted) for obj in found],
        }
    return {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": found if resource.custom else [_without_type(obj) for obj in found],
    }


def _without_type(obj: Object) -> Object:
    """Items of a list of a built-in kind do not repeat apiVersion and kind."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}


def _place(obj: Object) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _encode_continue(last: Object) -> str:
    return base64.urlsafe_b64encode(json.dumps(_place(last)).encode()).decode()


def _decode_continue(token: str) -> list[str]:
    try:
        place = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        place = None
    if not isinstance(place, list) or len(place) != 2:
        raise bad_request("continue key is not valid: illegal base64 or JSON data")
    return place


class Watch:
    """One watch request: the events that it starts with, then those that come."""

    def __init__(self, cluster: Cluster, info: RequestInfo, resource: Resource, wanted: Wanted):
        _check_revision(cluster, info)
        self._cluster = cluster
        self._resource = resource
        self._wanted = wanted
        self._first = True
        self._namespace = info.namespace if resource.namespaced else ""
        self._matches = selected(info, resource)
        self._bookmarks = info.flag("allowWatchBookmarks")
        self._timeout = info.number("timeoutSeconds")
        self._initial = info.flag("sendInitialEvents")
        self._since = info.option("resourceVersion")
        if info.option("sendInitialEvents"):
            if info.option("resourceVersionMatch") != "NotOlderThan":
                why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                raise _invalid_list(Cause("sendInitialEvents", why, reason="FieldValueForbidden"))
        elif info.option("resourceVersionMatch"):
            why = (
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            )
            raise _invalid_list(Cause("resourceVersionMatch", why, reason="FieldValueForbidden"))

    async def run(self, response: web.StreamResponse, stopping: asyncio.Event) -> None:
        """Write events until the timeout, the client's end, or `stopping`."""
        store, key = self._cluster.store, self._resource.storage_key
        from_now = self._initial or self._since in ("", "0")
        current = store.list(key, self._namespace, self._matches) if from_now else []
        try:
            watcher = store.watch(key, self._namespace, store.revision if from_now else int(self._since))
        except ApiError as error:
            await response.write(_line("ERROR", error.status()))
            return
        try:
            revision = str(store.revision)
            for obj in current:
                await response.write(self._event("ADDED", obj))
            if self._initial:
                await response.write(self._bookmark(revision, initial=True))
            await self._follow(response, watcher, stopping)
        finally:
            store.unwatch(key, watcher)

    async def _follow(self, response: web.StreamResponse, watcher: Any, stopping: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._timeout if self._timeout else float("inf")
        bookmark_at = clock() + BOOKMARK_SECONDS
        while not stopping.is_set() and self._is_served():
            if watcher.overrun:
                await response.write(_line("ERROR", expired("the watcher was too slow").status()))
                return
            if watcher.pending:
                lines = [self._seen(watcher.pending.popleft()) for _ in range(len(watcher.pending))]
                data = b"".join(lines)
                if data:
                    await response.write(data)
                continue
            time = clock()
            if time >= end:
                return
            if time >= bookmark_at:
                bookmark_at = time + BOOKMARK_SECONDS
                if self._bookmarks:
                    await response.write(self._bookmark(str(self._cluster.store.revision)))
            await watcher.wait(min(end, bookmark_at) - time)

    def _is_served(self) -> bool:
        resource = self._resource
        return self._cluster.registry.get(resource.group, resource.version, resource.plural) is not None

    def _seen(self, event: Event) -> bytes:
        seen = event.as_seen_through(self._matches)
        return self._event(*seen) if seen else b""

    def _event(self, kind: str, obj: Object) -> bytes:
        obj = as_version(obj, self._resource)
        if self._wanted.form != "Table":
            return _line(kind, shown(obj, self._resource, self._wanted))
        revision = obj["metadata"].get("resourceVersion", "")
        table = tables.table(self._resource, [obj], self._wanted.parameters, revision)
        if not self._first:
            table["columnDefinitions"] = []
        self._first = False
        return _line(kind, table)

    def _bookmark(self, revision: str, initial: bool = False) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": revision, "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {_INITIAL_END: "true"}
        obj: Object = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": metadata,
        }
        if self._wanted.form == "Table":
            columns = tables.table(self._resource, [], self._wanted.parameters, revision)
            row = {"cells": [], "object": _partial(obj, self._wanted)}
            return _line("BOOKMARK", {**columns, "columnDefinitions": [], "rows": [row]})
        return _line("BOOKMARK", shown(obj, self._resource, self._wanted))


def _line(kind: str, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


def dump(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"
