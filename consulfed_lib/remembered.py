"""What this user measured of a federation the last times: a file in their state folder, on which nothing depends."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs


class Remembered:
    """Figures by name. Where nothing may be read or written there are none, and nothing fails of it.

    Args:
        kind: what they are figures of; a folder for all federations.
    """

    def __init__(self, kind: str, federation: str):
        self._path = platformdirs.user_state_path("consulfed") / kind / f"{federation}.json"

    def read(self) -> dict[str, Any]:
        """Empty: nothing yet, or it cannot be read."""
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, told: Mapping[str, Any]) -> None:
        """All of it or nothing: another notebook may be reading."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, begun = tempfile.mkstemp(dir=self._path.parent)
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(told))
            Path(begun).replace(self._path)
