"""Garbage collection: what was made for an object goes with it (or before it, or stays, as the deletion
asked).
"""

from __future__ import annotations

import asyncio
import logging

from .client import DELETED, KubeError, Object
from .informer import Informer, Informers
from .pods import is_terminating

logger = logging.getLogger(__name__)

_OWNERS = (
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "replicasets", "ReplicaSet"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "jobs", "Job"),
    ("v1", "services", "Service"),
)
_DEPENDENTS = (
    ("apps/v1", "replicasets"),
    ("apps/v1", "controllerrevisions"),
    ("v1", "pods"),
    ("discovery.k8s.io/v1", "endpointslices"),
)
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"
_RETRY_SECONDS = 0.5


class Garbage:
    """Deletes dependents of the kinds that this package's controllers make."""

    def __init__(self, informers: Informers):
        self._informers = informers
        self._owners = {kind: (informers.of(version, plural), plural) for version, plural, kind in _OWNERS}
        self._dependents = [(informers.of(version, plural), plural) for version, plural in _DEPENDENTS]
        self._wake = asyncio.Event()
        for informer, _ in self._owners.values():
            informer.subscribe(self._on_owner)
        for informer, _ in self._dependents:
            informer.subscribe(self._on_dependent)

    def _on_owner(self, change: str, item: Object, before: Object | None) -> None:
        if change == DELETED or is_terminating(item):
            self._wake.set()

    def _on_dependent(self, change: str, item: Object, before: Object | None) -> None:
        # Made in the moment in which its owner went, or the last one for which a foreground deletion waits.
        if change != "MODIFIED":
            self._wake.set()

    async def run(self) -> None:
        """Collect whenever something may have become garbage; until cancelled."""
        await self._informers.synced()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._collect()
            except KubeError as error:
                logger.debug("garbage collection: %s", error)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)

    async def _collect(self) -> None:
        waiting: set[str] = set()
        for informer, plural in self._dependents:
            for item in informer.all():
                for reference in item["metadata"].get("ownerReferences") or []:
                    await self._settle(informer, plural, item, reference, waiting)
        for informer, plural in self._owners.values():
            for owner in informer.all():
                if not is_terminating(owner) or owner["metadata"]["uid"] in waiting:
                    continue
                held = owner["metadata"].get("finalizers") or []
                kept = [one for one in held if one not in (_FOREGROUND, _ORPHAN)]
                if kept != held:
                    await self._informers.patch(plural, owner, {"metadata": {"finalizers": kept}})

    async def _settle(
        self, informer: Informer, plural: str, item: Object, reference: Object, waiting: set[str]
    ) -> None:
        """Deal with one dependent; `waiting` gathers the owners that a dependent still keeps."""
        if reference["kind"] not in self._owners:
            return
        owners, _ = self._owners[reference["kind"]]
        owner = owners.get(reference["name"], item["metadata"]["namespace"])
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            if await self._is_really_gone(owners, reference, item["metadata"]["namespace"]):
                await self._delete(plural, item)
            return
        finalizers = owner["metadata"].get("finalizers") or []
        if is_terminating(owner) and _ORPHAN in finalizers:
            left = [one for one in item["metadata"]["ownerReferences"] if one["uid"] != reference["uid"]]
            await self._informers.patch(plural, item, {"metadata": {"ownerReferences": left}})
        elif is_terminating(owner) and _FOREGROUND in finalizers:
            waiting.add(reference["uid"])
            await self._delete(plural, item, propagation="Foreground" if plural == "replicasets" else "")

    async def _is_really_gone(self, owners: Informer, reference: Object, namespace: str) -> bool:
        """Ask the API server: the owner may be newer than this cache."""
        found = await self._informers.client.find(
            owners.api_version, owners.plural, reference["name"], namespace
        )
        return found is None or found["metadata"]["uid"] != reference["uid"]

    async def _delete(self, plural: str, item: Object, propagation: str = "") -> None:
        if not is_terminating(item):
            await self._informers.delete(plural, item, propagation=propagation or "Background")
