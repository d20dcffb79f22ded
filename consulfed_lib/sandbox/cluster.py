"""One emulated cluster: its API server, and the controllers, kubelet and consul-k8s that are its clients."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..rbac.manifest import Subject, roles, shipped
from . import pki
from .apiserver import ApiServer, User
from .consul_k8s import JOBS, PASSIVE, Injector, run_consul_k8s
from .consul_k8s.admission import admit
from .controllers import run_controllers
from .controllers.client import KubeClient, Object
from .disturbances import AHEAD_SECONDS, CLOCK, DOWN, SLOW, SLOW_SECONDS, Disturbances
from .layout import API_PORT, ClusterLayout
from .names import Names
from .network import Network
from .node.consul_server import ConsulServer
from .node.images import CurlBox, HttpEcho
from .node.kubelet import NodeKubelet
from .node.mesh_gateway import MeshGateway
from .node.sidecar import Sidecar
from .node.workload import Program
from .state import Folder
from .tasks import Tasks

CONTROLLERS, KUBELET, CONSUL_K8S = COMPONENTS = ("kube-controller-manager", "kubelet", "consul-k8s")
"""The tasks of a cluster, each with a token of its own: so the audit log tells who did what."""

ADMIN = User("sandbox-admin", ("system:masters", "system:authenticated"))
SRE, READER = User("sandbox-sre", ()), User("sandbox-reader", ())
"""Who runs the runbook, and who only looks: their rights are those that `consulfed rbac` prints, and no more."""

CONTEXTS: Mapping[str, User] = {"": SRE, "-admin": ADMIN, "-read-only": READER}
"""Suffix of a context of the kubeconfig → as whom one is there."""

PROGRAMS: Mapping[str, type[Program]] = {"server": ConsulServer, "mesh-gateway": MeshGateway}
"""`component` label of a pod → what really runs in it."""

IMAGES: Mapping[str, type[Program]] = {"http-echo": HttpEcho, "curl": CurlBox, "consul-dataplane": Sidecar}
"""Image of a container in any other pod → what runs in it."""


class Cluster:
    """One emulated cluster: its API server, and the tasks that are its clients."""

    def __init__(
        self,
        layout: ClusterLayout,
        folder: Folder,
        tools: Mapping[str, Path],
        tasks: Tasks,
        names: Names,
        disturbances: Disturbances | None = None,
    ):
        self.layout = layout
        self.disturbances = disturbances or Disturbances()
        self.network = Network(layout, self.disturbances, folder.volatile)
        self.names = names
        self.tools = tools
        self.tasks = tasks
        self.volatile = folder.volatile / layout.name
        self.keys = pki.prepare(folder.keys(layout.name), layout.name, [layout.api_address])
        self.tokens = {suffix: secrets.token_urlsafe(32) for suffix in CONTEXTS}
        tokens = {name: secrets.token_urlsafe(32) for name in COMPONENTS}
        self.clients = {
            name: KubeClient(layout.api_url, self.keys.ca_pem, token, name, layout.api_address)
            for name, token in tokens.items()
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
                **{self.tokens[suffix]: user for suffix, user in CONTEXTS.items()},
                **{token: User(f"system:{name}", ADMIN.groups) for name, token in tokens.items()},
            },
            audit_log=layout.folder / "audit.log",
            cluster_ips=layout.cluster_ips,
            snapshot=layout.folder / "objects.json",
            objects=_rights(),
        )
        self.injector = Injector()
        self.server.webhook = self._webhook

    def _webhook(self, name: str, new: Object, old: Object | None, existing: list[Object]) -> str | None:
        if new.get("kind") == "Pod":
            return self.injector.admit(name, new)
        return admit(new, existing, creates=old is None)

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

    async def disturb(self) -> None:
        """Have the API server be as the disturbances say. Raises OSError when it cannot listen again."""
        at, disturbances = self.layout.index, self.disturbances
        self.server.delay = SLOW_SECONDS if disturbances.has(SLOW, at) else 0.0
        self.server.ahead = AHEAD_SECONDS if disturbances.has(CLOCK, at) else 0
        if disturbances.has(DOWN, at):
            await self.server.pause()
        else:
            await self.server.resume()
        self.server.drop_from(self.network.lost() if self.network.is_cut_off else [])

    async def stop(self) -> None:
        """Programs end before their API server, so that their pods' last state gets written."""
        await self.tasks.stop(f"{self.layout.name}/{CONSUL_K8S}", f"{self.layout.name}/{CONTROLLERS}")
        await self.tasks.stop(f"{self.layout.name}/{KUBELET}")
        for client in self.clients.values():
            await client.close()
        if self.started:
            await self.server.stop()

    async def _controllers(self) -> None:
        await run_controllers(self.layout, self.clients[CONTROLLERS], self.names, self.network)

    async def _consul_k8s(self) -> None:
        await run_consul_k8s(self.layout, self.clients[CONSUL_K8S], self.injector)

    async def _kubelet(self) -> None:
        kubelet = NodeKubelet(
            self.layout,
            self.clients[KUBELET],
            api_url=self.layout.api_url,
            ca_pem=self.keys.ca_pem,
            programs=PROGRAMS,
            jobs=JOBS,
            passive=PASSIVE,
            images=IMAGES,
            volatile=self.volatile,
            tools=self.tools,
            names=self.names,
        )
        self.server.kubelet = kubelet
        await kubelet.run()


def _rights() -> list[dict[str, Any]]:
    """The roles of the runbook and of who only looks, under names that `consulfed rbac` itself never uses."""
    return [
        each
        for user, read_only in ((SRE, False), (READER, True))
        for each in roles(shipped(read_only), Subject("User", user.name), user.name, labels={})
    ]


def kubeconfig(clusters: list[Cluster]) -> str:
    """YAML with three contexts for each cluster (see CONTEXTS); the first one is the current one."""
    users = {f"{c.layout.context}{suffix}": (c, c.tokens[suffix]) for suffix in CONTEXTS for c in clusters}
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters[0].layout.context,
        "clusters": [
            {
                "name": c.layout.context,
                "cluster": {
                    "server": c.layout.api_url,
                    "certificate-authority-data": base64.b64encode(c.keys.ca_pem.encode()).decode(),
                },
            }
            for c in clusters
        ],
        "users": [{"name": name, "user": {"token": token}} for name, (_, token) in users.items()],
        "contexts": [
            {"name": name, "context": {"cluster": c.layout.context, "user": name}}
            for name, (c, _) in users.items()
        ],
    }
    return yaml.safe_dump(value, sort_keys=False)
