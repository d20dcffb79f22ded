"""Service traffic between two datacenters: real proxies, real certificates, both gateways; and nothing left of it.

In the order in which a person would meet them, on one sandbox: a healthy federation, what a killed run left, an
intention that lets everybody in, and a gateway that is away.
"""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib.runner import RUNNER_LABEL, runner_label
from consulfed_lib.traffic.manifests import LABEL
from consulfed_lib.traffic.settings import Settings

from .conftest import PARAMS, Sandbox

SPACE = Settings().namespace
NOTEBOOK = "05-cross-datacenter-traffic"
PAIRS = ["dc1 to dc2", "dc2 to dc1"]


@pytest.fixture(scope="module", autouse=True)
def federated(sandbox: Sandbox) -> None:
    """The notebooks of a whole run, which leaves this one out."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    assert not any(name.startswith("05") for name in sandbox.results())


def tried(sandbox: Sandbox, params: Path = PARAMS, code: int = 0) -> dict[str, Any]:
    """The result of a trial that ended with that exit code."""
    done = sandbox.run(params, "--only", "05", "--apply")
    assert done.returncode == code, done.stderr
    return sandbox.results().get(NOTEBOOK, {})


def severities(result: dict[str, Any], id: str) -> dict[str, str]:
    """Subject → severity of a check."""
    return {each["subject"]: each["severity"] for each in result["checks"] if each["id"] == id}


def assert_nothing_is_left(sandbox: Sandbox) -> None:
    for name in ("dc1", "dc2"):
        context = f"sandbox-{name}"
        assert SPACE not in sandbox.kubectl(context, "get", "namespaces")
        assert "consulfed-" not in consul(sandbox, name, "catalog services")


def consul(sandbox: Sandbox, name: str, command: str, *words: str) -> str:
    """What Consul's own command says in a datacenter, with the bootstrap token."""
    secret = ("-n", "consul", "get", "secret", "consul-bootstrap-acl-token", "-o", "jsonpath={.data.token}")
    token = base64.b64decode(sandbox.kubectl("sandbox-dc1", *secret)).decode()
    # By standard input: an argument could be read by everybody on this machine.
    consul = ("consul", *command.split(), "-token-file=/dev/stdin", *words)
    pod = ("-n", "consul", "exec", "-i", "consul-server-0", "--")
    return sandbox.kubectl(f"sandbox-{name}", *pod, *consul, stdin=token)


def test_each_datacenter_reaches_the_others_service_only_while_it_is_allowed(sandbox: Sandbox) -> None:
    """Refused, answered with the other's name, refused again: in both directions."""
    result = tried(sandbox)
    assert result["outcome"] == "verified"
    for id in ("traffic-refused", "traffic-allowed"):
        assert severities(result, id) == dict.fromkeys(PAIRS, "ok")
    assert severities(result, "traffic-cleaned") == {"dc1": "ok", "dc2": "ok"}
    assert {f"latency {pair}" for pair in PAIRS} <= result["facts"].keys()
    assert_nothing_is_left(sandbox)


def test_the_connections_go_through_both_gateways(sandbox: Sandbox) -> None:
    """Each gateway's log has the name of the other datacenter's service: out of the one, into the other."""
    for name in ("dc1", "dc2"):
        log = sandbox.kubectl(f"sandbox-{name}", "-n", "consul", "logs", "deploy/consul-mesh-gateway")
        for called in ("dc1", "dc2"):
            assert f"sni=consulfed-echo-{called}.default.{called}.internal." in log


def test_a_dry_run_writes_nothing(sandbox: Sandbox) -> None:
    """It says what it would make."""
    before = sandbox.writes()
    assert sandbox.run(PARAMS, "--only", "05").returncode == 0
    assert sandbox.results()[NOTEBOOK]["outcome"] == "planned"
    assert sandbox.writes() == before


def test_what_a_killed_run_left_is_removed_first(sandbox: Sandbox) -> None:
    """Its process is gone, so that nobody is at work any more."""
    with subprocess.Popen(["sleep", "60"]) as killed:
        label = runner_label(killed.pid)
        killed.kill()
    labels = {LABEL: "echo", RUNNER_LABEL: label}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "left", "namespace": SPACE, "labels": labels},
    }
    sandbox.kubectl("sandbox-dc2", "apply", "-f", "-", stdin=yaml.safe_dump_all([space, account]))
    result = tried(sandbox)
    removed = [each["outcome"] for each in result["changes"] if each["id"] == "traffic-leftovers"]
    assert removed == ["unchanged", "deleted"]
    assert_nothing_is_left(sandbox)


def test_an_intention_that_lets_everybody_in_is_forbidden_for_the_trial(sandbox: Sandbox) -> None:
    """The first call would be answered otherwise, and would prove nothing; afterwards it is as it was."""
    consul(sandbox, "dc1", "intention create", "-allow", "*", "*")
    try:
        result = tried(sandbox)
        assert severities(result, "traffic-refused") == dict.fromkeys(PAIRS, "ok")
        assert "Allowed" in consul(sandbox, "dc1", "intention check", "any", "other")
    finally:
        consul(sandbox, "dc1", "intention delete", "*", "*")
    assert_nothing_is_left(sandbox)


def test_a_gateway_that_is_away_is_a_failure_that_leaves_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """The error names what was waited for, and what was made before is removed."""
    content = yaml.safe_load(PARAMS.read_text())
    content["timeouts"] = {"install": 60, "ready": 10, "federation": 10}
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(content))
    scale = ("-n", "consul", "scale", "deployment", "consul-mesh-gateway")
    sandbox.kubectl("sandbox-dc2", *scale, "--replicas=0")
    done = sandbox.run(params, "--only", "05", "--apply")
    assert done.returncode == 31, done.stderr
    assert "consulfed-echo-" in done.stderr
    assert_nothing_is_left(sandbox)
