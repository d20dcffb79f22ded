"""Connections tried with the real consul CLI: its words for each thing that can be in the way, and their meaning.

The CLI runs here and not in a pod; what it meets is real, on loopback. (Through pods: the end-to-end tests.)
"""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from consulfed_lib.cluster import Cluster, Completed
from consulfed_lib.errors import ClusterError
from consulfed_lib.probe import Outcome, Place, dialable, judge, probe_all, server_places
from consulfed_lib.probe.connection import CONSUL_ONLY, command
from consulfed_lib.sandbox.tools import ensure
from consulfed_lib.streams import TIMED_OUT, EndlessInputError

from .conftest import Authority
from .listeners import NAME, Listeners, alert, closing, expired, http, saying

TOKEN = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def consul() -> Path:
    return ensure("consul")["consul"].path


@pytest.fixture(scope="module")
def listeners() -> Iterator[Listeners]:
    made = Listeners()
    yield made
    made.close()


@dataclass
class Here:
    """A cluster whose pods are this process's own children; commands run as they would there."""

    consul: Path
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    commands: list[list[str]] = field(default_factory=list)
    answers: list[Completed | ClusterError] = field(default_factory=list)

    def exec(
        self,
        namespace: str,
        pod: str,
        words: Sequence[str],
        container: str = "",
        *,
        stdin: bytes | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.commands.append(list(words))
        if stdin is not None and self.endless:
            raise EndlessInputError("it is of 2023")
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, ClusterError):
                raise answer
            return answer
        if words[0] != "consul":
            return Completed(tuple(words), 126, "", "no such program here")
        try:
            done = subprocess.run(
                [self.consul, *words[1:]],
                input=stdin or b"",
                capture_output=True,
                timeout=timeout,
                env={"HOME": str(self.folder), **self.env},
            )
        except subprocess.TimeoutExpired:
            return Completed(tuple(words), TIMED_OUT, "", "")
        return Completed(tuple(words), done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def here(consul: Path, tmp_path: Path) -> Here:
    return Here(consul, tmp_path)


@pytest.fixture
def place(here: Here) -> Place:
    return Place(cast(Cluster, here), "consul", "consul-server-0")


# What the real CLI meets

CLOSED_AT_ONCE: Callable[[Any], None] = lambda connection: None  # noqa: E731
CASES: dict[str, tuple[Callable[[Listeners, Authority, Authority], str], Outcome]] = {
    "an API server that wants to know who asks": (
        lambda on, ca, _: on.tls(ca, http("401 Unauthorized")), Outcome("http", "401"),
    ),
    "an API server that forbids": (lambda on, ca, _: on.tls(ca, http("403 Forbidden")), Outcome("http", "403")),
    "a path that is not there": (lambda on, ca, _: on.tls(ca, http("404 Not Found")), Outcome("http", "404")),
    "a balancer without a target": (
        lambda on, ca, _: on.tls(ca, http("503 Service Unavailable", b"no healthy upstream")), Outcome("http", "503"),
    ),
    "a page": (lambda on, ca, _: on.tls(ca, http("200 OK", b"<html>")), Outcome("http", "200")),
    "Consul's own API": (lambda on, ca, _: on.tls(ca, http("200 OK", b'["dc1"]')), Outcome("http", "200")),
    "a log-in page elsewhere": (
        lambda on, ca, _: on.tls(ca, http("302 Found", headers="Location: https://127.0.0.1:9/login\r\n")),
        Outcome("http", "a redirect to 127.0.0.1:9"),
    ),
    "something else within TLS": (lambda on, ca, _: on.tls(ca, b"220 mail.example.com\r\n"), Outcome("tls")),
    "a client certificate is wanted": (
        lambda on, ca, _: on.tls(ca, client_ca=ca.pem), Outcome("tls", "certificate required"),
    ),
    "a certificate by another CA": (lambda on, ca, other: on.tls(other), Outcome("wrong-ca")),
    "a certificate by another CA of the same name": (lambda on, ca, _: on.tls(Authority()), Outcome("wrong-ca")),
    "a balancer that ends TLS": (
        lambda on, ca, other: on.tls(other, names=("lb.example.com", "*.example.com")),
        Outcome("foreign", "lb.example.com, *.example.com"),
    ),
    "another datacenter": (
        lambda on, ca, _: on.tls(ca, names=("server.dc2.consul",)), Outcome("foreign", "server.dc2.consul"),
    ),
    "a certificate for an address only": (
        lambda on, ca, _: on.tls(ca, names=("10.0.0.1",)), Outcome("foreign", "not valid for any names"),
    ),
    "a gateway without that route": (lambda on, ca, _: on.serve(closing), Outcome("closed")),
    "a balancer without a gateway": (lambda on, ca, _: on.serve(CLOSED_AT_ONCE), Outcome("closed")),
    "a gateway that knows the name not": (
        lambda on, ca, _: on.serve(alert(112)), Outcome("alert", "unrecognized name"),
    ),
    "plain HTTP": (lambda on, ca, _: on.serve(saying(http("400 Bad Request"))), Outcome("not-tls")),
    "no TLS at all": (lambda on, ca, _: on.serve(saying(b"SSH-2.0-x\r\n")), Outcome("not-tls")),
    "nothing listens": (lambda on, ca, _: on.refusing(), Outcome("refused")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_end_of_a_connection_is_told_from_the_others(case, place, listeners, authority, other_authority):
    """In the words of the CLI that is here."""
    make, expected = CASES[case]
    found = place.probe(make(listeners, authority, other_authority), NAME, authority.pem)
    assert found == expected


def test_an_expired_certificate_is_told_with_its_end(place, listeners):
    """Before its name and its CA are looked at: servers that were not restarted since the last upgrade."""
    issuer = expired()
    found = place.probe(listeners.tls(issuer), NAME, issuer.pem)
    assert found.kind == "expired"
    assert found.detail.endswith("Z")


def test_tls_of_before_may_ask_for_a_client_certificate_too(place, listeners, authority):
    """tls_min_version of older Consul servers is 1.2, where the client sees the alert within the handshake."""
    old = listeners.tls(authority, client_ca=authority.pem, newest=ssl.TLSVersion.TLSv1_2)
    assert place.probe(old, NAME, authority.pem).kind in ("tls", "alert")


def test_a_name_that_nobody_knows_is_told_with_the_name_server(place, authority):
    """The name of a private zone of another network."""
    found = place.probe("gateway.dc1.invalid:443", NAME, authority.pem)
    assert found.kind == "unknown-name"
    assert "gateway.dc1.invalid" in found.detail


def test_dropped_packets_end_at_our_own_deadline(place, listeners, authority):
    """The CLI would wait for half a minute."""
    assert place.probe(listeners.dropping(), NAME, authority.pem, deadline=0.5) == Outcome("timeout", "0.5 s")


def test_an_address_is_asked_for_by_its_own_certificate(place, listeners, authority):
    """An API server is often dialled by address; TLS has no name for that, and the certificate must hold it."""
    address = listeners.tls(authority, http("403 Forbidden"), names=("127.0.0.1", "2001:db8::1"))
    assert place.probe(address, "127.0.0.1", authority.pem) == Outcome("http", "403")
    assert place.probe(address, "2001:db8::1", authority.pem) == Outcome("http", "403")
    assert place.probe(address, "127.0.0.2", authority.pem).kind == "foreign"


# What goes along


def test_no_token_of_the_pod_goes_to_strangers(place, here, listeners, authority, tmp_path):
    """Neither from its environment nor from a file that its environment names; and no secret is in an argument."""
    heard: list[bytes] = []
    (tmp_path / "token").write_text(TOKEN)
    here.env = {"CONSUL_HTTP_TOKEN": TOKEN, "CONSUL_HTTP_TOKEN_FILE": str(tmp_path / "token")}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "pem").write_text("".join(authority.issue((NAME,))))
    context.load_cert_chain(tmp_path / "pem")

    def listen(connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            heard.append(encrypted.recv(4096))
            encrypted.sendall(http("403 Forbidden"))

    assert place.probe(listeners.serve(listen), NAME, authority.pem) == Outcome("http", "403")
    assert b"X-Consul-Token: none" in heard[0]
    assert TOKEN.encode() not in heard[0]
    assert "-----BEGIN" not in " ".join(here.commands[0])


def test_an_older_api_server_leaves_the_chain_unchecked_and_says_so(
    place, here, listeners, authority, other_authority, tmp_path
):
    """It cannot end the input in which the CA would travel; the way and the name are proven all the same."""
    here.endless = True
    (tmp_path / "others.pem").write_text(Authority("Image CA").pem)
    here.env = {"SSL_CERT_FILE": str(tmp_path / "others.pem"), "SSL_CERT_DIR": os.devnull}
    for issuer in (authority, other_authority):
        found = place.probe(listeners.tls(issuer, http("403 Forbidden")), NAME, authority.pem)
        assert found == Outcome("unchecked", chain=False)
    wrong = place.probe(listeners.tls(authority, names=("lb.example.com",)), NAME, authority.pem)
    assert wrong.kind == "foreign"
    assert all("/dev/stdin" not in " ".join(words) for words in here.commands[1::2])
    here.env = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    nothing = place.probe(listeners.tls(authority), NAME, authority.pem)
    assert nothing.kind == "not-run", "without any CA the CLI does not come to the name"


def test_the_chain_is_not_proven_by_the_cas_of_the_pod(place, here, listeners, authority, tmp_path):
    """Without a CA of ours the CLI takes the one that the pod's environment names."""
    (tmp_path / "ca.pem").write_text(authority.pem)
    here.env = {"CONSUL_CACERT": str(tmp_path / "ca.pem")}
    address = listeners.tls(authority, http("403 Forbidden"))
    assert place.probe(address, NAME, None) == Outcome("http", "403", chain=False)
    assert place.probe(address, NAME, authority.pem) == Outcome("http", "403")


def test_a_pod_that_verifies_nothing_proves_nothing(place, here, listeners, authority, other_authority):
    """CONSUL_HTTP_SSL_VERIFY=false of the pod's own environment cannot be undone by a flag."""
    here.env = {"CONSUL_HTTP_SSL_VERIFY": "false"}
    blind = replace(place, blind=True)
    found = blind.probe(listeners.tls(other_authority, http("403 Forbidden")), NAME, authority.pem)
    assert found == Outcome("http", "403", chain=False)


# Newer CLIs, whose words are known and which are not here

NEWER = {
    'tls: failed to verify certificate: x509: certificate signed by unknown authority': Outcome("wrong-ca"),
    'tls: failed to verify certificate: x509: certificate is valid for a.example.com, not server.dc1.consul':
        Outcome("foreign", "a.example.com"),
    'tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time'
    ' 2026-11-24T00:19:29Z is after 2026-11-23T23:49:29Z': Outcome("expired", "2026-11-23T23:49:29Z"),
    'tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time'
    ' 2026-11-24T00:19:29Z is before 2026-11-25T00:00:00Z': Outcome(
        "not-yet-valid",
        "has expired or is not yet valid: current time 2026-11-24T00:19:29Z is before 2026-11-25T00:00:00Z",
    ),
    "tls: failed to verify certificate: x509: cannot validate certificate for 10.0.0.1 because it doesn't contain"
    " any IP SANs": Outcome("foreign", "it doesn't contain any IP SANs"),
    "tls: failed to verify certificate: x509: certificate relies on legacy Common Name field, use SANs instead":
        Outcome("foreign", "legacy Common Name"),
    "remote error: tls: certificate required": Outcome("tls", "certificate required"),
    "remote error: tls: bad certificate": Outcome("tls", "bad certificate"),
    "net/http: TLS handshake timeout": Outcome("silent"),
    "dial tcp 10.0.0.1:443: i/o timeout": Outcome("timeout"),
    "dial tcp: lookup gw.example.com on 10.96.0.10:53: read udp 10.0.0.1:5->10.96.0.10:53: i/o timeout": Outcome(
        "unknown-name", "gw.example.com on 10.96.0.10:53: read udp 10.0.0.1:5->10.96.0.10:53: i/o timeout"
    ),
    "dial tcp [2001:db8::1]:443: connect: no route to host": Outcome("no-route", "no route to host"),
    "dial tcp 10.0.0.1:443: connect: network is unreachable": Outcome("no-route", "network is unreachable"),
    "write tcp 10.0.0.1:5->10.0.0.2:443: write: broken pipe": Outcome("closed"),
    "tls: server selected unsupported protocol version 301": Outcome(
        "alert", "server selected unsupported protocol version 301"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", NEWER)
def test_newer_words_mean_the_same(words):
    """Go put a prefix before what x509 says in 1.20; alerts are older. A line end and an exit code mean nothing."""
    said = f'Error listing datacenters: Get "https://10.0.0.2:443/v1/catalog/datacenters": {words}\n'
    assert judge(said, "10.0.0.2:443") == NEWER[words]


def test_a_host_may_be_called_anything():
    """Its name is in the CLI's message, and is no sign of anything."""
    address = "EOF.connection-refused.x509.example.com:443"
    said = f'Error listing datacenters: Get "https://{address}/v1/catalog/datacenters": net/http: TLS handshake timeout'
    assert judge(said, address) == Outcome("silent")


@pytest.mark.parametrize(
    "said",
    [
        "Error connecting to Consul agent: Error loading CA File: open /dev/stdin: permission denied",
        "Error listing datacenters: something that nobody has seen yet",
    ],
)
def test_what_is_not_known_is_no_result(said):
    """Neither good nor bad: it is handed on."""
    found = judge(said, "10.0.0.2:443")
    assert found == Outcome("not-run", said)


def refused(words: str) -> Completed:
    said = f'Error listing datacenters: Get "https://10.0.0.2:443/v1/catalog/datacenters": {words}'
    return Completed((), 1, "", said)


def test_the_cli_is_kept_from_offering_http2(place, here):
    """Consul's servers refuse every protocol but their own before they show a certificate (Go 1.17 and newer)."""
    here.answers = [refused("remote error: tls: bad certificate")]
    assert place.probe("10.0.0.2:443", NAME, "ca") == Outcome("tls", "bad certificate")
    (only,) = here.commands
    assert only[:3] == ["env", "GODEBUG=http2client=0", "consul"]


@pytest.mark.parametrize(
    "answer",
    [Completed((), 127, "", "env: not found"), ClusterError("The command was not run: no env.")],
    ids=["no env", "not run"],
)
def test_where_that_cannot_be_said_the_chain_stays_unchecked(place, here, answer):
    """An image without `env`: whoever refuses HTTP so speaks protocols of its own, as a Consul server does."""
    no_alpn = refused("remote error: tls: no application protocol")
    here.answers = [answer, answer, no_alpn]
    assert place.probe("10.0.0.2:443", NAME, "ca") == Outcome("unchecked", CONSUL_ONLY, chain=False)


def test_a_closed_connection_is_tried_again(place, here):
    """The alert that tells why can be overtaken by the end of the connection."""
    words = ("EOF", "read: connection reset by peer", "remote error: tls: bad certificate")
    here.answers = [refused(each) for each in words]
    assert place.probe("10.0.0.2:443", NAME, "ca").kind == "tls"
    here.answers = [refused("EOF")] * 3
    assert place.probe("10.0.0.2:443", NAME, "ca") == Outcome("closed")
    assert len(here.commands) == 6


def test_a_pod_in_which_no_command_runs_is_an_error(place, here):
    """Whoever asks gets the cluster's own words."""
    refused = ClusterError("one: exec to pod consul/consul-server-0 failed: 403 Forbidden.")
    here.answers = [refused, refused, refused]
    with pytest.raises(ClusterError, match="403"):
        place.probe("10.0.0.2:443", NAME, "ca")


# Where to try from


def server(name: str, phase: str = "Running", **changes: Any) -> dict[str, Any]:
    containers = [{"name": "sidecar"}, {"name": "consul", "env": changes.pop("env", [])}]
    return {
        "metadata": {"name": name} | changes,
        "spec": {"containers": containers},
        "status": {"phase": phase},
    }


def test_every_server_pod_that_runs_is_a_place(cluster, api):
    """Ready or not: the network is theirs already. One that is going is none."""
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    verify = [{"name": "CONSUL_HTTP_SSL_VERIFY", "value": "False"}]
    pods = [server("s-1", env=verify), server("s-0"), server("s-2", "Pending"), server("s-3", **going)]
    api.answers["GET /api/v1/namespaces/consul/pods"] = 200, {"items": pods}
    found = server_places(cluster, "consul", "east")
    assert [(each.pod, each.container, each.blind) for each in found] == [
        ("s-0", "consul", False), ("s-1", "consul", True),
    ]  # fmt: skip
    assert api.requests[0].query == {"labelSelector": "component=server,release=east"}


def test_all_places_try_all_addresses(here, authority, listeners):
    """Each pair has its own outcome; without a place, or an address, there is none."""
    places = [Place(cast(Cluster, here), "consul", f"s-{i}") for i in range(2)]
    good, bad = listeners.tls(authority, http("403 Forbidden")), listeners.refusing()
    found = probe_all(iter(places), iter([good, bad]), NAME, authority.pem)
    assert {key: outcome.kind for key, outcome in found.items()} == {
        ("s-0", good): "http", ("s-0", bad): "refused", ("s-1", good): "http", ("s-1", bad): "refused",
    }  # fmt: skip
    assert probe_all([], [good], NAME, None) == probe_all(places, [], NAME, None) == {}


@pytest.mark.parametrize(
    ("address", "can_be"),
    [
        ("10.0.0.1:443", True), ("[2001:db8::1]:443", True), ("gw.example.com:8443", True), ("node_1:443", True),
        (":443", False), ("10.0.0.1", False), ("gw:0", False), ("a b:443", False), ("gw/../x:443", False),
        ("user@gw:443", False), ("gw?x=1:443", False),
    ],
)  # fmt: skip
def test_only_a_host_and_a_port_are_dialled(address, can_be):
    """A secret written by hand holds anything; none of it becomes part of a URL."""
    assert dialable(address) is can_be


def test_the_commands_words_are_the_clis_own():
    """The contract with what runs it: a plain argument list, nothing for a shell."""
    assert command("10.0.0.2:443", NAME, "/consulfed/caCert") == [
        "consul", "catalog", "datacenters", "-http-addr=https://10.0.0.2:443", "-tls-server-name=server.dc1.consul",
        "-ca-file=/consulfed/caCert", "-token=none",
    ]  # fmt: skip
    assert "-tls-server-name=[2001:db8::1]" in command("[2001:db8::1]:443", "2001:db8::1")
