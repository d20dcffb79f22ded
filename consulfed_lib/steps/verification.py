"""04-verification: every datacenter asked about every other one. It reads only; there is no action in here."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial

from ..checks import run_together
from ..checks.federation import FINAL, Datacenter, link_verdicts, look_at_federation
from ..checks.permissions import permissions
from ..checks.preflight import Target, api_reachable
from ..checks.secrets import secret_complete
from ..checks.ui import ui
from ..cluster import resource_path
from ..errors import ClusterError, WaitTimeoutError
from ..gateway import listed
from ..params import Cluster as ClusterParams
from ..results import Changes, Finding, Findings
from ..secret import FederationSecret, find
from ..show import Page, Text, Topology
from ..waiting import Seen, wait_for
from .base import Plan, Step
from .connect import datacenter, server_pod_ready
from .ui import directions, token_directions


class Verification(Step):
    """Proves that the federation works, or names what does not."""

    everywhere = True

    @property
    def subject(self) -> str:
        return f"federation {self.params.federation}"

    @cached_property
    def secret(self) -> FederationSecret:
        return find(self.cluster(self.params.primary), self.params)

    @cached_property
    def datacenters(self) -> list[Datacenter]:
        return [datacenter(self.params, of, self.cluster(of), self.secret) for of in self.params.clusters]

    def look_before(self) -> list[Finding]:
        found = run_together(
            partial(api_reachable, of.datacenter, self.params, of) for of in self.params.clusters
        )
        if any(finding.severity == "error" for finding in found):
            return found
        targets = [
            Target(self.params, of, self.cluster(of), notebook=self.notebook) for of in self.params.clusters
        ]
        found += run_together(partial(permissions, target.of.datacenter, target) for target in targets)
        if any(finding.severity == "error" for finding in found):
            return found
        primary = self.params.primary
        found += secret_complete(primary.datacenter, self.params, self.cluster(primary), True)
        for of in self.params.clusters:
            self._wait_for_server(of)
            found += server_pod_ready(of.datacenter, self.params, of, self.cluster(of))
        return found

    def _wait_for_server(self, of: ClusterParams) -> None:
        """A pod that restarts comes back by itself; where there is none, or not in time, the check says so."""
        cluster, labels = self.cluster(of), f"component=server,release={of.release}"
        if not cluster.list("pods", of.namespace, labels):
            return

        def look() -> Seen:
            found = server_pod_ready(of.datacenter, self.params, of, cluster)
            return Seen(found[0].severity == "ok", found[0].found)

        with cluster.watching(resource_path("pods", of.namespace)) as bell, suppress(WaitTimeoutError):
            wait_for(
                f"{of.datacenter}: a server pod", look, self.params.timeouts.ready, until_changed=bell.wait
            )

    def planned(self) -> Plan:
        return Plan(Changes("Verification only reads"))

    def transcripts(self) -> Page:
        """The commands of HashiCorp's page, run in each datacenter: evidence for people who know them."""
        if self._before is None:
            self.preflight()
        parts = []
        for dc in self.datacenters:
            others = [other for other in self.datacenters if other is not dc]
            commands = [["consul", "members", "-wan"]]
            commands += [["consul", "catalog", "services", "-datacenter", other.name] for other in others]
            for command in commands:
                done = dc.cluster.exec(dc.of.namespace, f"{dc.fullname}-server-0", command)
                prompt = (
                    f"kubectl --context {dc.of.context} -n {dc.of.namespace} exec {dc.fullname}-server-0 --"
                )
                code = f"\n[exit code {done.returncode}]" if done.returncode else ""
                text = f"$ {prompt} {' '.join(command)}\n{done.stdout}{done.stderr}{code}"
                parts.append(Text(f"In {dc.name}: {' '.join(command)}", text))
        return Page(*parts)

    def _note_versions(self) -> None:
        """What runs, as it says itself; a datacenter that does not answer is the checks' to say."""
        for dc in self.datacenters:
            with suppress(ClusterError):
                self.versions[f"consul in {dc.name}"] = dc.consul.version()

    def look_after(self) -> list[Finding]:
        """All checks; what a federation that has just come up does not show yet is looked at again until the
        deadline, and then it counts as it is."""
        found: list[Finding] = []

        def look() -> Seen:
            found[:] = look_at_federation(self.datacenters)
            found.extend(run_together(partial(ui, dc.name, dc) for dc in self.datacenters))
            broken = [f for f in found if f.severity == "error"]
            if not broken:
                return Seen(True, f"{len(found)} checks ok")
            names = ", ".join(dict.fromkeys(f"{f.id} ({f.subject})" for f in broken))
            # What no waiting mends ends the wait at once.
            final = any(f.id in FINAL for f in broken)
            return Seen(final, f"{len(broken)} not ok: {names}; first: {broken[0].found}")

        try:
            took = wait_for(self.subject, look, self.params.timeouts.federation)
            self.facts["settled after"] = f"{took:.1f} s"
        except WaitTimeoutError:
            self.facts["settled after"] = "not within the deadline"
        self._note_versions()
        return found

    def topology(self) -> Topology:
        """The federation as a picture, each link with its verdict."""
        findings = list(self._after or self.verify())
        boxes = {}
        for dc in self.datacenters:
            boxes[dc.name] = [
                dc.of.context,
                f"{self.params.servers} server(s)",
                f"gateway {listed(dc.gateway_addresses())}",
            ]
        return Topology(boxes, link_verdicts(findings, list(boxes)))

    def ui(self) -> Page:
        """Where each datacenter's UI is, and which Secret of which cluster holds its token."""
        if self._before is None:
            self.preflight()
        return Page(*(directions(dc) for dc in self.datacenters), token_directions(self.params))

    def outcome(self, changes: Changes, after: Findings) -> str:
        return "verified" if after.proven else "not proven"
