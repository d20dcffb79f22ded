"""Gateways that stand in Consul's catalog although their pods are gone: their addresses would get into the secret.

They are left where pods went while nobody watched: a node that died, an upgrade from charts before 1.0 (consul-k8s
#417, #2263).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..checks import Check, check
from ..consul import Consul
from ..errors import ClusterError
from ..params import Federation
from ..results import Change, Finding, several
from ..servers import Servers

_SERVICE = "mesh-gateway"


@dataclass(frozen=True)
class StaleGateways:
    """The primary's catalog, beside the gateway pods that there are.

    Attributes:
        servers: None while there is no release.
    """

    params: Federation
    servers: Servers | None

    @property
    def subject(self) -> str:
        return self.params.primary.datacenter

    def found(self) -> list[dict[str, Any]]:
        """The instances whose pods are gone; none where no server answers: what keeps it is another check's to say."""
        consul = self._consul()
        if consul is None or self.servers is None:
            return []
        with closing(consul):
            instances = consul.service(_SERVICE, self.subject)
        of = self.params.primary
        labels = f"component=mesh-gateway,release={of.release}"
        pods = self.servers.cluster.list("pods", of.namespace, labels)
        live = {pod.get("status", {}).get("podIP") for pod in pods}
        return [each for each in instances if (each.get("ServiceAddress") or each.get("Address")) not in live]

    def _consul(self, admin: bool = False) -> Consul | None:
        """The first server that answers."""
        for consul in self.servers.consuls(admin=admin) if self.servers else ():
            try:
                consul.leader()
            except ClusterError:
                consul.close()
                continue
            return consul
        return None

    def clear(self) -> Change:
        """Take them out of the catalog, where the parameters say so."""
        stale = self.found() if self.params.upgrade.clear_leftovers else []
        consul = self._consul(admin=True) if stale else None
        if consul is not None:
            with closing(consul):
                for each in stale:
                    where = {"Datacenter": self.subject, "Node": each["Node"], "ServiceID": each["ServiceID"]}
                    consul.put("catalog/deregister", where)
        words = (
            f"taken out of the catalog: {_told(stale)}" if stale else "none to be taken out of the catalog"
        )
        return Change("stale-gateways", self.subject, "changed" if stale else "unchanged", words)

    def planned(self) -> Change | None:
        """A row for the plan; None where there is nothing to do."""
        stale = self.found() if self.params.upgrade.clear_leftovers else []
        if not stale:
            return None
        return Change("stale-gateways", self.subject, "would delete", f"from the catalog: {_told(stale)}")


@check("stale-gateways", "the catalog has no gateway whose pod is gone")
def stale_gateways(self: Check, subject: str, gateways: StaleGateways) -> Iterator[Finding]:
    stale = gateways.found()
    if not stale:
        yield self.ok(subject, "none")
        return
    clear = gateways.params.upgrade.clear_leftovers
    yield self.warning(
        subject,
        f"{several(len(stale), 'gateway')} in the catalog without a pod, whose address would get into the federation"
        f" secret: {_told(stale)}",
        "the run takes them out"
        if clear
        else "set upgrade.clear_leftovers to true, to take them out of the catalog",
    )


def _told(stale: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['ServiceID']} on {each['Node']} ({_address(each)})" for each in stale)


def _address(instance: dict[str, Any]) -> str:
    wan = (instance.get("ServiceTaggedAddresses") or {}).get("wan") or {}
    return f"{wan.get('Address') or instance.get('ServiceAddress')}:{wan.get('Port') or instance.get('ServicePort')}"
