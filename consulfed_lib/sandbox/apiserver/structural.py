"""Structural schemas of custom resources: drop what they do not name, fill in defaults, find what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .status import Cause, invalid_value, quoted, required, unsupported_value
from .store import Object, clone

Schema = dict[str, Any]

_TYPES = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_PRESERVE = "x-kubernetes-preserve-unknown-fields"


def prune_and_default(schema: Schema, obj: Object) -> Object:
    """The object with only the fields of the schema, and its defaults; apiVersion, kind, metadata stay."""
    fitted = _fit(schema, {key: value for key, value in obj.items() if key not in _ENVELOPE})
    return {key: obj[key] for key in _ENVELOPE if key in obj} | {
        key: value for key, value in fitted.items() if key not in _ENVELOPE
    }


_ENVELOPE = ("apiVersion", "kind", "metadata")


def _fit(schema: Schema, value: Any) -> Any:
    if isinstance(value, list):
        items = schema.get("items")
        return [_fit(items, item) for item in value] if isinstance(items, dict) else value
    if not isinstance(value, dict):
        return value
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    keeps_all = schema.get(_PRESERVE) or not (properties or extra or schema.get("type") == "object")
    embedded = schema.get("x-kubernetes-embedded-resource")
    result: dict[str, Any] = {}
    for key, part in value.items():
        if key in properties:
            if part is None and not properties[key].get("nullable") and "default" in properties[key]:
                continue
            result[key] = _fit(properties[key], part)
        elif isinstance(extra, dict):
            result[key] = _fit(extra, part)
        elif extra or keeps_all or (embedded and key in _ENVELOPE):
            result[key] = part
    for key, below in properties.items():
        if key not in result and "default" in below:
            result[key] = _fit(below, clone(below["default"]))
    return result


def unknown_fields(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields that pruning would drop."""
    if isinstance(value, list):
        items = schema.get("items")
        for position, item in enumerate(value if isinstance(items, dict) else ()):
            yield from unknown_fields(items, item, f"{path}[{position}]")  # type: ignore[arg-type]
        return
    if not isinstance(value, dict):
        return
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    keeps_all = schema.get(_PRESERVE) or not (properties or extra or schema.get("type") == "object")
    for key, part in value.items():
        here = f"{path}.{key}" if path else key
        if (not path and key in _ENVELOPE) or (
            key in _ENVELOPE and schema.get("x-kubernetes-embedded-resource")
        ):
            continue
        if key in properties:
            yield from unknown_fields(properties[key], part, here)
        elif isinstance(extra, dict):
            yield from unknown_fields(extra, part, here)
        elif not (extra or keeps_all):
            yield here


def validate(schema: Schema, obj: Object) -> list[Cause]:
    """What of the object does not fit the schema."""
    body = {key: value for key, value in obj.items() if key not in _ENVELOPE}
    rules = {**schema, "required": [n for n in schema.get("required") or () if n not in _ENVELOPE]}
    properties = {key: part for key, part in (schema.get("properties") or {}).items() if key not in _ENVELOPE}
    return list(_check({**rules, "properties": properties}, body, ""))


def _check(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield _wrong_type(path, "integer,string", value)
        return
    wanted = schema.get("type")
    if wanted in _TYPES and (
        not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")
    ):
        yield _wrong_type(path, wanted, value)
        return
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        yield unsupported_value(path, value, (str(a) for a in allowed))
    if isinstance(value, str):
        yield from _check_text(schema, value, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _check_number(schema, value, path)
    elif isinstance(value, list):
        yield from _check_list(schema, value, path)
    elif isinstance(value, dict):
        yield from _check_object(schema, value, path)
    for part in schema.get("allOf") or ():
        yield from _check(part, value, path)
    for name in ("anyOf", "oneOf"):
        options = schema.get(name)
        if not options:
            continue
        fitting = sum(not any(_check(option, value, path)) for option in options)
        if fitting == 0 or (name == "oneOf" and fitting > 1):
            where = quoted(value) if isinstance(value, str) else ""
            yield invalid_value(
                path,
                where,
                f'"{path}" must validate {"one and only one" if name == "oneOf" else "at least one"} schema ({name})',
            )
    if schema.get("not") and not any(_check(schema["not"], value, path)):
        yield invalid_value(path, "", f'"{path}" must not validate the schema (not)')


def _wrong_type(path: str, wanted: str, value: Any) -> Cause:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    found = names.get(type(value), "null")
    return Cause(
        path,
        f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"',
        reason="FieldValueTypeInvalid",
    )


def _check_text(schema: Schema, value: str, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        yield Cause(
            path, f"Too long: may not be more than {schema['maxLength']} bytes", reason="FieldValueTooLong"
        )
    if len(value) < schema.get("minLength", 0):
        yield invalid_value(
            path, value, f"{path} in body should be at least {schema['minLength']} chars long"
        )
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield invalid_value(path, value, f"{path} in body should match '{pattern}'")


def _check_number(schema: Schema, value: float, path: str) -> Iterator[Cause]:
    if value < schema.get("minimum", value):
        yield invalid_value(
            path, value, f"{path} in body should be greater than or equal to {schema['minimum']}"
        )
    if value > schema.get("maximum", value):
        yield invalid_value(
            path, value, f"{path} in body should be less than or equal to {schema['maximum']}"
        )


def _check_list(schema: Schema, value: list[Any], path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        yield invalid_value(
            path, len(value), f"{path} in body should have at least {schema['minItems']} items"
        )
    if len(value) > schema.get("maxItems", len(value)):
        yield Cause(path, f"Too many: {len(value)}: must have at most {schema['maxItems']} items")
    for position, item in enumerate(value):
        yield from _check(schema.get("items") or {}, item, f"{path}[{position}]")


def _check_object(schema: Schema, value: dict[str, Any], path: str) -> Iterator[Cause]:
    for name in schema.get("required") or ():
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, part in value.items():
        here = f"{path}.{name}" if path else name
        if name in properties:
            yield from _check(properties[name], part, here)
        elif isinstance(extra, dict):
            yield from _check(extra, part, here)
