"""Parameters without the secrets that somebody put into them: for what shows or keeps parameters that are not well."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ..params.secrets import HIDDEN, Found
from .places import step_down, steps_of


def shielded(raw: Mapping[str, Any], found: list[Found]) -> dict[str, Any]:
    """The same with whatever holds one of the secrets replaced as a whole: a part of a value may tell the rest."""
    shown = copy.deepcopy(dict(raw))
    for each in found:
        place, _, part = each.place.partition(": ")
        if part and not part.startswith(("`", "a key")):  # in a file of Helm values, which stands elsewhere
            continue
        if place == "parameters":
            shown = {key: value for key, value in shown.items() if each.value not in str(key)}
            continue
        steps = steps_of(place)
        holder: Any = shown
        # A key with dots in it cannot be told from several ones: all below the last that is sure is hidden then.
        while len(steps) > 1 and isinstance(step_down(holder, steps[0]), dict | list):
            holder = step_down(holder, steps.pop(0))
        if step_down(holder, steps[0]) is not None:
            holder[steps[0]] = HIDDEN
        else:
            _hide_all(holder)
    return shown


def _hide_all(holder: dict[Any, Any] | list[Any]) -> None:
    for key in holder if isinstance(holder, dict) else range(len(holder)):
        holder[key] = HIDDEN  # type: ignore[index]


def hidden(value: Any, place: str = "") -> Iterator[str]:
    """The places from which a secret was taken."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from hidden(each, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from hidden(each, f"{place}[{i}]")
    elif isinstance(value, str) and HIDDEN in value:
        yield place
