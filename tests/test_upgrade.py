"""An upgrade finds where it stands from the release alone; servers are restarted one by one, stale gateways named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consulfed_lib import helm
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.errors import WaitTimeoutError
from consulfed_lib.params.models import Timeouts
from consulfed_lib.redact import Secret
from consulfed_lib.runner import runner_label
from consulfed_lib.servers import Servers
from consulfed_lib.steps.restart import Restart
from consulfed_lib.steps.stale import StaleGateways, stale_gateways
from consulfed_lib.steps.upgrade import Upgrade, existing_servers
from consulfed_lib.values import Installed
from consulfed_lib.values.stages import Stage

from .conftest import ConsulServer, Request, secret_object
from .test_adoption import OPTIONS, OWN, laid
from .test_helm import stored
from .test_servers import NAMES, healthy, pod, pods

SECRETS = "GET /api/v1/namespaces/consul/secrets"
STAGES = [Stage(f"stage {i}", laid(OWN, server__updatePartition=2 - i), 2 - i) for i in range(3)]


@pytest.fixture
def upgrade(cluster, federation) -> Upgrade:
    params = federation(**OPTIONS, chart={"ref": "consul", "version": "1.9.11"})
    before = Installed("consul", OWN, {})
    return Upgrade(params, params.primary, cluster, STAGES[-1].values, before=before)


def released(api: Any, stage: int | None, status: str = "deployed") -> None:
    """The newest revision has the values of that stage; None: those of its user."""
    config = OWN if stage is None else STAGES[stage].values
    api.answers[SECRETS] = 200, {"items": [stored(3, status, **config)]}


@pytest.mark.parametrize(
    ("stage", "status", "reached"),
    [
        (None, "deployed", -1), (0, "deployed", 0), (1, "deployed", 1), (2, "deployed", 2),
        (0, "failed", -1), (2, "failed", 1), (1, "pending-upgrade", 0), (None, "failed", -1),
    ],
)  # fmt: skip
def test_how_far_it_came_stands_in_the_release(upgrade, api, stage, status, reached):
    """A stage whose Helm was killed is done again."""
    released(api, stage, status)
    assert upgrade._reached(STAGES, upgrade.release()) == reached


def test_a_chart_that_is_to_be_moved_has_reached_nothing(upgrade, api):
    """Its values alone do not tell it."""
    released(api, 2)
    other = helm.Release(**{**vars(upgrade.release()), "version": "1.9.10"})
    assert upgrade._reached(STAGES, other) == -1


def test_a_stage_that_was_reached_before_is_not_gone_through_again(upgrade, api):
    """Nothing is asked of Consul, nothing written."""
    released(api, 2)
    row = upgrade.reach(STAGES, 0)
    assert (row.outcome, row.what) == ("unchanged", "1 of 3: stage 0: was reached before")
    assert not [each for each in api.requests if each.method != "GET"]


def test_it_is_undone_by_going_back_to_what_its_user_left(upgrade, api):
    """From wherever it stands."""
    first, third = stored(1, **OWN), stored(3, runner=runner_label(), **STAGES[0].values)
    third["metadata"]["labels"][helm.ORIGIN_LABEL] = "1"
    api.answers[SECRETS] = lambda asked: (
        200,
        {"items": [first] if "version=1" in asked.query["labelSelector"] else [first, third]},
    )
    assert upgrade._undo(upgrade.release()).startswith("helm rollback consul 1 ")


def test_a_consul_that_is_ill_is_not_touched(upgrade, api):
    """Where its upgrade has begun, the upgrade itself waits for it."""
    released(api, None)
    (found,) = existing_servers("dc1", upgrade)
    assert (found.severity, found.found) == ("error", "not ready: consul-server-0")
    third = stored(3, runner=runner_label(), **STAGES[0].values)
    third["metadata"]["labels"][helm.ORIGIN_LABEL] = "1"
    api.answers[SECRETS] = 200, {"items": [third]}
    assert [each.severity for each in existing_servers("dc1", upgrade)] == ["skipped"]


# Servers that were started with old gateways


@pytest.fixture
def secondary(consul_server, federation, secret_data) -> Callable[..., tuple[ConsulServer, Restart]]:
    """A secondary with three servers, whose secret has the gateway 10.0.0.1:443."""

    def make(*started_with: str) -> tuple[ConsulServer, Restart]:
        server = consul_server("dc2", token=Secret("t", b"a-token-of-the-test"))
        params = federation(servers=3, timeouts={"ready": 5})
        answers = server.api.answers
        answers["GET /api/v1/namespaces/consul/secrets/consul-federation"] = 200, secret_object(secret_data())
        pods(server, *map(numbered, NAMES))
        server.answers("operator/autopilot/health", healthy())
        server.answers("agent/self", agent(list(started_with)))
        dc = Datacenter(params, params.secondaries[0], server.cluster, server.client)
        return server, Restart(params, dc)

    return make


def agent(gateways: list[str], term: int = 3) -> dict[str, Any]:
    return {"DebugConfig": {"PrimaryGateways": gateways}, "Stats": {"raft": {"term": str(term)}}}


def numbered(name: str, uid: str = "1") -> dict[str, Any]:
    found = pod(name)
    found["metadata"]["uid"] = uid
    return found


def test_servers_that_know_the_gateways_are_left_alone(secondary):
    """The second run writes nothing."""
    server, restart = secondary("10.0.0.1:443")
    assert restart.planned()[0].outcome == restart.apply().outcome == "unchanged"
    assert not [each for each in server.api.requests if each.method != "GET"]


def test_the_others_are_replaced_one_by_one(secondary):
    """Each only when all are well again, and the leader last: the others could not follow it as they are."""
    server, restart = secondary("10.9.9.9:443")
    server.answers("operator/autopilot/health", healthy(zero={"Leader": False}, two={"Leader": True}))
    row, item = restart.planned()
    assert row.outcome == "would restart"
    assert row.what.startswith(
        "consul-server-2, consul-server-1, consul-server-0, one by one: started with 10.9.9.9:443"
    )
    assert item.by == "02-secret-transfer"
    replaced = replacing(server)
    assert restart.apply().what == "restarted one by one: consul-server-1, consul-server-0, consul-server-2"
    assert list(replaced) == [NAMES[1], NAMES[0], NAMES[2]]


def replacing(server: ConsulServer, then: Callable[[list[str]], None] = lambda done: None) -> dict[str, str]:
    """Name → UID of the new pod, of each that is deleted; `then` is told which have been, so far."""
    replaced: dict[str, str] = {}

    def one(name: str) -> Callable[[Request], tuple[int, Any]]:
        def answer(request: Request) -> tuple[int, Any]:
            replaced[name] = "2"
            pods(server, *(numbered(each, replaced.get(each, "1")) for each in NAMES))
            then(list(replaced))
            return 200, {}

        return answer

    for name in NAMES:
        server.api.answers[f"DELETE /api/v1/namespaces/consul/pods/{name}"] = one(name)
    return replaced


def test_where_no_leader_stays_the_next_one_is_restarted_all_the_same(secondary):
    """Nobody loses anything by it, and without it none ever could stay: until two of three know the new gateways."""
    server, restart = secondary()
    terms = iter(range(100, 10**6, 7))

    def elect(gateways: list[str]) -> None:
        server.answers("operator/autopilot/health", b"No cluster leader", status=500)
        server.consul.answers["GET /v1/agent/self"] = lambda asked: (200, agent(gateways, next(terms)))

    def then(done: list[str]) -> None:
        if len(done) == 2:
            server.answers("operator/autopilot/health", healthy())
            server.answers("agent/self", agent(["10.9.9.9:443"], 500))

    elect(["10.9.9.9:443"])
    replaced = replacing(server, then)
    assert restart.apply().outcome == "changed"
    assert list(replaced) == [NAMES[2], NAMES[1], NAMES[0]]


def test_one_that_is_ill_keeps_the_next_from_being_restarted(secondary):
    """Where a leader stays there is one to lose."""
    server, restart = secondary("10.9.9.9:443")
    server.answers("operator/autopilot/health", healthy(one={"Healthy": False}), status=429)
    restart = replace(restart, params=restart.params.model_copy(update={"timeouts": Timeouts(ready=1)}))
    with pytest.raises(WaitTimeoutError, match="all servers well before consul-server-2 restarts"):
        restart.apply()
    assert not [each for each in server.api.requests if each.method != "GET"]


def test_a_server_that_does_not_answer_is_not_called_stale(secondary):
    """Nobody knows what it was started with."""
    server, restart = secondary("10.9.9.9:443")
    server.cluster.gone = {NAMES[1]}
    assert list(restart.stale()) == [NAMES[2], NAMES[0]]


# Gateways without pods


@pytest.fixture
def catalog(consul_server, federation) -> Callable[..., tuple[ConsulServer, StaleGateways]]:
    """One gateway pod at 10.1.0.1; the catalog has it, and one that is gone."""

    def make(clear: bool = False) -> tuple[ConsulServer, StaleGateways]:
        server = consul_server("dc1", token=Secret("t", b"a-token-of-the-test"))
        params = federation(upgrade={"clear_leftovers": clear})
        gateway = {"metadata": {"name": "gateway"}, "status": {"podIP": "10.1.0.1"}}

        def answer(request: Request) -> tuple[int, Any]:
            of_gateways = "component=mesh-gateway" in request.query["labelSelector"]
            return 200, {"items": [gateway] if of_gateways else [pod("consul-server-0")]}

        server.api.answers["GET /api/v1/namespaces/consul/pods"] = answer
        server.answers("status/leader", "10.0.0.1:8300")
        server.answers(
            "catalog/service/mesh-gateway", [instance("new", "10.1.0.1"), instance("old", "10.1.0.9")]
        )
        servers = Servers(server.cluster, "consul", "consul", "consul", "dc1", {}, 1, like=server.client)
        return server, StaleGateways(params, servers)

    return make


def instance(name: str, address: str) -> dict[str, Any]:
    wan = {"Address": f"203.0.113.{address[-1]}", "Port": 443}
    return {
        "Node": f"node-{name}", "ServiceID": f"gateway-{name}", "ServiceAddress": address,
        "ServiceTaggedAddresses": {"wan": wan},
    }  # fmt: skip


def test_a_gateway_without_a_pod_is_named(catalog):
    """With its address, which would get into the federation secret; nothing is taken out without the parameter."""
    server, gateways = catalog()
    (found,) = stale_gateways("dc1", gateways)
    assert found.severity == "warning"
    assert "gateway-old on node-old (203.0.113.9:443)" in found.found
    assert "gateway-new" not in found.found
    assert gateways.clear().outcome == "unchanged"
    assert gateways.planned() is None
    assert not [each for each in server.consul.requests if each.method != "GET"]


def test_on_request_it_is_taken_out_of_the_catalog(catalog):
    """That one, and no other."""
    server, gateways = catalog(clear=True)
    server.consul.answers["PUT /v1/catalog/deregister"] = 200, True
    planned = gateways.planned()
    assert planned is not None
    assert planned.outcome == "would delete"
    assert gateways.clear().outcome == "changed"
    (put,) = [each for each in server.consul.requests if each.method == "PUT"]
    assert put.body == {"Datacenter": "dc1", "Node": "node-old", "ServiceID": "gateway-old"}
    assert json.dumps(put.body).count("old") == 2


def test_where_there_is_no_consul_yet_there_is_none(federation):
    """A first installation."""
    gateways = StaleGateways(federation(), None)
    assert [each.severity for each in stale_gateways("dc1", gateways)] == ["ok"]
    assert gateways.clear().outcome == "unchanged"
