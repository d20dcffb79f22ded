"""OpenAPI v3 documents as far as Helm and kubectl insist on them.

Both look up, for the kind that they apply, the PATCH operation with its `fieldValidation` parameter, and
refuse to go on without. Schemas are given in full for custom resources; for built-in kinds they name the
top-level fields only.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .fields import top_level_fields
from .resources import Registry, Resource
from .rest import APPLY_PATCH, JSON_PATCH, MERGE_PATCH

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_FIELD_VALIDATION = {
    "name": "fieldValidation",
    "in": "query",
    "description": "What to do with unknown and duplicate fields: Ignore, Warn or Strict.",
    "schema": {"type": "string", "uniqueItems": True},
}


def index(registry: Registry) -> dict[str, Any]:
    """Where the documents are: one a group and version."""
    paths = {}
    for group, versions in registry.groups().items():
        for version in versions:
            place = f"apis/{group}/{version}" if group else f"api/{version}"
            names = sorted(
                f"{r.plural}:{id(r) if r.custom else 0}" for r in _resources(registry, group, version)
            )
            digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32].upper()
            paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
    return {"paths": paths}


def document(registry: Registry, place: str) -> dict[str, Any] | None:
    """The document of `api/v1` or `apis/GROUP/VERSION`; None when nothing is served there."""
    parts = place.strip("/").split("/")
    if parts[0] == "api" and len(parts) == 2:
        group, version = "", parts[1]
    elif parts[0] == "apis" and len(parts) == 3:
        group, version = parts[1], parts[2]
    else:
        return None
    resources = _resources(registry, group, version)
    if not resources:
        return None
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {_META: {"type": "object", "properties": _metadata_properties()}}
    for resource in resources:
        schemas[_schema_name(resource)] = _schema(resource)
        if "create" not in resource.verbs:
            continue
        namespace = "{namespace}" if resource.namespaced else ""
        paths[resource.path(namespace)] = {
            "get": _operation(resource, "list"),
            "post": _operation(resource, "post", [_FIELD_VALIDATION]),
        }
        if "patch" in resource.verbs:
            paths[resource.path(namespace, "{name}")] = {
                "get": _operation(resource, "get"),
                "put": _operation(resource, "put", [_FIELD_VALIDATION]),
                "patch": {
                    **_operation(resource, "patch", [_FIELD_VALIDATION]),
                    "requestBody": _patch_body(),
                },
                "delete": _operation(resource, "delete"),
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _resources(registry: Registry, group: str, version: str) -> list[Resource]:
    return [r for r in registry.all() if (r.group, r.version) == (group, version)]


def _kind(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schema_name(resource: Resource) -> str:
    if resource.custom:
        reverse = ".".join(reversed(resource.group.split(".")))
        return f"{reverse}.{resource.version}.{resource.kind}"
    group = resource.group.partition(".")[0] or "core"
    return f"io.k8s.api.{group}.{resource.version}.{resource.kind}"


def _operation(
    resource: Resource, action: str, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{_schema_name(resource)}"}
    operation: dict[str, Any] = {
        "operationId": f"{action}{resource.group.title().replace('.', '')}{resource.version.title()}{resource.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(resource),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _patch_body() -> dict[str, Any]:
    """Strategic merge patches are not named here, though they are served.

    kubectl would compute them from these schemas, which do not go as deep as that takes; so it does as it
    does for the kinds that it knows itself.
    """
    kinds = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
    return {"content": {kind: {"schema": {"type": "object"}} for kind in kinds}, "required": True}


def _metadata_properties() -> dict[str, Any]:
    text, mapping = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "name": text,
        "generateName": text,
        "namespace": text,
        "uid": text,
        "resourceVersion": text,
        "creationTimestamp": text,
        "deletionTimestamp": text,
        "labels": mapping,
        "annotations": mapping,
        "finalizers": {"type": "array", "items": text},
    }


def _schema(resource: Resource) -> dict[str, Any]:
    kind = {"x-kubernetes-group-version-kind": [_kind(resource)]}
    metadata = {"allOf": [{"$ref": f"#/components/schemas/{_META}"}], "default": {}}
    if resource.custom and resource.schema:
        properties = {**(resource.schema.get("properties") or {}), "metadata": metadata}
        return {**resource.schema, "properties": properties, **kind}
    properties = {
        name: {"type": "string" if name in ("apiVersion", "kind") else "object", "description": ""}
        for name in top_level_fields(resource) or ()
    }
    return {"type": "object", "properties": {**properties, "metadata": metadata}, **kind}
