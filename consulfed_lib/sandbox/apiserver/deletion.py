"""Deletion: preconditions, grace periods, finalizers, and the garbage collection of what is owned.

A real cluster's garbage collector is a controller that works on the same API; here it runs inside the
server, one small step after each write, so that nothing has to be polled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .resources import Resource
from .rest import Rest, WriteOptions, as_version, is_finished
from .status import (
    conflict,
    forbidden,
    forbidden_field,
    invalid,
    method_not_allowed,
    unsupported_value,
)
from .store import Event, Object, StorageKey, clone

_PROTECTED_NAMESPACES = ("default", "kube-public", "kube-system")
_RETURN_DELETED = {
    ("", "pods"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
}
"""A deletion of these answers with the object, not with a Status."""

_ORPHANED_BY_DEFAULT = {("batch", "jobs"), ("", "replicationcontrollers")}
"""Without a propagationPolicy their dependents stay, as they did in the first versions of the API."""

COLLECTOR = WriteOptions("kube-controller-manager")


@dataclass(frozen=True)
class DeleteOptions:
    """metav1.DeleteOptions, from the body or from the query."""

    grace: int | None = None
    policy: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


def delete_options(body: Any, query: dict[str, list[str]]) -> DeleteOptions:
    """Read the options; those of the body come first.

    Raises:
        ApiError: 422 when they contradict each other.
    """
    given = body if isinstance(body, dict) else {}
    single = {key: values[0] for key, values in query.items() if values}
    grace = given.get("gracePeriodSeconds", single.get("gracePeriodSeconds"))
    policy = given.get("propagationPolicy") or single.get("propagationPolicy") or ""
    orphan = given.get("orphanDependents")
    if orphan is None and "orphanDependents" in single:
        orphan = single["orphanDependents"].lower() == "true"
    causes = []
    if policy not in ("", "Foreground", "Background", "Orphan"):
        causes.append(unsupported_value("propagationPolicy", policy, ("Foreground", "Background", "Orphan")))
    if orphan is not None and policy:
        causes.append(
            forbidden_field(
                "propagationPolicy", "orphanDependents and deletionPropagation cannot be both set"
            )
        )
    dry_run = given.get("dryRun") or query.get("dryRun") or []
    if dry_run and dry_run != ["All"]:
        causes.append(unsupported_value("dryRun", dry_run[0], ("All",)))
    if causes:
        raise invalid("DeleteOptions", "meta.k8s.io", "", causes)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    preconditions = given.get("preconditions") or {}
    return DeleteOptions(
        grace=None if grace is None else max(int(grace), 0),
        policy=policy,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=bool(dry_run),
    )


class Deleter:
    """Deletes objects, and collects what their deletion leaves behind."""

    def __init__(self, rest: Rest):
        self._rest = rest
        self._store = rest.store
        self._owned: dict[str, set[str]] = {}
        self.on_definition_deleted: Callable[[Object], None] = lambda definition: None
        self._store.on_write.append(self._observe)

    def delete(self, resource: Resource, obj: Object, options: DeleteOptions) -> tuple[Object, bool]:
        """(the object's last state, whether it is gone).

        Raises:
            ApiError: 409 when a precondition fails, 403 for a namespace that may not be deleted.
        """
        self._check(resource, obj, options)
        metadata = dict(obj["metadata"])
        grace = self._grace(resource, obj, options)
        finalizers = self._finalizers(resource, metadata, options)
        already = "deletionTimestamp" in metadata
        marked: Object = {**obj, "metadata": metadata}
        if not already or grace < metadata.get("deletionGracePeriodSeconds", 0):
            end = datetime.now(UTC) + timedelta(seconds=grace)
            metadata["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata["deletionGracePeriodSeconds"] = grace
            if "generation" in metadata and not already:
                metadata["generation"] += 1
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        if resource.storage_key == ("", "namespaces"):
            marked["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        finished = is_finished(marked)
        if options.dry_run:
            return marked, finished
        if finished:
            if not already:
                for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
                    del metadata[name]
                if "generation" in metadata:
                    metadata["generation"] = obj["metadata"]["generation"]
            return as_version(self._store.remove(resource.storage_key, marked), resource), True
        if marked == obj:
            return obj, False
        return as_version(self._store.put(resource.storage_key, marked), resource), False

    def answer(self, resource: Resource, obj: Object, gone: bool) -> dict[str, Any]:
        """The body that a DELETE answers with."""
        if not gone or resource.storage_key in _RETURN_DELETED:
            return obj
        details = {"name": obj["metadata"]["name"], "group": resource.group, "kind": resource.plural}
        details["uid"] = obj["metadata"]["uid"]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {key: value for key, value in details.items() if value},
        }

    def _check(self, resource: Resource, obj: Object, options: DeleteOptions) -> None:
        held, name = obj["metadata"], obj["metadata"]["name"]
        for text, wanted, found in (
            ("UID", options.uid, held["uid"]),
            ("ResourceVersion", options.resource_version, held["resourceVersion"]),
        ):
            if wanted and wanted != found:
                why = f"Precondition failed: {text} in precondition: {wanted}, {text} in object meta: {found}"
                raise conflict(resource.plural, resource.group, name, why)
        if resource.storage_key == ("", "namespaces") and name in _PROTECTED_NAMESPACES:
            raise forbidden("namespaces", "", name, "this namespace may not be deleted")
        if "delete" not in resource.verbs:
            raise method_not_allowed(resource.plural, resource.group, "delete")

    def _grace(self, resource: Resource, obj: Object, options: DeleteOptions) -> int:
        """Seconds that the object is given to end; only a pod that is on a node has any."""
        if resource.storage_key != ("", "pods"):
            return 0
        spec, phase = obj.get("spec", {}), obj.get("status", {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return 0
        return spec.get("terminationGracePeriodSeconds", 30) if options.grace is None else options.grace

    def _finalizers(self, resource: Resource, metadata: dict[str, Any], options: DeleteOptions) -> list[str]:
        held = list(metadata.get("finalizers") or ())
        policy = options.policy
        if not policy and "orphan" in held:
            policy = "Orphan"
        elif not policy and "foregroundDeletion" in held:
            policy = "Foreground"
        elif not policy and resource.storage_key in _ORPHANED_BY_DEFAULT:
            policy = "Orphan"
        kept = [name for name in held if name not in ("orphan", "foregroundDeletion")]
        dependents = self._owned.get(metadata["uid"])
        if policy == "Orphan" and dependents:
            kept.append("orphan")
        elif policy == "Foreground" and dependents:
            kept.append("foregroundDeletion")
        if (
            resource.storage_key == ("apiextensions.k8s.io", "customresourcedefinitions")
            and "customresourcecleanup.apiextensions.k8s.io" not in kept
            and "deletionTimestamp" not in metadata
        ):
            kept.append("customresourcecleanup.apiextensions.k8s.io")
        return kept

    # --- garbage collection ---

    def restored(self) -> None:
        """Index the owners of everything that is stored: after a snapshot was read."""
        self._owned.clear()
        for _, obj in self._store.everything():
            self._index(obj)
            self._soon(self._collect, obj["metadata"]["uid"])
            self._soon(self._progress, obj["metadata"]["uid"])

    def _index(self, obj: Object) -> None:
        for owner in obj["metadata"].get("ownerReferences") or ():
            self._owned.setdefault(owner["uid"], set()).add(obj["metadata"]["uid"])

    def _observe(self, key: StorageKey, event: Event) -> None:
        metadata = event.after["metadata"]
        uid = metadata["uid"]
        if event.deleted:
            for owner in metadata.get("ownerReferences") or ():
                dependents = self._owned.get(owner["uid"])
                if dependents:
                    dependents.discard(uid)
                self._soon(self._progress, owner["uid"])
            for dependent in self._owned.pop(uid, ()):
                self._soon(self._collect, dependent)
            return
        if metadata.get("ownerReferences"):
            self._index(event.after)
            if (
                event.before is None
                or event.before["metadata"].get("ownerReferences") != metadata["ownerReferences"]
            ):
                self._soon(self._collect, uid)
        if "deletionTimestamp" in metadata:
            self._soon(self._progress, uid)

    def _soon(self, step: Callable[[str], None], uid: str) -> None:
        asyncio.get_running_loop().call_soon(step, uid)

    def _resource(self, key: StorageKey) -> Resource | None:
        return self._rest.cluster.registry.stored(key)

    def _collect(self, uid: str) -> None:
        """Delete an object none of whose owners lives any more; drop the owners that do not."""
        found = self._store.find(uid)
        if found is None:
            return
        key, obj = found
        owners = obj["metadata"].get("ownerReferences") or []
        living = [owner for owner in owners if self._store.find(owner["uid"])]
        resource = self._resource(key)
        if not owners or len(living) == len(owners) or resource is None:
            return
        if living:
            self._rest.modify(
                resource, obj, lambda new: new["metadata"].update(ownerReferences=living), COLLECTOR
            )
        else:
            self.delete(resource, obj, DeleteOptions(policy="Background"))

    def _progress(self, uid: str) -> None:
        """Take an object that is being deleted one step further, if it waits for its dependents."""
        found = self._store.find(uid)
        if found is None or "deletionTimestamp" not in found[1]["metadata"]:
            return
        key, obj = found
        finalizers = obj["metadata"].get("finalizers") or []
        resource = self._resource(key)
        if resource is None:
            return
        children = [self._store.find(other) for other in sorted(self._owned.get(uid, ()))]
        dependents = [child for child in children if child is not None]
        if "orphan" in finalizers:
            for other, dependent in dependents:
                self._disown(other, dependent, uid)
            self._drop_finalizer(resource, uid, "orphan")
        elif "foregroundDeletion" in finalizers:
            waiting = False
            for other, dependent in dependents:
                owner = next(o for o in dependent["metadata"]["ownerReferences"] if o["uid"] == uid)
                waiting = waiting or bool(owner.get("blockOwnerDeletion"))
                below = self._resource(other)
                if below and "deletionTimestamp" not in dependent["metadata"]:
                    self.delete(below, dependent, DeleteOptions(policy="Foreground"))
            if not waiting or not self._owned.get(uid):
                self._drop_finalizer(resource, uid, "foregroundDeletion")
        elif "customresourcecleanup.apiextensions.k8s.io" in finalizers:
            self.on_definition_deleted(obj)

    def _disown(self, key: StorageKey, obj: Object, uid: str) -> None:
        resource = self._resource(key)
        if resource is None:
            return
        kept = [owner for owner in obj["metadata"]["ownerReferences"] if owner["uid"] != uid]
        self._rest.modify(resource, obj, lambda new: new["metadata"].update(ownerReferences=kept), COLLECTOR)
        self._owned.get(uid, set()).discard(obj["metadata"]["uid"])

    def _drop_finalizer(self, resource: Resource, uid: str, name: str) -> None:
        found = self._store.find(uid)
        if found is None:
            return
        kept = [f for f in found[1]["metadata"].get("finalizers") or () if f != name]
        if kept == found[1]["metadata"].get("finalizers"):
            return
        marked = clone(found[1])
        marked["metadata"]["finalizers"] = kept
        if kept:
            self._store.put(found[0], marked)
            return
        del marked["metadata"]["finalizers"]
        if is_finished(marked):
            self._store.remove(found[0], marked)
        else:
            self._store.put(found[0], marked)

    drop_finalizer = _drop_finalizer
