"""Registers each mesh-gateway pod in Consul's catalog, as the endpoints controller of consul-k8s does.

Other datacenters learn from these entries where a datacenter's gateways are, and the federation secret names
the primary's. So an entry with a wrong address is worse than none: a gateway behind a load balancer without an
address is not registered until it has one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from ..controllers.client import DELETED, Object
from .consul_api import ConsulApi
from .gateway_pods import (
    GatewayError,
    MeshGateway,
    is_ending,
    is_ready,
    mesh_gateway,
    selects,
    wan_address,
)
from .installation import Installation, Session, keep_trying

logger = logging.getLogger(__name__)

MANAGED_BY = "consul-k8s-endpoints-controller"

_PATIENCE_SECONDS = 3.0
"""How long a new gateway may take to become ready before it is registered as critical.

Consul passes a gateway's change of health to other datacenters at most each 5 s: one that is first registered
when it is ready is known there at once."""


class GatewayRegistrar:
    """Keeps the catalog as the gateway pods of one release are, until cancelled."""

    def __init__(self, installation: Installation, session: Session):
        self.installation = installation
        self.session = session
        self._pods: dict[str, Object] = {}
        self._services: dict[str, Object] = {}
        self._seen: dict[str, float] = {}
        self._registered: dict[str, str] = {}
        self._complaints: dict[str, str] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("pods", self._pods))
            group.create_task(self._watch("services", self._services))
            group.create_task(self._reconcile_for_ever())

    async def _watch(self, plural: str, known: dict[str, Object]) -> None:
        installation = self.installation
        selector = "component=mesh-gateway"
        watching = installation.client.watch(
            "v1", plural, installation.namespace, label_selector=selector, marks=True
        )
        async for kind, item in watching:
            if item:
                name = item["metadata"]["name"]
                if kind == DELETED:
                    known.pop(name, None)
                else:
                    known[name] = item
            self._changed.set()

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            what = f"{self.installation.cluster.name}: registering mesh gateways"
            await keep_trying(what, lambda: self.session.call(self._reconcile))

    async def _reconcile(self, consul: ConsulApi) -> None:
        wanted: dict[str, Object] = {}
        names: set[str] = {"mesh-gateway"}
        for name, pod in self._pods.items():
            try:
                gateway = mesh_gateway(pod)
                if gateway is None or is_ending(pod) or not self._is_of_this_release(pod):
                    continue
                names.add(gateway.service)
                registration = self._registration(gateway, pod)
            except GatewayError as error:
                # What is registered stays as it is: a load balancer may lose its address for a moment.
                wanted[name] = {}
                await self._complain(pod, str(error))
                continue
            if registration is not None:
                self._complaints.pop(name, None)
                wanted[name] = registration
        present = await self._remove_others(consul, names, set(wanted))
        for name, registration in wanted.items():
            text = json.dumps(registration)
            if registration and (name not in present or self._registered.get(name) != text):
                await consul.put("/v1/catalog/register", registration)
                self._registered[name] = text
                logger.info("%s: mesh gateway %s registered", self.installation.cluster.name, name)

    def _is_of_this_release(self, pod: Object) -> bool:
        release = self.installation.template["metadata"].get("labels", {}).get("release")
        return pod["metadata"].get("labels", {}).get("release") == release

    def _registration(self, gateway: MeshGateway, pod: Object) -> Object | None:
        """The body of /v1/catalog/register; None while it is too early."""
        metadata, status = pod["metadata"], pod.get("status", {})
        name, namespace, address = metadata["name"], metadata["namespace"], status.get("podIP", "")
        node = pod["spec"].get("nodeName", "")
        if not address or not node or not status.get("hostIP"):
            return None
        ready = is_ready(pod)
        if not ready and name not in self._registered and not self._has_waited(name):
            return None
        service = next((s for s in self._services.values() if selects(s, pod)), None)
        wan = wan_address(gateway, pod, service)
        federated = self.installation.is_federated if gateway.is_federated is None else gateway.is_federated
        meta = {
            "pod-name": name,
            "pod-uid": metadata["uid"],
            "k8s-namespace": namespace,
            "k8s-service-name": service["metadata"]["name"] if service else "",
            "managed-by": MANAGED_BY,
            "synthetic-node": "true",
        }
        if federated:
            meta["consul-wan-federation"] = "1"
        return {
            "Node": f"{node}-virtual" if gateway.has_own_node else node,
            "Address": status["hostIP"],
            "NodeMeta": {"synthetic-node": "true"},
            "Service": {
                "ID": name,
                "Service": gateway.service,
                "Kind": "mesh-gateway",
                "Address": address,
                "Port": gateway.port,
                "Meta": meta,
                "TaggedAddresses": {
                    "lan": {"Address": address, "Port": gateway.port},
                    "wan": {"Address": wan, "Port": gateway.wan_port},
                },
            },
            "Check": {
                "CheckID": f"{namespace}/{name}",
                "Name": "Kubernetes Readiness Check",
                "Type": "kubernetes-readiness",
                "Status": "passing" if ready else "critical",
                "ServiceID": name,
                "Output": "Kubernetes health checks passing"
                if ready
                else f"Pod {namespace}/{name} is not ready",
            },
        }

    def _has_waited(self, name: str) -> bool:
        now = time.monotonic()
        if name not in self._seen:
            self._seen[name] = now
            asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._changed.set)
        return now - self._seen[name] >= _PATIENCE_SECONDS

    async def _remove_others(self, consul: ConsulApi, services: set[str], wanted: set[str]) -> set[str]:
        """Deregister instances whose pods are gone; the names of pods that are registered."""
        present: set[str] = set()
        for service in services:
            for instance in await consul.get(f"/v1/catalog/service/{service}") or []:
                meta = instance.get("ServiceMeta") or {}
                if meta.get("managed-by") != MANAGED_BY:
                    continue
                if meta.get("k8s-namespace") != self.installation.namespace:
                    continue
                if meta.get("pod-name") in wanted:
                    present.add(meta["pod-name"])
                    continue
                await self._deregister(consul, instance)
        for name in set(self._registered) - wanted:
            del self._registered[name]
        for name in set(self._seen) - set(self._pods):
            del self._seen[name]
        return present

    async def _deregister(self, consul: ConsulApi, instance: dict[str, Any]) -> None:
        node, identifier = instance["Node"], instance["ServiceID"]
        await consul.put("/v1/catalog/deregister", {"Node": node, "ServiceID": identifier})
        logger.info("%s: mesh gateway %s deregistered", self.installation.cluster.name, identifier)
        if (instance.get("NodeMeta") or {}).get("synthetic-node") != "true":
            return
        left = await consul.get(f"/v1/catalog/node/{node}")
        if left and not left.get("Services"):
            await consul.put("/v1/catalog/deregister", {"Node": node})

    async def _complain(self, pod: Object, message: str) -> None:
        """An Event on the pod, once for each different message."""
        metadata = pod["metadata"]
        if self._complaints.get(metadata["name"]) == message:
            return
        self._complaints[metadata["name"]] = message
        logger.warning(
            "%s: mesh gateway %s is not registered: %s",
            self.installation.cluster.name,
            metadata["name"],
            message,
        )
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": metadata["name"],
                "namespace": metadata["namespace"], "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": "GatewayNotRegistered",
            "message": message,
            "source": {"component": "consul-connect-injector"},
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
        }  # fmt: skip
        await self.installation.client.create("v1", "events", event, metadata["namespace"])
