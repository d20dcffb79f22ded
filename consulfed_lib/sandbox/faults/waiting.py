"""Waiting until a fault is in force, or over: watched where an API can be watched, asked again where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...errors import SandboxError
from ..controllers.client import KubeError
from ..node.consul_http import ConsulError

SECONDS = 90.0
"""How long one thing may take that a fault or its end waits for; a Consul server is back in about 5."""

_ASK_SECONDS = 0.2


async def until(what: str, done: Awaitable[None]) -> None:
    """Await it. Raises SandboxError that says what was waited for when it takes too long."""
    try:
        await asyncio.wait_for(done, SECONDS)
    except TimeoutError:
        raise SandboxError(
            f"Not so after {SECONDS:g} s: {what}.",
            "see `consulfed sandbox status` and `consulfed sandbox logs`.",
        ) from None


async def until_true(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so, for what has no watch. An API that does not answer for a moment is asked again."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            if await _is_so(holds):
                return
            await asyncio.sleep(max(0.0, asked + _ASK_SECONDS - loop.time()))

    await until(what, ask())


async def _is_so(holds: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await holds()
    except (KubeError, ConsulError, OSError):
        return False
