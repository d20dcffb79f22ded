"""Taking a secondary out: only what is its own goes, by its exact name; what stays is said; the others are compared."""

from __future__ import annotations

import builtins
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from consulfed_lib import leaving
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.leaving import (
    by_hand,
    leaving_cluster,
    leaving_release,
    left_accounts,
    left_cluster,
    left_others,
    left_pool,
    left_secret,
    left_state,
    left_unseen,
    tell,
)
from consulfed_lib.checks.target import Target
from consulfed_lib.errors import (
    ApplyError,
    ApprovalError,
    ClusterError,
    ParamsError,
    VerifyError,
    WaitTimeoutError,
)
from consulfed_lib.helm import Helm
from consulfed_lib.leaving import ALIVE, FAILED, LEAVING, LEFT, Accounts, Thing
from consulfed_lib.params import Federation
from consulfed_lib.rbac.facts import needs
from consulfed_lib.rbac.rules import Held
from consulfed_lib.redact import Secret
from consulfed_lib.results import Change, Changes, Finding
from consulfed_lib.steps.base import Action
from consulfed_lib.steps.defederation import Defederation
from consulfed_lib.steps.departure import Departure
from consulfed_lib.steps.plan import Plan
from consulfed_lib.steps.removal import Removal

from .conftest import ConsulServer, Request, secret_object
from .test_helm import stored

METHOD = "consul-k8s-component-auth-method"
DCS = ("dc2", "x-dc2", "dc22")
"""Datacenters whose names end or begin alike: only dc2 leaves."""
UNDO = "run 02-secret-transfer and 03-secondary-setup again for dc2"
NAMESPACE = "/api/v1/namespaces/consul"
SERVERS = "/apis/apps/v1/namespaces/consul/statefulsets/consul-server"


def severity(found: list[Finding]) -> str:
    (one,) = found
    return one.severity


@dataclass
class Primary:
    """The primary's Consul, as far as somebody who leaves meets it.

    Attributes:
        members: `<node>.<dc>` → serf status.
        cascades: whether deleting an auth method takes its rules and tokens with it.
    """

    server: ConsulServer
    members: dict[str, int] = field(default_factory=dict)
    things: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    version: str = "1.22.7"
    cascades: bool = True
    states: list[str] = field(default_factory=lambda: ["dc1", "dc2"])
    healthy: bool = False

    def __post_init__(self) -> None:
        answers = self.server.consul.answers
        answers["GET /v1/agent/members"] = lambda _: (
            200,
            [self._member(*each) for each in self.members.items()],
        )
        answers["GET /v1/agent/self"] = lambda _: (200, {"Config": {"Version": self.version}})
        answers["GET /v1/internal/federation-states"] = lambda _: (
            200,
            [{"Datacenter": s} for s in self.states],
        )
        answers["GET /v1/catalog/datacenters"] = lambda _: (200, self.listed())
        health = [{"CheckID": "serfHealth", "Status": "passing"}]
        answers["GET /v1/health/node/consul-server-0"] = lambda _: (
            (200, health) if self.healthy else (500, b"No path")
        )
        for kind, many in (
            ("auth-method", "auth-methods"), ("binding-rule", "binding-rules"), ("role", "roles"),
            ("policy", "policies"), ("token", "tokens"),
        ):  # fmt: skip
            self.things.setdefault(kind, [])
            answers[f"GET /v1/acl/{many}"] = lambda _, kind=kind: (
                200,
                [each.copy() for each in self.things[kind]],
            )

    @staticmethod
    def _member(name: str, status: int) -> dict[str, Any]:
        return {"Name": name, "Status": status, "Tags": {"dc": name.rpartition(".")[2]}}

    def listed(self) -> list[str]:
        seen = {name.rpartition(".")[2] for name, status in self.members.items() if status != LEFT}
        return sorted({"dc1", *seen})

    def keep(self, kind: str, id: str, **content: Any) -> None:
        """An object that can be deleted."""
        key = {"auth-method": "Name", "token": "AccessorID"}.get(kind, "ID")
        self.things[kind].append({key: id, **content})

        def delete(_: Request) -> tuple[int, Any]:
            self.things[kind] = [each for each in self.things[kind] if each[key] != id]
            if kind == "auth-method" and self.cascades:
                for other in ("binding-rule", "token"):
                    self.things[other] = [e for e in self.things[other] if e.get("AuthMethod") != id]
            return 200, True

        self.server.consul.answers[f"DELETE /v1/acl/{kind}/{id}"] = delete

    def secondary(self, dc: str) -> None:
        """What server-acl-init makes for a secondary, and a login of its gateway."""
        role, policy = f"consul-mesh-gateway-acl-role-{dc}", f"mesh-gateway-policy-{dc}"
        self.keep("auth-method", f"{METHOD}-{dc}")
        self.keep("binding-rule", f"rule-{dc}", AuthMethod=f"{METHOD}-{dc}", BindType="role", BindName=role)
        self.keep("role", f"role-{dc}", Name=role, Description="ACL Role for consul-mesh-gateway")
        self.keep("policy", f"policy-{dc}", Name=policy, Description=f"{policy} Token Policy")
        self.keep("token", f"token-{dc}", Description="token created via login", AuthMethod=f"{METHOD}-{dc}")

    def names(self) -> set[str]:
        return {str(next(iter(each.values()))) for found in self.things.values() for each in found}

    def forgets(self, *names: str) -> None:
        """Members that can be put out of the pool."""
        for name in names:

            def put(asked: Request, name: str = name) -> tuple[int, Any]:
                assert asked.query == {"wan": "1", "prune": "1"}
                del self.members[name]
                return 200, None

            self.server.consul.answers[f"PUT /v1/agent/force-leave/{name}"] = put


@pytest.fixture
def primary(consul_server: Callable[..., ConsulServer]) -> Primary:
    """The primary's own objects, three secondaries' with names that are alike, and a policy that looks like dc2's."""
    made = Primary(
        consul_server("dc1", token=Secret("replicationToken", b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"))
    )
    made.keep("auth-method", METHOD)
    made.keep(
        "binding-rule",
        "rule-dc1",
        AuthMethod=METHOD,
        BindType="role",
        BindName="consul-mesh-gateway-acl-role",
    )
    made.keep(
        "role",
        "role-dc1",
        Name="consul-mesh-gateway-acl-role",
        Description="ACL Role for consul-mesh-gateway",
    )
    made.keep(
        "policy", "policy-dc1", Name="mesh-gateway-policy", Description="mesh-gateway-policy Token Policy"
    )
    made.keep("policy", "policy-mine", Name="my-policy-dc2", Description="written by a person")
    made.keep("token", "token-dc1", Description="acl-replication-token Token")
    for dc in DCS:
        made.secondary(dc)
    return made


@pytest.fixture
def params(federation: Callable[..., Federation]) -> Callable[..., Federation]:
    """Parameters with short deadlines, and with what is given of `leave`."""
    timeouts = {"install": 5, "ready": 1, "federation": 1}
    return lambda **leave: federation(timeouts=timeouts, leave=leave, dry_run=False)


@pytest.fixture
def removal(primary: Primary, params: Callable[..., Federation]) -> Callable[..., Removal]:
    def make(**leave: Any) -> Removal:
        chosen = params(**leave)
        dc1 = Datacenter(chosen, chosen.primary, primary.server.cluster, primary.server.client)
        return Removal(chosen, chosen.secondaries[0], [dc1], UNDO)

    return make


# What is its own


def test_only_what_is_the_leaving_datacenters_is_found_by_its_whole_name(primary):
    """dc2 is neither x-dc2 nor dc22, and what a person made is no component's."""
    its, others = leaving.accounts(primary.server.client, "consul", "dc2")
    assert {thing.id for things in its.kinds.values() for thing in things} == {
        f"{METHOD}-dc2", "rule-dc2", "role-dc2", "policy-dc2", "token-dc2",
    }  # fmt: skip
    kept = {id for _, id in others.ids()}
    assert {"policy-mine", "policy-x-dc2", "role-dc22", METHOD, "token-dc1"} <= kept
    assert "token-x-dc2" not in kept  # of a login: it comes and goes with its pod


def test_tokens_of_old_charts_are_known_by_their_policy(primary):
    """Up to chart 0.41 components had tokens that were made without a login."""
    name = "mesh-gateway-token-dc2"
    primary.keep("policy", "old", Name=name, Description=f"{name} Token Policy")
    primary.keep("token", "old-token", Description=f"{name} Token")
    its, _ = leaving.accounts(primary.server.client, "consul", "dc2")
    assert {thing.id for thing in its.of("token")} == {"token-dc2", "old-token"}


def test_what_is_gone_already_is_no_error_and_a_refusal_is(primary):
    """Whoever else deletes at the same time wins; a token that may not delete stops the run."""
    consul, answers = primary.server.client, primary.server.consul.answers
    leaving.delete(consul, "role", Thing("gone", "x"))
    answers["DELETE /v1/acl/role/gone"] = 500, b"Cannot find role to delete"
    leaving.delete(consul, "role", Thing("gone", "x"))
    answers["DELETE /v1/acl/role/gone"] = 403, b"ACL not found"
    with pytest.raises(ClusterError, match="ACL not found"):
        leaving.delete(consul, "role", Thing("gone", "x"))
    answers["PUT /v1/agent/force-leave/a.dc2"] = 500, b"agent: No node found with name 'a.dc2'"
    leaving.forget(consul, "a.dc2")
    answers["PUT /v1/agent/force-leave/a.dc2"] = 403, b"Permission denied"
    with pytest.raises(ClusterError, match="Permission denied"):
        leaving.forget(consul, "a.dc2")


@pytest.mark.parametrize(
    ("version", "can"),
    [("1.8.7", False), ("1.10.12", False), ("1.11.0", True), ("2.0.3+ent", True), ("?", False)],
)
def test_who_can_be_told_to_forget(version, can):
    """The parameter `wan` of force-leave came with Consul 1.11."""
    assert leaving.can_forget(version) is can


# Removal in the primary


def test_everything_of_it_is_deleted_and_nothing_else(primary, removal):
    """Each row names what went; a second time there is nothing left to do."""
    one, before = removal(), primary.names()
    rows = [action() for action in one.actions(one.look())]
    assert before - primary.names() == {f"{METHOD}-dc2", "rule-dc2", "role-dc2", "policy-dc2", "token-dc2"}
    by_id = {row.id: row for row in rows}
    assert {id for id, row in by_id.items() if row.outcome == "deleted" and row.undo == UNDO} == {
        "auth-method", "binding-rules", "login-tokens", "roles", "policies",
    }  # fmt: skip
    assert "with the auth method" in by_id["binding-rules"].what
    again = removal()
    assert not Changes("again", [action() for action in again.actions(again.look())]).wrote
    assert [row.outcome for row in again.rows(again.look())] == [
        "unchanged"
    ]  # the federation state, which stays


@pytest.mark.parametrize("cascades", [True, False], ids=["cascades", "one by one"])
@pytest.mark.parametrize("done", range(7))
def test_a_run_that_was_killed_after_any_action_goes_on_to_the_same_end(primary, removal, done, cascades):
    """It looks at the world, and remembers nothing."""
    primary.cascades, before = cascades, primary.names()
    killed, again = removal(), removal()
    for action in killed.actions(killed.look())[:done]:
        action()
    for action in again.actions(again.look()):
        action()
    assert before - primary.names() == {f"{METHOD}-dc2", "rule-dc2", "role-dc2", "policy-dc2", "token-dc2"}
    assert not leaving.accounts(primary.server.client, "consul", "dc2")[0].ids()


def test_what_does_not_go_with_its_auth_method_is_deleted_by_itself(primary, removal):
    """A run that was killed in between, or a Consul that does not clean up."""
    primary.cascades = False
    one = removal()
    rows = {row.id: row for row in (action() for action in one.actions(one.look()))}
    assert rows["login-tokens"].what == "token-dc2"
    assert not {"rule-dc2", "token-dc2"} & primary.names()


def test_without_acls_only_the_pool_is_left(primary, federation):
    """There is nobody who logs in."""
    off = federation(acls=False)
    dc1 = Datacenter(off, off.primary, primary.server.cluster, primary.server.client)
    one = Removal(off, off.secondaries[0], [dc1], UNDO)
    assert len(one.actions(one.look())) == 1
    assert not primary.server.consul.asked("DELETE")
    assert not any("/acl/" in asked for asked in primary.server.consul.asked())


def test_servers_that_left_or_failed_are_forgotten_where_consul_can(primary, removal):
    """Every server of those that stay is asked, each for the members that it still has; no other datacenter's go."""
    ready = {"type": "Ready", "status": "True"}
    pods = [{"metadata": {"name": f"consul-server-{i}"}, "status": {"conditions": [ready]}} for i in range(2)]
    primary.server.api.answers[f"GET {NAMESPACE}/pods"] = 200, {"items": pods}
    primary.members = {"a.dc2": LEFT, "b.dc2": FAILED, "a.x-dc2": FAILED, "a.dc1": ALIVE}
    primary.forgets("a.dc2", "b.dc2", "a.x-dc2", "a.dc1")
    one = removal()
    assert [(row.id, row.outcome) for row in one.rows(one.look())][:2] == [("wan-member", "would delete")] * 2
    row = one.leave_pool(one.look())
    assert (row.outcome, row.what) == ("deleted", "a.dc2, b.dc2; none in the list")
    assert primary.members == {"a.x-dc2": FAILED, "a.dc1": ALIVE}


def test_an_old_consul_is_not_asked_to_forget(primary, removal):
    """It would refuse; that the member stays in the list is said, and is no change."""
    primary.version, primary.members = "1.8.7", {"a.dc2": LEFT}
    one = removal()
    row = one.leave_pool(one.look())
    assert (row.outcome, row.what) == ("unchanged", "in the list: a.dc2 left")
    assert one.rows(one.look())[0].outcome == "unchanged"
    assert not primary.server.consul.asked("PUT")


def test_it_is_waited_until_nobody_sees_it_alive(primary, removal):
    """A server that leaves is missed in time, and that it went is a change."""
    primary.version, primary.members = "1.8.7", {"a.dc2": LEAVING}
    one, looks = removal(), []

    def answer(_: Request) -> tuple[int, Any]:
        looks.append(1)
        return 200, [primary._member("a.dc2", LEAVING if len(looks) < 3 else LEFT)]

    primary.server.consul.answers["GET /v1/agent/members"] = answer
    assert one.leave_pool(one.look()).outcome == "deleted"


def test_a_server_that_stays_alive_after_its_uninstallation_ends_the_wait(primary, removal):
    """Somebody runs it elsewhere: the pool is not left."""
    primary.members = {"a.dc2": ALIVE}
    one = removal()
    with pytest.raises(WaitTimeoutError, match=r"a\.dc2 alive in dc1"):
        one.leave_pool(one.look())


@pytest.mark.parametrize("leave", [{"unreachable": True}, {"uninstall": False}], ids=["out of reach", "kept"])
def test_a_consul_that_is_left_running_is_not_waited_for(primary, removal, leave):
    """It answers through the gateways: it stays a member until somebody stops it."""
    primary.members, primary.healthy = {"a.dc2": ALIVE}, True
    one = removal(**leave)
    known = one.look()
    assert known.answers
    assert one.rows(known)[0].what == "a.dc2 alive: stays while it runs"
    assert one.leave_pool(known).outcome == "unchanged"
    assert not primary.server.consul.asked("PUT")


def test_a_cluster_out_of_reach_that_is_not_missed_in_time_does_not_stop_the_rest(primary, removal):
    """Its logins are removed all the same; whom the others still see then is the check's to say."""
    primary.members = {"a.dc2": ALIVE}
    one = removal(unreachable=True)
    rows = [action() for action in one.actions(one.look())]
    assert (rows[0].outcome, rows[1].outcome) == ("unchanged", "deleted")


# Departure of the cluster


@pytest.fixture
def departure(cluster, params) -> Callable[..., Departure]:
    def make(**leave: Any) -> Departure:
        chosen = params(**leave)
        return Departure(chosen, chosen.secondaries[0], cluster, UNDO)

    return make


def empty(api: Any) -> None:
    """A namespace with nothing in it."""
    for kind in ("pods", "secrets", "persistentvolumeclaims"):
        api.answers[f"GET {NAMESPACE}/{kind}"] = 200, {"items": []}


def test_a_cluster_without_consul_is_left_as_it_is(api, departure):
    """A second run, or one after somebody cleaned up by hand."""
    empty(api)
    one = departure()
    assert {row.outcome for row in one.rows()} == {"unchanged"}
    assert {action().outcome for action in one.actions()} == {"unchanged"}
    assert not api.asked("PATCH")


def test_its_plan_names_what_goes_and_what_stays(api, departure):
    """Volume claims hold data: how they are deleted is said, and nobody does it."""
    api.answers[f"GET {NAMESPACE}/secrets"] = 200, {"items": [stored(1)]}
    api.answers[f"GET {NAMESPACE}/secrets/consul-federation"] = 200, secret_object({"caCert": b"x"})
    claim = {"metadata": {"name": "data-consul-consul-server-0"}}
    api.answers[f"GET {NAMESPACE}/persistentvolumeclaims"] = 200, {"items": [claim]}
    rows = {row.id: row for row in departure().rows()}
    assert {id: row.outcome for id, row in rows.items()} == {
        "servers": "would delete", "release": "would delete", "federation-secret": "would delete",
        "volume-claims": "unchanged",
    }  # fmt: skip
    assert "delete pvc data-consul-consul-server-0" in rows["volume-claims"].undo
    kept = {row.id: row for row in departure(uninstall=False).rows()}
    assert kept["release"].outcome == "unchanged"
    assert "cannot start again without it" in kept["federation-secret"].what


def test_servers_are_stopped_and_waited_for(api, departure):
    """They leave while their gateway is up; the way back is the number that they were."""
    stopped: list[Any] = []

    def patch(asked: Request) -> tuple[int, Any]:
        stopped.append(asked.body)
        return 200, {}

    api.answers[f"GET {SERVERS}"] = 200, {"spec": {"replicas": 3}}
    api.answers[f"PATCH {SERVERS}"] = patch
    api.answers[f"GET {NAMESPACE}/pods"] = lambda _: (200, {"items": []})
    row = departure().stop_servers()
    assert stopped == [{"spec": {"replicas": 0}}]
    assert row.undo.endswith("scale statefulset/consul-server --replicas=3")


def test_pods_that_do_not_end_are_named(api, departure):
    """The deadline's error has what is still there."""
    api.answers[f"GET {SERVERS}"] = 200, {"spec": {"replicas": 0}}
    api.answers[f"GET {NAMESPACE}/pods"] = 200, {"items": [{"metadata": {"name": "consul-server-0"}}]}
    with pytest.raises(WaitTimeoutError, match="consul-server-0"):
        departure().stop_servers()


def test_hook_jobs_of_a_killed_helm_are_removed_and_no_other_ones(api, departure, monkeypatch):
    """The next Helm would stop at a name that is taken."""
    jobs = [
        {"metadata": {"name": "hook", "annotations": {"helm.sh/hook": "pre-delete"}}},
        {"metadata": {"name": "mine"}},
    ]
    releases = [stored(1)]
    api.answers[f"GET {NAMESPACE}/secrets"] = lambda _: (200, {"items": releases})
    api.answers["GET /apis/batch/v1/namespaces/consul/jobs"] = 200, {"items": jobs}
    monkeypatch.setattr(Helm, "uninstall", lambda *_: releases.clear())
    assert departure().uninstall().outcome == "deleted"
    assert api.asked("DELETE") == ["DELETE /apis/batch/v1/namespaces/consul/jobs/hook"]


def test_a_release_that_helm_left_is_an_error(api, departure, monkeypatch):
    """Helm said that all went well: it is looked at all the same."""
    api.answers[f"GET {NAMESPACE}/secrets"] = 200, {"items": [stored(1, "uninstalling")]}
    monkeypatch.setattr(Helm, "uninstall", lambda *_: None)
    with pytest.raises(ApplyError, match="uninstalling"):
        departure().uninstall()


def test_a_release_that_somebody_works_on_is_not_touched(api, departure, monkeypatch):
    """Two Helms at once spoil it."""
    api.answers[f"GET {NAMESPACE}/secrets"] = 200, {"items": [stored(1, "pending-upgrade")]}
    monkeypatch.setattr(Helm, "uninstall", lambda *_: pytest.fail("Helm was started"))
    with pytest.raises(ClusterError, match="pending-upgrade"):
        departure().uninstall()


def test_what_helm_says_of_a_failed_uninstallation_is_the_error(cluster):
    """In one sentence, with the cluster; here there is no such release."""
    with pytest.raises(ApplyError, match="could not uninstall consul in one") as caught:
        Helm(cluster).uninstall("consul", "consul", 5)
    assert caught.value.hint


def test_helm_is_told_which_cluster_and_how_long(cluster, monkeypatch):
    """Nothing of it is left to what somebody's kubectl has as its current context."""
    seen: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    Helm(cluster).uninstall("consul", "there", 7)
    words = seen[-1][1:]
    assert words[:4] == ["uninstall", "consul", "--timeout", "7s"]
    assert words[words.index("--kube-context") + 1] == "one"
    assert words[words.index("--namespace") + 1] == "there"


# Checks before


@pytest.fixture
def of_two(api, kubeconfig, params) -> Callable[..., tuple[Federation, Any]]:
    """Parameters in which the secondary's context leads to that API server, or to nobody."""

    def make(url: str = "", **leave: Any) -> tuple[Federation, Any]:
        chosen = params(**leave).model_copy(update={"kubeconfig": kubeconfig(two=url or api.url)})
        return chosen, chosen.secondaries[0]

    return make


def test_a_cluster_is_gone_only_if_it_is_said_to_be_gone_and_does_not_answer(api, of_two):
    """A mistake in either direction would leave something behind, or take something away that lives."""
    api.answers["GET /version"] = 200, {"gitVersion": "v1.34.0"}
    nobody = "https://127.255.0.1:1"
    assert severity(leaving_cluster("dc2", *of_two())) == "ok"
    assert severity(leaving_cluster("dc2", *of_two(nobody, unreachable=True))) == "ok"
    (found,) = leaving_cluster("dc2", *of_two(unreachable=True))
    assert (found.severity, "leave.unreachable to false" in found.hint) == ("error", True)
    (found,) = leaving_cluster("dc2", *of_two(nobody))
    assert (found.severity, "leave.unreachable true" in found.hint) == ("error", True)
    api.answers["GET /version"] = 401, {"message": "Unauthorized"}
    (found,) = leaving_cluster("dc2", *of_two(unreachable=True))
    assert (found.severity, "refuses" in found.found) == ("error", True)


GOOD = {"datacenter": "dc2", "name": "consul", "federation": {"enabled": True}}


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        (None, "", "no release"),
        (GOOD, "deployed", "revision 1, deployed"),
        (GOOD, "uninstalling", "revision 1, uninstalling"),
        (GOOD | {"datacenter": "dc3"}, "deployed", "is datacenter 'dc3', not 'dc2'"),
        (GOOD | {"federation": {"createFederationSecret": True}}, "deployed", "is a primary"),
        (GOOD | {"name": "other"}, "deployed", "named other-"),
        (GOOD, "pending-upgrade", "another Helm may be working"),
    ],
)
def test_only_this_datacenters_consul_is_uninstalled(api, cluster, params, values, status, words):
    """A context that is mistaken leads to somebody else's Consul."""
    releases = [] if values is None else [stored(1, status, **{"global": values})]
    api.answers[f"GET {NAMESPACE}/secrets"] = 200, {"items": releases}
    chosen = params()
    (found,) = leaving_release("dc2", Target(chosen, chosen.secondaries[0], cluster))
    assert words in found.found
    assert found.severity == ("ok" if "revision 1" in words or values is None else "error")


# Checks afterwards


def target(cluster: Any, params: Federation) -> Target:
    return Target(params, params.secondaries[0], cluster)


def test_a_release_or_a_pod_that_is_left_is_an_error_unless_it_is_kept(api, cluster, params):
    """Uninstalled is what nothing is left of."""
    empty(api)
    assert severity(left_cluster("dc2", target(cluster, params()))) == "ok"
    api.answers[f"GET {NAMESPACE}/pods"] = 200, {"items": [{"metadata": {"name": "p"}}]}
    assert severity(left_cluster("dc2", target(cluster, params()))) == "error"
    api.answers[f"GET {NAMESPACE}/secrets"] = 200, {"items": [stored(1)]}
    assert severity(left_cluster("dc2", target(cluster, params()))) == "error"
    (found,) = left_cluster("dc2", target(cluster, params(uninstall=False)))
    assert (found.severity, found.found) == ("ok", "release consul is kept, with 1 pod")


def test_a_copy_of_the_secret_that_is_left_is_an_error(api, cluster, params):
    """It is the key to the whole federation."""
    assert severity(left_secret("dc2", target(cluster, params()))) == "ok"
    api.answers[f"GET {NAMESPACE}/secrets/consul-federation"] = 200, secret_object({"caKey": b"x"})
    assert severity(left_secret("dc2", target(cluster, params()))) == "error"


def test_what_could_not_be_looked_at_is_said_with_what_is_to_be_done_by_hand(params):
    """It never counts as gone."""
    chosen = params(unreachable=True)
    (found,) = left_unseen("dc2", chosen, chosen.secondaries[0])
    assert found.severity == "warning"
    for words in ("helm uninstall consul --kube-context two", "delete secret consul-federation"):
        assert words in found.hint
    kept = params(unreachable=True, uninstall=False)
    assert "helm" not in by_hand(kept, kept.secondaries[0])
    chosen = params()
    assert severity(left_unseen("dc2", chosen, chosen.secondaries[0])) == "ok"


@pytest.mark.parametrize(
    ("members", "leave", "version", "expected"),
    [
        ({}, {}, "1.22.7", "ok"),
        ({"a.dc2": LEFT}, {}, "1.8.7", "ok"),
        ({"a.x-dc2": ALIVE, "a.dc22": FAILED}, {}, "1.8.7", "ok"),
        ({"a.dc2": ALIVE}, {}, "1.22.7", "error"),
        ({"a.dc2": LEAVING}, {}, "1.8.7", "error"),
        ({"a.dc2": ALIVE}, {"unreachable": True}, "1.22.7", "warning"),
        ({"a.dc2": ALIVE}, {"uninstall": False}, "1.22.7", "warning"),
        ({"a.dc2": FAILED}, {}, "1.22.7", "error"),
        ({"a.dc2": FAILED}, {"unreachable": True}, "1.8.7", "warning"),
    ],
)
def test_what_the_others_see_of_its_servers(primary, removal, members, leave, version, expected):
    """A member that lives, or could have been forgotten, is an error; one that nobody can put out is a warning."""
    primary.members, primary.version = members, version
    (found,) = left_pool("dc1", removal(**leave).primary, "dc2")
    assert found.severity == expected
    if members and expected != "ok":
        assert (
            tell({name: status for name, status in members.items() if name.endswith(".dc2")}) in found.found
        )


def test_a_datacenter_that_is_listed_without_a_member_is_an_error(primary, removal):
    """Requests to it would be tried."""
    primary.server.answers("catalog/datacenters", ["dc1", "dc2"])
    assert severity(left_pool("dc1", removal().primary, "dc2")) == "error"


def test_a_login_that_is_left_is_an_error(primary):
    """Whoever has a service account token of that cluster could use it."""
    its, others = leaving.accounts(primary.server.client, "consul", "dc2")
    (found,) = left_accounts("dc1", its)
    assert (found.severity, f"auth-method {METHOD}-dc2" in found.found) == ("error", True)
    assert severity(left_accounts("dc1", Accounts({"role": ()}))) == "ok"
    assert severity(left_others("dc1", others, others)) == "ok"


def test_what_others_lost_meanwhile_is_an_error_with_its_name(primary):
    """A policy of another datacenter is missing: who took it has to be found."""
    before = leaving.accounts(primary.server.client, "consul", "dc2")[1]
    primary.things["policy"] = [each for each in primary.things["policy"] if each["ID"] != "policy-x-dc2"]
    (found,) = left_others("dc1", before, leaving.accounts(primary.server.client, "consul", "dc2")[1])
    assert (found.severity, "policy mesh-gateway-policy-x-dc2" in found.found) == ("error", True)


def test_a_federation_state_that_stays_is_told_as_staying(primary, removal):
    """Nothing removes it but the leader, in its own time."""
    dc1 = removal().primary
    assert severity(left_state("dc1", dc1, "dc2")) == "warning"
    primary.states = ["dc1"]
    assert severity(left_state("dc1", dc1, "dc2")) == "ok"


# The step


class Leave(Defederation):
    """The step with a world of one switch: what is asked for before anything is done is its own."""

    pending, looked = True, "ok"

    def look_before(self) -> list[Finding]:
        return [Finding("x", "dc2", "ok", "fine")]

    def planned(self) -> Plan:
        row = Change("release", "dc2", "would delete" if self.pending else "unchanged", "release")
        return Plan(Changes("Plan", [row]))

    def changed_clusters(self) -> list[Any]:
        return []

    def actions(self) -> list[Action]:
        return [lambda: Change("release", "dc2", "deleted" if self.pending else "unchanged", "release")]

    def look_after(self) -> list[Finding]:
        return [Finding("x", "dc2", self.looked, "seen")]  # type: ignore[arg-type]


@pytest.fixture
def leave(params) -> Callable[..., Leave]:
    def make(dry_run: bool = False, mode: str = "headless", **given: Any) -> Leave:
        return Leave("90-defederate", params(**given).model_copy(update={"dry_run": dry_run, "mode": mode}))

    return make


@pytest.mark.parametrize("confirm", ["", "dc1", "dc22", "DC2", "yes"])
def test_nothing_is_done_without_the_datacenters_name(leave, confirm):
    """Exactly; the error says what to give."""
    with pytest.raises(ParamsError, match="nothing was written") as caught:
        leave(confirm=confirm).apply()
    assert 'confirm: "dc2"' in caught.value.hint


def test_with_its_name_it_leaves(leave):
    """A dry run needs none, nor does a run that has nothing to do."""
    assert leave(confirm="dc2").result().outcome == "applied"
    assert leave(dry_run=True).result().outcome == "planned"
    step = leave()
    step.pending = False
    assert step.result().outcome == "unchanged"


@pytest.mark.parametrize(("typed", "outcome"), [("dc2", "applied"), (" dc2 ", "applied"), ("y", "")])
def test_a_person_may_type_its_name(leave, monkeypatch, typed, outcome):
    """Where one is there, and only where the parameters do not say it."""
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return typed

    monkeypatch.setattr(builtins, "input", answer)
    step = leave(mode="interactive")
    if outcome:
        assert step.result().outcome == outcome
    else:
        with pytest.raises(ApprovalError, match="not dc2; nothing was written"):
            step.apply()
    assert len(asked) == 1
    leave(mode="interactive", confirm="dc2").apply()
    assert len(asked) == 1


def test_what_was_not_seen_is_not_proven(leave):
    """A check that could not look ends the run, but for a dry run, which looks at nothing."""
    step = leave(confirm="dc2")
    step.looked = "skipped"
    with pytest.raises(VerifyError, match="could not look"):
        step.verify()
    assert leave(dry_run=True).verify().rows[0].severity == "skipped"


def test_the_rest_is_the_federation_without_it(federation):
    """All that is not the datacenter's stays, and the proof of the others writes nothing."""
    secondaries = [{"context": name, "datacenter": name} for name in DCS]
    chosen = federation(secondaries=secondaries, secondary="dc2", verification={"canary": True})
    rest = Defederation("90-defederate", chosen).rest
    assert [each.datacenter for each in rest.secondaries] == ["x-dc2", "dc22"]
    assert not rest.verification.canary
    assert rest.primary == chosen.primary


# Rights


def test_it_needs_no_right_that_setting_up_does_not_need(params):
    """Whoever may install may uninstall: no further manifest has to be applied for it."""
    chosen = params()
    of = chosen.secondaries[0]
    objects = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "consul-server"}},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "h", "annotations": {"helm.sh/hook": "x"}},
        },
    ]
    held = Held(right for rule in needs(chosen, of, objects) for right in rule.rights())
    wanted = [r for rule in needs(chosen, of, objects, notebook="90-defederate") for r in rule.rights()]
    assert ("delete", "statefulsets") in {(right.verb, right.resource) for right in wanted}
    assert ("delete", "secrets") in {(right.verb, right.resource) for right in wanted}
    assert [right for right in wanted if right not in held] == []


def test_a_cluster_that_is_kept_is_only_asked_for_its_secret(params):
    """Helm does nothing there."""
    chosen = params(uninstall=False)
    objects = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "consul-server"}}]
    found = needs(chosen, chosen.secondaries[0], objects, notebook="90-defederate")
    assert not any("services" in rule.resources for rule in found)
    dry = needs(chosen, chosen.secondaries[0], objects, notebook="90-defederate", read_only=True)
    assert {verb for rule in dry for verb in rule.verbs} <= {"get", "list"}
