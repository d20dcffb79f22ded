"""ReplicaSets: as many pods of one template as were asked for."""

from __future__ import annotations

from .client import Object
from .controller import Controller
from .events import Recorder
from .informer import Informers
from .pods import is_active, is_healthy, is_ready, is_terminating, pod_from_template


class ReplicaSets(Controller):
    api_version, plural, kind = "apps/v1", "replicasets", "ReplicaSet"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._pods = informers.of("v1", "pods")
        self._events = Recorder(informers.client, "replicaset-controller")
        self.watch_children(self._pods)

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        wanted = item["spec"].get("replicas", 1)
        pods = [pod for pod in self._pods.owned(item) if is_active(pod)]
        for _ in range(wanted - len(pods)):
            pod = await self.informers.create(
                "pods", pod_from_template(item, item["spec"]["template"], labels={})
            )
            await self._events.record(
                item, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"
            )
        # Those that are of least use go first, then the youngest.
        pods.sort(key=lambda pod: (is_healthy(pod), _negative(pod["metadata"]["creationTimestamp"])))
        for pod in pods[: max(0, len(pods) - wanted)]:
            await self.informers.delete("pods", pod)
            await self._events.record(
                item, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}"
            )
        await self._report(item)

    async def _report(self, item: Object) -> None:
        pods = [pod for pod in self._pods.owned(item) if is_active(pod)]
        ready = sum(1 for pod in pods if is_ready(pod))
        labels = (item["spec"]["template"].get("metadata") or {}).get("labels") or {}
        labelled = sum(1 for pod in pods if labels.items() <= pod["metadata"]["labels"].items())
        await self.informers.set_status(
            "replicasets",
            item,
            {
                "observedGeneration": item["metadata"].get("generation", 1),
                "replicas": len(pods),
                "fullyLabeledReplicas": labelled,
                "readyReplicas": ready,
                "availableReplicas": ready,
            },
        )


def _negative(timestamp: str) -> list[int]:
    return [-ord(letter) for letter in timestamp]
