"""The trial itself: workloads, calls before and after the intention, and the way back; with what was seen.

Each pair is called three times in one state of the workloads: refused without the intention, answered with it, refused
again without it. Only all three together prove that it is the intention that lets traffic through, and not a
sidecar that was still starting when the first call was refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..checks.federation import Datacenter
from ..cluster import resource_path
from ..errors import ApplyError, ClusterError, WaitTimeoutError
from ..params import Federation
from ..results import several
from ..runner import RUNNER_LABEL, runner_is_gone, runner_label
from ..values import merged
from ..waiting import Seen, wait_for
from . import manifests, objects
from .calls import Call, call
from .manifests import LABEL, caller_name, echo_name
from .settings import Pair, Settings

SAMPLES = 10
"""Calls of which the latency is told."""

_PASSING = "passing"


@dataclass
class Evidence:
    """What was seen of one pair; None: not looked at.

    Attributes:
        took: seconds from writing the intention to the answer; other callers' calls are in it.
        latencies: of SAMPLES calls, in seconds.
    """

    before: Call | None = None
    allowed: Call | None = None
    after: Call | None = None
    took: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def latency(self) -> str:
        """In words, with milliseconds.

        >>> Evidence(latencies=[0.004, 0.006, 0.011]).latency()
        'of 3 calls the middle one took 6 ms, the slowest 11 ms'
        """
        middle, slowest = (round(1000 * seconds) for seconds in (median(self.latencies), max(self.latencies)))
        return f"of {len(self.latencies)} calls the middle one took {middle} ms, the slowest {slowest} ms"


class Trial:
    """Traffic between the datacenters of one federation.

    Args:
        datacenters: all of them, the primary first.
    """

    def __init__(self, params: Federation, settings: Settings, datacenters: list[Datacenter]):
        self.params, self.settings = params, settings
        self.datacenters = {dc.name: dc for dc in datacenters}
        self.primary = datacenters[0]
        self.pairs = settings.chosen(list(self.datacenters))
        self.evidence = {pair: Evidence() for pair in self.pairs}
        self._deadline = params.timeouts.ready
        self._set_at: dict[str, float] = {}
        self._denied: set[str] = set()
        """Services that anybody might call by default: an intention must forbid it before it can be allowed."""

    def called_by(self, caller: str) -> list[str]:
        return [pair.called for pair in self.pairs if pair.caller == caller]

    def callers_of(self, called: str) -> list[str]:
        return [pair.caller for pair in self.pairs if pair.called == called]

    # -- workloads ----------------------------------------------------------------------------------------------

    def workloads(self, dc: Datacenter) -> list[dict[str, Any]]:
        values = merged(self.params, dc.of).values
        openshift = bool(((values.get("global") or {}).get("openshift") or {}).get("enabled"))
        return manifests.workloads(self.settings, dc.name, self.called_by(dc.name), openshift=openshift)

    def ensure_namespace(self, dc: Datacenter) -> bool:
        """Whether it had to be made. One that is still being deleted is waited for."""
        name = self.settings.namespace

        def look() -> Seen:
            there = dc.cluster.get("namespaces", "", name)
            ends = there is not None and "deletionTimestamp" in there["metadata"]
            return Seen(not ends, "still being deleted" if ends else "there" if there else "not there")

        wait_for(f"{dc.name}: namespace {name}", look, self._deadline)
        if dc.cluster.get("namespaces", "", name) is not None:
            return False
        dc.cluster.request("POST", resource_path("namespaces"), manifests.namespace(self.settings))
        return True

    def make_workloads(self, dc: Datacenter) -> None:
        for manifest in self.workloads(dc):
            objects.apply(dc.cluster, manifest)

    def wait_for_pods(self, dc: Datacenter) -> None:
        """Until every pod is ready, its sidecar with it. Raises WaitTimeoutError."""
        namespace = self.settings.namespace
        hint = f"kubectl --context {dc.of.context} -n {namespace} describe pods,replicasets"
        with dc.cluster.watching(objects.path("Pod", namespace)) as bell:
            what = f"{dc.name}: pods of {namespace}"
            wait_for(what, lambda: self._pods(dc), self._deadline, until_changed=bell.wait, hint=hint)

    def wait_until_seen(self, called: Datacenter) -> None:
        """Until every datacenter that calls the service sees it healthy. Raises WaitTimeoutError."""

        def look() -> Seen:
            seen = [self._health(caller, called.name) for caller in self.callers_of(called.name)]
            return next((each for each in seen if not each.done), Seen(True, "passing"))

        wait_for(f"{echo_name(called.name)} of {called.name} as others see it", look, self._deadline)

    def _pods(self, dc: Datacenter) -> Seen:
        wanted = {each["metadata"]["name"] for each in self.workloads(dc) if each["kind"] == "Deployment"}
        pods = objects.listed(dc.cluster, "Pod", self.settings.namespace)
        ready = {pod["metadata"]["labels"].get("app") for pod in pods if _is_ready(pod)}
        if wanted <= ready:
            alone = [pod["metadata"]["name"] for pod in pods if len(pod["spec"]["containers"]) < 2]
            if alone:
                raise ApplyError(
                    f"{dc.name}: no sidecar was added to {', '.join(sorted(alone))}.",
                    f"see connectInject.namespaceSelector and the connect-injector in {dc.of.namespace}",
                )
            return Seen(True, f"{several(len(wanted), 'pod')} ready")
        return Seen(False, _trouble(pods) or f"{len(wanted & ready)} of {len(wanted)} ready")

    def _health(self, caller: str, called: str) -> Seen:
        """Whether the caller's datacenter sees a healthy instance of the service, and its proxy, in the other one."""
        consul, name = self.datacenters[caller].consul, echo_name(called)
        for kind in ("service", "connect"):
            entries = consul.get(f"health/{kind}/{name}", dc=called) or []
            healthy = [one for one in entries if all(c["Status"] == _PASSING for c in one["Checks"])]
            if not healthy:
                return Seen(False, f"{len(entries)} instances ({kind}), none of them passing")
        return Seen(True, "passing")

    # -- intentions ---------------------------------------------------------------------------------------------

    def forbid_by_default(self, called: str) -> bool:
        """Whether an intention had to be made so that the calls are refused at all."""
        if not any(self._is_allowed(Pair(caller, called)) for caller in self.callers_of(called)):
            return False
        self._denied.add(called)
        self._set(called, "deny")
        return True

    def allow(self, called: str) -> None:
        self._set(called, "allow")

    def forbid(self, called: str) -> None:
        """Take the permission back: to what it was before."""
        if called in self._denied:
            self._set(called, "deny")
            return
        found = manifests.intention(self.settings, called, self.callers_of(called), "allow")
        objects.delete(self.primary.cluster, "ServiceIntentions", found)
        self._wait_until(called, allowed=False)

    def _set(self, called: str, action: str) -> None:
        wanted = manifests.intention(self.settings, called, self.callers_of(called), action)
        self._set_at[called] = time.monotonic()
        objects.apply(self.primary.cluster, wanted)
        self._wait_until(called, allowed=action == "allow")

    def _wait_until(self, called: str, *, allowed: bool) -> None:
        """Until the called service's own datacenter says so: intentions reach a secondary by replication."""
        hint = (
            f"kubectl --context {self.primary.of.context} -n {self.settings.namespace}"
            f" describe serviceintentions {echo_name(called)}"
        )

        def look() -> Seen:
            callers = self.callers_of(called)
            right = [one for one in callers if self._is_allowed(Pair(one, called)) is allowed]
            words = "allowed" if allowed else "not allowed"
            return Seen(len(right) == len(callers), f"{len(right)} of {len(callers)} callers {words}")

        wait_for(f"{called}: intentions to {echo_name(called)}", look, self._deadline, hint=hint)

    def _is_allowed(self, pair: Pair) -> bool:
        """What the called service's datacenter says of the pair, by intentions and by its default."""
        consul = self.datacenters[pair.called].consul
        query = {"source": caller_name(pair.caller), "destination": echo_name(pair.called)}
        return bool(consul.get("connect/intentions/check", **query)["Allowed"])

    def still_allowed(self, dc: Datacenter) -> list[str]:
        """The service of this datacenter, where an intention of the trial still lets somebody in."""
        if dc.name in self._denied:
            return []  # anybody may call it again, as by default
        return [
            echo_name(dc.name)
            for caller in self.callers_of(dc.name)
            if self._is_allowed(Pair(caller, dc.name))
        ][:1]

    # -- calls --------------------------------------------------------------------------------------------------

    def call(self, pair: Pair) -> Call:
        """Call once. Raises ClusterError."""
        dc = self.datacenters[pair.caller]
        pods = objects.listed(dc.cluster, "Pod", self.settings.namespace)
        ready = [
            p for p in pods if p["metadata"]["labels"].get("app") == caller_name(dc.name) and _is_ready(p)
        ]
        if not ready:
            raise ClusterError(
                f"{dc.name}: no pod of {caller_name(dc.name)} is ready.", "see why it restarted"
            )
        port = manifests.ports(self.called_by(dc.name))[pair.called]
        return call(dc.cluster, self.settings.namespace, ready[0]["metadata"]["name"], port, pair.called)

    def until(self, pair: Pair, *wanted: str) -> Call:
        """Call until the outcome is one of these; the last call, which is another one where the deadline passed."""
        last = Call("failed", "not called")

        def look() -> Seen:
            nonlocal last
            last = self.call(pair)
            return Seen(last.kind in wanted, last.said)

        with suppress(WaitTimeoutError):  # the last call says what was seen instead
            wait_for(f"{pair}: {' or '.join(wanted)}", look, self._deadline)
        return last

    def prove_refused(self, pair: Pair) -> Call:
        """Before: an answer would be as final, for nothing is about to change."""
        self.evidence[pair].before = found = self.until(pair, "refused", "answered")
        return found

    def prove_allowed(self, pair: Pair) -> Call:
        seen = self.evidence[pair]
        seen.allowed = self.until(pair, "answered")
        seen.took = time.monotonic() - self._set_at[pair.called]
        if seen.allowed.kind == "answered":
            calls = [self.call(pair) for _ in range(SAMPLES)]
            seen.latencies = [each.seconds for each in calls if each.kind == "answered"]
            if wrong := [each for each in calls if each.kind != "answered"]:
                seen.allowed = wrong[0]
        return seen.allowed

    def prove_refused_again(self, pair: Pair) -> Call:
        self.evidence[pair].after = found = self.until(pair, "refused")
        return found

    # -- what is left -------------------------------------------------------------------------------------------

    def left(self, dc: Datacenter) -> list[tuple[str, dict[str, Any]]]:
        """(kind, object) of what this or an earlier trial made in a cluster and is still there, the namespace too."""
        found = list(objects.everything(dc.cluster, self.settings.namespace, *self._kinds(dc)))
        space = dc.cluster.get("namespaces", "", self.settings.namespace)
        if space is not None and LABEL in (space["metadata"].get("labels") or {}):
            found.append(("Namespace", space))
        return found

    def _kinds(self, dc: Datacenter) -> Iterator[str]:
        """Intentions are made in the primary's cluster only, and nobody has to have rights on them elsewhere."""
        return (kind for kind in objects.KINDS if kind != "ServiceIntentions" or dc is self.primary)

    def busy(self, dc: Datacenter) -> list[str]:
        """Runners that may still be at work there: another machine's, or a process of this one that runs."""
        runners = {(each["metadata"].get("labels") or {}).get(RUNNER_LABEL, "") for _, each in self.left(dc)}
        return sorted(each for each in runners - {"", runner_label()} if not runner_is_gone(each))

    def in_consul(self, dc: Datacenter) -> list[str]:
        """Services of a trial that this datacenter's catalog still has."""
        ours = (echo_name(dc.name), caller_name(dc.name))
        return sorted(name for name in dc.consul.services(dc.name) if name.startswith(ours))

    def clean(self, dc: Datacenter) -> int:
        """Delete all of it in one cluster, and wait until nothing is left, in Consul neither. How many objects.

        The namespace goes last, and only where a trial made it. Raises WaitTimeoutError.
        """
        namespace = self.settings.namespace
        before = self.left(dc)
        for kind, each in before:
            if kind not in ("Namespace", "Pod"):
                objects.delete(dc.cluster, kind, each)
        hint = f"kubectl --context {dc.of.context} -n {namespace} get all,serviceintentions -l {LABEL}"

        def look() -> Seen:
            found = [
                f"{kind} {each['metadata']['name']}" for kind, each in self.left(dc) if kind != "Namespace"
            ]
            found += [f"service {name} in Consul" for name in self.in_consul(dc)]
            return Seen(not found, f"still there: {', '.join(found)}" if found else "nothing left")

        with dc.cluster.watching(objects.path("Pod", namespace)) as bell:
            wait_for(
                f"{dc.name}: clean-up",
                look,
                self._deadline,
                until_changed=lambda seconds: bell.wait(min(seconds, 0.5)),
                hint=hint,
            )
        if any(kind == "Namespace" for kind, _ in before):
            dc.cluster.delete("namespaces", "", namespace)
            gone = f"{dc.name}: namespace {namespace} gone"
            wait_for(gone, lambda: self._namespace_gone(dc), self._deadline, hint=hint)
        return len([kind for kind, _ in before if kind != "Pod"])

    def _namespace_gone(self, dc: Datacenter) -> Seen:
        there = dc.cluster.get("namespaces", "", self.settings.namespace) is not None
        return Seen(not there, "still being deleted" if there else "gone")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    ends = "deletionTimestamp" in pod["metadata"]
    return not ends and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _trouble(pods: list[dict[str, Any]]) -> str:
    """Why pods wait, in the cluster's words; empty where none are known."""
    for pod in pods:
        status = pod.get("status", {})
        for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = (each.get("state") or {}).get("waiting") or {}
            if waiting.get("message"):
                return f"{pod['metadata']['name']}: {waiting.get('reason', '')}: {waiting['message']}"
    return ""
