"""What a gateway pod says of itself: by annotations since chart 1.0, by its init container's script before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

KIND = "consul.hashicorp.com/gateway-kind"
SERVICE_NAME = "consul.hashicorp.com/gateway-consul-service-name"
CONTAINER_PORT = "consul.hashicorp.com/mesh-gateway-container-port"
WAN_SOURCE = "consul.hashicorp.com/gateway-wan-address-source"
WAN_STATIC = "consul.hashicorp.com/gateway-wan-address-static"
WAN_PORT = "consul.hashicorp.com/gateway-wan-port"


class GatewayError(Exception):
    """The gateway cannot be registered as it is; the message says what is missing."""


@dataclass(frozen=True)
class MeshGateway:
    """How a mesh gateway pod is to be registered.

    Attributes:
        service: its name in Consul.
        port: its container port, which other pods of the datacenter dial.
        wan_source: where its WAN address comes from: Service, NodeIP, NodeName or Static.
        wan_static: the address, for Static.
        wan_port: the port that other datacenters dial.
        is_federated: whether it serves WAN federation; None where the connect-injector decides.
        has_own_node: whether it is on a node of its own in Consul's catalog, or on its client agent's.
    """

    service: str
    port: int
    wan_source: str
    wan_static: str
    wan_port: int
    is_federated: bool | None
    has_own_node: bool


def mesh_gateway(pod: dict[str, Any]) -> MeshGateway | None:
    """The mesh gateway that a pod is; None when it is none. Raises GatewayError when it is a broken one."""
    annotations = pod["metadata"].get("annotations") or {}
    kind = annotations.get(KIND)
    if kind == "mesh-gateway":
        for name in (SERVICE_NAME, WAN_SOURCE):
            if name not in annotations:
                raise GatewayError(f"failed to read annotation {name} from pod {pod['metadata']['name']}")
        return MeshGateway(
            service=annotations[SERVICE_NAME],
            port=_port(annotations.get(CONTAINER_PORT, ""), CONTAINER_PORT),
            wan_source=annotations[WAN_SOURCE],
            wan_static=annotations.get(WAN_STATIC, ""),
            wan_port=_port(annotations.get(WAN_PORT, ""), WAN_PORT),
            is_federated=None,
            has_own_node=True,
        )
    if kind is None and pod["metadata"].get("labels", {}).get("component") == "mesh-gateway":
        return _from_script(pod)
    return None


def _port(text: str, name: str) -> int:
    if not text.isdigit():
        raise GatewayError(f"failed to parse a port from annotation {name}, its value is {text!r}")
    return int(text)


def _from_script(pod: dict[str, Any]) -> MeshGateway | None:
    """Charts up to 0.49 write a service definition in the init container and register it by themselves."""
    for init in pod["spec"].get("initContainers", []):
        script = "\n".join([*init.get("command", []), *init.get("args", [])])
        if 'kind = "mesh-gateway"' not in script:
            continue
        address = _value(r'^\s*WAN_ADDR="(.*)"', script)
        source = {"${HOST_IP}": "NodeIP", "${NODE_NAME}": "NodeName"}.get(address, "Static")
        if "service-address" in script:
            source = "Service"
        return MeshGateway(
            service=_value(r'^\s*name = "([^"]*)"', script),
            port=int(_value(r"^\s*port = (\d+)", script)),
            wan_source=source,
            wan_static=address if source == "Static" else "",
            wan_port=int(_value(r'^\s*WAN_PORT="(\d+)"', script)),
            is_federated='consul-wan-federation = "1"' in script,
            has_own_node=False,
        )
    return None


def _value(pattern: str, script: str) -> str:
    match = re.search(pattern, script, re.MULTILINE)
    if match is None:
        raise GatewayError(f"the init container's script has no line like {pattern}")
    return match[1]


def wan_address(gateway: MeshGateway, pod: dict[str, Any], service: dict[str, Any] | None) -> str:
    """The address that other datacenters dial (endpoints controller, `getWanData`).

    A load balancer's entry with neither ip nor hostname gives the empty address, as there.

    Raises GatewayError while a load balancer has no address, and when the Service is missing.
    """
    host_ip = pod.get("status", {}).get("hostIP", "")
    if gateway.wan_source == "NodeName":
        return pod["spec"].get("nodeName", "")
    if gateway.wan_source == "NodeIP":
        return host_ip
    if gateway.wan_source == "Static":
        return gateway.wan_static
    if gateway.wan_source != "Service":
        return ""
    if service is None:
        raise GatewayError(f"no Service selects pod {pod['metadata']['name']}")
    kind = service["spec"].get("type", "ClusterIP")
    if kind == "NodePort":
        return host_ip
    if kind == "ClusterIP":
        return service["spec"].get("clusterIP", "")
    if kind != "LoadBalancer":
        return ""
    ingress = (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    if not ingress:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        raise GatewayError(
            f"failed to read ingress config for loadbalancer for service {name} in namespace {namespace}"
        )
    return ingress[0].get("ip") or ingress[0].get("hostname") or ""


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod's Ready condition is True."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_ending(pod: dict[str, Any]) -> bool:
    """Whether the pod is being deleted, or has ended."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in (
        "Succeeded",
        "Failed",
    )


def selects(service: dict[str, Any], pod: dict[str, Any]) -> bool:
    """Whether a Service's selector matches a pod; one without a selector matches none."""
    selector = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())
