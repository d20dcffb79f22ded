"""One pod on a node: from being bound to it until the object is gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import Any

from ..controllers.client import KubeError, object_key
from ..controllers.controller import now
from .cli import cli_words
from .container_run import ContainerRun
from .host_ports import HostPorts
from .images import image_name
from .node import Node, component_of, with_addresses, words_of
from .pod_status import PodState, earlier_state, terminated

logger = logging.getLogger(__name__)

Object = dict[str, Any]

_RETRY_SECONDS = 0.3


class PodWorker:
    """Runs one pod. `run` returns when nothing of it is left on the node.

    A pod of a component that the sandbox knows has one program, that of its first container (`pod_status`). In any
    other pod every container has to be the consul CLI, or of an image that the sandbox knows, and each one is run.
    """

    def __init__(self, node: Node, pod: Object):
        self.node = node
        self.pod = pod
        self.key = object_key(pod)
        self.uid: str = pod["metadata"]["uid"]
        self._gone = False
        self._host_ports = HostPorts()
        self._ending = asyncio.Event()
        self._folder = node.folder_of(pod)
        spec, status = pod["spec"], pod.get("status") or {}
        policy = spec.get("restartPolicy", "Always")
        self._is_component = component_of(pod) in node.components()
        own = spec["containers"][:1] if self._is_component else spec["containers"]
        first = [] if self._is_component else spec.get("initContainers") or []
        self.runs = [ContainerRun(self, one, policy, earlier_state(pod, one["name"])) for one in own]
        self._init = [
            ContainerRun(
                self, one, "Never" if policy == "Never" else "OnFailure",
                earlier_state(pod, one["name"], "initContainerStatuses"),
            )
            for one in first
        ]  # fmt: skip
        states = {one.name: one.state for one in self.runs}
        shared = self.runs[0].state
        self._state = PodState(
            host_ip=node.cluster.node_addresses[spec["nodeName"]],
            start_time=status.get("startTime") or now(),
            containers={one["name"]: states.get(one["name"], shared) for one in spec["containers"]},
            init={one.name: one.state for one in self._init},
            conditions=status.get("conditions") or [],
        )
        self.update(pod)

    def update(self, pod: Object) -> None:
        """The object has changed."""
        self.pod = pod
        for run in (*self._init, *self.runs):
            if run.program is not None:
                run.program.container.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()

    def run_of(self, container: str) -> ContainerRun | None:
        """The run of a container, of the first one for an empty name; None for one that is not run here."""
        if not container:
            return self.runs[0]
        return next((one for one in (*self.runs, *self._init) if one.name == container), None)

    def gone(self) -> None:
        """The object was removed without waiting for the node, as by a forced deletion."""
        self._gone = True
        self._ending.set()

    async def run(self) -> None:
        life, ending = asyncio.create_task(self._live()), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({life, ending}, return_when=asyncio.FIRST_COMPLETED)
            if life.done() and not life.cancelled() and life.exception() is not None:
                # A mistake of ours: told where a person looks, and the pod does not look alive.
                logger.error("pod %s/%s", *self.key, exc_info=life.exception())
                await self._end(life)
                await self._fail(f"the sandbox's kubelet failed: {life.exception()}")
            await ending
            await self._end(life)
            self._clean()
            if not self._gone:
                await self._delete_object()
        except asyncio.CancelledError:
            # The node shuts down: programs end, the objects stay, and start again with the next kubelet.
            await self._end(life)
            self._clean()
            raise
        finally:
            ending.cancel()

    async def _end(self, life: asyncio.Task[None]) -> None:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        patient = self._ending.is_set() and not self._gone
        await asyncio.gather(*(one.end(patient=patient) for one in (*self._init, *self.runs)))
        await self._host_ports.close()

    def _clean(self) -> None:
        """Give back what the pod held on the node; harmless to repeat."""
        for one in (*self._init, *self.runs):
            one.log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._state.address:
            self.node.addresses.release(self.key)
            self._state.address = ""

    async def _delete_object(self) -> None:
        while True:
            try:
                await self.node.informers.delete("pods", self.pod, grace_seconds=0)
                return
            except KubeError as error:
                logger.debug("deletion of pod %s/%s: %s", *self.key, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _live(self) -> None:
        """Until the pod has Succeeded or Failed."""
        unknown = [] if self._is_component else self._unknown()
        await self._take_address()
        if unknown:
            await self._no_image(unknown)
            return
        for one in self._init:
            await one.live()
            if one.state.ended is not None and one.state.ended["exitCode"]:
                await self._finish()
                return
        self._state.initialized = self._state.initialized or bool(self._init)
        async with asyncio.TaskGroup() as group:
            for one in self.runs:
                group.create_task(one.live())
        await self._finish()

    def _unknown(self) -> list[ContainerRun]:
        """The containers that cannot be run."""
        return [
            one
            for one in (*self._init, *self.runs)
            if image_name(one.spec) not in self.node.images
            and cli_words(one.spec, words_of(one.spec)) is None
        ]

    async def _take_address(self) -> None:
        if self.pod["spec"].get("hostNetwork"):
            self._state.address = self._state.host_ip
            return
        had = (self.pod.get("status") or {}).get("podIP", "")
        while not (address := self.node.addresses.take(self.key, had)):
            await self.event(
                "Warning", "FailedCreatePodSandBox", "every pod address of this sandbox is taken"
            )
            await asyncio.sleep(1)
        self._state.address = address
        while problem := await self._host_ports.open(self.pod, self._state.host_ip, address):
            await self.event("Warning", "FailedCreatePodSandBox", problem)
            await asyncio.sleep(1)

    async def _finish(self) -> None:
        """All of its containers have ended for good."""
        self._state.initialized = self._state.initialized or self._state.phase == "Succeeded"
        await self.publish()
        await self._host_ports.close()
        self._clean()

    async def _fail(self, message: str) -> None:
        for one in self._state.containers.values():
            one.ended, one.ready = terminated(1, one.started_at, message), False
        await self._finish()

    async def _no_image(self, unknown: list[ContainerRun]) -> None:
        """What the sandbox does not know it cannot run: an image that cannot be pulled, and stays so."""
        for one in unknown:
            image = one.spec.get("image", "")
            message = (
                f'Failed to pull image "{image}": the sandbox has no program for the component label '
                f'"{component_of(self.pod)}"; it knows {", ".join(sorted(self.node.components()))}, '
                "and in other pods it runs containers whose command is consul"
                + "".join(f", or whose image is {name}" for name in sorted(self.node.images))
            )
            await one.wait_with("ErrImagePull", message)
            await self.event("Warning", "Failed", message)
            await self.event("Warning", "Failed", "Error: ErrImagePull")
            await one.wait_with("ImagePullBackOff", f'Back-off pulling image "{image}": {message}')
        await self._ending.wait()

    def placed(self) -> Object:
        return with_addresses(self.pod, self._state.address, self._state.host_ip)

    def started(self) -> None:
        """The first program of a component has started, so that what its init containers do has been done."""
        self._state.initialized = self._state.initialized or self._is_component

    async def publish(self) -> None:
        """Write the status; waits while the API server is away, and gives up when the pod is gone."""
        while not self._gone:
            current = self.node.pods.get(self.key[1], self.key[0])
            if current is None or current["metadata"]["uid"] != self.uid:
                return
            try:
                await self.node.informers.set_status("pods", current, self._state.as_status(current))
                return
            except KubeError as error:
                if error.status in (404, 409):
                    return
                logger.debug("status of pod %s/%s: %s", *self.key, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def event(self, kind: str, reason: str, message: str) -> None:
        await self.node.events.record(self.pod, kind, reason, message, host=self.pod["spec"]["nodeName"])
