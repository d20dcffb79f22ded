"""The Consul servers of one datacenter as Kubernetes runs them: who is up to date, and whether all of them are well.

What restarts servers one by one asks here before it goes on to the next: a second one that is away costs the quorum.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from .cluster import Cluster, is_ready
from .consul import HTTPS_PORT, Consul
from .errors import ClusterError
from .helm import Release
from .params import Cluster as ClusterParams
from .params import Federation
from .redact import Secret
from .values.facts import get
from .values.layers import merge
from .waiting import Seen

_REVISION = "controller-revision-hash"
"""Label of a StatefulSet's pod: the revision of the template that it was made from."""


@dataclass(frozen=True)
class Servers:
    """The servers of a release.

    Attributes:
        values: the values of the release as Helm has them now, over the chart's own.
        count: how many there are to be.
        like: how they are asked: as this one of them; None: with what the release's own Secrets say.
    """

    cluster: Cluster
    namespace: str
    release: str
    fullname: str
    datacenter: str
    values: Mapping[str, Any]
    count: int
    like: Consul | None = None

    @property
    def name(self) -> str:
        """Of the StatefulSet."""
        return f"{self.fullname}-server"

    def pods(self) -> dict[str, dict[str, Any]]:
        """Name → pod, of every server pod that is there."""
        found = self.cluster.list("pods", self.namespace, f"component=server,release={self.release}")
        return {pod["metadata"]["name"]: pod for pod in found}

    def behind(self, partition: int = 0) -> list[str]:
        """The servers of that ordinal and above whose pods are not of the newest template, or not there."""
        found = self.cluster.get("statefulsets", self.namespace, self.name)
        if found is None:
            return [f"{self.name}-{i}" for i in range(self.count)]
        status = found.get("status", {})
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            return [f"{self.name}-{i}" for i in range(partition, self.count)]
        newest, pods = status.get("updateRevision"), self.pods()
        names = [f"{self.name}-{i}" for i in range(partition, self.count)]
        return [
            name
            for name in names
            if name not in pods or pods[name]["metadata"]["labels"].get(_REVISION) != newest
        ]

    def look(self, partition: int = 0) -> Seen:
        """Whether the servers from that ordinal on are of the newest template, and all of them are well."""
        if behind := self.behind(partition):
            return Seen(False, f"{', '.join(behind)}: not restarted yet")
        return self.health()

    def health(self) -> Seen:
        """Whether every server is ready, votes in a raft with a leader, and autopilot finds nothing wrong with any.

        With autopilot's word the next server may be restarted: a server that has just come back does not vote for the
        first ten seconds.
        """
        pods = self.pods()
        names = [f"{self.name}-{i}" for i in range(self.count)]
        if missing := [name for name in names if name not in pods or not is_ready(pods[name])]:
            return Seen(False, f"not ready: {', '.join(missing)}")
        try:
            found = self._autopilot(pods)
        except ClusterError as error:
            return Seen(False, error.found)
        servers = {each["Name"]: each for each in found.get("Servers") or []}
        ill = [name for name in names if not servers.get(name, {}).get("Healthy")]
        silent = [name for name in names if not servers.get(name, {}).get("Voter")]
        leaders = [name for name, each in servers.items() if each.get("Leader")]
        gone = sorted(servers.keys() - set(names))
        words = [
            f"not healthy: {', '.join(ill)}" if ill else "",
            f"without a vote: {', '.join(silent)}" if silent else "",
            "" if leaders else "no leader",
            f"still in raft: {', '.join(gone)}" if gone else "",
        ]
        if trouble := [word for word in words if word]:
            return Seen(False, "; ".join(trouble))
        return Seen(True, f"{len(servers)} of {self.count} healthy and voting, leader {leaders[0]}")

    def leader(self) -> str:
        """Name of the server that leads; empty where nobody tells of one."""
        try:
            found = self._autopilot(self.pods())
        except ClusterError:
            return ""
        return next((each["Name"] for each in found.get("Servers") or [] if each.get("Leader")), "")

    def term(self) -> int:
        """The newest raft term that any of them knows; 0 where none answers."""
        found = 0
        for consul in self.consuls():
            with closing(consul), suppress(ClusterError):
                found = max(found, consul.raft_term())
        return found

    def _autopilot(self, pods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Autopilot's word, of the first server that gives it. Raises ClusterError where none does."""
        last: ClusterError | None = None
        for consul in self.consuls(pods):
            with closing(consul):
                try:
                    return consul.autopilot_health()
                except ClusterError as error:
                    last = error
        raise last or ClusterError(f"No Consul server runs in {self.cluster.context}.")

    def consuls(
        self, pods: Mapping[str, Mapping[str, Any]] | None = None, *, admin: bool = False
    ) -> Iterator[Consul]:
        """The API of each server, over TLS where its pod has it; a Consul that is closed by who takes it.

        Args:
            admin: whether it is to change Consul's catalog, for which the replication token does not do.
        """
        pods = self.pods() if pods is None else pods
        if self.like:
            yield from map(self.like.beside, sorted(pods))
            return
        ca, token = self.ca_pem(), self.token(admin)
        domain = get(self.values, "global.domain") or "consul"
        for name, pod in sorted(pods.items()):
            pem = ca if _speaks_tls(pod) else ""
            yield Consul(self.cluster, self.namespace, name, self.datacenter, pem, token, domain)

    def ca_pem(self) -> str:
        """The CA's certificate that the servers' are checked against; empty where there is none."""
        name = get(self.values, "global.tls.caCert.secretName") or f"{self.fullname}-ca-cert"
        key = get(self.values, "global.tls.caCert.secretKey") or "tls.crt"
        return self._secret(name, key).decode()

    def token(self, admin: bool = False) -> Secret | None:
        """A token that may see all of Consul's own state, the weakest that there is; with `admin` the one that may do
        everything. None without ACLs, or where none is kept in a Secret."""
        if get(self.values, "global.acls.manageSystemACLs") is not True:
            return None
        bootstrap = ("global.acls.bootstrapToken", f"{self.fullname}-bootstrap-acl-token")
        replication = ("global.acls.replicationToken", f"{self.fullname}-acl-replication-acl-token")
        for path, name in [bootstrap] if admin else [replication, bootstrap]:
            key = get(self.values, f"{path}.secretKey") or "token"
            if found := self._secret(get(self.values, f"{path}.secretName") or name, key):
                return Secret("ACL token", found)
        return None

    def _secret(self, name: str, key: str) -> bytes:
        found = self.cluster.get("secrets", self.namespace, name)
        return base64.b64decode((found or {}).get("data", {}).get(key) or "")


def servers_of(
    params: Federation, of: ClusterParams, cluster: Cluster, found: Release | None
) -> Servers | None:
    """The servers of a release as it is installed; None where there is none."""
    if found is None:
        return None
    values: dict[str, Any] = {}
    for each in (found.defaults, found.values):
        merge(values, each)
    return Servers(
        cluster, of.namespace, of.release, params.fullname(of), of.datacenter, values, params.servers
    )


def _speaks_tls(pod: Mapping[str, Any]) -> bool:
    """Whether the pod was made with TLS on: its own template says so, and not what Helm has now."""
    ports = [port for each in pod["spec"]["containers"] for port in each.get("ports") or []]
    return any(port["containerPort"] == HTTPS_PORT for port in ports)
