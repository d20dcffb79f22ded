"""CustomResourceDefinitions: accepted, established, served; and gone with everything that they define."""

from __future__ import annotations

import asyncio
from typing import Any

from . import apply
from .deletion import DeleteOptions, Deleter
from .resources import Registry, Resource, custom_resources
from .rest import Rest
from .schema import node_of
from .store import Event, Object, StorageKey, now

KEY = ("apiextensions.k8s.io", "customresourcedefinitions")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


class Definitions:
    """Keeps the registry in step with the definitions that are stored."""

    def __init__(self, rest: Rest, deleter: Deleter, registry: Registry):
        self._rest = rest
        self._deleter = deleter
        self._registry = registry
        deleter.on_definition_deleted = self._clean_up
        rest.store.on_write.append(self._observe)

    def restored(self) -> None:
        """Serve what is stored: after a snapshot was read."""
        for definition in self._rest.store.list(KEY):
            self._registry.serve_custom(definition)

    def _resource(self) -> Resource:
        resource = self._registry.stored(KEY)
        assert resource is not None
        return resource

    def _observe(self, key: StorageKey, event: Event) -> None:
        if key == KEY:
            if event.deleted:
                self._registry.withdraw_custom(event.after)
                self._rest.store.wake_watchers()
            elif event.before is None or event.before["spec"] != event.after["spec"]:
                asyncio.get_running_loop().call_soon(self._establish, event.after["metadata"]["uid"])
        elif event.deleted:
            for definition in self._rest.store.list(KEY):
                if "deletionTimestamp" in definition["metadata"]:
                    asyncio.get_running_loop().call_soon(self._clean_up, definition)

    def _establish(self, uid: str) -> None:
        """Serve the definition, then say so in its status."""
        found = self._rest.store.find(uid)
        if found is None:
            return
        definition = found[1]
        self._registry.serve_custom(definition)
        # Put as it is rather than through an update, which would copy the whole schema.
        established = {**definition, "status": _status(definition)}
        manager = apply.Manager("kube-apiserver", "Update", definition["apiVersion"], "status")
        established = apply.record_update(definition, established, manager, node_of(self._resource()))
        if established != definition:
            self._rest.store.put(KEY, established)

    def _clean_up(self, definition: Object) -> None:
        """Delete every object of a definition that is being deleted; let it go when there is none."""
        found = self._rest.store.find(definition["metadata"]["uid"])
        if found is None or CLEANUP not in (found[1]["metadata"].get("finalizers") or ()):
            return
        resource = next(custom_resources(definition), None)
        remaining = self._rest.store.list(resource.storage_key) if resource else []
        for obj in remaining:
            if resource and "deletionTimestamp" not in obj["metadata"]:
                self._deleter.delete(resource, obj, DeleteOptions(policy="Background"))
        if resource is None or not self._rest.store.list(resource.storage_key):
            self._deleter.drop_finalizer(self._resource(), definition["metadata"]["uid"], CLEANUP)


def _status(definition: Object) -> dict[str, Any]:
    spec, held = definition["spec"], definition.get("status") or {}
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    return {
        "acceptedNames": {key: value for key, value in spec["names"].items() if value},
        "conditions": [
            _condition(held, "NamesAccepted", "NoConflicts", "no conflicts found"),
            _condition(held, "Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": [*dict.fromkeys([*(held.get("storedVersions") or ()), *stored])],
    }


def _condition(status: dict[str, Any], kind: str, reason: str, message: str) -> dict[str, Any]:
    for condition in status.get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return condition
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": now(),
        "reason": reason,
        "message": message,
    }
