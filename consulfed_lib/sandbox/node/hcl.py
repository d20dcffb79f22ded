"""The configuration language of `consul agent -hcl=…`, as far as the charts write it.

Charts up to 0.43 give servers their certificates, ports and switches that way. What is read here can be looked at
and fitted as configuration files are; text with anything else in it is left to Consul itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|-?\d+(?![\w.])|[A-Za-z_][\w.-]*|[{}\[\]=,])')


def parse(text: str) -> dict[str, Any]:
    """The settings of an HCL text. Raises ValueError where it holds more than assignments, objects and lists.

    >>> parse('ports { https = 8501 }')
    {'ports': {'https': 8501}}
    """
    tokens, end = [], 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        if match is None:
            raise ValueError(f"not understood: {text[end:].strip()[:40]}")
        tokens.append(match[1])
        end = match.end()
    found, rest = _body(tokens, "")
    if rest:
        raise ValueError(f"not understood: {' '.join(rest)[:40]}")
    return found


def _body(tokens: list[str], close: str) -> tuple[dict[str, Any], list[str]]:
    """Assignments and blocks up to the closing token; what follows it."""
    found: dict[str, Any] = {}
    while tokens:
        name, *tokens = tokens
        if name == close:
            return found, tokens
        if name == ",":
            continue
        key = json.loads(name) if name.startswith('"') else name
        if not re.fullmatch(r"[A-Za-z_][\w.-]*", key) or not tokens:
            raise ValueError(f"no setting: {name}")
        # A block, `ports { … }`, is an object without the sign between.
        value, tokens = _value(tokens[1:] if tokens[0] == "=" else _block(tokens))
        before = found.get(key)
        found[key] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    if close:
        raise ValueError(f"{close} is missing")
    return found, []


def _block(tokens: list[str]) -> list[str]:
    if tokens[0] != "{":
        raise ValueError(f"expected a block, not {tokens[0]}")
    return tokens


def _value(tokens: list[str]) -> tuple[Any, list[str]]:
    if not tokens:
        raise ValueError("a value is missing")
    first, *rest = tokens
    if first == "{":
        return _body(rest, "}")
    if first == "[":
        items: list[Any] = []
        while rest and rest[0] != "]":
            item, rest = _value(rest)
            items.append(item)
            rest = rest[1:] if rest and rest[0] == "," else rest
        if not rest:
            raise ValueError("] is missing")
        return items, rest[1:]
    if first in ("true", "false") or first.lstrip("-").isdigit() or first.startswith('"'):
        return json.loads(first), rest
    raise ValueError(f"no value: {first}")
