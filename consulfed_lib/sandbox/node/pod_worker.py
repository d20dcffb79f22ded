"""One pod on a node: from being bound to it until the object is gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import Any

from ..controllers.client import KubeError, object_key
from ..controllers.controller import now
from .logs import ContainerLog
from .node import Node, base_environment, make_container, service_account_token, with_addresses
from .pod_status import PodState, earlier_run, terminated
from .resolve import EnvError, MountError, Sources, environment, files
from .workload import Container, Program

logger = logging.getLogger(__name__)

Object = dict[str, Any]

BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Waits before a container is started again; Kubernetes takes 10 s, 20 s, … 5 min."""

_STEADY_SECONDS = 60
_STARTING_SECONDS, _RUNNING_SECONDS = 0.1, 1.0
_SHUTDOWN_SECONDS = 1
_RETRY_SECONDS = 0.3


class PodWorker:
    """Runs one pod. `run` returns when nothing of it is left on the node."""

    def __init__(self, node: Node, pod: Object):
        self.node = node
        self.pod = pod
        self.key = object_key(pod)
        self.uid: str = pod["metadata"]["uid"]
        self.program: Program | None = None
        name = pod["spec"]["containers"][0]["name"]
        path = node.cluster.folder / "logs" / self.key[0] / f"{self.key[1]}.{name}.log"
        self.log = ContainerLog(path)
        self._gone = False
        self._ending = asyncio.Event()
        self._folder = node.folder_of(pod)
        status = pod.get("status") or {}
        self._state = PodState(
            host_ip=node.cluster.node_addresses[pod["spec"]["nodeName"]],
            start_time=status.get("startTime") or now(),
            conditions=status.get("conditions") or [],
        )
        self.update(pod)

    def update(self, pod: Object) -> None:
        """The object has changed."""
        self.pod = pod
        if self.program is not None:
            self.program.container.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()

    @property
    def running(self) -> bool:
        """Whether the main container's program has started and has not ended."""
        return bool(self._state.started_at) and self._state.ended is None

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
        if self.program is None:
            return
        patient = self._ending.is_set() and not self._gone
        limit = self.program.container.grace + 2 if patient else _SHUTDOWN_SECONDS
        try:
            await asyncio.wait_for(self.program.stop(), limit)
        except TimeoutError:
            logger.warning("pod %s/%s did not stop within %s s", *self.key, limit)
        await self._close()

    async def _close(self) -> None:
        if self.program is not None:
            await self.program.container.client.close()
            self.program = None

    def _clean(self) -> None:
        """Give back what the pod held on the node; harmless to repeat."""
        self.log.close()
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
        policy = self.pod["spec"].get("restartPolicy", "Always")
        running, self._state.restarts = earlier_run(self.pod)
        attempt = 0
        if running is not None:
            # Its process died with the kubelet that had started it.
            lost = terminated(137, running.get("startedAt", ""), reason="ContainerStatusUnknown")
            if policy == "Never":
                await self._finish(lost)
                return
            self._state.last, self._state.restarts = lost, self._state.restarts + 1
        await self._take_address()
        while True:
            container = await self._prepare()
            self.program = self.node.program_for(container)
            if self.program is None:
                await self._no_image(container)
                return
            began = asyncio.get_running_loop().time()
            ended = await self._run_program(self.program)
            await self._close()
            if policy == "Never" or (policy == "OnFailure" and ended["exitCode"] == 0):
                await self._finish(ended)
                return
            attempt = 0 if asyncio.get_running_loop().time() - began > _STEADY_SECONDS else attempt + 1
            self._state.last, self._state.started_at, self._state.ready = ended, "", False
            self._state.restarts += 1
            await self._back_off(BACKOFF_SECONDS[min(max(attempt - 1, 0), len(BACKOFF_SECONDS) - 1)])

    async def _take_address(self) -> None:
        if self.pod["spec"].get("hostNetwork"):
            self._state.address = self._state.host_ip
            return
        had = (self.pod.get("status") or {}).get("podIP", "")
        while not (address := self.node.addresses.take(self.key, had)):
            await self._event(
                "Warning", "FailedCreatePodSandBox", "every pod address of this sandbox is taken"
            )
            await asyncio.sleep(1)
        self._state.address = address

    async def _prepare(self) -> Container:
        """Resolve what the container's spec refers to; waits, telling why, until all of it is there."""
        first = self.pod["spec"]["containers"][0]
        initial = "PodInitializing" if self.pod["spec"].get("initContainers") else "ContainerCreating"
        while True:
            changed = self.node.sources_changed
            await self._wait_with(initial, "")
            try:
                token = await service_account_token(self.node, self.pod)
                pod = with_addresses(self.pod, self._state.address, self._state.host_ip)
                sources = Sources(self.node.secrets, self.node.config_maps, pod)
                mounted = files(first, sources, token)
            except MountError as error:
                await self._event("Warning", "FailedMount", str(error))
                await changed.wait()
                continue
            except KubeError as error:
                why = str(MountError("kube-api-access", f"failed to fetch token: {error.message}"))
                await self._event("Warning", "FailedMount", why)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                env = environment(first, sources, base_environment(self.node, pod))
            except EnvError as error:
                await self._wait_with("CreateContainerConfigError", str(error))
                await self._event("Warning", "Failed", f"Error: {error}")
                await changed.wait()
                continue
            return make_container(self.node, pod, token, mounted, env, self.log.append)

    async def _run_program(self, program: Program) -> Object:
        """Start it, follow its readiness, and return how it ended."""
        state = self._state
        try:
            await program.start()
        except Exception as error:
            program.container.log(f"sandbox: cannot start: {error}")
            logger.debug("pod %s/%s does not start", *self.key, exc_info=True)
            await program.stop()
            return terminated(1, "", self.log.last())
        state.initialized, state.phase, state.started_at = True, "Running", now()
        await self._publish()
        await self._event("Normal", "Started", f"Started container {self._main_name()}")
        waiter = asyncio.create_task(program.wait())
        try:
            while not waiter.done():
                ready = await self._is_ready(program)
                if ready != state.ready:
                    state.ready = ready
                    await self._publish()
                await asyncio.wait({waiter}, timeout=_RUNNING_SECONDS if ready else _STARTING_SECONDS)
            return terminated(waiter.result(), state.started_at, self.log.last())
        finally:
            waiter.cancel()
            if waiter.done():
                await program.stop()

    async def _is_ready(self, program: Program) -> bool:
        try:
            return await program.ready()
        except Exception:
            # A probe that fails, for whatever reason, is a pod that is not ready.
            logger.debug("readiness of pod %s/%s", *self.key, exc_info=True)
            return False

    async def _finish(self, ended: Object) -> None:
        state = self._state
        state.phase = "Succeeded" if ended["exitCode"] == 0 else "Failed"
        state.ended, state.ready = ended, False
        state.initialized = state.initialized or ended["exitCode"] == 0
        await self._publish()
        self._clean()

    async def _fail(self, message: str) -> None:
        await self._finish(terminated(1, self._state.started_at, message))

    async def _back_off(self, seconds: float) -> None:
        if seconds:
            name = f"{self._main_name()} pod={self.key[1]}_{self.key[0]}({self.uid})"
            message = f"back-off {seconds:g}s restarting failed container={name}"
            await self._wait_with("CrashLoopBackOff", message)
            await self._event(
                "Warning", "BackOff", f"Back-off restarting failed container {self._main_name()}"
            )
            await asyncio.sleep(seconds)

    async def _no_image(self, container: Container) -> None:
        """What the sandbox does not know it cannot run: an image that cannot be pulled, and stays so."""
        image = self.pod["spec"]["containers"][0].get("image", "")
        message = (
            f'Failed to pull image "{image}": the sandbox has no program for the component label '
            f'"{container.component}"; it knows {self.node.known}'
        )
        await container.client.close()
        await self._wait_with("ErrImagePull", message)
        await self._event("Warning", "Failed", message)
        await self._event("Warning", "Failed", "Error: ErrImagePull")
        await self._wait_with("ImagePullBackOff", f'Back-off pulling image "{image}": {message}')
        await self._ending.wait()

    async def _wait_with(self, reason: str, message: str) -> None:
        self._state.waiting, self._state.started_at = (reason, message), ""
        await self._publish()

    async def _publish(self) -> None:
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

    async def _event(self, kind: str, reason: str, message: str) -> None:
        await self.node.events.record(self.pod, kind, reason, message, host=self.pod["spec"]["nodeName"])

    def _main_name(self) -> str:
        return self.pod["spec"]["containers"][0]["name"]
