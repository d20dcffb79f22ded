"""Drills for real: a few faults on one sandbox, of which nothing is left; all of them are `make drill`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.drills import ground
from consulfed_lib.drills.catalogue import DRILLS
from consulfed_lib.drills.folders import own_folder
from consulfed_lib.sandbox.state import Folder

CHOSEN = ("stale-copy", "proxy-defaults-missing", "failed-job")
COMMAND = [sys.executable, "-m", "consulfed_lib.cli", "drill"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own, so that no other drill's sandbox is met; programs come from the usual cache."""
    return tmp_path_factory.mktemp("state")


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(home)}


@pytest.fixture(scope="module")
def done(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *CHOSEN, "-o", "json"], env=environment(home), capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_fault_is_named_and_nothing_else(report: dict[str, Any]) -> None:
    """By the check of the catalogue, in three looks, and all is well again; nothing was found before."""
    rows = {row["fault"]: row for row in report["drills"]}
    assert set(rows) == set(CHOSEN)
    for fault, row in rows.items():
        assert (row["check"], row["subject"]) == DRILLS[fault].cause
        assert row["passed"], row["why"]
        assert row["looks"] >= 3
        assert row["false_alarms"] == []
        assert row["named"] >= 0
        assert row["recovered"] >= 0
    assert rows["stale-copy"]["consequences"] > 0
    assert report["healthy"] == {"looks": 3, "alarms": []}


def test_progress_is_told_on_standard_error(done: subprocess.CompletedProcess[str]) -> None:
    """A line for each drill, so that standard output holds the report only."""
    for fault in CHOSEN:
        assert f"✔ {fault}: " in done.stderr


def test_nothing_is_left(report: dict[str, Any], home: Path) -> None:
    """No sandbox, no record: what the drills saw is in the report."""
    assert [each.name for each in (home / "consulfed" / "drills").iterdir()] == [".lock"]


def test_a_killed_drills_sandbox_is_taken_down_by_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor runs on; whoever holds drills next ends it and removes its folder."""
    drill = subprocess.Popen(
        [*COMMAND, "stale-copy"], env=environment(home), stderr=subprocess.PIPE, text=True
    )
    assert drill.stderr is not None
    assert "a sandbox with" in drill.stderr.readline()
    assert "federating" in drill.stderr.readline()
    drill.send_signal(signal.SIGKILL)
    drill.communicate()
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    (left,) = ground.home().glob("*/*/*/sandbox")
    supervisor = Folder(left).process()
    assert supervisor is not None
    told: list[str] = []
    with own_folder(ground.home(), "a drill", told.append):
        assert not supervisor.alive
    assert "of a drill that was killed" in told[0]
    assert [each.name for each in ground.home().iterdir()] == [".lock"]
