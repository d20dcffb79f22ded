"""The servers of a datacenter: who is behind, and whether the next one may be restarted; asked the way they speak."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consulfed_lib.redact import Secret
from consulfed_lib.servers import Servers

from .conftest import ConsulServer

PODS = "GET /api/v1/namespaces/consul/pods"
SET = "GET /apis/apps/v1/namespaces/consul/statefulsets/consul-server"
NAMES = [f"consul-server-{i}" for i in range(3)]


def pod(name: str, revision: str = "new", ready: str = "True", port: int = 8501) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"controller-revision-hash": revision}},
        "spec": {"containers": [{"name": "consul", "ports": [{"containerPort": port}]}]},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "consul", "state": {"running": {}}}],
        },
    }


def healthy(**changes: dict[str, Any]) -> dict[str, Any]:
    """Autopilot's word; `changes` by ordinal: `two={"Voter": False}`."""
    words = ("zero", "one", "two")
    servers = [
        {"Name": name, "Healthy": True, "Voter": True, "Leader": word == "zero"} | changes.get(word, {})
        for name, word in zip(NAMES, words, strict=True)
    ]
    return {"Healthy": True, "Servers": [each for each in servers if not each.get("gone")]}


@pytest.fixture
def world(consul_server) -> Callable[..., tuple[ConsulServer, Servers]]:
    """Three servers that are well, and of the newest template."""

    def make(**values: Any) -> tuple[ConsulServer, Servers]:
        server = consul_server("dc1", token=Secret("t", b"a-token-of-the-test"))
        status = {"observedGeneration": 4, "updateRevision": "new"}
        server.api.answers[SET] = 200, {"metadata": {"generation": 4}, "status": status}
        pods(server, *map(pod, NAMES))
        server.answers("operator/autopilot/health", healthy())
        found = Servers(server.cluster, "consul", "consul", "consul", "dc1", values, 3, like=server.client)
        return server, found

    return make


def pods(server: ConsulServer, *those: dict[str, Any]) -> None:
    server.api.answers[PODS] = 200, {"items": list(those)}


def test_servers_that_are_well_are_told_with_their_leader(world):
    """Ready, healthy, voting, of the newest template."""
    _, servers = world()
    assert servers.behind() == []
    assert servers.look() == (True, "3 of 3 healthy and voting, leader consul-server-0")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (healthy(two={"Healthy": False}), "not healthy: consul-server-2"),
        (healthy(one={"Voter": False}), "without a vote: consul-server-1"),
        (healthy(zero={"Leader": False}), "no leader"),
        (healthy(two={"Name": "old-server"}), "still in raft: old-server"),
    ],
)
def test_one_that_is_not_well_keeps_the_next_from_being_restarted(world, found, words):
    """A second one that is away costs the quorum. Autopilot says it, with a 429 where one is not healthy."""
    server, servers = world()
    server.answers("operator/autopilot/health", found, status=429)
    seen = servers.look()
    assert not seen.done
    assert words in seen.state


def test_a_pod_that_is_not_ready_is_said_without_asking_consul(world):
    """Kubernetes knows it first."""
    server, servers = world()
    pods(server, pod(NAMES[0]), pod(NAMES[1], ready="False"))
    assert servers.health() == (False, "not ready: consul-server-1, consul-server-2")
    assert server.consul.requests == []


def test_servers_above_the_partition_only_are_looked_for_behind(world):
    """The others are left alone by Kubernetes, too."""
    server, servers = world()
    pods(server, pod(NAMES[0], "old"), pod(NAMES[1], "old"), pod(NAMES[2]))
    assert servers.behind(2) == []
    assert servers.behind(1) == ["consul-server-1"]
    assert servers.look(0) == (False, "consul-server-0, consul-server-1: not restarted yet")


def test_a_controller_that_has_not_looked_yet_has_restarted_nobody(world):
    """Right after Helm its status is that of before."""
    server, servers = world()
    status = {"observedGeneration": 3, "updateRevision": "new"}
    server.api.answers[SET] = 200, {"metadata": {"generation": 4}, "status": status}
    assert servers.behind(1) == NAMES[1:]
    del server.api.answers[SET]
    assert servers.behind() == NAMES


def test_who_is_asked_is_whoever_answers(world):
    """One that is just being restarted does not."""
    server, servers = world()
    server.cluster.gone = {NAMES[0]}
    assert servers.health().done
    server.cluster.gone = set(NAMES)
    assert servers.health() == (False, "no pod consul-server-2")


def test_the_leader_is_whom_autopilot_names(world):
    """Nobody, where none answers or none leads."""
    server, servers = world()
    assert servers.leader() == NAMES[0]
    server.answers("operator/autopilot/health", healthy(zero={"Leader": False}), status=429)
    assert servers.leader() == ""
    server.cluster.gone = set(NAMES)
    assert servers.leader() == ""
    assert servers.term() == 0


def secret(value: str) -> tuple[int, Any]:
    return 200, {"data": {"token": base64.b64encode(value.encode()).decode()}}


def test_the_weakest_token_that_does_is_taken(world):
    """The replication token sees all of Consul's own state; what changes the catalog takes the bootstrap token."""
    server, servers = world(**{"global": {"acls": {"manageSystemACLs": True}}})
    where = "GET /api/v1/namespaces/consul/secrets/consul-"
    server.api.answers[f"{where}bootstrap-acl-token"] = secret("bootstrap-token")
    assert servers.token() == Secret("", b"bootstrap-token")
    server.api.answers[f"{where}acl-replication-acl-token"] = secret("replication-token")
    assert servers.token() == Secret("", b"replication-token")
    assert servers.token(admin=True) == Secret("", b"bootstrap-token")
    assert replace(servers, values={}).token() is None


def test_each_server_is_asked_the_way_its_own_pod_speaks(world, authority):
    """While TLS comes on some have it, and some have not."""
    server, servers = world()
    pem = base64.b64encode(authority.pem.encode()).decode()
    server.api.answers["GET /api/v1/namespaces/consul/secrets/consul-ca-cert"] = (
        200,
        {"data": {"tls.crt": pem}},
    )
    found = replace(servers, like=None)
    mixed = {name: pod(name, port=port) for name, port in zip(NAMES, (8500, 8501, 8500), strict=True)}
    assert [bool(each.ca_pem) for each in found.consuls(mixed)] == [False, True, False]
