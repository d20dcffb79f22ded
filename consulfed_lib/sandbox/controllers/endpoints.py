"""Which pods are behind a Service: its Endpoints and EndpointSlice, kept up to date."""

from __future__ import annotations

from typing import Any

from .client import Object, object_key
from .controller import Controller, digest, owner_reference
from .informer import Informer, Informers
from .pods import is_finished, is_ready, is_terminating

_SERVICE_NAME = "kubernetes.io/service-name"
_MANAGER = "endpointslice-controller.k8s.io"


class Endpoints(Controller):
    api_version, plural, kind = "v1", "services", "Service"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._pods = informers.of("v1", "pods")
        self._endpoints = informers.of("v1", "endpoints")
        self._slices = informers.of("discovery.k8s.io/v1", "endpointslices")
        self._pods.subscribe(self._on_pod)

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        for service in services_of(pod, self.own) + (services_of(before, self.own) if before else []):
            self.enqueue(object_key(service))

    async def removed(self, key: tuple[str, str]) -> None:
        left = self._endpoints.get(key[1], key[0])
        if left is not None:
            await self.informers.delete("endpoints", left)

    async def reconcile(self, item: Object) -> None:
        if not item["spec"].get("selector") or is_terminating(item):
            return
        pods = sorted(backends(item, self._pods), key=lambda pod: pod["metadata"]["name"])
        ready = [pod for pod in pods if counts_as_ready(item, pod)]
        ports = [_resolved(port, (ready or pods)[:1]) for port in item["spec"].get("ports") or []]
        await self._write_endpoints(item, pods, ready, ports)
        await self._write_slice(item, pods, ready, ports)

    async def _write_endpoints(
        self, item: Object, pods: list[Object], ready: list[Object], ports: list[Object]
    ) -> None:
        subset: Object = {}
        for key, chosen in (
            ("addresses", ready),
            ("notReadyAddresses", [pod for pod in pods if pod not in ready]),
        ):
            if chosen:
                subset[key] = [
                    {
                        "ip": pod["status"]["podIP"],
                        "nodeName": pod["spec"]["nodeName"],
                        "targetRef": _reference(pod),
                    }
                    for pod in chosen
                ]
        if subset and ports:
            subset["ports"] = ports
        await self._put(
            "endpoints",
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"labels": item["metadata"].get("labels") or {}},
                "subsets": [subset] if subset else [],
            },
            item,
            item["metadata"]["name"],
        )

    async def _write_slice(
        self, item: Object, pods: list[Object], ready: list[Object], ports: list[Object]
    ) -> None:
        name = f"{item['metadata']['name'][:200]}-{digest(item['metadata']['uid'])[:5]}"
        endpoints = [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {
                    "ready": pod in ready,
                    "serving": is_ready(pod),
                    "terminating": is_terminating(pod),
                },
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": _reference(pod),
                **({"hostname": pod["spec"]["hostname"]} if pod["spec"].get("hostname") else {}),
            }
            for pod in pods
        ]
        await self._put(
            "endpointslices",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "labels": {
                        **(item["metadata"].get("labels") or {}),
                        _SERVICE_NAME: item["metadata"]["name"],
                        "endpointslice.kubernetes.io/managed-by": _MANAGER,
                    },
                    "ownerReferences": [owner_reference(item)],
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": ports,
            },
            item,
            name,
        )

    async def _put(self, plural: str, wanted: Object, service: Object, name: str) -> None:
        namespace = service["metadata"]["namespace"]
        wanted["metadata"] |= {"name": name, "namespace": namespace}
        there = self.informers.of(wanted["apiVersion"], plural).get(name, namespace)
        if there is None:
            await self.informers.create(plural, wanted)
            return
        parts = [key for key in wanted if key not in ("apiVersion", "kind", "metadata")]
        if all(there.get(key) == wanted[key] for key in parts):
            return
        await self.informers.patch(plural, there, {key: wanted[key] for key in parts})


def services_of(pod: Object, services: Informer) -> list[Object]:
    """The Services that select a pod."""
    labels = (pod["metadata"].get("labels") or {}).items()
    return [
        service
        for service in services.all(pod["metadata"]["namespace"])
        if service["spec"].get("selector") and service["spec"]["selector"].items() <= labels
    ]


def backends(service: Object, pods: Informer) -> list[Object]:
    """The pods of a Service that have an address and have not ended."""
    selector = (service["spec"].get("selector") or {}).items()
    return [
        pod
        for pod in pods.all(service["metadata"]["namespace"])
        if selector
        and selector <= (pod["metadata"].get("labels") or {}).items()
        and (pod.get("status") or {}).get("podIP")
        and not is_finished(pod)
    ]


def counts_as_ready(service: Object, pod: Object) -> bool:
    """Whether traffic goes to a pod: ready and not on its way out, or the Service wants all of them."""
    if service["spec"].get("publishNotReadyAddresses"):
        return True
    return is_ready(pod) and not is_terminating(pod)


def target_port(port: Object, pod: Object) -> int | None:
    """The number of a Service port's targetPort in a pod; None when the pod has no port of that name."""
    wanted = port.get("targetPort") or port["port"]
    if isinstance(wanted, int):
        return wanted
    if str(wanted).isdigit():
        return int(wanted)
    for container in pod["spec"]["containers"]:
        for one in container.get("ports") or []:
            if one.get("name") == wanted and one.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return one["containerPort"]
    return None


def _resolved(port: Object, pods: list[Object]) -> Object:
    number: Any = target_port(port, pods[0]) if pods else None
    made = {"port": number or port["port"], "protocol": port.get("protocol", "TCP")}
    return {"name": port["name"], **made} if port.get("name") else made


def _reference(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
