"""A process that has imported everything once, and forks a kernel for each notebook that wants one.

A kernel that starts by itself imports ipykernel, the Kubernetes client and our own modules for more than a second of a
core; a run has five of them and more. A fork has them all, and nothing of what another kernel has done since.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any, NoReturn

import psutil

from .children import ended_with_us, named

SUPPORTED = sys.platform == "linux"
"""Elsewhere a process may not go on after a fork (macOS), or cannot end with the one that started it."""

NAME = "runbook-kernel"
"""What a kernel is called in lists of processes: its arguments are the nursery's."""


class Born:
    """A kernel as `subprocess.Popen` would show it; but it is the nursery's child, which takes its exit code."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid
        self._process: psutil.Process | None = None
        with suppress(psutil.NoSuchProcess):  # it has ended already
            self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        return None if self._process and self._process.is_running() else 1

    def wait(self, timeout: float | None = None) -> int:
        if self._process:
            self._process.wait(timeout)
        return 1

    def send_signal(self, number: int) -> None:
        with suppress(psutil.NoSuchProcess):
            if self._process:
                self._process.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Where kernels come from. It ends with the thread that started it, and they with it.

    Args:
        modules: what they have imported when they begin.
        environment: theirs.
    """

    def __init__(self, modules: Sequence[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            preexec_fn=ended_with_us(signal.SIGKILL),
            start_new_session=True,  # Ctrl-C at a terminal is not for it
        )

    def bear(self, arguments: Sequence[str], log: str) -> Born | None:
        """Start a kernel with ipykernel's arguments; what it says by itself goes into a file. None where the nursery
        is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"arguments": list(arguments), "log": log}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        pid = self._process.stdout.readline()
        return Born(int(pid)) if pid else None

    def close(self) -> None:
        """End it, and every kernel that still lives."""
        self._process.kill()
        self._process.communicate()


def _serve(orders: Iterable[str], answers: IO[str]) -> None:
    """Fork a kernel for each line, and answer with its pid once it has a session and a name of its own, or ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here: they leave no zombies
    end_with_us = ended_with_us() or (lambda: None)
    us = os.getpid()
    for line in orders:
        order = json.loads(line)
        ready, of_kernel = os.pipe()
        pid = os.fork()
        if pid == 0:
            end_with_us()
            _become(order, us, of_kernel)
        os.close(of_kernel)
        os.read(ready, 1)  # until it is closed
        os.close(ready)
        answers.write(f"{pid}\n")
        answers.flush()


def _become(order: dict[str, Any], parent: int, ready: int) -> NoReturn:
    """In the fork: a kernel as `python -m ipykernel_launcher` would be one."""
    code = 1
    try:
        if os.getppid() == parent:  # else it ended before it could take us with it
            _launch(order, parent, ready)
            code = 0
    finally:
        os._exit(code)


def _launch(order: dict[str, Any], parent: int, ready: int) -> None:
    """Returns when the kernel was told to end."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()  # an interrupt is for it and its children
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    for made, at in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(made, at)
    named(NAME)
    os.environ["JPY_PARENT_PID"] = str(parent)
    os.close(ready)
    launch_new_instance(argv=order["arguments"])


if __name__ == "__main__":
    import_module("ipykernel.ipkernel")
    import_module("ipykernel.kernelapp")
    for module in sys.argv[1:]:
        import_module(module)
    _serve(sys.stdin, sys.stdout)
