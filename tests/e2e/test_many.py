"""Many secondaries at once: those that can join do so in one go, whatever is wrong with others; one is added later."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Sandbox

WELL = ["dc2", "dc3", "dc4", "dc5"]
REFUSED = "https://127.0.0.1:1"


@dataclass
class Run:
    """What a run left."""

    done: subprocess.CompletedProcess[str]
    seconds: float
    results: dict[str, dict[str, Any]]
    writes: list[str]
    """Those of this run."""

    def outcome(self, name: str) -> str:
        return str(self.results[name].get("outcome", "no result"))

    def verdict(self) -> dict[str, str]:
        """Secondary → its line in the table at the end."""
        lines = self.done.stdout.partition("Verdict of sandbox")[2].splitlines()[2:]
        return {line.split()[0]: line for line in lines if line.startswith("dc")}


@pytest.fixture(scope="module")
def many(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Six clusters; in the last one, something else holds the name of the federation secret."""
    sandbox = new_sandbox(datacenters=6)
    meta = {"name": "consul-federation", "namespace": "consul"}
    squatter = {
        "apiVersion": "v1",
        "kind": "Secret",
        "immutable": True,
        "metadata": meta,
        "data": {"x": "eA=="},
    }
    sandbox.kubectl("sandbox-dc6", "create", "namespace", "consul")
    sandbox.kubectl("sandbox-dc6", "create", "-f", "-", stdin=json.dumps(squatter))
    return sandbox


@pytest.fixture(scope="module")
def params(many: Sandbox) -> dict[str, Any]:
    """The parameters that the sandbox itself prints."""
    return yaml.safe_load(many.consulfed("sandbox", "params").stdout)


def run(sandbox: Sandbox, params: dict[str, Any]) -> Run:
    path = sandbox.folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    before, start = len(sandbox.writes()), time.monotonic()
    done = sandbox.run(path, "--apply")
    seconds = time.monotonic() - start
    print(done.stdout, done.stderr)
    return Run(done, seconds, sandbox.results(), sandbox.writes()[before:])


@pytest.fixture(scope="module")
def first(many: Sandbox, params: dict[str, Any]) -> Run:
    """Six secondaries, of which four are well: one has a squatter, and the API of one does not answer."""
    kubeconfig = yaml.safe_load(Path(many.env["KUBECONFIG"]).read_text())
    for kind in ("contexts", "clusters"):
        template = next(each for each in kubeconfig[kind] if each["name"] == "sandbox-dc2")
        kubeconfig[kind].append(json.loads(json.dumps(template)) | {"name": "nowhere"})
    kubeconfig["contexts"][-1]["context"]["cluster"] = "nowhere"
    kubeconfig["clusters"][-1]["cluster"]["server"] = REFUSED
    path = many.folder / "kubeconfig-with-nowhere"
    path.write_text(yaml.safe_dump(kubeconfig))
    path.chmod(0o600)
    unreachable = {"context": "nowhere", "datacenter": "dc7"}
    wanted = {"kubeconfig": str(path), "secondaries": [unreachable, *params["secondaries"]]}
    return run(many, params | wanted)


@pytest.fixture(scope="module")
def second(first: Run, many: Sandbox, params: dict[str, Any]) -> Run:
    """The squatter is gone, the cluster that is nowhere is not wanted any more: one secondary is to be added."""
    many.kubectl("sandbox-dc6", "-n", "consul", "delete", "secret", "consul-federation")
    return run(many, params)


def test_four_secondaries_join_in_one_go(first: Run, record_property: Callable[[str, object], None]) -> None:
    """All at the same time, each with its own record; the five datacenters are verified, every pair of them."""
    for name in WELL:
        assert first.outcome(f"02-secret-transfer-{name}") == "applied"
        assert first.outcome(f"03-secondary-setup-{name}") == "applied"
    verified = first.results["04-verification-without-dc6-dc7"]
    assert verified["outcome"] == "verified"
    healthy = {c["subject"] for c in verified["checks"] if c["id"] == "node-health" and c["severity"] == "ok"}
    names = ["dc1", *WELL]
    assert healthy == {f"{a} → {b}" for a in names for b in names if a != b}
    assert "4 secondaries at once" in first.done.stdout
    record_property("seconds", round(first.seconds, 1))
    print(f"5 datacenters, 4 secondaries, to the verified verdict: {first.seconds:.1f} s")


def test_each_that_fails_is_named_with_its_cause(first: Run) -> None:
    """One found unfit by preflight, before anything was written there, and one in the middle of its chain."""
    assert first.done.returncode == 11, "that of dc7, the first in the parameters"
    verdict = first.verdict()
    assert "✘ failed" in verdict["dc7"]
    assert REFUSED in verdict["dc7"]
    assert "✘ failed" in verdict["dc6"]
    assert "02-secret-transfer dc6" in verdict["dc6"]
    assert "immutable" in verdict["dc6"]
    assert all("✔ applied" in verdict[name] for name in WELL)
    assert "2 of 6 secondaries failed: dc7, dc6" in first.done.stderr
    assert "What to do:" in first.done.stderr
    assert "04-verification" not in first.results, "nothing claims that the whole is verified"
    assert "03-secondary-setup-dc6" not in first.results


def test_the_one_that_failed_joins_with_the_next_run(second: Run) -> None:
    """The same command goes on, and the whole is verified."""
    assert second.done.returncode == 0, second.done.stderr
    assert second.outcome("03-secondary-setup-dc6") == "applied"
    assert second.outcome("04-verification") == "verified"


def test_adding_a_secondary_changes_nothing_in_the_others(second: Run) -> None:
    """No API server but the new one's sees a write of the run, and each of the others is reported unchanged."""
    assert second.writes
    assert [write for write in second.writes if not write.startswith("dc6: ")] == []
    assert second.outcome("01-primary-setup") == "unchanged"
    assert all("✔ unchanged" in second.verdict()[name] for name in WELL)
