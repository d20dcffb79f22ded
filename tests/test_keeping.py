"""The keeper of a run's record: whatever there is in the end, a record is made of it, or it is said why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib import execution
from consulfed_lib.errors import KernelError, LeakError
from consulfed_lib.keeping import Keeper
from consulfed_lib.record.files import RUN
from consulfed_lib.record.statement import peek
from consulfed_lib.record.verify import verify
from consulfed_lib.redact import register

from . import recorded

SECRET = b"a-secret-that-a-kernel-met"


@pytest.fixture
def keeper(federation, tmp_path, monkeypatch) -> Callable[..., Keeper]:
    """The keeper of a run of the small notebooks; what it tells is in `keeper.told`."""
    monkeypatch.setattr(execution, "notebooks_folder", lambda: recorded.executed().runbook)
    told: list[str] = []

    def make(**changes: Any) -> Keeper:
        return Keeper(federation(**changes), "run", tmp_path / "records", "", None, told.append)

    make.told = told  # type: ignore[attr-defined]
    return make


def put(keeper: Keeper, label: str, size: int | None = None) -> Path:
    """An executed notebook, or its first bytes."""
    path = keeper.folder / recorded.FILES[label]
    path.write_bytes(recorded.executed().notebooks[label][:size])
    keeper.executed(path.name)
    return path


def test_a_notebook_that_was_not_written_to_its_end_is_left_out_and_named(keeper):
    """papermill writes it where it lies, and a disk may be full then: that is no fault to be reported to us."""
    with keeper(dry_run=False) as work:
        put(work, "verified")
        put(work, "applied", 5000)
        kept = work.finish(KernelError("The kernel did not come to its end: no space left on device"))
    said = peek((kept.folder / RUN).read_bytes())
    assert said is not None
    assert said["left_out"] == ["01-primary-setup.ipynb"]
    assert (kept.word, said["outcome"]) == ("failed", "failed")
    assert [each["file"] for each in said["notebooks"]] == ["00-preflight.ipynb"]
    assert verify(kept.folder).problems == []


def test_a_record_of_whole_notebooks_leaves_none_out(keeper):
    """And has a page of each."""
    with keeper(dry_run=False) as work:
        put(work, "verified")
        kept = work.finish(None)
    said = peek((kept.folder / RUN).read_bytes())
    assert said is not None
    assert "left_out" not in said
    assert kept.word == "verified"
    assert (kept.folder / "00-preflight.html").exists()
    assert verify(kept.folder).problems == []


def test_what_a_killed_run_left_is_scanned_for_what_this_run_has_met(keeper, tmp_path):
    """Its own secrets went with it; those of the same clusters are the same."""
    left = keeper(dry_run=False)
    left._staging.begin(left._begun)
    path = left.folder / "00-preflight.ipynb"
    path.write_bytes(recorded.executed().notebooks["verified"].replace(b"only one", SECRET))
    left._staging.close()
    register(SECRET)
    with keeper(dry_run=False) as work:
        put(work, "verified")
        kept = work.finish(None)
    assert any(left.run in line and "had left a secret" in line for line in keeper.told)
    assert sorted(each.name for each in (tmp_path / "records" / "test").iterdir()) == [
        ".lock",
        kept.folder.name,
    ]


def test_a_record_that_would_hold_a_secret_is_not_kept(keeper, tmp_path):
    """The run ends with that, whatever it had come to."""
    register(SECRET)
    with keeper(dry_run=False) as work:
        path = put(work, "verified")
        path.write_bytes(path.read_bytes().replace(b"only one", SECRET))
        with pytest.raises(LeakError):
            work.finish(None)
    assert [each.name for each in (tmp_path / "records" / "test").iterdir()] == [".lock"]


def test_a_run_can_be_thrown_away(keeper, tmp_path):
    """The engine found a secret in a notebook: nothing of the run is kept."""
    with keeper() as work:
        put(work, "verified")
        work.discard()
    assert [each.name for each in (tmp_path / "records" / "test").iterdir()] == [".lock"]
