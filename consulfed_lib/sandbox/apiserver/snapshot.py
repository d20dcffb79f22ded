"""The state of one cluster on disk, so that a sandbox whose supervisor was killed goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

from consulfed_lib.errors import SandboxError

from .store import Event, StorageKey, Store

DELAY = 1.0
"""Seconds between a write and the snapshot that has it, at most: what a crash may cost."""


class Snapshot:
    """Writes a store to a file (mode 0600, replaced as a whole) soon after it changes."""

    def __init__(self, store: Store, path: Path):
        self._store = store
        self._path = path
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def load(self) -> bool:
        """Fill the store from the file; False when there is none.

        Raises:
            SandboxError: the file is not a snapshot.
        """
        try:
            state = json.loads(self._path.read_bytes())
            self._store.restore(state)
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError) as error:
            raise SandboxError(
                f"{self._path} is no snapshot of a cluster ({error}).",
                "remove it; the cluster then starts empty.",
            ) from None
        return True

    def start(self) -> None:
        """From now on, write what changes."""
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

    def write(self) -> None:
        data = json.dumps(self._store.state(), separators=(",", ":")).encode()
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(self._path)

    def _note(self, key: StorageKey, event: Event) -> None:
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(DELAY)
            self._changed.clear()
            self.write()
