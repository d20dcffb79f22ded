"""What every resource does: create, update, patch and apply, over one store, with one order of checks.

    decode → namespace → defaults → validation → field managers → store

A dry run goes all the way and leaves out the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import admission, apply, patches, shapes
from .contracts import User
from .rbac import Attributes, refusal
from .resources import Resource
from .schema import node_of
from .status import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
    unsupported_media_type,
)
from .store import Object, clone, generated_name, new_uid, now

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_SYSTEM_METADATA = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


@dataclass(frozen=True)
class WriteOptions:
    """Options of a write.

    Attributes:
        manager: the fieldManager, or what the user agent calls itself.
        user: who writes; None is the server itself.
    """

    manager: str
    dry_run: bool = False
    force: bool = False
    user: User | None = None


class Rest:
    """Writes of objects, for every resource."""

    def __init__(self, cluster: admission.Cluster):
        self.cluster = cluster
        self.store = cluster.store

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object as this version of the resource has it; raises 404."""
        found = self.store.get(resource.storage_key, namespace if resource.namespaced else "", name)
        if found is None:
            raise not_found(resource.plural, resource.group, name)
        return as_version(found, resource)

    def create(self, resource: Resource, namespace: str, body: Any, options: WriteOptions) -> Object:
        obj = self._checked(resource, namespace, "", body)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion") not in (None, "", "0"):
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        generated = not metadata.get("name") and metadata.get("generateName")
        if generated:
            metadata["name"] = generated_name(metadata["generateName"])
        return self._create(resource, obj, options, "Update")

    def _create(self, resource: Resource, obj: Object, options: WriteOptions, operation: str) -> Object:
        """Create from a body that is checked; the body is changed in place."""
        metadata = obj["metadata"]
        self._check_namespace(resource, metadata.get("namespace", ""))
        for name in _SYSTEM_METADATA:
            metadata.pop(name, None)
        metadata.pop("resourceVersion", None)
        manager = apply.Manager(options.manager, operation, resource.api_version)
        node = node_of(resource)
        if operation == "Apply":
            obj = clone(apply.apply(None, obj, manager, node, options.force))
            metadata = obj["metadata"]
        metadata["uid"] = new_uid()
        metadata["creationTimestamp"] = now()
        applied = operation == "Apply"
        if applied and options.user is not None:
            # An apply that creates was let in as a patch; it takes the right to create, too.
            asked = Attributes(
                "create", resource.group, resource.version, resource.plural, "", metadata.get("namespace", ""),
                metadata["name"],
            )  # fmt: skip
            if not self.cluster.authorizer.allowed(options.user, asked)[0]:
                raise refusal(options.user, asked)
        obj = admission.admit_create(self.cluster, resource, obj, options.user, applied)
        if self.store.get(resource.storage_key, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise already_exists(resource.plural, resource.group, metadata["name"])
        if operation == "Update":
            obj = apply.record_update(None, obj, manager, node)
        if options.dry_run:
            return obj
        return as_version(self.store.put(resource.storage_key, obj), resource)

    def update(
        self, resource: Resource, namespace: str, name: str, sub: str, body: Any, options: WriteOptions
    ) -> Object:
        new = self._checked(resource, namespace, name, body)
        old = self.get(resource, namespace, name)
        if resource.custom and not new["metadata"].get("resourceVersion"):
            cause = "Invalid value: 0: must be specified for an update"
            raise invalid(resource.kind, resource.group, name, [Cause("metadata.resourceVersion", cause)])
        return self._store_update(resource, old, new, sub, options)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        sub: str,
        kind: str,
        body: Any,
        options: WriteOptions,
    ) -> tuple[Object, bool]:
        """(the object, whether it was created).

        Args:
            kind: the media type of the patch.
        """
        if kind == APPLY_PATCH:
            return self._apply(resource, namespace, name, sub, body, options)
        old = self.get(resource, namespace, name)
        new = self._patched(resource, old, kind, body)
        new = self._checked(resource, namespace, name, new)
        return self._store_update(resource, old, new, sub, options), False

    def _patched(self, resource: Resource, old: Object, kind: str, body: Any) -> Any:
        if kind == JSON_PATCH:
            return patches.json_patch(old, body)
        if not isinstance(body, dict):
            raise bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
        if kind == MERGE_PATCH:
            return clone(patches.merge_patch(old, body))
        if kind == STRATEGIC_PATCH and not resource.custom:
            return clone(patches.strategic_merge_patch(old, body, node_of(resource)))
        accepted = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
        raise unsupported_media_type(a for a in accepted if not (resource.custom and a == STRATEGIC_PATCH))

    def _apply(
        self, resource: Resource, namespace: str, name: str, sub: str, body: Any, options: WriteOptions
    ) -> tuple[Object, bool]:
        config = self._checked(resource, namespace, name, body)
        if config["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        key, node = resource.storage_key, node_of(resource)
        stored = self.store.get(key, namespace if resource.namespaced else "", name)
        if sub == "status":
            config = {k: v for k, v in config.items() if k in ("apiVersion", "kind", "metadata", "status")}
        elif resource.subresource("status"):
            config.pop("status", None)
        if stored is None:
            if sub:
                raise not_found(resource.plural, resource.group, name)
            if config["metadata"].get("uid"):
                uid = config["metadata"]["uid"]
                why = (
                    f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                )
                raise conflict(resource.plural, resource.group, name, why)
            return self._create(resource, config, options, "Apply"), True
        live = as_version(stored, resource)
        _check_preconditions(resource, live, config["metadata"])
        asked = dict(config["metadata"])
        for field in (*_SYSTEM_METADATA, "resourceVersion"):
            asked.pop(field, None)
        manager = apply.Manager(options.manager, "Apply", resource.api_version, sub)
        new = apply.apply(live, {**config, "metadata": asked}, manager, node, options.force)
        if new is live:
            return live, False
        return self._store_update(resource, live, clone(new), sub, options, applied=True), False

    def modify(
        self,
        resource: Resource,
        old: Object,
        change: Callable[[Object], None],
        options: WriteOptions,
        sub: str = "",
    ) -> Object:
        """Write what `change` does to a private copy of `old`."""
        new = clone(old)
        change(new)
        return self._store_update(resource, old, new, sub, options)

    def _store_update(
        self,
        resource: Resource,
        old: Object,
        new: Object,
        sub: str,
        options: WriteOptions,
        applied: bool = False,
    ) -> Object:
        """Put `new` in the place of `old`; `new` is private and is changed in place."""
        _check_preconditions(resource, old, new["metadata"])
        _keep_system_metadata(old, new)
        new = _restricted_to(resource, old, new, sub)
        new = admission.admit_update(self.cluster, resource, old, new, sub, options.user)
        if not applied:
            manager = apply.Manager(options.manager, "Update", resource.api_version, sub)
            new = apply.record_update(old, new, manager, node_of(resource))
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old or _without_times(new) == _without_times(old):
            return old
        if options.dry_run:
            return new
        if is_finished(new):
            return self.store.remove(resource.storage_key, new)
        return as_version(self.store.put(resource.storage_key, new), resource)

    def _check_namespace(self, resource: Resource, namespace: str) -> None:
        if not resource.namespaced:
            return
        held = self.store.get(("", "namespaces"), "", namespace)
        if held is None:
            raise not_found("namespaces", "", namespace)

    def _checked(self, resource: Resource, namespace: str, name: str, body: Any) -> Object:
        """The body as an object of this resource at this place; 400 where it is something else."""
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type object)")
        api_version, kind = body.get("apiVersion", ""), body.get("kind", "")
        if not kind:
            raise bad_request("Object 'Kind' is missing in '{}'".format(str(body)[:60].replace("'", '"')))
        if api_version != resource.api_version:
            raise bad_request(
                f"the API version in the data ({api_version}) does not match the expected API version "
                f"({resource.api_version})"
            )
        if kind != resource.kind:
            raise bad_request(f"{kind} in version {api_version!r} cannot be handled as a {resource.kind}")
        metadata = body.get("metadata")
        if metadata is None:
            metadata = body["metadata"] = {}
        if not isinstance(metadata, dict):
            raise bad_request("metadata: expected an object")
        shapes.check(resource, body)
        if resource.namespaced:
            if metadata.get("namespace") not in (None, "", namespace):
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = namespace
        elif resource.plural != "namespaces" or metadata.get("namespace"):
            metadata.pop("namespace", None)
        if name and metadata.setdefault("name", name) != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        return body


def as_version(obj: Object, resource: Resource) -> Object:
    """The object under the version of this resource; the same one when it is so already."""
    if obj["apiVersion"] == resource.api_version:
        return obj
    return {**obj, "apiVersion": resource.api_version}


def is_finished(obj: Object) -> bool:
    """Whether an object that is being deleted has nothing to wait for any more."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if obj["kind"] == "Namespace" and obj["apiVersion"] == "v1":
        return not obj.get("spec", {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _check_preconditions(resource: Resource, old: Object, given: dict[str, Any]) -> None:
    """Raises 409 when the caller means another revision, or another object of that name."""
    held, name = old["metadata"], old["metadata"]["name"]
    if given.get("uid") not in (None, "", held["uid"]):
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {held['uid']}"
        raise conflict(resource.plural, resource.group, name, why)
    if given.get("resourceVersion") not in (None, "", held["resourceVersion"]):
        raise conflict(resource.plural, resource.group, name)


def _keep_system_metadata(old: Object, new: Object) -> None:
    metadata = new["metadata"]
    for name in _SYSTEM_METADATA:
        metadata.pop(name, None)
        if name in old["metadata"]:
            metadata[name] = old["metadata"][name]


def _without_times(obj: Object) -> Object:
    """An object without the times of its field managers: a write that only renews them changes nothing."""
    managers = [{**entry, "time": ""} for entry in obj["metadata"].get("managedFields") or ()]
    return {**obj, "metadata": {**obj["metadata"], "managedFields": managers}}


def _restricted_to(resource: Resource, old: Object, new: Object, sub: str) -> Object:
    """What a write through this (sub)resource may change; the rest stays as it was."""
    if sub in ("", "ephemeralcontainers"):
        if resource.subresource("status"):
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        return new
    if sub == "finalize":
        spec = {**(old.get("spec") or {}), "finalizers": (new.get("spec") or {}).get("finalizers") or []}
        if not spec["finalizers"]:
            del spec["finalizers"]
        return {**clone(old), "spec": spec}
    restricted = {**clone(old), "metadata": new["metadata"]}
    if resource.custom:
        restricted["metadata"] = {**clone(old["metadata"])}
        if "managedFields" in new["metadata"]:
            restricted["metadata"]["managedFields"] = new["metadata"]["managedFields"]
    elif "ownerReferences" in old["metadata"]:
        restricted["metadata"]["ownerReferences"] = old["metadata"]["ownerReferences"]
    restricted.pop("status", None)
    if new.get("status") is not None:
        restricted["status"] = new["status"]
    return restricted
