"""Listeners on loopback that answer as what stands in the way does: for tests of what the consul CLI makes of them."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from .conftest import Authority

NAME = "server.dc1.consul"
Answer = Callable[[socket.socket], None]


class Listeners:
    """Each `serve` is one more listener, until `close`. Gives `127.0.0.1:<port>`."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def serve(self, answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed: the test is over
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def tls(
        self,
        signed_by: Authority,
        says: bytes = b"",
        names: tuple[str, ...] = (NAME,),
        client_ca: str = "",
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> str:
        """A TLS server with a certificate for these names, which says that to whatever it is asked."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder) / "pem"
            pem.write_text("".join(signed_by.issue(names)))
            context.load_cert_chain(pem)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca)

        def answer(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as encrypted:
                encrypted.recv(4096)
                encrypted.sendall(says)

        return self.serve(answer)

    def refusing(self) -> str:
        """A port on which nothing listens."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            return f"127.0.0.1:{taken.getsockname()[1]}"

    def dropping(self) -> str:
        """A port whose queue is full: the kernel drops what comes in, as a firewall does."""
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        self._sockets.append(full)
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
            self._sockets.append(waiting)
        return f"127.0.0.1:{full.getsockname()[1]}"

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _answer(connection: socket.socket, answer: Answer) -> None:
    with connection, contextlib.suppress(OSError):  # refused by the client: what some tests are about
        answer(connection)


def closing(connection: socket.socket) -> None:
    """Reads the greeting, and goes: Envoy where no route is for that name."""
    connection.recv(4096)


def alert(code: int) -> Answer:
    """Reads the greeting, and answers with a fatal TLS alert."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, code]))

    return answer


def saying(text: bytes) -> Answer:
    """Reads the greeting, and answers in another language than TLS."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)

    return answer


def http(status: str, body: bytes = b"{}", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def expired() -> Authority:
    """A CA that is valid itself and issues what expired half an hour ago."""
    authority = Authority()
    authority.lasts = datetime.timedelta(minutes=-30)
    return authority
