"""The cluster's DNS as pods use it, answered from the caches of the kubelet."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from ..controllers.informer import Informer
from ..names import Names
from .workload import Dns


class ClusterDns(Dns):
    """Names of Services and of pods behind headless ones, seen from a pod of one namespace.

    A Service with a cluster IP resolves to its pods as well: cluster IPs are not routed in a sandbox, and who
    asks connects to the port that the pods listen on. Names outside the cluster are known as well.
    """

    def __init__(
        self,
        namespace: str,
        services: Informer,
        pods: Informer,
        address: Callable[[str, str], str],
        names: Names,
    ):
        self._namespace = namespace
        self._services = services
        self._pods = pods
        self._address = address
        self._names = names

    async def resolve(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass  # a name, which is what the rest is about
        outside = self._names.addresses(host)
        if outside:
            return list(outside)
        parts = host.rstrip(".").removesuffix(".cluster.local").split(".")
        if parts[-1] == "svc":
            parts.pop()
        elif len(parts) > 2:
            return []
        pod_name = parts.pop(0) if len(parts) == 3 else ""
        name, namespace = parts[0], parts[1] if len(parts) == 2 else self._namespace
        service = self._services.get(name, namespace)
        if service is None or not service["spec"].get("selector"):
            return []
        selector = service["spec"]["selector"].items()
        found = []
        for pod in self._pods.all(namespace):
            labels = (pod["metadata"].get("labels") or {}).items()
            if pod["metadata"].get("deletionTimestamp") or not selector <= labels:
                continue
            if pod_name and pod["spec"].get("hostname") != pod_name:
                continue
            address = self._address(namespace, pod["metadata"]["name"])
            if address:
                found.append(address)
        return sorted(found)
