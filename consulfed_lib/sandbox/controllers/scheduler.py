"""The scheduler: which node a pod goes to.

It honours what charts really ask for: nodeSelector, required pod anti-affinity by hostname (of the new pod
and of those that are there), host ports, cordoned nodes, and claims that have to be bound first. What fits
nowhere stays Pending and says why in the words of kube-scheduler; it is looked at again when pods, nodes or
claims change.
"""

from __future__ import annotations

from collections import Counter

from .client import KubeError, Object, object_key
from .controller import Controller, Key, with_condition
from .events import Recorder
from .informer import Informers
from .pods import is_active, is_finished, is_terminating, matches

_HOSTNAME = "kubernetes.io/hostname"

_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
_EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
_SELECTOR = "node(s) didn't match Pod's node affinity/selector"
_PORTS = "node(s) didn't have free ports for the requested pod ports"
_UNSCHEDULABLE = "node(s) were unschedulable"


class Scheduler(Controller):
    api_version, plural, kind = "v1", "pods", "Pod"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._nodes = informers.of("v1", "nodes")
        self._claims = informers.of("v1", "persistentvolumeclaims")
        self._events = Recorder(informers.client, "default-scheduler")
        self._bound: dict[str, str] = {}
        self._waiting: set[Key] = set()
        self.own.subscribe(self._on_pod)
        self._nodes.subscribe(lambda change, item, before: self._look_again())
        self._claims.subscribe(lambda change, item, before: self._look_again())

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        if change == "DELETED":
            self._bound.pop(pod["metadata"]["uid"], None)
        if change == "DELETED" or is_finished(pod):
            self._look_again()

    def _look_again(self) -> None:
        for key in self._waiting:
            self.enqueue(key)

    async def removed(self, key: Key) -> None:
        self._waiting.discard(key)

    async def reconcile(self, item: Object) -> None:
        key, uid = object_key(item), item["metadata"]["uid"]
        self._waiting.discard(key)
        if self._node_of(item) or is_finished(item):
            return
        if is_terminating(item):
            # No kubelet will ever see it to its end.
            await self.informers.delete("pods", item, grace_seconds=0)
            return
        if self._is_binding(item):
            self._waiting.add(key)
            return
        obstacle = self._missing_claim(item)
        reasons: Counter[str] = Counter()
        fitting: list[str] = []
        if not obstacle:
            for node in self._nodes.all():
                reason = self._why_not(item, node)
                if reason:
                    reasons[reason] += 1
                else:
                    fitting.append(node["metadata"]["name"])
        if not fitting:
            await self._refuse(item, obstacle or _message(reasons))
            self._waiting.add(key)
            return
        load = Counter(self._node_of(pod) for pod in self.own.all() if is_active(pod))
        node_name = min(fitting, key=lambda name: (load[name], name))
        await self._bind(item, node_name)
        self._bound[uid] = node_name
        namespace, name = key
        await self._events.record(
            item, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node_name}"
        )

    async def _bind(self, item: Object, node: str) -> None:
        namespace, name = object_key(item)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": item["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self.informers.client.create(
                "v1", "pods", binding, namespace, name=name, subresource="binding"
            )
        except KubeError as error:
            if error.status != 409:
                raise
            # Bound a moment ago, by this scheduler before a restart or by someone else: the watch will tell.

    def _node_of(self, pod: Object) -> str:
        return pod["spec"].get("nodeName") or self._bound.get(pod["metadata"]["uid"], "")

    def _missing_claim(self, item: Object) -> str:
        """Why a pod cannot be placed for want of a claim; empty when it has all of its claims."""
        for name in _claims(item):
            if self._claims.get(name, item["metadata"]["namespace"]) is None:
                total = len(self._nodes.items)
                return f'0/{total} nodes are available: persistentvolumeclaim "{name}" not found.'
        return ""

    def _is_binding(self, item: Object) -> bool:
        """Whether a claim of the pod is about to be bound, which takes some milliseconds and is no news."""
        claims = [self._claims.get(name, item["metadata"]["namespace"]) for name in _claims(item)]
        return any(one is not None and (one.get("status") or {}).get("phase") != "Bound" for one in claims)

    def _why_not(self, item: Object, node: Object) -> str:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        if (node.get("spec") or {}).get("unschedulable"):
            return _UNSCHEDULABLE
        if not (item["spec"].get("nodeSelector") or {}).items() <= labels.items():
            return _SELECTOR
        for other in self.own.all():
            if self._node_of(other) != name or is_finished(other):
                continue
            if _host_ports(item) & _host_ports(other):
                return _PORTS
            if _repels(item, other):
                return _ANTI_AFFINITY
            if _repels(other, item):
                return _EXISTING_ANTI_AFFINITY
        return ""

    async def _refuse(self, item: Object, message: str) -> None:
        status = dict(item.get("status") or {})
        conditions = status.get("conditions") or []
        after = with_condition(conditions, "PodScheduled", "False", "Unschedulable", message)
        if after is conditions:
            return
        await self.informers.set_status("pods", item, {**status, "phase": "Pending", "conditions": after})
        await self._events.record(item, "Warning", "FailedScheduling", message)


def _claims(pod: Object) -> list[str]:
    volumes = pod["spec"].get("volumes") or []
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]


def _host_ports(pod: Object) -> set[tuple[int, str]]:
    """The ports that a pod takes of its node; with the host's network all of its own."""
    return {
        (number, port.get("protocol", "TCP"))
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if (number := port.get("hostPort") or (pod["spec"].get("hostNetwork") and port["containerPort"]))
    }


def _repels(pod: Object, other: Object) -> bool:
    """Whether a required anti-affinity of `pod` keeps it off a node on which `other` is."""
    affinity = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        if term.get("topologyKey") != _HOSTNAME:
            continue
        namespaces = term.get("namespaces") or [pod["metadata"]["namespace"]]
        if other["metadata"]["namespace"] not in namespaces:
            continue
        if matches(term.get("labelSelector"), other["metadata"].get("labels") or {}):
            return True
    return False


def _message(reasons: Counter[str]) -> str:
    total = sum(reasons.values())
    if not total:
        return "no nodes available to schedule pods"
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    victims = (
        f"preemption: 0/{total} nodes are available: {total} No preemption victims found for incoming pod."
    )
    return f"0/{total} nodes are available: {listed}. {victims}"
