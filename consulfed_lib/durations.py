"""How long each wait of a federation took the last times, so that people know whether it takes longer than it does."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import platformdirs

_KEPT = 5
"""So many of each: the usual time is that of the last ones, not of last year's."""


class Durations:
    """What this user waited for in a federation, and how long (seconds). Several notebooks may note at the same time.

    Where nothing may be written or read, nothing is usual: it is shown, and nothing depends on it.
    """

    def __init__(self, federation: str):
        self._path = platformdirs.user_state_path("consulfed") / "waits" / f"{federation}.json"
        self._lock = threading.Lock()

    def usual(self, what: str) -> float | None:
        """The median of the last times; None: nobody has waited for that yet."""
        took = self._read().get(what)
        return median(took) if took else None

    def note(self, what: str, seconds: float) -> None:
        with self._lock, suppress(OSError):
            told = self._read()
            told[what] = [*told.get(what, []), round(seconds, 1)][-_KEPT:]
            self._write(told)

    def _read(self) -> dict[str, list[float]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return (
            {what: took for what, took in found.items() if _is_row(took)} if isinstance(found, dict) else {}
        )

    def _write(self, told: Mapping[str, Any]) -> None:
        """All of it or nothing: another notebook may be reading."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, begun = tempfile.mkstemp(dir=self._path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(told))
        Path(begun).replace(self._path)


def _is_row(took: Any) -> bool:
    """Whether it is what `note` writes."""
    return isinstance(took, list) and all(isinstance(each, int | float) for each in took)
