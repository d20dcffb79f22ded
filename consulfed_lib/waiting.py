"""Waiting for the state of the world: one function, with a deadline and the last state seen in its error.

Who tells of it is decided in one place: lines for a log (`Log`), or a display of its own where somebody is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

from .errors import ClusterError, WaitTimeoutError

HEARTBEAT = 15.0
"""Seconds without a change after which a wait says again that it waits, and for what."""


Note = Callable[[str, float], None]


class Watcher(Protocol):
    """Is told of one wait."""

    def saw(self, state: str, elapsed: float) -> None:
        """After each look that found the world not as wanted yet."""

    def done(self, state: str, elapsed: float) -> None:
        """The world is as wanted; also where the first look found it so."""

    def gave_up(self) -> None:
        """Something else ended it: the deadline, an error, a person."""


class Teller(Protocol):
    """Tells of all waits of this process."""

    def part(self, title: str) -> AbstractContextManager[Any]:
        """While one part of a step runs."""

    def begin(self, what: str, timeout: float) -> Watcher:
        """A wait begins."""

    def settle(self, value: Any) -> bool:
        """Show a picture in the place of the one drawn while it was waited; False where there is no such place."""


class Lines:
    """A line whenever the state changes, and every HEARTBEAT seconds."""

    def __init__(
        self, what: str, timeout: float, report: Callable[[str], None] = print, note: Note | None = None
    ):
        self._what, self._timeout, self._report, self._note = what, timeout, report, note
        self._last: str | None = None
        self._told = 0.0

    def saw(self, state: str, elapsed: float) -> None:
        if state != self._last or elapsed >= self._told + HEARTBEAT:
            left = max(0.0, self._timeout - elapsed)
            self._report(f"  waiting for {self._what}: {state} (deadline in {left:.0f} s)")
            self._last, self._told = state, elapsed

    def done(self, state: str, elapsed: float) -> None:
        if self._last is None:
            return
        self._report(f"  {self._what}: {state} after {elapsed:.1f} s")
        if self._note:
            self._note(self._what, elapsed)

    def gave_up(self) -> None:
        """The error says it."""


class Log:
    """Lines for whoever reads the log.

    Args:
        note: hears what was waited for, and the seconds that it took.
    """

    def __init__(self, note: Note | None = None):
        self._note = note

    def part(self, title: str) -> AbstractContextManager[Any]:
        return nullcontext()

    def begin(self, what: str, timeout: float) -> Watcher:
        return Lines(what, timeout, note=self._note)

    def settle(self, value: Any) -> bool:
        return False  # a log draws nothing


_teller: Teller = Log()


def teller() -> Teller:
    """Who tells of the waits of this process."""
    return _teller


def tell_by(other: Teller) -> None:
    """From now on, all waits of this process are told of by this one."""
    global _teller
    _teller = other


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
    report: Callable[[str], None] | None = None,
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
        report: gets the lines, instead of whoever tells of waits.

    Raises:
        WaitTimeoutError: the deadline passed; the error holds the last state seen.
    """
    start = clock()
    watcher = Lines(what, timeout, report) if report else teller().begin(what, timeout)
    try:
        while True:
            seen = _looked(look)
            elapsed = clock() - start
            if seen.done:
                break
            watcher.saw(seen.state, elapsed)
            if elapsed >= timeout:
                raise WaitTimeoutError(
                    f"{what} was not ready within {timeout:g} s. Last state seen: {seen.state}.",
                    hint or "mend the cause and run the same notebook again; it goes on from here",
                )
            until_changed(timeout - elapsed)
    except BaseException:
        watcher.gave_up()
        raise
    watcher.done(seen.state, elapsed)
    return elapsed
