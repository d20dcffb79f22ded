"""What 90 does in the cluster that leaves: Consul uninstalled there, or kept, and the federation secret removed.

The servers are stopped before anything else, while their gateway is up, so that they can tell the others that they
leave. Helm takes both away at once; whom the others were not told of they miss after a minute or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import helm
from ..checks.existing import server_claims
from ..checks.target import Target
from ..cluster import Cluster, resource_path
from ..errors import ApplyError, ClusterError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Change, several
from ..runner import runner_is_gone
from ..secret import read
from ..waiting import Seen, wait_for
from .base import Action

_IS_HOOK = "helm.sh/hook"


@dataclass(frozen=True)
class Departure:
    """Consul in one cluster, on its way out.

    Attributes:
        undo: how all of it is taken back.
    """

    params: Federation
    of: ClusterParams
    cluster: Cluster
    undo: str

    @property
    def subject(self) -> str:
        return self.of.datacenter

    @property
    def _statefulset(self) -> str:
        return f"{self.params.fullname(self.of)}-server"

    @property
    def _secret(self) -> str:
        return f"secret {self.of.namespace}/{self.params.secret_name}"

    def _pods(self, component: str = "") -> list[dict[str, Any]]:
        labels = f"release={self.of.release}" + (f",component={component}" if component else "")
        return self.cluster.list("pods", self.of.namespace, labels)

    def _release(self) -> helm.Release | None:
        return helm.release(self.cluster, self.of.namespace, self.of.release)

    def claims(self) -> list[str]:
        """The servers' volume claims, which nobody deletes but a person."""
        target = Target(self.params, self.of, self.cluster)
        return sorted(each["metadata"]["name"] for each in server_claims(target))

    # -- plan ---------------------------------------------------------------------------------------------------

    def rows(self) -> list[Change]:
        """A row for each thing that would go, and for what stays."""
        of, release = self.of, self._release()
        name = f"release {of.release}"
        if not self.params.leave.uninstall:
            kept = f"{name}: kept, as leave.uninstall says" if release else f"{name}: not there"
            rows = [Change("release", self.subject, "unchanged", kept)]
        elif release is None and not self._pods():
            rows = [Change("release", self.subject, "unchanged", f"{name}: not there")]
        else:
            servers = f"{several(len(self._pods('server')), 'server')} of {self._statefulset}: stopped first"
            rows = [
                Change("servers", self.subject, "would delete", servers, undo=self.undo),
                Change("release", self.subject, "would delete", name, undo=self.undo),
            ]
        return [*rows, self._secret_row(release is not None), *self._claims_row()]

    def _secret_row(self, installed: bool) -> Change:
        if read(self.cluster, self.of.namespace, self.params.secret_name) is None:
            return Change("federation-secret", self.subject, "unchanged", f"{self._secret}: not there")
        needed = installed and not self.params.leave.uninstall
        what = self._secret + ("; the servers that are kept cannot start again without it" if needed else "")
        return Change("federation-secret", self.subject, "would delete", what, undo=self.undo)

    def _claims_row(self) -> list[Change]:
        if not (claims := self.claims()):
            return []
        there = f"kubectl --context {self.of.context} -n {self.of.namespace}"
        what = f"{', '.join(claims)}: stay, with their data"
        undo = f"before Consul is installed there again: {there} delete pvc {' '.join(claims)}"
        return [Change("volume-claims", self.subject, "unchanged", what, undo=undo)]

    # -- actions ------------------------------------------------------------------------------------------------

    def actions(self) -> list[Action]:
        first: list[Action] = [self.stop_servers, self.uninstall] if self.params.leave.uninstall else []
        return [*first, self.delete_secret]

    def stop_servers(self) -> Change:
        """Each leaves its pools when it is told to end (`leave_on_terminate`), through a gateway that is there."""
        of, name = self.of, self._statefulset
        found = self.cluster.get("statefulsets", of.namespace, name)
        count = found["spec"].get("replicas", 1) if found else 0
        if not count and not self._pods("server"):
            return Change("servers", self.subject, "unchanged", f"none of {name} runs")
        if count:
            path, none = resource_path("statefulsets", of.namespace, name), {"spec": {"replicas": 0}}
            self.cluster.request("PATCH", path, none, content_type="application/merge-patch+json")
        self._wait_for_pods("its servers leave", partial(self._pods, "server"))
        undo = f"kubectl --context {of.context} -n {of.namespace} scale statefulset/{name} --replicas={count}"
        return Change("servers", self.subject, "deleted", f"{several(count, 'server')} of {name}", undo=undo)

    def uninstall(self) -> Change:
        """Helm, hooks included, until the last pod of the release is gone."""
        of, found = self.of, self._release()
        what = f"release {of.release}"
        if found is None and not self._pods():
            return Change("release", self.subject, "unchanged", f"{what}: not there")
        if found:
            if found.pending and not runner_is_gone(found.runner):
                raise ClusterError(
                    f"The {what} in {of.context} is {found.status}: another Helm may be working on it.",
                    "wait for it, then run this again",
                )
            self._clear_hooks()
            print(f"{self.subject}: helm uninstall {of.release} …")
            helm.Helm(self.cluster).uninstall(of.release, of.namespace, self.params.timeouts.install)
            if left := self._release():
                raise ApplyError(
                    f"Helm ended well, but {what} in {of.context} is {left.status}.",
                    f"helm status {of.release} --kube-context {of.context} -n {of.namespace}",
                )
            what += f", {found.chart} {found.version}, revision {found.revision}"
        self._wait_for_pods("Consul ends", self._pods)
        return Change("release", self.subject, "deleted", what, undo=self.undo)

    def _clear_hooks(self) -> None:
        """Hook Jobs of a Helm that was killed: their names are taken, and the next one stops at them."""
        for job in self.cluster.list("jobs", self.of.namespace, f"release={self.of.release}"):
            if _IS_HOOK in (job["metadata"].get("annotations") or {}):
                self.cluster.delete("jobs", self.of.namespace, job["metadata"]["name"])

    def delete_secret(self) -> Change:
        """The imported copy; the primary's own is another cluster's."""
        where, name = self.of.namespace, self.params.secret_name
        if read(self.cluster, where, name) is None or not self.cluster.delete("secrets", where, name):
            return Change("federation-secret", self.subject, "unchanged", f"{self._secret}: not there")
        return Change("federation-secret", self.subject, "deleted", self._secret, undo=self.undo)

    def _wait_for_pods(self, what: str, pods: Callable[[], list[dict[str, Any]]]) -> None:
        def look() -> Seen:
            left = sorted(pod["metadata"]["name"] for pod in pods())
            return Seen(not left, f"still there: {', '.join(left)}" if left else "no pod left")

        with self.cluster.watching(resource_path("pods", self.of.namespace)) as bell:
            wait_for(
                f"{self.subject}: {what}",
                look,
                self.params.timeouts.ready,
                until_changed=bell.wait,
                hint=f"kubectl --context {self.of.context} -n {self.of.namespace} get pods; then run this again",
            )
