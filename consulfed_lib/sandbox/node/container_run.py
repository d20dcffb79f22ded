"""One container of a pod: prepared, started, probed, started again after it ended, until it has ended for good."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from ..controllers.client import KubeError
from ..controllers.controller import now
from .logs import ContainerLog
from .node import Node, base_environment, make_container, service_account_token
from .pod_status import ContainerState, terminated
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


class Pod(Protocol):
    """What a container's run needs of the pod that it is in."""

    node: Node
    pod: Object
    key: tuple[str, str]
    uid: str

    def placed(self) -> Object:
        """The pod with its addresses."""
        ...

    def started(self) -> None:
        """The container has started."""
        ...

    async def publish(self) -> None:
        """Write the pod's status."""
        ...

    async def event(self, kind: str, reason: str, message: str) -> None:
        """Record an Event about the pod."""
        ...


class ContainerRun:
    """The life of a container.

    Args:
        policy: Always, OnFailure or Never: whether it is started again when it has ended.
        state: what of it goes into the pod's status.
    """

    def __init__(self, pod: Pod, spec: Object, policy: str, state: ContainerState):
        self.spec = spec
        self.state = state
        self.program: Program | None = None
        self.name: str = spec["name"]
        namespace, pod_name = pod.key
        self.log = ContainerLog(pod.node.cluster.folder / "logs" / namespace / f"{pod_name}.{self.name}.log")
        self._pod = pod
        self._policy = policy

    @property
    def running(self) -> bool:
        """Whether its program has started and has not ended."""
        return bool(self.state.started_at) and self.state.ended is None

    async def live(self) -> None:
        """Until it has ended for good."""
        state = self.state
        if state.ended is not None:
            return
        if state.last is not None and state.last["reason"] == "ContainerStatusUnknown":
            # Its process died with the kubelet that had started it.
            if self._policy == "Never":
                state.ended, state.last = state.last, None
                return
            state.restarts += 1
        attempt = 0
        while True:
            container = await self._prepare()
            self.program = self._pod.node.program_for(container)
            assert self.program is not None, "the pod was looked at before it was taken on"
            began = asyncio.get_running_loop().time()
            ended = await self._run(self.program)
            await self._close()
            if self._policy == "Never" or (self._policy == "OnFailure" and ended["exitCode"] == 0):
                state.ended, state.ready = ended, False
                await self._pod.publish()
                return
            attempt = 0 if asyncio.get_running_loop().time() - began > _STEADY_SECONDS else attempt + 1
            state.last, state.started_at, state.ready = ended, "", False
            state.restarts += 1
            await self._back_off(BACKOFF_SECONDS[min(max(attempt - 1, 0), len(BACKOFF_SECONDS) - 1)])

    async def end(self, *, patient: bool) -> None:
        """Stop its program, which may take the pod's grace period where one is patient."""
        if self.program is None:
            return
        limit = self.program.container.grace + 2 if patient else _SHUTDOWN_SECONDS
        try:
            await asyncio.wait_for(self.program.stop(), limit)
        except TimeoutError:
            logger.warning("pod %s/%s did not stop within %s s", *self._pod.key, limit)
        await self._close()

    async def _close(self) -> None:
        if self.program is not None:
            await self.program.container.client.close()
            self.program = None

    async def _prepare(self) -> Container:
        """Resolve what the container's spec refers to; waits, telling why, until all of it is there."""
        node, initial = self._pod.node, "ContainerCreating"
        if self._pod.pod["spec"].get("initContainers"):
            initial = "PodInitializing"
        while True:
            changed = node.sources_changed
            await self.wait_with(initial, "")
            try:
                token = await service_account_token(node, self._pod.pod)
                pod = self._pod.placed()
                sources = Sources(node.secrets, node.config_maps, pod)
                mounted = files(self.spec, sources, token)
            except MountError as error:
                await self._pod.event("Warning", "FailedMount", str(error))
                await changed.wait()
                continue
            except KubeError as error:
                why = str(MountError("kube-api-access", f"failed to fetch token: {error.message}"))
                await self._pod.event("Warning", "FailedMount", why)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                env = environment(self.spec, sources, base_environment(node, pod))
            except EnvError as error:
                await self.wait_with("CreateContainerConfigError", str(error))
                await self._pod.event("Warning", "Failed", f"Error: {error}")
                await changed.wait()
                continue
            return make_container(node, pod, self.spec, token, mounted, env, self.log.append)

    async def _run(self, program: Program) -> Object:
        """Start it, follow its readiness, and return how it ended."""
        state = self.state
        try:
            await program.start()
        except Exception as error:
            program.container.log(f"sandbox: cannot start: {error}")
            logger.debug("pod %s/%s does not start", *self._pod.key, exc_info=True)
            await program.stop()
            return terminated(1, "", self.log.last())
        state.started_at = now()
        self._pod.started()
        await self._pod.publish()
        await self._pod.event("Normal", "Started", f"Started container {self.name}")
        waiter = asyncio.create_task(program.wait())
        try:
            while not waiter.done():
                ready = await self._is_ready(program)
                if ready != state.ready:
                    state.ready = ready
                    await self._pod.publish()
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
            logger.debug("readiness of pod %s/%s", *self._pod.key, exc_info=True)
            return False

    async def _back_off(self, seconds: float) -> None:
        if seconds:
            namespace, pod = self._pod.key
            name = f"{self.name} pod={pod}_{namespace}({self._pod.uid})"
            message = f"back-off {seconds:g}s restarting failed container={name}"
            await self.wait_with("CrashLoopBackOff", message)
            await self._pod.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
            await asyncio.sleep(seconds)

    async def wait_with(self, reason: str, message: str) -> None:
        """Say why it does not run."""
        self.state.waiting, self.state.started_at = (reason, message), ""
        await self._pod.publish()
