"""Containers without a process of their own: work that the sandbox itself does, in the container's name."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

from .workload import Container, Job, Program

Predicate = Callable[[Container], Awaitable[bool]]


class JobProgram(Program):
    """The work of a Job's container, as a program that ends with its exit code."""

    def __init__(self, container: Container, work: Job):
        super().__init__(container)
        self._work = work
        self._task: asyncio.Task[int] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> int:
        try:
            return await self._work(self.container)
        except Exception:
            # Whatever it was: the container crashed, and its log says how.
            for line in traceback.format_exc().splitlines():
                self.container.log(line)
            return 1

    async def ready(self) -> bool:
        return self._task is not None and not self._task.done()

    async def wait(self) -> int:
        if self._task is None:
            return 0
        await asyncio.wait({self._task})
        return 137 if self._task.cancelled() else self._task.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class PassiveProgram(Program):
    """A container whose work is done elsewhere in the sandbox: it runs, and is ready once that has said so."""

    def __init__(self, container: Container, predicate: Predicate | None):
        super().__init__(container)
        self._predicate = predicate
        self._was_ready = predicate is None
        self._ended = asyncio.Event()

    async def start(self) -> None:
        self.container.log("sandbox: the work of this container is done by the sandbox itself")

    async def ready(self) -> bool:
        if not self._was_ready and self._predicate is not None:
            self._was_ready = await self._predicate(self.container)
        return self._was_ready

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    async def stop(self) -> None:
        self._ended.set()
