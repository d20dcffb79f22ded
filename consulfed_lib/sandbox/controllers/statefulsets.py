"""StatefulSets: pods with a number and a volume each, rolled out from the highest number down.

The order of things is kube-controller-manager's: missing pods are made (one after the other when the policy
is OrderedReady), pods beyond `replicas` are deleted, and only then is one outdated pod at a time replaced,
the highest number first, waiting until each is ready; pods below `partition` stay as they are.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from .client import Object
from .controller import Controller, digest, owner_reference
from .events import Recorder
from .informer import Informers
from .pods import is_finished, is_healthy, is_ready, is_terminating, pod_from_template

_REVISION = "controller-revision-hash"
_HISTORY = 10


class StatefulSets(Controller):
    api_version, plural, kind = "apps/v1", "statefulsets", "StatefulSet"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._pods = informers.of("v1", "pods")
        self._claims = informers.of("v1", "persistentvolumeclaims")
        self._revisions = informers.of("apps/v1", "controllerrevisions")
        self._events = Recorder(informers.client, "statefulset-controller")
        self.watch_children(self._pods)

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        update = await self._revision(item)
        status = item.get("status") or {}
        current = status.get("currentRevision") or update
        if await self._scale(item, current, update):
            await self._roll(item, update)
        await self._report(item, current, update)

    def _numbered(self, item: Object) -> dict[int, Object]:
        pattern = re.compile(re.escape(item["metadata"]["name"]) + r"-(\d+)")
        found = {}
        for pod in self._pods.owned(item):
            match = pattern.fullmatch(pod["metadata"]["name"])
            if match:
                found[int(match[1])] = pod
        return found

    async def _scale(self, item: Object, current: str, update: str) -> bool:
        """Make what is missing, delete what is too many; whether the way is free for an update."""
        spec = item["spec"]
        ordered = spec.get("podManagementPolicy", "OrderedReady") != "Parallel"
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + _replicas(item))
        pods = self._numbered(item)
        for number in wanted:
            pod = pods.get(number)
            if pod is not None and is_finished(pod) and not is_terminating(pod):
                await self.informers.delete("pods", pod)
                pod = self._pods.get(pod["metadata"]["name"], pod["metadata"]["namespace"])
            if pod is None:
                old = number < first + _kept_back(item, current, update)
                await self._create(item, number, current if old else update)
                pods = self._numbered(item)
                pod = pods.get(number)
            if ordered and (pod is None or not is_healthy(pod)):
                return False
        for number in sorted((number for number in pods if number not in wanted), reverse=True):
            pod = pods[number]
            if not is_terminating(pod):
                await self.informers.delete("pods", pod)
                await self._events.record(
                    item, "Normal", "SuccessfulDelete", f"delete Pod {pod['metadata']['name']} successful"
                )
            if ordered:
                return False
        return True

    async def _roll(self, item: Object, update: str) -> None:
        """Replace the one outdated pod whose turn it is."""
        strategy = item["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        first = (item["spec"].get("ordinals") or {}).get("start", 0)
        for number, pod in sorted(self._numbered(item).items(), reverse=True):
            if number < first + _partition(item):
                return
            if pod["metadata"]["labels"].get(_REVISION) != update and not is_terminating(pod):
                await self.informers.delete("pods", pod)
                return
            if not is_healthy(pod):
                return

    async def _create(self, item: Object, number: int, revision: str) -> None:
        spec, namespace = item["spec"], item["metadata"]["namespace"]
        name = f"{item['metadata']['name']}-{number}"
        template = await self._template(item, revision)
        pod = pod_from_template(
            item,
            template,
            name=name,
            labels={
                _REVISION: revision,
                "statefulset.kubernetes.io/pod-name": name,
                "apps.kubernetes.io/pod-index": str(number),
            },
        )
        pod["spec"]["hostname"] = name
        pod["spec"]["subdomain"] = spec.get("serviceName", "")
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        for claim_template in spec.get("volumeClaimTemplates") or []:
            volume = claim_template["metadata"]["name"]
            claim = f"{volume}-{name}"
            volumes[volume] = {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
            if self._claims.get(claim, namespace) is None:
                await self._claim(item, claim_template, claim)
        if volumes:
            pod["spec"]["volumes"] = list(volumes.values())
        await self.informers.create("pods", pod)
        await self._events.record(item, "Normal", "SuccessfulCreate", f"create Pod {name} successful")

    async def _claim(self, item: Object, template: Object, name: str) -> None:
        metadata = template["metadata"]
        labels = {**(metadata.get("labels") or {}), **(item["spec"]["selector"].get("matchLabels") or {})}
        await self.informers.create(
            "persistentvolumeclaims",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": name,
                    "namespace": item["metadata"]["namespace"],
                    "labels": labels,
                    "annotations": metadata.get("annotations") or {},
                },
                "spec": copy.deepcopy(template["spec"]),
            },
        )

    async def _revision(self, item: Object) -> str:
        """The name of the ControllerRevision of the template as it is now; made where there is none."""
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        revision = f"{name}-{digest(item['spec']['template'])}"
        known = self._revisions.owned(item)
        newest = max((one["revision"] for one in known), default=0)
        found = self._revisions.get(revision, namespace)
        if found is None:
            await self.informers.create(
                "controllerrevisions",
                {
                    "apiVersion": "apps/v1",
                    "kind": "ControllerRevision",
                    "metadata": {
                        "name": revision,
                        "namespace": namespace,
                        "labels": item["spec"]["template"].get("metadata", {}).get("labels") or {},
                        "ownerReferences": [owner_reference(item)],
                    },
                    "data": {"spec": {"template": item["spec"]["template"]}},
                    "revision": newest + 1,
                },
            )
        elif found["revision"] < newest:  # rolled back: what is run is the newest again
            await self.informers.patch("controllerrevisions", found, {"revision": newest + 1})
        return revision

    async def _template(self, item: Object, revision: str) -> Object:
        found = self._revisions.get(revision, item["metadata"]["namespace"])
        return found["data"]["spec"]["template"] if found is not None else item["spec"]["template"]

    async def _report(self, item: Object, current: str, update: str) -> None:
        pods = [pod for _, pod in sorted(self._numbered(item).items())]
        replicas = len(pods)
        ready = sum(1 for pod in pods if is_ready(pod) and not is_terminating(pod))
        by_revision = {
            revision: sum(
                1
                for pod in pods
                if pod["metadata"]["labels"].get(_REVISION) == revision and not is_terminating(pod)
            )
            for revision in (current, update)
        }
        rolling = (item["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        if rolling and by_revision[update] == replicas == ready:
            current = update
        await self._forget_revisions(item, {current, update})
        status: dict[str, Any] = {
            "observedGeneration": item["metadata"].get("generation", 1),
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": by_revision[current],
            "updatedReplicas": by_revision[update],
            "currentRevision": current,
            "updateRevision": update,
            "collisionCount": 0,
        }
        await self.informers.set_status("statefulsets", item, status)

    async def _forget_revisions(self, item: Object, used: set[str]) -> None:
        used = used | {pod["metadata"]["labels"].get(_REVISION, "") for pod in self._pods.owned(item)}
        history = sorted(
            (one for one in self._revisions.owned(item) if one["metadata"]["name"] not in used),
            key=lambda one: one["revision"],
        )
        limit = item["spec"].get("revisionHistoryLimit", _HISTORY)
        for old in history[: max(0, len(history) - limit)]:
            await self.informers.delete("controllerrevisions", old)


def _replicas(item: Object) -> int:
    return item["spec"].get("replicas", 1)


def _partition(item: Object) -> int:
    strategy = item["spec"].get("updateStrategy") or {}
    return (strategy.get("rollingUpdate") or {}).get("partition") or 0


def _kept_back(item: Object, current: str, update: str) -> int:
    """How many of the lowest numbers are made from the revision of before when they have to be made anew."""
    if current == update or (item["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return 0
    partition = _partition(item)
    return partition if partition else (item.get("status") or {}).get("currentReplicas", 0)
