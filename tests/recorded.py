"""Small notebooks, executed once by papermill with a real kernel, and records made of them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import nbformat

from consulfed_lib import params
from consulfed_lib.errors import ApplyError, ConsulfedError
from consulfed_lib.record import predicate
from consulfed_lib.record.archive import Staging
from consulfed_lib.record.verify import PLAN

RAW: dict[str, Any] = {
    "federation": "test",
    "chart": {"ref": "hashicorp/consul", "version": "1.9.11"},
    "primary": {"context": "one", "datacenter": "dc1"},
    "secondaries": [{"context": "two", "datacenter": "dc2"}],
}
PARAMETERS = (
    'federation: str = "none"  # name\ndry_run: bool = True  # nothing\nsecondary: str = ""  # which one'
)
WORK = """from consulfed_lib.results import Change, Changes, Finding, Findings, Result

checks = Findings("Checks", [Finding("api", "dc1", "ok", "answers"), Finding("nodes", "dc1", "warning", "only one")])
checks"""
APPLY = """outcome = "would create" if dry_run else "created"
changes = Changes("Changes", [Change("release", "dc1", outcome, "release consul", 1.5, "helm uninstall consul")])
changes"""
FAIL = 'from consulfed_lib.errors import ApplyError\nraise ApplyError("The hook failed.", "mend it", ["dc2: no pod"])'
RESULT = """from consulfed_lib.canonical import digest

document = {{"notebook": "{name}", "subject": "dc1", "clusters": {{"dc1": "uid-1"}},
    "items": [{{"id": "release", "subject": "dc1", "what": "release consul", "action": "create"}}]}}
plans = {plans}
Result("{name}", federation, "dc1", {outcome}, checks.data(), {changes},
    plan={{"digest": digest(document), "document": document}} if plans else None,
    clusters={{"dc1": {{"context": "one", "uid": "uid-1", "user": "ann", "kubernetes": "1.34"}}}},
    versions={{"consulfed": "0.1.0"}}, parameters={{"secondary": secondary}})"""


def source(name: str) -> dict[str, Any]:
    """The source of a small notebook of that name, as JSON gives it."""
    plans = name.startswith("01")
    outcome = '"planned" if dry_run else "applied"' if plans else '"verified"'
    result = RESULT.format(
        name=name, outcome=outcome, plans=plans, changes="changes.data()" if plans else "[]"
    )
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name}\nWhat it does.", id="a"),
        nbformat.v4.new_code_cell(PARAMETERS, id="b", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(WORK, id="c"),
        nbformat.v4.new_code_cell(FAIL if name.startswith("02") else APPLY if plans else "1 + 1", id="d"),
        nbformat.v4.new_markdown_cell("## Result", id="e"),
        nbformat.v4.new_code_cell(result, id="f"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=metadata)))


_FOLDER = TemporaryDirectory(prefix="consulfed-test-")
"""Removed when the process ends."""


@dataclass(frozen=True)
class Executed:
    """The runbook's folder, and the executed notebooks: label → content of the file."""

    runbook: Path
    notebooks: dict[str, bytes]

    def notebook(self, label: str) -> dict[str, Any]:
        return json.loads(self.notebooks[label])


@cache
def executed() -> Executed:
    """00 verified, 01 planned, 01 applied, and 02 of dc2, which stops with an error: once for a process of tests."""
    import papermill

    folder = Path(_FOLDER.name)
    runbook = folder / "notebooks"
    runbook.mkdir()
    for name in ("00-preflight", "01-primary-setup", "02-secret-transfer"):
        (runbook / f"{name}.ipynb").write_text(json.dumps(source(name), indent=1))
    done = {}
    for label, name, given in (
        ("verified", "00-preflight", {}),
        ("planned", "01-primary-setup", {}),
        ("applied", "01-primary-setup", {"dry_run": False}),
        ("failed", "02-secret-transfer", {"dry_run": False, "secondary": "dc2"}),
    ):
        output = folder / "out.ipynb"
        try:
            papermill.execute_notebook(
                runbook / f"{name}.ipynb",
                output,
                {"federation": "test"} | given,
                kernel_name="python3",
                progress_bar=False,
            )
        except papermill.PapermillExecutionError:
            assert label == "failed"
        done[label] = output.read_bytes()
    return Executed(runbook, done)


FILES = {
    "verified": "00-preflight.ipynb",
    "planned": "01-primary-setup.ipynb",
    "applied": "01-primary-setup.ipynb",
    "failed": "02-secret-transfer-dc2.ipynb",
}


def begun(kind: str = "run", dry_run: bool = False, **changes: Any) -> dict[str, Any]:
    """What is known of a run at its beginning."""
    with mock.patch.dict(os.environ, {"KUBECONFIG": "/nowhere", "CONSULFED_SANDBOX": "/nowhere"}):
        federation = params.check(
            copy.deepcopy(RAW) | {"dry_run": dry_run, "reason": "a test"} | changes, "a test"
        )
    return predicate.beginning(federation, kind, executed().runbook, "")


def clean(folder: Path) -> dict[str, Any]:
    """A scan that finds nothing."""
    return {"secrets": 3, "forms": 40, "files": len(list(folder.iterdir())), "hits": 0}


def fill(staging: Staging, labels: Sequence[str]) -> None:
    """The executed notebooks, as papermill writes them into the folder of a run."""
    for label in labels:
        (staging.path / FILES[label]).write_bytes(executed().notebooks[label])


def make(
    records: Path,
    labels: Sequence[str] = ("verified", "applied"),
    signers: Sequence[Any] = (),
    scan: Callable[[Path], Any] = clean,
    **facts: Any,
) -> Path:
    """A record of these notebooks, made as a run makes it; returns its folder."""
    staging = Staging(records, "test")
    known = begun(dry_run="planned" in labels, **facts)
    staging.begin(known)
    fill(staging, labels)
    error: ConsulfedError | None = None
    if "failed" in labels:
        error = ApplyError("The hook failed.", "mend it", ["dc2: no pod"])
    said = predicate.ending(known, staging.path, error)
    plan = predicate.plan_of(staging.path, "test")
    if plan is not None:
        staging.write(PLAN, plan.bytes())
        said["plan"] = {"file": PLAN, "digest": plan.digest}
    staging.pages()
    return staging.finish(said, signers, scan)


@contextmanager
def writable(folder: Path):
    """As somebody would who edits a record: rights first."""
    folder.chmod(0o700)
    for path in folder.iterdir():
        if not path.is_symlink():
            path.chmod(0o600)
    yield folder
