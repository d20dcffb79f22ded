"""Where things are on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from consulfed_lib import places


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    """A home folder of its own, with nothing in it and nothing said about other folders."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", places.SANDBOX_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def program(tmp_path):
    """Makes a program in a folder."""

    def make(folder: Path, name: str = "consulfed-test-program", mode: int = 0o755) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
        return path

    return make


def test_the_sandbox_is_in_the_users_state_folder(home, monkeypatch):
    """By default, and where XDG_STATE_HOME says, in that one."""
    assert places.sandbox_folder() == home / ".local/state/consulfed/sandbox"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "elsewhere"))
    assert places.sandbox_folder() == home / "elsewhere/consulfed/sandbox"


def test_the_variable_names_another_sandbox(home, monkeypatch):
    """So that tests and several sandboxes never meet; `~` and relative paths mean what a shell means by them."""
    monkeypatch.setenv(places.SANDBOX_VARIABLE, "~/mine")
    assert places.sandbox_folder() == home / "mine"
    monkeypatch.chdir(home)
    monkeypatch.setenv(places.SANDBOX_VARIABLE, "here")
    assert places.sandbox_folder() == home / "here"


def test_an_empty_variable_counts_as_none(home, monkeypatch):
    """`CONSULFED_SANDBOX= consulfed …` must not make the current folder the sandbox."""
    monkeypatch.setenv(places.SANDBOX_VARIABLE, "")
    assert places.sandbox_folder() == home / ".local/state/consulfed/sandbox"


def test_kubeconfig_and_chart_are_in_the_sandbox_that_is_meant(home, monkeypatch):
    """Runbook and sandbox agree on these two places and on nothing else."""
    monkeypatch.setenv(places.SANDBOX_VARIABLE, str(home / "a"))
    assert places.sandbox_kubeconfig() == home / "a/kubeconfig"
    assert places.sandbox_chart() == home / "a/chart/consul"


def test_a_program_is_looked_for_on_path_then_beside_python_then_among_the_fetched(
    home, monkeypatch, program
):
    """A person's own program wins over ours."""
    on_path, beside = program(home / "path"), program(home / "venv/bin")
    fetched = program(places.tools_folder())
    monkeypatch.setattr(sys, "executable", str(home / "venv/bin/python"))
    monkeypatch.setenv("PATH", str(home / "path"))
    found = []
    for path in (on_path, beside, fetched):
        found.append(places.find_program(path.name))
        path.unlink()
    assert found == [on_path, beside, fetched]
    assert places.find_program(on_path.name) is None


def test_a_file_that_cannot_be_run_is_no_program(home, monkeypatch, program):
    """A half-written download has no x bit yet."""
    monkeypatch.setenv("PATH", str(home / "path"))
    assert places.find_program(program(home / "path", mode=0o644).name) is None
