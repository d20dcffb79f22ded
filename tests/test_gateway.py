"""The addresses of mesh gateways, as the cluster has them and as Consul knows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consulfed_lib.gateway import (
    catalog_addresses,
    difference,
    gateway_pods,
    ingress_host,
    join,
    listed,
    live_addresses,
    split,
)
from consulfed_lib.params import MeshGateway

CONSUL = "/api/v1/namespaces/consul"
LABELS = {"app": "consul", "component": "mesh-gateway", "release": "consul"}


def service(kind: str = "LoadBalancer", *ingress: dict[str, str], **spec: Any) -> dict[str, Any]:
    ports = [{"port": 8443, "nodePort": 30443}, {"port": 9999}]
    return {
        "spec": {"type": kind, "ports": ports, "clusterIP": "10.96.0.7"} | spec,
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


def pod(name: str, host: str = "", node: str = "", **changes: Any) -> dict[str, Any]:
    status = {"phase": "Running"} | ({"hostIP": host} if host else {})
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node} if node else {},
        "status": status,
    } | changes


@pytest.fixture
def addresses(cluster, api) -> Callable[..., set[str]]:
    """The addresses of a cluster with this Service and these gateway pods."""

    def look(found: dict[str, Any] | None, *pods: dict[str, Any], **gateway: Any) -> set[str]:
        if found:
            api.answers[f"GET {CONSUL}/services/consul-mesh-gateway"] = 200, found
        deployment = {"spec": {"selector": {"matchLabels": LABELS}}}
        path = "GET /apis/apps/v1/namespaces/consul/deployments/consul-mesh-gateway"
        api.answers[path] = 200, deployment
        api.answers[f"GET {CONSUL}/pods"] = 200, {"items": list(pods)}
        return live_addresses(cluster, "consul", "consul", MeshGateway(**gateway))

    return look


# LoadBalancer


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({"ip": "10.0.0.1"}, "10.0.0.1:8443"),
        ({"hostname": "lb.example.com"}, "lb.example.com:8443"),
        ({"ip": "10.0.0.1", "hostname": "lb.example.com"}, "10.0.0.1:8443"),
        ({"ip": "2001:db8::1"}, "[2001:db8::1]:8443"),
        ({"ip": "", "hostname": "lb.example.com"}, "lb.example.com:8443"),
        ({"ip": ""}, "10.0.0.9:8443"),
    ],
)
def test_the_first_entry_with_a_host_counts_ip_before_name(addresses, ingress, expected):
    """So does consul-k8s when it registers the gateway; anything else would be called stale."""
    assert addresses(service("LoadBalancer", ingress, {"ip": "10.0.0.9"})) == {expected}


def test_a_load_balancer_without_an_address_has_none(addresses):
    """Not `:443`, which is what goes wrong in a federation secret."""
    for found in (service(), service("LoadBalancer", {"ip": ""}), service() | {"status": {}}):
        assert addresses(found) == set()
    assert ingress_host({}) == ""


def test_a_load_balancer_is_one_address_however_many_pods_are_behind_it(addresses):
    """Each pod registers the same one; the secret holds it once."""
    pods = (pod("a", "192.168.0.1"), pod("b", "192.168.0.2"))
    assert addresses(service("LoadBalancer", {"ip": "10.0.0.1"}), *pods) == {"10.0.0.1:8443"}


def test_no_service_is_no_address(addresses):
    """Before the installation."""
    assert addresses(None) == set()


# The other kinds


def test_a_node_port_is_an_address_for_each_node_with_a_gateway(addresses, api):
    """consul-k8s announces the address of the pod's own node, although every node would forward."""
    pods = (pod("a", "192.168.0.1"), pod("b", "192.168.0.2"), pod("c", "192.168.0.2"))
    found = addresses(service("NodePort"), *pods, service="NodePort", node_port=30443)
    assert found == {"192.168.0.1:30443", "192.168.0.2:30443"}
    assert api.requests[-1].query == {"labelSelector": "app=consul,component=mesh-gateway,release=consul"}


def test_a_node_port_that_is_not_given_yet_is_no_address(addresses):
    """The API server gives it; until then there is nothing to dial."""
    bare = service("NodePort", ports=[{"port": 8443}])
    assert addresses(bare, pod("a", "192.168.0.1"), service="NodePort", node_port=30443) == set()


def test_the_services_own_type_counts_and_not_the_wanted_one(addresses):
    """Gateways were registered with what the Service is; that it is not as wanted is another check's finding."""
    pods = (pod("a", "192.168.0.1"),)
    assert addresses(service("NodePort"), *pods, service="LoadBalancer") == {"192.168.0.1:30443"}


def test_a_cluster_ip_is_announced_as_it_is(addresses):
    """It helps nobody outside, which the check of the gateway's type says; a headless Service has none."""
    assert addresses(service("ClusterIP")) == {"10.96.0.7:8443"}
    assert addresses(service("ClusterIP", clusterIP="None")) == set()
    assert addresses(service("ExternalName")) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("NodeIP", {"192.168.0.1:8000", "[fd00::2]:8000"}),
        ("NodeName", {"node-a.example.com:8000", "node-b.example.com:8000"}),
    ],
)
def test_node_addresses_go_with_the_port_of_the_parameters(addresses, source, expected):
    """The Service plays no part in it."""
    pods = (pod("a", "192.168.0.1", "node-a.example.com"), pod("b", "fd00::2", "node-b.example.com"))
    assert addresses(None, *pods, wan_address=source, wan_port=8000) == expected


def test_a_static_address_is_the_one_of_the_parameters(addresses, api):
    """A DNS name of one's own; nothing in the cluster tells it."""
    found = addresses(None, wan_address="Static", static="dc1.mesh.example.com", wan_port=8443)
    assert found == {"dc1.mesh.example.com:8443"}
    assert not api.requests


def test_pods_that_are_going_or_gone_count_no_more(addresses, cluster, api):
    """Their node may be without a gateway already; a pod without a node is nowhere yet."""
    going = pod("b", "192.168.0.2", "b") | {"metadata": {"name": "b", "deletionTimestamp": "2026-01-01"}}
    gone = pod("c", "192.168.0.3", "c") | {"status": {"phase": "Failed", "hostIP": "192.168.0.3"}}
    pods = (pod("a", "192.168.0.1", "a"), going, gone, pod("d"))
    for source in ("NodeIP", "NodeName"):
        assert len(addresses(None, *pods, wan_address=source)) == 1
    assert [each["metadata"]["name"] for each in gateway_pods(cluster, "consul", "consul")] == ["a", "d"]


def test_without_a_deployment_there_are_no_gateway_pods(cluster):
    """Before the installation; an empty selector would have found every pod."""
    assert gateway_pods(cluster, "consul", "consul") == []


def test_the_objects_names_follow_from_the_full_name(cluster, api):
    """As the chart makes them."""
    live_addresses(cluster, "mesh", "east-consul", MeshGateway())
    gateway_pods(cluster, "mesh", "east-consul")
    assert api.asked() == [
        "GET /api/v1/namespaces/mesh/services/east-consul-mesh-gateway",
        "GET /apis/apps/v1/namespaces/mesh/deployments/east-consul-mesh-gateway",
    ]


# As Consul knows them


def test_the_catalogs_addresses_are_the_wan_ones():
    """Of every instance, once each; the catalog and federation states spell the keys in two ways."""
    instances: list[dict[str, Any]] = [
        {"ServiceTaggedAddresses": {"wan": {"Address": "10.0.0.1", "Port": 443}, "lan": {"Address": "x"}}},
        {"ServiceTaggedAddresses": {"wan": {"address": "10.0.0.1", "port": 443}}},
        {"ServiceTaggedAddresses": {"wan": {"Address": "2001:db8::1", "Port": 8443}}},
    ]
    assert catalog_addresses(instances) == {"10.0.0.1:443", "[2001:db8::1]:8443"}


@pytest.mark.parametrize(
    "instance",
    [
        {},
        {"ServiceTaggedAddresses": None},
        {"ServiceTaggedAddresses": {}},
        {"ServiceTaggedAddresses": {"wan": None}},
        {"ServiceTaggedAddresses": {"wan": {"Address": "", "Port": 443}}},
    ],
)
def test_an_instance_without_a_wan_address_has_none(instance):
    """It is left out, and with it alone there is no gateway."""
    assert catalog_addresses([instance]) == set()


# Words


def test_addresses_of_both_families_are_joined_as_consul_writes_them():
    """IPv6 in brackets, and back again."""
    for host in ("10.0.0.1", "::1", "lb.example.com"):
        assert split(join(host, 443)) == (host, 443)
    assert join("::1", 443) == "[::1]:443"


@pytest.mark.parametrize("text", ["lb.example.com", ":", "lb:http", "lb:70000", "lb:४४३"])
def test_what_has_no_port_has_port_0(text):
    """Secrets written by hand hold anything."""
    assert split(text)[1] == 0


def test_two_sets_differ_in_words():
    """What is missing and what is too much, in one order, so that a record reads the same twice."""
    assert difference({"a:1"}, {"a:1"}) == ""
    assert difference({"c:1", "b:1"}, {"a:1"}) == "a:1 is missing, b:1, c:1 are too much"
    assert difference(set(), {"b:1", "a:1"}) == "a:1, b:1 are missing"
    assert listed(set()) == "none"
