"""What a fault is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...errors import SandboxError
from ..controllers.client import KubeError
from ..node.consul_http import ConsulError
from .world import World

Work = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One way in which the sandbox misbehaves.

    Attributes:
        name: what it is called on the command line.
        what: one sentence: what happens, and in which datacenter.
        inject: returns when the fault is in force.
        clear: returns when it is taken back; harmless where it was not injected.
    """

    name: str
    what: str
    inject: Callable[[World], None]
    clear: Callable[[World], None]


def fault(name: str, what: str, inject: Work, clear: Work) -> Fault:
    """A fault of two coroutines, each run to its end, with every refusal of an API as one SandboxError."""

    def to_its_end(work: Work, verb: str) -> Callable[[World], None]:
        async def run(world: World) -> None:
            try:
                await work(world)
            finally:
                await world.close()

        def at_once(world: World) -> None:
            try:
                asyncio.run(run(world))
            except (KubeError, ConsulError, TimeoutError, OSError) as error:
                raise SandboxError(
                    f"The fault {name} could not be {verb}: {error or 'no answer in time'}.",
                    f"see {world.folder.log}; `consulfed sandbox fault --clear {name}` takes back what was done.",
                ) from error

        return at_once

    return Fault(name, what, to_its_end(inject, "injected"), to_its_end(clear, "taken back"))
