"""The checks of a cluster: what is there already, and whether Consul can live there."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from consulfed_lib.checks import balancers, clusters, existing, pod_security, preflight, run_together
from consulfed_lib.checks.target import Once, Target
from consulfed_lib.errors import ClusterError
from consulfed_lib.results import Finding
from consulfed_lib.runner import runner_label

from .conftest import CHART, Request, ready
from .test_helm import stored

CONSUL = "/api/v1/namespaces/consul"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
PROXY_DEFAULTS = "proxydefaults.consul.hashicorp.com"


@pytest.fixture
def aimed(target, federation):
    """That target with some parameters changed."""

    def make(**changes: Any) -> Target:
        chart = {"ref": str(CHART), "version": "1.9.11-sandbox"}
        params = federation(**({"chart": chart} | changes))
        return Target(params, params.primary, target.cluster)

    return make


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


# Asking once


def test_each_question_is_asked_once_however_many_ask_it():
    """Also while the first answer is still awaited; and an error is an answer, too."""
    once, asked, others = Once(), [], threading.Event()

    def slow() -> str:
        asked.append("slow")
        assert others.wait(10)
        return "answer"

    def broken() -> str:
        asked.append("broken")
        raise ClusterError("down")

    def look() -> list[Finding]:
        return [Finding("x", "y", "ok", once("slow", slow))]

    def last() -> list[Finding]:
        others.set()
        return look()

    assert [each.found for each in run_together([look, look, look, last])] == ["answer"] * 4
    for _ in range(2):
        with pytest.raises(ClusterError, match="down"):
            once("broken", broken)
    assert asked == ["slow", "broken"]


def test_no_check_asks_what_another_has_asked(target, api):
    """All checks of a cluster together: no request twice, and not many at all."""
    ready(api)
    looks = [each for each in preflight.PER_CLUSTER if each.id != "permissions"]
    run_together(partial(each, "dc1", target) for each in looks)
    asked = Counter((r.method, r.path, tuple(r.query.items())) for r in api.requests)
    assert [each for each, count in asked.items() if count > 1] == []
    assert len(asked) <= 15
    assert {method for method, *_ in asked} == {"GET"}


def test_bodies_of_large_objects_are_not_fetched(target, api):
    """CRDs of a busy cluster are tens of megabytes, a release's record is one; names and owners are enough."""
    ready(api)
    for each in existing.EXISTING:
        each("dc1", target)
    large = [r for r in api.requests if r.path in (CRDS, ROLES, WEBHOOKS)]
    assert len(large) == 3
    assert all("PartialObjectMetadataList" in r.headers["accept"] for r in large)
    secrets = [r.query["labelSelector"] for r in api.requests if r.path == f"{CONSUL}/secrets"]
    assert sorted(secrets) == ["owner!=helm", "owner=helm,name=consul"]


# What is there already


@pytest.mark.parametrize(
    ("answer", "severity"),
    [
        (None, "ok"),
        ((200, {"status": {"phase": "Active"}}), "ok"),
        ((200, {"status": {"phase": "Terminating"}}), "error"),
        ((403, {"message": "no"}), "error"),
    ],
)
def test_a_namespace_is_well_unless_it_is_being_deleted(target, api, answer, severity):
    """Or unless it cannot be looked at."""
    api.answers[f"GET {CONSUL}"] = answer
    assert [each.severity for each in existing.namespace("dc1", target)] == [severity]


AS_PRIMARY: dict[str, Any] = {
    "name": "consul",
    "datacenter": "dc1",
    "federation": {"enabled": True, "createFederationSecret": True},
    "acls": {"manageSystemACLs": True},
    "gossipEncryption": {"autoGenerate": True},
}
FITS = {"global": AS_PRIMARY}
PINNED = "1.9.11-sandbox"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datacenter": "dc9"}, "is datacenter 'dc9'"),
        ({"federation": {"enabled": True, "primaryDatacenter": "dc0"}}, "is a secondary"),
        ({"acls": {}}, "has ACLs off, the parameters have acls on"),
        ({"gossipEncryption": {}}, "has gossip encryption off, the parameters have gossip_encryption on"),
        ({"name": "mesh"}, "are named mesh-…; the parameters name them consul-…"),
        (
            {"gossipEncryption": {"secretName": "ours", "secretKey": "key"}},
            "has the gossip key of secret ours, the parameters want a generated gossip key",
        ),
    ],
)
def test_a_release_of_ours_in_another_role_stops_the_run(target, api, change, words):
    """Swapped contexts must not make a secondary of a primary, nor may options change that make a datacenter."""
    secret = stored(1, runner=gone(), **{"global": AS_PRIMARY | change})
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [secret]}
    (found,) = existing.existing_release("dc1", target)
    assert found.severity == "error"
    assert words in found.found


def gone() -> str:
    """The label of a runner of this machine that no longer runs."""
    return runner_label().rsplit(".", 1)[0] + ".1"


@pytest.mark.parametrize(
    ("secret", "severity"),
    [
        (lambda: stored(1, runner=gone(), chart=PINNED, **FITS), "ok"),
        (lambda: stored(1, "failed", runner=gone(), chart=PINNED, **FITS), "ok"),
        (lambda: stored(1, "pending-install", runner=gone(), chart=PINNED, **FITS), "ok"),
        (
            lambda: stored(1, "pending-install", runner=runner_label(os.getppid()), chart=PINNED, **FITS),
            "error",
        ),
        (lambda: stored(1, "pending-upgrade"), "error"),
        (lambda: stored(1), "error"),
    ],
    ids=["ours", "ours, failed", "ours, killed", "ours, running", "pending, not ours", "not ours"],
)
def test_a_release_that_is_not_ours_or_is_being_worked_on_stops_the_run(target, api, secret, severity):
    """Its values would be replaced by ours; and two Helms at a time break a release."""
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [secret()]}
    (found,) = existing.existing_release("dc1", target)
    assert found.severity == severity
    assert bool(found.hint) is (severity == "error")


def job(name: str, *conditions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": each, "status": "True"} for each in conditions]},
    }


def test_failed_hook_jobs_are_a_warning(target, api):
    """The run removes them itself; those that are done or still run are none of its business."""
    api.answers["GET /apis/batch/v1/namespaces/consul/jobs"] = (
        200,
        {"items": [job("done", "Complete"), job("runs"), job("broken", "FailureTarget", "Failed")]},
    )
    (found,) = existing.leftovers("dc1", target)
    assert found.severity == "warning"
    assert "broken" in found.found
    assert any(each.query.get("labelSelector") == "release=consul" for each in api.requests)


@pytest.mark.parametrize(("clear", "severity"), [(False, "error"), (True, "warning")])
def test_a_failed_job_of_somebody_elses_release_is_removed_on_request_only(
    cluster, api, federation, clear, severity
):
    """Its log may be all that is left to tell what went wrong there."""
    params = federation(upgrade={"existing": True, "clear_leftovers": clear})
    api.answers["GET /apis/batch/v1/namespaces/consul/jobs"] = 200, {"items": [job("broken", "Failed")]}
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [stored(1)]}
    (found,) = existing.leftovers("dc1", Target(params, params.primary, cluster))
    assert (found.severity, "broken" in found.found) == (severity, True)


@pytest.mark.parametrize(
    ("claims", "severity"), [((), "warning"), (("data-consul-consul-server-0",), "error")]
)
def test_old_secrets_are_removed_on_request_but_never_where_data_is_left(
    cluster, api, federation, claims, severity
):
    """With a volume of the servers there is an old raft, whose secrets these may be."""
    params = federation(upgrade={"clear_leftovers": True})
    api.answers[f"GET {CONSUL}/secrets"] = lambda asked: no_release(asked) or named("consul-ca-cert")
    api.answers[f"GET {CONSUL}/persistentvolumeclaims"] = named(*claims)
    (found,) = existing.leftovers("dc1", Target(params, params.primary, cluster))
    assert found.severity == severity
    assert "consul-ca-cert" in found.found


def no_release(asked: Request) -> tuple[int, Any] | None:
    """The answer to a question for Helm's records, where there are none."""
    return (200, {"items": []}) if asked.query["labelSelector"].startswith("owner=helm") else None


def named(*names: str) -> tuple[int, Any]:
    return 200, {"items": [{"metadata": {"name": name}} for name in names]}


@pytest.mark.parametrize(
    ("resource", "name", "severity"),
    [
        ("secrets", "consul-ca-cert", "error"),
        ("secrets", "consul-ca-key", "error"),
        ("secrets", "consul-bootstrap-acl-token", "error"),
        ("secrets", "consul-gossip-encryption-key", "error"),
        ("secrets", "consul-federation", "ok"),
        ("secrets", "other-ca-cert", "ok"),
        ("persistentvolumeclaims", "data-consul-consul-server-0", "error"),
        ("persistentvolumeclaims", "data-default-database-0", "ok"),
    ],
)
def test_what_an_older_installation_left_stops_a_first_one(target, api, resource, name, severity):
    """An old CA or an old raft would be used again; nothing is deleted without somebody who decides."""
    api.answers[f"GET {CONSUL}/{resource}"] = named(name)
    if resource == "secrets":
        plain = named(name)
        api.answers[f"GET {CONSUL}/secrets"] = lambda asked: no_release(asked) or plain
    (found,) = existing.leftovers("dc1", target)
    assert found.severity == severity
    if severity == "error":
        assert name in found.found
        assert "kubectl --context one -n consul delete" in found.hint


def test_what_belongs_to_an_installation_of_ours_is_not_left_over(target, api):
    """A second run meets the CA and the claims of the first."""
    mine = [stored(1, runner=gone())]
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": mine[:1]}
    api.answers[f"GET {CONSUL}/persistentvolumeclaims"] = named("data-consul-consul-server-0")
    assert [each.severity for each in existing.leftovers("dc1", target)] == ["ok"]


@pytest.mark.parametrize(
    ("installed", "asked", "severity"),
    [
        (PINNED, False, "ok"),
        ("1.9.10", False, "error"),
        ("2.0.3", False, "error"),
        ("1.9.10", True, "ok"),
        ("2.0.3", True, "warning"),
        ("3.0.0", True, "warning"),
    ],
)
def test_a_chart_is_moved_on_request_only_and_back_with_a_warning(aimed, api, installed, asked, severity):
    """Going back is not what a pinned version is for."""
    release = stored(1, runner=gone(), chart=installed, **FITS)
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [release]}
    found = only(existing.existing_release("dc1", aimed(upgrade={"chart": asked})))
    assert found.severity == severity
    if severity == "error":
        assert f"chart {installed}" in found.found
        assert "upgrade.chart" in found.hint


def owned(name: str, release: str = "", namespace: str = "", chart: str = "", **more: Any) -> dict[str, Any]:
    """An object as a list of metadata has it, with its owner as Helm writes it down."""
    owner = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    labels = {"chart": chart} if chart else {}
    annotations = owner if release else {}
    return {"metadata": {"name": name, "annotations": annotations, "labels": labels} | more}


def listed(*objects: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"items": list(objects)}


@pytest.mark.parametrize(
    ("path", "one", "severity"),
    [
        (CRDS, owned(PROXY_DEFAULTS, "consul", "old"), "error"),
        (CRDS, owned(PROXY_DEFAULTS, "mesh", "consul"), "error"),
        (ROLES, owned("consul-connect-injector", "mesh", "mesh"), "error"),
        (WEBHOOKS, owned("consul-connect-injector", "consul", "old"), "error"),
        (ROLES, owned("mesh-connect-injector", "mesh", "mesh", "consul-helm"), "warning"),
        (CRDS, owned(PROXY_DEFAULTS, "consul", "consul", "consul-helm"), "ok"),
        (ROLES, owned("consul-connect-injector", "consul", "consul", "consul-helm"), "ok"),
        (ROLES, owned("mesh-connect-injector"), "ok"),
        (ROLES, owned("consul-exporter", "prometheus", "monitoring"), "ok"),
        (CRDS, owned("certificates.cert-manager.io", "cert-manager", "cert-manager"), "ok"),
    ],
)
def test_another_installation_is_found_by_what_it_owns(target, api, path, one, severity):
    """In whichever namespace, the same release name or not: Helm would stop half way."""
    api.answers[f"GET {path}"] = listed(one)
    found = only(existing.other_installations("dc1", target))
    assert found.severity == severity
    if severity == "error":
        owner = one["metadata"]["annotations"]
        assert owner["meta.helm.sh/release-namespace"] in found.found
        assert one["metadata"]["name"] in found.found
    assert ("helm uninstall" in found.hint) is (severity != "ok")


def test_another_installation_is_one_finding_however_much_it_owns(target, api):
    """Twenty CRDs are one cause."""
    names = [f"{kind}.consul.hashicorp.com" for kind in ("a", "b", "c", "d", "e")]
    api.answers[f"GET {CRDS}"] = listed(*(owned(name, "consul", "old") for name in names))
    assert "and 2 more" in only(existing.other_installations("dc1", target)).found


def test_crds_that_belong_to_no_release_are_an_error_with_the_way_to_adopt_them(target, api):
    """Applied by hand, or by an operator: Helm says "invalid ownership metadata" to them."""
    api.answers[f"GET {CRDS}"] = listed(owned(PROXY_DEFAULTS), owned("x.example.com"))
    found = only(existing.crds("dc1", target))
    assert found.severity == "error"
    assert PROXY_DEFAULTS in found.found
    assert "meta.helm.sh/release-name=consul" in found.hint


def test_crds_that_are_being_deleted_are_an_error(target, api):
    """They wait for objects whose finalizers nobody takes away after Consul is gone."""
    stuck = owned(PROXY_DEFAULTS, "consul", "consul", deletionTimestamp="2026-01-01T00:00:00Z")
    api.answers[f"GET {CRDS}"] = listed(stuck)
    found = only(existing.crds("dc1", target))
    assert found.severity == "error"
    assert f"kubectl get {PROXY_DEFAULTS} -A" in found.hint


@pytest.mark.parametrize(
    "objects", [[], [owned(PROXY_DEFAULTS, "consul", "consul")], [owned(PROXY_DEFAULTS, "x", "y")]]
)
def test_crds_that_the_chart_brings_or_has_brought_are_well(target, api, objects):
    """Those of another release are the business of other-installations."""
    api.answers[f"GET {CRDS}"] = listed(*objects)
    assert only(existing.crds("dc1", target)).severity == "ok"


@pytest.mark.parametrize(
    ("version", "values", "owner", "severity"),
    [
        ("1.9.11", {}, (), "error"),
        ("2.0.3", {}, (), "error"),
        ("1.9.11", {}, ("istio", "istio"), "error"),
        ("1.9.11", {}, ("consul", "consul"), "ok"),
        ("1.1.0", {}, (), "ok"),
        ("1.9.11", {"connectInject": {"apiGateway": {"manageExternalCRDs": False}}}, (), "ok"),
        ("2.0.3", {"global": {"installK8sNetworkingCRDs": False}}, (), "ok"),
    ],
)
def test_a_gateway_api_that_is_there_stops_a_chart_that_would_bring_its_own(
    aimed, api, version, values, owner, severity
):
    """Helm refuses the whole release for the CRDs of somebody else."""
    api.answers[f"GET {CRDS}"] = listed(owned("gateways.gateway.networking.k8s.io", *owner))
    looked = aimed(chart={"ref": "hashicorp/consul", "version": version}, values=values)
    found = only(existing.crds("dc1", looked))
    assert found.severity == severity
    assert ("manageExternalCRDs: false" in found.hint) is (severity == "error")


def test_a_release_whose_crds_are_gone_is_an_error(target, api):
    """Nobody could make ProxyDefaults; the run itself would see a release that is as wanted."""
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [stored(3, runner=gone())]}
    found = only(existing.crds("dc1", target))
    assert found.severity == "error"
    assert "helm rollback consul 3" in found.hint


@pytest.mark.parametrize("status", ["failed", "pending-install"])
def test_a_release_that_stopped_before_its_crds_does_not_stop_the_next_run(target, api, status):
    """An interrupted install leaves a release without them, and running the same again completes it."""
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [stored(1, status, runner=gone())]}
    assert only(existing.crds("dc1", target)).severity == "ok"


def test_claims_of_a_long_namespace_are_found(aimed, api):
    """The chart cuts it at 58 characters, without a hyphen at the end."""
    where = "n" * 57 + "-rest"
    looked = aimed(primary={"context": "one", "datacenter": "dc1", "namespace": where})
    api.answers[f"GET /api/v1/namespaces/{where}/persistentvolumeclaims"] = named(
        f"data-{'n' * 57}-consul-server-0"
    )
    assert len(existing.server_claims(looked)) == 1


# Kubernetes itself


@pytest.mark.parametrize(
    ("version", "constraint", "fits"),
    [
        ("v1.30.2", ">=1.22.0-0", True),
        ("v1.30.2-eks-1552ad0", ">=1.22.0-0", True),
        ("v1.34.0+k3s1", ">=1.22.0-0", True),
        ("v1.22.0-gke.1", ">=1.22.0-0", True),
        ("v1.21.14", ">=1.22.0-0", False),
        ("v1.9.0", ">=1.22", False),
        ("v1.24.1", ">= 1.21, < 1.25", True),
        ("v1.25.0", ">=1.21 <1.25", False),
        ("v1.25.0", "<1.20 || >1.24", True),
        ("v1.25.0", "1.25.0", True),
        ("v1.25.0", "!=1.25.0", False),
        ("v1.25.0", "<=1.25", True),
        ("v1.25.1", "^1.21", None),
        ("v1.25.1", "1.x", None),
        ("unknown", ">=1.21", None),
        ("v1.25.1", "||", None),
    ],
)
def test_versions_are_compared_as_helm_does(version, constraint, fits):
    """By their numbers; what is not understood is not guessed."""
    assert clusters.satisfies(version, constraint) is fits


@pytest.mark.parametrize(
    ("version", "severity"),
    [
        ("v1.30.2", "ok"),
        ("v1.34.9", "ok"),
        ("v1.21.9", "error"),
        ("v1.22.0", "warning"),
        ("v1.99.0", "warning"),
        ("dev", "skipped"),
    ],
)
def test_the_charts_own_bound_on_kubernetes_is_an_error_and_the_tested_range_a_warning(
    aimed, api, version, severity
):
    """Helm would refuse the one; the other nobody has tried. The sandbox's chart needs what the official one does."""
    api.answers["GET /version"] = 200, {"gitVersion": version}
    found = only(clusters.kubernetes_version("dc1", aimed(chart={"ref": str(CHART), "version": "1.9.11"})))
    assert found.severity == severity
    assert version in found.found


@pytest.mark.parametrize(
    ("chart", "kubernetes", "changes", "words"),
    [
        ("0.47.1", "v1.24.0", {}, "token Secret"),
        ("0.47.1", "v1.23.9", {}, ""),
        ("0.47.1", "v1.24.0", {"acls": False}, ""),
        ("0.48.0", "v1.24.0", {}, ""),
        ("0.49.1", "v1.25.0", {}, "PodSecurityPolicy"),
        ("0.49.1", "v1.24.0", {}, ""),
        ("0.49.1", "v1.25.0", {"gossip_encryption": False}, ""),
        ("0.49.1", "v1.25.0", {"gossip_key": {"secret": "ours"}}, ""),
        ("0.49.2", "v1.25.0", {}, ""),
    ],
)
def test_a_chart_that_can_never_end_on_a_newer_kubernetes_stops_the_run(
    aimed, api, tmp_path, chart, kubernetes, changes, words
):
    """Its own bound does not say so, and Helm would wait for a hook until its deadline."""
    (tmp_path / "Chart.yaml").write_text(
        f"{{apiVersion: v2, name: consul, version: {chart}, kubeVersion: '>=1.21.0-0'}}"
    )
    api.answers["GET /version"] = 200, {"gitVersion": kubernetes}
    of = aimed(chart={"ref": str(tmp_path), "version": chart}, **changes)
    found = only(clusters.kubernetes_version("dc1", of))
    assert (found.severity == "error") is bool(words)
    assert words in found.found


def test_a_chart_that_is_no_release_of_hashicorps_has_no_tested_range(target, api):
    """They publish none for it."""
    api.answers["GET /version"] = 200, {"gitVersion": "v1.99.0"}
    assert only(clusters.kubernetes_version("dc1", target)).severity == "ok"


def test_a_chart_that_cannot_be_had_says_nothing_about_kubernetes(aimed, api):
    """The check of the chart is red then; this one proves nothing."""
    ready(api)
    found = clusters.kubernetes_version("dc1", aimed(chart={"ref": "./nowhere", "version": "1.9.11"}))
    assert only(found).severity == "skipped"


def lease(name: str, skew: float, age: float = 4, manager: str = "kubelet") -> dict[str, Any]:
    """A node's lease: when the API server took it, and what the node's clock said then."""
    taken = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=age)
    renewed = taken + timedelta(seconds=skew + 0.5)
    entry = {"manager": manager, "operation": "Update", "time": f"{taken:%Y-%m-%dT%H:%M:%SZ}"}
    return {
        "metadata": {"name": name, "managedFields": [entry]},
        "spec": {"renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"},
    }


@pytest.mark.parametrize(
    ("ahead", "severity"),
    [(0, "ok"), (3, "ok"), (-3, "ok"), (8, "warning"), (-30, "warning"), (70, "error"), (-4000, "error")],
)
def test_an_api_server_with_another_time_is_noticed(target, api, ahead, severity):
    """By the date of its answers, which is in whole seconds."""
    ready(api)
    api.ahead = ahead
    found = only(clusters.clocks("dc1", target))
    assert found.severity == severity
    if severity != "ok":
        said = re.search(rf"the API server is (\d+) s {'ahead' if ahead > 0 else 'behind'}", found.found)
        assert said
        assert abs(int(said[1]) - abs(ahead)) <= 1
        assert "NTP" in found.hint


@pytest.mark.parametrize(
    ("skew", "severity"),
    [(0, "ok"), (2, "ok"), (20, "warning"), (-20, "warning"), (300, "error"), (-61.5, "error")],
)
def test_a_node_with_another_time_is_noticed_and_named(target, api, skew, severity):
    """However old its lease is: both clocks stand in it."""
    ready(api)
    api.answers[f"GET {LEASES}"] = listed(lease("good", 0), lease("bad", skew, age=36))
    found = only(clusters.clocks("dc1", target))
    assert found.severity == severity
    assert ("bad is" in found.found) is (severity != "ok")
    assert "good is" not in found.found


@pytest.mark.parametrize(
    "answer",
    [
        (403, {"message": "no"}),
        listed(),
        listed({"metadata": {"name": "bare"}, "spec": {}}),
        listed(lease("foreign", 900, manager="somebody")),
    ],
)
def test_clocks_of_nodes_that_cannot_be_seen_are_said_to_be_unseen(target, api, answer):
    """Never a green word about what nobody read."""
    ready(api)
    api.answers[f"GET {LEASES}"] = answer
    found = only(clusters.clocks("dc1", target))
    assert found.severity == "ok"
    assert "not seen" in found.found


# Nodes and volumes


def node(name: str = "node-1", *, status: str = "True", labels: Any = None, **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": status}]
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"conditions": conditions},
    }


GPU = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
SOFT = GPU | {"effect": "PreferNoSchedule"}


@pytest.mark.parametrize(
    ("servers", "nodes", "values", "severity"),
    [
        (1, [node()], {}, "ok"),
        (1, [], {}, "error"),
        (3, [node("a"), node("b"), node("c")], {}, "ok"),
        (3, [node("a"), node("b")], {}, "error"),
        (1, [node(unschedulable=True)], {}, "error"),
        (1, [node("a", unschedulable=True), node("b")], {}, "ok"),
        (1, [node(status="Unknown")], {}, "error"),
        (1, [node(taints=[GPU])], {}, "error"),
        (1, [node(taints=[SOFT])], {}, "ok"),
        (1, [node(taints=[GPU])], {"tolerations": "- {key: dedicated, operator: Exists}"}, "ok"),
        (1, [node(taints=[GPU])], {"tolerations": "- {key: dedicated, value: gpu, effect: NoSchedule}"}, "ok"),
        (1, [node(taints=[GPU])], {"tolerations": "- {key: dedicated, value: cpu}"}, "error"),
        (1, [node(taints=[GPU])], {"tolerations": "- {operator: Exists, effect: NoExecute}"}, "error"),
        (1, [node(taints=[GPU])], {"tolerations": [{"operator": "Exists"}]}, "ok"),
        (1, [node(labels={"pool": "a"})], {"nodeSelector": "pool: a"}, "ok"),
        (1, [node(labels={"pool": "b"})], {"nodeSelector": "pool: a"}, "error"),
        (1, [node()], {"nodeSelector": {"pool": "a"}}, "error"),
        (1, [node()], {"nodeSelector": "{{ .Values.x }}"}, "skipped"),
        (3, [node("a")], {"affinity": None}, "warning"),
        (3, [], {"affinity": None}, "error"),
        (3, [node("a"), node("b")], {"affinity": "podAntiAffinity: {requiredDuringSchedulingX: []}"}, "error"),
    ],
)  # fmt: skip
def test_there_must_be_a_node_for_each_server(aimed, api, servers, nodes, values, severity):
    """One that its pod may really use: the chart places one server a node, unless told not to."""
    api.answers["GET /api/v1/nodes"] = listed(*nodes)
    found = only(clusters.capacity("dc1", aimed(servers=servers, values={"server": values})))
    assert found.severity == severity


def test_each_node_that_cannot_be_used_is_named_with_its_reason(aimed, api):
    """Who reads it wants to know which of the five nodes is the odd one."""
    api.answers["GET /api/v1/nodes"] = listed(
        node("a"), node("b", unschedulable=True), node("c", taints=[GPU]), node("d", status="False")
    )
    found = only(clusters.capacity("dc1", aimed(servers=3))).found
    for words in (
        "1 node can run servers, 3 wanted",
        "b is cordoned",
        "c has the taint dedicated:NoSchedule",
        "d is not ready",
    ):
        assert words in found
    assert "a " not in found.partition(":")[2]


def storage_class(name: str, default: str = "", provisioner: str = "ebs.csi.aws.com") -> dict[str, Any]:
    mark = {"storageclass.kubernetes.io/is-default-class": default} if default else {}
    return {"metadata": {"name": name, "annotations": mark}, "provisioner": provisioner}


@pytest.mark.parametrize(
    ("classes", "named_class", "severity"),
    [
        ([storage_class("gp3", "true")], None, "ok"),
        ([storage_class("gp3", "false")], None, "error"),
        ([storage_class("gp3")], None, "error"),
        ([], None, "error"),
        ([storage_class("gp3")], "gp3", "ok"),
        ([storage_class("gp3", "true")], "fast", "error"),
        ([storage_class("gp3", "true")], "", "ok"),
        ([storage_class("local", "true", "kubernetes.io/no-provisioner")], None, "warning"),
    ],
)
def test_the_servers_volumes_need_a_storage_class(aimed, api, classes, named_class, severity):
    """A default one, or the one that the final values name; else the pods are pending for ever."""
    api.answers[f"GET {CLASSES}"] = listed(*classes)
    found = only(clusters.storage("dc1", aimed(values={"server": {"storageClass": named_class}})))
    assert found.severity == severity
    assert bool(found.hint) is (severity != "ok")


@pytest.mark.parametrize(("phase", "severity"), [("Bound", "ok"), ("Pending", "error")])
def test_volumes_that_are_there_need_no_class_any_more(target, api, phase, severity):
    """Bound ones; a claim that waits is the very fault."""
    claim = {"metadata": {"name": "data-consul-consul-server-0"}, "status": {"phase": phase}}
    api.answers[f"GET {CONSUL}/persistentvolumeclaims"] = listed(claim)
    assert only(clusters.storage("dc1", target)).severity == severity


# Load balancers


def service(
    name: str, *ingress: dict[str, str], kind: str = "LoadBalancer", namespace: str = "web"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": kind},
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


IP, HOST = {"ip": "34.1.2.3"}, {"hostname": "x.elb.amazonaws.com"}
OURS = service("consul-mesh-gateway", IP, namespace="consul")


@pytest.mark.parametrize(
    ("services", "crd", "provider", "severity", "words"),
    [
        ([service("shop", IP)], "", "", "ok", "web/shop has 34.1.2.3"),
        ([service("shop", HOST)], "", "", "ok", "x.elb.amazonaws.com"),
        ([OURS, service("shop")], "", "", "ok", "the gateway has 34.1.2.3"),
        ([service("shop", IP), service("late")], "", "aws:///a/i-0", "warning", "web/late wait(s)"),
        ([service("shop", {})], "", "", "warning", "web/shop"),
        ([service("shop", IP, kind="NodePort")], "", "", "warning", "nothing was seen"),
        ([], "ipaddresspools.metallb.io", "", "ok", "MetalLB is there"),
        ([], "widgets.example.com", "", "warning", "nothing was seen"),
        ([], "", "aws:///eu-central-1a/i-0", "ok", "the nodes are AWS's"),
        ([], "", "gce://project/zone/vm", "ok", "Google Cloud"),
        ([], "", "kind://docker/kind/node", "warning", "nothing was seen"),
        ([], "", "vsphere://4230", "warning", "nothing was seen"),
        ([], "", "", "warning", "nothing was seen"),
    ],
)
def test_what_gives_addresses_is_seen_or_said_to_be_unseen(
    target, api, services, crd, provider, severity, words
):
    """Addresses that were given count most; what could give some counts; nothing seen is a warning."""
    api.answers["GET /api/v1/services"] = listed(*services)
    api.answers[f"GET {CRDS}"] = listed(*([owned(crd)] if crd else []))
    api.answers["GET /api/v1/nodes"] = listed(node(providerID=provider))
    found = only(balancers.load_balancer("dc1", target))
    assert (found.severity, words in found.found) == (severity, True), found
    assert ("NodePort" in found.hint) is (severity == "warning")


@pytest.mark.parametrize(
    "gateway",
    [
        {"service": "NodePort", "node_port": 30443},
        {"service": "ClusterIP", "wan_address": "Static", "static": "gateway.example.com"},
        {"wan_address": "NodeIP"},
    ],
)
def test_who_needs_no_load_balancer_is_not_asked_for_one(aimed, api, gateway):
    """Then nothing is read either."""
    primary = {"context": "one", "datacenter": "dc1", "mesh_gateway": gateway}
    assert only(balancers.load_balancer("dc1", aimed(primary=primary))).severity == "ok"
    assert api.requests == []


def test_services_of_other_namespaces_need_not_be_readable(target, api):
    """A context of least privilege sees its own namespace only."""
    ready(api)
    api.answers["GET /api/v1/services"] = 403, {"message": "no"}
    api.answers[f"GET {CONSUL}/services"] = listed(OURS)
    assert "34.1.2.3" in only(balancers.load_balancer("dc1", target)).found


def test_a_load_balancer_that_cannot_be_looked_for_stops_nobody(target, api):
    """The check is declared to warn at worst, also when it cannot look."""
    api.answers["GET /api/v1/services"] = 500, {"message": "broken"}
    assert only(balancers.load_balancer("dc1", target)).severity == "warning"


# Pod security

NET = {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
ROOT = {"volumes": [{"name": "x", "hostPath": {"path": "/"}}], "containers": []}
GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize(
    ("pod", "baseline", "restricted"),
    [
        ({"containers": [{"securityContext": GOOD}]}, [], []),
        (
            {
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
                ],
            },
            [],
            [],
        ),
        ({"containers": [{"securityContext": GOOD | NET}]}, [], []),
        (
            {"containers": [{}]},
            [],
            [
                "allowPrivilegeEscalation is not false",
                "capabilities are not dropped",
                "no seccompProfile",
                "runAsNonRoot is not true",
            ],
        ),
        ({"containers": [{"securityContext": GOOD | {"runAsNonRoot": False}}]}, [], ["runAsNonRoot is not true"]),
        ({"hostNetwork": True, "containers": []}, ["hostNetwork"], ["hostNetwork"]),
        (ROOT, ["hostPath volume"], ["hostPath volume"]),
        ({"containers": [{"securityContext": GOOD, "ports": [{"hostPort": 8502}]}]}, ["hostPort"], ["hostPort"]),
        ({"initContainers": [{"securityContext": GOOD | {"privileged": True}}]}, ["privileged"], ["privileged"]),
        (
            {"containers": [{"securityContext": GOOD | {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}]},
            ["capability NET_ADMIN"],
            ["capability NET_ADMIN"],
        ),
        ({}, [], []),
    ],
)  # fmt: skip
def test_pods_are_judged_by_the_pod_security_standards(pod, baseline, restricted):
    """The fields that charts of this kind get wrong, init containers included."""
    assert list(pod_security.violations(pod, "baseline")) == baseline
    assert list(pod_security.violations(pod, "restricted")) == restricted


@pytest.mark.parametrize(
    ("level", "severity"), [("restricted", "warning"), ("baseline", "ok"), ("privileged", "ok"), ("", "ok")]
)
def test_a_namespace_that_would_refuse_the_charts_pods_is_a_warning(target, api, level, severity):
    """Judged on what Helm renders, hooks included; which objects, and what about them, is named."""
    ready(api)
    labels = {pod_security.LABEL: level} if level else {}
    api.answers[f"GET {CONSUL}"] = 200, {"metadata": {"name": "consul", "labels": labels}}
    found = only(pod_security.pod_security("dc1", target))
    assert found.severity == severity, found
    if severity == "warning":
        assert "StatefulSet consul-server" in found.found
        assert found.found.count("no seccompProfile") == 1, "what is the same for ten objects is said once"
        assert f"{pod_security.LABEL}=privileged" in found.hint


def test_a_namespace_that_is_not_there_yet_enforces_nothing(target):
    """And Helm need not render anything then."""
    assert only(pod_security.pod_security("dc1", target)).severity == "ok"


def test_a_secret_that_the_parameters_refer_to_is_not_left_over(aimed, api):
    """Its maker was told to put it there; a hint to delete it would cost a key."""
    there = named("consul-gossip-encryption-key", "consul-bootstrap-acl-token")
    api.answers[f"GET {CONSUL}/secrets"] = lambda asked: no_release(asked) or there
    own = {
        "global": {
            "acls": {"bootstrapToken": {"secretName": "consul-bootstrap-acl-token", "secretKey": "token"}}
        }
    }
    looked = aimed(gossip_key={"secret": "consul-gossip-encryption-key"}, values=own)
    assert only(existing.leftovers("dc1", looked)).severity == "ok"


def test_gossip_that_is_said_to_be_off_is_off(aimed, api):
    """Also where the user's own values say so in the chart's words."""
    looked = aimed(gossip_encryption=False, values={"global": {"gossipEncryption": {"autoGenerate": False}}})
    looked_values = dict(looked.values())
    record = stored(3, runner=gone(), **looked_values)
    api.answers[f"GET {CONSUL}/secrets"] = 200, {"items": [record]}
    assert only(existing.existing_release("dc1", looked)).severity == "ok"


def test_nodes_that_are_made_on_demand_are_only_warned_of(aimed, api):
    """Karpenter and its kind add a node when a pod needs one."""
    made = node("a")
    made["metadata"]["labels"] = {"karpenter.sh/nodepool": "default"}
    api.answers["GET /api/v1/nodes"] = listed(made)
    assert only(clusters.capacity("dc1", aimed(servers=3))).severity == "warning"
