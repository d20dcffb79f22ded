"""Faults by the sandbox's own processes: load balancers, the network between the clusters, API servers.

The clocks of servers cannot be moved, for they are all this machine's: of `clock-skew` only what the API server tells
as its time is wrong. Who dials from a pod by a command (`kubectl exec`) is heard and gets no answer, where from
elsewhere even the first packet vanishes (`network`).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from ...errors import SandboxError
from ..controllers.client import Object
from ..disturbances import CLOCK, CUT_OFF, DOWN, DROPPED, NO_ADDRESSES, SLOW, TLS_ENDS, Disturbance
from ..layout import ClusterLayout
from .control import KIND, look
from .fault import Fault, fault
from .waiting import until_true
from .world import Datacenter, World

_DIAL_SECONDS = 0.5
"""After so long a connection on one machine does not come any more."""

Gateways = list[tuple[str, int]]


async def _disturb(world: World, wanted: Disturbance, **more: Any) -> None:
    at = world.clusters[wanted.cluster - 1].name
    world.remember(KIND, f"{at} {wanted.what}", disturbance=list(wanted), **more)
    await look(world.folder)


async def _end(world: World) -> None:
    world.memory.entries = [entry for entry in world.memory.entries if entry["kind"] != KIND]
    world.memory.save()
    # Also where nothing is remembered: whoever took it back before may have been killed ahead of this.
    await look(world.folder)


def _of_primary(name: str, what: str, word: str) -> Fault:
    async def inject(world: World) -> None:
        await _disturb(world, Disturbance(word, world.first.index))

    return fault(name, what, inject, _end)


def _of_secondary(name: str, what: str, word: str) -> Fault:
    async def inject(world: World) -> None:
        await _disturb(world, Disturbance(word, world.second.index))

    return fault(name, what, inject, _end)


# -- The ways to gateways: dialled, to see that it is so -------------------------------------------------------------


async def _gateways(dc: Datacenter) -> Gateways:
    """Where the Service of a datacenter's gateways takes connections from outside. Raises SandboxError: nowhere."""
    service = await dc.get(dc.gateway_service)
    if service["spec"].get("type") == "NodePort":
        ports = [port["nodePort"] for port in service["spec"]["ports"]]
        return [(node, port) for node in dc.layout.node_addresses.values() for port in ports]
    return _balanced(dc, service)


def _balanced(dc: Datacenter, service: Object) -> Gateways:
    """Where the load balancer of a Service takes connections. Raises SandboxError where it has none."""
    names = {dc.layout.load_balancer_name(each): each for each in dc.layout.load_balancer_addresses}
    told = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = [one.get("ip") or names.get(one.get("hostname", ""), "") for one in told]
    if service["spec"].get("type") != "LoadBalancer" or not all(addresses) or not addresses:
        raise SandboxError(
            f"The mesh gateway of {dc.layout.name} has no load balancer.",
            "federate with mesh_gateway.service LoadBalancer.",
        )
    return [(address, port["port"]) for address in addresses for port in service["spec"]["ports"]]


async def _is_open(gateways: Gateways, source: str) -> bool:
    """Whether each of them takes a connection from that address of this machine."""
    for host, port in gateways:
        dialling = asyncio.open_connection(host, port, local_addr=(source, 0))
        try:
            _, writer = await asyncio.wait_for(dialling, _DIAL_SECONDS)
        except TimeoutError:
            return False
        writer.close()
    return True


async def _ends_tls(gateways: Gateways) -> bool:
    """Whether each of them shows a certificate to who names no server: a gateway itself then ends the connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for host, port in gateways:
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        except (ssl.SSLError, OSError):
            return False
        writer.close()
    return True


def _source(cluster: ClusterLayout) -> str:
    """An address from which something of that cluster dials."""
    return cluster.pod_addresses[-1]


async def _firewall(world: World) -> None:
    await _close(world, Disturbance(DROPPED, world.first.index, world.second.index), await world.primary())


async def _partition(world: World) -> None:
    await _close(world, Disturbance(CUT_OFF, world.second.index, world.first.index), await world.secondary())


async def _close(world: World, wanted: Disturbance, dc: Datacenter) -> None:
    """Have the way to a datacenter's gateways closed to `wanted.source`."""
    gateways = await _gateways(dc)
    await _disturb(world, wanted, gateways=gateways)
    source = _source(world.clusters[wanted.source - 1])

    async def is_closed() -> bool:
        return not await _is_open(gateways, source)

    await until_true(f"nothing from {source} arrives at {gateways}", is_closed)


async def _open(world: World) -> None:
    entries = world.of_kind(KIND)
    await _end(world)
    for entry in entries:
        source = _source(world.clusters[Disturbance(*entry[KIND]).source - 1])
        gateways = [(host, port) for host, port in entry["gateways"]]
        await until_true(
            f"{source} arrives at {gateways}",
            lambda at=gateways, by=source: _is_open(at, by),  # type: ignore[misc]
        )


async def _end_tls(world: World) -> None:
    dc = await world.secondary()
    gateways = _balanced(dc, await dc.get(dc.gateway_service))
    await _disturb(world, Disturbance(TLS_ENDS, world.second.index), gateways=gateways)
    await until_true(f"{gateways} end TLS", lambda: _ends_tls(gateways))


async def _pass_tls(world: World) -> None:
    entries = world.of_kind(KIND)
    await _end(world)
    for entry in entries:
        gateways = [(host, port) for host, port in entry["gateways"]]

        async def passes(at: Gateways = gateways) -> bool:
            return not await _ends_tls(at)

        await until_true(f"{gateways} pass TLS on", passes)


FAULTS = (
    _of_primary(
        "load-balancer-pending",
        "A LoadBalancer Service of dc1 that has no address is given none; one that has an address keeps it.",
        NO_ADDRESSES,
    ),
    fault(
        "tls-terminating-balancer",
        "The load balancer of dc2's mesh gateway ends TLS, with a certificate of its own.",
        _end_tls,
        _pass_tls,
    ),
    fault(
        "firewall-drop",
        "Packets from dc2 to dc1's mesh gateway vanish; the other way is open.",
        _firewall,
        _open,
    ),
    fault(
        "partitioned",
        "dc2 is cut off: packets between it and the world vanish, to its API server and its gateway, and from it.",
        _partition,
        _open,
    ),
    _of_secondary("api-server-down", "Nobody listens at the address of dc2's API server.", DOWN),
    _of_secondary("api-server-slow", "Each answer of dc2's API server takes two seconds longer.", SLOW),
    _of_secondary("clock-skew", "The clock of dc2's API server is ten minutes ahead.", CLOCK),
)
