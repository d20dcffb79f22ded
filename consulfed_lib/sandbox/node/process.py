"""Child processes that cannot outlive the supervisor, nor be outlived by anything that they hold open.

The kernel kills the child when the thread that started it ends (PR_SET_PDEATHSIG), however that happened: so
a supervisor that is killed with -9 leaves no Consul and no Envoy behind. Processes are always ended by their
id.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec no library may be loaded.
_libc = ctypes.CDLL(None, use_errno=True)

_LINE_LIMIT = 1 << 20


def die_with_parent(parent: int) -> None:
    """To run in a child before exec: ask the kernel for SIGKILL when the parent ends.

    A parent that ended before the request is noticed by the child having another parent by now.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(125)


async def spawn(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Callable[[str], None] | None = None,
    folder: Path | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.STDOUT,
    before_exec: Callable[[], None] | None = None,
) -> asyncio.subprocess.Process:
    """Start a program in a session of its own, with exactly this environment; it dies with this process.

    With `log` each line of its output goes there, as long as the program holds its output open; without it
    the caller reads the pipes. `before_exec` is called in the child. Raises OSError when the program cannot be started.
    """
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(parent)
        if before_exec is not None:
            before_exec()

    process = await asyncio.create_subprocess_exec(
        *map(str, arguments),
        env=dict(env),
        cwd=folder,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        limit=_LINE_LIMIT,
        preexec_fn=prepare,
    )
    if log is not None and process.stdout is not None:
        keep(asyncio.create_task(_copy_lines(process.stdout, log)))
    return process


async def _copy_lines(output: asyncio.StreamReader, log: Callable[[str], None]) -> None:
    while True:
        try:
            line = await output.readline()
        except ValueError:  # longer than _LINE_LIMIT; asyncio has dropped what it held of it
            continue
        if not line:
            return
        log(line.decode(errors="replace").rstrip("\n"))


_tasks: set[asyncio.Task[Any]] = set()


def keep(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Hold a reference to a background task until it is done: the loop itself holds only a weak one."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


async def stop(process: asyncio.subprocess.Process, *, grace: float, first: int = signal.SIGTERM) -> int:
    """End a process: the first signal, then SIGKILL after `grace` seconds. Returns the exit code.

    Exit codes are as a container's: 128 + n when signal n ended it. Harmless when it has ended already.
    """
    if process.returncode is None:
        _signal(process, first)
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            _signal(process, signal.SIGKILL)
        except asyncio.CancelledError:
            _signal(process, signal.SIGKILL)
            raise
    return exit_code(await process.wait())


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended a moment ago, which is what was wanted
        process.send_signal(number)


def exit_code(returncode: int) -> int:
    """The exit code that a container runtime reports for what Python calls -n."""
    return returncode if returncode >= 0 else 128 - returncode
