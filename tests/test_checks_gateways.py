"""The checks of a gateway's Service: each is silent on a good one, and fires on each fault that it is there for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from consulfed_lib import helm
from consulfed_lib.checks import Check, addresses, gateways
from consulfed_lib.checks.addresses import gateway_name, gateway_pending, gateway_public, last_warning
from consulfed_lib.checks.annotations import HTTP, PROXY, TLS, harmful, internal, of_values
from consulfed_lib.checks.gateways import (
    AFTER,
    BEFORE,
    gateway_node_port,
    gateway_passthrough,
    gateway_ports,
    gateway_source,
    gateway_type,
    look_at_gateway,
)
from consulfed_lib.checks.target import Target
from consulfed_lib.errors import ClusterError
from consulfed_lib.results import Finding
from consulfed_lib.values import primary_values

from .conftest import CHART

CONSUL = "/api/v1/namespaces/consul"
SERVICE = f"GET {CONSUL}/services/consul-mesh-gateway"
AWS = "service.beta.kubernetes.io/aws-load-balancer-"


def service(kind: str = "LoadBalancer", *hosts: str, **metadata: Any) -> dict[str, Any]:
    ingress = [{"ip" if host[0].isdigit() else "hostname": host} for host in hosts]
    spec = {"type": kind, "ports": [{"port": 443, "nodePort": 30443}], "clusterIP": "10.96.0.7"}
    named = {"name": "consul-mesh-gateway", "namespace": "consul"}
    return {"metadata": named | metadata, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}


@pytest.fixture
def aimed(target, api, federation) -> Callable[..., Target]:
    """A cluster with this Service (or none), and parameters with these changes."""

    def make(found: dict[str, Any] | None = None, **changes: Any) -> Target:
        if found:
            api.answers[SERVICE] = 200, found
        chart = {"ref": str(CHART), "version": "1.9.11-sandbox"}
        params = federation(**({"chart": chart} | changes))
        return Target(params, params.primary, target.cluster)

    return make


@pytest.fixture
def installed(monkeypatch) -> Callable[..., None]:
    """Lets a release be there, with the values of the parameters or with others."""

    def make(values: dict[str, Any] | None = None, version: str = "1.9.11-sandbox") -> None:
        def release(self: Target) -> helm.Release:
            found = primary_values(self.params) if values is None else values
            return helm.Release(
                "consul", "consul", 1, "deployed", "consul", version, "1.22.7", found, (), "secret", "", True
            )

        monkeypatch.setattr(Target, "release", release)

    return make


def only(check: Check, target: Target) -> Finding:
    (found,) = check("dc1", target)
    return found


NODE_PORT = {"mesh_gateway": {"service": "NodePort", "node_port": 30443}}
STATIC = {
    "primary": {
        "context": "one",
        "datacenter": "dc1",
        "mesh_gateway": {"wan_address": "Static", "static": "gw.example.com", "wan_port": 8443},
    }
}


def test_a_good_gateway_is_well(aimed, installed, api):
    """Every check, before and after: an address of the internet, the wanted type, no annotation that harms."""
    installed()
    pods(api, pod("a", "443"))
    found = look_at_gateway(aimed(service("LoadBalancer", "8.8.8.8")), installed=True)
    assert [each.id for each in found] == [check.id for check in AFTER]
    assert {each.severity for each in found} == {"ok"}, found


def test_before_an_installation_nothing_is_wrong_and_nothing_is_proven(aimed):
    """What the values will make is judged; of an address there is nothing to be seen."""
    found = look_at_gateway(aimed(), installed=False)
    assert [each.id for each in found] == [check.id for check in BEFORE]
    assert {each.id for each in found if each.severity == "skipped"} == {"gateway-name", "gateway-public"}
    assert {each.severity for each in found} == {"ok", "skipped"}


# Its type


def test_the_wanted_type_is_well(aimed):
    """As it is, or as it will be."""
    assert only(gateway_type, aimed()).found == "it will be a LoadBalancer"
    assert only(gateway_type, aimed(service())).severity == "ok"


def test_another_type_is_an_error_where_nobody_will_change_it(aimed, installed):
    """Helm does not run when the release is as wanted; what was edited by hand stays."""
    installed()
    found = only(gateway_type, aimed(service("NodePort")))
    assert found.severity == "error"
    assert "kubectl --context one -n consul patch service consul-mesh-gateway" in found.hint


@pytest.mark.parametrize("old", [{}, None])
def test_another_type_is_a_warning_where_the_run_changes_it(aimed, installed, old):
    """The parameters changed, or the chart: Helm will make it so; the address changes with it."""
    installed(old, "1.9.10")
    found = only(gateway_type, aimed(service("NodePort")))
    assert found.severity == "warning"
    assert "run 02 and 03" in found.hint


@pytest.mark.parametrize(
    ("found", "changes", "severity"),
    [
        (None, {}, "ok"),
        (None, NODE_PORT, "ok"),
        (service("ClusterIP"), {}, "error"),
        (service("ExternalName"), {}, "error"),
        (service("NodePort"), {}, "ok"),
        (service("ClusterIP"), STATIC, "ok"),
        (service("ClusterIP"), {"mesh_gateway": {"service": "ClusterIP", "wan_address": "NodeIP"}}, "ok"),
    ],
)
def test_a_cluster_ip_is_announced_to_nobody(aimed, installed, found, changes, severity):
    """consul-k8s would put it into the federation secret without a word."""
    installed()
    assert only(gateway_source, aimed(found, **changes)).severity == severity


def test_what_the_run_changes_is_judged_as_it_will_be(aimed, installed):
    """From ClusterIP or node ports to load balancers: that is the mending."""
    installed({}, "1.9.10")
    assert only(gateway_source, aimed(service("ClusterIP"))).severity == "ok"
    assert only(gateway_node_port, aimed(service("NodePort"))).severity == "ok"


# Node ports


def test_a_node_port_is_looked_at_only_where_there_is_one(aimed):
    """A load balancer's own node port is nobody's business."""
    assert "not needed" in only(gateway_node_port, aimed(service())).found
    assert only(gateway_node_port, aimed(service("NodePort"), **NODE_PORT)).severity == "ok"


@pytest.mark.parametrize(("port", "words"), [(0, "no node port is given"), (443, "30000"), (32768, "32767")])
def test_a_node_port_is_set_and_in_range(aimed, monkeypatch, port, words):
    """The parameters refuse it already; values that come another way do not."""
    target = aimed(**NODE_PORT)
    wrong = target.params.gateway(target.of).model_copy(update={"node_port": port})
    monkeypatch.setattr(gateways, "gateway_of", lambda target: wrong)
    found = only(gateway_node_port, target)
    assert found.severity == "error"
    assert words in found.found


def test_a_node_port_of_somebody_else_is_named_with_who_has_it(aimed, api):
    """The API server would refuse the Service in the middle of Helm's work."""
    shop = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"nodePort": 30443}]}}
    api.answers["GET /api/v1/services"] = 200, {"items": [service("NodePort"), shop]}
    found = only(gateway_node_port, aimed(**NODE_PORT))
    assert found.severity == "error"
    assert "shop/web" in found.found


def test_other_services_that_cannot_be_seen_are_in_nobodys_way(aimed, api):
    """Services of other namespaces are a right that few have."""
    api.answers["GET /api/v1/services"] = 403, {"message": "no"}
    assert only(gateway_node_port, aimed(**NODE_PORT)).severity == "ok"


@pytest.mark.parametrize(("changed", "severity"), [(True, "warning"), (False, "error")])
def test_another_node_port_than_the_wanted_one_is_noticed(aimed, installed, changed, severity):
    """Before the run changes it, or because somebody did."""
    installed({} if changed else None)
    wanted = {"mesh_gateway": {"service": "NodePort", "node_port": 30999}}
    found = only(gateway_node_port, aimed(service("NodePort"), **wanted))
    assert found.severity == severity
    assert "30443" in found.found
    assert "30999" in found.found


# Ports that are announced


def pod(name: str, port: str = "", host: str = "8.8.4.4") -> dict[str, Any]:
    annotations = {"consul.hashicorp.com/gateway-wan-port": port} if port else {}
    status = {"phase": "Running", "hostIP": host}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {}, "status": status}


def pods(api: Any, *found: dict[str, Any]) -> None:
    deployment = {"spec": {"selector": {"matchLabels": {"component": "mesh-gateway"}}}}
    api.answers["GET /apis/apps/v1/namespaces/consul/deployments/consul-mesh-gateway"] = 200, deployment
    api.answers[f"GET {CONSUL}/pods"] = 200, {"items": list(found)}


@pytest.mark.parametrize(
    ("found", "severity", "words"),
    [
        ([pod("a", "443"), pod("b", "443")], "ok", "443"),
        ([pod("a", "443"), pod("b", "30443")], "error", "30443 by b; 443 by a"),
        ([pod("a", "30443")], "error", "announce port 30443, but 443 is open"),
        ([pod("a")], "ok", "443"),
        ([], "skipped", "no gateway pod"),
    ],
    ids=["alike", "different", "old", "a chart without annotations", "none"],
)
def test_all_gateways_announce_the_port_that_is_open(aimed, api, found, severity, words):
    """Half of a change that was never rolled out puts addresses into the secret where nobody listens (#417)."""
    pods(api, *found)
    seen = only(gateway_ports, aimed(service("LoadBalancer", "8.8.8.8")))
    assert seen.severity == severity
    assert words in seen.found
    if severity == "error":
        assert "rollout restart deployment/consul-mesh-gateway" in seen.hint


# Its address


def event(message: str, when: str, **changes: Any) -> dict[str, Any]:
    about = {"kind": "Service", "name": "consul-mesh-gateway"}
    return {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "type": "Warning", "reason": "SyncFailed",
        "involvedObject": about, "message": message, "lastTimestamp": when,
    } | changes  # fmt: skip


EVENTS = [
    event("an older one", "2026-01-01T10:00:00Z"),
    event("quota 'IN_USE_ADDRESSES'\n exceeded", "2026-01-01T12:00:00Z"),
    event("fine", "2026-01-01T13:00:00Z", type="Normal"),
    event("another Service", "2026-01-01T13:00:00Z", involvedObject={"kind": "Service", "name": "x"}),
    event("a pod", "2026-01-01T13:00:00Z", involvedObject={"kind": "Pod", "name": "consul-mesh-gateway"}),
]


def test_a_pending_load_balancer_is_told_in_the_words_of_its_last_warning(aimed, api):
    """Helm would say that it waited; the controller said why, to whoever looks."""
    api.answers[f"GET {CONSUL}/events"] = 200, {"items": EVENTS}
    found = only(gateway_pending, aimed(service()))
    assert found.severity == "error"
    assert "SyncFailed: quota 'IN_USE_ADDRESSES' exceeded" in found.found
    assert "describe service consul-mesh-gateway" in found.hint


def test_the_newest_event_counts_whichever_api_wrote_it(cluster, api):
    """Newer controllers leave lastTimestamp empty and fill in a series, or the time of the event."""
    series = event("of a series", "", series={"lastObservedTime": "2026-01-01T14:00:00.000000Z"})
    single = event("of one moment", "", eventTime="2026-01-01T15:00:00.000000Z")
    for items, words in (([*EVENTS, series], "of a series"), ([single, series, *EVENTS], "of one moment")):
        api.answers[f"GET {CONSUL}/events"] = 200, {"items": items}
        assert words in last_warning(cluster, "consul", "consul-mesh-gateway")


def test_without_events_or_the_right_to_see_them_it_is_pending_all_the_same(aimed, api):
    """Events are kept for an hour; and they are a right of their own."""
    for answer in ((200, {"items": []}), (403, {"message": "no"})):
        api.answers[f"GET {CONSUL}/events"] = answer
        assert "no event says why" in only(gateway_pending, aimed(service())).found
    api.answers[f"GET {CONSUL}/events"] = 500, {"message": "broken"}
    with pytest.raises(ClusterError):
        last_warning(aimed().cluster, "consul", "consul-mesh-gateway")


def test_a_node_port_without_a_pod_is_pending_too(aimed):
    """Its address is that of the pod's node."""
    found = only(gateway_pending, aimed(service("NodePort"), **NODE_PORT))
    assert "no gateway pod is on a node yet" in found.found


def test_an_address_is_well_and_no_service_is_nothing_to_look_at(aimed):
    """`gateway-pending` is for what is installed."""
    assert only(gateway_pending, aimed()).severity == "skipped"
    assert only(gateway_pending, aimed(service("LoadBalancer", "8.8.8.8"))).found == "8.8.8.8:443"


@pytest.fixture
def names(monkeypatch) -> dict[str, list[str]]:
    """Names that this machine knows."""
    known: dict[str, list[str]] = {}

    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **named: Any) -> list[Any]:
        if host == "127.0.0.1":  # the API server of the test
            return real(host, *more, **named)
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    return known


def test_a_name_is_resolved_here_and_that_is_said(aimed, names):
    """It matters elsewhere, where the probes look; from here it can only be a warning."""
    named = service("LoadBalancer", "lb.example.com")
    missing = only(gateway_name, aimed(named))
    assert missing.severity == "warning"
    assert "this machine" in missing.found
    names["lb.example.com"] = ["8.8.8.8", "8.8.4.4"]
    known = only(gateway_name, aimed(named))
    assert (known.severity, known.found) == (
        "ok", "lb.example.com is 8.8.4.4, 8.8.8.8, as this machine sees it",
    )  # fmt: skip
    assert only(gateway_name, aimed(service("LoadBalancer", "8.8.8.8"))).severity == "ok"


def test_a_static_name_is_looked_at_before_anything_is_installed(aimed, names):
    """The only address that is known then, and the one that is made by hand."""
    assert only(gateway_name, aimed(**STATIC)).severity == "warning"
    names["gw.example.com"] = ["8.8.8.8"]
    assert only(gateway_name, aimed(**STATIC)).severity == "ok"


@pytest.mark.parametrize(
    ("host", "severity", "when_meant"),
    [
        ("8.8.8.8", "ok", "ok"),
        ("10.1.2.3", "warning", "ok"),
        ("172.31.0.1", "warning", "ok"),
        ("192.168.0.1", "warning", "ok"),
        ("100.64.0.1", "warning", "ok"),
        ("fd00::1", "warning", "ok"),
        ("127.0.0.1", "error", "ok"),
        ("::1", "error", "ok"),
        ("169.254.1.1", "error", "ok"),
        ("192.0.2.2", "error", "error"),
        ("203.0.113.9", "error", "error"),
        ("0.0.0.0", "error", "error"),
        ("::", "error", "error"),
        ("2001:db8::1", "error", "error"),
    ],
)
def test_an_address_is_one_that_others_reach_or_that_is_meant(aimed, host, severity, when_meant):
    """Private ones are for clusters that share a network; placeholders are nobody's."""
    found = service()
    found["status"]["loadBalancer"]["ingress"] = [{"ip": host}]
    assert only(gateway_public, aimed(found)).severity == severity
    assert only(gateway_public, aimed(found, private_network=True)).severity == when_meant


def test_a_name_is_as_private_as_its_addresses(aimed, names):
    """An internal load balancer of AWS has a name in public DNS."""
    names["internal.example.com"] = ["10.0.0.7"]
    found = only(gateway_public, aimed(service("LoadBalancer", "internal.example.com")))
    assert found.severity == "warning"
    assert "internal.example.com, which is 10.0.0.7," in found.found
    assert "private_network: true" in found.hint


def test_an_annotation_for_a_private_address_is_seen_before_there_is_one(aimed):
    """What the values will make of it."""
    annotations = yaml.safe_dump({AWS + "scheme": "internal"})
    values = {"meshGateway": {"service": {"annotations": annotations}}}
    found = only(gateway_public, aimed(values=values))
    assert found.severity == "warning"
    assert "scheme: internal" in found.found
    assert only(gateway_public, aimed(values=values, private_network=True)).severity == "skipped"
    assert internal({"networking.gke.io/load-balancer-type": "Internal"})
    assert not internal({AWS + "scheme": "internet-facing"})


# Its load balancer

HARMFUL = {
    AWS + "ssl-cert": ("arn:aws:acm:x", TLS),
    AWS + "backend-protocol": ("http", HTTP),
    AWS + "proxy-protocol": ("*", PROXY),
    AWS + "target-group-attributes": ("a=b,proxy_protocol_v2.enabled=true", PROXY),
    "alb.ingress.kubernetes.io/scheme": ("internal", HTTP),
    "kubernetes.io/ingress.class": ("alb", HTTP),
    "service.beta.kubernetes.io/azure-pls-proxy-protocol": ("true", PROXY),
    "cloud.google.com/backend-config": ('{"default": "x"}', HTTP),
    "cloud.google.com/app-protocols": ('{"gateway": "HTTPS"}', HTTP),
    "service.beta.kubernetes.io/do-loadbalancer-protocol": ("https", HTTP),
    "service.beta.kubernetes.io/do-loadbalancer-certificate-id": ("1-2", TLS),
    "service.beta.kubernetes.io/do-loadbalancer-enable-proxy-protocol": ("true", PROXY),
    "load-balancer.hetzner.cloud/protocol": ("https", HTTP),
    "load-balancer.hetzner.cloud/http-certificates": ("7", TLS),
    "load-balancer.hetzner.cloud/uses-proxyprotocol": ("true", PROXY),
    "loadbalancer.openstack.org/default-tls-container-ref": ("https://x", TLS),
    "loadbalancer.openstack.org/x-forwarded-for": ("true", HTTP),
    "loadbalancer.openstack.org/proxy-protocol": ("v2", PROXY),
    "service.beta.kubernetes.io/oci-load-balancer-ssl-ports": ("443", TLS),
    "service.beta.kubernetes.io/oci-load-balancer-backend-protocol": ("HTTP", HTTP),
    "service.beta.kubernetes.io/oci-load-balancer-connection-proxy-protocol-version": ("2", PROXY),
    "service.beta.kubernetes.io/linode-loadbalancer-default-protocol": ("http", HTTP),
    "service.beta.kubernetes.io/linode-loadbalancer-port-443": ('{"protocol": "https"}', HTTP),
    "service.beta.kubernetes.io/linode-loadbalancer-default-proxy-protocol": ("v1", PROXY),
    "service.kubernetes.io/ibm-load-balancer-cloud-provider-enable-features": ("proxy-protocol", PROXY),
    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-protocol-port": ("https:443", TLS),
    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-proxy-protocol": ("on", PROXY),
    "service.beta.kubernetes.io/ncloud-load-balancer-backend-protocol": ("ssl", TLS),
    "service.beta.kubernetes.io/ncloud-load-balancer-proxy-protocol": ("true", PROXY),
}
HARMLESS = {
    AWS + "type": "external",
    AWS + "nlb-target-type": "ip",
    AWS + "scheme": "internet-facing",
    AWS + "backend-protocol": "tcp",
    AWS + "target-group-attributes": "preserve_client_ip.enabled=true,proxy_protocol_v2.enabled=false",
    AWS + "healthcheck-protocol": "http",
    "cloud.google.com/neg": '{"ingress":true}',
    "service.beta.kubernetes.io/azure-pls-proxy-protocol": "false",
    "service.beta.kubernetes.io/do-loadbalancer-protocol": "tcp",
    "load-balancer.hetzner.cloud/uses-proxyprotocol": "false",
    "load-balancer.hetzner.cloud/health-check-protocol": "http",
    "loadbalancer.openstack.org/proxy-protocol": "false",
    "service.beta.kubernetes.io/linode-loadbalancer-default-proxy-protocol": "none",
    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-protocol-port": "tcp:443",
    "external-dns.alpha.kubernetes.io/hostname": "gw.example.com",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_each_annotation_that_touches_the_connection_is_an_error(aimed, name):
    """A gateway reads the SNI of a connection that ends in a Consul server; whoever touches it breaks that."""
    value, effect = HARMFUL[name]
    found = only(gateway_passthrough, aimed(service(annotations={name: value} | HARMLESS | {name: value})))
    assert found.severity == "error"
    assert name in found.found
    assert effect in found.found


def test_annotations_that_leave_it_alone_are_well(aimed):
    """Among them those that only sound alike, and what a cloud adds of itself."""
    assert list(harmful(HARMLESS, 443)) == []
    assert only(gateway_passthrough, aimed(service(annotations=HARMLESS))).severity == "ok"


@pytest.mark.parametrize(
    ("ports", "harms"), [("443", True), ("8443", False), ("8443, 443", True), ("*", True), ("gateway", True)]
)
def test_a_certificate_for_other_ports_is_of_no_concern(ports, harms):
    """AWS holds it for all ports unless ssl-ports says which."""
    annotations = {AWS + "ssl-cert": "arn:x", AWS + "ssl-ports": ports}
    assert bool(list(harmful(annotations, 443))) is harms


def test_digital_ocean_may_pass_tls_through_whatever_it_calls_it():
    """But a PROXY protocol header comes in front all the same."""
    prefix = "service.beta.kubernetes.io/do-loadbalancer-"
    annotations = {prefix + "protocol": "https", prefix + "tls-passthrough": "true"}
    assert list(harmful(annotations, 443)) == []
    assert list(harmful(annotations | {prefix + "enable-proxy-protocol": "true"}, 443))


def test_annotations_of_the_values_are_judged_before_there_is_a_service(aimed):
    """In the chart they are a text of YAML."""
    text = f"'{AWS}ssl-cert': arn:aws:acm:x\n"
    found = only(gateway_passthrough, aimed(values={"meshGateway": {"service": {"annotations": text}}}))
    assert found.severity == "error"
    assert "meshGateway.service.annotations" in found.hint


def test_what_only_helm_can_read_is_a_warning(aimed):
    """A template: nobody can say before what will come of it."""
    for text in ('{{- include "mine" . }}\n', "- a list\n", "a: b: c"):
        values = {"meshGateway": {"service": {"annotations": text}}}
        assert only(gateway_passthrough, aimed(values=values)).severity == "warning", text
    assert of_values({"meshGateway": {"service": {"annotations": "# nothing\n"}}}) == ({}, "")
    assert of_values({}) == ({}, "")


def test_an_annotation_that_the_run_takes_away_does_not_stop_it(aimed, installed):
    """An earlier release added it, and the values no longer do."""
    old = {AWS + "ssl-cert": "arn:x"}
    installed({"meshGateway": {"service": {"annotations": yaml.safe_dump(old)}}})
    assert only(gateway_passthrough, aimed(service(annotations=old))).severity == "ok"
    by_hand = service(annotations=old | {AWS + "proxy-protocol": "*"})
    assert "proxy-protocol" in only(gateway_passthrough, aimed(by_hand)).found


def test_a_cluster_that_does_not_answer_proves_nothing(aimed, api):
    """Each check of it is red, none is green."""
    target = aimed()
    api.answers[SERVICE] = 500, {"message": "broken"}
    found = look_at_gateway(replace(target), installed=False)
    assert {each.severity for each in found if each.id != "gateway-name"} == {"error"}
    assert {each.severity for each in found if each.id == "gateway-name"} == {"warning"}
