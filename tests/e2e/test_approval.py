"""Plan, approve, apply on a real federation: the same plan everywhere, exactly that plan applied, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib.places import find_program
from consulfed_lib.plans import PlanFile

from .conftest import PARAMS, ROOT, Sandbox


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where plans are written."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def params(tmp_path: Path) -> Callable[..., Path]:
    """Writes a params file that differs from the sandbox's in some keys."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(PARAMS.read_text()) | changes))
        return path

    return write


def planned(sandbox: Sandbox, folder: Path, params: Path = PARAMS, **more: Any) -> PlanFile:
    """What `consulfed plan` writes."""
    done = sandbox.consulfed("plan", str(params), "-o", str(folder), **more)
    assert done.returncode == 0, done.stderr
    return PlanFile.read(folder)


def papermill(sandbox: Sandbox, notebook: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    source = str(ROOT / "notebooks" / f"{notebook}.ipynb")
    command = [sys.executable, "-m", "papermill", source, str(out), "-f", str(PARAMS), *words]
    return subprocess.run(command, env=sandbox.env, capture_output=True, text=True, timeout=200)


def test_the_same_world_has_the_same_plan_on_every_machine(
    sandbox: Sandbox, plans: Path, tmp_path: Path
) -> None:
    """Another home, folder, language and time zone, and another hour, do not change one byte of it."""
    first = planned(sandbox, plans / "first")
    moved = {"HOME": str(tmp_path), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    before = dict(sandbox.env)
    sandbox.env.update(moved, CONSULFED_SANDBOX=before["CONSULFED_SANDBOX"], PATH=_with_tools(before))
    try:
        second = planned(sandbox, plans / "second", cwd=tmp_path)
    finally:
        sandbox.env.clear()
        sandbox.env.update(before)
    assert first.bytes() == second.bytes()
    assert sandbox.writes() == []
    assert set(first.notebooks) == {"01-primary-setup", "02-secret-transfer dc2", "03-secondary-setup dc2"}
    items = first.notebooks["01-primary-setup"].items
    assert {"namespace", "release", "object", "proxy-defaults"} == {item.id for item in items}
    assert all(item.then for item in items if item.id == "object")


def _with_tools(env: dict[str, str]) -> str:
    """PATH with the folders of Helm and kubectl, which a new home's cache does not have."""
    folders = {str(found.parent) for name in ("helm", "kubectl") if (found := find_program(name))}
    return os.pathsep.join([*sorted(folders), env["PATH"]])


def test_another_plan_is_refused_before_anything_is_written(
    sandbox: Sandbox, plans: Path, params: Callable[..., Path]
) -> None:
    """Parameters that changed after the approval: what would be different is named, and nothing was written."""
    changed = params(values={"meshGateway": {"annotations": "team: mesh"}})
    done = sandbox.run(changed, "--apply", "--approved-plan", str(plans / "first"))
    assert done.returncode == 13, done.stderr
    assert "the Helm values are others: " in done.stderr
    assert "team: mesh" in done.stderr
    assert "01-primary-setup" in done.stderr
    assert "03-secondary-setup dc2" in done.stderr
    assert sandbox.writes() == []


def test_a_secondary_that_the_plan_does_not_know_is_refused(
    sandbox: Sandbox, plans: Path, params: Callable[..., Path]
) -> None:
    """It was added to the parameters after the approval."""
    more = [*yaml.safe_load(PARAMS.read_text())["secondaries"]]
    more.append({"context": "sandbox-dc2-admin", "datacenter": "dc3"})
    done = sandbox.run(params(secondaries=more), "--apply", "--approved-plan", str(plans / "first"))
    assert done.returncode == 13, done.stderr
    assert "says nothing of 02-secret-transfer dc3, 03-secondary-setup dc3" in done.stderr
    assert sandbox.writes() == []


def test_a_federation_that_requires_approval_applies_nothing_without(
    sandbox: Sandbox, params: Callable[..., Path]
) -> None:
    """A parameter of the federation, so that nobody can leave it out."""
    done = sandbox.run(params(require_approval=True), "--apply")
    assert done.returncode == 13
    assert "requires an approved plan" in done.stderr
    assert sandbox.writes() == []


def test_vanilla_papermill_holds_a_digest(sandbox: Sandbox, plans: Path, tmp_path: Path) -> None:
    """A notebook by itself refuses another digest than that of its own plan."""
    wrong = PlanFile.read(plans / "first").notebooks["03-secondary-setup dc2"].digest
    done = papermill(
        sandbox,
        "01-primary-setup",
        tmp_path / "o.ipynb",
        "-y",
        "dry_run: false",
        "-r",
        "approved_plan",
        wrong,
    )
    assert done.returncode == 1
    assert "ApprovalError" in done.stderr
    assert wrong in done.stderr
    assert sandbox.writes() == []


def test_exactly_the_approved_plan_is_applied(sandbox: Sandbox, plans: Path) -> None:
    """From its folder; the summary is one line of JSON, and the record holds the plan that was approved."""
    approved = PlanFile.read(plans / "first")
    done = sandbox.run(PARAMS, "--apply", "--approved-plan", str(plans / "first"), "-o", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["outcome"] == "applied"
    assert summary["exit_code"] == 0
    assert summary["plan"] == summary["approved_plan"] == approved.digest
    assert (Path(summary["record"]) / "plan.json").read_bytes() == approved.bytes()
    assert [each["outcome"] for each in summary["notebooks"]] == [
        "verified", "applied", "applied", "applied", "verified",
    ]  # fmt: skip


def test_the_same_approval_again_changes_nothing(sandbox: Sandbox, plans: Path) -> None:
    """All of it is done: nothing is left to be done otherwise."""
    before = sandbox.writes()
    done = sandbox.run(PARAMS, "--apply", "--approved-plan", str(plans / "first"))
    assert done.returncode == 0, done.stderr
    assert "Done: unchanged." in done.stdout
    assert sandbox.writes() == before


def test_what_changed_since_the_approval_is_named(
    sandbox: Sandbox, plans: Path, params: Callable[..., Path]
) -> None:
    """Somebody upgraded the release by hand in between: what was approved started from another state."""
    wanted = params(values={"meshGateway": {"annotations": "team: mesh"}})
    approved = planned(sandbox, plans / "third", wanted)
    release = next(i for i in approved.notebooks["01-primary-setup"].items if i.id == "release")
    assert release.action == "change"
    changed = [i for i in approved.notebooks["01-primary-setup"].items if i.id == "object"]
    assert [i.action for i in changed] == ["change"]
    assert "team: mesh" in changed[0].diff
    assert "restart" in {i.id for i in approved.notebooks["01-primary-setup"].items}
    _upgrade_by_hand(sandbox)
    before = sandbox.writes()
    done = sandbox.run(wanted, "--apply", "--approved-plan", str(plans / "third"))
    assert done.returncode == 13, done.stderr
    assert "it has changed since the plan was made" in done.stderr
    assert sandbox.writes() == before


def _upgrade_by_hand(sandbox: Sandbox) -> None:
    program = find_program("helm")
    chart = Path(sandbox.env["CONSULFED_SANDBOX"]) / "chart" / "consul"
    words = ["upgrade", "consul", str(chart), "-n", "consul", "--kube-context", "sandbox-dc1-admin"]
    words += ["--reuse-values", "--set", "meshGateway.annotations=team: other", "--timeout", "60s"]
    done = subprocess.run(
        [str(program), *words], env=sandbox.env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
