"""The address of a datacenter's mesh gateway, as its Service has it and as Consul knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .cluster import Cluster


def live_address(cluster: Cluster, namespace: str, fullname: str) -> str | None:
    """`host:port` of the gateway's LoadBalancer Service now, None while it has none.

    The first ingress entry counts, its IP before its hostname: so does consul-k8s (endpoints controller, getWanData).
    """
    service = cluster.get("services", namespace, f"{fullname}-mesh-gateway")
    if service is None:
        return None
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    host = (entries[0].get("ip") or entries[0].get("hostname")) if entries else None
    return join(host, service["spec"]["ports"][0]["port"]) if host else None


def catalog_addresses(instances: Iterable[Mapping[str, Any]]) -> set[str]:
    """`host:port` of the `wan` addresses of catalog instances of the gateway service."""
    found = set()
    for instance in instances:
        wan = (instance.get("ServiceTaggedAddresses") or {}).get("wan") or {}
        address = wan.get("Address") or wan.get("address")
        if address:
            found.add(join(address, wan.get("Port") or wan.get("port") or 0))
    return found


def join(host: str, port: int) -> str:
    """
    >>> join("2001:db8::1", 443)
    '[2001:db8::1]:443'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
