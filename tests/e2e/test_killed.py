"""A run that is stopped at any moment, in good order or outright, never leaves a record that says it succeeded, and
the same command goes on from there.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from consulfed_lib.record.verify import verify
from tests.conftest import is_kernel

from .conftest import PARAMS, Sandbox

SUCCESS = {"planned", "applied", "unchanged", "verified"}
LONGEST = 14.0
"""Seconds; an undisturbed run takes about as long on a machine that does nothing else."""


def started(sandbox: Sandbox, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "consulfed_lib.cli", "run", str(PARAMS), "--apply"]
    command += ["--records", str(sandbox.records), *words]
    return subprocess.Popen(
        command,
        env=sandbox.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        cwd=sandbox.folder,
    )


def run_until(sandbox: Sandbox, said: str, *words: str) -> subprocess.Popen[str]:
    """Start a run that applies, and return while it works, right after it said these words."""
    process = started(sandbox, *words)
    assert process.stdout is not None
    for line in process.stdout:
        if said in line:
            return process
    raise AssertionError(f"the run ended with {process.wait()} and never said {said!r}")


def claims(sandbox: Sandbox) -> dict[str, str]:
    """Run → the outcome that its record claims; each record verifies. What is left of a killed run is no record."""
    found = {}
    for folder in sorted((sandbox.records / "sandbox").glob("[0-9]*")):
        verdict = verify(folder)
        assert verdict.problems == []
        found[folder.name] = str(verdict.facts["outcome"])
    return found


def test_sigterm_while_helm_installs_the_primary(sandbox: Sandbox) -> None:
    """What a cancelled pipeline sends leaves a finished record that does not claim to have come to its end."""
    process = run_until(sandbox, "dc1: helm upgrade")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(claims(sandbox).values()) == ["interrupted"]
    assert {name for name, result in sandbox.results().items() if result} == {"00-preflight"}


def test_sigkill_while_helm_installs_the_secondary(sandbox: Sandbox) -> None:
    """The next run went on; killed outright, it takes its kernel and Helm with it, and leaves no record."""
    process = run_until(sandbox, "dc2: helm upgrade")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    assert any("helm" in child.name() for child in family), "killed while Helm was at work"
    assert psutil.wait_procs(family, timeout=10)[1] == []
    finished = {name for name, result in sandbox.results().items() if result}
    assert "01-primary-setup" in finished
    assert "03-secondary-setup-dc2" not in finished
    assert list(claims(sandbox).values()) == ["interrupted"]


def test_a_kernel_that_dies_interrupts_the_run(sandbox: Sandbox) -> None:
    """papermill would call its cells completed; the record says interrupted, and which cell was the last."""
    process = run_until(sandbox, "03-secondary-setup dc2 …")
    kernels = [each for each in psutil.Process(process.pid).children(recursive=True) if is_kernel(each)]
    assert kernels
    for kernel in kernels:
        kernel.kill()
    process.communicate(timeout=60)
    assert process.returncode == 51
    assert list(claims(sandbox).values())[-1] == "interrupted"


def test_the_next_run_completes(sandbox: Sandbox) -> None:
    """After all of that, the same command ends in the same verified federation as an undisturbed one; what was
    killed is on record as interrupted."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    results = sandbox.results()
    assert results["04-verification"]["outcome"] == "verified"
    assert results["01-primary-setup"]["outcome"] == "unchanged"
    assert sorted(claims(sandbox).values()) == ["applied", *["interrupted"] * 3]


@pytest.fixture
def approved(own_sandbox: Sandbox, tmp_path: Path) -> Path:
    """The plan of an empty federation."""
    done = own_sandbox.consulfed("plan", str(PARAMS), "-o", str(tmp_path / "plan"))
    assert done.returncode == 0, done.stderr
    return tmp_path / "plan"


def test_ten_random_moments(own_sandbox: Sandbox, approved: Path) -> None:
    """Killed outright or told to end, ten times: no record ever says that it succeeded unless the run did, and in
    the end the same command, under the same approval, completes."""
    seed = int(os.environ.get("CONSULFED_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"CONSULFED_SEED={seed}")  # to see the same moments again
    moments = random.Random(seed)
    words = ("--approved-plan", str(approved))
    for i in range(10):
        process = started(own_sandbox, *words)
        name = signal.SIGKILL if i % 2 else signal.SIGTERM
        timer = threading.Timer(moments.uniform(0.2, LONGEST), process.send_signal, [name])
        timer.start()
        said, _ = process.communicate(timeout=120)
        timer.cancel()
        came_to_its_end = process.returncode == 0
        newest = claims(own_sandbox)
        if not came_to_its_end:
            assert process.returncode in {-signal.SIGKILL, -signal.SIGTERM, 130}, said
        ended = [run for run, claim in newest.items() if claim in SUCCESS]
        assert (max(newest, default="") in ended) == came_to_its_end or process.returncode < 0, said
        assert "Traceback" not in said, said
    done = own_sandbox.run(PARAMS, "--apply", *words)
    assert done.returncode == 0, done.stderr
    assert own_sandbox.results()["04-verification"]["outcome"] == "verified"
    folder = own_sandbox.records / "sandbox"
    assert [path.name for path in folder.iterdir() if not path.name[0].isdigit()] == [".lock"]
    assert sum(claim in SUCCESS for claim in claims(own_sandbox).values()) >= 1
