"""Deployments: one ReplicaSet for each revision of the template, scaled against each other."""

from __future__ import annotations

import copy
import math

from .client import Object
from .controller import Controller, Key, digest, now, owner_reference, since, with_condition
from .events import Recorder
from .informer import Informers
from .pods import condition, is_terminating

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_PROGRESS_SECONDS = 600


class Deployments(Controller):
    api_version, plural, kind = "apps/v1", "deployments", "Deployment"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._sets = informers.of("apps/v1", "replicasets")
        self._events = Recorder(informers.client, "deployment-controller")
        self.watch_children(self._sets)
        self._pods = informers.of("v1", "pods")
        self._pods.subscribe(self._on_pod)

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        # `Recreate` waits until the last old pod is gone, which changes no ReplicaSet.
        if change == "DELETED" and _HASH in (pod["metadata"].get("labels") or {}):
            for item in self.own.all(pod["metadata"]["namespace"]):
                self.enqueue(_key(item))

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        sets = sorted(self._sets.owned(item), key=_revision)
        current = next((one for one in sets if _is_of(one, item)), None)
        paused = bool(item["spec"].get("paused"))
        if current is None and not paused:
            current = await self._make(item, sets)
        elif current is not None and sets[-1] is not current and not paused:
            # Rolled back: the old ReplicaSet becomes the newest revision.
            current = await self._renumber(current, _revision(sets[-1]) + 1)
        if current is not None and not paused:
            if (item["metadata"].get("annotations") or {}).get(_REVISION) != str(_revision(current)):
                change = {"metadata": {"annotations": {_REVISION: str(_revision(current))}}}
                item = await self.informers.patch("deployments", item, change)
            await self._roll(item, current)
            await self._forget_old(item, current)
        await self._report(item, current)

    async def _make(self, item: Object, sets: list[Object]) -> Object:
        template = copy.deepcopy(item["spec"]["template"])
        name = digest(template)
        template.setdefault("metadata", {}).setdefault("labels", {})[_HASH] = name
        revision = max((_revision(one) for one in sets), default=0) + 1
        return await self.informers.create(
            "replicasets",
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{item['metadata']['name']}-{name}",
                    "namespace": item["metadata"]["namespace"],
                    "labels": template["metadata"]["labels"],
                    "annotations": {_REVISION: str(revision)},
                    "ownerReferences": [owner_reference(item)],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {
                        **item["spec"]["selector"],
                        "matchLabels": {**(item["spec"]["selector"].get("matchLabels") or {}), _HASH: name},
                    },
                    "template": template,
                },
            },
        )

    async def _renumber(self, one: Object, revision: int) -> Object:
        change = {"metadata": {"annotations": {_REVISION: str(revision)}}}
        return await self.informers.patch("replicasets", one, change)

    async def _roll(self, item: Object, current: Object) -> None:
        """One step towards all replicas being of the current revision; the next one follows the next event."""
        wanted = _replicas(item)
        strategy = item["spec"].get("strategy") or {}
        old = [one for one in self._sets.owned(item) if one["metadata"]["uid"] != current["metadata"]["uid"]]
        if strategy.get("type") == "Recreate":
            for one in old:
                await self._scale(item, one, 0)
            left = {one["metadata"]["uid"] for one in old}
            if any(
                owner["uid"] in left
                for pod in self._pods.all(item["metadata"]["namespace"])
                for owner in pod["metadata"].get("ownerReferences") or []
            ):
                return
            await self._scale(item, current, wanted)
            return
        rolling = strategy.get("rollingUpdate") or {}
        surge = _share(rolling.get("maxSurge", "25%"), wanted, up=True)
        unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        total = sum(_replicas(one) for one in old) + _replicas(current)
        room = wanted + surge - total
        if _replicas(current) != wanted:
            grown = min(wanted, _replicas(current) + max(0, room)) if _replicas(current) < wanted else wanted
            current = await self._scale(item, current, grown)
        available = sum(_available(one) for one in [*old, current])
        spare = available - (wanted - unavailable)
        for one in sorted(old, key=_revision):
            broken = _replicas(one) - _available(one)
            taken = min(_replicas(one), broken + max(0, spare))
            if taken:
                spare -= max(0, taken - broken)
                await self._scale(item, one, _replicas(one) - taken)

    async def _scale(self, item: Object, one: Object, replicas: int) -> Object:
        before = _replicas(one)
        if before == replicas:
            return one
        made = await self.informers.patch("replicasets", one, {"spec": {"replicas": replicas}})
        verb = "up" if replicas > before else "down"
        await self._events.record(
            item,
            "Normal",
            "ScalingReplicaSet",
            f"Scaled {verb} replica set {one['metadata']['name']} from {before} to {replicas}",
        )
        return made

    async def _forget_old(self, item: Object, current: Object) -> None:
        empty = [
            one
            for one in self._sets.owned(item)
            if one["metadata"]["uid"] != current["metadata"]["uid"]
            and _replicas(one) == 0
            and (one.get("status") or {}).get("replicas", 0) == 0
        ]
        limit = item["spec"].get("revisionHistoryLimit", 10)
        for one in sorted(empty, key=_revision)[: max(0, len(empty) - limit)]:
            await self.informers.delete("replicasets", one)

    async def _report(self, item: Object, current: Object | None) -> None:
        sets, wanted = self._sets.owned(item), _replicas(item)
        if current is not None:
            current = self._sets.get(current["metadata"]["name"], current["metadata"]["namespace"]) or current
        total = sum((one.get("status") or {}).get("replicas", 0) for one in sets)
        ready = sum((one.get("status") or {}).get("readyReplicas", 0) for one in sets)
        available = sum(_available(one) for one in sets)
        updated = (current.get("status") or {}).get("replicas", 0) if current is not None else 0
        status = item.get("status") or {}
        conditions = self._conditions(item, current, updated, total, available)
        await self.informers.set_status(
            "deployments",
            item,
            {
                **{name: status[name] for name in ("collisionCount",) if name in status},
                "observedGeneration": item["metadata"].get("generation", 1),
                "replicas": total,
                "updatedReplicas": updated,
                "readyReplicas": ready,
                "availableReplicas": available,
                "unavailableReplicas": max(0, max(total, wanted) - available),
                "conditions": conditions,
            },
        )

    def _conditions(
        self, item: Object, current: Object | None, updated: int, total: int, available: int
    ) -> list[Object]:
        wanted = _replicas(item)
        strategy = item["spec"].get("strategy") or {}
        share = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
        spare = 0 if strategy.get("type") == "Recreate" else _share(share, wanted, up=False)
        conditions = (item.get("status") or {}).get("conditions") or []
        if available >= wanted - spare:
            conditions = with_condition(
                conditions,
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        else:
            conditions = with_condition(
                conditions,
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        if current is None:
            return conditions
        name = current["metadata"]["name"]
        before = condition(item, "Progressing")
        if updated == total == available == wanted:
            told = f'ReplicaSet "{name}" has successfully progressed.'
            return with_condition(conditions, "Progressing", "True", "NewReplicaSetAvailable", told)
        limit = item["spec"].get("progressDeadlineSeconds", _PROGRESS_SECONDS)
        status = item.get("status") or {}
        counted = tuple(status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
        if before is None or name not in before["message"] or counted != (updated, total, available):
            told = f'ReplicaSet "{name}" is progressing.'
            conditions = with_condition(conditions, "Progressing", "True", "ReplicaSetUpdated", told)
            self.enqueue(_key(item), limit + 1)
            return [
                {**one, "lastUpdateTime": now()} if one["type"] == "Progressing" else one
                for one in conditions
            ]
        if before["reason"] != "ReplicaSetUpdated":
            return conditions
        waited = since(before.get("lastUpdateTime") or before["lastTransitionTime"])
        if waited < limit:
            self.enqueue(_key(item), limit - waited + 1)
            return conditions
        told = f'ReplicaSet "{name}" has timed out progressing.'
        return with_condition(conditions, "Progressing", "False", "ProgressDeadlineExceeded", told)


def _key(item: Object) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _replicas(item: Object) -> int:
    return item["spec"].get("replicas", 1)


def _available(one: Object) -> int:
    return (one.get("status") or {}).get("availableReplicas", 0)


def _revision(one: Object) -> int:
    return int((one["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _is_of(one: Object, item: Object) -> bool:
    """Whether a ReplicaSet is of the Deployment's template as it is now."""
    return one["metadata"]["labels"].get(_HASH) == digest(item["spec"]["template"])


def _share(value: int | str, of: int, *, up: bool) -> int:
    """A number, or a percentage of `of`, rounded up or down."""
    if isinstance(value, int):
        return value
    exact = of * int(value.rstrip("%")) / 100
    return math.ceil(exact) if up else math.floor(exact)
