"""What is waited for, while it is: only what was seen is shown, and a picture is drawn anew at changes only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib import waiting
from consulfed_lib.durations import Durations
from consulfed_lib.errors import WaitTimeoutError
from consulfed_lib.params import Federation
from consulfed_lib.show import Progress, Topology
from consulfed_lib.steps.coming_up import coming_up
from consulfed_lib.waiting import Seen, wait_for


class Screen:
    """What a front end was told to show, under which names; time moves with each look."""

    def __init__(self, picture: Callable[[Any], Any] = lambda seen: None):
        self.now = 100.0
        self.told: list[tuple[str, bool, str]] = []
        self.progress = Progress(Durations("test"), picture, self.update, lambda: self.now)

    def update(self, value: Any, name: str, again: bool) -> None:
        self.told.append((name, again, repr(value)))

    def shown(self, kind: str) -> list[str]:
        return [words for name, _, words in self.told if name.startswith(f"consulfed-{kind}")]

    def wait(self, what: str, *states: str, timeout: float = 60) -> None:
        looks = [*(Seen(False, state) for state in states), Seen(True, "well")]

        def later(seconds: float) -> None:
            self.now += 5

        wait_for(what, lambda: looks.pop(0), timeout, until_changed=later, clock=lambda: self.now)


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def make(*args: Any) -> Screen:
        made = Screen(*args)
        monkeypatch.setattr(waiting, "_teller", made.progress)
        return made

    return make


def test_all_waits_of_a_part_are_one_display(screen) -> None:
    """It is shown once, and written anew; the next part has one of its own. What was so already is not in it."""
    seen = screen()
    with seen.progress.part("Apply of dc1"):
        seen.wait("dc1: namespace")
        assert seen.told == []
        seen.wait("dc1: Consul", "servers 0/1", "servers 1/1")
        assert "1 of 1 still waited for" in seen.shown("rows")[0]
        seen.wait("dc1: secret", "none")
    with seen.progress.part("Verify of dc1"):
        seen.wait("dc1: look", "dark")
    names = [name for name, _, _ in seen.told]
    assert len(set(names)) == 2
    assert [again for name, again, _ in seen.told if name == names[0]][:2] == [False, True]
    last = [words for name, _, words in seen.told if name == names[0]][-1]
    assert last.splitlines()[0] == "Apply of dc1: nothing is waited for"
    assert "dc1: Consul  ✔ ready  well  10.0 s  not known yet" in last


def test_it_says_how_long_it_takes_usually_and_when_it_gives_up(screen) -> None:
    """Seconds so far beside the usual ones; a wait that ended otherwise is not called ready."""
    seen = screen()
    seen.wait("dc1: Consul", "a", "b", "c")
    seen.wait("dc1: Consul", "a", "b")
    assert "5 s so far, deadline in 55 s  15.0 s" in seen.shown("rows")[-2]
    with pytest.raises(WaitTimeoutError):
        seen.wait("dc1: Consul", "a", "b", timeout=5)
    last = seen.shown("rows")[-1]
    assert "✘ stopped  b" in last
    assert last.splitlines()[0].endswith(": stopped waiting for dc1: Consul")
    assert Durations("test").usual("dc1: Consul") == 12.5


def test_the_picture_is_drawn_at_changes_only(screen, federation: Callable[..., Federation]) -> None:
    """And holds what was seen, no more: no link counts as proven, and a datacenter nobody looked at has no facts."""
    params = federation()
    seen = screen(lambda states: coming_up(params, states))
    with seen.progress.part("Apply of dc1"):
        seen.wait(
            "dc1: Consul", "servers 0/1, gateway 0/1", "servers 0/1, gateway 0/1", "servers 1/1, gateway 0/1"
        )
        seen.wait("federation test", "looking")
    pictures = seen.shown("picture")
    assert len(pictures) == 3
    assert "dc1 (primary): servers 0/1, gateway 0/1" in pictures[0]
    assert "dc2 (secondary): not looked at here" in pictures[-1]
    assert "dc1 → dc2: not proven" in pictures[-1]
    assert " ok" not in pictures[-1]


def test_the_final_picture_takes_the_place_of_the_last_one(screen) -> None:
    """Two of the same would be read as two states; where nothing was drawn, and for what is none, there is no place."""
    final = Topology({"dc1": []}, {})
    seen = screen(lambda states: Topology({"dc1": list(states.values())}, {}))
    with seen.progress.part("Verify of dc1"):
        assert not waiting.teller().settle(final)
        seen.wait("dc1: look", "dark")
        assert not waiting.teller().settle("findings")
        assert waiting.teller().settle(final)
    assert len({name for name, *_ in seen.told if name.startswith("consulfed-picture")}) == 1
    assert seen.shown("picture")[-1] == repr(final)
    with seen.progress.part("Verify of dc1"):
        assert not waiting.teller().settle(final)
    assert not waiting.Log().settle(final)


def test_a_datacenter_keeps_its_newest_facts(federation: Callable[..., Federation]) -> None:
    """As many as its box has room for."""
    drawn = coming_up(federation(), {"dc1: Consul": "a, b, c", "dc1: secret": "d", "dc2: Consul": "e"})
    assert isinstance(drawn, Topology)
    assert drawn.datacenters == {"dc1": ["b", "c", "d"], "dc2": ["e"]}
