"""A trial of service traffic: what is made, what a call's end means, and what is found of it.

The calls themselves, through real sidecars and gateways, are in the end-to-end tests.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.pod_security import violations
from consulfed_lib.errors import ApplyError, ApprovalError, WaitTimeoutError
from consulfed_lib.params import Federation
from consulfed_lib.results import Change, Changes, Finding
from consulfed_lib.runner import RUNNER_LABEL, runner_label
from consulfed_lib.steps.base import Action
from consulfed_lib.steps.plan import Plan
from consulfed_lib.steps.traffic import (
    Traffic,
    intentions_served,
    traffic_allowed,
    traffic_cleaned,
    traffic_free,
    traffic_refused,
)
from consulfed_lib.streams import TIMED_OUT, Completed
from consulfed_lib.traffic import manifests, objects
from consulfed_lib.traffic.calls import Call, command, judge
from consulfed_lib.traffic.settings import Pair, Settings
from consulfed_lib.traffic.trial import Evidence, Trial

from .conftest import ConsulServer

SPACE = Settings().namespace
GONE = "another-machine.1.1"
REFUSED, ANSWERED, FAILED = (
    Call("refused", "no answer (curl 52)"),
    Call("answered", "dc2 answers"),
    Call("failed", "HTTP 500"),
)
PAIR = Pair("dc1", "dc2")


# Which pairs


def test_the_primary_is_tried_with_each_secondary_both_ways():
    """Secondaries with each other only where that is asked for: their number grows with the square."""
    names = ["dc1", "dc2", "dc3"]
    assert Pair("dc2", "dc3") not in Settings().chosen(names)
    assert len(Settings().chosen(names)) == 4
    assert len(Settings(pairs="all").chosen(names)) == 6


# What is made


@pytest.fixture
def made() -> list[dict[str, Any]]:
    return manifests.workloads(Settings(), "dc1", ["dc2", "dc3"])


def of_kind(made: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in made if each["kind"] == kind}


def test_account_service_and_deployment_have_the_services_name(made):
    """With ACLs consul-k8s refuses a pod whose service account has another name, and without a Service it
    registers none."""
    names = {"consulfed-echo-dc1", "consulfed-caller-dc1"}
    for kind in ("ServiceAccount", "Service", "Deployment"):
        assert of_kind(made, kind).keys() == names
    for name, deployment in of_kind(made, "Deployment").items():
        pod = deployment["spec"]["template"]
        assert pod["spec"]["serviceAccountName"] == name
        assert of_kind(made, "Service")[name]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_the_caller_has_an_upstream_on_a_port_of_its_own_for_each_datacenter(made):
    """Explicit ones: a transparent proxy would take rights that the restricted level refuses."""
    pod = of_kind(made, "Deployment")["consulfed-caller-dc1"]["spec"]["template"]
    annotations = pod["metadata"]["annotations"]
    wanted = "consulfed-echo-dc2:1234:dc2,consulfed-echo-dc3:1235:dc3"
    assert annotations["consul.hashicorp.com/connect-service-upstreams"] == wanted
    assert annotations["consul.hashicorp.com/connect-inject"] == "true"
    assert annotations["consul.hashicorp.com/transparent-proxy"] == "false"


def test_a_datacenter_that_calls_nobody_has_no_caller():
    """Each pod costs a sidecar."""
    assert of_kind(manifests.workloads(Settings(), "dc2", []), "Deployment").keys() == {"consulfed-echo-dc2"}


def test_the_pods_are_accepted_at_the_restricted_level(made):
    """A namespace that enforces it must not be a reason not to try."""
    for deployment in of_kind(made, "Deployment").values():
        assert list(violations(deployment["spec"]["template"]["spec"], "restricted")) == []


def test_openshift_chooses_the_user_itself():
    """It refuses a user that is not of the namespace's own range."""
    made = manifests.workloads(Settings(), "dc1", [], openshift=True)
    pod = of_kind(made, "Deployment")["consulfed-echo-dc1"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True}


def test_everything_has_the_label_and_the_runner_but_pods(made):
    """By the label it is found again, by the runner it is told whether somebody is still at work. A pod that had the
    runner would be replaced by the next run's."""
    for each in [
        *made,
        manifests.namespace(Settings()),
        manifests.intention(Settings(), "dc2", ["dc1"], "allow"),
    ]:
        assert each["metadata"]["labels"].keys() == {manifests.LABEL, RUNNER_LABEL}
    for deployment in of_kind(made, "Deployment").values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert manifests.LABEL in labels
        assert RUNNER_LABEL not in labels


# What a call's end means


@pytest.mark.parametrize(
    ("code", "stdout", "kind"),
    [
        (0, "dc2\n\n200 0.007", "answered"),
        (0, "dc3\n\n200 0.007", "failed"),
        (0, "no healthy upstream\n503 0.002", "refused"),
        (0, "RBAC: access denied\n403 0.002", "refused"),
        (0, "oops\n500 0.002", "failed"),
        (52, "\n000 0.003", "refused"),
        (56, "\n000 0.003", "refused"),
        (7, "\n000 0.000", "failed"),
        (28, "\n000 5.001", "failed"),
        (TIMED_OUT, "", "failed"),
        (126, "", "failed"),
    ],
)
def test_only_an_ended_connection_is_a_refusal(code, stdout, kind):
    """A timeout, a missing listener or another answer tells nothing of intentions."""
    assert judge(Completed(("curl",), code, stdout, "curl: words"), "dc2").kind == kind


def test_an_answer_has_the_time_that_curl_measured():
    """Not that of the exec around it."""
    assert judge(Completed(("curl",), 0, "dc2\n\n200 0.0071", ""), "dc2").seconds == 0.0071


def test_the_command_is_one_that_people_can_type():
    """It asks the pod's own localhost, with a limit."""
    words = command(1234)
    assert words[:4] == ["curl", "-sS", "--max-time", "5"]
    assert words[-1] == "http://localhost:1234"


# The checks


@pytest.fixture
def trial(consul_server: Callable[..., ConsulServer], federation: Callable[..., Any]) -> Trial:
    """A trial of two datacenters whose API servers and Consuls answer what `trial.servers` says."""
    params = federation(timeouts={"install": 1, "ready": 1, "federation": 1})
    servers = {of.datacenter: consul_server(of.datacenter) for of in params.clusters}
    datacenters = []
    for of in params.clusters:
        server = servers[of.datacenter]
        datacenters.append(Datacenter(params, of, server.cluster, server.client))
        server.answers("catalog/services", {"consul": []})
        server.answers("connect/intentions/check", {"Allowed": False})
        for kind in objects.KINDS:
            server.api.answers[f"GET {objects.path(kind, SPACE)}"] = 200, {"items": []}
    found = Trial(params, Settings(), datacenters)
    found.servers = servers  # type: ignore[attr-defined]
    return found


def severity(found: list[Finding]) -> str:
    (one,) = found
    return one.severity


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (REFUSED, REFUSED, "ok"),
        (ANSWERED, REFUSED, "error"),
        (REFUSED, ANSWERED, "error"),
        (FAILED, REFUSED, "error"),
        (REFUSED, FAILED, "error"),
        (REFUSED, None, "skipped"),
        (None, None, "skipped"),
    ],
)
def test_refused_means_before_the_intention_and_after_it(trial, before, after, expected):
    """An answer then is an open door, another failure is no refusal, and what was not called is not proven."""
    trial.evidence[PAIR] = Evidence(before=before, after=after)
    assert severity(traffic_refused(str(PAIR), trial, PAIR)) == expected


@pytest.mark.parametrize(
    ("call", "expected"), [(ANSWERED, "ok"), (REFUSED, "error"), (FAILED, "error"), (None, "skipped")]
)
def test_allowed_means_an_answer_of_the_other_datacenter(trial, call, expected):
    """Nothing else."""
    trial.evidence[PAIR] = Evidence(allowed=call, latencies=[0.007])
    assert severity(traffic_allowed(str(PAIR), trial, PAIR)) == expected


def test_nothing_left_is_clean(trial):
    """Looked at in the cluster, in the catalog, and at the intentions."""
    for name, dc in trial.datacenters.items():
        assert severity(traffic_cleaned(name, trial, dc)) == "ok"


def labelled(kind: str, name: str, runner: str = "") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": SPACE,
            "labels": {manifests.LABEL: "echo", RUNNER_LABEL: runner},
        }
    }


@pytest.mark.parametrize("kind", [kind for kind in objects.KINDS if kind != "ServiceIntentions"])
def test_an_object_that_is_left_is_named(trial, kind):
    """Of whichever kind, in whichever cluster."""
    left = {"items": [labelled(kind, "x")]}
    trial.servers["dc2"].api.answers[f"GET {objects.path(kind, SPACE)}"] = 200, left
    (found,) = traffic_cleaned("dc2", trial, trial.datacenters["dc2"])
    assert (found.severity, f"{kind} x" in found.found) == ("error", True)


def test_a_namespace_of_ours_that_is_left_is_named(trial):
    """One without our label was there before, and is nobody's to delete."""
    server, dc = trial.servers["dc2"], trial.datacenters["dc2"]
    path = f"GET /api/v1/namespaces/{SPACE}"
    server.api.answers[path] = 200, {"metadata": {"name": SPACE, "labels": {}}}
    assert severity(traffic_cleaned("dc2", trial, dc)) == "ok"
    server.api.answers[path] = 200, manifests.namespace(Settings())
    assert severity(traffic_cleaned("dc2", trial, dc)) == "error"


def test_a_service_that_consul_still_has_is_named(trial):
    """The cluster may be clean while Consul still sends callers there."""
    trial.servers["dc1"].answers("catalog/services", {"consulfed-echo-dc1-sidecar-proxy": []})
    (found,) = traffic_cleaned("dc1", trial, trial.datacenters["dc1"])
    assert "consulfed-echo-dc1-sidecar-proxy in Consul" in found.found


def test_an_intention_that_still_holds_is_named(trial):
    """The resource may be gone while Consul still lets the caller in."""
    trial.servers["dc2"].answers("connect/intentions/check", {"Allowed": True})
    (found,) = traffic_cleaned("dc2", trial, trial.datacenters["dc2"])
    assert (found.severity, "an intention to consulfed-echo-dc2" in found.found) == ("error", True)


@pytest.mark.parametrize(
    ("runner", "expected"),
    [(GONE, "error"), ("", "ok"), (runner_label(), "ok")],
    ids=["another", "none", "this one"],
)
def test_two_runs_do_not_try_in_the_same_clusters(trial, runner, expected):
    """Whether another machine's run is still at work cannot be known; our own left-overs are removed."""
    left = {"items": [labelled("Deployment", "x", runner)]}
    trial.servers["dc1"].api.answers[f"GET {objects.path('Deployment', SPACE)}"] = 200, left
    assert severity(traffic_free("dc1", trial, trial.datacenters["dc1"])) == expected
    assert severity(traffic_free("dc2", trial, trial.datacenters["dc2"])) == "ok"


def test_a_cluster_that_knows_no_intentions_cannot_be_tried(trial):
    """Without them nothing can be allowed."""
    assert severity(intentions_served("dc1", trial)) == "ok"
    del trial.servers["dc1"].api.answers[f"GET {objects.path('ServiceIntentions', SPACE)}"]
    assert severity(intentions_served("dc1", trial)) == "error"


def test_where_everybody_may_call_it_is_forbidden_first(trial):
    """Without ACLs the first call would be answered, and would prove nothing."""
    api, consul = trial.servers["dc1"].api, trial.servers["dc2"]
    written: list[str] = []
    path = objects.path("ServiceIntentions", SPACE, "consulfed-echo-dc2")

    def write(asked: Any) -> tuple[int, Any]:
        (source,) = asked.body["spec"]["sources"]
        written.append(source["action"])
        consul.answers("connect/intentions/check", {"Allowed": source["action"] == "allow"})
        return 200, asked.body

    api.answers[f"PATCH {path}"] = write
    consul.answers("connect/intentions/check", {"Allowed": True})
    assert trial.forbid_by_default("dc2")
    trial.allow("dc2")
    trial.forbid("dc2")
    assert written == ["deny", "allow", "deny"]
    assert not trial.forbid_by_default("dc1")


def test_what_does_not_go_away_ends_the_wait_with_its_name(trial):
    """Clean-up is proven, not assumed."""
    api = trial.servers["dc2"].api
    api.answers[f"GET {objects.path('Service', SPACE)}"] = 200, {"items": [labelled("Service", "stuck")]}
    api.answers[f"DELETE {objects.path('Service', SPACE, 'stuck')}"] = 200, {}
    with pytest.raises(WaitTimeoutError, match="Service stuck"):
        trial.clean(trial.datacenters["dc2"])


# The step


class Trying(Traffic):
    """The step with a world of nothing: what it does when it ends is its own."""

    trial = SimpleNamespace(datacenters={"dc1": "one", "dc2": "two"})  # type: ignore[assignment]

    def __init__(self, params: Federation):
        super().__init__("05-cross-datacenter-traffic", params)
        self.cleaned: list[str] = []

    def look_before(self) -> list[Finding]:
        return [Finding("x", "dc1", "ok", "fine")]

    def planned(self) -> Plan:
        return Plan(Changes("Plan", [Change("traffic-workloads", "dc1", "would create", "x")]))

    def changed_clusters(self) -> list[Any]:
        return []

    def actions(self) -> list[Action]:
        def fail() -> Change:
            raise ApplyError("No.")

        return [fail]

    def _clean_after_failure(self, dc: Any) -> None:
        self.cleaned.append(dc)


def test_what_was_begun_is_removed_and_what_was_not_confirmed_is_left_alone(federation, monkeypatch):
    """Whoever does not type the federation's name has nothing deleted, either."""
    step = Trying(federation(dry_run=False, mode="interactive"))
    monkeypatch.setattr(builtins, "input", lambda question: "dc1")
    with pytest.raises(ApprovalError, match="not test; nothing was written"):
        step.apply()
    assert step.cleaned == []
    monkeypatch.setattr(builtins, "input", lambda question: "test")
    with pytest.raises(ApplyError):
        step.apply()
    assert step.cleaned == ["one", "two"]
