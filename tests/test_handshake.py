"""Handshakes through a gateway: timed to the end, with the right server or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.errors import ClusterError
from consulfed_lib.handshake import Entrance, entrance

from .conftest import NearCluster

NODE, DC = "consul-server-0", "dc2"
NAME = f"{NODE}.server.{DC}.consul"
PODS = "GET /api/v1/namespaces/consul/pods"


@pytest.fixture
def near(https, kubeconfig, authority):
    """A cluster behind whose gateway a server with that name answers."""

    def make(name: str = NAME, signed_by: Any = authority) -> tuple[NearCluster, Any]:
        api, server = https(), https(names=(name,), signed_by=signed_by)
        cluster = NearCluster("dc1", kubeconfig(dc1=api.url))
        cluster.port = server.port
        return cluster, api

    return make


def through(cluster: NearCluster, authority: Any, domain: str = "consul") -> Entrance:
    return Entrance(cluster, "consul", "gateway-0", 8443, authority.pem, domain)


def pod(pod_name: str, ready: str = "True", **port: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": pod_name},
        "spec": {"containers": [{"name": "mesh-gateway", "ports": [port] if port else []}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_each_handshake_is_timed(near, authority):
    """As many as were asked for, each a connection of its own."""
    cluster, _ = near()
    taken = through(cluster, authority).handshakes(NODE, DC, 3)
    assert len(taken) == 3
    assert all(0 < each < 5000 for each in taken)


def test_a_domain_may_be_written_with_dots(near, authority):
    """As in Helm values."""
    cluster, _ = near(f"{NODE}.server.{DC}.mesh.example.com")
    assert through(cluster, authority, ".mesh.example.com.").handshakes(NODE, DC, 1)


def test_another_servers_certificate_is_no_handshake(near, authority):
    """A gateway that routes to the wrong place is not measured."""
    cluster, _ = near("consul-server-0.server.dc3.consul")
    with pytest.raises(ClusterError, match=f"No TLS with {NAME} through consul/gateway-0"):
        through(cluster, authority).handshakes(NODE, DC, 1)


def test_another_ca_is_no_handshake(near, authority, other_authority):
    cluster, _ = near(signed_by=other_authority)
    with pytest.raises(ClusterError, match="No TLS with"):
        through(cluster, authority).handshakes(NODE, DC, 1)


def test_the_first_gateway_that_is_ready_is_entered(near, authority):
    """By the port that its pod calls `gateway`; the chart's own where it names none."""
    cluster, api = near()
    api.answers[PODS] = (
        200,
        {"items": [pod("b"), pod("a", name="gateway", containerPort=9443), pod("0", "False")]},
    )
    found = entrance(cluster, "consul", "consul", authority.pem, "consul")
    assert found is not None
    assert (found.pod, found.port) == ("a", 9443)
    assert api.requests[-1].query["labelSelector"] == "component=mesh-gateway,release=consul"
    api.answers[PODS] = 200, {"items": [pod("b")]}
    found = entrance(cluster, "consul", "consul", authority.pem, "consul")
    assert found is not None
    assert found.port == 8443


def test_without_a_gateway_there_is_no_way_in(near, authority):
    cluster, api = near()
    api.answers[PODS] = 200, {"items": [pod("a", "False")]}
    assert entrance(cluster, "consul", "consul", authority.pem, "consul") is None
