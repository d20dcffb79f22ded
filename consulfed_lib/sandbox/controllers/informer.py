"""Shared caches of the API server's objects, kept by one watch a kind, that tell whoever subscribed of
changes.

A controller decides on its cache, so what it has just written itself must be in there at once and not when
the watch brings it: otherwise it would create the same thing twice. `Informers.create` and its like do both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .client import ADDED, DELETED, MODIFIED, SYNCED, KubeClient, KubeError, Object, object_key

logger = logging.getLogger(__name__)

Listener = Callable[[str, Object, Object | None], None]
"""Called with ADDED, MODIFIED or DELETED, the object, and what was known of it before."""


class Informer:
    """The objects of one kind, as far as its watch and this process's own writes have told."""

    def __init__(self, client: KubeClient, api_version: str, plural: str, **selectors: str):
        self.api_version = api_version
        self.plural = plural
        self.items: dict[tuple[str, str], Object] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._selectors = selectors
        self._listeners: list[Listener] = []
        self._gone: set[str] = set()

    def subscribe(self, listener: Listener) -> None:
        """Be told of each change from now on; of what is there already, too, at once."""
        self._listeners.append(listener)
        for item in list(self.items.values()):
            listener(ADDED, item, None)

    def get(self, name: str, namespace: str = "") -> Object | None:
        return self.items.get((namespace, name))

    def all(self, namespace: str | None = None) -> list[Object]:
        """Those of one namespace, or all."""
        return [item for key, item in self.items.items() if namespace is None or key[0] == namespace]

    def owned(self, owner: Object) -> list[Object]:
        """Those of the same namespace whose controller `owner` is."""
        uid = owner["metadata"]["uid"]
        return [
            item
            for item in self.all(owner["metadata"].get("namespace", ""))
            if (controller := controller_of(item)) is not None and controller["uid"] == uid
        ]

    def observe(self, item: Object) -> None:
        """Take an object as the API server has just given it, unless something newer is known."""
        key, before = object_key(item), self.items.get(object_key(item))
        if item["metadata"]["uid"] in self._gone:
            return
        if before is not None and before["metadata"]["uid"] == item["metadata"]["uid"]:
            if _version(item) <= _version(before):
                return
        elif before is not None:
            self.forget(before)
            before = None
        self.items[key] = item
        self._tell(ADDED if before is None else MODIFIED, item, before)

    def forget(self, item: Object) -> None:
        """The object is gone; older news of it that are still on their way are ignored from now on."""
        self._gone.add(item["metadata"]["uid"])
        known = self.items.get(object_key(item))
        if known is not None and known["metadata"]["uid"] == item["metadata"]["uid"]:
            del self.items[object_key(item)]
            self._tell(DELETED, item, known)

    def _tell(self, kind: str, item: Object, before: Object | None) -> None:
        for listener in self._listeners:
            listener(kind, item, before)

    async def run(self) -> None:
        """Keep the cache; until cancelled."""
        watch = self._client.watch(self.api_version, self.plural, marks=True, **self._selectors)
        async for kind, item in watch:
            if kind == SYNCED:
                self.synced.set()
            elif kind == DELETED:
                self.forget(item)
                self._gone.discard(item["metadata"]["uid"])
            else:
                self.observe(item)


class Informers:
    """The informers of one client, each made when first asked for, and the writes that they know of at once."""

    def __init__(self, client: KubeClient):
        self.client = client
        self._made: dict[tuple[str, str], Informer] = {}

    def of(self, api_version: str, plural: str, **selectors: str) -> Informer:
        """The informer of a kind. The first to ask decides the selectors (`field_selector=…`)."""
        key = (api_version, plural)
        if key not in self._made:
            self._made[key] = Informer(self.client, api_version, plural, **selectors)
        return self._made[key]

    async def run(self) -> None:
        """Run all that were made; until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._made.values():
                group.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until each has seen a complete list."""
        for informer in self._made.values():
            await informer.synced.wait()

    async def create(self, plural: str, item: Object) -> Object:
        """Create an object of a kind that has an informer; of one that is there already, what is there."""
        api_version, namespace = item["apiVersion"], item["metadata"].get("namespace")
        try:
            made = await self.client.create(api_version, plural, item, namespace)
        except KubeError as error:
            name = item["metadata"].get("name")
            if error.reason != "AlreadyExists" or not name:
                raise
            made = await self.client.get(api_version, plural, name, namespace)
        self.of(api_version, plural).observe(made)
        return made

    async def delete(self, plural: str, item: Object, **options: Any) -> None:
        """Delete this very object (by its uid)."""
        metadata = item["metadata"]
        api_version, namespace = item["apiVersion"], metadata.get("namespace")
        await self.client.delete(
            api_version, plural, metadata["name"], namespace, uid=metadata["uid"], **options
        )
        left = await self.client.find(api_version, plural, metadata["name"], namespace)
        informer = self.of(api_version, plural)
        if left is None or left["metadata"]["uid"] != metadata["uid"]:
            informer.forget(item)
        else:
            informer.observe(left)

    async def patch(self, plural: str, item: Object, change: Object) -> Object:
        """Merge a change into an object."""
        metadata = item["metadata"]
        made = await self.client.merge_patch(
            item["apiVersion"], plural, metadata["name"], change, metadata.get("namespace")
        )
        self.of(item["apiVersion"], plural).observe(made)
        return made

    async def set_status(self, plural: str, item: Object, status: Object) -> Object:
        """Make the object's status exactly this; no request where it is so already."""
        before = item.get("status") or {}
        change = merge_patch_between(before, status)
        if not change:
            return item
        metadata = item["metadata"]
        made = await self.client.merge_patch(
            item["apiVersion"],
            plural,
            metadata["name"],
            {"metadata": {"uid": metadata["uid"]}, "status": change},
            metadata.get("namespace"),
            subresource="status",
        )
        self.of(item["apiVersion"], plural).observe(made)
        return made


def merge_patch_between(before: Object, after: Object) -> Object:
    """The JSON merge patch that leads from one object to the other.

    >>> merge_patch_between({"a": 1, "b": {"c": 2}, "d": 3}, {"a": 1, "b": {"c": 4}})
    {'b': {'c': 4}, 'd': None}
    """
    change: Object = {}
    for key, value in after.items():
        known = before.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            inner = merge_patch_between(known, value)
            if inner:
                change[key] = inner
        elif key not in before or known != value:
            change[key] = value
    for key in before:
        if key not in after:
            change[key] = None
    return change


def controller_of(item: Object) -> Object | None:
    """The owner reference of the controller that made an object, if one did."""
    return next(
        (owner for owner in item["metadata"].get("ownerReferences") or [] if owner.get("controller")), None
    )


def _version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
