"""A run that is stopped in the middle, in good order or outright, leaves a state from which the next one goes on."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil

from .conftest import PARAMS, Sandbox


def run_until(sandbox: Sandbox, words: str) -> subprocess.Popen[str]:
    """Start a run that applies, and return while it works, right after it said these words."""
    command = [
        sys.executable,
        "-m",
        "consulfed_lib.cli",
        "run",
        str(PARAMS),
        "--apply",
        "-o",
        str(sandbox.records),
    ]
    process = subprocess.Popen(
        command, env=sandbox.env, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=sandbox.folder
    )
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return process
    raise AssertionError(f"the run ended with {process.wait()} and never said {words!r}")


def test_sigterm_while_helm_installs_the_primary(sandbox: Sandbox) -> None:
    """What a cancelled pipeline sends leaves a finished notebook that does not claim to have come to its end."""
    process = run_until(sandbox, "dc1: helm upgrade")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {name for name, result in sandbox.results().items() if result} == {"00-preflight"}
    for notebook in sandbox.newest_record().glob("*.ipynb"):
        assert json.loads(notebook.read_text())["metadata"]["papermill"]["end_time"]


def test_sigkill_while_helm_installs_the_secondary(sandbox: Sandbox) -> None:
    """The next run went on; killed outright, it takes its kernel and Helm with it and claims nothing."""
    process = run_until(sandbox, "dc2: helm upgrade")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    assert any("helm" in child.name() for child in family), "killed while Helm was at work"
    assert psutil.wait_procs(family, timeout=10)[1] == []
    finished = {name for name, result in sandbox.results().items() if result}
    assert "01-primary-setup" in finished
    assert "03-secondary-setup-dc2" not in finished


def test_the_next_run_completes(sandbox: Sandbox) -> None:
    """After both, the same command ends in the same verified federation as an undisturbed one."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    results = sandbox.results()
    assert results["04-verification"]["outcome"] == "verified"
    assert results["01-primary-setup"]["outcome"] == "unchanged"
