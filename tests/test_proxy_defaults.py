"""ProxyDefaults: whose it is, what of it is ours, and when Consul has it. Real syncing is the sandbox's business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consulfed_lib.errors import ApplyError
from consulfed_lib.params import Federation
from consulfed_lib.steps.proxy_defaults import ProxyDefaults, proxy_defaults_owner, proxy_defaults_synced

from .conftest import ConsulServer

PATH = "/apis/consul.hashicorp.com/v1alpha1"
SYNCED = {"type": "Synced", "status": "True"}
FOREIGN = {
    "type": "Synced", "status": "False", "reason": "ExternallyManagedConfigError",
    "message": 'config entry managed in different datacenter: "dc2"',
}  # fmt: skip


class World:
    """A primary with a resource and an entry, as a test sets them; an apply is done as an API server does it."""

    def __init__(self, params: Federation, server: ConsulServer):
        self.server, self.resources = server, []
        self.proxy_defaults = ProxyDefaults(params, server.cluster, lambda: server.client)
        server.api.answers[f"GET {PATH}/proxydefaults"] = lambda request: (200, {"items": self.resources})
        self.entry(None)

    def resource(self, spec: dict[str, Any], *conditions: dict[str, str], namespace: str = "consul") -> None:
        metadata: dict[str, Any] = {"name": "global", "namespace": namespace, "managedFields": [
            {"manager": "argocd", "fieldsV1": {"f:spec": {"f:meshGateway": {"f:mode": {}}}}}
        ]}  # fmt: skip
        self.resources = [{"metadata": metadata, "spec": spec, "status": {"conditions": list(conditions)}}]
        path = f"PATCH {PATH}/namespaces/{namespace}/proxydefaults/global"
        self.server.api.answers[path] = self._apply

    def _apply(self, request: Any) -> tuple[int, Any]:
        self.resources[0]["spec"]["meshGateway"] |= request.body["spec"]["meshGateway"]
        self.entry(self.resources[0]["spec"]["meshGateway"]["mode"], "dc1")
        return 200, self.resources[0]

    def entry(self, mode: str | None, owner: str = "") -> None:
        """What Consul has: nothing, or an entry that this datacenter (empty: no Kubernetes at all) made."""
        meta = {"consul.hashicorp.com/source-datacenter": owner} if owner else {}
        entry = {"Kind": "proxy-defaults", "Name": "global", "MeshGateway": {"Mode": mode}, "Meta": meta}
        answer = (b"Config entry not found", 404) if mode is None else (entry, 200)
        self.server.answers("config/proxy-defaults/global", *answer)


@pytest.fixture
def world(federation: Callable[..., Federation], consul_server: Callable[..., ConsulServer]) -> World:
    return World(federation(timeouts={"ready": 1}), consul_server("dc1", context="one"))


def test_it_is_made_where_there_is_none(world: World) -> None:
    """The plan says so."""
    assert world.proxy_defaults.planned().outcome == "would create"


def test_what_is_as_wanted_is_unchanged(world: World) -> None:
    """Also in another namespace, where the page allows it to be; and nothing is written."""
    world.resource({"meshGateway": {"mode": "local"}}, SYNCED, namespace="mesh")
    world.entry("local", "dc1")
    assert world.proxy_defaults.planned().outcome == "unchanged"
    assert world.proxy_defaults.apply().outcome == "unchanged"
    assert world.server.api.asked("PATCH") == []


def test_only_the_mode_is_ours(world: World) -> None:
    """Other content is named in the plan, stays, and the undo gives the old mode back."""
    spec = {"config": {"protocol": "http"}, "meshGateway": {"mode": "remote"}}
    world.resource(spec, SYNCED, namespace="mesh")
    world.entry("remote", "dc1")
    plan = world.proxy_defaults.planned()
    assert plan.outcome == "would change"
    assert "mode local" in plan.what
    assert "now remote, set by argocd" in plan.what
    assert "left as they are: config" in plan.what
    done = world.proxy_defaults.apply()
    assert done.outcome == "changed"
    assert '"mode":"remote"' in done.undo
    assert "-n mesh" in done.undo
    (request,) = [r for r in world.server.api.requests if r.method == "PATCH"]
    assert request.body["spec"] == {"meshGateway": {"mode": "local"}}
    assert world.resources[0]["spec"]["config"] == {"protocol": "http"}


@pytest.mark.parametrize(("owner", "words"), [("dc2", "made in dc2"), ("", "not made by Kubernetes")])
def test_an_entry_of_somebody_else_is_never_overwritten(world: World, owner: str, words: str) -> None:
    """With our mode it serves; with another one preflight stops, and says whose it is."""
    world.entry("local", owner)
    (finding,) = proxy_defaults_owner("dc1", world.proxy_defaults)
    assert (finding.severity, words in finding.found) == ("ok", True)
    assert world.proxy_defaults.planned().outcome == "unchanged"
    assert world.proxy_defaults.apply().outcome == "unchanged"
    world.entry("remote", owner)
    (finding,) = proxy_defaults_owner("dc1", world.proxy_defaults)
    assert finding.severity == "error"
    assert words in finding.found
    assert "mode remote" in finding.found


def test_a_refusal_of_consul_k8s_ends_the_wait_at_once(world: World) -> None:
    """No waiting mends an entry that another datacenter owns."""
    world.resource({"meshGateway": {"mode": "local"}}, FOREIGN)
    world.entry("remote", "dc2")
    with pytest.raises(ApplyError, match='different datacenter: "dc2"'):
        world.proxy_defaults.apply()


def test_an_old_synced_status_is_no_proof(world: World) -> None:
    """The status does not say of which content it speaks: Consul itself is asked."""
    world.resource({"meshGateway": {"mode": "local"}}, SYNCED)
    world.entry("remote", "dc1")
    (finding,) = proxy_defaults_synced("dc1", world.proxy_defaults)
    assert (finding.severity, finding.found) == ("error", "the mode in Consul is remote, not local")


@pytest.mark.parametrize(
    ("conditions", "found"),
    [((), "no status yet"), ((FOREIGN,), "ExternallyManagedConfigError")],
)
def test_what_is_not_synced_is_an_error(world: World, conditions: tuple, found: str) -> None:
    """No condition means unknown, which is not ok."""
    world.resource({"meshGateway": {"mode": "local"}}, *conditions)
    world.entry("local", "dc1")
    (finding,) = proxy_defaults_synced("dc1", world.proxy_defaults)
    assert finding.severity == "error"
    assert found in finding.found


def test_old_charts_have_it_as_a_value(
    federation: Callable[..., Federation], consul_server: Callable[..., ConsulServer]
) -> None:
    """Below 0.30 there is no such resource; what Consul has is looked at all the same."""
    params = federation(chart={"ref": "hashicorp/consul", "version": "0.25.0"}, gossip_encryption=False)
    world = World(params, consul_server("dc1", context="one"))
    assert world.proxy_defaults.planned().outcome == "unchanged"
    assert not world.proxy_defaults.look().done
    world.entry("local")
    assert world.proxy_defaults.look().done
