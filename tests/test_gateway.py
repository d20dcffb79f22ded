"""The address of a mesh gateway, as its Service has it and as Consul knows it."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.gateway import catalog_addresses, join, live_address

PATH = "GET /api/v1/namespaces/consul/services/consul-mesh-gateway"


def service(*ingress: dict[str, str], **status: Any) -> tuple[int, dict[str, Any]]:
    balancer = {"loadBalancer": {"ingress": list(ingress)}} | status
    return 200, {"spec": {"ports": [{"port": 8443}, {"port": 9999}]}, "status": balancer}


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({"ip": "10.0.0.1"}, "10.0.0.1:8443"),
        ({"hostname": "lb.example.com"}, "lb.example.com:8443"),
        ({"ip": "10.0.0.1", "hostname": "lb.example.com"}, "10.0.0.1:8443"),
        ({"ip": "2001:db8::1"}, "[2001:db8::1]:8443"),
        ({"ip": "", "hostname": "lb.example.com"}, "lb.example.com:8443"),
        ({"ip": ""}, None),
    ],
)
def test_the_first_entry_of_the_load_balancer_counts_ip_before_name(cluster, api, ingress, expected):
    """So does consul-k8s when it registers the gateway; anything else would be called stale."""
    api.answers[PATH] = service(ingress, {"ip": "10.0.0.9"})
    assert live_address(cluster, "consul", "consul") == expected


def test_a_load_balancer_without_an_address_has_none(cluster, api):
    """Not `:443`, which is what goes wrong in a federation secret."""
    for answer in (service(), service(loadBalancer={}), (200, {"spec": {"ports": [{"port": 1}]}})):
        api.answers[PATH] = answer
        assert live_address(cluster, "consul", "consul") is None


def test_no_service_is_no_address(cluster):
    """Before the installation."""
    assert live_address(cluster, "consul", "consul") is None


def test_the_services_name_follows_from_the_full_name(cluster, api):
    """As the chart makes it."""
    live_address(cluster, "mesh", "east-consul")
    assert api.asked() == ["GET /api/v1/namespaces/mesh/services/east-consul-mesh-gateway"]


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


def test_addresses_of_both_families_are_joined_as_consul_writes_them():
    """IPv6 in brackets."""
    assert join("10.0.0.1", 443) == "10.0.0.1:443"
    assert join("::1", 443) == "[::1]:443"
