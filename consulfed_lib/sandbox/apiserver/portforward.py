"""pods/portforward over a WebSocket: the tunnel that kubectl opens, and the channels of the Python client.

kubectl offers `SPDY/3.1+portforward.k8s.io`: each connection is a pair of SPDY streams (error and data) with
the same requestid. Others offer `v4.channel.k8s.io`: two channels a port, each message with its channel first.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from . import spdy
from .contracts import Kubelet
from .status import bad_request

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "portforward.k8s.io")
_CHUNK = 32 * 1024

Send = Callable[[bytes], Awaitable[None]]


async def forward(
    request: web.BaseRequest, kubelet: Kubelet, namespace: str, pod: str, ports: list[int]
) -> web.WebSocketResponse:
    """Serve one port-forward until the client ends it."""
    socket = web.WebSocketResponse(protocols=(TUNNEL, *CHANNELS), max_msg_size=0, heartbeat=None)
    await socket.prepare(request)
    tasks: set[asyncio.Task[None]] = set()
    try:
        if socket.ws_protocol == TUNNEL:
            await _Tunnel(socket, kubelet, namespace, pod, tasks).run()
        else:
            await _Channels(socket, kubelet, namespace, pod, ports, tasks).run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not socket.closed:
            await socket.close()
    return socket


def ports_of(values: list[str]) -> list[int]:
    """The ports of a query: repeated, or separated by commas; 400 for what is no port."""
    found = []
    for value in ",".join(values).split(","):
        if value and not (value.isdigit() and 0 < int(value) < 65536):
            raise bad_request(f'unable to parse "{value}" as a port: it must be between 1 and 65535')
        found += [int(value)] if value else []
    return found


def _failure(pod: str, port: int, error: OSError) -> bytes:
    return f"error forwarding port {port} to pod {pod}: {error.strerror or error}".encode()


class _Connection:
    """One TCP connection into the pod; what arrives before it is open waits."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._early: list[bytes] = []
        self._ended = False

    async def run(
        self, kubelet: Kubelet, namespace: str, pod: str, port: int, send: Send, fail: Send
    ) -> None:
        """Copy what the pod sends until it ends."""
        try:
            reader, self._writer = await kubelet.connect(namespace, pod, port)
        except OSError as error:
            await fail(_failure(pod, port, error))
            return
        try:
            for data in self._early:
                self._writer.write(data)
            if self._ended and self._writer.can_write_eof():
                self._writer.write_eof()
            while data := await reader.read(_CHUNK):
                await send(data)
        except OSError as error:
            await fail(_failure(pod, port, error))
        finally:
            self._writer.close()

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            self._early.append(data)
        elif not self._writer.is_closing():
            self._writer.write(data)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def end(self) -> None:
        """The client sends no more."""
        self._ended = True
        if self._writer and not self._writer.is_closing() and self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()


class _Tunnel:
    def __init__(
        self,
        socket: web.WebSocketResponse,
        kubelet: Kubelet,
        namespace: str,
        pod: str,
        tasks: set[asyncio.Task[None]],
    ):
        self._socket = socket
        self._kubelet = kubelet
        self._place = (namespace, pod)
        self._tasks = tasks
        self._codec = spdy.Codec()
        self._errors: dict[str, int] = {}
        self._connections: dict[int, _Connection] = {}
        self._running: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY:
                continue
            try:
                for frame in self._codec.feed(message.data):
                    if frame.kind == spdy.GOAWAY:
                        return
                    await self._handle(frame)
            except spdy.SpdyError:
                await self._socket.close(code=1002)
                return

    async def _handle(self, frame: spdy.Frame) -> None:
        if frame.kind == spdy.SYN_STREAM:
            await self._open(frame)
        elif frame.kind == spdy.PING:
            await self._socket.send_bytes(spdy.ping(frame.data))
        elif frame.kind == spdy.RST_STREAM:
            task = self._running.pop(frame.stream, None)
            self._connections.pop(frame.stream, None)
            if task:
                task.cancel()
        elif frame.kind == 0:
            connection = self._connections.get(frame.stream)
            if connection and frame.data:
                await connection.write(frame.data)
            if connection and frame.flags & spdy.FIN:
                connection.end()

    async def _open(self, frame: spdy.Frame) -> None:
        stream, kind = frame.stream, frame.headers.get("streamtype", "")
        request, port = frame.headers.get("requestid", ""), frame.headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit():
            await self._socket.send_bytes(spdy.reset(stream, 1))
            return
        await self._socket.send_bytes(self._codec.syn_reply(stream))
        if kind == "error":
            self._errors[request] = stream
            return
        connection = self._connections[stream] = _Connection()
        task = asyncio.create_task(self._serve(connection, stream, request, int(port)))
        self._running[stream] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: _Connection, stream: int, request: str, port: int) -> None:
        error_stream = self._errors.pop(request, None)

        async def send(data: bytes) -> None:
            await self._socket.send_bytes(spdy.data_frame(stream, data))

        async def fail(message: bytes) -> None:
            if error_stream is not None:
                await self._socket.send_bytes(spdy.data_frame(error_stream, message))

        try:
            await connection.run(self._kubelet, *self._place, port, send, fail)
            for ending in (error_stream, stream):
                if ending is not None:
                    await self._socket.send_bytes(spdy.data_frame(ending, b"", end=True))
        except ConnectionError:
            return
        finally:
            self._connections.pop(stream, None)
            self._running.pop(stream, None)


class _Channels:
    def __init__(
        self,
        socket: web.WebSocketResponse,
        kubelet: Kubelet,
        namespace: str,
        pod: str,
        ports: list[int],
        tasks: set[asyncio.Task[None]],
    ):
        self._socket = socket
        self._kubelet = kubelet
        self._place = (namespace, pod)
        self._ports = ports
        self._tasks = tasks
        self._connections = [_Connection() for _ in ports]
        self._open = len(ports)

    async def run(self) -> None:
        """Each port has a data channel, 2n, and an error channel, 2n+1; both begin with the port's number."""
        for number, port in enumerate(self._ports):
            for channel in (2 * number, 2 * number + 1):
                await self._send(channel, struct.pack("<H", port))
            task = asyncio.create_task(self._serve(number, port))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel = message.data[0]
            if channel % 2 == 0 and channel // 2 < len(self._connections):
                await self._connections[channel // 2].write(message.data[1:])

    async def _send(self, channel: int, data: bytes) -> None:
        await self._socket.send_bytes(bytes([channel]) + data)

    async def _serve(self, number: int, port: int) -> None:
        async def send(data: bytes) -> None:
            await self._send(2 * number, data)

        async def fail(message: bytes) -> None:
            await self._send(2 * number + 1, message)

        try:
            await self._connections[number].run(self._kubelet, *self._place, port, send, fail)
        except ConnectionError:
            return
        self._open -= 1
        if not self._open:
            await self._socket.close()
