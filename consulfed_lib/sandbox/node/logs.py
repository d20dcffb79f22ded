"""The log of a container: the last lines in memory for `kubectl logs`, and all of it in a file."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

_LINES = 5000
_FILE_BYTES = 4 << 20


class ContainerLog:
    """Lines as they come; the file (0600) is begun anew, the former one kept beside it, after 4 MiB."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._lines: deque[bytes] = deque(maxlen=_LINES)
        self._count = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, line: str) -> None:
        if self._closed:
            return
        data = line.encode(errors="replace") + b"\n"
        self._lines.append(data)
        self._count += 1
        if os.fstat(self._file).st_size + len(data) > _FILE_BYTES:
            os.close(self._file)
            self._path.replace(self._path.with_suffix(".1.log"))
            self._file = self._open()
        os.write(self._file, data)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """No more lines come: who follows is at the end."""
        if not self._closed:
            self._closed = True
            os.close(self._file)
            self._wake()

    def last(self) -> str:
        """The last line, for the message of a container that ended; empty when there is none."""
        return self._lines[-1].decode().rstrip("\n") if self._lines else ""

    async def read(self, *, follow: bool, tail_lines: int | None) -> AsyncIterator[bytes]:
        """The lines, oldest first; with `follow` also those to come, until the log is closed."""
        kept = list(self._lines)
        begin = len(kept) if tail_lines is None else min(tail_lines, len(kept))
        position = self._count
        for line in kept[len(kept) - begin :]:
            yield line
        while follow:
            changed = self._changed
            missing = self._count - position
            position = self._count
            if missing:
                for line in list(self._lines)[-missing:]:
                    yield line
            elif self._closed:
                return
            else:
                await changed.wait()
