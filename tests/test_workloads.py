"""Sidecars from before TLS: found by how they were started, restarted on request only, and never silently left."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.steps.workloads import Workload, Workloads

from .conftest import Request

PODS = "GET /api/v1/pods"
PATCH = "PATCH /apis/apps/v1/namespaces/shop/deployments/web"


def pod(name: str, owner: tuple[str, str] = ("ReplicaSet", "web-5d4"), **sidecar: Any) -> dict[str, Any]:
    reference = {"kind": owner[0], "name": owner[1], "controller": True}
    return {
        "metadata": {
            "name": name, "namespace": "shop", "ownerReferences": [reference] if owner[0] else [],
            "labels": {"pod-template-hash": "5d4"},
        },
        "spec": {"containers": [{"name": "app"}, {"name": "consul-dataplane"} | sidecar]},
    }  # fmt: skip


OLD = {"args": ["-addresses", "consul-server", "-tls-disabled"]}
OLDER = {"env": [{"name": "CONSUL_HTTP_ADDR", "value": "http://10.0.0.1:8500"}]}
NEW = {"args": ["-ca-certs=/consul/ca.pem"]}


@pytest.fixture
def mesh(cluster, federation):
    def make(restart: bool = False) -> Workloads:
        params = federation(upgrade={"restart_workloads": restart}, timeouts={"ready": 5})
        return Workloads(params, cluster, "dc1")

    return make


def there(api: Any, *pods: dict[str, Any]) -> None:
    api.answers[PODS] = 200, {"items": list(pods)}


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (("ReplicaSet", "web-5d4"), Workload("shop", "Deployment", "web")),
        (("StatefulSet", "db"), Workload("shop", "StatefulSet", "db")),
        (("DaemonSet", "agent"), Workload("shop", "DaemonSet", "agent")),
        (("Job", "once"), Workload("shop", "Pod", "p")),
        (("", ""), Workload("shop", "Pod", "p")),
    ],
)
@pytest.mark.parametrize("sidecar", [OLD, OLDER], ids=["dataplane", "agent"])
def test_what_owns_the_pod_is_what_is_restarted(mesh, api, owner, expected, sidecar):
    """Of both generations of sidecars."""
    there(api, pod("p", owner, **sidecar))
    assert mesh().outdated() == [expected]


def test_sidecars_that_have_tls_are_left_alone(mesh, api):
    """And each workload is named once."""
    there(
        api, pod("a", **NEW), pod("b", ("StatefulSet", "db"), **OLD), pod("c", ("StatefulSet", "db"), **OLD)
    )
    assert mesh().outdated() == [Workload("shop", "StatefulSet", "db")]
    assert api.requests[-1].query["labelSelector"] == "consul.hashicorp.com/connect-inject-status=injected"


def test_without_the_parameter_they_are_listed_only(mesh, api):
    """Who runs them knows when they may be restarted."""
    there(api, pod("a", **OLD))
    row = mesh().apply()
    assert row.outcome == "unchanged"
    assert "upgrade.restart_workloads: Deployment shop/web" in row.what
    assert not [each for each in api.requests if each.method != "GET"]


def test_on_request_they_are_restarted_until_none_is_left(mesh, api):
    """As `kubectl rollout restart` does it; one that nobody would make again is only named."""
    there(api, pod("a", **OLD), pod("lonely", ("", ""), **OLD))
    assert mesh(True).planned().outcome == "would restart"

    def restarted(request: Request) -> tuple[int, Any]:
        there(api, pod("a", **NEW), pod("lonely", ("", ""), **OLD))
        return 200, {}

    api.answers[PATCH] = restarted
    row = mesh(True).apply()
    (patch,) = [each for each in api.requests if each.method == "PATCH"]
    annotations = patch.body["spec"]["template"]["metadata"]["annotations"]
    assert list(annotations) == ["kubectl.kubernetes.io/restartedAt"]
    assert (row.outcome, row.what.partition(";")[0]) == ("changed", "restarted: Deployment shop/web")
    assert "Pod shop/lonely" in row.what


def test_whoever_may_not_look_is_told_so(mesh, api):
    """It is no word that there are none."""
    api.answers[PODS] = 403, {"message": "forbidden"}
    assert "no right to list the pods" in mesh().planned().what


def test_there_may_be_none(mesh, api):
    there(api)
    assert mesh(True).apply().what == mesh().planned().what == "no sidecar is from before TLS"
