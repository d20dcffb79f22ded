"""Waiting for the state of the world: one function, with a deadline and the last state seen in its error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from .errors import ClusterError, WaitTimeoutError

HEARTBEAT = 15.0
"""Seconds without a change after which a wait says again that it waits, and for what."""


class Seen(NamedTuple):
    """One look at the world: whether it is as wanted, and its state in a few words."""

    done: bool
    state: str


def _looked(look: Callable[[], Seen]) -> Seen:
    """One look. An API server that is busy, restarts or drops a connection is a state of the world, too."""
    try:
        return look()
    except ClusterError as error:
        if error.status is None or error.status == 429 or error.status >= 500:
            return Seen(False, error.found)
        raise


def nap(seconds: float) -> None:
    """The pause where nothing can be watched: at most a quarter of a second."""
    time.sleep(min(seconds, 0.25))


def wait_for(
    what: str,
    look: Callable[[], Seen],
    timeout: float,
    *,
    until_changed: Callable[[float], object] = nap,
    hint: str = "",
    report: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Look until the world is as wanted; returns the seconds that it took.

    Args:
        what: what is waited for, as it stands in the progress lines and in the error.
        look: one look; what it raises ends the wait, but for a cluster that does not answer for a moment.
        timeout: deadline in seconds.
        until_changed: blocks until something may have changed, at most the seconds that it is given;
            `Bell.wait` of a watched cluster, or `nap`.
        hint: what to do when the deadline passes.
        report: gets one line whenever the state changes, and every HEARTBEAT seconds.

    Raises:
        WaitTimeoutError: the deadline passed; the error holds the last state seen.
    """
    start, told = clock(), 0.0
    last = None
    while True:
        seen = _looked(look)
        elapsed = clock() - start
        if seen.done:
            if last is not None:
                report(f"  {what}: {seen.state} after {elapsed:.1f} s")
            return elapsed
        if seen.state != last or elapsed >= told + HEARTBEAT:
            report(f"  waiting for {what}: {seen.state} (deadline in {max(0.0, timeout - elapsed):.0f} s)")
            last, told = seen.state, elapsed
        if elapsed >= timeout:
            raise WaitTimeoutError(
                f"{what} was not ready within {timeout:g} s. Last state seen: {seen.state}.",
                hint or "mend the cause and run the same notebook again; it goes on from here",
            )
        until_changed(timeout - elapsed)
