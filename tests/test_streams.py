"""Commands in pods over a WebSocket: their input and its end, their outcome, and API servers of before 1.30."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from consulfed_lib.cluster import Cluster
from consulfed_lib.errors import ClusterError
from consulfed_lib.streams import TIMED_OUT, V4, V5, EndlessInputError

from .conftest import TOKEN

Kubelet = Callable[[web.WebSocketResponse, web.Request, "Exec"], Awaitable[None]]
SUCCESS = {"status": "Success"}


class Exec:
    """An API server that knows exec alone: what it was asked, and the input that came."""

    def __init__(self, context: ssl.SSLContext):
        self.protocols: tuple[str, ...] = (V5, V4)
        self.kubelet: Kubelet = echo
        self.asked: list[tuple[list[tuple[str, str]], str]] = []
        self.stdin = b""
        self.ended = threading.Event()
        self.frames = 0
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_get("/{path:.*}", self._answer)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            ready.set()

        def run() -> None:
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(10)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((list(request.query.items()), request.headers["Authorization"]))
        socket = web.WebSocketResponse(protocols=self.protocols, max_msg_size=0)
        await socket.prepare(request)
        await self.kubelet(socket, request, self)
        await socket.close()
        return socket

    async def read(self, socket: web.WebSocketResponse) -> bytes:
        """All of the input, to its end."""
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            self.frames += 1
            if message.data == bytes([255, 0]):
                self.ended.set()
                break
            assert message.data[:1] == b"\x00"
            self.stdin += message.data[1:]
        return self.stdin

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def outcome(socket: web.WebSocketResponse, status: Any) -> None:
    await socket.send_bytes(b"\x03" + json.dumps(status).encode())


async def echo(socket: web.WebSocketResponse, request: web.Request, server: Exec) -> None:
    """Gives its input back; complains where it has none."""
    if request.query.get("stdin"):
        await socket.send_bytes(b"\x01" + await server.read(socket))
    await socket.send_bytes(b"\x02said aside\xff")
    await outcome(socket, SUCCESS)


@pytest.fixture
def server(authority, tmp_path) -> Iterator[Exec]:
    (tmp_path / "server.pem").write_text("".join(authority.issue(("127.0.0.1",))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    made = Exec(context)
    yield made
    made.close()


@pytest.fixture
def there(server, kubeconfig) -> Cluster:
    return Cluster("one", kubeconfig(one=f"https://127.0.0.1:{server.port}"))


def test_a_command_gets_all_of_its_input_and_then_its_end(server, there):
    """`cat` and whatever reads a whole file from /dev/stdin would wait forever without; large input comes in parts."""
    data = b"-----BEGIN CERTIFICATE-----\n" + bytes(range(256)) * 400
    done = there.exec("consul", "s-0", ["cat"], "consul", stdin=data)
    assert done.returncode == 0
    assert server.ended.is_set()
    assert server.stdin == data
    assert server.frames > 2
    assert done.stderr == "said aside\ufffd"
    query, authorization = server.asked[0]
    assert ("stdin", "true") in query
    assert ("container", "consul") in query
    assert authorization == f"Bearer {TOKEN}"


def test_empty_input_is_an_input_that_ends(server, there):
    """Not the same as none at all."""
    assert there.exec("consul", "s-0", ["cat"], stdin=b"").stdout == ""
    assert server.ended.is_set()


def test_without_input_none_is_asked_for(server, there):
    """A command that reads then sees the end at once."""
    assert there.exec("consul", "s-0", ["consul", "members", "-wan"]).returncode == 0
    query, _ = server.asked[0]
    assert [value for key, value in query if key == "command"] == ["consul", "members", "-wan"]
    assert "stdin" not in dict(query)


def test_an_older_server_takes_no_input_and_runs_what_needs_none(server, there):
    """Before Kubernetes 1.30 there is no end of input: said at once, not when a deadline has passed."""
    server.protocols = (V4,)
    start = time.monotonic()
    with pytest.raises(EndlessInputError, match=r"1\.30"):
        there.exec("consul", "s-0", ["cat"], stdin=b"x", timeout=60)
    assert time.monotonic() - start < 10
    assert server.stdin == b""
    assert there.exec("consul", "s-0", ["true"]).returncode == 0


def ending(status: Any) -> Kubelet:
    async def end(socket: web.WebSocketResponse, request: web.Request, server: Exec) -> None:
        if status is not None:
            await outcome(socket, status)

    return end


def test_the_exit_code_is_the_commands_own(server, there):
    """The kubelet hides it in the causes of a Status."""
    causes = [{"reason": "ExitCode", "message": "3"}]
    server.kubelet = ending({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}})
    assert there.exec("consul", "s-0", ["false"]).returncode == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"status": "Failure", "reason": "InternalError", "message": "no env\nmore"},
            "no env",
        ),
        ({"status": "Failure"}, "no message"),
        (None, "without an outcome"),
    ],
)
def test_a_command_that_never_ran_is_an_error_with_the_kubelets_words(server, there, status, words):
    """It has no exit code that one could take for the command's."""
    server.kubelet = ending(status)
    with pytest.raises(ClusterError) as caught:
        there.exec("consul", "s-0", ["env"])
    assert words in caught.value.found
    assert len(caught.value.found.splitlines()) == 1


def test_a_deadline_ends_the_wait_for_a_command(server, there):
    """What it said until then is kept."""

    async def talk_and_stay(socket: web.WebSocketResponse, request: web.Request, server: Exec) -> None:
        await socket.send_bytes(b"\x01so far")
        await socket.receive()

    server.kubelet = talk_and_stay
    done = there.exec("consul", "s-0", ["consul", "monitor"], timeout=0.3)
    assert (done.returncode, done.stdout) == (TIMED_OUT, "so far")
