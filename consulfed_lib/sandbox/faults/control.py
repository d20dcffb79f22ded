"""How a fault reaches the sandbox's own processes: it is remembered, and the supervisor is told to look.

The supervisor listens at a Unix socket in the sandbox's volatile folder, which only its user can enter. Each
connection is one wish to look at the memory of faults; the answer comes when what it says is so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import SandboxError
from ..disturbances import Disturbance
from ..state import Folder
from .memory import remembered
from .waiting import SECONDS

logger = logging.getLogger(__name__)

KIND = "disturbance"
"""Entries of the memory that are the supervisor's to carry out."""

_SOCKET = "control"

Apply = Callable[[Iterable[Disturbance]], Awaitable[None]]


class Control:
    """The supervisor's end.

    Args:
        apply: returns when exactly these disturbances are in force.
    """

    def __init__(self, folder: Folder, apply: Apply):
        self._folder = folder
        self._apply = apply
        self._server: asyncio.Server | None = None
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Carry out what is remembered, then listen."""
        await self._look()
        self._folder.volatile.mkdir(mode=0o700, exist_ok=True)
        with _short(self._folder.volatile) as folder:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(f"{folder}/{_SOCKET}")
            os.chmod(f"{folder}/{_SOCKET}", 0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def stop(self) -> None:
        """Listen no more; harmless when it does not."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _look(self) -> None:
        wanted = [
            Disturbance(*entry[KIND])
            for memory in remembered(self._folder)
            for entry in memory.entries
            if entry["kind"] == KIND
        ]
        if wanted:
            logger.info("disturbed: %s", ", ".join(f"{one.what} ({one.cluster})" for one in wanted))
        await self._apply(wanted)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        problem = ""
        try:
            async with self._one_at_a_time:
                await self._look()
        except OSError as error:
            logger.exception("faults")
            problem = str(error)
        writer.write(json.dumps({"problem": problem}).encode() + b"\n")
        writer.close()


async def look(folder: Folder) -> None:
    """Tell the supervisor to look; returns when what is remembered is so. Raises SandboxError or OSError."""
    with _short(folder.volatile) as short:
        reader, writer = await asyncio.open_unix_connection(f"{short}/{_SOCKET}")
    try:
        answer = await asyncio.wait_for(reader.readline(), SECONDS)
    finally:
        writer.close()
    problem = json.loads(answer)["problem"] if answer else "it ended meanwhile"
    if problem:
        raise SandboxError(f"The sandbox's supervisor could not do it: {problem}.", f"see {folder.log}.")


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short path of a folder: the name of a Unix socket has at most 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
