"""A bell for who waits: it rings when something in a cluster changes, so that nobody sleeps where one can watch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import urllib3

if TYPE_CHECKING:
    from .cluster import Cluster


class Bell:
    """Rings when something that is watched changes: `wait` returns at once then, and after `seconds` at the latest.

    Where a watch breaks it rings too and is begun again, so that nobody waits for an event that is lost.
    """

    def __init__(self, cluster: Cluster, paths: Sequence[str]):
        self._cluster, self._paths = cluster, paths
        self._rung, self._stop = threading.Event(), threading.Event()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Bell:
        for path in self._paths:
            threading.Thread(target=self._listen, args=(path,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the watches, whose server would keep each open for minutes."""
        with self._lock:
            self._stop.set()
            for watch in self._open:
                _hang_up(watch)

    def _listen(self, path: str) -> None:
        while not self._stop.is_set():
            try:
                self._hear(self._cluster.watch(path))
            except (urllib3.exceptions.HTTPError, OSError, ValueError):  # ValueError: hung up in mid-read
                self._rung.set()
            self._stop.wait(0.5)

    def _hear(self, watch: urllib3.BaseHTTPResponse) -> None:
        with watch:
            with self._lock:
                if self._stop.is_set():
                    return
                self._open.add(watch)
            try:
                for _ in watch.stream(amt=None) if watch.status == 200 else ():
                    self._rung.set()
            finally:
                with self._lock:
                    self._open.discard(watch)

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Until something changed; at most 2 s, so that a lost event costs no more than that."""
        self._rung.wait(min(seconds, 2.0))
        self._rung.clear()


def _hang_up(watch: urllib3.BaseHTTPResponse) -> None:
    """End the answer that another thread reads."""
    with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
        watch.shutdown()
