"""The objects of one cluster in memory, their revisions, and what watchers are told.

A stored object is never changed in place: a write puts a new dict in its stead, so that reads, watch
events and the history may share it without copying.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .selectors import Matcher
from .status import expired

Object = dict[str, Any]
StorageKey = tuple[str, str]
"""(group, plural): all versions of a resource share their objects."""

_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""What generated names are made of: no vowels, so that no words come out."""

HISTORY = 400
"""Events remembered of each resource: a watch that starts further back gets 410."""

SLOW_WATCHER = 5000
"""Events that a watcher may lag behind before it is cut off; it then lists again."""


def now() -> str:
    """The time as metav1.Time has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    return str(uuid.uuid4())


def generated_name(prefix: str) -> str:
    """What `generateName` makes of a prefix."""
    return prefix[:58] + "".join(secrets.choice(_NAME_LETTERS) for _ in range(5))


def clone(value: Any) -> Any:
    """A private copy of JSON data; quicker than copy.deepcopy."""
    return json.loads(json.dumps(value))


@dataclass(frozen=True, slots=True)
class Event:
    """One write. `before` is None for a creation; `after` of a deletion is the object's last state."""

    revision: int
    before: Object | None
    after: Object
    deleted: bool = False

    def as_seen_through(self, matches: Matcher | None) -> tuple[str, Object] | None:
        """(type, object) that a watcher with that selector sees: one that stops matching is DELETED for it."""
        was = self.before is not None and (matches is None or matches(self.before))
        is_now = not self.deleted and (matches is None or matches(self.after))
        if is_now:
            return ("MODIFIED" if was else "ADDED"), self.after
        return ("DELETED", self.after) if was else None


class Watcher:
    """Events of one resource (and namespace) from now on, in order."""

    def __init__(self, namespace: str):
        self.namespace = namespace
        self.pending: deque[Event] = deque()
        self.overrun = False
        self._wake = asyncio.Event()

    def offer(self, event: Event) -> None:
        if self.namespace and event.after["metadata"].get("namespace") != self.namespace:
            return
        if len(self.pending) >= SLOW_WATCHER:
            self.overrun = True
        else:
            self.pending.append(event)
        self._wake.set()

    def wake(self) -> None:
        """Make `wait` return even without an event."""
        self._wake.set()

    async def wait(self, timeout: float) -> None:
        """Returns when there is something pending, or after `timeout` seconds."""
        if self.pending or self.overrun:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return


@dataclass
class _Table:
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: deque[Event] = field(default_factory=lambda: deque(maxlen=HISTORY))
    forgotten: int = 0
    watchers: set[Watcher] = field(default_factory=set)


class Store:
    """Objects by (group, plural) and (namespace, name); cluster-scoped ones have the namespace ``""``.

    `on_write` callbacks run at once within each write: (storage key, event).
    """

    def __init__(self) -> None:
        self.revision = 1
        self.on_write: list[Callable[[StorageKey, Event], None]] = []
        self._tables: dict[StorageKey, _Table] = {}
        self._by_uid: dict[str, tuple[StorageKey, str, str]] = {}

    def _table(self, key: StorageKey) -> _Table:
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = _Table(forgotten=self.revision)
        return table

    def get(self, key: StorageKey, namespace: str, name: str) -> Object | None:
        table = self._tables.get(key)
        return table.objects.get((namespace, name)) if table else None

    def find(self, uid: str) -> tuple[StorageKey, Object] | None:
        """The living object of that uid."""
        place = self._by_uid.get(uid)
        if place is None:
            return None
        key, namespace, name = place
        return key, self._tables[key].objects[(namespace, name)]

    def list(self, key: StorageKey, namespace: str = "", matches: Matcher | None = None) -> list[Object]:
        """Objects in the order of namespace and name; all namespaces when it is ``""``."""
        table = self._tables.get(key)
        if table is None:
            return []
        found = [
            obj
            for place, obj in table.objects.items()
            if (not namespace or place[0] == namespace) and (matches is None or matches(obj))
        ]
        found.sort(key=lambda obj: (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
        return found

    def everything(self) -> Iterator[tuple[StorageKey, Object]]:
        for key, table in self._tables.items():
            for obj in table.objects.values():
                yield key, obj

    def put(self, key: StorageKey, obj: Object) -> Object:
        """Store that object, new or in place of the one of its name; returns it with its resourceVersion."""
        self.revision += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.revision)}
        stored = {**obj, "metadata": metadata}
        place = (metadata.get("namespace", ""), metadata["name"])
        table = self._table(key)
        before = table.objects.get(place)
        table.objects[place] = stored
        self._by_uid[metadata["uid"]] = (key, *place)
        self._tell(key, table, Event(self.revision, before, stored))
        return stored

    def remove(self, key: StorageKey, obj: Object) -> Object:
        """Take the object away; returns its last state, with the revision of the deletion."""
        self.revision += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.revision)}
        table = self._table(key)
        before = table.objects.pop((metadata.get("namespace", ""), metadata["name"]))
        self._by_uid.pop(before["metadata"]["uid"], None)
        last = {**obj, "metadata": metadata}
        self._tell(key, table, Event(self.revision, before, last, deleted=True))
        return last

    def _tell(self, key: StorageKey, table: _Table, event: Event) -> None:
        if len(table.history) == HISTORY:
            table.forgotten = table.history[0].revision
        table.history.append(event)
        for watcher in table.watchers:
            watcher.offer(event)
        for callback in self.on_write:
            callback(key, event)

    def watch(self, key: StorageKey, namespace: str, since: int) -> Watcher:
        """A watcher that begins after revision `since`; end it with `unwatch`.

        Raises:
            ApiError: 410 when events after `since` are forgotten already.
        """
        table = self._table(key)
        if since < table.forgotten:
            raise expired(f"too old resource version: {since} ({table.forgotten})")
        watcher = Watcher(namespace)
        for event in table.history:
            if event.revision > since:
                watcher.offer(event)
        table.watchers.add(watcher)
        return watcher

    def unwatch(self, key: StorageKey, watcher: Watcher) -> None:
        self._table(key).watchers.discard(watcher)

    def wake_watchers(self) -> None:
        """Let every watcher look up: the server stops, or a resource is no longer served."""
        for table in self._tables.values():
            for watcher in table.watchers:
                watcher.wake()

    def state(self) -> dict[str, Any]:
        """Everything as JSON data."""
        return {
            "revision": self.revision,
            "objects": [[*key, obj] for key, obj in self.everything()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state()` was; watchers of before must list again."""
        self.revision = state["revision"]
        self._tables.clear()
        self._by_uid.clear()
        for group, plural, obj in state["objects"]:
            key, metadata = (group, plural), obj["metadata"]
            place = (metadata.get("namespace", ""), metadata["name"])
            self._table(key).objects[place] = obj
            self._by_uid[metadata["uid"]] = (key, *place)
