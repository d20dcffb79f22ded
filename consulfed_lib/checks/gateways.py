"""The mesh gateway's Service: can other datacenters get in by what it is, or will be?

Each looks at the Service as it is, where it is there; before an installation at what the Helm values make of it.
Whether a connection comes about is proven by the checks of `network`; these say what to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..gateway import gateway_pods, listed, split
from ..params import MeshGateway
from ..results import Finding, several
from . import Check, check, run_together
from .addresses import (
    addresses_of,
    gateway_name,
    gateway_of,
    gateway_pending,
    gateway_public,
    kubectl,
    service_name,
    service_of,
)  # fmt: skip
from .annotations import harmful, of_service
from .target import Target

NODE_PORTS = range(30000, 32768)
"""Kubernetes' own default for node ports (--service-node-port-range)."""

_WAN_PORT = "consul.hashicorp.com/gateway-wan-port"
"""Annotation of gateway pods (chart 1.0 and newer): the port that is announced."""

_NEW_ADDRESS = (
    "the run changes that, and with it the gateway's address; if it is the primary's: then run 02 and 03"
)


def _will_change(target: Target) -> bool:
    """Whether Helm will run anyway, and mend what differs from the parameters."""
    found = target.release()
    return found is None or found.version != target.params.chart.version or found.values != target.values()


# What it is


@check("gateway-type", "the gateway's Service is of the type that the parameters want, or will be")
def gateway_type(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    wanted, service = gateway_of(target).service, service_of(target)
    if service is None:
        yield self.ok(subject, f"it will be a {wanted}")
        return
    found = service["spec"].get("type", "ClusterIP")
    if found == wanted:
        yield self.ok(subject, f"{service_name(target)} is a {found}")
        return
    what = f"{service_name(target)} is a {found}, the parameters want a {wanted}"
    if _will_change(target):
        yield self.warning(subject, what, _NEW_ADDRESS)
    else:
        patch = f'patch service {target.fullname}-mesh-gateway -p \'{{"spec":{{"type":"{wanted}"}}}}\''
        yield self.error(
            subject, f"{what}: somebody changed it by hand", f"change it back: {kubectl(target, patch)}"
        )


@check("gateway-source", "the address that the gateway announces is one for other clusters, no ClusterIP")
def gateway_source(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    gateway, service = gateway_of(target), service_of(target)
    if gateway.wan_address != "Service":
        yield self.ok(subject, f"it announces {_source(gateway)}")
        return
    kind = gateway.service
    if service and not _will_change(target):
        kind = service["spec"].get("type", "ClusterIP")
    if kind in ("LoadBalancer", "NodePort"):
        yield self.ok(subject, f"it announces the address of its {kind}")
    else:
        yield self.error(
            subject,
            f"it announces the address of a {kind}, which no other cluster reaches",
            "mesh_gateway.service: LoadBalancer or NodePort; or mesh_gateway.wan_address: Static with your own name",
        )


def _source(gateway: MeshGateway) -> str:
    what = {"NodeIP": "its node's address", "NodeName": "its node's name", "Static": gateway.static}
    return f"{what[gateway.wan_address]}, port {gateway.wan_port}"


@check("gateway-node-port", "a gateway behind a node port has one that is allowed, and nobody else's")
def gateway_node_port(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    gateway, service = gateway_of(target), service_of(target)
    kind = service["spec"].get("type", "ClusterIP") if service else gateway.service
    if gateway.service != "NodePort":
        yield self.ok(subject, f"not needed: others reach it by {gateway.service}")
        return
    wanted = gateway.node_port
    ports = {port.get("nodePort") for port in service["spec"].get("ports") or []} if service else set()
    if not wanted:
        yield self.error(
            subject,
            "no node port is given, and the chart refuses a NodePort without",
            f"mesh_gateway.node_port: a number from {NODE_PORTS.start} to {NODE_PORTS.stop - 1}",
        )
    elif wanted not in NODE_PORTS:
        yield self.error(
            subject,
            f"node port {wanted} is not between {NODE_PORTS.start} and {NODE_PORTS.stop - 1}",
            "mesh_gateway.node_port: a number in that range, unless your API servers have another",
        )
    elif other := _other_with(target, wanted):
        yield self.error(
            subject, f"node port {wanted} is taken by {other}", "give another mesh_gateway.node_port"
        )
    elif kind == "NodePort" and ports and wanted not in ports:
        what = f"{service_name(target)} has node port {listed(map(str, ports))}, the parameters want {wanted}"
        if _will_change(target):
            yield self.warning(subject, what, _NEW_ADDRESS)
        else:
            patch = kubectl(target, f"edit service {target.fullname}-mesh-gateway")
            yield self.error(subject, f"{what}: somebody changed it by hand", f"change it back: {patch}")
    else:
        yield self.ok(subject, f"{wanted}")


def _other_with(target: Target, port: int) -> str:
    """Another Service with that node port; empty where there is none to be seen."""
    for each in target.list_if_allowed("services") or []:
        name = f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        if name == f"{target.of.namespace}/{target.fullname}-mesh-gateway":
            continue
        if any(one.get("nodePort") == port for one in each["spec"].get("ports") or []):
            return name
    return ""


@check("gateway-ports", "every gateway pod announces one and the same port, the one that is open")
def gateway_ports(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    pods = gateway_pods(target, target.of.namespace, target.fullname)
    if not pods:
        yield self.skipped(subject, "no gateway pod is there yet")
        return
    live = {str(split(address)[1]) for address in addresses_of(target)}
    announced: dict[str, list[str]] = {}
    for pod in pods:
        port = (pod["metadata"].get("annotations") or {}).get(_WAN_PORT)
        if port:
            announced.setdefault(port, []).append(pod["metadata"]["name"])
    hint = kubectl(target, f"rollout restart deployment/{target.fullname}-mesh-gateway")
    if len(announced) > 1:
        each = "; ".join(f"{port} by {', '.join(names)}" for port, names in sorted(announced.items()))
        yield self.error(subject, f"different ports are announced: {each}", hint)
    elif announced and live and set(announced) != live:
        found, now = next(iter(announced)), ", ".join(sorted(live))
        yield self.error(subject, f"the gateways announce port {found}, but {now} is open", hint)
    else:
        yield self.ok(subject, ", ".join(sorted(live or announced)) or "not to be seen in this chart's pods")


# Its load balancer


@check("gateway-passthrough", "no annotation lets the load balancer do more than pass TCP on")
def gateway_passthrough(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    annotations, unread = of_service(target, service_of(target))
    found = list(harmful(annotations, gateway_of(target).port))
    for annotation, effect, cloud in found:
        yield self.error(
            subject,
            f"{annotation} {effect} ({cloud})",
            "take it away (meshGateway.service.annotations): TLS must come through to Consul's servers untouched",
        )
    if unread:
        yield self.warning(subject, f"meshGateway.service.annotations {unread}", "look through it yourself")
    elif not found:
        yield self.ok(
            subject, f"{several(len(annotations), 'annotation')}, none that ends TLS or adds a header"
        )


BEFORE = (
    gateway_type, gateway_source, gateway_node_port, gateway_passthrough, gateway_name, gateway_public,
)  # fmt: skip
"""Before anything is written: they say what will be, and what is wrong with what is there."""

AFTER = (*BEFORE, gateway_pending, gateway_ports)
"""Once it is installed."""


def look_at_gateway(target: Target, installed: bool) -> list[Finding]:
    """Every check of one datacenter's gateway; `installed`: it should be there, with an address."""
    subject = target.of.datacenter
    return run_together(partial(each, subject, target) for each in (AFTER if installed else BEFORE))
