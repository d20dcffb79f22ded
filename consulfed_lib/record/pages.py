"""Pages of executed notebooks, made beside the run by a process of its own that takes only what others leave idle.

nbconvert takes one to two seconds of a processor to begin with; a run has none to spare, but waits most of its time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..children import ended_with_us


class Pages:
    """Makes pages while other work goes on. What it could not make is for `Staging.pages` to make, or to report."""

    def start(self) -> None:
        """Begin to get ready. Called by the thread that lives longest: the process ends with it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=ended_with_us(signal.SIGKILL),
            start_new_session=True,  # Ctrl-C at a terminal is not for it
        )

    def make(self, notebook: Path) -> None:
        """Make the page of an executed notebook, some time before `finish` returns."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(str(notebook)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # somebody killed it
            return

    def finish(self) -> None:
        """Wait for all of them, however they end."""
        self._process.communicate()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _make(lines: Iterable[str]) -> None:
    """Write the page of each notebook that a line names beside it."""
    from . import page
    from .durable import write_file

    page.ready()
    for line in lines:
        notebook = Path(json.loads(line))
        try:
            html = page.html(json.loads(notebook.read_bytes()), notebook.stem)
            write_file(notebook.with_suffix(".html"), html.encode())
        except (OSError, ValueError):  # who looks for the page will find that it is missing, and why
            continue


if __name__ == "__main__":
    os.nice(19)
    _make(sys.stdin)
