"""Child processes that do not outlive us: a killed run must not leave a Helm behind that goes on changing a cluster."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def ended_with_us(by: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """A `preexec_fn` for subprocess: the child gets that signal when the thread that started it ends, however it ends.

    None where the system cannot do that (only Linux can); the child then outlives a SIGKILL of its parent.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child may do as little as possible

    def in_the_child() -> None:
        prctl(_PR_SET_PDEATHSIG, by)

    return in_the_child


def named(name: str) -> None:
    """What lists of processes call this one from now on; of a longer name the first 15 bytes. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
