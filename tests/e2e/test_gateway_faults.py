"""Gateways that nobody can reach: one error that names the address, and once it is mended the same file goes on.

In the order in which a person would meet them, on one sandbox: a port that another Service has, a name that nobody
published, and then the federation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import PARAMS, Sandbox
from .test_bad_input import said

NAME = "gateway.dc1.example.test"
PORT = 30555


def write(folder: Path, **primary: Any) -> Path:
    """A primary behind a DNS name of its own, a secondary behind a node port."""
    content = yaml.safe_load(PARAMS.read_text())
    content["timeouts"] = {"install": 60, "ready": 30, "federation": 60}
    content["primary"] |= primary | {
        "mesh_gateway": {"wan_address": "Static", "static": NAME, "wan_port": 8443}
    }
    content["secondaries"][0]["mesh_gateway"] = {"service": "NodePort", "node_port": PORT}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("params"))


def test_a_node_port_that_is_taken_is_named(sandbox: Sandbox, params: Path) -> None:
    """The port, and the Service that has it, are named before anything is written."""
    words = ("create", "service", "nodeport", "shop", "--tcp=80", f"--node-port={PORT}")
    sandbox.kubectl("sandbox-dc2", "-n", "default", *words)
    before = sandbox.writes()
    done = sandbox.run(params, "--apply")
    assert done.returncode == 11
    assert str(PORT) in said(done)
    assert "default/shop" in done.stderr
    assert sandbox.writes() == before
    sandbox.kubectl("sandbox-dc2", "-n", "default", "delete", "service", "shop")


def test_a_name_that_does_not_resolve_is_named(sandbox: Sandbox, params: Path) -> None:
    """The name that secondaries would dial is named before a secondary is installed that could never join."""
    done = sandbox.run(params, "--apply")
    assert done.returncode not in (0, 1)
    assert NAME in said(done)
    assert "consul-server" not in sandbox.kubectl("sandbox-dc2", "get", "statefulsets", "-A")


def test_the_same_federation_comes_up_once_the_name_is_published(sandbox: Sandbox, params: Path) -> None:
    """With the annotation that publishes the name, the run goes on from where it stopped, to the end."""
    annotation = f"external-dns.alpha.kubernetes.io/hostname: {NAME}\n"
    values = {"meshGateway": {"service": {"annotations": annotation}}}
    done = sandbox.run(write(params.parent, values=values), "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.results()["04-verification"]["outcome"] == "verified"
