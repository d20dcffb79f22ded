"""Workloads in the mesh whose sidecars are from before TLS: they go on with what they know, and learn nothing new.

A sidecar has from its injection on how it asks Consul (consul-facts: charts from 1.0 on switch port 8502 to TLS). Only
a restart of its pod gives it a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..cluster import Cluster, resource_path
from ..errors import ClusterError
from ..params import Federation
from ..results import Change, now, several
from ..waiting import Seen, wait_for

_INJECTED = "consul.hashicorp.com/connect-inject-status=injected"
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation by which `kubectl rollout restart` changes a template."""

_RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


@dataclass(frozen=True, order=True)
class Workload:
    """What owns pods with such sidecars; of kind `Pod` where nobody does, so that nobody makes them again."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Workloads:
    """The mesh of one cluster, as far as it needs a restart."""

    params: Federation
    cluster: Cluster
    subject: str

    def outdated(self) -> list[Workload]:
        """Raises ClusterError, with status 403 where pods of all namespaces may not be listed."""
        pods = self.cluster.list("pods", "", _INJECTED)
        return sorted({_owner(pod) for pod in pods if _from_before_tls(pod)})

    def planned(self) -> Change:
        """A row for the plan: what would be restarted, or has to be by who knows when it may be."""
        try:
            found = self.outdated()
        except ClusterError as error:
            if error.status != 403:
                raise
            return self._row("unchanged", _UNSEEN)
        if not found:
            return self._row("unchanged", "no sidecar is from before TLS")
        restarts = self.params.upgrade.restart_workloads
        return self._row("would restart" if restarts else "unchanged", _told(found, restarts))

    def apply(self) -> Change:
        """Restart them, where the parameters say so, and wait until no sidecar from before TLS is left."""
        if not self.params.upgrade.restart_workloads:
            return self.planned()
        found = [each for each in self.outdated() if each.kind in _RESOURCES]
        for each in found:
            annotation = {"metadata": {"annotations": {_RESTARTED: now()}}}
            self.cluster.request(
                "PATCH",
                resource_path(_RESOURCES[each.kind], each.namespace, each.name),
                {"spec": {"template": annotation}},
                content_type="application/merge-patch+json",
            )
        if found:
            with self.cluster.watching(resource_path("pods")) as bell:
                wait_for(
                    f"{self.subject}: workloads with sidecars from before TLS",
                    self._look,
                    self.params.timeouts.ready,
                    until_changed=bell.wait,
                    hint="see why their new pods do not start; then run this notebook again",
                )
        left = self.outdated()
        words = [f"restarted: {_names(found)}"] if found else []
        words += [_told(left, False)] if left else []
        return self._row(
            "changed" if found else "unchanged", "; ".join(words) or "no sidecar is from before TLS"
        )

    def _look(self) -> Seen:
        left = [each for each in self.outdated() if each.kind in _RESOURCES]
        return Seen(not left, f"{several(len(left), 'workload')} left")

    def _row(self, outcome: str, what: str) -> Change:
        return Change("workloads", self.subject, outcome, what)


_UNSEEN = "sidecars from before TLS were not looked for: no right to list the pods of all namespaces"


def _told(found: list[Workload], restarts: bool) -> str:
    if restarts:
        return f"pods of {_names(found)}: their sidecars are from before TLS"
    return (
        f"to be restarted by you, or with upgrade.restart_workloads: {_names(found)}; until then their sidecars, which"
        " are from before TLS, learn of no change in the mesh"
    )


def _names(found: list[Workload]) -> str:
    return ", ".join(map(str, found))


def _from_before_tls(pod: Mapping[str, Any]) -> bool:
    """consul-dataplane (charts from 1.0 on) is told so by an argument, Envoy before it by the URL of the agent."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    return any(_plain(each) for each in containers)


def _plain(container: Mapping[str, Any]) -> bool:
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if any(word in ("-tls-disabled", "-tls-disabled=true") for word in words):
        return True
    said = {each["name"]: each.get("value") or "" for each in container.get("env") or []}
    return said.get("CONSUL_HTTP_ADDR", "").startswith("http://")


def _owner(pod: Mapping[str, Any]) -> Workload:
    metadata = pod["metadata"]
    for reference in _controllers(metadata):
        kind, name = reference["kind"], reference["name"]
        if kind == "ReplicaSet":
            # Named after its Deployment and this label; to ask for it would take one more right in every namespace.
            hash_ = metadata.get("labels", {}).get("pod-template-hash", "")
            kind, name = "Deployment", name.removesuffix(f"-{hash_}")
        if kind in _RESOURCES:
            return Workload(metadata["namespace"], kind, name)
    return Workload(metadata["namespace"], "Pod", metadata["name"])


def _controllers(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (each for each in metadata.get("ownerReferences") or [] if each.get("controller"))
