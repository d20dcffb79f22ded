"""A mistake that pydantic found, in plain words."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

from .models import Chart, Cluster, Federation, GossipKey, MeshGateway, Timeouts, Verification


def _place(location: tuple[Any, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place or "parameters"


_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "dict_type": "a mapping of keys and values",
    "list_type": "a list",
}


def sentence(item: dict[str, Any]) -> str:
    """One mistake that pydantic found, in plain words."""
    place, kind, value = _place(item["loc"]), item["type"], item.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(item["loc"][:-1]), 1)
        return f"{place}: unknown key" + (f"; did you mean `{near[0]}`?" if near else "")
    if kind == "missing":
        return f"{place}: missing"
    if kind == "too_short" and item["loc"] == ("secondaries",):
        return "secondaries: empty; expected at least one cluster"
    if kind == "string_too_short":
        return f"{place}: empty"
    if kind == "literal_error":
        return f"{place}: {value!r}; expected {item['ctx']['expected']}"
    if kind in _EXPECTED:
        found = "empty" if value is None else f"{value!r} is {_type_name(value)}"
        return f"{place}: {found}; expected {_EXPECTED[kind]}"
    return f"{place}: {value!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _type_name(value: Any) -> str:
    names = {
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), type(value).__name__)


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "primary": Cluster, "secondaries": Cluster, "chart": Chart, "gossip_key": GossipKey,
        "mesh_gateway": MeshGateway, "timeouts": Timeouts, "verification": Verification,
    }  # fmt: skip
    named = [models[part] for part in location if part in models]
    return list((named[-1] if named else Federation).model_fields)
