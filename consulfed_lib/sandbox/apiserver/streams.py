"""pods/log, pods/exec and pods/attach: what a container says, and commands in it, over a WebSocket.

The channels are 0 stdin, 1 stdout, 2 stderr, 3 the outcome (a Status), 4 resize; from version 5 on, 255
closes the channel that it names.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

from .contracts import Kubelet, Sink
from .request import RequestInfo
from .status import ApiError, bad_request, internal_error
from .store import Object

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255


def container_of(pod: Object, info: RequestInfo) -> str:
    """The container that a request means: the named one, or the first; 400 when there is no such one."""
    containers = [c["name"] for c in pod["spec"].get("containers") or ()]
    starting = [c["name"] for c in pod["spec"].get("initContainers") or ()]
    name, asked = pod["metadata"]["name"], info.option("container")
    if asked:
        if asked not in containers + starting:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) > 1 and info.sub == "log":
        annotations = pod["metadata"].get("annotations") or {}
        annotated: str = annotations.get("kubectl.kubernetes.io/default-container", "")
        if annotated not in containers:
            said = f"choose one of: [{' '.join(containers)}]"
            if starting:
                said += f" or one of the init containers: [{' '.join(starting)}]"
            raise bad_request(f"a container name must be specified for pod {name}, {said}")
        return annotated
    return containers[0]


def require_kubelet(kubelet: Kubelet | None, pod: Object) -> Kubelet:
    """The kubelet of a pod; 500 or 400 while there is none, as from a real server that cannot reach it."""
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    if kubelet is None:
        raise internal_error("error dialing backend: the node's kubelet is not running")
    return kubelet


async def logs(
    request: web.BaseRequest, info: RequestInfo, kubelet: Kubelet, pod: Object
) -> web.StreamResponse:
    """The container's log as text, to its end or, with `follow`, until the container ends."""
    container = container_of(pod, info)
    if info.flag("previous"):
        name = pod["metadata"]["name"]
        raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    tail, limit = info.number("tailLines"), info.number("limitBytes")
    follow = info.flag("follow")
    place = (pod["metadata"]["namespace"], pod["metadata"]["name"], container)
    source: Any = kubelet.logs(*place, follow=follow, tail_lines=tail)
    chunks: AsyncIterator[bytes] = await source if inspect.isawaitable(source) else source
    first = await anext(chunks, None)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    chunk, sent = first, 0
    while chunk is not None and (limit is None or sent < limit):
        part = chunk if limit is None else chunk[: limit - sent]
        await response.write(part)
        sent += len(part)
        chunk = await anext(chunks, None)
    return response


async def execute(
    request: web.BaseRequest, info: RequestInfo, kubelet: Kubelet, pod: Object
) -> web.WebSocketResponse:
    """Run the command of the query in the container, its streams over the WebSocket.

    Raises:
        ApiError: 400 when the request is no WebSocket upgrade, or asks for no stream or no command.
    """
    container = container_of(pod, info)
    command = info.query.get("command", [])
    wants = {name: info.flag(name) for name in ("stdin", "stdout", "stderr", "tty")}
    if not (wants["stdin"] or wants["stdout"] or wants["stderr"]):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if not command and info.sub == "exec":
        raise bad_request("you must specify at least one command for the container")
    require_upgrade(request)
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
    await socket.prepare(request)
    stdin = asyncio.StreamReader() if wants["stdin"] else None
    listener = asyncio.create_task(_listen(socket, stdin))
    place = (pod["metadata"]["namespace"], pod["metadata"]["name"], container)
    run = asyncio.ensure_future(
        kubelet.exec(
            *place,
            command,
            stdin,
            _sink(socket, _STDOUT if wants["stdout"] else None),
            _sink(socket, _STDERR if wants["stderr"] else None),
            wants["tty"],
        )
    )
    try:
        await asyncio.wait({run, listener}, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            await _send_outcome(socket, run, command)
    finally:
        for task in (run, listener):
            task.cancel()
        await asyncio.gather(run, listener, return_exceptions=True)
        if not socket.closed:
            await socket.close()
    return socket


def require_upgrade(request: web.BaseRequest) -> None:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "BadRequest", "Upgrade request required: only WebSocket is served here")


def _sink(socket: web.WebSocketResponse, channel: int | None) -> Sink:
    async def send(data: bytes) -> None:
        if data and channel is not None and not socket.closed:
            await socket.send_bytes(bytes([channel]) + data)

    return send


async def _listen(socket: web.WebSocketResponse, stdin: asyncio.StreamReader | None) -> None:
    """Hand on what the client sends; returns when it is gone."""
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or stdin is None:
            continue
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if data[:1] == bytes([_STDIN]):
            stdin.feed_data(data[1:])
        elif data[:2] == bytes([_CLOSE, _STDIN]):
            stdin.feed_eof()


async def _send_outcome(socket: web.WebSocketResponse, run: asyncio.Future[int], command: list[str]) -> None:
    """Say on the error channel how it ended: Success, or the exit code."""
    status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    error = run.exception()
    if error is not None:
        status = internal_error(f"error executing command in container: {error}").status()
    elif run.result():
        code = str(run.result())
        status = {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code}]},
        }
    if not socket.closed:
        await socket.send_bytes(bytes([_ERROR]) + json.dumps(status).encode())
