"""Why pods are not ready, in the cluster's own words: what a wait that ends without them has to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_STARTING = {"", "ContainerCreating", "PodInitializing"}
"""Reasons that every pod gives for some seconds."""

_MOST = 200


def pod_trouble(pods: Iterable[Mapping[str, Any]]) -> str:
    """`pod: reason: message` of each pod that something keeps from starting, one for each reason; empty if none.

    A pod that starts, or that runs and is not ready yet, is no trouble; a crash is, and so is a pod without node.
    """
    found: dict[str, str] = {}
    for pod in sorted(pods, key=lambda each: each["metadata"]["name"]):
        for what in _reasons(pod):
            found.setdefault(what, f"{pod['metadata']['name']}: {what}"[:_MOST])
    return "; ".join(found.values())


def _reasons(pod: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield _said(condition)
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason", "") not in _STARTING:
                yield _said(waiting)


def _said(about: Mapping[str, Any]) -> str:
    """`reason: message`; the times in a back-off's message change with each try and are left out."""
    reason, message = str(about.get("reason", "")), " ".join(str(about.get("message", "")).split())
    return reason if reason == "CrashLoopBackOff" else f"{reason}: {message}".strip(": ")
