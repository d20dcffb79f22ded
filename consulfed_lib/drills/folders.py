"""Folders of sandboxes that live as long as a command: who is killed leaves one that runs, and the next takes it down.

Each folder is locked by its process for as long as that lives, so that the next one knows whose sandbox nobody needs
any more. One that somebody wants to keep stays as long as its sandbox is up.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..sandbox import lifecycle
from ..sandbox.state import Folder, remove_tree

Tell = Callable[[str], None]

_NAMES = "sandbox-"
_KEPT = ".kept"


def keep(folder: Path) -> None:
    """Have it outlive this process, until its sandbox is taken down."""
    (folder / _KEPT).touch(mode=0o600)


@contextmanager
def own_folder(home: Path, whose: str, tell: Tell) -> Iterator[Path]:
    """A new folder that is locked while this process lives; before that, what killed ones left is taken down.

    Args:
        whose: such as `a drill`, for who reads that its sandbox was left.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / ".lock").open("w") as door:
        # So that no other one takes a folder that is not locked yet for one that was left.
        fcntl.flock(door, fcntl.LOCK_EX)
        _take_down_what_is_left(home, whose, tell)
        folder = Path(tempfile.mkdtemp(prefix=_NAMES, dir=home))
        mine = (folder / ".lock").open("w")
        fcntl.flock(mine, fcntl.LOCK_EX)
    with mine:
        try:
            yield folder
        finally:
            if not (folder / _KEPT).exists():
                remove_tree(folder)


def _take_down_what_is_left(home: Path, whose: str, tell: Tell) -> None:
    for folder in sorted(home.glob(f"{_NAMES}*")):
        descriptor = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its process lives
            continue
        else:
            left = [Folder(marker.parent) for marker in folder.glob("**/.consulfed-sandbox")]
            kept = (folder / _KEPT).exists()
            if kept and any(each.process() for each in left):
                continue
            if not kept:
                tell(f"taking down the sandbox of {whose} that was killed: {folder}")
            for each in left:
                lifecycle.down(each, False, lambda line: None)
            remove_tree(folder)
        finally:
            os.close(descriptor)
