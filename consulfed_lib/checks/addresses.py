"""Where the mesh gateway of a datacenter is dialled: is there an address, and is it one for other networks?"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from ..cluster import Cluster
from ..errors import ClusterError
from ..gateway import dialled_by, listed, live_addresses, split
from ..params import MeshGateway
from ..results import Finding
from . import Check, check
from .annotations import internal, of_service
from .target import Target


def gateway_of(target: Target) -> MeshGateway:
    """How others are to reach this datacenter."""
    return target.params.gateway(target.of)


def service_of(target: Target) -> dict[str, Any] | None:
    """The gateway's Service at the first look, None where there is none."""
    return target.get("services", target.of.namespace, f"{target.fullname}-mesh-gateway")


def service_name(target: Target) -> str:
    return f"Service {target.of.namespace}/{target.fullname}-mesh-gateway"


def kubectl(target: Target, words: str) -> str:
    return f"kubectl --context {target.of.context} -n {target.of.namespace} {words}"


def addresses_of(target: Target) -> set[str]:
    """Where others must dial the gateways now."""
    return live_addresses(target, target.of.namespace, target.fullname, gateway_of(target))


@check("gateway-pending", "the gateway has an address, or the cluster's own words why not")
def gateway_pending(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    service = service_of(target)
    if service is None:
        yield self.skipped(subject, f"{service_name(target)} is not there yet")
        return
    if found := addresses_of(target):
        yield self.ok(subject, listed(found))
        return
    said = last_warning(target.cluster, target.of.namespace, f"{target.fullname}-mesh-gateway")
    kind = service["spec"].get("type")
    balancer = gateway_of(target).wan_address == "Service" and kind == "LoadBalancer"
    what = (
        f"{service_name(target)} waits for its load balancer"
        if balancer
        else "no gateway pod is on a node yet"
    )
    look = kubectl(target, f"describe service {target.fullname}-mesh-gateway")
    yield self.error(
        subject,
        f"{what}; {f'the last warning: {said}' if said else 'no event says why'}",
        f"{look}; a quota, a pool that is used up, or no controller that gives addresses"
        if balancer
        else kubectl(target, "get pods -o wide"),
    )


def last_warning(cluster: Cluster, namespace: str, service: str) -> str:
    """The newest Warning among the Events of a Service, as `reason: message`; empty where there is none to be seen."""
    try:
        events = cluster.list("events", namespace)
    except ClusterError as error:
        if error.status == 403:
            return ""
        raise
    about = [
        each
        for each in events
        if each.get("type") == "Warning"
        and each.get("involvedObject", {}).get("kind") == "Service"
        and each.get("involvedObject", {}).get("name") == service
    ]
    if not about:
        return ""
    newest = max(about, key=_when)
    message = " ".join(str(newest.get("message", "")).split())
    return f"{newest.get('reason', '')}: {message[:300]}".strip(": ")


def _when(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(each) for each in times if each), str(event["metadata"].get("creationTimestamp", "")))


@check("gateway-name", "a name by which the gateway is dialled leads to an address", "warning")
def gateway_name(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    hosts = _hosts(target)
    names = sorted(host for host in hosts if _ip(host) is None)
    if not names:
        why = f"dialled by address: {listed(hosts)}" if hosts else "it has no address yet"
        yield self.ok(subject, why) if hosts else self.skipped(subject, why)
    for name in names:
        found = resolved(name)
        if found:
            yield self.ok(subject, f"{name} is {listed(found)}, as this machine sees it")
        else:
            yield self.warning(
                subject,
                f"{name} is no name that this machine can resolve; the gateway-from checks ask the other clusters",
                "make the DNS record; a new load balancer's name can take minutes to be known",
            )


@check("gateway-public", "the gateway's address is one that other networks can reach")
def gateway_public(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    hosts = _hosts(target)
    wrong = False
    for host in sorted(hosts):
        for address in sorted([host] if _ip(host) else resolved(host)):
            if trouble := _unreachable(address, target.params.private_network):
                wrong = True
                named = address if address == host else f"{host}, which is {address},"
                found, hint, error = trouble
                yield (self.error if error else self.warning)(subject, f"{named} {found}", hint)
    if wrong:
        return
    asked = internal(of_service(target, service_of(target))[0])
    if asked and not target.params.private_network:
        yield self.warning(subject, f"{asked} asks for a private address", _MEANT)
    elif hosts:
        meant = ", as private_network allows" if target.params.private_network else ""
        yield self.ok(subject, f"{listed(hosts)}{meant}")
    else:
        yield self.skipped(subject, "it has no address yet")


_MEANT = "private_network: true in the parameters if the clusters share a network; else give the gateway another one"


def _unreachable(address: str, private_network: bool) -> tuple[str, str, bool] | None:
    """(what is wrong, hint, whether that stops) of an address that others cannot dial; None where they can."""
    by = dialled_by(address)
    if by == "nobody":
        return (
            "is a placeholder, and nobody's address",
            "see what gives addresses to the gateway's Service",
            True,
        )
    if private_network or by == "anyone":
        return None
    if by == "itself":
        return "can be reached from its own machine only", _MEANT, True
    return "is a private address", _MEANT, False


def _hosts(target: Target) -> set[str]:
    """The hosts that others dial; that of a static address is known before anything is installed."""
    return {split(address)[0] for address in addresses_of(target)}


def resolved(name: str) -> set[str]:
    """Addresses of a name as this machine sees it; empty where it has none."""
    try:
        return {
            str(each[4][0]).partition("%")[0]
            for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        }
    except (OSError, UnicodeError):
        return set()


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
