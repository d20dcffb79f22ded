"""Waiting: a deadline, the last state seen, and not a second longer than needed."""

from __future__ import annotations

import inspect
import time

import pytest

from consulfed_lib import waiting
from consulfed_lib.errors import ApplyError, ClusterError, WaitTimeoutError
from consulfed_lib.waiting import Seen, nap, wait_for


class World:
    """A world whose states are given, one a look, and whose clock moves only when somebody waits for a change."""

    def __init__(self, *states: Seen, pause: float = 1.0):
        self.states = list(states)
        self.pause = pause
        self.now = 1000.0
        self.looks = 0
        self.lines: list[str] = []
        self.offered: list[float] = []

    def look(self) -> Seen:
        self.looks += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def until_changed(self, seconds: float) -> None:
        self.offered.append(seconds)
        self.now += min(self.pause, seconds)

    def wait(self, timeout: float = 10, **more: str) -> float:
        return wait_for(
            "the door", self.look, timeout,
            until_changed=self.until_changed, report=self.lines.append, clock=lambda: self.now, **more,
        )  # fmt: skip


SHUT, AJAR, OPEN = Seen(False, "shut"), Seen(False, "ajar"), Seen(True, "open")


def test_what_is_already_so_is_not_waited_for():
    """One look, no pause, no line: a second run must not chatter."""
    world = World(OPEN)
    assert world.wait() == 0
    assert (world.looks, world.offered, world.lines) == (1, [], [])


def test_it_returns_as_soon_as_it_is_so():
    """With the seconds that it took, and a line that says so."""
    world = World(SHUT, SHUT, OPEN)
    assert world.wait() == 2
    assert world.looks == 3
    assert "open" in world.lines[-1]
    assert "2.0 s" in world.lines[-1]


def test_a_state_is_told_once_and_each_new_one_again():
    """A log of a hundred equal lines hides the one that differs."""
    world = World(SHUT, SHUT, AJAR, AJAR, SHUT, OPEN)
    world.wait()
    assert [next(s for s in ("shut", "ajar", "open") if s in line) for line in world.lines] == [
        "shut",
        "ajar",
        "shut",
        "open",
    ]
    assert all("the door" in line for line in world.lines)


def test_the_deadline_ends_it_with_the_last_state_seen():
    """ "Timed out" alone tells nobody what to mend."""
    world = World(SHUT, AJAR)
    with pytest.raises(WaitTimeoutError) as caught:
        world.wait(5, hint="oil the hinge")
    error = caught.value
    assert "the door" in error.found
    assert "5 s" in error.found
    assert "ajar" in error.found
    assert "shut" not in error.found
    assert error.hint == "oil the hinge"
    assert isinstance(error, ApplyError)


def test_it_never_waits_beyond_the_deadline():
    """What may block is told how long at most, and there is a last look when that has passed."""
    world = World(SHUT, pause=4)
    with pytest.raises(WaitTimeoutError):
        world.wait(10)
    assert world.offered == [10, 6, 2]
    assert world.now == 1010
    assert world.looks == 4


def test_what_becomes_so_at_the_last_look_is_a_success():
    """The deadline is for the world, not for the clock."""
    world = World(SHUT, OPEN, pause=10)
    assert world.wait(10) == 10


def test_an_error_while_looking_ends_it_at_once():
    """A cluster that refuses will go on refusing; its own sentence is the better one."""

    def look() -> Seen:
        raise ClusterError("Refused.", status=403)

    with pytest.raises(ClusterError, match="Refused"):
        wait_for("the door", look, 10, report=lambda line: None)


def test_there_is_always_a_hint():
    """Also where the caller has none."""
    with pytest.raises(WaitTimeoutError) as caught:
        World(SHUT).wait(0)
    assert caught.value.hint


def test_a_nap_is_short(monkeypatch):
    """Where nothing can be watched, a look every quarter of a second, and never past the deadline."""
    slept: list[float] = []
    monkeypatch.setattr(waiting.time, "sleep", slept.append)
    nap(60)
    nap(0.1)
    assert slept == [0.25, 0.1]


def test_the_clock_of_a_real_wait_is_not_the_wall_clock():
    """A clock that is set while we wait must not end the wait, nor make it endless."""
    assert inspect.signature(wait_for).parameters["clock"].default is time.monotonic


@pytest.mark.parametrize("status", [None, 429, 500, 503])
def test_a_cluster_that_does_not_answer_for_a_moment_is_a_state(status: int | None) -> None:
    """An API server that restarts ends no wait; what it refuses does."""
    world = World(OPEN)
    errors = [ClusterError("it restarts", status=status)]

    def look() -> Seen:
        if errors:
            raise errors.pop()
        return world.look()

    took = wait_for(
        "the door",
        look,
        10,
        until_changed=world.until_changed,
        report=world.lines.append,
        clock=lambda: world.now,
    )
    assert took == 1
    assert "it restarts" in world.lines[0]
