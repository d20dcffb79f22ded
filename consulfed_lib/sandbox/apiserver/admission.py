"""What happens to an object between its arrival and its storage: defaults, generated parts, refusals."""

from __future__ import annotations

from typing import Any

from . import defaults, escalation, generated, refusals, structural, webhooks
from .cluster import Cluster
from .contracts import User
from .resources import Resource
from .status import Cause, forbidden, forbidden_field, invalid
from .store import Object
from .validation import check_metadata

_INITIAL_STATUS: dict[tuple[str, str], dict[str, Any]] = {
    ("", "Namespace"): {"phase": "Active"},
    ("", "Pod"): {"phase": "Pending"},
    ("", "PersistentVolumeClaim"): {"phase": "Pending"},
    ("", "PersistentVolume"): {"phase": "Pending"},
    ("", "Service"): {"loadBalancer": {}},
    ("networking.k8s.io", "Ingress"): {"loadBalancer": {}},
}


def admit_create(
    cluster: Cluster, resource: Resource, obj: Object, user: User | None, named: bool = False
) -> Object:
    """The object as it is to be stored; it is changed in place.

    Args:
        user: who writes; None is the server itself.
        named: whether the request's URL has the object's name.

    Raises:
        ApiError: 422 for what is invalid, 403 for what a rule of the cluster forbids.
    """
    metadata = obj["metadata"]
    _drop_nulls(metadata)
    _refuse(resource, obj, list(check_metadata(resource, obj)))
    _check_namespace_open(cluster, resource, metadata)
    key = (resource.group, resource.kind)
    if resource.subresource("status") and key != ("", "Node"):
        obj.pop("status", None)
        initial = _INITIAL_STATUS.get(key, None if resource.custom else {})
        if initial is not None:
            obj["status"] = dict(initial)
    if not resource.custom:
        _without_null_fields(obj)
    defaults.fill_in(resource, obj)
    if resource.custom and resource.schema:
        obj = structural.prune_and_default(resource.schema, obj)
    generated.prepare(cluster, resource, obj, None)
    _refuse(resource, obj, _kind_causes(resource, obj, None))
    escalation.check(cluster.store, cluster.authorizer, resource, user, obj, None, named)
    webhooks.check(cluster.store, cluster.webhook, resource, obj, None)
    if resource.has_generation:
        obj["metadata"]["generation"] = 1
    return obj


def admit_update(
    cluster: Cluster, resource: Resource, old: Object, new: Object, sub: str, user: User | None
) -> Object:
    """As `admit_create`, for a write over `old` through the resource itself or one of its subresources."""
    _drop_nulls(new["metadata"])
    if not resource.custom:
        _without_null_fields(new)
    if "finalizers" in new["metadata"] and not new["metadata"]["finalizers"]:
        del new["metadata"]["finalizers"]
    _refuse(resource, new, [*check_metadata(resource, new), *_metadata_changes(old, new)])
    defaults.fill_in(resource, new)
    if resource.custom and resource.schema:
        new = structural.prune_and_default(resource.schema, new)
    causes: list[Cause] = []
    if not sub:
        generated.prepare(cluster, resource, new, old)
        causes += _kind_causes(resource, new, old)
    elif resource.custom and resource.schema:
        causes += structural.validate(resource.schema, new)
    _refuse(resource, new, causes)
    if not sub:
        escalation.check(cluster.store, cluster.authorizer, resource, user, new, old, True)
        webhooks.check(cluster.store, cluster.webhook, resource, new, old)
    if resource.has_generation and _spec(resource, old) != _spec(resource, new):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new


def _drop_nulls(metadata: dict[str, Any]) -> None:
    for name in [name for name, value in metadata.items() if value is None]:
        del metadata[name]
    for name in ("labels", "annotations", "ownerReferences", "finalizers"):
        if name in metadata and not metadata[name]:
            del metadata[name]


def _without_null_fields(value: Any) -> None:
    """Drop nulls, which stand for a field that is not set."""
    if isinstance(value, dict):
        for key in [key for key, part in value.items() if part is None]:
            del value[key]
        for part in value.values():
            _without_null_fields(part)
    elif isinstance(value, list):
        for part in value:
            _without_null_fields(part)


def _check_namespace_open(cluster: Cluster, resource: Resource, metadata: dict[str, Any]) -> None:
    if not resource.namespaced:
        return
    namespace = cluster.store.get(("", "namespaces"), "", metadata["namespace"])
    if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
        return
    name = metadata["namespace"]
    why = f"unable to create new content in namespace {name} because it is being terminated"
    error = forbidden(resource.plural, resource.group, metadata.get("name", ""), why)
    error.details["causes"] = [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {name} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    raise error


def _kind_causes(resource: Resource, new: Object, old: Object | None) -> list[Cause]:
    causes = list(refusals.check(resource, new, old))
    if resource.custom and resource.schema:
        causes += structural.validate(resource.schema, new)
    return causes


def _metadata_changes(old: Object, new: Object) -> list[Cause]:
    """An object that is being deleted takes no new finalizers."""
    if "deletionTimestamp" not in old["metadata"]:
        return []
    held = old["metadata"].get("finalizers") or []
    added = [f for f in new["metadata"].get("finalizers") or () if f not in held]
    if not added:
        return []
    listed = ", ".join(f'"{finalizer}"' for finalizer in added)
    why = "no new finalizers can be added if the object is being deleted, found new finalizers "
    return [forbidden_field("metadata.finalizers", f"{why}[]string{{{listed}}}")]


def _refuse(resource: Resource, obj: Object, causes: list[Cause]) -> None:
    if causes:
        raise invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), causes)


def _spec(resource: Resource, obj: Object) -> dict[str, Any]:
    """What counts as a change of the object's generation."""
    left_out = {"metadata", "apiVersion", "kind"}
    if resource.subresource("status"):
        left_out.add("status")
    return {key: value for key, value in obj.items() if key not in left_out}
