"""Who can read the federation secret: every subject that RBAC lets, and nobody that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.readers import Reader, Readers, readers, secret_readers
from consulfed_lib.errors import ClusterError
from consulfed_lib.results import Finding
from consulfed_lib.steps.proof import Proof

from .conftest import ConsulServer

RBAC = "/apis/rbac.authorization.k8s.io/v1"
SECRET = "consul-federation"
KINDS = {
    "Role": f"GET {RBAC}/namespaces/consul/roles",
    "RoleBinding": f"GET {RBAC}/namespaces/consul/rolebindings",
    "ClusterRole": f"GET {RBAC}/clusterroles",
    "ClusterRoleBinding": f"GET {RBAC}/clusterrolebindings",
}
ALICE = {"kind": "User", "name": "alice"}


class World:
    """The primary's RBAC, empty at first."""

    def __init__(self, server: ConsulServer, params: Any):
        self.server, self.params = server, params
        self.objects: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for kind, request in KINDS.items():
            server.api.answers[request] = 200, {"items": self.objects[kind]}

    def role(self, kind: str, name: str = "r", **rule: list[str]) -> None:
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]} | rule]
        self.objects[kind].append({"metadata": {"name": name}, "rules": rules})

    def bind(
        self, kind: str, *subjects: Any, to: str = "ClusterRole", name: str = "b", role: str = "r"
    ) -> None:
        found = {"metadata": {"name": name}, "roleRef": {"kind": to, "name": role}}
        self.objects[kind].append(found | ({"subjects": list(subjects)} if subjects else {}))

    def readers(self) -> list[Reader]:
        return readers(self.server.cluster, self.params.primary, SECRET)

    def look(self) -> Finding:
        (found,) = secret_readers("dc1", self.readers())
        return found


@pytest.fixture
def world(consul_server, federation) -> World:
    return World(consul_server("dc1", context="one"), federation())


def test_who_is_bound_to_a_role_that_reads_it_is_named(world):
    """With the verbs, the binding and the role, so that one knows what to take away."""
    world.role("Role", verbs=["list", "watch", "get"])
    world.bind("RoleBinding", ALICE, to="Role")
    assert world.readers() == [Reader("dc1", "User alice", "get, list, watch", "RoleBinding b", "Role r")]
    assert world.look().severity == "ok"


@pytest.mark.parametrize(
    ("role", "binding"),
    [("Role", "RoleBinding"), ("ClusterRole", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")],
)
def test_every_way_of_granting_counts(world, role, binding):
    """A cluster role may be bound in the namespace or in the whole cluster."""
    world.role(role)
    world.bind(binding, ALICE, to=role)
    assert [(r.subject, r.binding, r.role) for r in world.readers()] == [
        ("User alice", f"{binding} b", f"{role} r")
    ]


def test_a_role_is_not_a_cluster_role_of_the_same_name(world):
    """The reference says which is meant."""
    world.role("Role", verbs=["get"])
    world.role("ClusterRole", verbs=["delete"])
    world.bind("RoleBinding", ALICE, to="ClusterRole")
    assert world.readers() == []


@pytest.mark.parametrize(
    ("rule", "verbs"),
    [
        ({"verbs": ["*"]}, "get, list, watch"),
        ({"resources": ["*"]}, "get"),
        ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, "get, list, watch"),
        ({"resourceNames": [SECRET]}, "get"),
        ({"resourceNames": [SECRET], "verbs": ["get", "list"]}, "get, list"),
        ({"verbs": ["watch"]}, "watch"),
        ({"resourceNames": ["another"]}, ""),
        ({"verbs": ["create", "update", "patch", "delete"]}, ""),
        ({"resources": ["configmaps", "secrets/status"]}, ""),
        ({"apiGroups": ["apps"]}, ""),
    ],
)
def test_rules_are_read_as_the_authorizer_reads_them(world, rule, verbs):
    """Stars stand for everything, a name for itself; whoever may write it cannot read it by that."""
    world.role("ClusterRole", **rule)
    world.bind("ClusterRoleBinding", ALICE)
    assert [r.verbs for r in world.readers()] == ([verbs] if verbs else [])


def test_rules_of_one_role_add_up(world):
    """The one lets it be read by name, the other lets all be listed."""
    world.role("ClusterRole", resourceNames=[SECRET])
    world.objects["ClusterRole"][0]["rules"].append(
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    )
    world.bind("ClusterRoleBinding", ALICE)
    assert [r.verbs for r in world.readers()] == ["get, list"]


@pytest.mark.parametrize("role", [{"metadata": {"name": "r"}}, {"metadata": {"name": "r"}, "rules": None}])
def test_what_is_empty_grants_nothing(world, role):
    """A role without rules, a binding without subjects, and one whose role is not there."""
    world.objects["ClusterRole"].append(role)
    world.role("ClusterRole", "reads")
    world.bind("ClusterRoleBinding", ALICE)
    world.bind("ClusterRoleBinding", role="reads")
    world.bind("ClusterRoleBinding", ALICE, role="gone")
    assert world.readers() == []


def test_subjects_are_told_apart(world):
    """A service account by its namespace, and one that has two bindings stands there with both."""
    account = {"kind": "ServiceAccount", "name": "backup", "namespace": "tools"}
    world.role("ClusterRole")
    world.bind("ClusterRoleBinding", account, {"kind": "Group", "name": "sre"}, ALICE, name="one")
    world.bind("RoleBinding", ALICE, name="two")
    assert [(r.subject, r.binding) for r in world.readers()] == [
        ("Group sre", "ClusterRoleBinding one"),
        ("ServiceAccount tools/backup", "ClusterRoleBinding one"),
        ("User alice", "ClusterRoleBinding one"),
        ("User alice", "RoleBinding two"),
    ]
    assert world.look().found == "3 subjects may read it; the table names each"
    assert Readers("Who", world.readers()).summary() == "3 subjects can read it"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Group", "system:authenticated"),
        ("Group", "system:unauthenticated"),
        ("Group", "system:serviceaccounts"),
        ("Group", "system:serviceaccounts:consul"),
        ("User", "system:anonymous"),
    ],
)
def test_whoever_comes_is_a_warning(world, kind, name):
    """With the binding that lets them; a warning, for the federation works."""
    world.role("ClusterRole")
    world.bind("ClusterRoleBinding", ALICE, name="well")
    world.bind("ClusterRoleBinding", {"kind": kind, "name": name}, name="open")
    found = world.look()
    assert found.severity == "warning"
    assert found.found == f"{kind} {name} may read it, through ClusterRoleBinding open"
    assert "take that binding away" in found.hint


def test_a_user_called_like_a_group_is_not_everybody(world):
    """Users and groups have names of their own."""
    world.role("ClusterRole")
    world.bind("ClusterRoleBinding", {"kind": "User", "name": "system:authenticated"})
    assert world.look().severity == "ok"


def test_where_nobody_can_read_it_that_is_said(world):
    """Not even administrators: then somebody took them away."""
    assert world.look().found == "0 subjects may read it; the table names each"


def test_whoever_may_not_list_bindings_gets_an_error(world):
    """And no list that lacks somebody."""
    refused = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
    world.server.api.answers[KINDS["ClusterRoleBinding"]] = 403, refused
    with pytest.raises(ClusterError):
        world.readers()


def test_what_may_not_be_listed_is_skipped_in_a_proof(world, consul_server):
    """Of that datacenter only; the other one is looked at, and its readers are in the table."""
    refused = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
    other = World(consul_server("dc2", context="two"), world.params)
    for each in (world, other):
        each.role("ClusterRole")
        each.bind("ClusterRoleBinding", ALICE)
    other.server.api.answers[KINDS["Role"]] = 403, refused
    proof = Proof(
        world.params,
        [
            Datacenter(world.params, of, each.server.cluster, each.server.client)
            for of, each in zip(world.params.clusters, (world, other), strict=True)
        ],
    )
    found = {f.subject: f for f in proof.look() if f.id == "secret-readers"}
    assert {name: f.severity for name, f in found.items()} == {"dc1": "ok", "dc2": "skipped"}
    assert "403" in found["dc2"].found or "may not" in found["dc2"].found
    assert [(r.datacenter, r.subject) for r in proof.readers()] == [("dc1", "User alice")]
