"""The state of one cluster on disk, so that a sandbox whose supervisor was killed goes on where it was.

What an API server has answered is kept, as etcd keeps it: each write is in a journal before anybody hears of it. A
cluster that forgot the last second would miss tokens that Consul, whose data are on disk, was given meanwhile. The
journal lasts until the next snapshot, which has it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consulfed_lib.errors import SandboxError

from .store import Event, StorageKey, Store

DELAY = 1.0
"""Seconds between a write and the snapshot that has it, at most."""


class Snapshot:
    """Writes a store to a file (mode 0600, replaced as a whole) soon after it changes, and each write to a journal."""

    def __init__(self, store: Store, path: Path):
        self._store = store
        self._path = path
        self._journal_path = path.with_suffix(".journal")
        self._journal = -1
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def load(self) -> bool:
        """Fill the store from what is on disk; False when there is nothing.

        Raises:
            SandboxError: the file is not a snapshot.
        """
        try:
            found = self._path.exists() or self._journal_path.exists()
            if found:
                self._store.restore(self._state())
            return found
        except (ValueError, KeyError, TypeError) as error:
            raise SandboxError(
                f"{self._path} is no snapshot of a cluster ({error}).",
                "remove it; the cluster then starts empty.",
            ) from None

    def _state(self) -> dict[str, Any]:
        """The snapshot, with what the journal has of later writes."""
        state: dict[str, Any] = {"revision": 0, "objects": []}
        if self._path.exists():
            state = json.loads(self._path.read_bytes())
        objects = {_place(entry): entry for entry in state["objects"]}
        revision = state["revision"]
        for number, is_there, *entry in self._entries():
            if number <= revision:  # killed after the snapshot, and before its journal began anew
                continue
            revision = number
            if is_there:
                objects[_place(entry)] = entry
            else:
                objects.pop(_place(entry), None)
        return {"revision": revision, "objects": list(objects.values())}

    def _entries(self) -> Iterator[list[Any]]:
        """Each write of the journal; the last one may have been cut off, and nobody has heard of it then."""
        if self._journal_path.exists():
            *lines, _cut_off = self._journal_path.read_bytes().split(b"\n")
            yield from map(json.loads, lines)

    def start(self) -> None:
        """From now on, write what changes; what is there now first."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._journal = os.open(self._journal_path, flags, 0o600)
        self.write()
        self._store.on_write.append(self._note)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write the last state."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        self._store.on_write.remove(self._note)
        self.write()
        os.close(self._journal)
        self._journal_path.unlink()

    def write(self) -> None:
        data = json.dumps(self._store.state(), separators=(",", ":")).encode()
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(self._path)
        os.ftruncate(self._journal, 0)

    def _note(self, key: StorageKey, event: Event) -> None:
        entry = [event.revision, not event.deleted, *key, event.after]
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._journal, line) :]
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(DELAY)
            self._changed.clear()
            self.write()


def _place(entry: list[Any]) -> tuple[str, str, str, str]:
    """Where an object of the state belongs: group, plural, namespace, name."""
    group, plural, obj = entry
    metadata = obj["metadata"]
    return group, plural, metadata.get("namespace", ""), metadata["name"]
