"""What every controller is: a queue of names, and one worker that makes the world be as the named object
says.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from .client import KubeError, Object, object_key
from .informer import Informer, Informers, controller_of

logger = logging.getLogger(__name__)

Key = tuple[str, str]

_RETRY_SECONDS = (0.01, 0.05, 0.2, 1.0, 5.0)


class Controller(ABC):
    """Reconciles the objects of one kind, one at a time, whenever one of them or of their children changes."""

    api_version: str
    plural: str
    kind: str

    def __init__(self, informers: Informers):
        self.informers = informers
        self.own = informers.of(self.api_version, self.plural)
        self.own.subscribe(lambda change, item, before: self.enqueue(object_key(item)))
        self._due: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._failures: dict[Key, int] = {}

    def watch_children(self, informer: Informer) -> None:
        """Reconcile an object also when something that it controls changes."""

        def listener(change: str, item: Object, before: Object | None) -> None:
            owner = controller_of(item)
            if owner is not None and owner["kind"] == self.kind:
                self.enqueue((item["metadata"].get("namespace", ""), owner["name"]))

        informer.subscribe(listener)

    def enqueue(self, key: Key, delay: float = 0) -> None:
        """Have an object reconciled soon, or after so many seconds."""
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self.enqueue, key)
            return
        self._due[key] = None
        self._wake.set()

    @abstractmethod
    async def reconcile(self, item: Object) -> None:
        """Make the world as the object says. Called again upon each change; a KubeError is tried again."""

    async def removed(self, key: Key) -> None:
        """The object is not there (any more)."""
        return

    async def run(self) -> None:
        """Work on the queue; until cancelled."""
        await self.informers.synced()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                key = next(iter(self._due))
                del self._due[key]
                await self._work(key)

    async def _work(self, key: Key) -> None:
        item = self.own.get(key[1], key[0])
        try:
            if item is None:
                await self.removed(key)
            else:
                await self.reconcile(item)
        except KubeError as error:
            # A conflict, or something deleted meanwhile, is the ordinary way in which news arrive.
            usual = error.status in (0, 404, 409) and self._failures.get(key, 0) < len(_RETRY_SECONDS)
            logger.log(logging.DEBUG if usual else logging.WARNING, "%s %s/%s: %s", self.kind, *key, error)
            self._again(key)
        except Exception:
            # One object that is not understood must not end the work on all others.
            logger.exception("%s %s/%s", self.kind, *key)
            self._again(key)
        else:
            self._failures.pop(key, None)

    def _again(self, key: Key) -> None:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        self.enqueue(key, _RETRY_SECONDS[min(count, len(_RETRY_SECONDS) - 1)])


def now() -> str:
    """The time as Kubernetes writes it, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def since(timestamp: str) -> float:
    """Seconds from a Kubernetes time until now."""
    then = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - then).total_seconds()


def owner_reference(owner: Object) -> Object:
    """The reference with which a controller marks what it makes."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def digest(value: Any) -> str:
    """A short hash of any JSON value, for the names of revisions."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def with_condition(
    conditions: list[Object], kind: str, status: str, reason: str, message: str
) -> list[Object]:
    """The conditions with one of them set; the time of its transition is kept where its status is the same."""
    before = next((one for one in conditions if one["type"] == kind), None)
    if before is not None and before["status"] == status:
        if (before.get("reason", ""), before.get("message", "")) == (reason, message):
            return conditions
        since_when = before["lastTransitionTime"]
    else:
        since_when = now()
    condition = {
        "type": kind,
        "status": status,
        "lastTransitionTime": since_when,
        "reason": reason,
        "message": message,
    }
    if before is None:
        return [*conditions, condition]
    return [condition if one is before else one for one in conditions]
