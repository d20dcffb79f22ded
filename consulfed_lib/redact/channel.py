"""What is secret, told by kernels to their runner: in memory, over a Unix socket that only the same user may open.

The runner keeps what kernels make, and must know what may not stand in it; the values themselves only kernels read.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path

from . import register

VARIABLE = "CONSULFED_SECRETS"
"""Environment variable that names the socket to a kernel."""

_LENGTH = struct.Struct("!I")
_PATIENCE = 10.0
"""Seconds that a kernel waits for a runner to take note, and a runner for kernels to end; one that takes longer is
gone, or as good as."""

_lock = threading.Lock()
_socket: socket.socket | None = None


def connect() -> None:
    """In a kernel: from now on tell the runner that the environment names; it hears of all that is known already."""
    global _socket
    path = os.environ.get(VARIABLE)
    if not path or _socket is not None:
        return
    to_runner = socket.socket(socket.AF_UNIX)
    to_runner.settimeout(_PATIENCE)
    try:
        to_runner.connect(path)
    except OSError:  # this kernel has outlived the runner that started it
        to_runner.close()
        return
    _socket = to_runner
    from . import _values

    for value in tuple(_values):
        tell(value)


def tell(value: bytes) -> None:
    """Tell the runner of a secret; returns when it has taken note. Nothing happens where there is no runner."""
    global _socket
    with _lock:
        if _socket is None:
            return
        try:
            _socket.sendall(_LENGTH.pack(len(value)) + value)
            noted = _socket.recv(1)
        except OSError:
            noted = b""
        if not noted:  # the runner is gone; the guard of this kernel is all there is now
            _socket.close()
            _socket = None


class Listener:
    """In the runner: registers what its kernels tell, until the last of them has ended.

    Args:
        folder: a private folder in memory; the path of the socket in it must stay short.
    """

    def __init__(self, folder: Path):
        self.path = folder / "secrets"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        os.chmod(self.path, 0o600)
        self._server.listen(64)
        self._last = folder / "last"
        self._readers: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="secrets", daemon=True)
        self._accepting.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self) -> dict[str, str]:
        """What a kernel needs in its environment."""
        return {VARIABLE: str(self.path)}

    def close(self) -> None:
        """Wait until every kernel that came has ended: what they told is registered then.

        What a killed kernel leaves running may hold its connection open; it is not waited for longer than _PATIENCE.
        """
        # Connections are taken in their order, so that ours, which has a name, is the last.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.bind(str(self._last))
            last.connect(str(self.path))
            self._accepting.join()
        give_up = time.monotonic() + _PATIENCE
        for reader in self._readers:
            reader.join(max(0.0, give_up - time.monotonic()))
        self._server.close()
        for path in (self.path, self._last):
            path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                kernel, name = self._server.accept()
            except OSError:
                return
            if name == str(self._last):
                kernel.close()
                return
            if _user_of(kernel) != os.getuid():
                kernel.close()
                continue
            # Nothing is read here: a kernel that has nothing to tell yet must not keep others waiting.
            reader = threading.Thread(target=self._read, args=(kernel,), name="secrets", daemon=True)
            reader.start()
            self._readers.append(reader)

    @staticmethod
    def _read(kernel: socket.socket) -> None:
        with kernel, contextlib.suppress(OSError):  # a kernel that is killed in the middle has said nothing
            while len(head := _take(kernel, _LENGTH.size)) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                value = _take(kernel, length)
                if len(value) < length:  # half a value is none; it would blot out what only begins like it
                    return
                register(value)
                kernel.sendall(b"!")


def _take(connection: socket.socket, size: int) -> bytes:
    """So many bytes; fewer where the connection ended before."""
    taken = b""
    while len(taken) < size:
        piece = connection.recv(size - len(taken))
        if not piece:
            break
        taken += piece
    return taken


def _user_of(connection: socket.socket) -> int:
    """The user on the other end (Linux); elsewhere ours, and the socket's mode must do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])
