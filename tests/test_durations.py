"""How long waits took before: told to who waits now, and nothing depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consulfed_lib import waiting
from consulfed_lib.durations import Durations
from consulfed_lib.waiting import Log, Seen, wait_for


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "consulfed" / "waits"


def test_the_usual_time_is_the_median_of_the_last_five(state: Path) -> None:
    """One slow day is not usual, nor is last year."""
    durations = Durations("shop")
    assert durations.usual("dc1: Consul") is None
    for seconds in (1000, 10, 12, 300, 11, 13):
        durations.note("dc1: Consul", seconds)
    assert Durations("shop").usual("dc1: Consul") == 12
    assert durations.usual("dc2: Consul") is None
    assert Durations("other").usual("dc1: Consul") is None
    assert [path.name for path in state.iterdir()] == ["shop.json"]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 3}', '{"a": ["x"]}', '{"a": []}'])
def test_what_cannot_be_read_is_not_usual(state: Path, content: str) -> None:
    """A file that somebody edited or a disk that filled up ends no run."""
    state.mkdir(parents=True)
    (state / "shop.json").write_text(content)
    durations = Durations("shop")
    assert durations.usual("a") is None
    durations.note("a", 2)
    assert durations.usual("a") == 2


def test_where_nothing_may_be_written_nothing_is_usual(state: Path) -> None:
    """And nothing fails of it."""
    state.parent.mkdir(parents=True)
    state.write_text("a file where the folder should be")
    durations = Durations("shop")
    durations.note("a", 2)
    assert durations.usual("a") is None


def test_only_what_was_waited_for_is_noted(state: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """What was so already, and what never became so, took no usual time. A log is written as without it."""
    noted: list[tuple[str, float]] = []
    monkeypatch.setattr(waiting, "_teller", Log(lambda what, took: noted.append((what, took))))
    looks = [Seen(True, "open"), Seen(False, "shut"), Seen(True, "open")]
    for _ in range(2):
        wait_for("the door", lambda: looks.pop(0), 10, until_changed=lambda seconds: None)
    with pytest.raises(waiting.WaitTimeoutError):
        wait_for("the wall", lambda: Seen(False, "shut"), 0)
    assert [what for what, _ in noted] == ["the door"]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "  waiting for the door: shut (deadline in 10 s)",
        "  the door: open after 0.0 s",
    ]
