"""A cluster of the sandbox for the tests of controllers and kubelet, whose containers do as a test tells them.

Everything is real but the programs: API server, controllers, kubelet, over TLS on addresses of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from consulfed_lib.sandbox import pki
from consulfed_lib.sandbox.apiserver import ApiServer, User
from consulfed_lib.sandbox.controllers import run_controllers
from consulfed_lib.sandbox.controllers.client import DELETED, KubeClient, Object
from consulfed_lib.sandbox.layout import API_PORT, ClusterLayout
from consulfed_lib.sandbox.names import Names
from consulfed_lib.sandbox.node.kubelet import NodeKubelet
from consulfed_lib.sandbox.node.workload import Container, Program

BLOCK = 97
NAMESPACE = "default"
PATIENCE_SECONDS = 15


class Scripted(Program):
    """A program that is ready, ends and stops when the test says so; every instance is in `made`, by pod."""

    made: dict[str, list[Scripted]] = {}  # noqa: RUF012 (emptied by each cluster)
    ready_at_once = True

    def __init__(self, container: Container):
        super().__init__(container)
        self.is_ready = type(self).ready_at_once
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stopped = False
        self.made.setdefault(container.name, []).append(self)

    async def start(self) -> None:
        self.container.log(f"started {self.container.name}")

    async def ready(self) -> bool:
        return self.is_ready

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    async def stop(self) -> None:
        self.stopped = True
        if not self.ended.done():
            self.ended.set_result(143)

    async def exec(
        self,
        command: list[str],
        stdin: asyncio.StreamReader | None,
        stdout: Callable[[bytes], Awaitable[None]],
        stderr: Callable[[bytes], Awaitable[None]],
    ) -> int:
        await stdout(" ".join(command).encode())
        return 7


class SmallCluster:
    """API server, controllers and kubelet of one cluster; each can be stopped and started again."""

    def __init__(self, folder: Path, nodes: int, load_balancer: str = "ip"):
        self.layout = ClusterLayout(folder, BLOCK, 1 + os.getpid() % 240, nodes, load_balancer)
        self.names = Names(folder / "hosts", self.layout.node_addresses)
        self.keys = pki.prepare(folder / "keys", "test", [self.layout.api_address])
        self._token = secrets.token_urlsafe()
        self.client = self.new_client("test")
        self.jobs: dict[str, Callable[[Container], Awaitable[int]]] = {}
        self.tools: dict[str, Path] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.server = self._make_server()
        self.kubelet: NodeKubelet | None = None

    def new_client(self, name: str) -> KubeClient:
        return KubeClient(self.layout.api_url, self.keys.ca_pem, self._token, name)

    def _make_server(self) -> ApiServer:
        return ApiServer(
            name="test",
            host=self.layout.api_address,
            port=API_PORT,
            certificate=self.keys.certificate,
            private_key=self.keys.private_key,
            ca_pem=self.keys.ca_pem,
            service_account_key=self.keys.service_account_key,
            tokens={self._token: User("test", ("system:masters", "system:authenticated"))},
        )

    async def restart_server(self, *, keep: bool) -> None:
        """Stop the API server and start another one, with the same objects or with none."""
        state = self.server.store.state()
        await self.server.stop()
        self.server = self._make_server()
        if keep:
            self.server.store.restore(state)
        await self.server.start()

    def start_controllers(self) -> None:
        client = self.new_client("controllers")
        self._tasks["controllers"] = asyncio.create_task(
            self._with(client, run_controllers(self.layout, client, self.names))
        )

    def start_kubelet(self) -> None:
        client = self.new_client("kubelet")
        self.kubelet = NodeKubelet(
            self.layout,
            client,
            api_url=self.layout.api_url,
            ca_pem=self.keys.ca_pem,
            programs={"scripted": Scripted},
            jobs=self.jobs,
            volatile=self.layout.folder / "volatile",
            tools=self.tools,
            names=self.names,
        )
        self._tasks["kubelet"] = asyncio.create_task(self._with(client, self.kubelet.run()))

    @staticmethod
    async def _with(client: KubeClient, work: Awaitable[None]) -> None:
        async with client:
            await work

    async def stop(self, *names: str) -> None:
        for name in names:
            task = self._tasks.pop(name)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def stop_all(self) -> None:
        await self.stop(*list(self._tasks))
        await self.client.close()
        await self.server.stop()

    async def until(
        self,
        api_version: str,
        plural: str,
        name: str,
        holds: Callable[[Object], Any],
        namespace: str = NAMESPACE,
    ) -> Object:
        """Watch an object until `holds` is true of it; the object. Fails with its last state."""
        last: Object = {}
        events = self.client.watch(
            api_version, plural, namespace or None, field_selector=f"metadata.name={name}"
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for kind, item in events:
                    last = item
                    if kind != DELETED and holds(item):
                        return item
        except TimeoutError:
            raise AssertionError(f"{plural} {name} did not come so far: {last.get('status')}") from None
        raise AssertionError("the watch ended")

    async def until_gone(self, api_version: str, plural: str, name: str, namespace: str = NAMESPACE) -> None:
        """Watch until there is no such object."""
        selector = f"metadata.name={name}"
        events = self.client.watch(
            api_version, plural, namespace or None, field_selector=selector, marks=True
        )
        present = False
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for kind, item in events:
                if item:
                    present = kind != DELETED
                if not present and (kind == DELETED or not item):
                    return

    async def until_event(self, reason: str, about: str) -> str:
        """The message of the first Event of that reason about an object of that name."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _, event in self.client.watch("v1", "events", NAMESPACE):
                if (event["reason"], event["involvedObject"]["name"]) == (reason, about):
                    return str(event["message"])
        raise AssertionError("the watch ended")


@contextlib.asynccontextmanager
async def small_cluster(
    folder: Path, *, nodes: int = 1, load_balancer: str = "ip"
) -> AsyncIterator[SmallCluster]:
    """A running cluster, with its default service account in place."""
    Scripted.made.clear()
    Scripted.ready_at_once = True
    cluster = SmallCluster(folder, nodes, load_balancer)
    await cluster.server.start()
    try:
        cluster.start_controllers()
        cluster.start_kubelet()
        await cluster.until("v1", "serviceaccounts", "default", lambda item: True)
        yield cluster
    finally:
        await cluster.stop_all()


def pod_spec(**more: Any) -> Object:
    return {
        "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "main", "image": "example/main:1", **more.pop("container", {})}],
        **more,
    }


def pod(
    name: str, *, component: str = "scripted", labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"component": component, **(labels or {})}},
        "spec": pod_spec(**spec),
    }


def workload(
    kind: str, name: str, *, api_version: str = "apps/v1", component: str = "scripted", **spec: Any
) -> Object:
    """A StatefulSet, Deployment, … whose pods carry the labels app=name and component."""
    labels = {"app": name, "component": component}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec.pop("pod", pod_spec())},
            **spec,
        },
    }


def is_ready(item: Object) -> bool:
    conditions = item.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def waiting_reason(item: Object) -> str:
    statuses = item.get("status", {}).get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))
