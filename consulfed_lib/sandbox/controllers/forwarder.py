"""TCP forwarding on this machine: what kube-proxy and a cloud's load balancer do for a Service's port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Network

from ..packets import drop_from

logger = logging.getLogger(__name__)

Target = tuple[str, int]

_CHUNK = 1 << 16
_CONNECT_SECONDS = 5


class Forwarder:
    """Listens on one address and port, and joins each connection to one of the targets, in turn.

    Args:
        tls: to end TLS with, and pass on what was in it; None: whatever comes is passed on as it is.
    """

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None):
        self.address = address
        self.port = port
        self.tls = tls
        self.targets: list[Target] = []
        self.ignores: Callable[[Target], Awaitable[bool]] | None = None
        """Whether a connection from there is taken and never heard; None: none is."""
        self._accepted: set[asyncio.StreamWriter] = set()
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises OSError when the port cannot be had."""
        self._server = await asyncio.start_server(self._accept, self.address, self.port, ssl=self.tls)

    def drop_from(self, networks: Sequence[IPv4Network]) -> None:
        """Have every packet from these networks vanish, also of what is connected; none of them: none does."""
        connected = [one for one in self._accepted if not one.transport.is_closing()]
        for one in connected:
            drop_from(one.get_extra_info("socket"), networks)
        for listening in self._server.sockets if self._server is not None else ():
            drop_from(listening, networks)

    async def stop(self) -> None:
        """Listen no more, and end what is connected."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._accepted.add(writer)
        try:
            if self.ignores is not None and await self.ignores(writer.get_extra_info("peername")):
                await asyncio.Event().wait()
            await self._join(reader, writer)
        except asyncio.CancelledError:
            # Only `stop` cancels; asyncio would print a cancelled connection as an error.
            logger.debug("connection to %s:%s ended by stop", self.address, self.port)
        finally:
            self._connections.discard(task)
            self._accepted.discard(writer)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Try each target once; with none that answers the client sees its connection closed."""
        for _ in range(len(self.targets)):
            target = self.targets[self._turn % len(self.targets)]
            self._turn += 1
            try:
                back_reader, back_writer = await asyncio.wait_for(
                    asyncio.open_connection(*target), _CONNECT_SECONDS
                )
            except (OSError, TimeoutError) as error:
                logger.debug("%s:%s → %s:%s: %s", self.address, self.port, *target, error)
                continue
            try:
                await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
            finally:
                back_writer.close()
            return


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends, then end the sink in the same way: half-closed, or both closed on an error."""
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError:  # reset, timed out, or gone before its end could be told
        with contextlib.suppress(OSError):
            sink.transport.abort()
