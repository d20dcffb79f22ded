"""The Pod that tries gateways before any server runs: what it asks of a cluster, what is made of its end, and its end.

A real one runs in the end-to-end tests; here an API server says what a test wrote down.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consulfed_lib import helm
from consulfed_lib.checks.pod_security import violations
from consulfed_lib.probe import Outcome, Pod
from consulfed_lib.probe.connection import CONSUL_ONLY
from consulfed_lib.runner import runner_label

from .conftest import HttpsServer, Request

PODS = "/api/v1/namespaces/consul/pods"
ONE, TWO = "10.0.0.1:443", "10.0.0.2:443"
BAD = "remote error: tls: bad certificate"


@pytest.fixture
def pod(cluster) -> Pod:
    return Pod(
        cluster, "consul", "consul-federation", (ONE, TWO), "server.dc1.consul", {}, "hashicorp/consul:1.22.7"
    )


def said(address: str, words: str) -> str:
    return f'Error listing datacenters: Get "https://{address}/v1/catalog/datacenters": {words}\n'


def terminated(code: int = 1, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code} | more}


class PodApi:
    """Pods of an API server as one made Pod sees them: its status at each look, and its containers' logs."""

    def __init__(self, api: HttpsServer):
        self.api = api
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.logs: dict[str, str] = {}
        self.left: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any] | None] = []
        self.status: dict[str, Any] | None = {}
        api.answers[f"POST {PODS}"] = self._make
        api.answers[f"GET {PODS}"] = lambda asked: (
            200,
            {"items": [] if "watch" in asked.query else self.left},
        )

        self.log: Callable[[str], str] = lambda container: self.logs.get(container, "")

    def _make(self, asked: Request) -> tuple[int, Any]:
        name = asked.body["metadata"]["name"]
        self.made.append(asked.body)
        path = f"{PODS}/{name}"
        self.api.answers[f"GET {path}"] = self._look
        self.api.answers[f"GET {path}/log"] = lambda one: (200, self.log(one.query["container"]).encode())
        self.deletable(name)
        return 201, asked.body

    def deletable(self, name: str) -> None:
        def delete(asked: Request) -> tuple[int, Any]:
            self.deleted.append(name)
            assert asked.body["gracePeriodSeconds"] == 0
            return 200, {}

        self.api.answers[f"DELETE {PODS}/{name}"] = delete

    def _look(self, asked: Request) -> tuple[int, Any]:
        if self.statuses:
            self.status = self.statuses.pop(0)
        if self.status is None:
            return 404, {"message": "gone"}
        return 200, {"metadata": {"name": asked.path}, "status": self.status}

    def containers(self, *states: dict[str, Any], **more: Any) -> None:
        names = [{"name": f"gateway-{i}", "state": state} for i, state in enumerate(states)]
        self.statuses.append({"containerStatuses": names} | more)


@pytest.fixture
def pods(api) -> PodApi:
    return PodApi(api)


# What it asks for


def test_it_asks_for_nothing_that_the_restricted_level_refuses(pod):
    """A namespace may enforce that; and no service account's token, no Service's environment goes into it."""
    spec = pod.manifest("x", 60)["spec"]
    assert list(violations(spec, "restricted")) == []
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 60
    assert all(each["resources"]["limits"].keys() >= {"cpu", "memory"} for each in spec["containers"])


def test_of_the_secret_it_sees_the_ca_certificate_alone(pod):
    """The CA's key, the token and the gossip key are in the same Secret."""
    spec = pod.manifest("x", 60)["spec"]
    (volume,) = spec["volumes"]
    assert volume["secret"] == {
        "secretName": "consul-federation", "items": [{"key": "caCert", "path": "caCert"}],
    }  # fmt: skip
    assert "consul-federation" not in str(spec["containers"])


def test_each_gateway_has_a_container_that_runs_the_cli(pod):
    """With the words that the sandbox's kubelet knows, too; and without HTTP/2, which Consul's servers refuse."""
    first, second = pod.manifest("x", 60)["spec"]["containers"]
    assert first["command"] == [
        "consul", "catalog", "datacenters", f"-http-addr=https://{ONE}", "-tls-server-name=server.dc1.consul",
        "-ca-file=/consulfed/caCert", "-token=none",
    ]  # fmt: skip
    assert f"-http-addr=https://{TWO}" in second["command"]
    assert first["env"] == [{"name": "GODEBUG", "value": "http2client=0"}]
    assert (first["name"], second["name"]) == ("gateway-0", "gateway-1")


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "hashicorp/consul:1.22.7"),
        ({"global": {"image": "registry.example.com/consul:1"}}, "registry.example.com/consul:1"),
        ({"global": {"image": "a"}, "server": {"image": "b"}}, "b"),
        ({"global": {"image": None}, "server": {"image": None}}, "hashicorp/consul:1.22.7"),
    ],
)
def test_the_image_is_the_one_of_the_servers(pod, values, image):
    """A registry of one's own is often the only one that a cluster may pull from."""
    assert {
        each["image"] for each in replace(pod, values=values).manifest("x", 60)["spec"]["containers"]
    } == {image}


def test_it_runs_where_and_as_whom_the_servers_will(pod):
    """Pull secrets, nodes and user are those of the values; templates, which only Helm could fill in, are left out."""
    values = {
        "global": {"imagePullSecrets": [{"name": "pull"}], "imagePullPolicy": "Always"},
        "server": {
            "nodeSelector": "pool: consul\n",
            "tolerations": "- {key: dedicated, operator: Exists}\n",
            "securityContext": {"runAsUser": 5000, "fsGroup": 1},
        },
    }
    spec = replace(pod, values=values).manifest("x", 60)["spec"]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["nodeSelector"] == {"pool": "consul"}
    assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert spec["securityContext"]["runAsUser"] == 5000
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    odd = {"server": {"nodeSelector": "{{ .Values.x }}", "tolerations": "a: b: c"}}
    assert not {"nodeSelector", "tolerations"} & replace(pod, values=odd).manifest("x", 60)["spec"].keys()


def test_openshift_chooses_the_user_itself(pod):
    """A Pod that names one is refused there."""
    spec = replace(pod, values={"global": {"openshift": {"enabled": True}}}).manifest("x", 60)["spec"]
    assert "runAsUser" not in spec["securityContext"]


def test_no_mesh_takes_it_in(pod):
    """A sidecar would take its connection, and never end."""
    metadata = pod.manifest("x", 60)["metadata"]
    assert metadata["annotations"]["consul.hashicorp.com/connect-inject"] == "false"
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"


# What is made of its end


def test_each_containers_log_is_judged_and_the_pod_is_gone(pod, pods):
    """Waited for by a watch; two gateways, two outcomes."""
    pods.containers({"waiting": {"reason": "ContainerCreating"}}, {"running": {}})
    pods.containers(terminated(), terminated())
    pods.logs = {"gateway-0": said(ONE, BAD), "gateway-1": said(TWO, "dial tcp: connect: connection refused")}
    assert pod.run(30) == {ONE: Outcome("tls", "bad certificate"), TWO: Outcome("refused")}
    (made,) = pods.made
    assert made["metadata"]["name"].startswith("consulfed-probe-")
    assert pods.deleted == [made["metadata"]["name"]]


def test_an_exit_code_of_the_cli_means_nothing(pod, pods):
    """Releases differ in it; what was said counts, and an answer without an error is one."""
    pods.containers(terminated(0), terminated(0))
    pods.logs = {"gateway-0": said(ONE, BAD), "gateway-1": "dc1\n"}
    assert pod.run(30) == {ONE: Outcome("tls", "bad certificate"), TWO: Outcome("http", "200")}


def test_a_server_that_refuses_even_so_leaves_the_chain_unchecked(pod, pods):
    """Should a CLI offer HTTP/2 whatever it is told."""
    pods.containers(terminated(), terminated())
    pods.logs = dict.fromkeys(
        ("gateway-0", "gateway-1"), said(ONE, "remote error: tls: no application protocol")
    )
    assert pod.run(30)[ONE] == Outcome("unchecked", CONSUL_ONLY, chain=False)


def test_a_closed_connection_is_tried_once_more(pod, pods):
    """By another Pod, for that gateway alone."""
    pods.containers(terminated(), terminated())
    pods.containers(terminated())
    logs = iter([said(ONE, BAD), said(TWO, "EOF"), said(TWO, BAD)])
    pods.log = lambda container: next(logs)
    assert pod.run(30) == dict.fromkeys((ONE, TWO), Outcome("tls", "bad certificate"))
    assert [len(made["spec"]["containers"]) for made in pods.made] == [2, 1]
    assert len(pods.deleted) == 2


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (
            {"reason": "ImagePullBackOff", "message": "no such image"},
            "not-run",
            "ImagePullBackOff: no such image",
        ),
        (
            {"reason": "CreateContainerConfigError", "message": "secret not found"},
            "not-run",
            "secret not found",
        ),
    ],
)
def test_a_container_that_will_never_start_is_not_waited_for(pod, pods, status, kind, words):
    """An image that cannot be had: the kubelet's own words, at once."""
    pods.containers({"waiting": status}, {"waiting": status})
    found = pod.run(3000)
    assert {each.kind for each in found.values()} == {kind}
    assert words in found[ONE].detail
    assert len(pods.deleted) == 1


def test_a_pod_without_a_node_is_told_in_the_schedulers_words(pod, pods):
    """At the deadline; the scheduler might have found one."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pods.statuses.append({"phase": "Pending", "conditions": [condition]})
    assert pod.run(0)[ONE] == Outcome("not-run", "Unschedulable: 0/3 nodes")
    assert len(pods.deleted) == 1


def test_a_command_that_does_not_end_got_no_answer(pod, pods):
    """The other gateway's container never ran, and says nothing about the network."""
    pods.containers({"running": {}}, {"waiting": {"reason": "ContainerCreating"}})
    found = pod.run(0)
    assert found[ONE].kind == "timeout"
    assert found[TWO] == Outcome("not-run", "it did not end within 0 s")


def test_a_container_that_was_killed_without_a_word_proves_nothing(pod, pods):
    """Out of memory, or a node that went."""
    pods.containers(terminated(137, reason="OOMKilled"), terminated(128, message="exec: consul: not found"))
    assert [each.detail for each in pod.run(30).values()] == ["OOMKilled", "exec: consul: not found"]


def test_a_pod_that_somebody_deleted_proves_nothing(pod, pods):
    """Or that was evicted with its node."""
    pods.statuses.append(None)
    assert pod.run(30)[ONE].kind == "not-run"


def test_a_cluster_that_refuses_it_is_named(pod, pods, api):
    """A policy, a quota, a missing right: nothing is proven, and nothing is broken."""
    api.answers[f"POST {PODS}"] = 403, {"message": 'pods "x" is forbidden: violates PodSecurity'}
    found = pod.run(30)
    assert {each.kind for each in found.values()} == {"not-run"}
    assert "violates PodSecurity" in found[ONE].detail
    assert any(each.startswith(f"DELETE {PODS}/consulfed-probe-") for each in api.asked())


def test_without_an_image_or_a_gateway_there_is_no_pod(pod, pods):
    """Nothing is asked of the cluster."""
    assert replace(pod, image="").run(30)[ONE].kind == "not-run"
    assert replace(pod, gateways=()).run(30) == {}
    assert not pods.made


# Its end


def test_it_is_deleted_when_the_wait_is_interrupted(pod, pods, monkeypatch):
    """A person stops the run; nothing of it stays in the cluster."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("consulfed_lib.probe.pod.wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pod.run(30)
    assert pods.deleted == [made["metadata"]["name"] for made in pods.made]


def left(name: str, phase: str, runner: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {helm.RUNNER_LABEL: runner}}, "status": {"phase": phase}}


def test_what_killed_runs_left_is_swept_and_nobody_elses(pod, pods, api):
    """Found by its label; one whose run still lives, here or on another machine, is left alone."""
    gone = runner_label().rsplit(".", 1)[0] + ".1"
    pods.left = [
        left("ended", "Failed", "elsewhere.1.1"),
        left("orphan", "Running", gone),
        left("of-our-parent", "Running", runner_label(os.getppid())),
        left("of-another-machine", "Running", "elsewhere.1.1"),
    ]
    for each in pods.left:
        pods.deletable(each["metadata"]["name"])
    assert pod.sweep() == pods.deleted == ["ended", "orphan"]
    assert api.requests[0].query == {"labelSelector": "consulfed-probe"}


def test_each_run_sweeps_before_it_begins(pod, pods):
    """A killed run must not need somebody who remembers it."""
    pods.left = [left("ended", "Succeeded", "elsewhere.1.1")]
    pods.deletable("ended")
    pods.containers(terminated(), terminated())
    pod.run(30)
    assert pods.deleted[0] == "ended"
