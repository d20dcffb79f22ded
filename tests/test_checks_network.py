"""The checks of the network: what each outcome of a connection becomes for who must mend it, and what is no result."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast, get_args

import pytest

from consulfed_lib.checks import network
from consulfed_lib.checks.network import (
    Route,
    api_url_from_primary,
    api_url_from_secondary,
    cluster_ca,
    endpoint,
    gateway_from_primary,
    gateway_from_secondary,
    look_at_api,
    look_before_install,
    look_from_servers,
    pod_for,
    probed_api,
    route,
)
from consulfed_lib.checks.network_words import API, GATEWAY, REACHED
from consulfed_lib.checks.target import Target
from consulfed_lib.cluster import Cluster
from consulfed_lib.errors import ClusterError
from consulfed_lib.probe import Kind, Outcome, Place, Pod
from consulfed_lib.results import Finding

from .conftest import CHART, HttpsServer

AT = "10.0.0.1:443"
URL = "https://api.example.com:6443/k8s/clusters/c-1"
API_AT = "api.example.com:6443"
CONSUL = "/api/v1/namespaces/consul"


@pytest.fixture
def pair(federation, https, kubeconfig) -> Callable[..., tuple[Target, Target]]:
    """The primary and a secondary, each with an API server that knows its gateway; parameters with these changes."""

    def make(**changes: Any) -> tuple[Target, Target]:
        apis = {"one": https(), "two": https()}
        chart = {"ref": str(CHART), "version": "1.9.11-sandbox"}
        params = federation(**({"chart": chart} | changes))
        path = kubeconfig(**{name: api.url for name, api in apis.items()})
        for i, api in enumerate(apis.values()):
            ingress = {"ingress": [{"ip": f"10.0.0.{i + 1}"}]}
            service = {
                "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
                "status": {"loadBalancer": ingress},
            }
            api.answers[f"GET {CONSUL}/services/consul-mesh-gateway"] = 200, service
            api.answers[f"GET {CONSUL}/configmaps/kube-root-ca.crt"] = 200, {"data": {"ca.crt": f"CA {i}"}}
        servers[:] = apis.values()
        one, other = (Target(params, of, Cluster(of.context, path)) for of in params.clusters)
        return one, other

    return make


servers: list[HttpsServer] = []


def running(api: HttpsServer, *names: str) -> None:
    """Lets these server pods run there."""
    pods = [
        {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "consul"}]},
            "status": {"phase": "Running"},
        }
        for name in names
    ]
    api.answers[f"GET {CONSUL}/pods"] = 200, {"items": pods}


@pytest.fixture
def probes(monkeypatch) -> dict[str, Any]:
    """What is tried from which pod, and an outcome for it: good, unless it is changed."""
    world: dict[str, Any] = {"tried": [], "gateway": Outcome("tls"), "api": Outcome("http", "403")}

    def probe(
        self: Place, address: str, server_name: str, ca_pem: str | None, deadline: float = 15
    ) -> Outcome:
        world["tried"].append((self.cluster.context, self.pod, address, server_name, ca_pem))
        return cast(Outcome, world["gateway" if server_name.startswith("server.") else "api"])

    monkeypatch.setattr(Place, "probe", probe)
    return world


@pytest.fixture
def way(federation) -> Route:
    """From dc2 to the gateway of dc1."""
    params = federation()
    return Route(params.secondaries[0], params.primary, frozenset({AT}), "CA")


def seen(way: Route, *outcomes: Outcome, at: str = AT) -> list[Finding]:
    """What the check makes of outcomes, one from each server pod."""
    found = {(f"consul-server-{i}", at): outcome for i, outcome in enumerate(outcomes)}
    return gateway_from_secondary("dc2 → dc1", way, lambda: found)


KINDS = set(get_args(Kind))


# Gateways


def test_every_kind_of_outcome_has_its_words():
    """A new one must not end in a KeyError in the middle of a run."""
    assert GATEWAY.keys() | REACHED.keys() | {"not-run"} == KINDS
    assert API.keys() | {"http", "unchecked", "not-run"} == KINDS


def test_a_gateway_that_shows_its_servers_certificate_is_reached(way):
    """That is all that Consul's servers need of the network."""
    (found,) = seen(way, Outcome("tls", "bad certificate"))
    assert (found.severity, found.hint) == ("ok", "")
    assert found.found == f"{AT} answers with the certificate of server.dc1.consul, from consul-server-0"


def test_what_was_not_checked_is_not_claimed(way):
    """From an older API server the CA cannot travel; a server may show no certificate to whoever offers HTTP/2."""
    (found,) = seen(way, Outcome("tls", chain=False))
    assert found.severity == "ok"
    assert "was not checked" in found.found
    (found,) = seen(way, Outcome("unchecked", "it speaks other things", chain=False))
    assert found.severity == "ok"
    assert "was not checked (it speaks other things)" in found.found


@pytest.mark.parametrize(
    ("outcome", "words", "remedy"),
    [
        (Outcome("timeout", "15 s"), "firewall", "10.0.0.1"),
        (Outcome("refused"), "nothing listens", "kubectl --context one -n consul get pods,services"),
        (Outcome("no-route", "no route to host"), "no route to host", "private addresses"),
        (Outcome("unknown-name", "gw: no such host"), "is no name in dc2", "DNS of dc2"),
        (Outcome("silent"), "PROXY protocol", "load balancer of dc1"),
        (Outcome("closed"), "server.dc1.consul", "gateway of dc1"),
        (Outcome("not-tls"), "does not speak TLS", "pass TCP through"),
        (Outcome("alert", "unrecognized name"), "unrecognized name", "log of the gateway"),
        (Outcome("foreign", "lb.example.com"), "lb.example.com", "terminates TLS"),
        (Outcome("wrong-ca"), "another CA", "02-secret-transfer"),
        (Outcome("expired", "2026-01-01T00:00:00Z"), "2026-01-01", "restart the servers of dc1"),
        (Outcome("not-yet-valid", "x"), "not valid yet", "clocks"),
        (Outcome("http", "200"), "Consul's API", "mesh gateway"),
    ],
    ids=lambda value: value.kind if isinstance(value, Outcome) else "",
)
def test_each_fault_on_the_way_to_a_gateway_is_named_with_who_can_mend_it(way, outcome, words, remedy):
    """From where, to where, what, and where to look next."""
    (found,) = seen(way, outcome)
    assert found.severity == "error"
    assert words in found.found
    assert remedy in found.hint
    assert "{" not in found.found + found.hint


def test_pods_that_see_the_same_are_one_finding(way):
    """Three servers behind one firewall are one thing to mend; one that sees another thing is another."""
    found = seen(way, Outcome("tls"), Outcome("timeout", "15 s"), Outcome("timeout", "15 s"))
    assert sorted(each.severity for each in found) == ["error", "ok"]
    assert "2 pods (consul-server-1, consul-server-2)" in next(
        f.found for f in found if f.severity == "error"
    )


def test_what_could_not_be_tried_is_skipped_with_the_reason(way):
    """Neither a pass nor a fault of the network."""
    (found,) = seen(way, Outcome("not-run", "ImagePullBackOff: no such image"))
    assert found.severity == "skipped"
    assert "ImagePullBackOff" in found.found


def test_without_a_server_pod_there_is_nothing_to_try_from(way):
    """Before the installation; that is said, and never green."""
    (found,) = gateway_from_primary("dc1 → dc2", way, dict)
    assert found.severity == "skipped"
    assert "no Consul server pod runs in dc2 yet" in found.found


def test_without_an_address_there_is_nothing_to_dial(way):
    """The load balancer has not given one; no pod is asked."""
    bare = replace(way, addresses=frozenset())
    (found,) = gateway_from_secondary("dc2 → dc1", bare, partial(pytest.fail, "it was tried"))
    assert found.severity == "skipped"


def test_an_address_that_is_none_is_an_error_without_a_try(way):
    """`:443` is what a load balancer without an address leaves in a federation secret."""
    wrong = replace(way, addresses=frozenset({":443"}))
    (found,) = gateway_from_secondary("dc2 → dc1", wrong, partial(wrong.probed, []))
    assert found.severity == "error"
    assert ":443" in found.found


def test_a_pod_in_which_nothing_can_be_run_is_an_error_with_the_clusters_words(way):
    """A right that is missing is not the network's fault, and must not look like a pass."""

    def look() -> Any:
        raise ClusterError("two: exec to pod consul/consul-server-0 failed: 403.", "ask for the right")

    (found,) = gateway_from_secondary("dc2 → dc1", way, look)
    assert (found.severity, found.hint) == ("error", "ask for the right")


def test_the_name_follows_from_the_datacenter_and_consuls_domain(way):
    """What server certificates are made out to."""
    assert way.server_name == "server.dc1.consul"
    assert replace(way, domain="mesh.internal.").server_name == "server.dc1.mesh.internal"


# The secondary's API


def of_api(way: Route, *outcomes: Outcome, url: str = URL) -> list[Finding]:
    found = {(f"consul-server-{i}", API_AT): outcome for i, outcome in enumerate(outcomes)}
    return api_url_from_primary("dc2", url, way.here, way.there, lambda: found)


@pytest.mark.parametrize("status", ["200", "401", "403", "404"])
def test_an_api_server_that_answers_by_its_own_certificate_is_reached(way, status):
    """Anonymous questions are refused by most; the answer proves the way."""
    (found,) = of_api(way, Outcome("http", status))
    assert found.severity == "ok"
    assert "certificate is by the CA of dc2" in found.found


@pytest.mark.parametrize("status", ["502", "503", "a redirect to login.example.com"])
def test_an_answer_that_no_api_server_gives_is_a_warning(way, status):
    """A balancer without targets may have one in a minute; a log-in page never will."""
    (found,) = of_api(way, Outcome("http", status))
    assert found.severity == "warning"
    assert status in found.found


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome("refused"), "nothing listens"),
        (Outcome("timeout", "15 s"), "firewall"),
        (Outcome("no-route", "no route to host"), "no route"),
        (Outcome("unknown-name", "api.example.com: no such host"), "api.example.com is no name in dc1"),
        (Outcome("silent"), "says nothing"),
        (Outcome("closed"), "closes the connection"),
        (Outcome("not-tls"), "does not speak TLS"),
        (Outcome("alert", "internal error"), "internal error"),
        (Outcome("tls", "certificate required"), "no API server"),
        (Outcome("foreign", "kubernetes"), "kubernetes"),
        (Outcome("wrong-ca"), "the CA of dc2 did not sign"),
        (Outcome("expired", "2026"), "expired"),
        (Outcome("not-yet-valid", "x"), "not valid yet"),
    ],
    ids=lambda value: value.kind if isinstance(value, Outcome) else "",
)
def test_each_fault_on_the_way_to_an_api_is_named(way, outcome, words):
    """With what can be done about it: mostly another api_url."""
    (found,) = of_api(way, outcome)
    assert found.severity == "error"
    assert words in found.found
    assert found.hint
    assert "{" not in found.found + found.hint


def test_what_is_no_result_for_an_api_is_none(way):
    """Without pods, or where nothing could be tried; and an unchecked chain is said to be one."""
    assert [each.severity for each in of_api(way)] == ["skipped"]
    assert [each.severity for each in of_api(way, Outcome("not-run", "x"))] == ["skipped"]
    for outcome in (Outcome("unchecked", chain=False), Outcome("http", "403", chain=False)):
        (found,) = of_api(way, outcome)
        assert found.severity == "ok"
        assert "was not checked" in found.found


def test_a_url_that_has_no_host_is_an_error_without_a_try(way):
    """It is as wrong from every pod."""
    for url in ("https://", "https://:6443", "https://host:99999", "https://[::1"):
        (found,) = api_url_from_secondary("dc2", url, way.here, partial(pytest.fail, "it was tried"))
        assert found.severity == "error"
        assert probed_api([], url, None) == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://10.0.0.1:6443", ("10.0.0.1", 6443)),
        ("https://lab", ("lab", 443)),
        (URL, ("api.example.com", 6443)),
        ("https://[2001:db8::1]:6443/x", ("2001:db8::1", 6443)),
    ],
)
def test_an_apis_url_is_a_host_and_a_port(url, expected):
    """Its path is for the server behind it; 443 is what https means without a port."""
    assert endpoint(url) == expected


# All of it


def test_both_ways_and_the_api_are_tried_from_every_server(pair, probes):
    """Each with the name and the CA that is right for it."""
    primary, secondary = pair(
        secondaries=[{"context": "two", "datacenter": "dc2", "api_url": "https://api:6443"}]
    )
    running(servers[0], "s-0", "s-1")
    running(servers[1], "s-0")
    found = look_from_servers(primary, secondary, "THE CA")
    assert [(each.id, each.subject, each.severity) for each in found] == [
        ("gateway-from-secondary", "dc2 → dc1", "ok"),
        ("gateway-from-primary", "dc1 → dc2", "ok"),
        ("api-url-from-primary", "dc2", "ok"),
        ("api-url-from-secondary", "dc2", "ok"),
    ]
    assert sorted(probes["tried"]) == [
        ("one", "s-0", "10.0.0.2:443", "server.dc2.consul", "THE CA"),
        ("one", "s-0", "api:6443", "api", "CA 1"),
        ("one", "s-1", "10.0.0.2:443", "server.dc2.consul", "THE CA"),
        ("one", "s-1", "api:6443", "api", "CA 1"),
        ("two", "s-0", "10.0.0.1:443", "server.dc1.consul", "THE CA"),
        ("two", "s-0", "api:6443", "api", "CA 1"),
    ]


def test_each_direction_fails_by_itself(pair, probes):
    """Reachable one way and not the other is what members that are alive do not show (consul #10541)."""
    primary, secondary = pair(acls=False)
    running(servers[0], "s-0")
    running(servers[1], "s-0")
    probes["gateway"] = Outcome("timeout", "15 s")
    assert {each.severity for each in look_from_servers(primary, secondary, None)} == {"error"}


def test_without_acls_nobody_calls_the_api(pair, probes):
    """It serves to check tokens of service accounts."""
    primary, secondary = pair(acls=False)
    running(servers[0], "s-0")
    assert look_at_api(primary, secondary) == []


def test_before_the_namespace_is_there_the_chain_of_the_api_is_not_checked(pair, probes):
    """Every namespace holds the CA, and none is read that is not ours."""
    primary, secondary = pair()
    running(servers[0], "s-0")
    del servers[1].answers[f"GET {CONSUL}/configmaps/kube-root-ca.crt"]
    assert cluster_ca(secondary.cluster, "consul") is None
    first, second = look_at_api(primary, secondary)
    assert probes["tried"][0][-1] is None
    assert (first.severity, second.severity) == ("ok", "skipped")


def test_another_domain_of_consul_is_that_of_the_values(pair):
    """global.domain of the datacenter that is dialled."""
    primary, secondary = pair(values={"global": {"domain": "mesh"}})
    assert route(secondary, primary, None).server_name == "server.dc1.mesh"


def test_before_an_installation_a_pod_tries_and_afterwards_the_servers(pair, probes, monkeypatch):
    """The Pod is made only where nobody else can look."""
    ran: list[tuple[Pod, float]] = []

    def run(self: Pod, deadline: float = 120) -> dict[str, Outcome]:
        ran.append((self, deadline))
        return dict.fromkeys(self.gateways, Outcome("wrong-ca"))

    monkeypatch.setattr(network.Pod, "run", run)
    primary, secondary = pair()
    (found,) = look_before_install(primary, secondary, "CA", "hashicorp/consul:1")
    assert (found.id, found.severity) == ("gateway-from-secondary", "error")
    assert "a Pod in consul" in found.found
    ((made, deadline),) = ran
    assert (made.gateways, made.secret) == (("10.0.0.1:443",), "consul-federation")
    assert deadline == secondary.params.timeouts.ready
    assert made.values["global"]["datacenter"] == "dc2"
    running(servers[1], "s-0")
    assert [each.severity for each in look_before_install(primary, secondary, "CA")] == ["ok"]
    assert len(ran) == 1


def test_a_pod_is_given_only_addresses_that_can_be_dialled(pair):
    """The rest is an error without a try."""
    primary, secondary = pair()
    way = replace(route(secondary, primary, None), addresses=frozenset({":443", "a:1"}))
    assert pod_for(secondary, way).gateways == ("a:1",)


def test_no_secret_is_handed_on(pair, secret_data):
    """Of the federation secret the CA's certificate travels, which is no secret; a Pod's manifest holds its name."""
    primary, secondary = pair()
    data = secret_data()
    text = str(pod_for(secondary, route(secondary, primary, data["caCert"].decode()), "x").manifest("x", 1))
    for key in ("caKey", "replicationToken", "gossipEncryptionKey"):
        assert data[key].decode() not in text
        assert base64.b64encode(data[key]).decode() not in text
