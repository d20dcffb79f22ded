"""Where other datacenters dial a datacenter's mesh gateways: as the cluster has it, and as Consul knows it.

Always a set of `host:port`: each gateway pod registers itself, and Consul writes them in random order.
"""

from __future__ import annotations

import builtins
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from .params import MeshGateway


class Reads(Protocol):
    """What is read here: a `Cluster`, or somebody who remembers what it said."""

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None: ...

    def list(self, resource: str, namespace: str = "", labels: str = "") -> builtins.list[dict[str, Any]]: ...


def live_addresses(cluster: Reads, namespace: str, fullname: str, gateway: MeshGateway) -> set[str]:
    """`host:port` of every gateway, from the objects as they are; empty while there is none.

    The rule is consul-k8s's own (endpoints controller, getWanData, from 1.0; the gateway's init container before
    that), and the secret holds the distinct ones (create-federation-secret). What the Service is counts, not what
    the parameters want it to be: a difference between the two is found where both are compared.
    """
    source = gateway.wan_address
    if source == "Static":
        return {join(gateway.static, gateway.wan_port)}
    if source == "NodeName":
        names = (pod.get("spec", {}).get("nodeName") for pod in gateway_pods(cluster, namespace, fullname))
        return {join(name, gateway.wan_port) for name in names if name}
    if source == "NodeIP":
        return {join(ip, gateway.wan_port) for ip in _host_ips(cluster, namespace, fullname)}
    service = gateway_service(cluster, namespace, fullname)
    if service is None:
        return set()
    spec = service.get("spec", {})
    port = (spec.get("ports") or [{}])[0]
    kind = spec.get("type", "ClusterIP")
    if kind == "LoadBalancer":
        host = ingress_host(service)
        return {join(host, port["port"])} if host else set()
    if kind == "NodePort":
        node_port = port.get("nodePort")
        ips = _host_ips(cluster, namespace, fullname) if node_port else set()
        return {join(ip, node_port) for ip in ips}
    if kind == "ClusterIP" and spec.get("clusterIP") not in (None, "", "None"):
        return {join(spec["clusterIP"], port["port"])}
    return set()


def gateway_service(cluster: Reads, namespace: str, fullname: str) -> dict[str, Any] | None:
    """The Service in front of the gateways, None if it is not there."""
    return cluster.get("services", namespace, f"{fullname}-mesh-gateway")


def gateway_pods(cluster: Reads, namespace: str, fullname: str) -> list[dict[str, Any]]:
    """The gateway pods that are running or starting; none while there is no Deployment of them."""
    deployment = cluster.get("deployments", namespace, f"{fullname}-mesh-gateway")
    if deployment is None:
        return []
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    pods = cluster.list("pods", namespace, ",".join(f"{key}={value}" for key, value in labels.items()))
    return [
        pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def _host_ips(cluster: Reads, namespace: str, fullname: str) -> set[str]:
    pods = gateway_pods(cluster, namespace, fullname)
    return {ip for pod in pods if (ip := pod.get("status", {}).get("hostIP"))}


def ingress_host(service: Mapping[str, Any]) -> str:
    """The host of a LoadBalancer Service: of the first entry that has one, its IP before its name."""
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        if host := entry.get("ip") or entry.get("hostname"):
            return str(host)
    return ""


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


def split(address: str) -> tuple[str, int]:
    """The reverse of `join`; port 0 where there is none that could be one.

    >>> split("[2001:db8::1]:443")
    ('2001:db8::1', 443)
    """
    host, _, port = address.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() else 0
    return host.removeprefix("[").removesuffix("]"), number if number < 65536 else 0


_NOBODY = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "0.0.0.0/8", "::/128")
"""For documentation, for "everywhere", and 192.0.2.x with which Consul itself joins through gateways (#2263)."""
_NETWORK = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")


def dialled_by(host: str) -> Literal["anyone", "network", "itself", "nobody"]:
    """Who can dial a host: anyone, who shares its private network, its own machine only, or nobody.

    A name counts as anyone's: where it leads is DNS's to say.

    >>> dialled_by("10.0.0.1"), dialled_by("gateway.example.com")
    ('network', 'anyone')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "itself" if host.lower() == "localhost" else "anyone"
    if any(address in ipaddress.ip_network(each) for each in _NOBODY):
        return "nobody"
    if address.is_loopback or address.is_link_local:
        return "itself"
    return "network" if any(address in ipaddress.ip_network(each) for each in _NETWORK) else "anyone"


def listed(addresses: Iterable[str]) -> str:
    """Addresses in one order, for people; `none` where there is none.

    >>> listed({"b:1", "a:1"})
    'a:1, b:1'
    """
    return ", ".join(sorted(addresses)) or "none"


def difference(found: set[str], expected: set[str]) -> str:
    """How a set of addresses differs from the expected one, in words; empty where it does not.

    >>> difference({"a:1", "b:1"}, {"b:1", "c:1"})
    'c:1 is missing, a:1 is too much'
    """
    missing, strange = expected - found, found - expected
    parts = [f"{listed(missing)} {_are(missing)} missing"] if missing else []
    parts += [f"{listed(strange)} {_are(strange)} too much"] if strange else []
    return ", ".join(parts)


def _are(addresses: set[str]) -> str:
    return "is" if len(addresses) == 1 else "are"
