"""What kernels know to be secret is known to their runner, at once, and nobody else hears of it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consulfed_lib import redact
from consulfed_lib.places import in_memory
from consulfed_lib.redact import channel, known, leaks, register
from consulfed_lib.redact.channel import Listener

TOKEN = b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
KERNEL = """
import sys
from consulfed_lib import redact
from consulfed_lib.redact import channel

for line in sys.stdin:
    word, _, value = line.strip().partition(" ")
    if word == "connect":
        channel.connect()
    if word == "register":
        redact.register(value.encode())
    print("done", flush=True)
"""

RUNNER = """
import sys
from pathlib import Path
from consulfed_lib.redact.channel import Listener

print(Listener(Path(sys.argv[1])).path, flush=True)
sys.stdin.read()
"""


class Kernel:
    """Another process that does what a kernel does, step by step."""

    def __init__(self, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, step: str) -> None:
        """Returns when it is done."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{step}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, and short, as a run's is."""
    with tempfile.TemporaryDirectory(prefix="consulfed-test-", dir=in_memory()) as path:
        yield Path(path)


@pytest.fixture
def listener(folder: Path) -> Iterator[Listener]:
    with Listener(folder) as listener:
        yield listener


@pytest.fixture
def kernel(listener: Listener) -> Iterator[Callable[[], Kernel]]:
    """Starts processes that know of the listener; they end before it closes."""
    started: list[Kernel] = []

    def start() -> Kernel:
        started.append(Kernel(listener.environment()))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_what_a_kernel_registers_is_known_before_it_goes_on(kernel):
    """So that nothing can be put out before whoever keeps it knows that it may not stand there."""
    one = kernel()
    one.do("connect")
    for number in range(3):
        secret = f"secret number {number}"
        assert leaks(secret) == 0
        one.do(f"register {secret}")
        assert leaks(secret)
    assert known()[0] == 3


def test_what_a_kernel_knew_before_is_told_when_it_connects(kernel):
    """A step that is imported ahead may have read something already."""
    one = kernel()
    one.do("register before-anybody-listened")
    assert known() == (0, 0)
    one.do("connect")
    one.do("connect")
    assert known()[0] == 1
    assert leaks("before-anybody-listened")


def test_a_kernel_that_has_nothing_to_tell_keeps_no_other_from_telling(kernel):
    """Some are started ahead and wait for their notebook."""
    silent, one, other = kernel(), kernel(), kernel()
    for each in (silent, one, other):
        each.do("connect")
    other.do("register of-the-third-kernel")
    one.do("register of-the-second-kernel")
    assert leaks("of-the-second-kernel of-the-third-kernel") == 2
    silent.do("register of-the-first-kernel")
    assert leaks("of-the-first-kernel")


def test_what_is_told_is_told_once_and_short_values_not_at_all(kernel):
    """The rules are those of `register`."""
    one = kernel()
    one.do("connect")
    for value in ("the-same-value", "the-same-value", "short"):
        one.do(f"register {value}")
    assert known()[0] == 1


def test_a_large_value_comes_whole(folder, monkeypatch):
    """Sockets take and give it in pieces."""
    large = os.urandom(1 << 20)
    seen: list[bytes] = []
    monkeypatch.setattr(channel, "register", seen.append)
    with Listener(folder) as listener:
        told = connected(monkeypatch, listener)
        channel.tell(large)
        told.close()
    assert seen == [large]


def connected(monkeypatch: pytest.MonkeyPatch, listener: Listener) -> socket.socket:
    """This process as a kernel."""
    monkeypatch.setenv(channel.VARIABLE, str(listener.path))
    monkeypatch.setattr(channel, "_socket", None)
    channel.connect()
    assert channel._socket is not None
    return channel._socket


# A runner that goes away


def test_a_kernel_goes_on_without_its_runner(folder):
    """Killed, that closes nothing; the kernel still guards what it sends."""
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert runner.stdout
    environment = {channel.VARIABLE: runner.stdout.readline().strip()}
    one, late = Kernel(environment), Kernel(environment)
    one.do("connect")
    one.do("register told")
    runner.kill()
    runner.communicate()
    one.do("register the-runner-is-gone")
    one.do("register and-nobody-listens")
    late.do("connect")
    late.do("register nobody-ever-listened")
    for each in (one, late):
        each.end()


def test_a_runner_that_takes_no_note_is_given_up(folder, monkeypatch):
    """A run that was stopped in the middle must not stop its kernels for ever."""
    monkeypatch.setattr(channel, "_PATIENCE", 0.05)
    monkeypatch.setattr(channel, "_socket", None)
    monkeypatch.setenv(channel.VARIABLE, str(folder / "secrets"))
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "secrets"))
        deaf.listen()
        channel.connect()
        channel.tell(TOKEN)
        assert channel._socket is None


def test_without_a_runner_nothing_is_told(monkeypatch):
    """In JupyterLab, and with papermill's own engine, there is none."""
    monkeypatch.delenv(channel.VARIABLE, raising=False)
    monkeypatch.setattr(channel, "_socket", None)
    channel.connect()
    register(TOKEN)
    assert channel._socket is None
    assert leaks(TOKEN.decode())


# The end of a run


def test_closing_waits_until_every_kernel_has_ended(folder):
    """What they told is known then, also what they told last."""
    listener = Listener(folder)
    kernels = [Kernel(listener.environment()) for _ in range(3)]
    for each in kernels:
        each.do("connect")
    closing = threading.Thread(target=listener.close)
    closing.start()
    for number, each in enumerate(kernels):
        each.do(f"register told-while-closing-{number}")
        assert closing.is_alive()
        each.end()
    closing.join(20)
    assert not closing.is_alive()
    assert known()[0] == 3


def test_closing_without_any_kernel_returns_at_once_and_leaves_nothing(folder):
    """A run that refuses before it begins has had none."""
    Listener(folder).close()
    assert list(folder.iterdir()) == []


def test_closing_does_not_wait_for_ever(folder, monkeypatch):
    """What a killed kernel left running still holds its connection."""
    monkeypatch.setattr(channel, "_PATIENCE", 0.05)
    listener = Listener(folder)
    with socket.socket(socket.AF_UNIX) as orphan:
        orphan.connect(str(listener.path))
        listener.close()
    assert not listener.path.exists()


def test_a_kernel_that_is_killed_in_the_middle_of_a_value_has_told_nothing(folder):
    """Half a value would blot out whatever begins like it: every private key begins alike."""
    with Listener(folder) as listener:
        for told in (
            b"",
            b"\0\0",
            channel._LENGTH.pack(40),
            channel._LENGTH.pack(40) + b"-----BEGIN PRIVATE KEY",
        ):
            with socket.socket(socket.AF_UNIX) as kernel:
                kernel.connect(str(listener.path))
                kernel.sendall(told)
        with socket.socket(socket.AF_UNIX) as kernel:
            kernel.connect(str(listener.path))
            kernel.sendall(channel._LENGTH.pack(len(TOKEN)) + TOKEN)
            assert kernel.recv(1) == b"!"
    assert redact._values == {TOKEN}


# Nobody else


def test_only_its_user_may_open_it(listener):
    """Whatever the umask and the folder are."""
    status = listener.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_the_user_at_the_other_end_is_the_system_s_word():
    """Not the other side's."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert channel._user_of(one) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user, whom to refuse")
def test_another_user_is_refused_even_if_the_file_would_let_them(folder):
    """They could blot out the record, or keep the run from ending."""
    folder.chmod(0o755)
    with Listener(folder) as listener:
        listener.path.chmod(0o666)
        child = os.fork()
        if child == 0:
            os._exit(_as_nobody(str(listener.path)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert known() == (0, 0)


def _as_nobody(path: str) -> int:
    """0 where the connection was taken and ended without an answer."""
    try:
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(10)
            other.connect(path)
            try:
                other.sendall(channel._LENGTH.pack(len(TOKEN)) + TOKEN)
                return 0 if other.recv(1) == b"" else 1
            except (BrokenPipeError, ConnectionResetError):
                return 0
    except BaseException:
        return 2


def test_nothing_of_it_is_ever_on_a_disk(folder, tmp_path):
    """There is a socket in a folder in memory, and no file, no word and no variable."""
    with Listener(folder) as listener:
        one = Kernel(listener.environment() | {"TMPDIR": str(tmp_path)})
        one.do("connect")
        one.do("register never-on-a-disk")
        assert list(folder.rglob("*")) == [listener.path]
        assert list(tmp_path.rglob("*")) == []
        process = Path(f"/proc/{one.process.pid}")
        assert (
            b"never-on-a-disk" not in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        )
        one.end()
    assert list(folder.iterdir()) == []
