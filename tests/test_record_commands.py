"""`consulfed record`, as a person and as a pipeline use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from consulfed_lib import cli
from consulfed_lib.errors import RecordError
from consulfed_lib.record.archive import Staging
from consulfed_lib.record.differ import difference
from consulfed_lib.record.find import find, read
from consulfed_lib.record.keys import load_signer

from . import recorded
from .recorded import make, writable
from .test_record_statement import write_pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("keys"), ed25519.Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Path:
    """A plan, its apply (signed), and a run that failed; never edited."""
    folder = tmp_path_factory.mktemp("records")
    make(folder, ("planned",), kind="plan", change_id="CH-1")
    make(folder, ("verified", "applied"), [load_signer(keys[0])])
    make(folder, ("verified", "failed"))
    return folder


@pytest.fixture
def names(records: Path) -> dict[str, str]:
    """Outcome → run."""
    return {read(folder).predicate.outcome: folder.name for folder in (records / "test").glob("[0-9]*")}


@pytest.fixture
def record(records: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs `consulfed record …`; returns (exit code, standard output, standard error)."""

    def run(*words: Any, of: Path = records) -> tuple[int, str, str]:
        code = cli.main(["record", words[0], "--records", str(of), *map(str, words[1:])])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def edited(records: Path, tmp_path: Path, names: dict[str, str]) -> Path:
    """A copy of the records; of the applied one, a byte of a notebook was added."""
    shutil.copytree(records, tmp_path / "records")
    with writable(tmp_path / "records" / "test" / names["applied"]) as folder:
        (folder / "00-preflight.ipynb").write_bytes((folder / "00-preflight.ipynb").read_bytes() + b"x")
    return tmp_path / "records"


# list


def test_list_is_a_line_for_each_record(record, names):
    """Run, kind, outcome, change id, plan, signature and chain."""
    code, out, _ = record("list")
    assert code == 0
    lines = {line.split()[3]: line for line in out.splitlines()[2:]}
    assert set(lines) == set(names.values())
    assert "CH-1" in lines[names["planned"]]
    assert lines[names["planned"]].split()[-2:] == ["no", "first"]
    assert lines[names["applied"]].split()[-2:] == ["yes", "ok"]
    assert "failed" in lines[names["failed"]]


def test_list_for_a_machine_and_of_one_federation(record, names, tmp_path):
    """By its name or its params file."""
    params = tmp_path / "test.yaml"
    params.write_text(json.dumps(recorded.RAW))
    for which in ("test", params):
        code, out, _ = record("list", which, "-o", "json")
        assert code == 0
        rows = json.loads(out)
        assert {row["run"]: row["result"] for row in rows} == {run: word for word, run in names.items()}
        assert {row["run"]: len(row["plan"]) for row in rows}[names["planned"]] == 12
    assert json.loads(record("list", "other", "-o", "json")[1]) == []


def test_list_says_where_the_chain_is_broken(record, records, names, tmp_path):
    """By a record that was edited, and by one that is gone."""
    shutil.copytree(records, tmp_path / "records")
    with writable(tmp_path / "records" / "test" / names["planned"]) as first:
        (first / "run.json").write_bytes(b"{}")
    rows = json.loads(record("list", "-o", "json", of=tmp_path / "records")[1])
    assert {row["run"]: row["chain"] for row in rows}[names["applied"]] == "broken"
    assert {row["run"]: row["result"] for row in rows}[names["planned"]] == "cannot be read: verify it"
    shutil.rmtree(first)
    rows = json.loads(record("list", "-o", "json", of=tmp_path / "records")[1])
    assert {row["run"]: row["chain"] for row in rows}[names["applied"]] == "not here"


def test_list_shows_what_is_no_record(record, tmp_path):
    """What a killed run left, until the next run closes it, and what is at work now."""
    killed, working = Staging(tmp_path, "test"), Staging(tmp_path, "test")
    killed.close()
    rows = json.loads(record("list", "-o", "json", of=tmp_path)[1])
    assert {row["run"]: row["result"] for row in rows} == {
        killed.run: "killed, not a record", working.run: "at work, not a record"
    }  # fmt: skip
    working.close()


def test_list_without_records_is_no_error(record, tmp_path):
    """The first look of all."""
    code, out, _ = record("list", of=tmp_path / "none")
    assert code == 0
    assert "none" in out
    assert record("list", "no/such", of=tmp_path)[0] == 52


# show


def test_show_is_for_a_person(record, names, keys):
    """Who, why, when, where, what came of it, and how to undo it."""
    code, out, _ = record("show", names["applied"])
    assert code == 0
    assert out.splitlines()[0] == f"test, run {names['applied']}: APPLIED"
    for text in ("ann in dc1", "a test", "UID uid-1", "2 ok, 2 warning", "by key", "+ dc1: release: created"):
        assert text in out
    assert out.index("What changed") < out.index("How to undo it") < out.index("helm uninstall consul")
    assert "NOT INTACT" not in out


def test_show_of_a_failure_leads_with_it(record, names):
    """The error and its remedy."""
    out = record("show", names["failed"])[1]
    assert out.splitlines()[0].endswith(": FAILED")
    for text in ("ApplyError: The hook failed.", "- dc2: no pod", "What to do: mend it"):
        assert text in out
    assert "How to undo it" not in out


def test_show_of_a_plan_says_what_would_change(record, names):
    """It is what a reviewer reads."""
    out = record("show", names["planned"])[1]
    assert "a plan for approval, dry: nothing was written" in out
    assert "What would change\n  + dc1: release: would create: release consul" in out


def test_show_of_an_edited_record_says_so_loudly(record, names, edited):
    """Who reads it must not believe it."""
    code, out, _ = record("show", names["applied"], of=edited)
    assert code == 0
    assert "NOT INTACT" in out.splitlines()[1]


def test_show_for_a_machine_is_what_was_signed(record, names):
    """The predicate, and the verdict."""
    found = json.loads(record("show", names["applied"], "-o", "json")[1])
    assert found["intact"] is True
    assert found["predicate"]["run"] == names["applied"]


# verify


def test_verify_says_the_outcome_loudly(record, names):
    """An intact record may be one of a failure: exit code 0, and the word in capitals."""
    code, out, err = record("verify", names["failed"])
    assert (code, err) == (0, "")
    assert "intact; outcome FAILED" in out


def test_verify_looks_at_everything_it_is_given(record, names, edited):
    """One that is broken hides no other; each file is named, and the exit code is that of a broken record."""
    broken, missing = names["applied"], "20010101T000000Z-000000"
    code, out, err = record("verify", broken, missing, names["failed"], of=edited)
    assert code == 52
    assert "2 of 3 are not what" in err
    assert f"{broken}: 00-preflight.ipynb: it was edited" in err
    assert f"There is no record {missing}" in err
    assert "intact; outcome FAILED" in out


def test_verify_with_a_key_wants_a_signature_of_it(record, names, keys, tmp_path):
    """Unsigned is then an error, and so is another key."""
    assert record("verify", names["applied"], "--key", keys[1])[0] == 0
    code, _, err = record("verify", names["failed"], "--key", keys[1])
    assert code == 52
    assert "run.json: it is unsigned" in err
    other = write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "other")[1]
    code, _, err = record("verify", names["applied"], "--key", other)
    assert code == 52
    assert "signed by another key" in err
    assert record("verify", names["applied"], "--key", other, "--key", keys[1])[0] == 0


def test_verify_for_a_machine(record, names, edited):
    """A list, one verdict an argument; the error is beside it, on the other channel."""
    code, out, _ = record("verify", names["applied"], names["failed"], "-o", "json", of=edited)
    first, second = json.loads(out)
    assert code == 52
    assert (first["intact"], second["intact"]) == (False, True)
    assert second["facts"]["outcome"] == "failed"


def test_verify_takes_a_notebook_of_papermill(record, tmp_path, keys, monkeypatch):
    """Against the installed runbook; it has no signature that a key could check."""
    monkeypatch.setattr("consulfed_lib.execution.notebooks_folder", lambda: recorded.executed().runbook)
    path = tmp_path / "out.ipynb"
    path.write_bytes(recorded.executed().notebooks["verified"])
    code, out, _ = record("verify", path)
    assert code == 0
    assert "intact; outcome VERIFIED" in out
    assert record("verify", path, "--key", keys[1])[0] == 52


# diff


def test_diff_of_a_plan_and_its_apply_says_what_came_of_it(record, names):
    """What was planned was done."""
    code, out, _ = record("diff", names["planned"], names["applied"])
    assert code == 0
    assert "planned and done\n  01-primary-setup: release (dc1): created: release consul" in out
    assert "not planned" not in out


def test_diff_of_a_plan_and_another_run_says_what_was_not_done(record, names):
    """The failed run never came to it."""
    out = record("diff", names["planned"], names["failed"])[1]
    assert (
        "planned, not done\n  01-primary-setup: release (dc1): create release consul (the run did not come"
        in out
    )


def test_diff_tells_what_was_done_without_being_planned(records, names):
    """Its own list, so that it is not overlooked."""
    planned, applied = (read(records / "test" / names[word]) for word in ("planned", "applied"))
    row = {"id": "proxy-defaults", "subject": "dc1", "outcome": "created", "what": "global"}
    notebook = applied.predicate.notebooks[1]
    more = notebook.model_copy(update={"changes": [*notebook.changes, row]})
    changed = applied.predicate.model_copy(update={"notebooks": [applied.predicate.notebooks[0], more]})
    found = difference(planned, type(applied)(applied.folder, applied.sealed, changed))
    assert found.unplanned == ["01-primary-setup: proxy-defaults (dc1): created: global"]
    assert "done, not planned" in found.told()


def test_diff_of_two_runs_is_by_subject(record, names, tmp_path):
    """Parameters, versions, clusters, checks, plan, changes; a machine gets the same."""
    make(tmp_path, ("verified",))
    make(tmp_path, ("verified",), servers=3)
    first, second = sorted(
        (tmp_path / "test").glob("[0-9]*"), key=lambda f: read(f).predicate.parameters["servers"]
    )
    assert "parameters\n  ~ servers: 1 → 3" in record("diff", first, second)[1]
    assert json.loads(record("diff", first, second, "-o", "json")[1])["parameters"] == ["~ servers: 1 → 3"]
    assert record("diff", first, first)[1].strip() == "No difference but in times."


# html


def test_html_writes_the_pages(record, names, tmp_path):
    """Of a record into a folder, of a notebook into a file; they load nothing."""
    code, out, _ = record("html", names["applied"], "-o", tmp_path / "pages")
    assert code == 0
    assert [Path(line).name for line in out.splitlines()] == ["00-preflight.html", "01-primary-setup.html"]
    path = tmp_path / "out.ipynb"
    path.write_bytes(recorded.executed().notebooks["failed"])
    assert record("html", path, "-o", tmp_path / "one.html")[0] == 0
    assert "The hook failed." in (tmp_path / "one.html").read_text()


def test_html_of_what_is_no_notebook_is_an_error(record, tmp_path):
    """And so is a place that cannot be written."""
    for name, content in (("a.ipynb", "{"), ("b.ipynb", "[]"), ("c.ipynb", None)):
        if content is not None:
            (tmp_path / name).write_text(content)
        assert record("html", tmp_path / name, "-o", tmp_path)[0] == 52
    (tmp_path / "good.ipynb").write_bytes(recorded.executed().notebooks["verified"])
    assert record("html", tmp_path / "good.ipynb", "-o", tmp_path / "a.ipynb" / "x.html")[0] == 52


# names


def test_a_record_is_found_by_each_of_its_names(records, names):
    """Folder, run.json, a folder that holds only it, id, beginning of the id, `latest`."""
    folder = records / "test" / names["applied"]
    assert find(str(folder), records) == folder
    assert find(str(folder / "run.json"), records) == folder
    assert find(names["applied"], records) == folder
    assert find(names["applied"][:-1], records) == folder
    assert find("latest", records).name == names["failed"]


def test_a_folder_around_one_record_is_enough(tmp_path):
    """As `consulfed plan -o plan/` leaves it; with two it is not clear which is meant."""
    folder = make(tmp_path, ("verified",))
    assert find(str(tmp_path), tmp_path) == folder
    make(tmp_path, ("verified",))
    with pytest.raises(RecordError, match="2 records are in"):
        find(str(tmp_path), tmp_path)


def test_a_broken_record_is_still_found(tmp_path):
    """So that verify can say what is wrong with it."""
    folder = make(tmp_path, ("verified",))
    with writable(folder):
        (folder / "run.json").unlink()
    assert find(str(folder), tmp_path) == folder
    assert find(folder.name, tmp_path) == folder
    with pytest.raises(RecordError, match=r"is no record: run\.json"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "expected"), [("2", "3 records are called 2"), ("x", "no record x"), ("", "no record")]
)
def test_a_name_that_says_too_little_or_too_much_is_an_error(records, name, expected):
    """With what to do."""
    with pytest.raises(RecordError, match=expected) as caught:
        find(name, records)
    assert caught.value.hint


def test_a_file_that_is_no_record_is_an_error(records, tmp_path):
    """Nor is an empty folder, and there is no latest of none."""
    (tmp_path / "file").write_text("x")
    for name in (str(tmp_path / "file"), str(tmp_path)):
        with pytest.raises(RecordError, match=r"[Nn]o record"):
            find(name, records)
    with pytest.raises(RecordError, match="no record latest"):
        find("latest", tmp_path)


def test_the_commands_start_quickly():
    """Help loads no notebook machinery and no library of keys."""
    program = (
        "import sys; from consulfed_lib.cli import main; code = main(['record', 'verify', '--help']);"
        "print([m for m in ('nbconvert', 'papermill', 'kubernetes', 'securesystemslib', 'cryptography', 'pydantic')"
        " if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
