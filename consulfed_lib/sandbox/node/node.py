"""What the pods of a cluster's nodes share, and the container that a pod's spec becomes on them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..controllers.client import KubeClient, object_key
from ..controllers.events import Recorder
from ..controllers.informer import Informer, Informers
from ..controllers.volumes import claim_folder
from ..layout import ClusterLayout
from ..names import Names
from .addresses import AddressPool
from .dns import ClusterDns
from .resolve import expand
from .workload import Container, Program

Object = dict[str, Any]

_TOKEN_SECONDS = 365 * 24 * 3600


@dataclass
class Node:
    """What all pods of a cluster's nodes share.

    Attributes:
        informers: caches of the kubelet's own client, of which the next four are.
        volatile: the folder for pods' private files.
        names: the DNS names outside the cluster.
        program_for: makes the program of a container; None for one that is neither of a known component nor the
            consul CLI, nor of a known image.
        components: gives the components that are known.
        images: names of the images that are known, whatever the pod's component.
        sources_changed: set, and replaced by a new one, when a Secret or a ConfigMap changes.
    """

    cluster: ClusterLayout
    informers: Informers
    api_url: str
    ca_pem: str
    volatile: Path
    tools: Mapping[str, Path]
    names: Names
    addresses: AddressPool
    events: Recorder
    pods: Informer
    secrets: Informer
    config_maps: Informer
    services: Informer
    program_for: Callable[[Container], Program | None]
    components: Callable[[], set[str]]
    sources_changed: asyncio.Event
    images: frozenset[str] = frozenset()

    def address_of(self, namespace: str, name: str) -> str:
        """The address of a pod, also while the API server has not heard of it yet.

        With the host's network that is the node's.
        """
        pod = self.pods.get(name, namespace)
        if pod is not None and pod["spec"].get("hostNetwork"):
            return self.cluster.node_addresses.get(pod["spec"].get("nodeName", ""), "")
        return self.addresses.held((namespace, name))

    def folder_of(self, pod: Object) -> Path:
        """The private folder of a pod."""
        return self.volatile / str(pod["metadata"]["uid"])


async def service_account_token(node: Node, pod: Object) -> str:
    """A token of the pod's service account; empty where the pod mounts none. Raises KubeError."""
    spec = pod["spec"]
    account = spec.get("serviceAccountName") or "default"
    sources = (
        source
        for volume in spec.get("volumes") or []
        for source in volume.get("projected", {}).get("sources", [])
    )
    if not any("serviceAccountToken" in source for source in sources):
        return ""
    return await node.informers.client.create_token(
        pod["metadata"]["namespace"], account, expires_seconds=_TOKEN_SECONDS, pod=pod
    )


def with_addresses(pod: Object, address: str, host_ip: str) -> Object:
    """A copy of the pod that has its addresses, which the API server may not have been told yet."""
    pod = copy.deepcopy(pod)
    pod["status"] = {
        **(pod.get("status") or {}),
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
    }
    return pod


def base_environment(node: Node, pod: Object) -> dict[str, str]:
    """What every container has: a path, its host name, and where the API server is."""
    url = urlsplit(node.api_url)
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
        "KUBERNETES_SERVICE_HOST": url.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(url.port or 443),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(url.port or 443),
    }


def make_container(
    node: Node,
    pod: Object,
    spec: Object,
    token: str,
    mounted: dict[str, bytes],
    env: dict[str, str],
    log: Callable[[str], None],
) -> Container:
    """A container of the pod, with its folders made; the pod has its addresses."""
    namespace, _ = object_key(pod)
    folder = node.folder_of(pod) / spec["name"]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    claim = _mounted_claim(pod, spec)
    data = claim_folder(node.cluster, namespace, claim) if claim else folder / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Container(
        cluster=node.cluster,
        client=KubeClient(node.api_url, node.ca_pem, token, spec["name"], node.cluster.api_address),
        token=token,
        pod=pod,
        spec=spec,
        address=pod["status"]["podIP"],
        env=env,
        files=mounted,
        arguments=[expand(word, env) for word in words_of(spec)],
        folder=folder,
        data=data,
        log=log,
        tools=node.tools,
        dns=ClusterDns(namespace, node.services, node.pods, node.address_of, node.names),
        names=node.names,
    )


def component_of(pod: Object) -> str:
    """The `component` label of a pod, by which the sandbox knows what it does; empty where it has none."""
    return str((pod["metadata"].get("labels") or {}).get("component", ""))


def words_of(spec: Object) -> list[str]:
    """Command and args of a container, in one list."""
    return [*(spec.get("command") or []), *(spec.get("args") or [])]


def _mounted_claim(pod: Object, container: Object) -> str:
    """The first volume claim that a container mounts; empty when it mounts none."""
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    }
    mounts = container.get("volumeMounts") or []
    return next((claims[mount["name"]] for mount in mounts if mount["name"] in claims), "")
