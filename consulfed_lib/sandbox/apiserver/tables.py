"""Answers as metav1.Table, which is what `kubectl get` asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .columns import AGE, COLUMNS, Column, age, get
from .resources import Resource
from .store import Object


def _custom_column(declared: dict[str, Any]) -> Column:
    path, kind = declared["jsonPath"], declared.get("type", "string")

    def cell(obj: Object) -> Any:
        value = json_path(obj, path)
        if kind == "date":
            return age(value) if value else "<unknown>"
        return value

    return (declared["name"], kind, declared.get("priority", 0), cell)


def json_path(obj: Any, path: str) -> Any:
    """The first value at a printer column's JSON path; None where there is none.

    >>> json_path({"c": [{"type": "A", "status": "x"}]}, '.c[?(@.type=="A")].status')
    'x'
    """
    steps = re.findall(
        r"""\.([\w-]+)|\.?\['([^']+)'\]|\[(\d+|\*)\]|\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]|\.((?:\\.|[^.\[\\])+)""",
        path,
    )
    for name, quoted, index, key, wanted, escaped in steps:
        if index or key:
            if not isinstance(obj, list):
                return None
            if key:
                obj = next((item for item in obj if get(item, key) == wanted), None)
            else:
                position = 0 if index == "*" else int(index)
                obj = obj[position] if position < len(obj) else None
        else:
            field = name or quoted or escaped.replace("\\", "")
            obj = obj.get(field) if isinstance(obj, dict) else None
        if obj is None:
            return None
    return obj


def _columns_of(resource: Resource) -> list[Column]:
    if resource.custom:
        return [_custom_column(column) for column in resource.columns] or [AGE]
    return COLUMNS.get(resource.storage_key, [AGE])


def _row_object(resource: Resource, obj: Object, include: str) -> Object | None:
    if include == "None":
        return None
    if include == "Object":
        return {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(
    resource: Resource, objects: Sequence[Object], parameters: Mapping[str, str], revision: str
) -> dict[str, Any]:
    """Objects as a Table; each row carries its object's metadata, or what `includeObject` asks for.

    kubectl asks for whole objects when it sorts by a field (`--sort-by`).
    """
    include = parameters.get("includeObject") or "Metadata"
    name = ("Name", "string", 0, lambda obj: obj["metadata"]["name"])
    columns = [name, *_columns_of(resource)]
    definitions = [
        {
            "name": title,
            "type": kind,
            "format": "name" if title == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for title, kind, priority, _ in columns
    ]
    rows = [
        {"cells": [cell(obj) for _, _, _, cell in columns], "object": _row_object(resource, obj, include)}
        for obj in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{parameters.get('v', 'v1')}",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": definitions,
        "rows": rows,
    }
