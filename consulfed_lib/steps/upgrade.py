"""Bringing a Consul that lives already to federation: the smallest change of its values, in stages, server by server.

Where it stands can be read from the release alone: its labels say from which revision the upgrade began, and its
values which stage it has reached. So it goes on from wherever it was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import helm
from ..checks import Check, check
from ..cluster import resource_path
from ..plans import Item, item_of
from ..results import Change, Finding
from ..servers import Servers, servers_of
from ..show import Diff, diff
from ..values import Installed
from ..values.stages import ENABLED, Stage, stages
from ..waiting import Seen, wait_for
from .base import Action
from .install import HelmChanges, Installation
from .plan import Plan
from .workloads import Workloads

_PAUSE = 0.5
"""Seconds after which the servers are asked again: of what goes on in Consul no watch of Kubernetes tells."""


@dataclass(frozen=True, kw_only=True)
class Upgrade(Installation):
    """A release that is there, and what this federation wants of it.

    Attributes:
        before: the release as its user left it; the upgrade began there, or begins.
    """

    before: Installed

    # -- stages -------------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """Every stage, those included that are behind us."""
        found = self.release()
        began = self._began(found)
        preview = helm.Helm(self.cluster).preview(
            self.of.release, self.namespace, self.params.chart, self.values, installed=True
        )
        roll = began is None or self._template(began.objects) != self._template(preview)
        chart = self.params.chart.parsed
        return stages(self.before.values, self.values, self.params.servers, roll, chart)

    def _began(self, found: helm.Release | None) -> helm.Release | None:
        """The revision from which the upgrade began."""
        if found is None or not found.origin:
            return found
        return helm.release(self.cluster, self.namespace, self.of.release, found.origin)

    def _template(self, objects: Any) -> Any:
        name = f"{self.fullname}-server"
        return next(
            (
                each["spec"]["template"]
                for each in objects
                if each.get("kind") == "StatefulSet" and each["metadata"]["name"] == name
            ),
            None,
        )

    def _reached(self, todo: list[Stage], found: helm.Release | None) -> int:
        """Which of the stages the release has reached; -1: none. One that failed has not been reached."""
        if found is None or found.version != self.params.chart.version:
            return -1
        tried = next((i for i, stage in enumerate(todo) if stage.values == found.values), -1)
        return tried if found.status == "deployed" else max(-1, tried - 1)

    def plan(self, more: list[Change], also: Sequence[tuple[Change, Item]] = ()) -> Plan:
        """As of an installation, with what else runs in the mesh and needs a restart."""
        rows = [self.workloads.planned()] if self._workload_actions() else []
        return super().plan([*more, *rows], also)

    # -- plan ---------------------------------------------------------------------------------------------------

    def _helm_changes(self, found: helm.Release | None) -> HelmChanges:
        changes = super()._helm_changes(found)
        todo = self.stages()
        if len(todo) > 1:
            changes.rows.extend(self._stage_row(stage) for stage in todo[self._reached(todo, found) + 1 :])
        return changes

    def _stage_row(self, stage: Stage) -> tuple[Change, Item]:
        row = Change("stage", self.of.datacenter, "would change", f"{stage.name} is replaced, then looked at")
        return row, item_of(row)

    def _value_changes(self) -> list[Diff]:
        text = diff("values", dict(self.before.values), dict(self.values))
        return [Diff(f"Values of release {self.of.release} that change", text)] if text else []

    def _undo(self, found: helm.Release | None) -> str:
        return super()._undo(self._began(found))

    # -- actions ------------------------------------------------------------------------------------------------

    def actions(self) -> list[Action]:
        """As of an installation, with an action for each stage in place of the one upgrade."""
        if self.is_installed(self.release()):
            return [*super().actions(), *self._workload_actions()]
        todo = self.stages()
        each: list[Action] = [partial(self.reach, todo, i) for i in range(len(todo))]
        return [self.clear_the_way, *each, self.wait_until_ready, *self._workload_actions()]

    @property
    def workloads(self) -> Workloads:
        return Workloads(self.params, self.cluster, self.of.datacenter)

    @property
    def _had_tls(self) -> bool:
        return self.before.effective(ENABLED) is True

    def _workload_actions(self) -> list[Action]:
        return [] if self._had_tls and not self.params.upgrade.restart_workloads else [self.workloads.apply]

    def reach(self, todo: list[Stage], index: int) -> Change:
        """One stage: Helm where the release has not reached it yet, then until its servers are replaced and all well.

        Raises ApplyError where they do not become well: the next server is not touched then.
        """
        stage, found, subject = todo[index], self.release(), self.of.datacenter
        what = f"{index + 1} of {len(todo)}: {stage.name}"
        reached = self._reached(todo, found)
        if index < reached:
            return Change("stage", subject, "unchanged", f"{what}: was reached before")
        if index > reached:
            self._wait(f"{subject}: all servers well before stage {index + 1}", self._servers(found).health)
            self._upgrade_to(stage, last=index == len(todo) - 1, found=found)
        servers = self._servers(self.release())
        self._wait(f"{subject}: stage {what}", partial(servers.look, stage.partition))
        outcome = "changed" if index > reached else "unchanged"
        state = f"{what}: {servers.health().state}"
        return Change("stage", subject, outcome, state, undo=self._undo(self.release()))

    def _upgrade_to(self, stage: Stage, last: bool, found: helm.Release | None) -> None:
        assert found is not None
        print(f"{self.of.datacenter}: helm upgrade {self.of.release}: {stage.name} …")
        origin = found.origin or found.revision
        labels = {helm.ADOPTED_LABEL: "true", helm.ORIGIN_LABEL: "null" if last else str(origin)}
        with self.telling(f"Helm, {stage.name}") as tell_progress:
            helm.Helm(self.cluster).upgrade(
                self.of.release,
                self.namespace,
                self.params.chart,
                stage.values,
                self.params.timeouts.install,
                tell_progress,
                approval=self.approval,
                labels=labels,
            )

    def _servers(self, found: helm.Release | None) -> Servers:
        servers = servers_of(self.params, self.of, self.cluster, found)
        assert servers is not None, "what is upgraded is there"
        return servers

    def servers(self) -> Servers:
        """The servers as the release has them now."""
        return self._servers(self.release())

    def _wait(self, what: str, look: Callable[[], Seen]) -> None:
        paths = [resource_path(resource, self.namespace) for resource in ("pods", "statefulsets")]
        with self.cluster.watching(*paths) as bell:
            wait_for(
                what,
                look,
                self.params.timeouts.ready,
                until_changed=lambda seconds: bell.wait(min(seconds, _PAUSE)),
                hint=f"the servers that are up go on serving; see the one that is not: kubectl --context"
                f" {self.of.context} -n {self.namespace} logs NAME; then run this notebook again, or go back:"
                f" {self._undo(self.release())}",
            )


@check(
    "existing-servers", "every server of the Consul that is there is well before the first of them is touched"
)
def existing_servers(self: Check, subject: str, upgrade: Upgrade) -> Iterator[Finding]:
    found = upgrade.release()
    if found is None or found.origin:
        yield self.skipped(subject, "an upgrade is under way, and waits for them before each stage")
        return
    seen, of = upgrade.servers().health(), upgrade.of
    if seen.done:
        yield self.ok(subject, seen.state)
    else:
        hint = f"bring them back first: kubectl --context {of.context} -n {of.namespace} get pods"
        yield self.error(subject, seen.state, hint)
