"""What Consul says of itself: each check fires on its own fault and on no other, and is silent where all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from consulfed_lib import redact
from consulfed_lib.checks.consul_acls import ANONYMOUS
from consulfed_lib.checks.consul_state import CONSUL_CHECKS, look_at_consul, round_trips
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.errors import ClusterError
from consulfed_lib.params import Federation
from consulfed_lib.results import Finding

from .conftest import ConsulServer

KEY = b"the key of fingerprints"
GOSSIP, OLDER = "Z29zc2lwLWtleS1vZi0zMi1ieXRlcy1mb3ItdGVzdHM=", "b2xkZXItZ29zc2lwLWtleS0zMi1ieXRlcy1mb3ItMXM="
JWT = "eyJhbGciOiJSUzI1NiJ9.the-token-of-a-service-account.signature"
METHOD = "consul-k8s-component-auth-method-dc2"
AUTOPILOT = "operator/autopilot/health"
MEMBERS = "agent/members"
KEYRING = "operator/keyring"
GATEWAYS = "health/service/mesh-gateway"
COORDINATES = "coordinate/datacenters"
RULES = "acl/binding-rules"
AUTH_METHOD = f"acl/auth-method/{METHOD}"
READ = 'node_prefix "" { policy = "read" }\nservice_prefix "" {\n  policy = "read"\n  intentions = "read"\n}'
AS_JSON = '{"node_prefix":{"":{"policy":"read"}},"service_prefix":{"":{"policy":"write"}}}'


def server(**changes: Any) -> dict[str, Any]:
    """One server as autopilot has it."""
    return {
        "Name": "consul-server-0", "Healthy": True, "Voter": True, "Leader": True, "SerfStatus": "alive",
        "LastContact": "0s", "LastIndex": 500,
    } | changes  # fmt: skip


def health(*servers: dict[str, Any], tolerance: int = 0) -> dict[str, Any]:
    return {
        "Healthy": all(s["Healthy"] for s in servers),
        "FailureTolerance": tolerance,
        "Servers": list(servers),
    }


def three(**changes: Any) -> list[dict[str, Any]]:
    """Three servers, of which the last is different."""
    names = [f"consul-server-{i}" for i in range(3)]
    known = [server(Name=name, Leader=name == names[0]) for name in names]
    return [*known[:2], known[2] | changes]


def members(**builds: str) -> list[dict[str, Any]]:
    return [
        {"Name": f"consul-server-0.{dc}", "Status": 1, "Tags": {"dc": dc, "build": build}}
        for dc, build in builds.items()
    ]


def gateway(id: str = "gw-1", status: str = "passing", federates: str | None = "1") -> dict[str, Any]:
    meta = {} if federates is None else {"consul-wan-federation": federates}
    return {
        "Service": {"ID": id, "Meta": meta},
        "Checks": [{"Name": "Kubernetes Readiness Check", "Status": status}],
    }


def pool(dc: str, wan: bool = False, nodes: int = 1, **held: int) -> dict[str, Any]:
    """A gossip pool; `held`: how many nodes have the key of today, and the older one."""
    keys = {
        {"today": GOSSIP, "older": OLDER}[name]: count for name, count in (held or {"today": nodes}).items()
    }
    return {"WAN": wan, "Datacenter": dc, "NumNodes": nodes, "Keys": keys, "PrimaryKeys": keys}


def at(
    dc: str, *coords: float, area: str = "wan", height: float = 0.0, adjustment: float = 0.0
) -> dict[str, Any]:
    """A datacenter whose one server has these coordinates, in seconds."""
    coord = {"Vec": list(coords), "Error": 0.2, "Adjustment": adjustment, "Height": height}
    return {"Datacenter": dc, "AreaID": area, "Coordinates": [{"Node": "consul-server-0", "Coord": coord}]}


def rule(id: str, name: str = "gateway-role", method: str = METHOD) -> dict[str, Any]:
    return {
        "ID": id,
        "AuthMethod": method,
        "BindType": "role",
        "BindName": name,
        "Selector": "x",
        "Description": id,
    }


def method(**changes: Any) -> dict[str, Any]:
    config = {"Host": "https://dc2.example.com:6443", "CACert": "…", "ServiceAccountJWT": JWT}
    return {"Name": METHOD, "TokenLocality": "global", "Config": config} | changes


def token(*policies: str) -> dict[str, Any]:
    links = [{"ID": f"id-of-{name}", "Name": name} for name in policies]
    return {"AccessorID": ANONYMOUS, "SecretID": "anonymous", "Policies": links}


def policy(rules: str, name: str = "anonymous-token-policy", dcs: list[str] | None = None) -> dict[str, Any]:
    return {"ID": f"id-of-{name}", "Name": name, "Rules": rules, "Datacenters": dcs}


ANONYMOUS_TOKEN, ANONYMOUS_POLICY = f"acl/token/{ANONYMOUS}", "acl/policy/id-of-anonymous-token-policy"


def well(name: str) -> dict[str, Any]:
    """What a good datacenter answers."""
    other = "dc2" if name == "dc1" else "dc1"
    return {
        AUTOPILOT: health(server()),
        MEMBERS: members(dc1="1.22.7:abc", dc2="1.22.7:abc"),
        KEYRING: [pool(name, wan=True, nodes=2), pool(name), pool(other)],
        GATEWAYS: [gateway()],
        COORDINATES: [at(name, 0.001, 0.0), at(other, 0.004, 0.004)],
        AUTH_METHOD: method(),
        ANONYMOUS_TOKEN: token("anonymous-token-policy"),
        ANONYMOUS_POLICY: policy(READ),
        RULES: [rule("r1"), rule("r2", "other-role"), rule("r3", method="another")],
    }


@dataclass
class World:
    """A federation that is well until a test changes an answer."""

    params: Federation
    servers: dict[str, ConsulServer]

    def look(self, key: bytes | None = KEY) -> list[Finding]:
        return look_at_consul([self.datacenter(name) for name in self.servers], key)

    def datacenter(self, name: str) -> Datacenter:
        of = next(each for each in self.params.clusters if each.datacenter == name)
        return Datacenter(self.params, of, self.servers[name].cluster, self.servers[name].client)


@pytest.fixture
def world(consul_server, federation) -> Callable[..., World]:
    def make(**changes: Any) -> World:
        secondary = {"context": "dc2", "datacenter": "dc2", "api_url": "https://dc2.example.com:6443"}
        params = federation(
            primary={"context": "dc1", "datacenter": "dc1"}, secondaries=[secondary], **changes
        )
        servers = {name: consul_server(name) for name in ("dc1", "dc2")}
        for name, each in servers.items():
            for path, body in well(name).items():
                each.answers(path, body)
        return World(params, servers)

    return make


def bad(found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.severity != "ok"]


def test_a_good_federation_is_proven(world):
    """Each check looks where it must: all in the primary and in each secondary, but for what only one of them has."""
    found = world().look()
    assert not bad(found)
    where = {each.id: [f.subject for f in found if f.id == each.id] for each in CONSUL_CHECKS}
    assert where.pop("auth-method") == ["dc2"]
    assert where.pop("anonymous-policy") == ["dc1"]
    assert set(map(tuple, where.values())) == {("dc1", "dc2")}
    assert [each.id for each in found] == sorted(
        [f.id for f in found], key=[c.id for c in CONSUL_CHECKS].index
    )


def test_nothing_is_asked_that_the_federation_does_not_have(world):
    """Without ACLs there are no auth methods, without gossip encryption no keys, and keys only when asked for."""
    found = world(acls=False, gossip_encryption=False).look()
    assert {each.id for each in found} == {
        "autopilot",
        "consul-versions",
        "gateway-registered",
    }
    assert "gossip-keys" not in {each.id for each in world().look(key=None)}


FAULTS: list[tuple[str, str, str, str, Any, int, str]] = [
    # check that must notice, how badly, datacenter, endpoint, what it answers, with which status, what is said
    (
        "autopilot", "error", "dc2", AUTOPILOT,
        health(server(Healthy=False, SerfStatus="failed")), 429, "gossip says failed of it",
    ),
    (
        "autopilot", "error", "dc1", AUTOPILOT,
        health(*three(Healthy=False, LastContact="3.2s", LastIndex=100), tolerance=0), 429,
        "consul-server-2 is not healthy: it heard from the leader 3.2s ago, and is 400 log entries behind",
    ),
    (
        "autopilot", "error", "dc1", AUTOPILOT,
        {"Healthy": False, "FailureTolerance": 0, "Servers": []}, 429, "no server is named",
    ),
    ("autopilot", "error", "dc1", AUTOPILOT, b"Permission denied", 403, "Permission denied"),
    ("autopilot", "warning", "dc1", AUTOPILOT, health(*three(Voter=False)), 200, "2 of 3 servers vote"),
    (
        "consul-versions", "warning", "dc1", MEMBERS,
        members(dc1="1.22.7", dc2="1.21.5"), 200, "they differ: dc1 1.22.7; dc2 1.21.5",
    ),
    (
        "consul-versions", "warning", "dc1", MEMBERS,
        members(dc1="1.22.7", dc2=""), 200, "not every server says its version",
    ),
    (
        "consul-versions", "error", "dc2", MEMBERS,
        members(dc1="1.12.9", dc2="1.14.11"), 200, "cannot log in at a primary older than 1.13",
    ),
    (
        "consul-versions", "error", "dc2", MEMBERS,
        members(dc1="1.17.3", dc2="1.15.10"), 200, "cannot replicate the built-in policies of dc1",
    ),
    (
        "consul-versions", "error", "dc1", MEMBERS,
        members(dc1="1.10.2", dc2="1.10.4"), 200, "streaming of dc1",
    ),
    ("consul-versions", "skipped", "dc1", MEMBERS, [], 200, "no server alive"),
    (
        "gossip-keys", "error", "dc1", KEYRING,
        [pool("dc1", True, 2, today=2, older=2), pool("dc1")], 200, "the WAN: 2 keys on 2 nodes",
    ),
    (
        "gossip-keys", "error", "dc2", KEYRING,
        [pool("dc2", True, 2), pool("dc2", nodes=3, today=2)], 200, "dc2: only 2 of 3 nodes have its key",
    ),
    (
        "gossip-keys", "error", "dc2", KEYRING,
        [pool("dc2", True, 2), pool("dc2", older=1)], 200, "another key",
    ),
    ("gossip-keys", "skipped", "dc1", KEYRING, b"Permission denied", 403, 'keyring = "read"'),
    ("gossip-keys", "skipped", "dc1", KEYRING, b"Reading keyring denied by ACLs", 500, 'keyring = "read"'),
    ("gossip-keys", "error", "dc1", KEYRING, b"rpc error making call: stream closed", 500, "stream closed"),
    ("gossip-keys", "skipped", "dc1", KEYRING, [], 200, "no gossip pool"),
    ("gateway-registered", "error", "dc2", GATEWAYS, [], 200, "no gateway is registered; expected 1"),
    (
        "gateway-registered", "error", "dc1", GATEWAYS,
        [gateway(status="critical")], 200, "gw-1: Kubernetes Readiness Check is critical",
    ),
    (
        "gateway-registered", "error", "dc1", GATEWAYS,
        [gateway(federates=None)], 200, "not registered for federation",
    ),
    (
        "gateway-registered", "warning", "dc1", GATEWAYS,
        [gateway(), gateway("gw-2")], 200, "2 gateways registered; expected 1",
    ),
    ("auth-method", "error", "dc1", AUTH_METHOD, b"", 404, f"{METHOD} is not in dc1"),
    (
        "auth-method", "error", "dc1", AUTH_METHOD,
        method(Config={"Host": "https://10.0.0.9"}), 200,
        "it asks https://10.0.0.9; the API of dc2 is https://dc2.example.com:6443",
    ),
    ("auth-method", "error", "dc1", AUTH_METHOD, method(TokenLocality=""), 200, "TokenLocality global"),
    ("auth-method", "error", "dc1", AUTH_METHOD, b"Permission denied", 403, "Permission denied"),
    ("anonymous-policy", "error", "dc1", ANONYMOUS_TOKEN, b"ACL not found", 403, "no anonymous token"),
    ("anonymous-policy", "error", "dc1", ANONYMOUS_TOKEN, token(), 200, "its policies: none"),
    ("anonymous-policy", "error", "dc1", ANONYMOUS_TOKEN, b"Permission denied", 403, "Permission denied"),
    (
        "anonymous-policy", "error", "dc1", ANONYMOUS_POLICY,
        policy('service_prefix "" { policy = "read" }'), 200, "every node in",
    ),
    (
        "anonymous-policy", "error", "dc1", ANONYMOUS_POLICY,
        policy(READ.replace('service_prefix ""', 'service_prefix "web"')), 200, "every service in",
    ),
    (
        "anonymous-policy", "error", "dc1", ANONYMOUS_POLICY,
        policy(READ.replace('"read"', '"deny"')), 200, "every node and every service",
    ),
    (
        "anonymous-policy", "error", "dc1", ANONYMOUS_POLICY,
        policy(f'# {READ.splitlines()[0]}\nservice_prefix "" {{ policy = "write" }}'), 200, "every node in",
    ),
    (
        "anonymous-policy", "error", "dc1", ANONYMOUS_POLICY,
        policy(READ, dcs=["dc1"]), 200, "in every datacenter",
    ),
    (
        "binding-rules", "warning", "dc1", RULES,
        [rule("r1"), rule("r2"), rule("r3")], 200, "gateway-role 3 times",
    ),
    ("binding-rules", "warning", "dc2", RULES, b"Permission denied", 403, "Permission denied"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "severity", "name", "path", "body", "status", "said"), FAULTS)
def test_each_fault_is_noticed_by_its_check_and_by_no_other(
    world, id, severity, name, path, body, status, said
):
    """With what was seen, and what to do about it; and never with a secret."""
    broken = world()
    broken.servers[name].answers(path, body, status)
    (found,) = bad(broken.look())
    assert (found.id, found.severity) == (id, severity)
    assert found.subject == ("dc2" if id == "auth-method" else name)
    assert said in found.found
    assert found.hint or severity == "skipped"
    assert not redact.leaks(repr(found), [GOSSIP, OLDER, JWT])


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("dc1", AUTOPILOT, health(*three(), tolerance=1)),
        ("dc1", MEMBERS, members(dc1="1.22.7+ent:abc", dc2="1.22.4")),
        ("dc1", MEMBERS, [*members(dc1="1.22.7", dc2="1.22.7"), members(dc2="1.9.0")[0] | {"Status": 3}]),
        ("dc1", ANONYMOUS_POLICY, policy(READ, dcs=["dc1", "dc2"])),
        ("dc1", ANONYMOUS_POLICY, policy(AS_JSON)),
        ("dc1", AUTH_METHOD, method(Config={"Host": "https://dc2.example.com:6443/"})),
        ("dc2", RULES, []),
    ],
)  # fmt: skip
def test_what_is_different_and_well_is_no_fault(world, name, path, body):
    """A patch level, a server that left, an area in capitals, rules in JSON, a slash at the end of a URL."""
    good = world()
    good.servers[name].answers(path, body)
    assert not bad(good.look())


def test_the_anonymous_tokens_word_is_no_secret(world):
    """Its SecretID is the word `anonymous`, which names policies and checks; hidden, records would not be read."""
    world().look()
    assert not redact.leaks("anonymous-policy: anonymous-token-policy")


def test_a_deny_outweighs_what_another_policy_allows(world):
    """So does Consul, between policies of one token for the same prefix."""
    torn = world()
    torn.servers["dc1"].answers(ANONYMOUS_TOKEN, token("anonymous-token-policy", "strict"))
    torn.servers["dc1"].answers(
        "acl/policy/id-of-strict", policy('node_prefix "" { policy = "deny" }', "strict")
    )
    (found,) = bad(torn.look())
    assert (found.id, found.severity) == ("anonymous-policy", "error")
    assert "may not read every node in" in found.found
    assert "anonymous-token-policy, strict" in found.found


def test_pairs_of_versions_that_break_acls_are_no_error_without_them(world):
    """Only that they differ."""
    versions = world(acls=False, gossip_encryption=False)
    for each in versions.servers.values():
        each.answers(MEMBERS, members(dc1="1.12.9", dc2="1.14.11"))
    assert {(f.id, f.severity) for f in bad(versions.look())} == {("consul-versions", "warning")}


def test_the_first_duplicate_is_kept_and_the_others_are_named(world):
    """The command deletes one, and says which others are left."""
    double = world()
    double.servers["dc1"].answers(RULES, [rule("r1"), rule("r2"), rule("r3")])
    (found,) = bad(double.look())
    assert "delete -id r2" in found.hint
    assert "r3" in found.hint
    assert "r1" not in found.hint


def test_gossip_keys_are_counted_and_fingerprinted_and_never_shown(world):
    """The fingerprint is keyed, so that it tells nothing to who lacks the key; the keys are known as secrets."""
    found = [each for each in world().look() if each.id == "gossip-keys"]
    assert all("one key, fingerprint " in each.found and "2 nodes of the WAN" in each.found for each in found)
    assert len({each.found.split()[3] for each in found}) == 1
    assert GOSSIP not in repr(found)
    assert redact.scrub(f"key {GOSSIP}") == f"key {redact.REDACTED}"
    assert GOSSIP not in repr(world().datacenter("dc1").consul.keyring())


def test_an_auth_method_comes_without_its_service_accounts_token(world):
    """Consul tells it to who may read ACLs; it is known as a secret from then on."""
    method = world().datacenter("dc1").consul.auth_method(METHOD)
    assert method is not None
    assert JWT not in repr(method)
    assert redact.scrub(JWT) == redact.REDACTED


def test_tokens_come_without_their_secrets(world):
    """One, and all of them."""
    dc = world()
    consul = dc.datacenter("dc1").consul
    assert "SecretID" not in (consul.token(ANONYMOUS) or {"SecretID": 1})
    listed = [{"AccessorID": "a", "SecretID": "0f3b…", "Description": "d"}]
    dc.servers["dc1"].answers("acl/tokens", listed)
    assert consul.tokens() == [{"AccessorID": "a", "Description": "d"}]


def test_an_unhealthy_autopilot_answers_with_a_body_and_429_elsewhere_is_a_refusal(world):
    """Only there it is an answer."""
    dc = world()
    dc.servers["dc1"].answers(AUTOPILOT, health(server(Healthy=False)), 429)
    dc.servers["dc1"].answers(COORDINATES, [], 429)
    consul = dc.datacenter("dc1").consul
    assert consul.autopilot_health()["Healthy"] is False
    with pytest.raises(ClusterError) as caught:
        consul.coordinates()
    assert caught.value.status == 429


def test_round_trips_are_those_that_consul_computes(world):
    """Distance, heights and adjustments; these last only while they leave it positive; the median of many servers."""
    dc = world()
    say = dc.servers["dc1"].answers
    say(COORDINATES, [at("dc1", 0.001, 0.001), at("dc2", 0.004, 0.005)])
    assert round_trips(dc.datacenter("dc1")) == {"dc2": 5.0}
    say(
        COORDINATES,
        [at("dc1", 0.001, 0.001, height=0.001), at("dc2", 0.004, 0.005, adjustment=-0.002)],
    )
    assert round_trips(dc.datacenter("dc1")) == {"dc2": 4.0}
    say(COORDINATES, [at("dc1", 0.001, 0.001), at("dc2", 0.004, 0.005, adjustment=-0.1)])
    assert round_trips(dc.datacenter("dc1")) == {"dc2": 5.0}
    many = at("dc2", 0.002, 0.001)
    many["Coordinates"] += at("dc2", 0.011, 0.001)["Coordinates"] + at("dc2", 0.101, 0.001)["Coordinates"]
    say(COORDINATES, [at("dc1", 0.001, 0.001), many])
    assert round_trips(dc.datacenter("dc1")) == {"dc2": 10.0}


def test_what_gossip_has_not_measured_yet_is_no_distance(world):
    """A server's coordinates are zero until it has heard from others."""
    fresh = world()
    fresh.servers["dc1"].answers(COORDINATES, [at("dc1", 0.001), at("dc2", 0.0)])
    assert round_trips(fresh.datacenter("dc1")) == {"dc2": None}
    fresh.servers["dc1"].answers(COORDINATES, [at("dc1", 0.001)])
    assert round_trips(fresh.datacenter("dc1")) == {}
    fresh.servers["dc1"].answers(COORDINATES, [at("dc1", 0.001, area="WAN"), at("dc2", 0.0, area="WAN")])
    assert round_trips(fresh.datacenter("dc1")) == {"dc2": None}
