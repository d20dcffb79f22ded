"""How long each wait of a federation took the last times, so that people know whether it takes longer than it does."""

from __future__ import annotations

import threading
from statistics import median
from typing import Any

from .remembered import Remembered

_KEPT = 5
"""So many of each: the usual time is that of the last ones, not of last year's."""


class Durations:
    """What this user waited for in a federation, and how long (seconds). Several notebooks may note at the same time.

    Where nothing may be written or read, nothing is usual: it is shown, and nothing depends on it.
    """

    def __init__(self, federation: str):
        self._remembered = Remembered("waits", federation)
        self._lock = threading.Lock()

    def usual(self, what: str) -> float | None:
        """The median of the last times; None: nobody has waited for that yet."""
        took = self._read().get(what)
        return median(took) if took else None

    def note(self, what: str, seconds: float) -> None:
        with self._lock:
            told = self._read()
            told[what] = [*told.get(what, []), round(seconds, 1)][-_KEPT:]
            self._remembered.write(told)

    def _read(self) -> dict[str, list[float]]:
        return {what: took for what, took in self._remembered.read().items() if _is_row(took)}


def _is_row(took: Any) -> bool:
    """Whether it is what `note` writes."""
    return isinstance(took, list) and all(isinstance(each, int | float) for each in took)
