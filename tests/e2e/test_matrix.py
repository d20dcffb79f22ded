"""Every option, in both roles, against real Consul: what is asserted is what Consul and Kubernetes have, not words.

Six cases cover each ACL setting with each gossip setting and with each form of the gateway's address, each form in
each role, and each of the other options in each role; every one of them is a whole runbook from nothing to verified,
and once more with nothing changed. `test_the_cases_cover_every_option` holds that to be so.
"""

from __future__ import annotations

import contextlib
import json
from itertools import product
from pathlib import Path

import pytest

from .cases import FORMS, GIVEN_KEY, GOSSIP, ROLES, Case, Side, prepare, realities, write_params
from .conftest import Sandbox
from .reality import Reality

OUTCOMES = ["verified", "applied", "applied", "applied", "verified"]
OUTCOMES_AGAIN = ["verified", "unchanged", "unchanged", "unchanged", "verified"]

CASES = [
    Case(
        acls=True,
        gossip="generated",
        primary=Side("LoadBalancer IP", 8443, replicas=2),
        secondary=Side("NodePort", 30443),
        names={"global_name": "consul"},
        prefixes=("consul", "consul"),
        mode="local",
        user_values="files of the federation",
    ),
    Case(
        acls=True,
        gossip="given",
        primary=Side("LoadBalancer hostname", 9443, release="mesh", namespace="mesh-system"),
        secondary=Side("NodeIP", 30444, replicas=2, release="team-b", namespace="consul-b"),
        names={"global_name": ""},
        prefixes=("mesh-consul", "team-b-consul"),
        mode="remote",
        user_values="of the federation",
        through_a_tunnel=True,
    ),
    Case(
        acls=True,
        gossip="off",
        primary=Side("NodeName", 30445, namespace="east"),
        secondary=Side("Static", 8444, release="west"),
        names={"global_name": "ignored", "fullname_override": "federated"},
        prefixes=("federated", "federated"),
        mode="remote",
        user_values="of the cluster",
    ),
    Case(
        acls=False,
        gossip="generated",
        primary=Side("NodePort", 30446, replicas=2, release="first"),
        secondary=Side("LoadBalancer IP", 9444, namespace="second"),
        names={"global_name": "", "fullname_override": "shared"},
        prefixes=("shared", "shared"),
        mode="local",
        user_values="files of the cluster",
    ),
    Case(
        acls=False,
        gossip="given",
        primary=Side("NodeIP", 30447, namespace="one"),
        secondary=Side("LoadBalancer hostname", 8443, replicas=2, namespace="two"),
        names={"global_name": "mesh"},
        prefixes=("mesh", "mesh"),
        mode="remote",
        user_values="volumes",
        domain="mesh.test",
    ),
    Case(
        acls=False,
        gossip="off",
        primary=Side("Static", 8445, release="a", namespace="a"),
        secondary=Side("NodeName", 30448, release="b", namespace="b"),
        names={"global_name": ""},
        prefixes=("a-consul", "b-consul"),
        mode="local",
        user_values="all at once",
    ),
]

USER_VALUES = {
    "files of the federation", "of the federation", "files of the cluster", "of the cluster", "volumes",
    "all at once",
}  # fmt: skip


def test_the_cases_cover_every_option() -> None:
    """Each option has each value in each role, and the pairs that touch each other are all there."""
    assert {(c.acls, c.gossip) for c in CASES} == set(product((True, False), GOSSIP))
    sides = [(case, role, side) for case in CASES for role, side in case.sides.items()]
    assert {(role, side.form) for _, role, side in sides} == set(product(ROLES, FORMS))
    assert {(case.acls, side.form) for case, _, side in sides} == set(product((True, False), FORMS))
    assert {(role, side.replicas) for _, role, side in sides} == set(product(ROLES, (1, 2)))
    assert {(case.acls, case.mode) for case in CASES} == set(product((True, False), ("local", "remote")))
    naming = {(case.acls, _naming(case)) for case in CASES}
    assert naming == set(product((True, False), ("global_name", "release", "fullname_override")))
    assert {case.user_values for case in CASES} == USER_VALUES
    assert len({case.prefixes for case in CASES if case.prefixes[0] != case.prefixes[1]}) == 2
    assert any(case.through_a_tunnel and case.acls for case in CASES)


def _naming(case: Case) -> str:
    if case.names.get("fullname_override"):
        return "fullname_override"
    return "global_name" if case.names["global_name"] else "release"


@pytest.mark.parametrize(
    ("own_sandbox", "case"),
    [pytest.param(c.load_balancer, c, id=str(c)) for c in CASES],
    indirect=["own_sandbox"],
)
def test_options(own_sandbox: Sandbox, case: Case, tmp_path: Path) -> None:
    """From nothing to verified; Consul then is what the parameters say, and a second run changes nothing."""
    with contextlib.ExitStack() as stack:
        params = write_params(own_sandbox, case, tmp_path, stack)
        prepare(own_sandbox, case)
        done = own_sandbox.run(params, "--apply")
        assert done.returncode == 0, done.stdout + done.stderr
        assert [r["outcome"] for r in own_sandbox.results().values()] == OUTCOMES
        primary, secondary = realities(own_sandbox, case)
        token = primary.secret(f"{primary.prefix}-bootstrap-acl-token")["token"].decode() if case.acls else ""
        look_at_names(case, primary, secondary)
        look_at_acls(case, primary, secondary, token)
        look_at_gossip(case, primary, secondary, token)
        look_at_gateways(case, primary, secondary, token)
        look_at_proxy_defaults(case, primary, secondary, token)
        look_at_user_values(case, primary, secondary, token)

        before = own_sandbox.writes()
        again = own_sandbox.run(params, "--apply")
        assert again.returncode == 0, again.stdout + again.stderr
        assert [r["outcome"] for r in own_sandbox.results().values()] == OUTCOMES_AGAIN
        assert own_sandbox.writes() == before


def look_at_user_values(case: Case, primary: Reality, secondary: Reality, token: str) -> None:
    """Each server runs with what the user added, the nearest place winning; ours is there as well."""
    expected = {
        "files of the federation": "file",
        "of the federation": "federation",
        "files of the cluster": "file",
        "of the cluster": "cluster",
        "volumes": "volume",
        "all at once": "cluster",
    }[case.user_values]
    for each in (primary, secondary):
        _, itself = each.consul("agent/self", token)
        places = {"file", "federation", "cluster", "volume"} & set(itself["Meta"])
        assert places == {expected}, each.datacenter


# -- what is asserted -------------------------------------------------------------------------------------------


def look_at_names(case: Case, primary: Reality, secondary: Reality) -> None:
    """Every workload and Service of the release begins with the prefix, and the secret has the primary's."""
    for each in (primary, secondary):
        releases = {found["name"] for found in each.helm("list")}
        assert releases == {each.release}
        made = each.names("statefulsets", "deployments", "services")
        assert {f"{each.prefix}-server", f"{each.prefix}-mesh-gateway"} <= made
        assert all(name.startswith(f"{each.prefix}-") for name in made), made
        assert f"{primary.prefix}-federation" in each.names("secrets")


def look_at_acls(case: Case, primary: Reality, secondary: Reality, token: str) -> None:
    """On: anonymous may not read agents, tokens are replicated, and logins are checked at the secondary's API.

    Off: no ACLs at all, and no replication token anywhere: not in values, not in a secret.
    """
    keys = {"caCert", "caKey", "serverConfigJSON"}
    keys |= {"replicationToken"} if case.acls else set()
    keys |= {"gossipEncryptionKey"} if case.gossip != "off" else set()
    secrets = [each.secret(f"{primary.prefix}-federation") for each in (primary, secondary)]
    assert set(secrets[0]) == keys
    assert secrets[0] == secrets[1]
    for each in (primary, secondary):
        _, itself = each.consul("agent/self", token)
        assert itself["DebugConfig"]["ACLsEnabled"] is case.acls
        assert itself["DebugConfig"]["PrimaryDatacenter"] == "dc1"
        assert itself["DebugConfig"]["DNSDomain"].rstrip(".") == case.domain
        assert each.consul("agent/self")[0] == (403 if case.acls else 200)
    replication = secondary.consul("acl/replication", token)[1]
    values = json.dumps([each.helm("get", "values", each.release) for each in (primary, secondary)])
    if not case.acls:
        assert replication == "ACL support disabled"
        assert "replicationToken" not in values
        assert not any("acl" in name for each in (primary, secondary) for name in each.names("secrets"))
        return
    assert (replication["Running"], replication["SourceDatacenter"]) == (True, "dc1")
    method = f"{secondary.prefix}-k8s-component-auth-method-dc2"
    _, found = primary.consul(f"acl/auth-method/{method}", token)
    node = secondary.get("nodes")[0]["status"]["addresses"][0]["address"]
    assert found["Config"]["Host"] == f"https://{node.rsplit('.', 1)[0]}.1:6443"


def look_at_gossip(case: Case, primary: Reality, secondary: Reality, token: str) -> None:
    """The rings of both datacenters and of the WAN hold exactly the one key; off, gossip is not encrypted."""
    for each in (primary, secondary):
        _, itself = each.consul("agent/self", token)
        for ring in ("serf_lan", "serf_wan"):
            assert itself["Stats"][ring]["encrypted"] == str(case.gossip != "off").lower()
    status, rings = primary.consul("operator/keyring", token)
    if case.gossip == "off":
        assert status != 200
        assert not any("gossip" in name for each in (primary, secondary) for name in each.names("secrets"))
        return
    made = f"{primary.prefix}-gossip-encryption-key"
    key = GIVEN_KEY if case.gossip == "given" else primary.secret(made)["key"].decode()
    assert (made in primary.names("secrets")) is (case.gossip == "generated")
    assert {(ring["WAN"], ring["Datacenter"]) for ring in rings} == {
        (True, "dc1"), (False, "dc1"), (False, "dc2"),
    }  # fmt: skip
    assert all(list(ring["Keys"]) == [key] for ring in rings)


def look_at_gateways(case: Case, primary: Reality, secondary: Reality, token: str) -> None:
    """Service, pods and the address that others are told are as asked for; the secondary dials exactly that one."""
    expected = {}
    for each, side in zip((primary, secondary), case.sides.values(), strict=True):
        wanted = side.gateway(each.datacenter)
        service = each.get("service", f"{each.prefix}-mesh-gateway")["spec"]
        assert service["type"] == wanted["service"]
        assert service["ports"][0]["port"] == wanted["port"]
        if wanted["node_port"]:
            assert service["ports"][0]["nodePort"] == wanted["node_port"]
        deployment = each.get("deployment", f"{each.prefix}-mesh-gateway")
        assert deployment["status"]["readyReplicas"] == side.replicas
        expected[each.datacenter] = each.gateway(side.form, side.static(each.datacenter), side.port)
    for each in (primary, secondary):
        for side, other in zip(case.sides.values(), (primary, secondary), strict=True):
            found = each.wan_addresses(other.datacenter, token)
            assert found == [expected[other.datacenter]] * side.replicas
    config = json.loads(secondary.secret(f"{primary.prefix}-federation")["serverConfigJSON"])
    assert config == {"primary_datacenter": "dc1", "primary_gateways": [expected["dc1"]]}
    _, itself = secondary.consul("agent/self", token)
    assert itself["DebugConfig"]["PrimaryGateways"] == [expected["dc1"]]
    assert {m["Name"]: m["Status"] for m in secondary.consul("agent/members?wan=1", token)[1]} == {
        f"{each.prefix}-server-0.{each.datacenter}": 1 for each in (primary, secondary)
    }


def look_at_proxy_defaults(case: Case, primary: Reality, secondary: Reality, token: str) -> None:
    """The mode stands in the primary's cluster, and in the Consul of both datacenters."""
    spec = primary.get("proxydefaults", "global")["spec"]
    assert spec["meshGateway"]["mode"] == case.mode
    for each in (primary, secondary):
        _, entry = each.consul("config/proxy-defaults/global", token)
        assert entry["MeshGateway"]["Mode"] == case.mode
