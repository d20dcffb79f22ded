"""Registers each injected pod in Consul with its sidecar proxy, as the endpoints controller of consul-k8s does.

A pod is registered under the name of the Service that selects it, or of its annotation; one that no Service selects is
not registered at all. Whether it is ready is its check; a pod that is gone is deregistered.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

from ..controllers.client import DELETED, Object, object_key
from ..node.upstreams import UPSTREAMS, upstreams
from .consul_api import ConsulApi
from .gateway_pods import is_ending, is_ready, selects
from .gateways import MANAGED_BY
from .inject import PROXY_PORT, SERVICE_NAME, STATUS, port_of
from .installation import Installation, Session, keep_trying

logger = logging.getLogger(__name__)

Key = tuple[str, str]


class MeshServices:
    """Keeps the catalog as the injected pods of a cluster are, until cancelled."""

    def __init__(self, installation: Installation, session: Session):
        self.installation = installation
        self.session = session
        self._pods: dict[Key, Object] = {}
        self._services: dict[Key, Object] = {}
        self._registered: dict[str, str] = {}
        self._complete: set[str] = set()
        self._was_empty = False
        """Whether the catalog was seen without any of them: then there is nothing to remove."""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("pods", self._pods, f"{STATUS}=injected"))
            group.create_task(self._watch("services", self._services, ""))
            group.create_task(self._reconcile_for_ever())

    async def _watch(self, plural: str, known: dict[Key, Object], selector: str) -> None:
        watching = self.installation.client.watch("v1", plural, label_selector=selector, marks=True)
        async for kind, item in watching:
            if not item:
                self._complete.add(plural)
            elif kind == DELETED:
                known.pop(object_key(item), None)
            else:
                known[object_key(item)] = item
            self._changed.set()

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if len(self._complete) == 2:
                what = f"{self.installation.cluster.name}: registering services of the mesh"
                await keep_trying(what, lambda: self.session.call(self._reconcile))

    async def _reconcile(self, consul: ConsulApi) -> None:
        wanted = {
            registration["Service"]["ID"]: registration
            for pod in self._pods.values()
            if not is_ending(pod)
            for registration in self._registrations(pod)
        }
        if not wanted and not self._registered and self._was_empty:
            return
        present = await self._remove_others(consul, set(wanted))
        self._was_empty = not wanted
        for identifier, registration in wanted.items():
            text = json.dumps(registration)
            if identifier not in present or self._registered.get(identifier) != text:
                await consul.put("/v1/catalog/register", registration)
                self._registered[identifier] = text

    def _registrations(self, pod: Object) -> Iterator[Object]:
        """The bodies of /v1/catalog/register for a pod and its proxy; none while it is too early."""
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        namespace, name, address = metadata["namespace"], metadata["name"], status.get("podIP", "")
        service = self._service_of(pod)
        if service is None or not address or not status.get("hostIP"):
            return
        annotations = metadata.get("annotations") or {}
        called, port, ready = annotations.get(SERVICE_NAME) or service, port_of(pod), is_ready(pod)
        identifier = f"{name}-{called}"
        meta = {
            "pod-name": name,
            "pod-uid": metadata["uid"],
            "k8s-namespace": namespace,
            "k8s-service-name": service,
            "managed-by": MANAGED_BY,
            "synthetic-node": "true",
        }
        proxy: Object = {
            "DestinationServiceName": called,
            "DestinationServiceID": identifier,
            "Upstreams": [
                {"DestinationName": one.service, "Datacenter": one.datacenter, "LocalBindPort": one.port}
                for one in upstreams(annotations.get(UPSTREAMS, ""))
            ],
        }
        if port:
            proxy |= {"LocalServiceAddress": "127.0.0.1", "LocalServicePort": port}
        own = {"ID": identifier, "Service": called, "Port": port}
        sidecar = {
            "ID": f"{identifier}-sidecar-proxy",
            "Service": f"{called}-sidecar-proxy",
            "Kind": "connect-proxy",
            "Port": PROXY_PORT,
            "Proxy": proxy,
        }
        for body in (own, sidecar):
            yield {
                "Node": f"{spec['nodeName']}-virtual",
                "Address": status["hostIP"],
                "NodeMeta": {"synthetic-node": "true"},
                "Service": body | {"Address": address, "Meta": meta},
                "Check": {
                    "CheckID": f"{namespace}/{body['ID']}",
                    "Name": "Kubernetes Readiness Check",
                    "Type": "kubernetes-readiness",
                    "Status": "passing" if ready else "critical",
                    "ServiceID": body["ID"],
                    "Output": "Kubernetes health checks passing"
                    if ready
                    else f"Pod {namespace}/{name} is not ready",
                },
            }

    def _service_of(self, pod: Object) -> str | None:
        """The Service that selects a pod; None where there is none."""
        namespace = pod["metadata"]["namespace"]
        found = (
            one for (where, _), one in self._services.items() if where == namespace and selects(one, pod)
        )
        service = next(found, None)
        return None if service is None else str(service["metadata"]["name"])

    async def _remove_others(self, consul: ConsulApi, wanted: set[str]) -> set[str]:
        """Deregister instances whose pods are gone; the IDs of those that are registered."""
        present: set[str] = set()
        for node in await consul.get("/v1/catalog/nodes") or []:
            if (node.get("Meta") or {}).get("synthetic-node") != "true":
                continue
            services = await self._services_on(consul, node["Node"])
            for identifier, service in services.items():
                meta = service.get("Meta") or {}
                if service.get("Kind") == "mesh-gateway" or meta.get("managed-by") != MANAGED_BY:
                    continue
                if identifier in wanted:
                    present.add(identifier)
                    continue
                await consul.put("/v1/catalog/deregister", {"Node": node["Node"], "ServiceID": identifier})
                logger.info("%s: %s deregistered", self.installation.cluster.name, identifier)
                if not await self._services_on(consul, node["Node"]):
                    await consul.put("/v1/catalog/deregister", {"Node": node["Node"]})
        for identifier in set(self._registered) - wanted:
            del self._registered[identifier]
        return present

    async def _services_on(self, consul: ConsulApi, node: str) -> dict[str, Any]:
        return (await consul.get(f"/v1/catalog/node/{node}") or {}).get("Services") or {}
