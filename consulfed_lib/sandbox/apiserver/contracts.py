"""What others hand to the API server: who a caller is, and the kubelet behind the pods' streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class User:
    """Who makes a request. `extra` is what TokenReview and SelfSubjectReview show beside it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())


Sink = Callable[[bytes], Awaitable[None]]


class Kubelet(Protocol):
    """The node's side of pods/log, pods/exec, pods/attach and pods/portforward."""

    def logs(
        self, namespace: str, pod: str, container: str, *, follow: bool, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        """Chunks of the container's log; with `follow` it ends when the container does."""
        ...

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        stdin: asyncio.StreamReader | None,
        stdout: Sink,
        stderr: Sink,
        tty: bool,
    ) -> int:
        """Run a command in the container; returns its exit code."""
        ...

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of the pod. Raises OSError when nothing listens."""
        ...
