"""Installing Consul in one cluster, for a primary as for a secondary: plan, actions, and what is waited for."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import helm, presence
from ..canonical import digest
from ..checks import Check, check
from ..checks.addresses import last_warning
from ..checks.existing import failed_job, old_secrets
from ..cluster import Cluster, resource_path
from ..errors import ApplyError, ClusterError
from ..gateway import listed, live_addresses
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..plans import Item, item_of
from ..results import Change, Changes, Finding
from ..show import Diff, Yaml, as_yaml
from ..waiting import Seen, Watcher, teller, wait_for
from .base import Action
from .objects import Objects
from .plan import Plan
from .trouble import pod_trouble

_LOG_PREFIX = re.compile(r"^[\dT:.Z+-]+ +\[\w+\] +")


@dataclass(frozen=True)
class HelmChanges:
    """What Helm would do: rows with their items, and the objects of the release."""

    rows: list[tuple[Change, Item]]
    objects: Objects


@dataclass(frozen=True)
class Installation:
    """Consul as this federation wants it in one cluster."""

    params: Federation
    of: ClusterParams
    cluster: Cluster
    values: Mapping[str, Any]
    unfinished: Callable[[], str] = lambda: ""
    """Why Helm must run again although the release is as wanted; empty when it need not."""
    approval: str = ""
    """Mark of the approved plan under which this is done; empty without approval."""
    namespace_by: str = ""
    """The notebook that makes the namespace before this one does."""

    @property
    def namespace(self) -> str:
        return self.of.namespace

    @property
    def fullname(self) -> str:
        return self.params.fullname(self.of)

    def gateway_addresses(self) -> set[str]:
        """Where other datacenters must dial this one's gateways now."""
        return live_addresses(self.cluster, self.namespace, self.fullname, self.params.gateway(self.of))

    def release(self) -> helm.Release | None:
        return helm.release(self.cluster, self.namespace, self.of.release)

    def is_installed(self, found: helm.Release | None) -> bool:
        """Whether Helm has nothing to do: same chart, same values, and its last run came to its end.

        Helm is not run then, because every upgrade issues new server certificates and leaves a new revision.
        """
        return self._is_deployed(found) and not self.unfinished()

    def _is_deployed(self, found: helm.Release | None) -> bool:
        return (
            found is not None
            and found.status == "deployed"
            and found.version == self.params.chart.version
            and found.values == self.values
        )

    # -- plan ---------------------------------------------------------------------------------------------------

    def begun(self) -> bool:
        """Whether the release as it is was begun, and not ended, under the approval that is given."""
        found = self.release()
        return found is not None and bool(self.approval) and found.plan == self.approval

    def plan(self, more: list[Change], also: Sequence[tuple[Change, Item]] = ()) -> Plan:
        """Values, diffs, and a row for each thing that Helm would do.

        Args:
            more: rows of other actions.
            also: such rows with items of their own.
        """
        other = [*map(item_of, more), *(item for _, item in also)]
        more = [*more, *(row for row, _ in also)]
        found, title = self.release(), f"Plan for {self.of.datacenter} ({self.of.context})"
        values = Yaml(f"Helm values of {self.of.datacenter}", as_yaml(dict(self.values)))
        namespace = namespace_row(self.cluster, self.of, self.namespace_by)
        items = [item_of(namespace, by=self.namespace_by, what=self.namespace)]
        if self.is_installed(found):
            assert found is not None
            what = f"release {self.of.release}, {found.chart} {found.version}, revision {found.revision}"
            row = Change("release", self.of.datacenter, "unchanged", what)
            items += [item_of(row, then=self._wanted(), what=self._what()), *other]
            return Plan(Changes(title, [namespace, row, *more]), values, items=items, values=self.values)
        changes = self._helm_changes(found)
        rows = [namespace, *(row for row, _ in changes.rows), *changes.objects.rows(), *more]
        items += [item for _, item in changes.rows]
        items += [*changes.objects.items(), *other]
        parts = [values, *self._value_changes(), *changes.objects.diffs()]
        return Plan(Changes(title, rows), *parts, items=items, values=self.values)

    def _value_changes(self) -> list[Diff]:
        """What changes in the values of a release that was there before; of our own the values themselves say it."""
        return []

    def _helm_changes(self, found: helm.Release | None) -> HelmChanges:
        """What Helm would do: to the release, to what is in its way, and to every object."""
        subject, verb = self.of.datacenter, "would change" if found else "would create"
        why = self.unfinished() if self._is_deployed(found) else ""
        because = f", because {why}" if why else ""
        release = Change("release", subject, verb, self._what() + because, undo=self._undo(found))
        now = digest([found.status, found.version, found.values]) if found else ""
        rows = [(release, item_of(release, now=now, then=self._wanted(), what=self._what()))]
        for what, _ in self._in_the_way(found):
            row = Change("clear-the-way", subject, "would change", what)
            rows.append((row, item_of(row)))
        preview = helm.Helm(self.cluster).preview(
            self.of.release, self.namespace, self.params.chart, self.values, installed=found is not None
        )
        return HelmChanges(rows, Objects(subject, found.objects if found else (), preview))

    def _what(self) -> str:
        chart = self.params.chart
        return f"release {self.of.release}, chart {chart.ref} {chart.version}"

    def _wanted(self) -> str:
        """Digest of the release as it would be."""
        return digest([self.params.chart.version, self.values])

    def _undo(self, found: helm.Release | None) -> str:
        target = f"--kube-context {self.of.context} -n {self.namespace}"
        if found:
            return f"helm rollback {self.of.release} {found.revision} {target}"
        return f"helm uninstall {self.of.release} {target}"

    # -- actions ------------------------------------------------------------------------------------------------

    def actions(self) -> list[Action]:
        return [self.ensure_namespace, self.clear_the_way, self.upgrade, self.wait_until_ready]

    def ensure_namespace(self) -> Change:
        return ensure_namespace(self.cluster, self.of)

    def clear_the_way(self) -> Change:
        """What a killed or failed run of ours left, and Helm would stop at: a pending release, a failed hook Job."""
        done = []
        for what, mend in self._in_the_way(self.release()):
            mend()
            done.append(what)
        outcome = "changed" if done else "unchanged"
        return Change("clear-the-way", self.of.datacenter, outcome, "; ".join(done) or "nothing left over")

    def _in_the_way(self, found: helm.Release | None) -> list[tuple[str, Callable[[], object]]]:
        """(what is in the way, what mends it), for each thing."""
        things: list[tuple[str, Callable[[], object]]] = []
        if found and found.pending:
            what = f"revision {found.revision} of the release, left {found.status} by a killed run: marked failed"
            things.append((what, partial(helm.mark_failed, self.cluster, found)))
        for job in self.cluster.list("jobs", self.namespace, f"release={self.of.release}"):
            name = job["metadata"]["name"]
            # A hook Job outlives the Helm that waited for it, and its name is then taken (consul-helm #986).
            if failed_job(job) or (_is_hook(job) and not self.is_installed(found)):
                delete = partial(self.cluster.delete, "jobs", self.namespace, name)
                things.append((f"left-over Job {name}: deleted", delete))
        if found is None and self.params.upgrade.clear_leftovers:
            for name in old_secrets(self.cluster.list, self.namespace, self.fullname, self.values):
                delete = partial(self.cluster.delete, "secrets", self.namespace, name)
                things.append((f"secret {name} of an older installation: deleted", delete))
        return things

    def upgrade(self) -> Change:
        """Helm, hooks included. Its own watcher tells what is being waited for."""
        subject, found = self.of.datacenter, self.release()
        if self.is_installed(found):
            return Change("release", subject, "unchanged", f"release {self.of.release} is as wanted")
        chart = self.params.chart
        print(f"{subject}: helm upgrade --install {self.of.release} {chart.ref} --version {chart.version} …")
        timeout = self.params.timeouts.install
        with self.telling() as tell_progress:
            helm.Helm(self.cluster).upgrade(
                self.of.release,
                self.namespace,
                chart,
                self.values,
                timeout,
                tell_progress,
                approval=self.approval,
            )
        after = self.release()
        if not self._is_deployed(after):
            raise ApplyError(
                f"Helm ended well, but release {self.of.release} in {self.of.context} is"
                f" {after.status if after else 'not there'}.",
                f"helm status {self.of.release} --kube-context {self.of.context} -n {self.namespace}",
            )
        assert after is not None
        what = f"release {self.of.release}, {after.chart} {after.version}, revision {after.revision}"
        return Change("release", subject, "changed" if found else "created", what, undo=self._undo(found))

    def _workloads(self) -> list[tuple[str, str, str, int]]:
        """(resource, name, word for people, replicas wanted) of what must run."""
        return [
            ("statefulsets", f"{self.fullname}-server", "servers", self.params.servers),
            (
                "deployments",
                f"{self.fullname}-mesh-gateway",
                "gateway",
                self.params.gateway(self.of).replicas,
            ),
        ]

    def wait_until_ready(self) -> Change:
        """Until servers and gateway are ready and the gateway has an address, the state of the world ends this.

        Raises ApplyError at once where somebody scaled a workload: no waiting brings its pods back.
        """
        for resource, name, _, wanted in self._workloads():
            found = self.cluster.get(resource, self.namespace, name)
            if found and found["spec"].get("replicas", 1) != wanted:
                raise ApplyError(
                    f"{name} in {self.of.context} is scaled to {found['spec'].get('replicas', 1)},"
                    f" the parameters want {wanted}.",
                    f"kubectl --context {self.of.context} -n {self.namespace} scale {resource}/{name}"
                    f" --replicas={wanted}; then run this notebook again",
                )
        with self.cluster.watching(*self._watched()) as bell:
            wait_for(
                f"{self.of.datacenter}: Consul",
                self.look,
                self.params.timeouts.ready,
                until_changed=bell.wait,
                hint=f"kubectl --context {self.of.context} -n {self.namespace} get pods,services;"
                " mend it and run this notebook again",
            )
        return Change("ready", self.of.datacenter, "unchanged", self.look().state)

    # -- looks --------------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        """How far servers and gateway are, in a few words."""
        done, parts = self._parts()
        return Seen(done, ", ".join(parts))

    def _parts(self) -> tuple[bool, list[str]]:
        parts, done = [], True
        for resource, name, word, wanted in self._workloads():
            workload = self.cluster.get(resource, self.namespace, name)
            ready = _ready_replicas(workload)
            why = self._trouble(workload) if ready < wanted else ""
            parts.append(f"{word} {ready}/{wanted} ready" + (f" ({why})" if why else ""))
            done = done and wanted <= ready
        addresses = self.gateway_addresses()
        why = "" if addresses else last_warning(self.cluster, self.namespace, f"{self.fullname}-mesh-gateway")
        address = listed(addresses) if addresses else "none yet" + (f" ({why})" if why else "")
        parts.append(f"gateway address {address}")
        done = done and bool(addresses)
        for job in self.cluster.list("jobs", self.namespace, f"release={self.of.release}"):
            if not any(c["status"] == "True" for c in job.get("status", {}).get("conditions") or []):
                parts.append(f"job {job['metadata']['name']}: {self._last_words(job) or 'starting'}")
                done = False
        return done, parts

    def _trouble(self, workload: Mapping[str, Any] | None) -> str:
        """What keeps the pods of a workload from starting, or keeps it from making any."""
        if workload is None:
            return ""
        labels = workload["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return pod_trouble(self.cluster.list("pods", self.namespace, selector))

    def _last_words(self, job: Mapping[str, Any]) -> str:
        """The last line of a Job's log, without its time and level."""
        pods = self.cluster.list("pods", self.namespace, f"job-name={job['metadata']['name']}")
        pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        line = self.cluster.log_tail(self.namespace, pods[-1]["metadata"]["name"]) if pods else ""
        return _LOG_PREFIX.sub("", line)[:200]

    def _watched(self) -> list[str]:
        return [resource_path(r, self.namespace) for r in ("statefulsets", "deployments", "services", "jobs")]

    @contextmanager
    def telling(self, doing: str = "Helm") -> Iterator[Callable[[threading.Event], str]]:
        """What tells the progress while Helm runs: in lines, or as one of the waits that are shown."""
        start, what = time.monotonic(), f"{self.of.datacenter}: {doing}"
        watcher = teller().begin(what, self.params.timeouts.install) if presence.somebody() else None
        last = ""

        def tell(ended: threading.Event) -> str:
            nonlocal last
            last = self._tell_progress(ended, watcher, start)
            return last

        try:
            yield tell
        except BaseException:
            if watcher:
                watcher.gave_up()
            raise
        if watcher:
            watcher.done(last or "done", time.monotonic() - start)

    def _tell_progress(self, ended: threading.Event, watcher: Watcher | None, start: float) -> str:
        """Tells each new state while Helm runs; returns the last one, for the error if Helm fails."""
        told: list[str] = []
        with self.cluster.watching(*self._watched()) as bell:
            while not ended.is_set():
                try:
                    _, parts = self._parts()
                except ClusterError as error:
                    parts = [error.found]
                news = [part for part in parts if part not in told]
                if watcher:
                    watcher.saw(", ".join(parts), time.monotonic() - start)
                elif news:
                    print(f"  {self.of.datacenter}: {', '.join(news)}")
                told = parts
                bell.wait(0.5)
        return ", ".join(told)


@check("installed", "servers and gateway are ready, no Job is unfinished, and the gateway has an address")
def installed(self: Check, subject: str, installation: Installation) -> Iterator[Finding]:
    seen, of = installation.look(), installation.of
    if seen.done:
        yield self.ok(subject, seen.state)
    else:
        hint = f"kubectl --context {of.context} -n {of.namespace} get pods,services,jobs"
        yield self.error(subject, seen.state, hint)


def namespace_row(cluster: Cluster, of: ClusterParams, by: str = "") -> Change:
    """The plan's row of the namespace; `by` is the notebook that makes it before this one would have to."""
    if cluster.get("namespaces", "", of.namespace) is not None:
        return Change("namespace", of.datacenter, "unchanged", of.namespace)
    if by:
        return Change("namespace", of.datacenter, "waits", f"{of.namespace}: for {by}")
    return Change("namespace", of.datacenter, "would create", of.namespace)


def ensure_namespace(cluster: Cluster, of: ClusterParams) -> Change:
    """Create the namespace unless it is there."""
    if cluster.get("namespaces", "", of.namespace) is not None:
        return Change("namespace", of.datacenter, "unchanged", of.namespace)
    cluster.request(
        "POST",
        resource_path("namespaces"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": of.namespace}},
    )
    undo = f"kubectl --context {of.context} delete namespace {of.namespace}"
    return Change("namespace", of.datacenter, "created", of.namespace, undo=undo)


def _ready_replicas(workload: Mapping[str, Any] | None) -> int:
    """Replicas ready and up to date; 0 where it is not there or its controller has not seen it yet."""
    if workload is None:
        return 0
    status = workload.get("status", {})
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return 0
    ready = status.get("readyReplicas", 0)
    return min(ready, status.get("updatedReplicas", ready))


def _is_hook(job: Mapping[str, Any]) -> bool:
    return "helm.sh/hook" in job["metadata"].get("annotations", {})
