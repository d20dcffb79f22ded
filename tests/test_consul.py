"""Consul's API of one datacenter: TLS checked, one connection, one sentence for whatever goes wrong."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509

from consulfed_lib.consul import Consul
from consulfed_lib.errors import ClusterError
from consulfed_lib.redact import Secret

from .listeners import Listeners, closing, expired, saying

TOKEN = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"


def failure(act) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        act()
    assert TOKEN not in str(caught.value)
    assert len(caught.value.found.splitlines()) == 1
    return caught.value


@pytest.fixture
def dc1(consul_server):
    """Datacenter dc1, asked with a token."""
    return consul_server("dc1", token=Secret("replicationToken", f"{TOKEN}\n".encode()))


# Asking


def test_one_connection_serves_all_questions(dc1):
    """Each port-forward is a WebSocket and two handshakes: a verification asks hundreds of questions."""
    dc1.answers("status/leader", "127.0.0.1:8300")
    assert [dc1.client.leader() for _ in range(3)] == ["127.0.0.1:8300"] * 3
    assert len({asked.connection for asked in dc1.consul.requests}) == 1


def test_a_connection_that_has_gone_stale_is_made_anew(dc1):
    """Consul, Envoy or the API server may close an idle one; the question is asked again, once."""
    dc1.answers("status/leader", "127.0.0.1:8300")
    dc1.consul.close_after.add("GET /v1/status/leader")
    assert [dc1.client.leader() for _ in range(3)] == ["127.0.0.1:8300"] * 3
    assert len({asked.connection for asked in dc1.consul.requests}) == 3


def test_a_new_connection_that_fails_is_not_tried_again(dc1):
    """Only a kept one may be stale; whoever does not answer at all is not asked twice."""
    dc1.cluster.down = "dc1: port-forward to pod consul/consul-server-0 failed: no such pod."
    assert "no such pod" in failure(dc1.client.leader).found
    dc1.cluster.down = ""
    dc1.answers("status/leader", "x")
    assert dc1.client.leader() == "x"


def test_the_token_goes_in_a_header_and_never_in_the_url(dc1, consul_server):
    """URLs are logged. Without ACLs no token is sent at all."""
    dc1.answers("catalog/services", {"consul": []})
    assert dc1.client.services("dc2") == {"consul": []}
    (asked,) = dc1.consul.requests
    assert asked.headers["x-consul-token"] == TOKEN
    assert asked.query == {"dc": "dc2"}
    without = consul_server("dc3")
    without.answers("catalog/datacenters", ["dc3"])
    assert without.client.datacenters() == ["dc3"]
    assert "x-consul-token" not in without.consul.requests[0].headers


def test_a_token_that_is_not_there_is_none(dc1):
    """Consul says "ACL not found" of the one that is asked about, and in the same words of the one that asks."""
    dc1.answers("acl/token/x", b"ACL not found", 403)
    dc1.answers("acl/token/self", {"AccessorID": "y"})
    assert dc1.client.token("x") is None
    dc1.answers("acl/token/self", b"ACL not found", 403)
    assert "ACL not found" in failure(lambda: dc1.client.token("x")).found


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (lambda c: c.wan_members(), "/v1/agent/members?wan=1"),
        (lambda c: c.lan_members(), "/v1/agent/members?"),
        (lambda c: c.datacenters(), "/v1/catalog/datacenters?"),
        (lambda c: c.service("mesh-gateway", "dc2"), "/v1/catalog/service/mesh-gateway?dc=dc2"),
        (lambda c: c.node_checks("consul-server-0", "dc2"), "/v1/health/node/consul-server-0?dc=dc2"),
        (lambda c: c.acl_replication(), "/v1/acl/replication?"),
        (lambda c: c.ca_roots(), "/v1/connect/ca/roots?"),
        (lambda c: c.federation_states(), "/v1/internal/federation-states?"),
        (lambda c: c.leader(), "/v1/status/leader?"),
    ],
)
def test_each_question_has_its_endpoint(dc1, ask, asked):
    """What is asked of another datacenter says so in `dc`."""
    path = asked.partition("?")[0]
    dc1.consul.answers[f"GET {path}"] = 200, ["answer"]
    assert ask(dc1.client) == ["answer"]
    (request,) = dc1.consul.requests
    assert f"{request.path}?{'&'.join(f'{k}={v}' for k, v in request.query.items())}" == asked


def test_a_name_cannot_leave_its_place_in_the_path(dc1):
    """Node names come from the catalog."""
    failure(lambda: dc1.client.node_checks("a?dc=x&b", "dc2"))
    assert dc1.consul.requests[0].query == {"dc": "dc2"}


def test_settings_are_those_of_the_server_asked(dc1):
    """Not those of another datacenter: no `dc` in the question."""
    dc1.answers("agent/self", {"DebugConfig": {"PrimaryGateways": ["10.0.0.1:443"]}})
    assert dc1.client.settings() == {"PrimaryGateways": ["10.0.0.1:443"]}
    assert dc1.consul.requests[0].query == {}


def test_raft_servers_are_the_list_in_the_answer(dc1):
    """Each with its node's name and whether it votes."""
    dc1.answers("operator/raft/configuration", {"Servers": [{"Node": "consul-server-0", "Voter": True}]})
    assert dc1.client.raft_servers() == [{"Node": "consul-server-0", "Voter": True}]


def test_missing_proxy_defaults_are_none_and_a_refusal_is_an_error(dc1):
    """Only a 404 means that it is not there."""
    assert dc1.client.proxy_defaults() is None
    dc1.answers("config/proxy-defaults/global", {"Name": "global"})
    assert dc1.client.proxy_defaults() == {"Name": "global"}
    dc1.answers("config/proxy-defaults/global", b"Permission denied", 403)
    assert failure(dc1.client.proxy_defaults).status == 403


def test_an_empty_answer_is_none(dc1):
    """Some endpoints say nothing when there is nothing."""
    dc1.answers("status/leader", b"")
    assert dc1.client.leader() is None


# What goes wrong


def test_a_refusal_is_consuls_own_sentence(dc1):
    """With the datacenter, the pod that was asked, and the status for the caller."""
    dc1.answers("acl/replication", b"Permission denied: token lacks permission 'acl:read'\nmore\n", 403)
    with pytest.raises(ClusterError) as caught:
        dc1.client.acl_replication()
    error = caught.value
    assert error.status == 403
    for word in ("dc1", "consul-server-0", "403", "/v1/acl/replication", "acl:read"):
        assert word in error.found
    assert TOKEN not in str(error)


def test_the_same_refusal_is_the_same_sentence_each_time(dc1):
    """Consul dials from another port each time; a wait would take that for news, four times a second."""
    said = set()
    for port in (35609, 50243):
        words = f"failed to get conn: read tcp 10.0.0.1:{port}->10.0.0.2:8443: connection reset by peer"
        dc1.answers("health/node/n", words.encode(), 500)
        said.add(failure(lambda: dc1.client.node_checks("n", "dc2")).found)
    assert len(said) == 1
    assert "10.0.0.1->10.0.0.2:8443: connection reset" in said.pop()


def test_a_server_of_another_ca_is_not_asked_anything(consul_server, other_authority):
    """The datacenter has another CA than the federation secret says: not one header is sent."""
    stranger = consul_server("dc1", token=Secret("token", TOKEN.encode()), signed_by=other_authority)
    error = failure(stranger.client.leader)
    assert "CA" in error.found
    assert "federation secret" in error.hint
    assert stranger.consul.requests == []


def test_a_server_of_another_datacenter_is_not_asked_anything(consul_server):
    """All datacenters have one CA: only the name in the certificate tells them apart."""
    dc1, dc2 = consul_server("dc1"), consul_server("dc2")
    dc1.cluster.port = dc2.consul.port
    assert "server.dc1.consul" in failure(dc1.client.leader).found
    assert dc2.consul.requests == []


def test_a_pod_that_hangs_up_is_one_sentence(dc1):
    """A server that is being restarted."""
    dc1.consul.answers["GET /v1/status/leader"] = lambda asked: 1 / 0
    error = failure(dc1.client.leader)
    assert "dc1" in error.found
    assert error.hint
    assert error.status is None


def test_a_closed_client_can_ask_again(dc1):
    """`close` gives the connection back, not the client up."""
    dc1.answers("status/leader", "x")
    dc1.client.leader()
    dc1.client.close()
    assert dc1.client.leader() == "x"


# The certificate that it shows


def names_in(der: bytes) -> list[str]:
    found = x509.load_der_x509_certificate(der).extensions
    return found.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_the_certificate_is_that_of_the_connection_that_serves_what_is_asked_next(dc1):
    """A look at it costs no connection of its own, and no request."""
    dc1.answers("status/leader", "x")
    shown = dc1.client.certificate()
    assert (names_in(shown.der), shown.refused) == (["server.dc1.consul"], "")
    assert dc1.consul.requests == []
    dc1.client.leader()
    assert len({asked.connection for asked in dc1.consul.requests}) == 1


def test_the_certificate_is_the_one_that_is_shown_now(dc1, https, authority):
    """A connection that was kept open has the one from before the server's restart."""
    dc1.answers("status/leader", "x")
    dc1.client.leader()
    before = dc1.client.certificate()
    dc1.cluster.port = https(names=("server.dc1.consul",), signed_by=authority).port
    assert dc1.client.certificate().der != before.der


def test_a_certificate_that_is_not_trusted_is_shown_with_the_reason_and_nothing_is_sent(
    consul_server, other_authority
):
    """What is wrong with it can only be said of what was seen; the token is for who is trusted."""
    stranger = consul_server("dc1", token=Secret("token", TOKEN.encode()), signed_by=other_authority)
    shown = stranger.client.certificate()
    issued = x509.load_der_x509_certificate(shown.der)
    issued.verify_directly_issued_by(other_authority.certificate)
    assert "issuer" in shown.refused
    assert stranger.consul.requests == []
    failure(stranger.client.leader)
    assert stranger.consul.requests == []


def test_a_certificate_that_has_expired_is_shown_too(consul_server):
    """The same for dates as for the CA."""
    ca = expired()
    dc1 = consul_server("dc1", signed_by=ca)
    shown = Consul(dc1.cluster, "consul", "consul-server-0", "dc1", ca.pem, None).certificate()
    assert shown.refused == "certificate has expired"
    assert x509.load_der_x509_certificate(shown.der).not_valid_after_utc < datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("says", [closing, saying(b"HTTP/1.0 400 Bad Request\r\n\r\n")])
def test_what_shows_no_certificate_is_one_sentence(dc1, says):
    """A pod that hangs up, and one that speaks no TLS."""
    listeners = Listeners()
    dc1.cluster.port = int(listeners.serve(says).rpartition(":")[2])
    assert "dc1" in failure(dc1.client.certificate).found
    listeners.close()
    dc1.cluster.down = "dc1: port-forward to pod consul/consul-server-0 failed: no such pod."
    assert "no such pod" in failure(dc1.client.certificate).found
