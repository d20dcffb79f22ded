"""A release in the sandbox, by Helm and the sandbox's chart: its programs live and die with the supervisor."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time

import pytest

from consulfed_lib.sandbox import claims, lifecycle, status, tools
from consulfed_lib.sandbox.state import Folder

VALUES = (
    "global.name=consul,global.datacenter=dc1,global.tls.enabled=true,"
    "global.federation.enabled=true,global.federation.createFederationSecret=true,"
    "global.acls.manageSystemACLs=true,global.acls.createReplicationToken=true,"
    "global.gossipEncryption.autoGenerate=true,"
    "connectInject.enabled=true,meshGateway.enabled=true,meshGateway.service.port=8443"
)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A sandbox of one cluster with a primary datacenter in it."""
    folder = Folder(tmp_path_factory.mktemp("sandbox") / "released")
    lifecycle.up(folder, 1, None, None, quiet)
    try:
        run(folder, "helm", "install", "consul", str(folder.chart), "--namespace=consul", "--create-namespace",
            "--set", VALUES, "--wait", "--timeout=90s")  # fmt: skip
        yield folder
    finally:
        lifecycle.down(folder, False, quiet)


def run(folder: Folder, name: str, *words: str) -> str:
    """Run helm or kubectl as the cluster's administrator."""
    program = tools.ensure(name)[name].path
    env = {**os.environ, "KUBECONFIG": str(folder.kubeconfig)}
    context = {"helm": "--kube-context", "kubectl": "--context"}[name]
    done = subprocess.run(
        [program, f"{context}=sandbox-dc1-admin", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kubectl(folder: Folder, *words: str) -> str:
    return run(folder, "kubectl", "--namespace=consul", *words)


def members(folder: Folder) -> str:
    return kubectl(folder, "exec", "consul-server-0", "--", "consul", "members")


def programs(folder: Folder) -> dict[str, status.Program]:
    (cluster,) = status.look(folder).clusters
    return {program.name: program for program in cluster.programs}


def test_the_status_names_the_release_and_each_program_with_its_pod(released):
    """One real Consul server and one real Envoy, and what they use."""
    (cluster,) = status.look(released).clusters
    assert cluster.releases == ["consul/consul revision 1 deployed"]
    found = programs(released)
    assert set(found) == {"consul", "envoy"}
    assert found["consul"].pod == "consul/consul-server-0"
    assert found["envoy"].pod.startswith("consul/consul-mesh-gateway-")
    assert found["consul"].memory_mib > 10
    assert " alive " in members(released)


def test_programs_die_with_the_supervisor_and_come_back_with_it(released):
    """kill -9 leaves nothing behind; the next `up` goes on with the release, its data and its ACLs."""
    pidfds = [os.pidfd_open(program.pid) for program in programs(released).values()]
    os.kill(released.process().pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], deadline - time.monotonic())[0], (
            "a program outlived the supervisor"
        )
        os.close(pidfd)
    lifecycle.up(released, None, None, None, quiet)
    restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1"
    for state in (restarted, "condition=Ready"):
        kubectl(released, "wait", "pod/consul-server-0", f"--for={state}", "--timeout=60s")
    assert " alive " in members(released)


def test_programs_end_with_down(released):
    """In good order: no process, no port."""
    pids, block = [program.pid for program in programs(released).values()], released.shape().block
    assert pids
    lifecycle.down(released, True, quiet)
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")] == []
    assert claims.listening(block) == []
