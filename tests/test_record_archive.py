"""How a record gets to its place: whole and verified, or not at all, whatever happens at whatever moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.errors import KernelError, LeakError, RecordError
from consulfed_lib.record import predicate
from consulfed_lib.record.archive import Staging, abandoned, close_abandoned, discard, partials
from consulfed_lib.record.files import RUN, SUMS, sha256_of
from consulfed_lib.record.statement import peek
from consulfed_lib.record.verify import verify

from . import recorded
from .recorded import clean, fill, make


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


def begin(records: Path, labels: tuple[str, ...] = ("verified",)) -> Staging:
    """A run that is at work."""
    staging = Staging(records, "test")
    staging.begin(recorded.begun())
    fill(staging, labels)
    return staging


def finish(staging: Staging, scan: Any = clean) -> Path:
    said = predicate.ending(staging.facts() or {}, staging.path, None)
    staging.pages()
    return staging.finish(said, [], scan)


def killed(records: Path, labels: tuple[str, ...] = ("verified",)) -> Staging:
    """What is left of a run whose process is gone: the same files, and no lock."""
    staging = begin(records, labels)
    staging.close()
    return staging


def said(folder: Path) -> Any:
    return peek((folder / RUN).read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def hidden(records: Path) -> list[str]:
    """What is left beside the records, but for the federation's own lock."""
    return sorted(p.name for p in (records / "test").glob(".*") if p.name != ".lock")


# a run that ends as it should


def test_while_it_is_made_nobody_else_can_read_it(records):
    """0700, and the files of ours 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        staging = begin(records)
        staging.write("plan.json", b"{}\n")
    finally:
        os.umask(before)
    assert mode(staging.path) == 0o700
    assert mode(staging.path / "plan.json") == 0o600
    assert mode(records / "test") == 0o700
    assert {mode(path) for path in (records / "test").glob(".*.begun")} == {0o600}


def test_a_record_in_its_place_is_whole_verified_and_read_only(records):
    """Nothing of the making is left, and nothing in it can be written by accident."""
    staging = begin(records)
    folder = finish(staging)
    assert folder == staging.place
    assert verify(folder).problems == []
    assert sorted(path.name for path in folder.iterdir()) == [
        "00-preflight.html", "00-preflight.ipynb", SUMS, RUN
    ]  # fmt: skip
    assert {mode(path) for path in folder.iterdir()} == {0o400}
    assert mode(folder) == 0o500
    assert hidden(records) == []


def test_sha256sum_checks_it(records):
    """The list of digests is for tools that everybody has."""
    folder = make(records)
    done = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_record_names_the_one_before_it(records):
    """In the order in which they came to their place, not in that in which they began."""
    first, second = begin(records), begin(records)
    folders = [finish(second), finish(first), make(records)]
    links = [said(folder)["previous"] for folder in folders]
    assert links[0] is None
    assert [link["run"] for link in links[1:]] == [folder.name for folder in folders[:2]]
    assert [link["sha256"] for link in links[1:]] == [sha256_of(folder / RUN) for folder in folders[:2]]
    assert [verify(folder).problems for folder in folders] == [[], [], []]


def test_a_federation_has_a_chain_of_its_own(records):
    """Another federation's records say nothing about this one."""
    make(records)
    staging = Staging(records, "other")
    facts = recorded.begun() | {"federation": "other"}
    error = RecordError("nothing was executed")
    folder = staging.finish({"scan": None, **predicate.ending(facts, staging.path, error)}, [], clean)
    assert said(folder)["previous"] is None


def test_the_scan_sees_everything_in_clear_and_its_answer_is_in_the_record(records):
    """Also what run.json will say, which in its envelope is base64."""
    seen: dict[str, str] = {}

    def scan(folder: Path) -> dict[str, Any]:
        seen.update({path.name: path.read_text() for path in folder.iterdir()})
        return {"secrets": 7, "forms": 70, "files": len(seen), "hits": 0}

    folder = make(records, scan=scan)
    assert '"reason":"a test"' in seen[RUN]
    assert seen.keys() == {path.name for path in folder.iterdir()} - {SUMS}
    assert said(folder)["scan"] == {"secrets": 7, "forms": 70, "files": len(seen), "hits": 0}


# a run that must leave nothing


def test_a_hit_of_the_scan_leaves_nothing(records):
    """A record that would hold a secret is not kept anywhere, not even aside."""

    def scan(folder: Path) -> None:
        raise LeakError("a secret stands in it")

    with pytest.raises(LeakError, match="a secret stands in it"):
        make(records, scan=scan)
    assert [path.name for path in (records / "test").iterdir()] == [".lock"]


def test_what_does_not_show_what_it_says_is_kept_aside(records):
    """It is no record, and the next run does not take it for a killed one; a person can look at it."""
    staging = begin(records)
    wrong = predicate.ending(staging.facts() or {}, staging.path, None) | {"outcome": "applied"}
    staging.pages()
    with pytest.raises(RecordError, match="does not show what it says") as caught:
        staging.finish(wrong, [], clean)
    assert any("come to 'verified'" in detail for detail in caught.value.details)
    assert hidden(records) == [f".{staging.run}.refused"]
    assert not staging.place.exists()
    assert abandoned(records, "test") == []
    assert partials(records / "test") == [(staging.run, "refused")]


class _Killed(BaseException):
    """Everything ends here."""


def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> list[str]:
    """From the call of that number on, nothing is written or moved any more; returns the list of the calls."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def work(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) > at:
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, work)

    wrap("fsync")
    wrap("rename")
    return calls


POINTS = 13
"""Calls of fsync and rename between the end of a run's last notebook and the record in its place."""


@pytest.mark.parametrize("at", range(POINTS))
def test_a_full_disk_at_any_moment_never_leaves_half_a_record(records, monkeypatch, at):
    """It is said in plain words, nothing is in the record's place, and the next run closes what is left."""
    staging = begin(records)
    said_of_it = predicate.ending(staging.facts() or {}, staging.path, None)
    staging.pages()
    with monkeypatch.context() as patch:
        calls = failing(patch, at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(RecordError, match="no space left on device") as caught:
            staging.finish(said_of_it, [], clean)
    assert "make room" in caught.value.hint
    assert len(calls) >= at
    staging.close()
    if at == POINTS - 1:  # it was in its place already; only whether the disk has it was not known
        assert verify(staging.place).problems == []
        assert [close_abandoned(each, clean) for each in abandoned(records, "test")] == [None]
    else:
        assert not staging.place.exists()
        (left,) = abandoned(records, "test")
        folder = close_abandoned(left, clean)
        assert folder is not None
        assert verify(folder).problems == []
        assert said(folder)["outcome"] == "interrupted"
    assert hidden(records) == []


def test_these_are_all_the_moments(records, monkeypatch):
    """One more, and the record is in its place: the test above leaves none out."""
    staging = begin(records)
    said_of_it = predicate.ending(staging.facts() or {}, staging.path, None)
    staging.pages()
    with monkeypatch.context() as patch:
        calls = failing(patch, POINTS, _Killed())
        staging.finish(said_of_it, [], clean)
    assert len(calls) == POINTS


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root may write everywhere; for a moment it is nobody."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_a_missing_right_is_said_in_plain_words(records, request):
    """With what to do: another folder."""
    records.mkdir(mode=0o500)
    request.getfixturevalue("not_root")
    with pytest.raises(RecordError, match="permission denied") as caught:
        Staging(records, "test")
    assert "--records" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_said_in_plain_words(records):
    """A file lies in its place."""
    records.write_text("")
    with pytest.raises(RecordError, match="The record's folder cannot be made"):
        Staging(records, "test")


def test_a_file_is_written_whole_or_not_at_all(records, monkeypatch):
    """What was there before stays."""
    staging = begin(records)
    staging.write("plan.json", b"first")
    with monkeypatch.context() as patch:
        failing(patch, 0, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(RecordError, match=r"plan\.json cannot be written"):
            staging.write("plan.json", b"second")
    assert (staging.path / "plan.json").read_bytes() == b"first"
    assert [path.name for path in staging.path.glob(".*")] == []


def test_a_notebook_that_a_full_disk_cut_off_is_left_out_and_named(records):
    """papermill writes it where it lies; the record of the run is made of the others, and says so."""
    staging = begin(records, ("verified", "applied"))
    path = staging.path / "01-primary-setup.ipynb"
    path.write_bytes(path.read_bytes()[:5000])
    left_out = staging.tidy()
    error = KernelError("The kernel of 01-primary-setup did not come to its end: no space left on device")
    facts = staging.facts()
    assert facts is not None
    staging.pages()
    folder = staging.finish(predicate.ending(facts, staging.path, error) | {"left_out": left_out}, [], clean)
    assert left_out == said(folder)["left_out"] == ["01-primary-setup.ipynb"]
    assert said(folder)["outcome"] == "failed"
    assert verify(folder).problems == []


# what killed runs leave


CHILD = """
import json, sys
from pathlib import Path
from consulfed_lib.record.archive import Staging
staging = Staging(Path(sys.argv[1]), "test")
staging.begin(json.loads(sys.argv[2]))
print(staging.run, flush=True)
sys.stdin.read()
"""


def test_a_living_run_is_told_from_a_dead_one(records):
    """By a lock that falls with the process, also when it is killed outright."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(records), json.dumps(recorded.begun())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    run = child.stdout.readline().strip()
    assert partials(records / "test") == [(run, "at work")]
    assert abandoned(records, "test") == []
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert partials(records / "test") == [(run, "killed")]
    (left,) = abandoned(records, "test")
    assert left.run == run
    assert abandoned(records, "test") == []  # it is ours now, and nobody else's
    assert close_abandoned(left, clean) == records / "test" / run


def test_a_killed_run_is_closed_as_interrupted_whatever_it_had_come_to(records):
    """Its notebooks show how far it came; the record of the run never says that it succeeded."""
    run = killed(records, ("verified", "applied")).run
    (left,) = abandoned(records, "test")
    folder = close_abandoned(left, clean)
    assert folder is not None
    found = said(folder)
    assert folder.name == run
    assert verify(folder).problems == []
    assert found["outcome"] == "interrupted"
    assert "killed; closed by the run after it" in found["error"]["found"]
    assert [each["outcome"] for each in found["notebooks"]] == ["verified", "applied"]
    assert (folder / "01-primary-setup.html").exists()
    assert hidden(records) == []


def test_a_notebook_that_was_being_written_is_left_out_and_named(records):
    """Half a JSON file proves nothing; that it was there is said."""
    staging = killed(records, ("verified", "applied"))
    path = staging.path / "01-primary-setup.ipynb"
    path.write_bytes(path.read_bytes()[:5000])
    (left,) = abandoned(records, "test")
    folder = close_abandoned(left, clean)
    assert folder is not None
    assert said(folder)["left_out"] == ["01-primary-setup.ipynb"]
    assert not (folder / "01-primary-setup.ipynb").exists()
    assert verify(folder).problems == []


def test_the_plan_of_a_killed_run_is_not_kept(records):
    """Nobody may approve what did not come to its end; nor is anything else kept that is no evidence."""
    staging = killed(records)
    for name in ("plan.json", RUN, SUMS, ".x.tmp", "00-other.html"):
        (staging.path / name).write_text("{}")
    (left,) = abandoned(records, "test")
    folder = close_abandoned(left, clean)
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == [
        "00-preflight.html", "00-preflight.ipynb", SUMS, RUN
    ]  # fmt: skip
    assert said(folder)["plan"] is None


def test_a_killed_run_is_scanned_like_any_other(records):
    """A secret in what it left is not kept."""

    def scan(folder: Path) -> None:
        raise LeakError("a secret stands in it")

    killed(records)
    (left,) = abandoned(records, "test")
    with pytest.raises(LeakError):
        close_abandoned(left, scan)
    assert hidden(records) == []
    assert list((records / "test").glob("[0-9]*")) == []


def test_a_run_that_was_killed_before_it_did_anything_leaves_nothing(records):
    """There is nothing to tell of it."""
    Staging(records, "test").close()
    (left,) = abandoned(records, "test")
    assert close_abandoned(left, clean) is None
    assert hidden(records) == []


def test_notebooks_without_a_beginning_are_for_a_person_to_look_at(records):
    """Nothing is known of them, so nothing is claimed and nothing is deleted."""
    staging = killed(records)
    (records / "test" / f".{staging.run}.begun").unlink()
    (left,) = abandoned(records, "test")
    with pytest.raises(RecordError, match="without what it had written down"):
        close_abandoned(left, clean)
    assert (staging.path / "00-preflight.ipynb").exists()


def test_what_a_killed_run_left_can_be_thrown_away(records):
    """Also when it was killed with its files read-only already."""
    staging = killed(records)
    (staging.path / "00-preflight.ipynb").chmod(0o400)
    staging.path.chmod(0o500)
    (left,) = abandoned(records, "test")
    discard(left)
    assert hidden(records) == []


def test_without_records_nothing_is_abandoned(records):
    """The first run of all finds no folder."""
    assert abandoned(records, "test") == []


def test_a_federation_that_somebody_else_is_writing_to_is_waited_for_and_then_given_up(records, monkeypatch):
    """A process that was stopped in the middle holds up nobody for ever."""
    import fcntl

    monkeypatch.setattr("consulfed_lib.record.durable._PATIENCE", 0.0)
    staging = begin(records)
    with open(records / "test" / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match="Another process has been writing"):
            finish(staging)
    assert verify(finish(staging)).problems == []
