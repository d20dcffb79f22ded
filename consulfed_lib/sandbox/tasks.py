"""Keep the supervisor's tasks running, and tell how each of them is.

A task that ends by itself, with an error or without, is logged with its traceback and started again after a
wait that grows while it keeps failing. Nothing is ever silently dead: `health` says what happened last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

BACK_OFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each new start in a row; the last one repeats."""

STEADY_SECONDS = 60.0
"""A task that ran for so long is no longer one that keeps failing."""


@dataclass
class Health:
    """`state` is running, waiting (to be started again) or stopped; `error` is the last one, one line."""

    state: str = "running"
    restarts: int = 0
    error: str = ""


@dataclass
class Tasks:
    """Named tasks that are kept running until `stop`.

    Args:
        changed: called after each change of a task's health.
    """

    changed: Callable[[], None]
    health: dict[str, Health] = field(default_factory=dict)
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Keep `work` running: called again each time it ends."""
        self.health[name] = Health()
        self._running[name] = asyncio.create_task(self._keep(name, work), name=name)
        self.changed()

    async def stop(self, *names: str) -> None:
        """Cancel these tasks and wait for their end; harmless for one that was never started."""
        tasks = {name: task for name in names if (task := self._running.pop(name, None))}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for name in tasks:
            self.health[name].state = "stopped"
        self.changed()

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        health, failures, loop = self.health[name], 0, asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await work()
                health.error = "it ended by itself"
                logger.error("%s ended by itself", name)
            except Exception as error:
                health.error = _one_line(error)
                logger.exception("%s failed", name)
            failures = 0 if loop.time() - begun > STEADY_SECONDS else failures
            health.state = "waiting"
            self.changed()
            await asyncio.sleep(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
            failures += 1
            health.restarts += 1
            health.state = "running"
            self.changed()


def _one_line(error: BaseException) -> str:
    """The error in one line; of a group the first one in it, which is what happened."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]
