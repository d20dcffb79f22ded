"""One emulated cluster: its API server, and the controllers, kubelet and consul-k8s that are its clients."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from . import pki
from .apiserver import ApiServer, User
from .consul_k8s import JOBS, PASSIVE, run_consul_k8s
from .consul_k8s.admission import admit
from .controllers import run_controllers
from .controllers.client import KubeClient
from .layout import API_PORT, ClusterLayout
from .names import Names
from .node.consul_server import ConsulServer
from .node.kubelet import NodeKubelet
from .node.mesh_gateway import MeshGateway
from .node.workload import Program
from .state import Folder
from .tasks import Tasks

CONTROLLERS, KUBELET, CONSUL_K8S = COMPONENTS = ("kube-controller-manager", "kubelet", "consul-k8s")
"""The tasks of a cluster, each with a token of its own: so the audit log tells who did what."""

ADMIN = User("sandbox-admin", ("system:masters", "system:authenticated"))

PROGRAMS: Mapping[str, type[Program]] = {"server": ConsulServer, "mesh-gateway": MeshGateway}
"""`component` label of a pod → what really runs in it."""


class Cluster:
    """One emulated cluster: its API server, and the tasks that are its clients."""

    def __init__(
        self, layout: ClusterLayout, folder: Folder, tools: Mapping[str, Path], tasks: Tasks, names: Names
    ):
        self.layout = layout
        self.names = names
        self.tools = tools
        self.tasks = tasks
        self.volatile = folder.volatile / layout.name
        self.keys = pki.prepare(folder.keys(layout.name), layout.name, [layout.api_address])
        self.admin_token = secrets.token_urlsafe(32)
        tokens = {name: secrets.token_urlsafe(32) for name in COMPONENTS}
        self.clients = {
            name: KubeClient(layout.api_url, self.keys.ca_pem, token, name) for name, token in tokens.items()
        }
        self.started = False
        layout.folder.mkdir(mode=0o700, exist_ok=True)
        self.server = ApiServer(
            name=layout.name,
            host=layout.api_address,
            port=API_PORT,
            certificate=self.keys.certificate,
            private_key=self.keys.private_key,
            ca_pem=self.keys.ca_pem,
            service_account_key=self.keys.service_account_key,
            tokens={
                self.admin_token: ADMIN,
                **{token: User(f"system:{name}", ADMIN.groups) for name, token in tokens.items()},
            },
            audit_log=layout.folder / "audit.log",
            cluster_ips=layout.cluster_ips,
            snapshot=layout.folder / "objects.json",
        )
        self.server.webhook = lambda name, new, old, existing: admit(new, existing)

    async def start(self) -> None:
        """Returns when the API server answers, and the kubelet has registered every node with it."""
        await self.server.start()
        self.started = True
        self.tasks.start(f"{self.layout.name}/{CONTROLLERS}", self._controllers)
        self.tasks.start(f"{self.layout.name}/{KUBELET}", self._kubelet)
        self.tasks.start(f"{self.layout.name}/{CONSUL_K8S}", self._consul_k8s)
        missing = set(self.layout.node_addresses)
        async with contextlib.aclosing(self.clients[CONTROLLERS].watch("v1", "nodes")) as nodes:
            async for _, node in nodes:
                missing.discard(node["metadata"]["name"])
                if not missing:
                    return

    async def stop(self) -> None:
        """Programs end before their API server, so that their pods' last state gets written."""
        await self.tasks.stop(f"{self.layout.name}/{CONSUL_K8S}", f"{self.layout.name}/{CONTROLLERS}")
        await self.tasks.stop(f"{self.layout.name}/{KUBELET}")
        for client in self.clients.values():
            await client.close()
        if self.started:
            await self.server.stop()

    async def _controllers(self) -> None:
        await run_controllers(self.layout, self.clients[CONTROLLERS], self.names)

    async def _consul_k8s(self) -> None:
        await run_consul_k8s(self.layout, self.clients[CONSUL_K8S])

    async def _kubelet(self) -> None:
        kubelet = NodeKubelet(
            self.layout,
            self.clients[KUBELET],
            api_url=self.layout.api_url,
            ca_pem=self.keys.ca_pem,
            programs=PROGRAMS,
            jobs=JOBS,
            passive=PASSIVE,
            volatile=self.volatile,
            tools=self.tools,
            names=self.names,
        )
        self.server.kubelet = kubelet
        await kubelet.run()


def kubeconfig(clusters: list[Cluster]) -> str:
    """YAML with a context for each cluster; the first one is the current one."""

    def entry(cluster: Cluster, kind: str, content: dict[str, str]) -> dict[str, Any]:
        return {"name": cluster.layout.context, kind: content}

    ca = {c: base64.b64encode(c.keys.ca_pem.encode()).decode() for c in clusters}
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters[0].layout.context,
        "clusters": [
            entry(c, "cluster", {"server": c.layout.api_url, "certificate-authority-data": ca[c]})
            for c in clusters
        ],
        "users": [entry(c, "user", {"token": c.admin_token}) for c in clusters],
        "contexts": [
            entry(c, "context", {"cluster": c.layout.context, "user": c.layout.context}) for c in clusters
        ],
    }
    return yaml.safe_dump(value, sort_keys=False)
