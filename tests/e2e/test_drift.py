"""What changes behind our back: 04 names it at once where waiting mends nothing; the runbook mends what is its own."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import PARAMS, Sandbox


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sandbox's parameters, with a short deadline for what never gets well."""
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    timeouts = {"install": 120, "ready": 60, "federation": 8}
    path.write_text(yaml.safe_dump(yaml.safe_load(PARAMS.read_text()) | {"timeouts": timeouts}))
    return path


@pytest.fixture(scope="module")
def federated(sandbox: Sandbox) -> Sandbox:
    """A sandbox that is federated."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    return sandbox


def verify(sandbox: Sandbox, params: Path) -> subprocess.CompletedProcess[str]:
    return sandbox.run(params, "--only", "04")


def test_an_edited_copy_is_named_at_once_and_restored(federated: Sandbox, params: Path) -> None:
    """04 names the key without waiting for its deadline; 02 restores the copy, foreign keys included."""
    patch = json.dumps({"data": {"gossipEncryptionKey": "AAAA", "strange": "AAAA"}})
    federated.kubectl("sandbox-dc2", "-n", "consul", "patch", "secret", "consul-federation", "-p", patch)
    start = time.monotonic()
    done = verify(federated, PARAMS)
    assert done.returncode == 40
    assert "gossipEncryptionKey, strange" in done.stderr
    assert "run 02-secret-transfer for dc2" in done.stderr
    assert time.monotonic() - start < 60, "the deadline of the parameters is 180 s"
    again = federated.run(params, "--apply", "--only", "02")
    assert again.returncode == 0, again.stderr
    assert verify(federated, params).returncode == 0


def test_a_primary_secret_that_is_gone_is_made_again(federated: Sandbox, params: Path) -> None:
    """Only Helm's hook makes it, so that 01 runs Helm although the release is as wanted, and says why."""
    federated.kubectl("sandbox-dc1", "-n", "consul", "delete", "secret", "consul-federation")
    planned = federated.run(params, "--only", "01")
    assert "because the federation secret is missing" in planned.stdout
    done = federated.run(params, "--apply", "--only", "01")
    assert done.returncode == 0, done.stderr
    assert federated.run(params, "--apply", "--only", "02").returncode == 0


def test_a_gateway_that_is_scaled_away_is_named_first(federated: Sandbox, params: Path) -> None:
    """04 fails with the gateway before its consequences; 03 says which command brings it back, without waiting."""
    scale = ("-n", "consul", "scale", "deployment/consul-mesh-gateway")
    federated.kubectl("sandbox-dc2", *scale, "--replicas=0")
    federated.kubectl(
        "sandbox-dc2",
        "-n",
        "consul",
        "wait",
        "pod",
        "-l",
        "component=mesh-gateway",
        "--for=delete",
        "--timeout=30s",
    )
    done = verify(federated, params)
    assert done.returncode == 40
    assert "gateway-registered (dc2)" in done.stderr.splitlines()[1]
    assert "1 check of 04-verification failed, and" in done.stderr
    setup = federated.run(params, "--apply", "--only", "03")
    assert setup.returncode == 30
    assert "scale deployments/consul-mesh-gateway --replicas=1" in setup.stderr
    federated.kubectl("sandbox-dc2", *scale, "--replicas=1")


def test_swapped_contexts_are_refused(federated: Sandbox, params: Path, tmp_path: Path) -> None:
    """Parameters that would turn the primary into a secondary stop in preflight, and nothing is written."""
    content = yaml.safe_load(params.read_text())
    content["primary"]["context"], content["secondaries"][0]["context"] = "sandbox-dc2", "sandbox-dc1"
    path = tmp_path / "swapped.yaml"
    path.write_text(yaml.safe_dump(content))
    before = federated.writes()
    done = federated.run(path, "--apply")
    assert done.returncode == 11
    assert "is datacenter 'dc2', not 'dc1'" in done.stderr
    assert federated.writes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"acls": False}, ("has ACLs on", "acls off")),
        ({"gossip_encryption": False}, ("has gossip encryption on", "gossip_encryption off")),
        ({"gossip_key": {"secret": "ours"}}, ("a generated gossip key", "the gossip key of secret ours")),
        ({"global_name": "mesh"}, ("named consul-…", "name them mesh-…")),
    ],
    ids=["acls", "gossip", "gossip key", "names"],
)
def test_what_makes_a_datacenter_is_never_changed(
    federated: Sandbox, params: Path, tmp_path: Path, change: dict[str, object], words: tuple[str, str]
) -> None:
    """Options that a running datacenter cannot take stop in preflight, which names what is and what was asked for."""
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(params.read_text()) | change))
    before = federated.writes()
    done = federated.run(path, "--apply")
    assert done.returncode == 11
    for each in words:
        assert each in done.stderr
    assert federated.writes() == before


def test_a_primary_that_moved_is_followed_by_its_secondaries(
    federated: Sandbox, params: Path, tmp_path: Path
) -> None:
    """02 copies the new addresses, and 03 restarts the servers that were started with the old ones; under one
    approved plan, and never again."""
    content = yaml.safe_load(params.read_text())
    content["mesh_gateway"] |= {"port": 9555, "replicas": 2}
    content["timeouts"] = {"install": 60, "ready": 60, "federation": 60}
    path = tmp_path / "moved.yaml"
    path.write_text(yaml.safe_dump(content))
    planned = federated.consulfed("plan", str(path), "-o", str(tmp_path / "plan"))
    assert planned.returncode == 0, planned.stderr
    done = federated.run(path, "--apply", "--approved-plan", str(tmp_path / "plan"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = federated.results()
    assert results["04-verification"]["outcome"] == "verified"
    assert servers_row(results)["what"] == "restarted one by one: consul-server-0"
    again = federated.run(path, "--apply")
    assert again.returncode == 0, again.stdout + again.stderr
    assert servers_row(federated.results())["outcome"] == "unchanged"


def servers_row(results: dict[str, Any]) -> dict[str, Any]:
    """What 03 did about the servers of dc2."""
    (row,) = [each for each in results["03-secondary-setup-dc2"]["changes"] if each["id"] == "servers"]
    return row
