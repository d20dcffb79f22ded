"""DaemonSets: one pod on each node that the template's nodeSelector allows."""

from __future__ import annotations

from .client import Object, object_key
from .controller import Controller, digest
from .informer import Informers
from .pods import is_active, is_finished, is_healthy, is_ready, is_terminating, pod_from_template

_REVISION = "controller-revision-hash"


class DaemonSets(Controller):
    api_version, plural, kind = "apps/v1", "daemonsets", "DaemonSet"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._pods = informers.of("v1", "pods")
        self._nodes = informers.of("v1", "nodes")
        self.watch_children(self._pods)
        self._nodes.subscribe(self._on_node)

    def _on_node(self, change: str, node: Object, before: Object | None) -> None:
        for item in self.own.all():
            self.enqueue(object_key(item))

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        revision = digest(item["spec"]["template"])
        selector = (item["spec"]["template"]["spec"].get("nodeSelector") or {}).items()
        nodes = {
            node["metadata"]["name"]
            for node in self._nodes.all()
            if selector <= (node["metadata"].get("labels") or {}).items()
        }
        placed: set[str] = set()
        for pod in self._pods.owned(item):
            node = pod["spec"].get("nodeName", "")
            if is_terminating(pod):
                placed.add(node)  # its successor waits until it is gone
            elif node not in nodes or node in placed or is_finished(pod):
                await self.informers.delete("pods", pod)
            else:
                placed.add(node)
        for node in sorted(nodes - placed):
            pod = pod_from_template(item, item["spec"]["template"], labels={_REVISION: revision})
            pod["spec"]["nodeName"] = node
            await self.informers.create("pods", pod)
        await self._roll(item, revision)
        await self._report(item, revision, len(nodes))

    async def _roll(self, item: Object, revision: str) -> None:
        strategy = item["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        spare = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1)
        spare = max(1, spare if isinstance(spare, int) else 1)
        pods = self._pods.owned(item)
        spare -= sum(1 for pod in pods if not is_healthy(pod))
        for pod in sorted(pods, key=is_healthy):
            if pod["metadata"]["labels"].get(_REVISION) == revision or is_terminating(pod):
                continue
            if is_healthy(pod):
                if spare <= 0:
                    return
                spare -= 1
            await self.informers.delete("pods", pod)

    async def _report(self, item: Object, revision: str, wanted: int) -> None:
        pods = [pod for pod in self._pods.owned(item) if is_active(pod)]
        ready = sum(1 for pod in pods if is_ready(pod))
        updated = sum(1 for pod in pods if pod["metadata"]["labels"].get(_REVISION) == revision)
        await self.informers.set_status(
            "daemonsets",
            item,
            {
                "observedGeneration": item["metadata"].get("generation", 1),
                "desiredNumberScheduled": wanted,
                "currentNumberScheduled": len(pods),
                "updatedNumberScheduled": updated,
                "numberMisscheduled": 0,
                "numberReady": ready,
                "numberAvailable": ready,
                "numberUnavailable": max(0, wanted - ready),
            },
        )
