"""The way in to each datacenter, as it can be had on one machine: what a cloud or an own network has in front of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from ..params import Cluster, Federation
from ..params.models import GatewayOverride
from ..sandbox.controllers.services import EXTERNAL_DNS
from ..sandbox.names import is_name
from ..values.facts import get
from ..values.layers import merge, put, read_layers
from .words import Row

ANNOTATIONS, HOST_PORT = "meshGateway.service.annotations", "meshGateway.hostPort"
_ABOVE = 8000
_OWN = "what is in front of the Service is your own"


def unprivileged(port: int) -> int:
    """The port that stands for one that only an administrator may listen on.

    >>> unprivileged(443)
    8443
    """
    return port + _ABOVE


def places(params: Federation) -> Iterator[tuple[str, Cluster]]:
    """(where it stands in the parameters, cluster) of each."""
    yield "primary", params.primary
    for i, cluster in enumerate(params.secondaries):
        yield f"secondaries[{i}]", cluster


def balanced(params: Federation, cluster: Cluster) -> bool:
    """Whether a load balancer is in front of a datacenter's gateways, and its own address is announced."""
    one = params.gateway(cluster)
    return one.service == "LoadBalancer" and one.wan_address == "Service"


def described(params: Federation, cluster: Cluster, place: str) -> Row:
    """How others get in to a datacenter of the federation that is rehearsed."""
    one = params.gateway(cluster)
    port = f"node port {one.node_port}" if one.service == "NodePort" else f"port {one.port}"
    announced = {"Service": "", "Static": f", announced as {one.static}:{one.wan_port}"}.get(
        one.wan_address, f", announced by {one.wan_address}, port {one.wan_port}"
    )
    count = "1 gateway" if one.replicas == 1 else f"{one.replicas} gateways"
    return Row.imitated(
        f"{place}.mesh_gateway", f"{cluster.datacenter}: {one.service}, {port}{announced}; {count}"
    )


class Gateway:
    """The gateway of one cluster, as it can be had here.

    Args:
        place: where the cluster stands in the parameters.
        lowest_port: the lowest one that this user may listen on.

    Attributes:
        override: what of the federation's `mesh_gateway` is different in this cluster.
        values: Helm values that stand for what is outside the cluster, to be laid over the cluster's own.
        rows: what is replaced.
    """

    def __init__(self, params: Federation, cluster: Cluster, place: str, lowest_port: int):
        self.values: dict[str, Any] = {}
        self.rows: list[Row] = []
        self._cluster, self._place, self._lowest = cluster, place, lowest_port
        self._made = params.gateway(cluster)
        self._theirs = _values_of(params, cluster)
        self._ports()
        if self._made.wan_address == "Static":
            self._static()
        whole = GatewayOverride(**self._made.model_dump())
        self.override = whole if self._made != params.gateway(cluster) else cluster.mesh_gateway

    def _replace(self, key: str, value: Any, why: str) -> None:
        own = getattr(self._cluster.mesh_gateway, key) is not None
        name = f"{self._place}.mesh_gateway.{key}" if own else f"mesh_gateway.{key}"
        before = getattr(self._made, key)
        if before != value:
            self.rows.append(Row.replaced(name, f"{before} by {value}: {why}"))
            self._made = self._made.model_copy(update={key: value})

    def _ports(self) -> None:
        """Ports below the lowest: those of a load balancer, of hosts, and those that are dialled there."""
        why = f"this user may not listen on ports below {self._lowest}"
        if self._made.service == "LoadBalancer":
            self._replace("port", self._allowed(self._made.port), why)
        host_port = get(self._theirs, HOST_PORT)
        if isinstance(host_port, int) and host_port < self._lowest:
            put(self.values, HOST_PORT, self._allowed(host_port))
            self.rows.append(Row.replaced(HOST_PORT, f"{host_port} by {self._allowed(host_port)}: {why}"))
            if self._made.wan_address in ("NodeIP", "NodeName"):
                self._replace("wan_port", self._allowed(self._made.wan_port), why)

    def _allowed(self, port: int) -> int:
        return port if port >= self._lowest else unprivileged(port)

    def _static(self) -> None:
        """A name or an address of the user's own: what is behind it is theirs, here it is the gateway's Service."""
        if self._made.service == "ClusterIP":
            self._replace("service", "LoadBalancer", _OWN)
            self._replace("port", self._allowed(self._made.wan_port), _OWN)
        listens = self._made.node_port if self._made.service == "NodePort" else self._made.port
        self._replace("wan_port", listens, "the Service itself is dialled; what maps its port is your own")
        if _is_address(self._made.static) or not is_name(self._made.static):
            name = f"gateway.{self._cluster.datacenter}.rehearsal.test"
            self._replace("static", name, "that address is not on this machine")
        host = self._made.static
        found = get(self._theirs, ANNOTATIONS)
        told = found if isinstance(found, str) else ""
        if host in told and any(key in told for key in EXTERNAL_DNS):
            return
        put(self.values, ANNOTATIONS, "\n".join([*told.splitlines(), f"{EXTERNAL_DNS[0]}: {host}", ""]))
        what = f"by the sandbox's: {host} leads to the gateway of {self._cluster.datacenter}"
        self.rows.append(Row.replaced("your DNS", what))


def _values_of(params: Federation, cluster: Cluster) -> dict[str, Any]:
    """The user's own Helm values of a cluster, one layer over the other."""
    merged: dict[str, Any] = {}
    for layer in read_layers("", params.values_files, params.values):
        merge(merged, layer.values)
    for layer in read_layers("", cluster.values_files, cluster.values):
        merge(merged, layer.values)
    return merged


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
