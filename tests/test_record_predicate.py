"""What a record says of its run: what the notebooks show, and never more."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.canonical import digest
from consulfed_lib.errors import ApplyError, ConsulfedError, Interrupted, KernelError
from consulfed_lib.places import whoami
from consulfed_lib.record.predicate import beginning, ending, outcome, plan_of
from consulfed_lib.results import Table

from . import recorded

FAILED = ApplyError("The hook failed.", "mend it", ["dc2: no pod"])
WORDS = ["interrupted", "failed", "planned", "applied", "unchanged", "verified"]


# The outcome


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(WORDS, 2)))
def test_a_run_comes_to_the_worst_of_its_notebooks(worse, better):
    """In whatever order they ended; a change outweighs what stayed as it was."""
    assert outcome([better, worse, better]) == outcome([worse, better]) == worse


@pytest.mark.parametrize("word", WORDS)
def test_a_run_of_one_word_comes_to_that(word):
    """For example a verification alone."""
    assert outcome([word, word]) == word


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("error", "expected"), [(FAILED, "failed"), (Interrupted("Stop."), "interrupted")])
def test_a_run_that_ended_with_an_error_is_no_success(word, error, expected):
    """Whatever its notebooks came to; only what was interrupted stays so."""
    assert outcome([word], error) == ("interrupted" if word == "interrupted" else expected)


def test_a_run_without_notebooks_failed():
    """Nothing was shown, so nothing is claimed."""
    assert outcome([]) == "failed"
    assert outcome([], KernelError("x")) == "failed"
    assert outcome([], Interrupted("x")) == "interrupted"


def test_a_word_that_nobody_knows_is_no_success():
    """A notebook may have been forged."""
    assert outcome(["splendid"]) == "failed"


# What is known at the beginning


@pytest.fixture
def runbook(tmp_path: Path) -> Path:
    """The folder of the notebooks in a checkout that is no git repository."""
    folder = tmp_path / "checkout" / "notebooks"
    folder.mkdir(parents=True)
    (folder / "00-preflight.ipynb").write_text(json.dumps(recorded.source("00-preflight")))
    (folder / "notes.ipynb").write_text("no notebook of the runbook")
    return folder


@pytest.fixture
def begin(federation, runbook) -> Callable[..., dict[str, Any]]:
    return lambda approved="", **changes: beginning(federation(**changes), "run", runbook, approved)


def test_a_record_says_who_why_and_what_from_its_beginning(begin):
    """So that a run which is killed can be told of."""
    said = begin(reason="new site", change_id="CHG-7", dry_run=False)
    assert (said["federation"], said["kind"], said["dry_run"]) == ("test", "run", False)
    assert (said["reason"], said["change_id"], said["by"]) == ("new site", "CHG-7", whoami())
    assert said["started"].endswith("Z")
    assert said["approved_plan"] is None
    assert begin("sha256:1")["approved_plan"] == {"digest": "sha256:1"}
    assert json.loads(json.dumps(said)) == said


def test_the_digest_of_the_parameters_is_of_what_the_federation_is(begin):
    """Not of what this run does: plan and apply have the same, and anything else makes another."""
    said = begin()
    assert said["parameters_digest"] == digest(said["parameters"])
    assert "dry_run" not in said["parameters"]
    for changes in ({"dry_run": False}, {"dry_run": False, "approved_plan": "plan.json"}):
        assert begin(**changes)["parameters_digest"] == said["parameters_digest"]
    for changes in ({"acls": False}, {"reason": "another"}):
        assert begin(**changes)["parameters_digest"] != said["parameters_digest"]


def test_each_notebook_of_the_runbook_is_known_by_its_digests(begin, runbook):
    """The whole file's, and each code cell's, with which executed ones are compared."""
    notebooks = begin()["runbook"]["notebooks"]
    assert list(notebooks) == ["00-preflight.ipynb"]
    content = (runbook / "00-preflight.ipynb").read_bytes()
    assert notebooks["00-preflight.ipynb"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(notebooks["00-preflight.ipynb"]["cells"]) == 4


def git(folder: Path, *words: str) -> str:
    """git as nobody in particular, whatever the user's settings are."""
    name = {
        f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment = os.environ | name | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_runbook_outside_of_git_has_no_commit(begin):
    """And it is not known whether it is that of a commit: null, not false."""
    said = begin()["runbook"]
    assert (said["commit"], said["dirty"]) == (None, None)


def test_the_commit_is_said_and_whether_the_runbook_differs_from_it(begin, runbook):
    """What lies beside notebooks and library, such as records and parameters, makes no difference."""
    root = runbook.parent
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x")
    clean = {"commit": git(root, "rev-parse", "HEAD"), "dirty": False}

    def said() -> dict[str, Any]:
        return {key: begin()["runbook"][key] for key in ("commit", "dirty")}

    assert said() == clean
    (root / "records").mkdir()
    (root / "records" / "x").write_text("x")
    assert said() == clean
    (runbook / "05-new.ipynb").write_text(json.dumps(recorded.source("00-preflight")))
    assert said() == clean | {"dirty": True}
    (runbook / "05-new.ipynb").unlink()
    assert said() == clean
    (root / "consulfed_lib").mkdir()
    (root / "consulfed_lib" / "x.py").write_text("x = 1")
    assert said() == clean | {"dirty": True}


def test_a_machine_without_git_has_no_commit(begin, monkeypatch):
    """It is no reason not to run."""
    monkeypatch.setenv("PATH", "")
    assert begin()["runbook"]["commit"] is None


# What the notebooks show


def shown(folder: Path, *labels: str, error: ConsulfedError | None = None) -> dict[str, Any]:
    """What is said at the end of a run with these notebooks."""
    for label in labels:
        (folder / recorded.FILES[label]).write_bytes(recorded.executed().notebooks[label])
    return ending(recorded.begun(), folder, error)


def test_a_run_is_told_from_its_notebooks(tmp_path):
    """In their order, each with its checks, its changes and its times."""
    said = shown(tmp_path, "verified", "applied")
    assert (said["outcome"], said["error"]) == ("applied", None)
    first, second = said["notebooks"]
    assert (first["file"], first["notebook"], first["outcome"]) == (
        "00-preflight.ipynb",
        "00-preflight",
        "verified",
    )
    assert [check["id"] for check in second["checks"]] == ["api", "nodes"]
    assert [change["outcome"] for change in second["changes"]] == ["created"]
    assert second["seconds"] > 0
    assert second["started"] < second["ended"] < said["ended"].replace("Z", "+00:00")
    assert said["versions"] == {"consulfed": "0.1.0"}
    assert said["clusters"]["dc1"]["uid"] == "uid-1"


def test_a_notebook_that_failed_is_told_with_its_error(tmp_path):
    """And with what it had found until then; and whose it was."""
    said = shown(tmp_path, "verified", "failed", error=FAILED)
    assert said["outcome"] == "failed"
    assert said["error"] == FAILED.data()
    failed = said["notebooks"][1]
    assert (failed["notebook"], failed["secondary"], failed["outcome"]) == (
        "02-secret-transfer",
        "dc2",
        "failed",
    )
    assert failed["error"]["class"] == "ApplyError"
    assert [check["id"] for check in failed["checks"]] == ["api", "nodes"]


def edited(folder: Path, label: str, edit: Callable[[dict[str, Any]], None], name: str = "") -> None:
    notebook = recorded.executed().notebook(label)
    edit(notebook)
    (folder / (name or recorded.FILES[label])).write_text(json.dumps(notebook))


def without_end(notebook: dict[str, Any]) -> None:
    """As it is when the kernel is killed in the last cell."""
    notebook["cells"][-1] |= {"outputs": [], "execution_count": None}


def test_a_notebook_without_an_end_and_without_an_error_was_interrupted(tmp_path):
    """Whatever papermill says of its cells."""
    edited(tmp_path, "applied", without_end)
    said = shown(tmp_path)
    assert said["outcome"] == said["notebooks"][0]["outcome"] == "interrupted"
    assert [change["outcome"] for change in said["notebooks"][0]["changes"]] == ["created"]


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "Interrupted"])
def test_a_notebook_that_somebody_stopped_was_interrupted(tmp_path, name):
    """That is no failure of what it did."""

    def stopped(notebook: dict[str, Any]) -> None:
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                if output["output_type"] == "error":
                    output["ename"] = name

    edited(tmp_path, "failed", stopped)
    assert shown(tmp_path)["notebooks"][0]["outcome"] == "interrupted"


def test_of_a_notebook_without_an_end_its_tables_tell_of_the_world(tmp_path):
    """Which clusters it had met is known although it has no result."""
    about = {"clusters": {"dc1": {"uid": "uid-9"}}, "versions": {"consulfed": "9"}}

    def killed(notebook: dict[str, Any]) -> None:
        without_end(notebook)
        tables = [
            o["data"][Table.MIME]
            for c in notebook["cells"]
            for o in c.get("outputs", [])
            if Table.MIME in o["data"]
        ]
        tables[0].update(about)

    edited(tmp_path, "applied", killed)
    said = shown(tmp_path)
    assert said["clusters"] == about["clusters"]
    assert said["versions"] == about["versions"]


def test_of_a_cluster_that_several_notebooks_met_the_first_word_counts(tmp_path):
    """The world as it was met; a cluster that only a later one met is added."""

    def other(notebook: dict[str, Any]) -> None:
        for output in notebook["cells"][-1]["outputs"]:
            for data in output["data"].values():
                if isinstance(data, dict):
                    data["clusters"] = {"dc1": {"uid": "another"}, "dc2": {"uid": "uid-2"}}

    edited(tmp_path, "applied", other)
    clusters = shown(tmp_path, "verified")["clusters"]
    assert (clusters["dc1"]["uid"], clusters["dc2"]["uid"]) == ("uid-1", "uid-2")


def test_what_was_looked_at_without_a_secondary_is_not_told_as_of_one(tmp_path):
    """`-without-dc3` in a file's name names no datacenter that it worked on."""
    edited(tmp_path, "verified", lambda notebook: None, "00-preflight-without-dc2.ipynb")
    story = shown(tmp_path)["notebooks"][0]
    assert (story["notebook"], story["secondary"]) == ("00-preflight", "")


# The plan


def test_the_plan_of_a_run_is_of_all_that_was_planned(tmp_path):
    """A notebook that plans nothing has no part in it; nor has one without an end."""
    shown(tmp_path, "verified")
    assert plan_of(tmp_path, "test") is None
    shown(tmp_path, "planned")
    plan = plan_of(tmp_path, "test")
    assert plan is not None
    assert list(plan.notebooks) == ["01-primary-setup"]
    edited(tmp_path, "planned", without_end)
    assert plan_of(tmp_path, "test") is None


def test_the_plan_of_a_secondarys_notebook_has_its_name(tmp_path):
    """Two secondaries have two plans of the same notebook."""

    def of_dc3(notebook: dict[str, Any]) -> None:
        for output in notebook["cells"][-1]["outputs"]:
            for data in output["data"].values():
                if isinstance(data, dict):
                    data["parameters"] = {"secondary": "dc3"}

    edited(tmp_path, "planned", of_dc3, "01-primary-setup-dc3.ipynb")
    shown(tmp_path, "planned")
    plan = plan_of(tmp_path, "test")
    assert plan is not None
    assert list(plan.notebooks) == ["01-primary-setup dc3", "01-primary-setup"]
