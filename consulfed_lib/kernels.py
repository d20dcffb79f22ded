"""Kernels for a run, each begun while the notebook before it still works, so that nobody waits for imports.

Their channels are Unix sockets in a private folder, not TCP, which any user of the machine could listen to.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from . import nursery, redact
from .children import ended_with_us
from .errors import Interrupted
from .nursery import Nursery
from .places import in_memory
from .redact.channel import Listener
from .steps import NOTEBOOKS

_PREFIX = "consulfed-run-"

_AHEAD, _AHEAD_AT_MOST = 2, 4
"""Kernels that are started ahead. Two, because a short notebook (02) leaves no time to start the one after it; no
more than four, however many notebooks work at once, because each takes a hundred megabytes and a second of a core."""


def _sweep() -> None:
    """Remove what runs of ours left that were killed: folders of sockets that nobody listens to any more."""
    for folder in Path(in_memory() or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
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


def _step_of(notebook: str) -> str:
    """The module of a notebook's step."""
    return f"consulfed_lib.steps.{NOTEBOOKS[notebook][0]}"


class Kernels:
    """Kernels for the notebooks of a run, of which several may work at the same time.

    All are started by one thread: one after another, because they are slow to import and cores are few, and by a
    thread that lives as long as this does, because a kernel ends with the thread that started it.

    Args:
        notebooks: those of the run, in the order in which they are expected to begin.
        width: how many will work at the same time.
    """

    def __init__(self, notebooks: Sequence[str], width: int = 1):
        self._waiting = list(notebooks)
        self._modules = [_step_of(notebook) for notebook in dict.fromkeys(notebooks)]
        _sweep()
        # 0700, and short: the path of a socket may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=in_memory()))
        self._secrets = Listener(self._folder)
        self._starter = ThreadPoolExecutor(1, "kernels")
        self._nursery: Nursery | None = None
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ready: list[tuple[str, Future[Any]]] = []
        self._in_use: list[Any] = []
        self._ending: list[threading.Thread] = []
        self._stopped = False
        self._ahead = 1  # while the first one starts, more would only slow it down
        self._ahead_later = min(max(width, _AHEAD), _AHEAD_AT_MOST)

    def __enter__(self) -> Kernels:
        self._prepare(1)
        return self

    def __exit__(self, *_: object) -> None:
        for _name, starting in self._ready:
            if not starting.cancel() and not starting.exception():
                self._end(starting.result())
        for thread in self._ending:
            thread.join()
        self._starter.shutdown()
        if self._nursery:
            self._nursery.close()
        self._secrets.close()  # what kernels told to be secret is known now, to whoever looks through their notebooks
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def take(self, notebook: str) -> Iterator[Any]:
        """A kernel manager for this notebook; others are started meanwhile, this one is ended after.

        Raises Interrupted once the kernels were interrupted: the run is about to end, and nothing may begin.
        """
        with self._lock:
            self.refuse_if_stopped()
            ahead = next((each for each in self._ready if each[0] == notebook), None)
            if ahead:
                self._ready.remove(ahead)
            elif notebook in self._waiting:
                self._waiting.remove(notebook)
            starting = ahead[1] if ahead else self._starter.submit(self._start, notebook)
            self._prepare(self._ahead)
            self._ahead = self._ahead_later
        manager = starting.result()
        with self._lock:
            self._in_use.append(manager)
        try:
            yield manager
        finally:
            with self._lock:
                self._in_use.remove(manager)
            self._end(manager)

    @property
    def stopped(self) -> bool:
        """The run is about to end: nothing may begin."""
        return self._stopped

    def interrupt(self) -> None:
        """Interrupt the cell of every kernel in use; from now on no notebook gets one."""
        self._stopped = True
        for manager in self._all_in_use():
            manager.interrupt_kernel()

    def kill(self) -> None:
        """End every kernel in use, whatever its cell does."""
        self._stopped = True
        for manager in self._all_in_use():
            # Not `shutdown_kernel`, which whoever used the kernel may be calling at this moment, too.
            process = manager.provisioner and manager.provisioner.process
            with suppress(RuntimeError):  # it has ended
                manager.signal_kernel(signal.SIGKILL)
            if process is not None:
                process.wait()

    def _all_in_use(self) -> list[Any]:
        with self._lock:
            return list(self._in_use)

    def refuse_if_stopped(self) -> None:
        """Raises Interrupted once the kernels were interrupted; asked before each cell, which an interrupt that comes
        between two cells would not keep from beginning.
        """
        if self._stopped:
            raise Interrupted("Interrupted.", "run the same command again; it goes on")

    def _prepare(self, ahead: int) -> None:
        """Start kernels for the notebooks to come, until so many are ready."""
        while self._waiting and len(self._ready) < ahead:
            notebook = self._waiting.pop(0)
            self._ready.append((notebook, self._starter.submit(self._start, notebook)))

    def _start(self, notebook: str) -> Any:
        """Start a kernel; it imports that notebook's step by itself, outside of any cell."""
        # The Kubernetes client writes a kubeconfig's client key to a temporary file and removes it at exit; a
        # kernel is killed, so that the key must lie where we clean up.
        environment = {**os.environ, **self._secrets.environment(), "TMPDIR": str(self._folder)}
        manager = new_manager(self._folder / f"{next(self._numbers)}.json")
        log = os.open(self._log(manager), os.O_WRONLY | os.O_CREAT, 0o600)
        if nursery.SUPPORTED:
            from .provisioner import from_nursery

            self._nursery = self._nursery or Nursery(self._modules, environment)
            from_nursery(manager, self._nursery, str(self._log(manager)))
        manager.start_kernel(
            extra_arguments=[
                f"--IPKernelApp.exec_lines=['import {_step_of(notebook)}']",
                "--HistoryManager.hist_file=:memory:",  # else every cell is written into the user's history
            ],
            env=environment,
            preexec_fn=ended_with_us(),
            # What it says by itself is for who asks why it died, and not for the log of the run.
            stdout=log,
            stderr=log,
        )
        os.close(log)
        return manager

    @staticmethod
    def _log(manager: Any) -> Path:
        return Path(manager.connection_file).with_suffix(".log")

    def last_words(self, manager: Any) -> str:
        """The last line that a kernel wrote by itself; empty if it wrote none."""
        lines = self._log(manager).read_text(errors="replace").strip().splitlines()
        return redact.scrub(lines[-1].strip()) if lines else ""

    def _end(self, manager: Any) -> None:
        """Kill it, in the background: the next notebook need not wait until it is gone."""
        thread = threading.Thread(target=manager.shutdown_kernel, kwargs={"now": True})
        thread.start()
        self._ending.append(thread)
