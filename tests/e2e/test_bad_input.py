"""What goes wrong in practice: one sentence of cause, one of remedy, an exit code, and the same command works again."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import PARAMS, Sandbox


@pytest.fixture
def params(tmp_path: Path):
    """Writes a params file that differs from the sandbox's in some keys."""

    def write(**changes: object) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(PARAMS.read_text()) | changes))
        return path

    return write


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What the command said; never a traceback of ours."""
    assert "Traceback" not in done.stderr + done.stdout
    assert "What to do:" in done.stderr
    return done.stderr


def test_a_wrong_context_is_named(sandbox: Sandbox, params) -> None:
    """A context that the kubeconfig does not have is named, with those that it has."""
    done = sandbox.run(params(primary={"context": "nowhere", "datacenter": "dc1"}), "--apply")
    assert done.returncode == 10
    assert "nowhere" in said(done)
    assert "sandbox-dc1" in said(done)
    assert sandbox.writes() == []


def test_an_api_server_that_is_down_is_named(sandbox: Sandbox, params, tmp_path: Path) -> None:
    """An API server that does not answer stops the run before anything is written anywhere."""
    kubeconfig = yaml.safe_load(Path(sandbox.env["KUBECONFIG"]).read_text())
    kubeconfig["clusters"][1]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    done = sandbox.run(params(kubeconfig=str(tmp_path / "kubeconfig")), "--apply")
    assert done.returncode == 11
    assert "https://127.0.0.1:1 does not answer" in said(done)
    assert sandbox.writes() == []


def test_a_secret_that_is_missing_is_named(sandbox: Sandbox) -> None:
    """02 before 01 says which secret is missing where, and which notebook makes it."""
    done = sandbox.run(PARAMS, "--apply", "--only", "02")
    assert done.returncode == 11
    assert "consul/consul-federation" in said(done)
    assert "01-primary-setup" in said(done)
    assert sandbox.writes() == []


def test_too_few_nodes_are_found_before_anything_is_written(sandbox: Sandbox, params) -> None:
    """Three servers do not fit on one node, and preflight says so for both clusters at once."""
    done = sandbox.run(params(servers=3), "--apply")
    assert done.returncode == 11
    assert said(done).count("1 node can run servers, 3 wanted") == 2


def test_a_gateway_that_gets_no_address(sandbox: Sandbox, params) -> None:
    """A load balancer without address ends in the last state seen; freed, the same command goes on to the end."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("0.0.0.0", 8555))
        taken.listen()
        path = params(mesh_gateway={"port": 8555}, timeouts={"install": 12, "ready": 5, "federation": 60})
        done = sandbox.run(path, "--apply")
        assert done.returncode in (30, 31)
        assert "gateway address none yet (SyncLoadBalancerFailed: cannot listen on 127." in said(done)
    longer = params(mesh_gateway={"port": 8555}, timeouts={"install": 120, "ready": 60, "federation": 120})
    again = sandbox.run(longer, "--apply")
    assert again.returncode == 0, again.stderr


def test_a_block_that_is_taken(sandbox: Sandbox) -> None:
    """A second sandbox on the same addresses is refused with their name."""
    block = json.loads(sandbox.consulfed("sandbox", "status", "-o", "json").stdout)["block"]
    done = sandbox.consulfed(
        "sandbox", "up", "--block", str(block), "--folder", str(sandbox.folder / "second")
    )
    assert done.returncode == 60
    assert f"127.{block}.0.1" in said(done)
