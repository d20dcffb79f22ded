"""Places in parameters, as messages write them: `secondaries[0].mesh_gateway.port`."""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def steps_of(place: str) -> list[str | int]:
    """
    >>> steps_of("secondaries[0].mesh_gateway.port")
    ['secondaries', 0, 'mesh_gateway', 'port']
    """
    return [int(match[2]) if match[2] else match[1] for match in _STEP.finditer(place)]


def step_down(holder: Any, step: str | int) -> Any:
    """What stands below, None where nothing does."""
    try:
        return holder[step]
    except (KeyError, IndexError, TypeError):
        return None


def at(holder: Any, place: str) -> Any:
    """What stands at a place, None where nothing does."""
    for step in steps_of(place):
        holder = step_down(holder, step)
    return holder
