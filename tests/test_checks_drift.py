"""Gateway addresses in every place: the one that is stale is named, with what mends it; what follows from it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from consulfed_lib.checks.drift import Addresses, addresses, hear_all, look_at_addresses
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.params import Federation
from consulfed_lib.results import Finding

from .conftest import ConsulServer, Request, secret_object

GATEWAY = "deployment/consul-mesh-gateway"
CONSUL = "/api/v1/namespaces/consul"
NEW = {"dc1": ("10.0.0.1", "10.0.1.1"), "dc2": ("10.0.0.2",), "dc3": ("10.0.0.3",)}
OLD = ("10.9.9.9",)
"""Hosts of the gateways, all on port 443; the primary has two."""


def wan(host: str) -> dict[str, Any]:
    return {"wan": {"Address": host, "Port": 443}}


@dataclass
class World:
    """A federation in which every place has the addresses of now, until a test changes one."""

    params: Federation
    servers: dict[str, ConsulServer]
    data: dict[str, bytes]

    def __post_init__(self) -> None:
        for name in self.servers:
            self.nodes(name, *NEW[name])
            self.catalog(name, *NEW[name])
            self.secret(name, *NEW["dc1"])
            self.started(name, *(NEW["dc1"] if name != "dc1" else ()))
            self.states(name)

    def nodes(self, name: str, *hosts: str) -> None:
        """The gateway's Service, a NodePort, whose addresses are those of the pods' nodes."""
        answers = self.servers[name].api.answers
        spec = {"type": "NodePort", "ports": [{"port": 443, "nodePort": 443}]}
        answers[f"GET {CONSUL}/services/consul-mesh-gateway"] = 200, {"spec": spec}
        answers["GET /apis/apps/v1/namespaces/consul/deployments/consul-mesh-gateway"] = (
            200,
            {"spec": {"selector": {"matchLabels": {"component": "mesh-gateway"}}}},
        )
        pods = [
            {"metadata": {"name": host}, "status": {"phase": "Running", "hostIP": host}} for host in hosts
        ]
        answers[f"GET {CONSUL}/pods"] = 200, {"items": pods}

    def catalog(self, name: str, *hosts: str) -> None:
        instances = [{"ServiceTaggedAddresses": wan(host)} for host in hosts]
        self.servers[name].answers("catalog/service/mesh-gateway", instances)

    def secret(self, name: str, *hosts: str) -> None:
        config = {"primary_datacenter": "dc1", "primary_gateways": [f"{host}:443" for host in hosts]}
        data = self.data | {"serverConfigJSON": json.dumps(config).encode()}
        self.servers[name].api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(data)

    def started(self, name: str, *hosts: str) -> None:
        config = {"PrimaryGateways": [f"{host}:443" for host in hosts]}
        self.servers[name].answers("agent/self", {"DebugConfig": config})

    def ready(self, name: str, *pods: str) -> None:
        """The server pods; a gateway's pods are at hosts."""
        gateways = self.servers[name].api.answers[f"GET {CONSUL}/pods"]
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        servers = [{"metadata": {"name": pod}, "status": status} for pod in pods]

        def answer(request: Request) -> tuple[int, Any]:
            of_servers = "component=server" in request.query["labelSelector"]
            return (200, {"items": servers}) if of_servers else gateways

        self.servers[name].api.answers[f"GET {CONSUL}/pods"] = answer

    def states(self, name: str, **other: tuple[str, ...]) -> None:
        """The federation states as one datacenter has them; `other` are those that it has otherwise."""
        known = {each: NEW[each] for each in self.servers} | other
        states = [
            {
                "Datacenter": dc,
                "MeshGateways": [{"Service": {"TaggedAddresses": wan(host)}} for host in hosts],
            }
            for dc, hosts in known.items()
        ]
        self.servers[name].answers("internal/federation-states", states)

    def told(self) -> list[Any]:
        dcs = [
            Datacenter(
                self.params, of, self.servers[of.datacenter].cluster, self.servers[of.datacenter].client
            )
            for of in self.params.clusters
        ]
        return hear_all(dcs)

    def look(self) -> list[Finding]:
        return look_at_addresses(self.told())

    def table(self) -> Addresses:
        return addresses(self.told())


@pytest.fixture
def world(consul_server, federation, secret_data) -> Callable[..., World]:
    def make(n: int = 3, **changes: Any) -> World:
        clusters = [{"context": name, "datacenter": name} for name in list(NEW)[:n]]
        params = federation(
            primary=clusters[0], secondaries=clusters[1:], private_network=True,
            mesh_gateway={"service": "NodePort", "node_port": 30443}, **changes,
        )  # fmt: skip
        return World(
            params,
            {each["datacenter"]: consul_server(each["datacenter"]) for each in clusters},
            secret_data(),
        )

    return make


def bad(found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.severity != "ok"]


@pytest.mark.parametrize("n", [2, 3])
def test_where_all_agree_nothing_is_said(world, n):
    """Five ways, in every place: Service, catalog, secret and copies, running config, federation states."""
    good = world(n)
    found = good.look()
    assert [(each.id, each.subject, each.severity) for each in found] == [
        ("gateway-addresses", f"dc{i + 1}", "ok") for i in range(n)
    ]
    table = good.table()
    places = [row.place for row in table if row.datacenter == "dc1"]
    assert places[:3] == ["Service", "catalog", "federation secret"]
    assert {"copy in dc2", "running config of consul-server-0 in dc2", "federation state in dc2"} <= set(
        places
    )
    assert [row.place for row in table if row.datacenter == "dc2"][:2] == ["Service", "catalog"]
    assert len(table) == (2 + 1 + 2 * (n - 1) + n) + (n - 1) * (2 + n)
    assert table.summary() == f"{len(table)} places; none is behind"


def test_order_never_matters(world):
    """Consul writes addresses in random order."""
    mixed = world(2)
    mixed.catalog("dc1", *reversed(NEW["dc1"]))
    mixed.secret("dc2", *reversed(NEW["dc1"]))
    mixed.started("dc2", *reversed(NEW["dc1"]))
    mixed.states("dc2", dc1=NEW["dc1"][::-1])
    assert not bad(mixed.look())


STALE: list[tuple[str, str, Callable[[World], None], str, str, str]] = [
    # datacenter whose gateways they are, stale place, what makes it so, severity, what mends it, where
    ("dc1", "catalog", lambda w: w.catalog("dc1", *OLD), "error", f"rollout restart {GATEWAY}", "dc1"),
    ("dc2", "catalog", lambda w: w.catalog("dc2", *OLD), "error", f"rollout restart {GATEWAY}", "dc2"),
    ("dc2", "catalog", lambda w: w.catalog("dc2"), "error", f"describe {GATEWAY}", "dc2"),
    ("dc1", "federation secret", lambda w: w.secret("dc1", *OLD), "error", "run 01-primary-setup", ""),
    ("dc1", "copy in dc3", lambda w: w.secret("dc3", *OLD), "error", "run 02-secret-transfer for dc3", ""),
    (
        "dc1", "running config of consul-server-0 in dc2", lambda w: w.started("dc2", *OLD),
        "warning", "rollout restart statefulset/consul-server", "dc2",
    ),
    ("dc1", "federation state in dc1", lambda w: w.states("dc1", dc1=OLD), "error", "why dc1 did not tell it", "dc1"),
    ("dc2", "federation state in dc1", lambda w: w.states("dc1", dc2=OLD), "error", "why dc2 did not tell it", "dc2"),
    ("dc3", "federation state in dc2", lambda w: w.states("dc2", dc3=()), "error", "dc2 did not replicate it", "dc2"),
]  # fmt: skip


@pytest.mark.parametrize(("dc", "place", "spoil", "severity", "mend", "where"), STALE)
def test_the_stale_place_is_named_with_the_command_that_mends_it(
    world, dc, place, spoil, severity, mend, where
):
    """And with both sets; no other place and no other datacenter is blamed."""
    stale = world()
    spoil(stale)
    (found,) = bad(stale.look())
    assert (found.subject, found.severity) == (dc, severity)
    assert found.found.startswith(f"the {place} is stale")
    assert all(f"{host}:443" in found.found for host in NEW[dc])
    assert found.hint.count(mend) == 1
    assert f"--context {where}" in found.hint if where else "kubectl" not in found.hint
    rows = [row for row in stale.table() if row.verdict != "ok"]
    assert [(row.datacenter, row.place, row.verdict) for row in rows] == [(dc, place, severity)]


def test_what_only_repeats_the_stale_place_is_no_cause_of_its_own(world):
    """A gateway that did not register again: all that comes from the catalog has the old address."""
    moved = world(2)
    moved.catalog("dc1", *OLD)
    for name in ("dc1", "dc2"):
        moved.secret(name, *OLD)
        moved.states(name, dc1=OLD)
    moved.started("dc2", *OLD)
    (found,) = bad(moved.look())
    assert found.severity == "error"
    assert found.found.startswith(
        "the catalog is stale: it has 10.9.9.9:443, the Service has 10.0.0.1:443, 10.0.1.1:443"
    )
    for place in (
        "federation secret",
        "copy in dc2",
        "running config",
        "federation state in dc1",
        "state in dc2",
    ):
        assert place in found.found
    assert "rollout restart deployment/consul-mesh-gateway; then verify again" in found.hint


def test_a_place_that_is_stale_in_another_way_is_a_cause_of_its_own(world):
    """It is mended after the place that it takes its addresses from."""
    twice = world(2)
    twice.secret("dc1", *OLD)
    twice.secret("dc2", "10.8.8.8")
    first, second = bad(twice.look())
    assert first.found.startswith("the federation secret is stale")
    assert second.found.startswith("the copy in dc2 is stale: it has 10.8.8.8:443")
    assert second.hint == "first mend the federation secret; then run 02-secret-transfer for dc2"


def test_servers_with_old_addresses_that_have_not_learnt_the_new_ones_are_an_error(world):
    """Else it is a warning: Consul dials by what it learnt, until it starts again."""
    lost = world(2)
    lost.started("dc2", *OLD)
    lost.states("dc2", dc1=OLD)
    found = {each.found.partition(" is stale")[0]: each.severity for each in bad(lost.look())}
    assert found == {
        "the running config of consul-server-0 in dc2": "error",
        "the federation state in dc2": "error",
    }


def test_each_server_is_asked_what_it_was_started_with(world):
    """One that did not restart after the others is named, though another one answers for the datacenter."""
    three = world(2, servers=3)
    pods = [f"consul-server-{i}" for i in range(3)]
    three.ready("dc2", *pods)
    names = [row.place for row in three.table() if "running config" in row.place]
    assert names == [f"running config of {pod} in dc2" for pod in pods]
    assert not bad(three.look())
    three.started("dc2", *OLD)
    stale = {row.place for row in three.table() if row.verdict in ("error", "warning")}
    assert stale == set(names)


def test_a_server_that_does_not_answer_is_not_seen(world):
    """The others are compared all the same."""
    three = world(2, servers=3)
    three.ready("dc2", "consul-server-0", "consul-server-1")
    three.servers["dc2"].cluster.gone = {"consul-server-1"}
    (skipped,) = bad(three.look())
    assert skipped.severity == "skipped"
    assert skipped.found.startswith("running config of consul-server-1 in dc2: ")


def test_without_an_address_nothing_can_be_right(world):
    """One error, for the Service; what others have is not compared with nothing."""
    pending = world(2)
    pending.nodes("dc2")
    (found,) = bad(pending.look())
    assert (found.subject, found.severity) == ("dc2", "error")
    assert "describe service/consul-mesh-gateway" in found.hint
    verdicts = [row.verdict for row in pending.table() if row.datacenter == "dc2"]
    assert verdicts == ["error", "skipped", "skipped", "skipped"]


def refuse(world: World, name: str, what: str) -> None:
    """One question that is refused: of the cluster, or of Consul."""
    if what.startswith("GET "):
        world.servers[name].api.answers[what] = 403, {"kind": "Status", "code": 403, "message": "forbidden"}
    else:
        world.servers[name].answers(what, b"Permission denied", 403)


@pytest.mark.parametrize(
    ("name", "what", "unseen"),
    [
        ("dc1", f"GET {CONSUL}/secrets/consul-federation", {"dc1": ["federation secret"]}),
        ("dc2", f"GET {CONSUL}/secrets/consul-federation", {"dc1": ["copy in dc2"]}),
        ("dc2", "agent/self", {"dc1": ["running config of consul-server-0 in dc2"]}),
        ("dc2", "catalog/service/mesh-gateway", {"dc2": ["catalog"]}),
        ("dc2", "internal/federation-states", {name: ["federation state in dc2"] for name in ("dc1", "dc2")}),
    ],
)
def test_a_place_that_cannot_be_seen_is_skipped_and_the_others_are_compared(world, name, what, unseen):
    """With the reason; a row says `not seen`."""
    hidden = world(2)
    refuse(hidden, name, what)
    found = bad(hidden.look())
    assert {(each.subject, each.severity, each.found.partition(":")[0]) for each in found} == {
        (dc, "skipped", place) for dc, places in unseen.items() for place in places
    }
    assert all("403" in each.found for each in found)
    table = hidden.table()
    assert "not seen" in repr(table)
    assert "not compared" in table.summary()


def test_when_the_service_cannot_be_seen_no_place_is_called_stale(world):
    """There is nothing to compare with."""
    hidden = world(2)
    hidden.catalog("dc1", *OLD)
    refuse(hidden, "dc1", f"GET {CONSUL}/services/consul-mesh-gateway")
    (found,) = bad(hidden.look())
    assert (found.subject, found.severity) == ("dc1", "skipped")
    assert {row.verdict for row in hidden.table() if row.datacenter == "dc1"} == {"skipped"}


@pytest.mark.parametrize("config", [b"not JSON", b"[]", b'{"primary_gateways": 7}', None])
def test_a_secret_that_cannot_be_read_is_not_seen(world, config):
    """What is wrong with it is said by secret-copy; it is no stale address."""
    broken = world(2)
    data = broken.data | {"serverConfigJSON": config} if config else {}
    broken.servers["dc2"].api.answers[f"GET {CONSUL}/secrets/consul-federation"] = 200, secret_object(data)
    (found,) = bad(broken.look())
    assert (found.severity, found.found.partition(":")[0]) == ("skipped", "copy in dc2")


def test_a_secret_that_is_not_there_is_not_seen(world):
    """Nor is it one with no address."""
    gone = world(2)
    del gone.servers["dc2"].api.answers[f"GET {CONSUL}/secrets/consul-federation"]
    (found,) = bad(gone.look())
    assert found.found == "copy in dc2: consul/consul-federation is not there"


def test_the_table_is_read_by_people_and_machines(world):
    """Every place with its addresses and a verdict that needs no colour."""
    stale = world(2)
    stale.secret("dc2", *OLD)
    table = stale.table()
    assert table.summary() == f"{len(table)} places; behind: dc1: copy in dc2"
    assert "✘ error" in repr(table)
    (row,) = [each for each in table.data() if each["verdict"] == "error"]
    assert row == {
        "datacenter": "dc1",
        "place": "copy in dc2",
        "addresses": ("10.9.9.9:443",),
        "verdict": "error",
    }
    assert "10.0.0.1:443, 10.0.1.1:443" in table._repr_html_()
