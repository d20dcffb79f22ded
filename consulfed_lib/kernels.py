"""Kernels for a run, each started while the notebook before it still works, so that nobody waits for imports.

Their channels are Unix sockets in a private folder, not TCP, which any user of the machine could listen to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from .children import ended_with_us
from .steps import NOTEBOOKS

_PREFIX = "consulfed-run-"


def _in_memory() -> str | None:
    """A folder that never touches a disk, where the system has one; None: the usual temporary folder."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _sweep() -> None:
    """Remove what runs of ours left that were killed: folders of sockets that nobody listens to any more."""
    for folder in Path(_in_memory() or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)) and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def new_manager(connection_file: Path) -> Any:
    """The manager of a kernel that has not started yet, for papermill's `km`.

    Its sockets are made beside the connection file, whose path must stay short.
    """
    from jupyter_client.manager import KernelManager

    return KernelManager(
        kernel_name="python3",
        transport="ipc",
        # nbclient waits for messages on its event loop; a blocking client there would hide the death of the kernel.
        client_class="jupyter_client.asynchronous.AsyncKernelClient",
        connection_file=str(connection_file),
    )


class Kernels:
    """A line of kernels, one a notebook; at most two are ahead of the notebook that runs.

    Two, because a short notebook (02) leaves no time to start the one after it.
    """

    def __init__(self, notebooks: Sequence[str]):
        self._waiting = list(notebooks)
        _sweep()
        # 0700, and short: the path of a socket may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_in_memory()))
        self._ready: list[Any] = []
        self._ending: list[threading.Thread] = []
        self._ahead = 1  # while the first one starts, two more would only slow it down

    def __enter__(self) -> Kernels:
        self._prepare()
        return self

    def __exit__(self, *_: object) -> None:
        for manager in self._ready:
            self._end(manager)
        for thread in self._ending:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        """Start the next notebook's kernel; it imports that notebook's step by itself, outside of any cell."""
        if not self._waiting:
            return
        name = self._waiting.pop(0)
        manager = new_manager(self._folder / f"{len(self._waiting)}.json")
        module = f"consulfed_lib.steps.{NOTEBOOKS[name][0]}"
        manager.start_kernel(
            extra_arguments=[f"--IPKernelApp.exec_lines=['import {module}']"],
            # The Kubernetes client writes a kubeconfig's client key to a temporary file and removes it at exit; a
            # kernel is killed, so that the key must lie where we clean up.
            env={**os.environ, "TMPDIR": str(self._folder)},
            preexec_fn=ended_with_us(),
        )
        self._ready.append(manager)

    @contextmanager
    def next(self) -> Iterator[Any]:
        """The kernel manager of the next notebook; those after it are started meanwhile, this one is ended after."""
        manager = self._ready.pop(0)
        while self._waiting and len(self._ready) < self._ahead:
            self._prepare()
        self._ahead = 2
        try:
            yield manager
        finally:
            self._end(manager)

    def _end(self, manager: Any) -> None:
        """Kill it, in the background: the next notebook need not wait until it is gone."""
        thread = threading.Thread(target=manager.shutdown_kernel, kwargs={"now": True})
        thread.start()
        self._ending.append(thread)
