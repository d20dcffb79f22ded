"""Services that are reachable from outside the cluster: load balancer addresses, node ports, and DNS names.

A load balancer has an address of its own on this machine's loopback network, with the Service's own ports. A
port that cannot be had (443 without the right to bind it) leaves the Service without an address, with a
Warning Event that says why; it is tried again when something about the Service changes, and every few
seconds.

The load balancer of a sandbox that was asked for hostnames tells its name instead of its address, as on EKS. A
name of one's own is published with ExternalDNS' annotation: it points at the Service's load balancer, or at the
nodes of a NodePort Service.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from ..layout import ClusterLayout
from ..names import Names, is_name
from ..network import Network
from .client import Object, object_key
from .controller import Controller, Key
from .endpoints import backends, counts_as_ready, services_of, target_port
from .events import Recorder
from .forwarder import Forwarder, Target
from .informer import Informers
from .pods import is_terminating

EXTERNAL_DNS = ("external-dns.alpha.kubernetes.io/hostname", "external-dns.kubernetes.io/hostname")
"""Annotation with the names, comma-separated, that ExternalDNS publishes for a Service: until its 0.21, and since."""

_RETRY_SECONDS = 5
_MODE = "VIP"

Listener = tuple[str, int]


class Services(Controller):
    api_version, plural, kind = "v1", "services", "Service"

    def __init__(self, informers: Informers, cluster: ClusterLayout, names: Names, network: Network):
        super().__init__(informers)
        self._cluster = cluster
        self._names = names
        self._network = network
        self._pods = informers.of("v1", "pods")
        self._events = Recorder(informers.client, "service-controller")
        self._dns_events = Recorder(informers.client, "external-dns")
        self._pods.subscribe(self._on_pod)
        self._forwarders: dict[Key, dict[Listener, Forwarder]] = {}
        self._addresses: dict[Key, str] = {}

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        for service in services_of(pod, self.own) + (services_of(before, self.own) if before else []):
            self.enqueue(object_key(service))

    def _on_network(self) -> None:
        """Something is disturbed, or no longer: every Service is looked at again."""
        for service in self.own.all():
            self.enqueue(object_key(service))

    async def run(self) -> None:
        forget = self._network.subscribe(self._on_network)
        try:
            await super().run()
        finally:
            forget()
            for key in list(self._forwarders):
                await self._close(key, set())

    async def removed(self, key: Key) -> None:
        await self._close(key, set())
        self._addresses.pop(key, None)
        self._names.publish((self._cluster.name, *key), {})

    async def reconcile(self, item: Object) -> None:
        key, spec = object_key(item), item["spec"]
        if is_terminating(item):
            await self._close(key, set())
            self._names.publish((self._cluster.name, *key), {})
            return
        balanced = spec.get("type") == "LoadBalancer"
        address = self._address(item) if balanced else ""
        if not balanced:
            self._addresses.pop(key, None)
        listeners = self._listeners(item, address)
        tls = self._network.balancer if _is_gateway(item) else None
        await self._close(key, self._fit(key, listeners, tls))
        problems = await self._open(key, listeners, tls)
        for listener, targets in listeners.items():
            if listener in self._forwarders.get(key, {}):
                self._forwarders[key][listener].targets = targets
        if _is_gateway(item):
            for forwarder in self._forwarders.get(key, {}).values():
                forwarder.drop_from(self._network.lost())
                forwarder.ignores = self._network.ignores
        if balanced and not address:
            problems.append(
                "every load balancer address of this sandbox is taken"
                if self._network.has_addresses
                else "Error syncing load balancer: failed to ensure load balancer: quota of addresses exceeded"
            )
        for problem in problems:
            await self._events.record(item, "Warning", "SyncLoadBalancerFailed", problem)
        if problems:
            self.enqueue(key, _RETRY_SECONDS)
        served = address if balanced and not problems else ""
        # Published before it is told: who reads the hostname can dial it.
        await self._publish(item, served)
        await self._report(item, served)

    def _listeners(self, item: Object, address: str) -> dict[Listener, list[Target]]:
        """(address, port) to listen on → where connections go."""
        wanted: dict[Listener, list[Target]] = {}
        pods = [pod for pod in backends(item, self._pods) if counts_as_ready(item, pod)]
        for port in item["spec"].get("ports") or []:
            if port.get("protocol", "TCP") != "TCP":
                continue
            targets = [
                (pod["status"]["podIP"], number)
                for pod in pods
                if (number := target_port(port, pod)) is not None
            ]
            if address:
                wanted[address, port["port"]] = targets
            if item["spec"].get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
                for node in self._cluster.node_addresses.values():
                    wanted[node, port["nodePort"]] = targets
        return wanted

    def _address(self, item: Object) -> str:
        """The Service's load balancer address: the one it asks for, the one it has, else the first free one.

        One that begins to ask for another address that is free moves to it, as on clouds that let it be chosen.
        """
        key, wish = object_key(item), item["spec"].get("loadBalancerIP", "")
        if wish and wish != self._addresses.get(key):
            self._addresses.pop(key, None)
        if key not in self._addresses:
            taken = set(self._addresses.values())
            for service in self.own.all():
                if object_key(service) != key:
                    taken.update(self._told(service))
            asked = [wish, *self._told(item)]
            free = [one for one in self._cluster.load_balancer_addresses if one not in taken]
            if not self._network.has_addresses:
                # What a Service has it keeps.
                free = [one for one in free if one in self._told(item)]
            chosen = next((one for one in asked if one in free), free[0] if free else "")
            if not chosen:
                return ""
            self._addresses[key] = chosen
        return self._addresses[key]

    def _fit(self, key: Key, listeners: Iterable[Listener], tls: ssl.SSLContext | None) -> set[Listener]:
        """Those of the listeners that are open and treat TLS as they have to: a load balancer may end it."""
        held = self._forwarders.get(key, {})
        return {one for one in listeners if one in held and held[one].tls is self._tls(one, tls)}

    def _tls(self, listener: Listener, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
        return tls if listener[0] in self._cluster.load_balancer_addresses else None

    async def _open(
        self, key: Key, listeners: dict[Listener, list[Target]], tls: ssl.SSLContext | None
    ) -> list[str]:
        """Listen where it is not done yet; what went wrong, in one sentence each."""
        problems = []
        held = self._forwarders.setdefault(key, {})
        for address, port in listeners:
            if (address, port) in held:
                continue
            forwarder = Forwarder(address, port, self._tls((address, port), tls))
            try:
                await forwarder.start()
            except PermissionError:
                problems.append(
                    f"cannot listen on {address}:{port}: this user may not bind ports below 1024; "
                    "give the Service a port of 1024 or more, or run: sysctl net.ipv4.ip_unprivileged_port_start=0"
                )
            except OSError as error:
                problems.append(f"cannot listen on {address}:{port}: {error.strerror or error}")
            else:
                held[address, port] = forwarder
        return problems

    async def _close(self, key: Key, keep: set[Listener]) -> None:
        held = self._forwarders.get(key, {})
        gone = [listener for listener in held if listener not in keep]
        await asyncio.gather(*(held.pop(listener).stop() for listener in gone))
        if not held:
            self._forwarders.pop(key, None)

    def _told(self, service: Object) -> list[str]:
        """The addresses of the load balancer that a Service's status tells of."""
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        hostnames = {
            self._cluster.load_balancer_name(one): one for one in self._cluster.load_balancer_addresses
        }
        found = (
            one.get("ip") or hostnames.get(one.get("hostname", "")) for one in balancer.get("ingress") or []
        )
        return [address for address in found if address]

    async def _publish(self, item: Object, address: str) -> None:
        """Have the Service's names resolve: to its load balancer, or where it is a NodePort one, to the nodes."""
        names: dict[str, list[str]] = {}
        if address and self._cluster.load_balancer == "hostname":
            names[self._cluster.load_balancer_name(address)] = [address]
        targets = [address] if address else []
        if item["spec"].get("type") == "NodePort":
            targets = list(self._cluster.node_addresses.values())
        annotations = item["metadata"].get("annotations") or {}
        asked = ",".join(annotations.get(key, "") for key in EXTERNAL_DNS)
        for name in filter(None, (part.strip() for part in asked.split(","))):
            if is_name(name):
                names[name] = targets
            else:
                await self._dns_events.record(
                    item, "Warning", "NotPublished", f"{name!r} is not a DNS name that can be published here"
                )
        for name in self._names.publish((self._cluster.name, *object_key(item)), names):
            await self._dns_events.record(
                item, "Warning", "NotPublished", f"{name} belongs to another node or Service of this sandbox"
            )

    async def _report(self, item: Object, address: str) -> None:
        status = dict(item.get("status") or {})
        ingress: Object = {"ip": address, "ipMode": _MODE}
        if self._cluster.load_balancer == "hostname":
            ingress = {"hostname": self._cluster.load_balancer_name(address)}
        status["loadBalancer"] = {"ingress": [ingress]} if address else {}
        before = (item.get("status") or {}).get("loadBalancer") or {}
        if before != status["loadBalancer"]:
            await self.informers.set_status("services", item, status)
            if address:
                await self._events.record(item, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")


def _is_gateway(service: Object) -> bool:
    """Whether mesh gateways are behind a Service: what is disturbed between clusters is the way to them."""
    return (service["spec"].get("selector") or {}).get("component") == "mesh-gateway"
