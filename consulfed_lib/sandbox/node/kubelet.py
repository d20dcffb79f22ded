"""The kubelet of a cluster's nodes: registers them, runs the pods that are bound to them, and serves their
streams.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..controllers.client import DELETED, KubeClient, object_key
from ..controllers.controller import now
from ..controllers.events import Recorder
from ..controllers.informer import Informers
from ..layout import ClusterLayout
from ..names import Names
from .addresses import AddressPool
from .cli import ConsulCli, cli_words
from .images import image_name
from .inside import JobProgram, PassiveProgram, Predicate
from .node import Node
from .pod_worker import PodWorker
from .workload import Container, Job, Program

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Send = Callable[[bytes], Awaitable[None]]

KUBELET_VERSION = "v1.33.0"
_PODS_PER_NODE = "110"
_HELM_RELEASE = "helm.sh/release.v1"


class PodNotRunning(Exception):
    """A stream was asked for of a pod or a container that does not run; the message is the kubelet's own."""


class NodeKubelet:
    """One kubelet for all nodes of a cluster.

    Args:
        programs: `component` label → what runs in such a pod.
        jobs: the same for pods that do a piece of work and end.
        images: name of an image, without registry and tag → what runs in a container of it, in a pod of no component.
        passive: components without a process, because the sandbox does their work itself. As a mapping it
            gives for each a predicate that says whether the pod is ready; else it is once it runs.
        volatile: a folder for pods' files, private and preferably in memory. What an earlier kubelet left in
            it is removed: its programs died with it.
        tools: name → path of programs on this machine.
        names: the DNS names outside the cluster.
    """

    def __init__(
        self,
        cluster: ClusterLayout,
        client: KubeClient,
        *,
        api_url: str,
        ca_pem: str,
        programs: Mapping[str, type[Program]],
        jobs: Mapping[str, Job],
        volatile: Path,
        tools: Mapping[str, Path],
        passive: Collection[str] | Mapping[str, Predicate] = frozenset(),
        images: Mapping[str, type[Program]] | None = None,
        names: Names | None = None,
    ):
        self._cluster = cluster
        self._programs = programs
        self._jobs = jobs
        self._passive = passive
        self._images = images or {}
        self._informers = informers = Informers(client)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claims = informers.of("v1", "persistentvolumeclaims")
        self._node = Node(
            cluster=cluster,
            informers=informers,
            api_url=api_url,
            ca_pem=ca_pem,
            volatile=volatile,
            tools=tools,
            names=names or Names(),
            addresses=AddressPool(cluster.pod_addresses),
            events=Recorder(client, "kubelet"),
            pods=informers.of("v1", "pods"),
            # Releases are the largest Secrets by far, and no pod mounts one.
            secrets=informers.of("v1", "secrets", field_selector=f"type!={_HELM_RELEASE}"),
            config_maps=informers.of("v1", "configmaps"),
            services=informers.of("v1", "services"),
            program_for=self._program_for,
            components=lambda: {*programs, *jobs, *passive},
            sources_changed=asyncio.Event(),
            images=frozenset(self._images),
        )

    def _program_for(self, container: Container) -> Program | None:
        component = container.component
        if component in self._jobs:
            return JobProgram(container, self._jobs[component])
        if component in self._programs:
            return self._programs[component](container)
        if component in self._passive:
            predicates = self._passive if isinstance(self._passive, Mapping) else {}
            return PassiveProgram(container, predicates.get(component))
        if (image := image_name(container.spec)) in self._images:
            return self._images[image](container)
        words = cli_words(container.spec, container.arguments)
        return None if words is None else ConsulCli(container, words)

    async def run(self) -> None:
        """Work until cancelled; then every program is ended, and the objects are left as they are."""
        shutil.rmtree(self._node.volatile, ignore_errors=True)
        self._node.volatile.mkdir(parents=True, mode=0o700)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informers.run())
                await self._register_nodes()
                await self._informers.synced()
                for informer in (self._node.secrets, self._node.config_maps):
                    informer.subscribe(self._on_source)
                self._keep_addresses()
                self._sweep_volumes()
                self._claims.subscribe(self._on_claim)
                self._node.pods.subscribe(self._on_pod)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_source(self, change: str, item: Object, before: Object | None) -> None:
        """Wake the pods that wait for a Secret or a ConfigMap."""
        self._node.sources_changed.set()
        self._node.sources_changed = asyncio.Event()

    def _keep_addresses(self) -> None:
        """Pods of an earlier kubelet get their addresses before any new one does."""
        for pod in self._node.pods.all():
            address = (pod.get("status") or {}).get("podIP", "")
            if address in self._cluster.pod_addresses and self._is_to_run(pod):
                self._node.addresses.take(object_key(pod), address)

    def _is_to_run(self, pod: Object) -> bool:
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        terminating = bool(pod["metadata"].get("deletionTimestamp"))
        return pod["spec"].get("nodeName") in self._cluster.node_addresses and (terminating or not ended)

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if change == DELETED:
            if worker is not None:
                worker.gone()
        elif worker is not None:
            worker.update(pod)
        elif self._is_to_run(pod):
            self._workers[uid] = PodWorker(self._node, pod)
            self._tasks[uid] = asyncio.create_task(self._work(uid))

    async def _work(self, uid: str) -> None:
        worker = self._workers[uid]
        # A pod that takes the place of another one of its name waits until that is gone from the node.
        for other in [one for one in self._workers.values() if one.key == worker.key and one is not worker]:
            await asyncio.wait({self._tasks[other.uid]})
        try:
            await worker.run()
        finally:
            del self._workers[uid], self._tasks[uid]
            self._sweep_volumes()

    def _on_claim(self, change: str, claim: Object, before: Object | None) -> None:
        if change == DELETED:
            self._sweep_volumes()

    def _sweep_volumes(self) -> None:
        """Remove the data of claims that are gone, once no pod uses it."""
        used = {
            (worker.key[0], volume["persistentVolumeClaim"]["claimName"])
            for worker in self._workers.values()
            for volume in worker.pod["spec"].get("volumes") or []
            if "persistentVolumeClaim" in volume
        }
        for folder in (self._cluster.folder / "volumes").glob("*/*"):
            key = (folder.parent.name, folder.name)
            if key not in used and key not in self._claims.items:
                shutil.rmtree(folder, ignore_errors=True)

    async def _register_nodes(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": _PODS_PER_NODE}
        client = self._informers.client
        for name, address in self._cluster.node_addresses.items():
            labels = {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), ""),
                "topology.kubernetes.io/region": "sandbox",
                "topology.kubernetes.io/zone": f"sandbox-{self._cluster.name}",
            }
            # As on k3s, whose own controller gives addresses to LoadBalancer Services: what looks for one before
            # there is a Service can see it here.
            spec = {"providerID": f"k3s://{name}"}
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
                "spec": spec,
            }
            await client.apply("v1", "nodes", name, node)
            ready = {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": now(),
                "lastTransitionTime": now(),
            }
            status = {
                "capacity": resources,
                "allocatable": resources,
                "conditions": [ready],
                "addresses": [
                    {"type": "InternalIP", "address": address},
                    {"type": "Hostname", "address": name},
                ],
                "nodeInfo": {
                    "kubeletVersion": KUBELET_VERSION,
                    "kubeProxyVersion": KUBELET_VERSION,
                    "containerRuntimeVersion": "sandbox://1",
                    "operatingSystem": "linux",
                    "architecture": labels["kubernetes.io/arch"],
                    "kernelVersion": platform.release(),
                    "osImage": "consulfed sandbox",
                    "machineID": "",
                    "systemUUID": "",
                    "bootID": "",
                },
            }
            await client.merge_patch("v1", "nodes", name, {"status": status}, subresource="status")

    def _worker(self, namespace: str, pod: str) -> PodWorker | None:
        found = [one for one in self._workers.values() if one.key == (namespace, pod)]
        return found[-1] if found else None

    async def logs(
        self, namespace: str, pod: str, container: str, *, follow: bool, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        """Chunks of the container's log, oldest first."""
        worker = self._worker(namespace, pod)
        run = worker.run_of(container) if worker is not None else None
        if run is not None:
            async for chunk in run.log.read(follow=follow, tail_lines=tail_lines):
                yield chunk
            return
        path = self._cluster.folder / "logs" / namespace / f"{pod}.{container}.log"
        if worker is None and path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            for line in lines if tail_lines is None else lines[max(0, len(lines) - tail_lines) :]:
                yield line

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        stdin: asyncio.StreamReader | None,
        stdout: Send,
        stderr: Send,
        tty: bool,
    ) -> int:
        """Run a command in a container, as far as its program allows. Raises PodNotRunning.

        Without a command it is `kubectl attach`, which nothing here needs: the container's output is in its log.
        """
        if not command:
            await stderr(b"attach is not to be had in the sandbox: see kubectl logs\n")
            return 126
        worker = self._worker(namespace, pod)
        run = worker.run_of(container) if worker is not None else None
        main = worker.runs[0] if worker is not None else None
        if run is None and main is not None and main.running:
            await stderr(f"exec failed: the sandbox runs no process for container {container}\n".encode())
            return 126
        if run is None or run.program is None or not run.running:
            name = container or (main.name if main is not None else "")
            raise PodNotRunning(f'unable to upgrade connection: container not found ("{name}")')
        return await run.program.exec(command, stdin, stdout, stderr)

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of the pod. Raises OSError."""
        address = self._node.address_of(namespace, pod)
        if not address:
            raise ConnectionRefusedError(f"pod {namespace}/{pod} is not running")
        return await asyncio.open_connection(address, port)
