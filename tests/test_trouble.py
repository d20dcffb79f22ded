"""What keeps pods from being ready, said in one line."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.steps.trouble import pod_trouble


def pod(name: str = "consul-server-0", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def waiting(reason: str, message: str = "", kind: str = "containerStatuses") -> dict[str, Any]:
    return {kind: [{"name": "consul", "state": {"waiting": {"reason": reason, "message": message}}}]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                          "message": "0/1 nodes are available"}]}, "Unschedulable: 0/1 nodes are available"),
        (waiting("CrashLoopBackOff", "back-off 40s restarting failed container"), "CrashLoopBackOff"),
        (waiting("ImagePullBackOff", "no such image", "initContainerStatuses"), "ImagePullBackOff: no such image"),
        (waiting("CreateContainerConfigError", "couldn't find key x\n in Secret y"),
         "CreateContainerConfigError: couldn't find key x in Secret y"),
    ],
    ids=["no node", "crash", "image", "secret"],
)  # fmt: skip
def test_what_keeps_a_pod_from_starting_is_said(status, words):
    """With the pod's name."""
    assert pod_trouble([pod(**status)]) == f"consul-server-0: {words}"


@pytest.mark.parametrize(
    "status",
    [
        {},
        waiting("PodInitializing"),
        waiting("ContainerCreating"),
        {"containerStatuses": [{"name": "consul", "ready": False, "state": {"running": {}}}]},
        {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]},
    ],
)
def test_a_pod_that_is_starting_is_no_trouble(status):
    """Every pod does that for some seconds."""
    assert pod_trouble([pod(**status)]) == ""


def test_the_same_reason_of_many_pods_is_said_once():
    """Three servers that crash alike are one line."""
    pods = [pod(f"consul-server-{i}", **waiting("CrashLoopBackOff", f"back-off {i}s")) for i in range(3)]
    assert pod_trouble(pods) == "consul-server-0: CrashLoopBackOff"
