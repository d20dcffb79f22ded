"""Writing that survives a power cut, one process at a time, with errors in plain words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RecordError

_PATIENCE = 60.0
"""Seconds to wait for another run of the same federation that is just moving its record into place."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No two runs of a federation change its folder at the same time. Raises RecordError after a minute."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise RecordError(
                        f"Another process has been writing in {folder} for {_PATIENCE:.0f} s.",
                        "wait for it, or end it; then run the same command again",
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def spoken_of(what: str, where: Path) -> Iterator[None]:
    """A full disk, a missing right and their kind, in plain words."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = "make room on that disk, and run the same command again"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            hint = "choose a folder that you may write to (--records)"
        else:
            hint = "see what is wrong with that folder, and run the same command again"
        reason = error.strerror or str(error)
        raise RecordError(f"{what} in {where}: {reason[:1].lower()}{reason[1:]}.", hint) from None


def write_file(path: Path, content: bytes) -> None:
    """All of it, on the disk, or nothing; readable by its owner only."""
    begun = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(begun, path)
    except BaseException:
        with contextlib.suppress(OSError):
            begun.unlink()
        raise


def sync(path: Path) -> None:
    """A file is on the disk when it is written there; a new name, when its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
