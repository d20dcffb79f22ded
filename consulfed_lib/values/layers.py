"""Layers of Helm values: the user's files and values, weakest first, and how Helm lays one over the other."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ParamsError
from ..params import read_yaml


@dataclass(frozen=True)
class Layer:
    """Values of the user's own, with the place where they stand, in the words of the parameters."""

    source: str
    values: Mapping[str, Any]


def read_layers(prefix: str, files: list[str], values: Mapping[str, Any]) -> list[Layer]:
    """The layers of one place of the parameters. Raises ParamsError when a file cannot be read."""
    return [file_layer(prefix, i, file) for i, file in enumerate(files)] + values_layer(prefix, values)


def file_layer(prefix: str, index: int, file: str) -> Layer:
    """One of the user's files. Raises ParamsError when it cannot be read."""
    place = f"{prefix}values_files[{index}]"
    try:
        return Layer(f"{place} {file}", _plain(read_yaml(file)))
    except ValueError as error:
        raise ParamsError(f"{place}: {error}.", "correct the path or the file in the parameters") from None


def values_layer(prefix: str, values: Mapping[str, Any]) -> list[Layer]:
    """What the parameters themselves hold of Helm values: one layer, or none."""
    return [Layer(f"{prefix}values", _plain(values))] if values else []


def _plain(value: Any) -> Any:
    """What Helm would read: keys are text, and a date, which only YAML knows, is the text that it was."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """As Helm merges files: mappings key by key, anything else is replaced."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def put(into: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path; what is no mapping on the way gives way."""
    *parents, last = path.split(".")
    for key in parents:
        if not isinstance(into.get(key), dict):
            into[key] = {}
        into = into[key]
    into[last] = value
