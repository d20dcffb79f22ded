"""Every check: green on a good world, red on each fault that it is there for, never green on what it did not see."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from consulfed_lib import checks, helm
from consulfed_lib.checks import CATALOGUE, Check, federation, preflight, run_together, secrets
from consulfed_lib.checks.federation import Datacenter, look_at_federation
from consulfed_lib.checks.layers import links
from consulfed_lib.checks.preflight import Target, look_at_clusters
from consulfed_lib.cluster import Cluster
from consulfed_lib.errors import ClusterError
from consulfed_lib.params import Federation
from consulfed_lib.redact import Secret, leaks
from consulfed_lib.results import Finding, Findings
from consulfed_lib.secret import FederationSecret
from consulfed_lib.steps import NOTEBOOKS

from .conftest import CHART, RULES, Authority, ConsulServer, ready, secret_object

GATEWAYS = {"dc1": "10.0.0.1:8443", "dc2": "10.0.0.2:8443", "dc3": "10.0.0.3:8443"}
CONSUL = "/api/v1/namespaces/consul"


def severities(found: list[Finding]) -> set[tuple[str, str]]:
    """(id, severity) of everything that is not ok."""
    return {(each.id, each.severity) for each in found if each.severity != "ok"}


# The catalogue


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Check]:
    """All checks; those of the steps are declared when the steps are imported."""
    for module, _ in NOTEBOOKS.values():
        import_module(f"consulfed_lib.steps.{module}")
    return CATALOGUE


def test_ids_are_unique_and_in_kebab_case(catalogue):
    """They stand in records and in the README for as long as the check exists."""
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", id) for id in catalogue)
    assert all(each.id == id for id, each in catalogue.items())
    some = next(iter(catalogue))
    with pytest.raises(ValueError, match=some):
        checks.check(some, "the same again")(lambda self, subject: iter(()))


def test_every_check_says_what_it_proves(catalogue):
    """In words of its own."""
    sentences = [each.proves for each in catalogue.values()]
    assert all(len(sentence) > 10 and not sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


# A check as such


def looking(look: Callable[..., Iterator[Finding]]) -> Check:
    return Check("some-check", "something", look)


def test_an_error_while_looking_is_an_error_and_never_a_pass():
    """What could not be looked at is not proven; what was seen before counts for nothing."""

    def look(self: Check, subject: str) -> Iterator[Finding]:
        yield self.ok(subject, "the first half is well")
        raise ClusterError("dc1 does not answer.", "see that it is up")

    (found,) = looking(look)("dc1")
    assert (found.id, found.subject, found.severity) == ("some-check", "dc1", "error")
    assert (found.found, found.hint) == ("dc1 does not answer.", "see that it is up")


def test_a_check_that_says_nothing_has_proven_nothing():
    """An empty list would be lost among the green ones."""

    def look(self: Check, subject: str) -> Iterator[Finding]:
        yield from ()

    found = looking(look)("dc1")
    assert [each.severity for each in found] == ["skipped"]
    assert not Findings("x", found).proven


def test_a_fault_of_ours_is_not_swallowed():
    """A KeyError in a check must end the notebook: green or red would both be lies."""

    world: dict[str, str] = {}

    def look(self: Check, subject: str) -> Iterator[Finding]:
        yield self.ok(subject, world["missing"])

    with pytest.raises(KeyError):
        looking(look)("dc1")


def test_findings_carry_the_checks_id():
    """Whoever yields them."""
    some = looking(lambda self, subject: iter(()))
    found = [
        some.ok("x", "a"),
        some.warning("x", "a", "h"),
        some.error("x", "a", "h"),
        some.skipped("x", "a"),
    ]
    assert [each.severity for each in found] == ["ok", "warning", "error", "skipped"]
    assert {each.id for each in found} == {"some-check"}


def test_a_check_that_warns_at_worst_never_stops_a_run():
    """Not even where it cannot look; and one that reports worse than its declaration is a fault of ours."""

    def unreachable(self: Check, subject: str) -> Iterator[Finding]:
        yield self.warning(subject, "so so", "h")
        raise ClusterError("dc1 does not answer.", "see that it is up")

    def worse(self: Check, subject: str) -> Iterator[Finding]:
        yield self.error(subject, "bad", "h")

    (found,) = Check("some-check", "something", unreachable, "warning")("dc1")
    assert (found.severity, found.found) == ("warning", "dc1 does not answer.")
    with pytest.raises(TypeError, match="some-check"):
        Check("some-check", "something", worse, "warning")("dc1")
    assert looking(worse)("dc1")[0].severity == "error"


def test_every_check_declares_its_worst(catalogue):
    """The README's table says it."""
    assert {each.severity for each in catalogue.values()} == {"error", "warning"}


def test_looks_run_at_the_same_time_and_are_listed_in_order():
    """The first waits for the last: one after the other, they would never end."""
    last = threading.Event()

    def first() -> list[Finding]:
        assert last.wait(10)
        return [Finding("a", "first", "ok", "")]

    def second() -> list[Finding]:
        last.set()
        return [Finding("a", "second", "ok", ""), Finding("b", "second", "ok", "")]

    assert [(f.subject, f.id) for f in run_together([first, second])] == [
        ("first", "a"), ("second", "a"), ("second", "b"),
    ]  # fmt: skip
    assert run_together([]) == []


def test_a_fault_in_one_of_many_looks_is_not_lost():
    """A thread's exception comes out where the looks were started."""

    def breaks() -> list[Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_together([breaks, list])


# Verification


@dataclass
class World:
    """A federation whose API servers and Consuls answer as those of a good one do."""

    params: Federation
    servers: dict[str, ConsulServer]

    def __post_init__(self) -> None:
        self.dcs = [
            Datacenter(
                self.params, of, self.servers[of.datacenter].cluster, self.servers[of.datacenter].client
            )
            for of in self.params.clusters
        ]

    def look(self) -> list[Finding]:
        return look_at_federation(self.dcs)


def wan(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"wan": {"Address": host, "Port": int(port)}}


def answer_well(server: ConsulServer, name: str, names: list[str], data: dict[str, bytes]) -> None:
    """What a good datacenter answers, about itself and about the others."""
    host, _, port = GATEWAYS[name].rpartition(":")
    server.api.answers[f"GET {CONSUL}/services/consul-mesh-gateway"] = (
        200,
        {
            "spec": {"type": "LoadBalancer", "ports": [{"port": int(port)}]},
            "status": {"loadBalancer": {"ingress": [{"ip": host}]}},
        },
    )
    server.api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(data)
    node = "consul-server-0"
    server.answers("status/leader", "127.0.0.1:8300")
    server.answers("operator/raft/configuration", {"Servers": [{"Node": node, "Voter": True}]})
    server.answers("catalog/service/mesh-gateway", [{"ServiceTaggedAddresses": wan(GATEWAYS[name])}])
    server.answers("catalog/datacenters", names)
    server.answers("catalog/services", {"consul": [], "mesh-gateway": []})
    server.answers("agent/members", [{"Name": f"{node}.{each}", "Status": 1} for each in names])
    server.answers("connect/ca/roots", {"ActiveRootID": "aa:bb", "TrustDomain": "x.consul"})
    server.answers("config/proxy-defaults/global", {"MeshGateway": {"Mode": "local"}})
    server.answers(f"health/node/{node}", [{"CheckID": "serfHealth", "Status": "passing"}])
    server.answers("acl/replication", replication())
    started_with = [] if name == names[0] else [GATEWAYS[names[0]]]
    server.answers("agent/self", {"DebugConfig": {"PrimaryGateways": started_with}})
    gateways = [
        {"Datacenter": each, "MeshGateways": [{"Service": {"TaggedAddresses": wan(GATEWAYS[each])}}]}
        for each in names
    ]
    server.answers("internal/federation-states", gateways)


def replication(**changes: Any) -> dict[str, Any]:
    return {
        "Enabled": True,
        "Running": True,
        "SourceDatacenter": "dc1",
        "ReplicationType": "tokens",
        "ReplicatedTokenIndex": 42,
        "LastSuccess": "2026-01-02T03:04:05Z",
        "LastError": "0001-01-01T00:00:00Z",
    } | changes


@pytest.fixture
def world(consul_server, federation, secret_data) -> Callable[..., World]:
    def make(n: int = 2, **changes: Any) -> World:
        names = [f"dc{i + 1}" for i in range(n)]
        clusters = [{"context": name, "datacenter": name} for name in names]
        changes = {"private_network": True} | changes
        params = federation(primary=clusters[0], secondaries=clusters[1:], **changes)
        servers = {name: consul_server(name) for name in names}
        for name, server in servers.items():
            answer_well(server, name, names, secret_data(GATEWAYS["dc1"]))
        return World(params, servers)

    return make


@pytest.mark.parametrize("n", [2, 3])
def test_a_good_federation_is_proven(world, n):
    """Every check in every datacenter and for every ordered pair; every link is ok."""
    good = world(n)
    found = good.look()
    assert severities(found) == set()
    assert Findings("Verification", found).proven
    names = [dc.name for dc in good.dcs]
    assert set(links(found, names).values()) == {("ok", "")}
    count = len({(f.id, f.subject) for f in found})
    assert count == n * (5 + 1 + 1) + (n - 1) * 3 + n * (n - 1) * 2


def test_without_acls_their_replication_is_no_question(world):
    """There is none then."""
    found = world(acls=False, gossip_encryption=False).look()
    assert "acl-replication" not in {each.id for each in found}


NEVER = "0001-01-01T00:00:00Z"
FAULTS: list[tuple[str, str, str, Any, int]] = [
    # check that must notice, datacenter, endpoint, what it answers instead, with which status
    ("servers", "dc2", "status/leader", "", 200),
    ("servers", "dc2", "operator/raft/configuration", {"Servers": []}, 200),
    ("servers", "dc2", "operator/raft/configuration", {"Servers": [{"Node": "consul-server-0", "Voter": False}]}, 200),
    ("servers", "dc2", "operator/raft/configuration", b"Permission denied", 403),
    ("gateway-address", "dc1", "catalog/service/mesh-gateway", [], 200),
    ("gateway-address", "dc1", "catalog/service/mesh-gateway", [{"ServiceTaggedAddresses": wan("10.9.9.9:443")}], 200),
    ("datacenters", "dc1", "catalog/datacenters", ["dc1"], 200),
    ("datacenters", "dc2", "catalog/datacenters", b"No path", 500),
    ("wan-members", "dc1", "agent/members", [{"Name": "consul-server-0.dc1", "Status": 1}], 200),
    (
        "wan-members", "dc1", "agent/members",
        [{"Name": "consul-server-0.dc1", "Status": 1}, {"Name": "consul-server-0.dc2", "Status": 4}], 200,
    ),
    ("federation-states", "dc2", "internal/federation-states", [], 200),
    ("federation-states", "dc2", "internal/federation-states", [{"Datacenter": "dc1", "MeshGateways": None}], 200),
    ("primary-gateways", "dc2", "agent/self", b"Permission denied", 403),
    ("proxy-defaults", "dc2", "config/proxy-defaults/global", b"", 404),
    ("proxy-defaults", "dc2", "config/proxy-defaults/global", {"MeshGateway": {"Mode": "remote"}}, 200),
    ("proxy-defaults", "dc2", "config/proxy-defaults/global", {"MeshGateway": {}}, 200),
    ("ca-root", "dc2", "connect/ca/roots", {"ActiveRootID": "cc:dd", "TrustDomain": "x.consul"}, 200),
    ("ca-root", "dc2", "connect/ca/roots", {"ActiveRootID": "aa:bb", "TrustDomain": "y.consul"}, 200),
    ("acl-replication", "dc2", "acl/replication", replication(Enabled=False), 200),
    ("acl-replication", "dc2", "acl/replication", replication(Running=False), 200),
    ("acl-replication", "dc2", "acl/replication", replication(SourceDatacenter="dc9"), 200),
    ("acl-replication", "dc2", "acl/replication", replication(ReplicationType="policies"), 200),
    ("acl-replication", "dc2", "acl/replication", replication(LastError="2026-01-02T03:04:06Z"), 200),
    ("acl-replication", "dc2", "acl/replication", replication(LastSuccess=NEVER), 200),
    ("acl-replication", "dc2", "acl/replication", {}, 200),
    ("node-health", "dc1", "health/node/consul-server-0", [], 200),
    ("node-health", "dc1", "health/node/consul-server-0", [{"CheckID": "serfHealth", "Status": "critical"}], 200),
    ("node-health", "dc1", "health/node/consul-server-0", [{"CheckID": "disk", "Status": "warning"}], 200),
    ("node-health", "dc1", "health/node/consul-server-0", b"No path to datacenter", 500),
    ("catalog-services", "dc2", "catalog/services", {"consul": []}, 200),
    ("catalog-services", "dc2", "catalog/services", {}, 200),
]  # fmt: skip


@pytest.mark.parametrize(("id", "name", "endpoint", "body", "status"), FAULTS)
def test_each_fault_of_a_federation_is_noticed_by_its_check_and_by_no_other(
    world, id, name, endpoint, body, status
):
    """In the datacenter where it is, with a hint; the rest stays green."""
    broken = world()
    broken.servers[name].answers(endpoint, body, status)
    found = broken.look()
    assert severities(found) == {(id, "error")}
    for each in found:
        if each.severity == "error":
            assert each.subject.startswith(name)
            assert each.hint
    assert not Findings("Verification", found).passed


@pytest.mark.parametrize("reached", [True, False])
def test_servers_that_were_started_with_gateways_of_before_must_be_restarted(world, reached):
    """A warning while the primary is reached in another way; else it is the cause, and comes before what follows."""
    stale = world()
    stale.servers["dc2"].answers("agent/self", {"DebugConfig": {"PrimaryGateways": ["10.9.9.9:443"]}})
    if not reached:
        stale.servers["dc2"].answers("health/node/consul-server-0", b"no server currently reachable", 500)
    found = stale.look()
    (row,) = [each for each in found if each.id == "primary-gateways"]
    assert row.severity == ("warning" if reached else "error")
    assert "10.9.9.9:443" in row.found
    assert GATEWAYS["dc1"] in row.found
    assert "rollout restart statefulset/consul-server" in row.hint
    assert severities(found) <= {("primary-gateways", row.severity), ("node-health", "error")}
    assert next(each for each in found if each.severity != "ok") is row


def test_a_stranger_among_the_datacenters_is_a_warning(world):
    """Somebody federated another one: known or not, it is no fault of this federation."""
    strange = world()
    strange.servers["dc1"].answers("catalog/datacenters", ["dc1", "dc2", "dc9"])
    found = strange.look()
    assert severities(found) == {("datacenters", "warning")}
    assert "dc9" in next(each.found for each in found if each.severity == "warning")


def test_a_gateway_whose_address_changed_is_noticed_everywhere(world):
    """In its datacenter, in what the others know of it, and in the secret that new secondaries would be given."""
    moved = world()
    service = moved.servers["dc1"].api.answers[f"GET {CONSUL}/services/consul-mesh-gateway"]
    service[1]["status"]["loadBalancer"]["ingress"] = [{"ip": "10.0.0.77"}]
    found = [each for each in moved.look() if each.severity == "error"]
    assert {(each.id, each.subject) for each in found} == {
        ("gateway-address", "dc1"),
        ("secret-complete", "dc1"),
        ("federation-states", "dc1"),
        ("federation-states", "dc2"),
    }
    service[1]["status"]["loadBalancer"] = {}
    found = moved.look()
    assert {(each.id, each.subject) for each in found if each.severity == "error"} == {
        ("gateway-address", "dc1")
    }
    (of_secret,) = [each for each in found if each.id == "secret-complete"]
    assert of_secret.severity == "warning"
    assert "no gateway has an address now" in of_secret.found


def test_a_datacenter_that_does_not_answer_is_red_and_the_others_are_still_asked(world):
    """Whatever is asked of it, or through it, is an error; what the others know of each other stays green."""
    broken = world(3)
    broken.servers["dc3"].cluster.down = "dc3: port-forward failed."
    found = broken.look()
    red = {each.subject for each in found if each.severity == "error"}
    assert red == {"dc3", "dc3 → dc1", "dc3 → dc2"}
    verdicts = links(found, ["dc1", "dc2", "dc3"])
    assert {pair for pair, (verdict, _) in verdicts.items() if verdict != "ok"} == {
        ("dc3", "dc1"),
        ("dc3", "dc2"),
    }


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([("node-health", "ok"), ("catalog-services", "ok")], "ok"),
        ([("node-health", "ok"), ("catalog-services", "error")], "error"),
        ([("node-health", "error"), ("catalog-services", "skipped")], "error"),
        ([("node-health", "ok"), ("catalog-services", "skipped")], "skipped"),
        ([("node-health", "skipped")], "skipped"),
        ([], "skipped"),
        ([("gateway-from-primary", "ok")], "skipped"),
    ],
)
def test_a_link_is_ok_only_when_all_that_was_asked_of_it_was(found, verdict):
    """And nothing but the checks of that pair counts; what nobody asked is not proven."""
    findings = [Finding(id, "dc1 → dc2", severity, "") for id, severity in found]
    findings += [Finding("node-health", "dc2 → dc1", "ok", "")]
    verdicts = {pair: word for pair, (word, _) in links(findings, ["dc1", "dc2"]).items()}
    assert verdicts == {("dc1", "dc2"): verdict, ("dc2", "dc1"): "ok"}


# The federation secret


def test_a_secret_that_is_wrong_is_an_error_for_each_mistake(world, secret_data):
    """With the step that makes it again."""
    broken = world()
    wrong = secret_data(GATEWAYS["dc1"]) | {"replicationToken": b"no uuid at all", "extra": b"something else"}
    broken.servers["dc1"].api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(wrong)
    found = secrets.secret_complete("dc1", broken.params, broken.servers["dc1"].cluster, True)
    assert [each.severity for each in found] == ["error", "error"]
    assert all("01-primary-setup" in each.hint for each in found)


CONFIG = "serverConfigJSON"
WRONG_VALUES: dict[str, dict[str, Any]] = {
    # row of the facts: what the values are instead (None: not there)
    "missing key": {"caKey": None},
    "unexpected key": {"extra": b"something else"},
    "double base64": {"caCert": lambda value: base64.b64encode(value)},
    "no PEM": {"caCert": b"nothing of the kind"},
    "key of another CA": {"caKey": Authority("Another").key_pem.encode()},
    "gossip key": {"gossipEncryptionKey": base64.b64encode(bytes(8))},
    "token": {"replicationToken": b"root"},
    "more fields": {CONFIG: lambda value: value.replace(b"{", b'{"retry_join":[],')},
    "another primary": {CONFIG: lambda value: value.replace(b"dc1", b"dc9")},
    "empty host": {CONFIG: lambda value: value.replace(b'"10.0.0.1:', b'":')},
    "placeholder": {CONFIG: lambda value: value.replace(b"10.0.0.1", b"192.0.2.2")},
    "stale gateway": {CONFIG: lambda value: value.replace(b"10.0.0.1", b"10.0.0.77")},
}


@pytest.mark.parametrize("row", WRONG_VALUES)
def test_each_fault_of_the_secret_stops_the_run(world, secret_data, row):
    """In the primary's own and in a copy, whoever is asked."""
    broken, data = world(), secret_data(GATEWAYS["dc1"])
    for key, change in WRONG_VALUES[row].items():
        data[key] = change(data.get(key)) if callable(change) else change
    held = {key: value for key, value in data.items() if value is not None}
    for server in broken.servers.values():
        server.api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(held)
    one, two = (broken.servers[name].cluster for name in ("dc1", "dc2"))
    found = secrets.secret_complete("dc1", broken.params, one, True)
    assert {each.severity for each in found} == {"error"}
    found = secrets.secret_copy("dc2", broken.params, one, broken.params.secondaries[0], two, True)
    assert {each.severity for each in found} == {"ok" if row == "stale gateway" else "error"}


@pytest.mark.parametrize(
    ("days", "severity"), [(-0.01, "error"), (30, "warning"), (400, "ok")], ids=["over", "soon", "long"]
)
def test_a_ca_that_ends_is_told_in_time(world, secret_data, days, severity):
    """A warning for three months, then an error."""
    old, ca = world(), Authority(lasts=timedelta(days=days))
    data = secret_data(GATEWAYS["dc1"]) | {"caCert": ca.pem.encode(), "caKey": ca.key_pem.encode()}
    old.servers["dc1"].api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(data)
    (found,) = secrets.secret_complete("dc1", old.params, old.servers["dc1"].cluster, True)
    assert found.severity == severity


@pytest.mark.parametrize(
    ("private_network", "severity"), [(False, "warning"), (True, "ok")], ids=["not meant", "meant"]
)
def test_a_private_gateway_is_a_warning_unless_it_is_meant(world, private_network, severity):
    """Clusters may share a network; then the parameters say so."""
    near = world(private_network=private_network)
    one, two = (near.servers[name].cluster for name in ("dc1", "dc2"))
    (found,) = secrets.secret_complete("dc1", near.params, one, True)
    assert found.severity == severity
    (copy,) = secrets.secret_copy("dc2", near.params, one, near.params.secondaries[0], two, True)
    assert copy.severity == "ok", "said once, for the primary"


def test_a_copy_that_names_its_own_datacenter_as_the_primary_stops_the_run(world):
    """Consul would refuse to start; two contexts were swapped."""
    swapped = world()
    one = swapped.servers["dc1"].cluster
    itself = swapped.params.secondaries[0].model_copy(update={"datacenter": "dc1"})
    found = secrets.secret_copy("dc1", swapped.params, one, itself, one, True)
    assert [each.severity for each in found] == ["error"]
    assert "itself" in found[0].found


@pytest.mark.parametrize(("must_be_there", "severity"), [(True, "error"), (False, "warning")])
def test_a_secret_that_is_missing_is_an_error_where_it_must_be_there(world, must_be_there, severity):
    """In a dry run of a first installation it cannot be there yet."""
    empty = world()
    for server in empty.servers.values():
        del server.api.answers[f"GET {CONSUL}/secrets/consul-federation"]
    one, two = (empty.servers[name].cluster for name in ("dc1", "dc2"))
    of = empty.params.secondaries[0]
    for found in (
        secrets.secret_complete("dc1", empty.params, one, must_be_there),
        secrets.secret_copy("dc2", empty.params, one, of, two, must_be_there),
    ):
        assert [each.severity for each in found] == [severity]
        assert found[0].hint


def test_a_copy_that_differs_is_an_error_that_names_the_keys(world, secret_data, other_authority):
    """Names, never values."""
    stale = world()
    data = secret_data(GATEWAYS["dc1"])
    other = data | {"replicationToken": b"00000000-2f64-4be0-9c39-3b1ea5ab0c11"}
    stale.servers["dc2"].api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(other)
    found = stale.look()
    assert severities(found) == {("secret-copy", "error")}
    text = "\n".join(each.found for each in found)
    assert "replicationToken" in text
    assert "caKey" not in next(each.found for each in found if each.severity == "error")
    assert leaks(text) == 0


def test_a_copy_without_its_original_is_not_proven(world):
    """There is nothing to compare it with."""
    orphan = world()
    del orphan.servers["dc1"].api.answers[f"GET {CONSUL}/secrets/consul-federation"]
    assert ("secret-copy", "error") in severities(orphan.look())


def test_each_key_of_a_copy_is_compared_by_fingerprint(secret_data):
    """One row for each key of either side; no copy at all is an error, too."""

    def held(data: dict[str, bytes]) -> FederationSecret:
        return FederationSecret("s", "consul", {k: Secret(k, v) for k, v in data.items()}, {})

    data = secret_data()
    original = held(data)
    assert {each.severity for each in secrets.key_equal("dc2", original, held(data))} == {"ok"}
    changed = held(
        {k: v for k, v in data.items() if k != "caKey"} | {"extra": b"something else", "caCert": b"x" * 9}
    )
    found = secrets.key_equal("dc2", original, changed)
    wrong = {each.found.split()[0] for each in found if each.severity == "error"}
    assert wrong == {"caKey", "caCert", "extra"}
    assert [each.severity for each in secrets.key_equal("dc2", original, None)] == ["error"]


# Preflight


def test_an_empty_cluster_is_ready(target, api):
    """All green but the gateway that is not there yet, with nothing written: only rights are asked for by POST."""
    ready(api)
    found = [finding for each in preflight.PER_CLUSTER for finding in each("dc1", target)]
    assert severities(found) == {("gateway-name", "skipped"), ("gateway-public", "skipped")}
    assert {asked for asked in api.asked() if not asked.startswith("GET")} == {RULES}


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("https://10.0.0.2:6443", "ok"),
        ("https://api.example.com", "ok"),
        ("https://127.9.2.1:6443", "ok"),
        ("https://127.0.0.1:6443", "warning"),
        ("https://localhost:6443", "warning"),
        ("https://[::1]:6443", "warning"),
        ("https://0.0.0.0:6443", "warning"),
        ("http://10.0.0.2:6443", "error"),
        ("10.0.0.2:6443", "error"),
        ("", "error"),
    ],
)
def test_an_api_url_must_be_one_that_others_can_reach(url, severity):
    """A laptop's port-forward or kind's 127.0.0.1 is not where the primary's servers are."""
    (found,) = preflight.api_url("dc2", url)
    assert found.severity == severity
    assert ("api_url" in found.hint) is (severity != "ok")


@pytest.mark.parametrize(
    ("uids", "severity"), [(("u-1", "u-2"), "ok"), (("u-1", "u-1"), "error")], ids=["distinct", "the same"]
)
def test_the_same_cluster_under_two_contexts_is_noticed(https, kubeconfig, federation, uids, severity):
    """By the UID of kube-system: names tell nothing."""
    apis = [https(), https()]
    path = kubeconfig(one=apis[0].url, two=apis[1].url)
    params = federation(kubeconfig=path)
    targets = [Target(params, of, Cluster(of.context, path)) for of in params.clusters]
    for api, uid in zip(apis, uids, strict=True):
        ready(api, uid)
    (found,) = preflight.distinct_clusters("test", targets)
    assert found.severity == severity


def test_the_real_helm_is_new_enough(cluster):
    """The one that these tests run with."""
    (found,) = preflight.helm_program("this machine", cluster)
    assert found.severity == "ok"


@pytest.mark.parametrize(
    ("says", "severity"),
    [
        ("v3.14.0+g1", "ok"),
        ("v4.1.0", "ok"),
        ("v3.13.9+g1", "error"),
        ("v2.17.0", "error"),
        ("", "error"),
        ("flag provided but not defined", "error"),
    ],
)
def test_an_old_helm_is_noticed(cluster, monkeypatch, tmp_path, says, severity):
    """Labels on releases need 3.14; what does not say its version counts as old."""
    program = tmp_path / "helm"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(helm, "find_program", lambda name: program)
    assert [each.severity for each in preflight.helm_program("this machine", cluster)] == [severity]


@pytest.mark.parametrize(
    ("ref", "version", "severity"),
    [
        (str(CHART), "1.9.11-sandbox", "ok"),
        (str(CHART), "1.9.10", "error"),
        ("./no-such-folder", "1.9.11", "error"),
    ],
)
def test_the_chart_must_be_there_in_the_version_that_is_pinned(cluster, federation, ref, version, severity):
    """A folder is whatever it is: its version is compared, not believed."""
    params = federation(chart={"ref": ref, "version": version})
    (found,) = preflight.chart("this machine", Target(params, params.primary, cluster))
    assert found.severity == severity
    assert bool(found.hint) is (severity == "error")


def test_all_clusters_are_looked_at_and_one_that_is_down_does_not_hide_the_others(
    https, kubeconfig, federation
):
    """One table with everything that would stop the run."""
    api = https()
    ready(api)
    api.answers["GET /api/v1/nodes"] = 200, {"items": []}
    path = kubeconfig(one="https://127.0.0.1:1", two=api.url)
    chart = {"ref": str(CHART), "version": "1.9.11-sandbox"}
    found = look_at_clusters(federation(kubeconfig=path, chart=chart))
    assert [(f.id, f.subject) for f in found if f.severity == "error"] == [
        ("api-reachable", "dc1"),
        ("capacity", "dc2"),
    ]
    assert {"permissions", "helm", "chart", "distinct-clusters"} <= {each.id for each in found}


def test_with_no_cluster_at_all_it_says_so_and_stops(kubeconfig, federation):
    """Nothing else can be looked at."""
    path = kubeconfig(one="https://127.0.0.1:1", two="https://127.0.0.1:1")
    found = look_at_clusters(federation(kubeconfig=path))
    assert [(each.id, each.severity) for each in found] == [("api-reachable", "error")] * 2


def test_a_wrong_context_is_a_finding_of_its_cluster(kubeconfig, federation):
    """Also where the parameters were checked on a machine without that kubeconfig."""
    params = federation(kubeconfig="")
    path = kubeconfig(other="https://127.0.0.1:1")
    looked = partial(preflight.api_reachable, "dc1", params.model_copy(update={"kubeconfig": path}))
    (found,) = looked(params.primary)
    assert found.severity == "error"
    assert "'one'" in found.found


def test_names_are_looked_at_once_more(target):
    """The parameters were refused before if they did not fit; the record says by how much they do."""
    (found,) = preflight.names("dc1", target)
    assert found.severity == "ok"
    assert "6 of 32" in found.found


def test_every_pair_and_datacenter_check_is_in_the_catalogue(catalogue):
    """What is looked at is what is documented."""
    looked_at = {*federation.PER_PAIR, *federation.PER_DATACENTER, *preflight.PER_CLUSTER}
    assert looked_at <= set(catalogue.values())
