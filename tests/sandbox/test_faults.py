"""Each fault is in force after it was injected, as seen in the world, and gone after it was cleared.

On one federation, with real Consul, Envoy and Helm: one fault after another, each taken back before the next.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from consulfed_lib import places
from consulfed_lib.errors import SandboxError
from consulfed_lib.sandbox import faults, lifecycle, status
from consulfed_lib.sandbox.disturbances import AHEAD_SECONDS, SLOW_SECONDS
from consulfed_lib.sandbox.faults import memory
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.state import Folder
from consulfed_lib.waiting import Seen, wait_for

ROOT = Path(__file__).parents[2]
NAMESPACE = ("-n", "consul")
COPY = "consul-federation"
DIAL_SECONDS = 1.0
AGAIN_SECONDS = 90.0


def quiet(line: str) -> None:
    pass


class Sandbox:
    """A sandbox, looked at as its administrator looks at clusters."""

    def __init__(self, folder: Folder):
        self.folder = folder
        shape = folder.shape()
        assert shape is not None
        self.clusters: dict[str, ClusterLayout] = {
            one.name: one for one in shape.layout(folder.path).clusters
        }

    def run(self, program: str, dc: str, *words: str, stdin: str = "", ok: bool = True) -> str:
        path = places.find_program(program)
        assert path is not None
        context = "--kube-context" if program == "helm" else "--context"
        where = ["--kubeconfig", str(self.folder.kubeconfig), context, f"sandbox-{dc}-admin"]
        done = subprocess.run([path, *where, *words], input=stdin, capture_output=True, text=True, timeout=60)
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout if ok else done.stdout + done.stderr

    def get(self, dc: str, *words: str) -> Any:
        return json.loads(self.run("kubectl", dc, *NAMESPACE, "get", *words, "-o", "json"))

    def secret(self, dc: str, name: str = COPY) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in self.get(dc, "secret", name)["data"].items()}

    def consul(self, dc: str, *words: str, token: str = "", at: int = 2) -> str:
        """The CLI in a server's pod, and what it says wherever; its token goes by standard input."""
        token = token or self.secret("dc1", "consul-bootstrap-acl-token")["token"].decode()
        pod = [*NAMESPACE, "exec", "-i", "consul-server-0", "-c", "consul", "--", "consul"]
        return self.run(
            "kubectl", dc, *pod, *words[:at], "-token-file=/dev/stdin", *words[at:], stdin=token, ok=False
        )

    def gateway(self, dc: str) -> tuple[str, int]:
        """Where the Service of a mesh gateway is now."""
        service = self.get(dc, "service", "consul-mesh-gateway")
        return service["status"]["loadBalancer"]["ingress"][0]["ip"], service["spec"]["ports"][0]["port"]

    def server(self, dc: str) -> tuple[str, int]:
        return self.get(dc, "pod", "consul-server-0")["status"]["podIP"], 8501

    def answer(self, dc: str, seconds: float = 10) -> tuple[float, datetime]:
        """How long the API server takes for an answer, and what time it says that it is."""
        config = yaml.safe_load(self.folder.kubeconfig.read_text())
        authority = next(
            one["cluster"]["certificate-authority-data"]
            for one in config["clusters"]
            if one["name"] == f"sandbox-{dc}"
        )
        context = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        asked = time.monotonic()
        url = f"{self.clusters[dc].api_url}/version"
        with urllib.request.urlopen(url, context=context, timeout=seconds) as found:
            return time.monotonic() - asked, parsedate_to_datetime(found.headers["Date"])

    def certificate(self, address: tuple[str, int], name: str = "localhost") -> x509.Certificate | None:
        """What is shown there to who asks for that name; None where no handshake comes about."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            suppress(OSError),
            socket.create_connection(address, 5) as plain,
            context.wrap_socket(plain, server_hostname=name) as made,
        ):
            return x509.load_der_x509_certificate(made.getpeercert(True) or b"")
        return None

    def arrives(self, source: str, address: tuple[str, int]) -> bool:
        """Whether a connection from one cluster comes about; it is not refused where it does not."""
        from_there = (self.clusters[source].pod_addresses[-2], 0) if source else None
        try:
            socket.create_connection(address, DIAL_SECONDS, from_there).close()
        except TimeoutError:
            return False
        return True


def no_room_is_left(sandbox: Sandbox) -> bool:
    """In Consul's own words."""
    said = sandbox.run("kubectl", "dc2", *NAMESPACE, "logs", "consul-server-0", "--tail", "5")
    return "raft.db: no space left on device" in said


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    return False


# What is seen of each fault while it is in force, and not before or after


def no_gateway(dc: str) -> Callable[[Sandbox], bool]:
    return lambda sandbox: not sandbox.get(dc, "pods", "-l", "component=mesh-gateway")["items"]


def told_gateways_refuse(sandbox: Sandbox) -> bool:
    """The address that secondaries were told."""
    told = json.loads(sandbox.secret("dc2")["serverConfigJSON"])["primary_gateways"]
    return all(is_refused((host, int(port))) for host, _, port in (one.rpartition(":") for one in told))


def no_proxy_defaults(sandbox: Sandbox) -> bool:
    said = sandbox.consul("dc1", "config", "list", "-kind=proxy-defaults")
    return "global" not in said.split()


def a_server_has_no_place(sandbox: Sandbox) -> bool:
    pod = sandbox.get("dc2", "pod", "consul-server-0")
    return pod["status"]["phase"] == "Pending"


def a_job_has_failed(sandbox: Sandbox) -> bool:
    jobs = sandbox.get("dc1", "jobs")["items"]
    return any(
        condition["type"] == "Failed"
        for job in jobs
        if job["metadata"]["name"] == "consul-create-federation-secret"
        for condition in job["status"].get("conditions", [])
    )


def helm_is_at_it(sandbox: Sandbox) -> bool:
    found = json.loads(sandbox.run("helm", "dc1", *NAMESPACE, "status", "consul", "-o", "json"))
    return found["info"]["status"] == "pending-upgrade"


def differs(*keys: str) -> Callable[[Sandbox], bool]:
    """The copy in dc2, compared with the federation secret of dc1: in exactly these keys."""

    def seen(sandbox: Sandbox) -> bool:
        first, copy = sandbox.secret("dc1"), sandbox.secret("dc2")
        return {key for key in first.keys() | copy.keys() if first.get(key) != copy.get(key)} == set(keys)

    return seen


def ca_is_encoded_twice(sandbox: Sandbox) -> bool:
    return base64.b64decode(sandbox.secret("dc2")["caCert"]) == sandbox.secret("dc1")["caCert"]


def no_label(sandbox: Sandbox) -> bool:
    found = [sandbox.get(dc, "secret", COPY)["metadata"].get("labels") or {} for dc in ("dc1", "dc2")]
    return all("managed-by" not in labels for labels in found)


def certificate_has_ended(sandbox: Sandbox) -> bool:
    shown = sandbox.certificate(sandbox.server("dc2"))
    return shown is not None and shown.not_valid_after_utc < datetime.now(UTC)


def pools_are_apart(sandbox: Sandbox) -> bool:
    """dc2 sees no server of dc1 alive, and its copy has another key than the original."""
    lines = sandbox.consul("dc2", "members", "-wan", at=1).splitlines()
    return not any(line.startswith("consul-server-0.dc1") and "alive" in line for line in lines)


def token_is_unknown(sandbox: Sandbox) -> bool:
    token = sandbox.secret("dc2")["replicationToken"].decode()
    return "ACL not found" in sandbox.consul("dc1", "acl", "token", "read", "-self", token=token, at=3)


def consul_does_not_start(sandbox: Sandbox) -> bool:
    """It says itself why: only a secondary dials gateways of a primary."""
    waiting = sandbox.get("dc2", "pod", "consul-server-0")["status"]["containerStatuses"][0]["state"]
    log = sandbox.run("kubectl", "dc2", *NAMESPACE, "logs", "consul-server-0", ok=False)
    return "waiting" in waiting and "should only be configured in a secondary datacenter" in log


def acls_are_off(sandbox: Sandbox) -> bool:
    return "ACL support disabled" in sandbox.consul("dc2", "acl", "token", "list", at=3)


def nobody_is_asked(sandbox: Sandbox) -> bool:
    """The Kubernetes API that the primary would ask about logins of dc2 refuses."""
    name = "consul-k8s-component-auth-method-dc2"
    words = ("acl", "auth-method", "read", f"-name={name}", "-format=json")
    host = json.loads(sandbox.consul("dc1", *words, at=3))["Config"]["Host"].removeprefix("https://")
    return is_refused((host.partition(":")[0], int(host.partition(":")[2])))


def a_gateway_without_a_pod(sandbox: Sandbox) -> bool:
    said = sandbox.consul("dc1", "catalog", "nodes", "-service=mesh-gateway")
    return "drained-node" in said


def no_address_is_given(sandbox: Sandbox) -> bool:
    """A new Service gets none, with a word of why; one that has an address keeps it."""
    assert sandbox.gateway("dc1")
    name = "for-an-address"
    sandbox.run("kubectl", "dc1", *NAMESPACE, "create", "service", "loadbalancer", name, "--tcp=8080")

    uid = sandbox.get("dc1", "service", name)["metadata"]["uid"]
    why: list[str] = []

    def look() -> Seen:
        given = sandbox.get("dc1", "service", name)["status"]["loadBalancer"].get("ingress")
        events = sandbox.get("dc1", "events", "--field-selector", f"involvedObject.uid={uid}")["items"]
        why[:] = [one["message"] for one in events if one["reason"] == "SyncLoadBalancerFailed"]
        return Seen(bool(given or why), str(given or why))

    try:
        wait_for("an address, or why there is none", look, 15)
        return any("quota" in one for one in why)
    finally:
        sandbox.run("kubectl", "dc1", *NAMESPACE, "delete", "service", name)


def tls_ends_at_the_balancer(sandbox: Sandbox) -> bool:
    shown = sandbox.certificate(sandbox.gateway("dc2"), "server.dc2.consul")
    return shown is not None and "gateway.sandbox-dc2.test" in shown.subject.rfc4514_string()


def one_way_is_closed(sandbox: Sandbox) -> bool:
    assert sandbox.arrives("dc1", sandbox.gateway("dc2")), "the other way is open"
    assert sandbox.arrives("", sandbox.gateway("dc1")), "and it is open for others"
    return not sandbox.arrives("dc2", sandbox.gateway("dc1"))


def is_cut_off(sandbox: Sandbox) -> bool:
    api = (sandbox.clusters["dc2"].api_address, 6443)
    return not sandbox.arrives("", api) and not sandbox.arrives("dc2", sandbox.gateway("dc1"))


def api_is_down(sandbox: Sandbox) -> bool:
    return is_refused((sandbox.clusters["dc2"].api_address, 6443))


def api_is_slow(sandbox: Sandbox) -> bool:
    return sandbox.answer("dc2")[0] >= SLOW_SECONDS


def clock_is_ahead(sandbox: Sandbox) -> bool:
    ahead = (sandbox.answer("dc2")[1] - datetime.now(UTC)).total_seconds()
    return abs(ahead - AHEAD_SECONDS) < 10


SEEN: dict[str, Callable[[Sandbox], bool]] = {
    "load-balancer-pending": no_address_is_given,
    "tls-terminating-balancer": tls_ends_at_the_balancer,
    "firewall-drop": one_way_is_closed,
    "partitioned": is_cut_off,
    "api-server-down": api_is_down,
    "api-server-slow": api_is_slow,
    "clock-skew": clock_is_ahead,
    "gateway-down": no_gateway("dc2"),
    "primary-gateway-down": no_gateway("dc1"),
    "gateway-address-changed": told_gateways_refuse,
    "proxy-defaults-missing": no_proxy_defaults,
    "server-down": a_server_has_no_place,
    "failed-job": a_job_has_failed,
    "release-pending": helm_is_at_it,
    "stale-copy": differs("serverConfigJSON"),
    "wrong-ca-in-copy": differs("caCert", "caKey"),
    "double-base64-ca": differs("caCert"),
    "federation-secret-edited": differs("caKey"),
    "managed-by-stripped": no_label,
    "expired-server-certificate": certificate_has_ended,
    "gossip-key-mismatch": pools_are_apart,
    "replication-token-revoked": token_is_unknown,
    "duplicate-datacenter": consul_does_not_start,
    "disk-full": no_room_is_left,
    "acls-off": acls_are_off,
    "api-url-unreachable": nobody_is_asked,
    "stale-gateway-in-catalog": a_gateway_without_a_pod,
}
"""Fault → whether it is seen. `quorum-lost` needs three servers, and has a test of its own."""


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two datacenters with one server each, federated by the runbook."""
    folder = Folder(tmp_path_factory.mktemp("faults") / "sandbox")
    lifecycle.up(folder, 2, 1, None, quiet)
    try:
        env = {**os.environ, places.SANDBOX_VARIABLE: str(folder.path), "KUBECONFIG": str(folder.kubeconfig)}
        words = [
            "run",
            str(ROOT / "params" / "sandbox.yaml"),
            "--apply",
            "--records",
            str(folder.path.parent),
        ]
        command = [sys.executable, "-m", "consulfed_lib.cli", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        yield Sandbox(folder)
    finally:
        lifecycle.down(folder, False, quiet)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Folder]:
    """Two clusters with nothing in them."""
    folder = Folder(tmp_path / "sandbox")
    lifecycle.up(folder, 2, 1, None, quiet)
    yield folder
    lifecycle.down(folder, False, quiet)


def test_every_fault_has_something_that_is_seen_of_it():
    """A fault that no test looks at might be none."""
    assert {*SEEN, "quorum-lost"} == set(faults.FAULTS)


@pytest.mark.parametrize("name", SEEN)
def test_it_is_there_after_it_was_injected_and_gone_after_it_was_cleared(federated: Sandbox, name: str):
    """Seen by what an administrator uses; the sandbox's status names it as long as it is there."""
    seen = SEEN[name]
    assert not seen(federated), "before"
    faults.inject(federated.folder, name)
    assert faults.active(federated.folder) == [name]
    assert f"faults in force: {name}" in str(status.look(federated.folder))
    assert seen(federated), "in force"
    assert faults.clear(federated.folder, name) == [name]
    assert faults.active(federated.folder) == []
    # What Consul's servers learn from each other again comes a moment after they are as they were.
    wait_for(f"{name} is over", lambda: Seen(not seen(federated), "it is still seen"), AGAIN_SECONDS)


def test_what_was_not_injected_is_cleared_without_harm(federated: Sandbox):
    """As after a process that was killed before it had changed anything."""
    before = [federated.get(dc, "secrets,configmaps,services,nodes") for dc in ("dc1", "dc2")]
    for name in faults.FAULTS:
        memory.begin(federated.folder, name)
    assert faults.clear(federated.folder) == list(reversed(faults.FAULTS))
    assert [federated.get(dc, "secrets,configmaps,services,nodes") for dc in ("dc1", "dc2")] == before
    assert faults.clear(federated.folder) == []


def test_one_that_was_cut_off_in_the_middle_is_cleared_by_another_process(federated: Sandbox):
    """Killed while the servers start with a certificate that has ended; afterwards they show the one from before."""
    before = federated.certificate(federated.server("dc2"))
    name = "expired-server-certificate"
    command = [sys.executable, "-m", "consulfed_lib.cli", "sandbox", "fault", name]
    uid = federated.get("dc2", "pod", "consul-server-0")["metadata"]["uid"]
    inject = subprocess.Popen([*command, "--folder", str(federated.folder.path)], stderr=subprocess.PIPE)

    def look() -> Seen:
        pods = federated.get("dc2", "pods", "-l", "component=server")["items"]
        going = [
            one for one in pods if one["metadata"]["uid"] != uid or "deletionTimestamp" in one["metadata"]
        ]
        return Seen(not pods or bool(going), "the server is as it was")

    wait_for("the server is being started again", look, 30)
    inject.send_signal(signal.SIGKILL)
    inject.communicate()
    assert faults.active(federated.folder) == [name]
    assert faults.clear(federated.folder) == [name]
    assert federated.certificate(federated.server("dc2")) == before


def test_what_somebody_mended_stays_as_they_left_it(federated: Sandbox):
    """Clearing puts back only what still is as the fault made it."""
    faults.inject(federated.folder, "double-base64-ca")
    mended = base64.b64encode(b"mended").decode()
    patch = json.dumps({"data": {"caCert": mended}})
    federated.run("kubectl", "dc2", *NAMESPACE, "patch", "secret", COPY, "--type=merge", "-p", patch)
    faults.clear(federated.folder)
    assert federated.secret("dc2")["caCert"] == b"mended"
    original = base64.b64encode(federated.secret("dc1")["caCert"]).decode()
    patch = json.dumps({"data": {"caCert": original}})
    federated.run("kubectl", "dc2", *NAMESPACE, "patch", "secret", COPY, "--type=merge", "-p", patch)


def test_two_faults_of_one_thing_are_refused(federated: Sandbox):
    """Taken back in the wrong order they would leave neither what was there before; the second has changed nothing."""
    faults.inject(federated.folder, "stale-copy")
    copy = federated.secret("dc2")
    with pytest.raises(SandboxError, match="stale-copy is in force on the same thing"):
        faults.inject(federated.folder, "wrong-ca-in-copy")
    assert federated.secret("dc2") == copy
    assert faults.active(federated.folder) == ["stale-copy"]
    assert faults.clear(federated.folder) == ["stale-copy"]


def test_one_that_is_there_already_begins_anew(federated: Sandbox):
    """Injecting it again is as injecting it once."""
    before = federated.secret("dc2")
    for _ in range(2):
        faults.inject(federated.folder, "wrong-ca-in-copy")
    assert faults.clear(federated.folder) == ["wrong-ca-in-copy"]
    assert federated.secret("dc2") == before


def test_what_is_remembered_is_for_its_user_only(federated: Sandbox):
    """A copy of a Secret may be in it."""
    faults.inject(federated.folder, "stale-copy")
    paths = list(federated.folder.faults.glob("*.json"))
    assert [path.name for path in paths] == ["stale-copy.json"]
    assert [path.stat().st_mode & 0o777 for path in (federated.folder.faults, *paths)] == [0o700, 0o600]
    faults.clear(federated.folder)
    assert list(federated.folder.faults.iterdir()) == []


# On clusters with nothing in them


def test_a_fault_of_a_federation_needs_one(empty: Folder):
    """It says how to get one, and leaves nothing behind."""
    with pytest.raises(SandboxError, match="no Consul in sandbox-dc2") as refused:
        faults.inject(empty, "gateway-down")
    assert "consulfed run" in refused.value.hint
    assert faults.active(empty) == []


def test_a_name_that_is_none_is_answered_with_all_that_are(empty: Folder):
    """To inject and to clear alike."""
    for wrong in (faults.inject, faults.clear):
        with pytest.raises(SandboxError, match="no fault gateway-dwn") as refused:
            wrong(empty, "gateway-dwn")
        assert all(name in refused.value.hint for name in faults.FAULTS)


def test_it_outlives_a_supervisor_that_is_killed_and_not_the_sandbox(empty: Folder):
    """As a machine that is started again has the same network; a sandbox that is taken down leaves none."""
    faults.inject(empty, "clock-skew")
    process = empty.process()
    assert process is not None
    descriptor = process.open()
    assert descriptor is not None
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    select.select([descriptor], [], [])
    os.close(descriptor)
    lifecycle.up(empty, None, None, None, quiet)
    assert clock_is_ahead(Sandbox(empty))
    assert faults.clear(empty) == ["clock-skew"]
    assert not clock_is_ahead(Sandbox(empty))
    faults.inject(empty, "api-server-down")
    lifecycle.down(empty, False, quiet)
    assert faults.active(empty) == []
    with pytest.raises(SandboxError, match="No sandbox is up"):
        faults.inject(empty, "api-server-down")


def test_a_quorum_is_lost_and_comes_back(tmp_path: Path):
    """Two of three servers die at once, and the third knows no leader; where there is one only, none can be lost."""
    folder = Folder(tmp_path / "sandbox")
    lifecycle.up(folder, 2, 3, None, quiet)
    try:
        sandbox = Sandbox(folder)
        install = ("install", "consul", str(folder.chart), *NAMESPACE, "--create-namespace", "--wait")
        sandbox.run(
            "helm",
            "dc2",
            *install,
            "--set",
            "global.name=consul,server.replicas=3,connectInject.enabled=false",
        )

        def leader() -> Seen:
            said = sandbox.run("kubectl", "dc2", *NAMESPACE, "exec", "consul-server-0", "--", "consul", "operator",
                               "raft", "list-peers", ok=False)  # fmt: skip
            return Seen("leader" in said.split(), said.strip())

        assert leader().done
        faults.inject(folder, "quorum-lost")
        assert not leader().done
        assert faults.clear(folder) == ["quorum-lost"]
        wait_for("a leader is known", leader, 30)
    finally:
        lifecycle.down(folder, False, quiet)
