"""04-verification: every datacenter asked about every other one. It reads only, but for a canary that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, cast

from ..canary import Canary, acl_canary, look_at_canary, prove_replication
from ..checks import CATALOGUE, run_together
from ..checks.drift import Addresses
from ..checks.federation import FINAL, Datacenter
from ..checks.layers import Cause, causes, in_order, links, worst
from ..checks.permissions import permissions
from ..checks.preflight import Target, api_reachable
from ..checks.secrets import secret_complete
from ..checks.why import WHY, Why
from ..cluster import resource_path
from ..errors import ClusterError, VerifyError, WaitTimeoutError
from ..params import Cluster as ClusterParams
from ..results import Changes, Finding, Findings, Severity, several
from ..secret import FederationSecret, find
from ..show import (
    Diagnosis,
    Expiry,
    Latencies,
    Matrix,
    Page,
    Text,
    Timeline,
    Topology,
    Trouble,
    Verdict,
)
from ..waiting import Seen, wait_for
from .base import Step
from .connect import datacenter, server_pod_ready
from .over_time import measure, stability
from .parts import part, settle
from .plan import Plan
from .proof import Proof
from .ui import directions, token_directions
from .unapplied import view


class Verification(Step):
    """Proves that the federation works, or names what does not."""

    everywhere = True
    needs_federation = True
    latencies = Latencies()
    quiet = False
    """Whether somebody else shows what is found."""
    _canary: Canary | None = None

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

        if look().done:  # without a watch, which its server would keep open for minutes
            return
        with cluster.watching(resource_path("pods", of.namespace)) as bell, suppress(WaitTimeoutError):
            wait_for(
                f"{of.datacenter}: a server pod", look, self.params.timeouts.ready, until_changed=bell.wait
            )

    def planned(self) -> Plan:
        return Plan(Changes("Verification only reads"))

    @view
    def transcripts(self) -> Page:
        """The commands of HashiCorp's page, run in each datacenter: evidence for people who know them."""
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

    @cached_property
    def proof(self) -> Proof:
        return Proof(self.params, self.datacenters)

    def look_after(self) -> list[Finding]:
        """All checks; what a federation that has just come up does not show yet is looked at again until the
        deadline, and then it counts as it is. Then for how long it holds, and how fast it is."""
        try:
            took = wait_for(self.subject, self._look, self.params.timeouts.federation)
            self.facts["settled after"] = f"{took:.1f} s"
        except WaitTimeoutError:
            if not self.proof.findings:  # no look came to its end
                raise
            self.facts["settled after"] = "not within the deadline"
        self._note_versions()
        wanted = self.params.verification
        found = list(self.proof.findings)
        if wanted.canary and self.params.acls and len(self.datacenters) > 1:
            found += self._fly_canary()
        if wanted.soak and not any(f.severity == "error" for f in found):
            found += stability(self.subject, self.proof, wanted.soak)
        self.latencies = measure(self.datacenters, wanted.latency)
        return in_order(found)

    def _causes(self, found: Iterable[Finding]) -> list[Cause]:
        return causes(found, self.params.primary.datacenter)

    def writes(self) -> str:
        if self.params.verification.canary and not self.params.dry_run:
            return "a policy and a token to Consul, which it removes again (verification.canary)"
        return super().writes()

    def _fly_canary(self) -> list[Finding]:
        if self.params.dry_run:
            why = "ACL replication was not tried by a canary: that writes, and this is a dry run"
            hint = "consulfed verify PARAMS --canary, or set dry_run to false"
            return [acl_canary.warning(self.params.primary.datacenter, why, hint)]
        self._canary = prove_replication(self.datacenters)
        if self._changes is not None:
            self._changes.rows += self._canary.changes
        return look_at_canary(self._canary, self.datacenters)

    def _look(self) -> Seen:
        found = self.proof.look()
        broken = self._causes(found)
        if not broken:
            return Seen(True, f"{len(found)} checks ok")
        names = ", ".join(dict.fromkeys(f"{c.finding.id} ({c.finding.subject})" for c in broken))
        # What no waiting mends ends the wait at once.
        final = any(cause.finding.id in FINAL for cause in broken)
        return Seen(final, f"{len(broken)} not ok: {names}; first: {broken[0].finding.found}")

    def _shown_when_failed(self, after: Findings) -> list[Any]:
        """papermill executes no further cell then: what tells most stands here already."""
        return [] if self.quiet else [self.diagnosis(), self.topology(), self.matrix(), after]

    def _failed(self, after: Findings) -> VerifyError:
        """The causes, and how much else fails because of them."""
        broken = self._causes(after)
        first, more = broken[0].finding, sum(len(cause.consequences) for cause in broken)
        follows = f", and {several(more, 'check')} because of that" if more else ""
        return VerifyError(
            f"{several(len(broken), 'check')} of {self.notebook} failed{follows}.",
            first.hint,
            [f"{c.finding.id} ({c.finding.subject}): {c.finding.found}" for c in broken],
        )

    # -- what people see ----------------------------------------------------------------------------------------

    @view
    def diagnosis(self) -> Diagnosis:
        """For each cause: what was found, why it matters, what to do next, and what else fails because of it."""
        return Diagnosis(_trouble(cause) for cause in self._causes(self._seen()))

    @property
    def stopped(self) -> bool:
        """Whether preflight stopped it: nothing of Consul was looked at."""
        return self._after is None

    def seen(self) -> list[Finding]:
        """Everything that was found so far."""
        return [*(self._before or ()), *(self._after or ())]

    def _seen(self) -> list[Finding]:
        """The findings of the newest look, also where that failed."""
        if self._after is None:
            with suppress(VerifyError):
                self.verify()
        assert self._after is not None
        return list(self._after)

    def _verdicts(self, found: list[Finding]) -> tuple[dict[tuple[str, str], Verdict], dict[str, Verdict]]:
        """(of each ordered pair, of each datacenter)."""
        names = [dc.name for dc in self.datacenters]
        rpc = {row.pair: row for row in self.latencies if row.what == "RPC"}
        of_pairs = {}
        for (a, b), (severity, layer) in links(found, names).items():
            row = rpc.get(f"{a} → {b}")
            of_pairs[a, b] = Verdict(cast(Severity, severity), layer, row and row.p50, row and row.p99)
        own = {name: worst(in_order(f for f in found if f.subject == name)) for name in names}
        verdicts = {name: Verdict(cast(Severity, severity), layer) for name, (severity, layer) in own.items()}
        return of_pairs, verdicts

    def _boxes(self) -> dict[str, list[str]]:
        return {dc.name: [dc.of.context, several(self.params.servers, "server")] for dc in self.datacenters}

    def picture(self, seen: Mapping[str, str]) -> Topology | None:
        """While it is waited for the federation: the verdicts of the newest look."""
        if self.subject not in seen or not self.proof.findings:
            return None
        of_pairs, own = self._verdicts(list(self.proof.findings))
        return Topology(self._boxes(), of_pairs, verdicts=own)

    @view
    def topology(self) -> Topology:
        """The federation as a picture, each link with its verdict."""
        of_pairs, own = self._verdicts(self._seen())
        gateways = {dc.name: dc.gateway_addresses() for dc in self.datacenters}
        return Topology(self._boxes(), of_pairs, gateways=gateways, verdicts=own)

    @view
    def matrix(self) -> Page:
        """From where to where, with the first broken layer; and how long requests take."""
        of_pairs, own = self._verdicts(self._seen())
        return Page(Matrix([dc.name for dc in self.datacenters], of_pairs, own), self.latencies, self._canary)

    @view
    def trust(self) -> Page:
        """Every credential that datacenters share, when each ends, and who can read the federation secret."""
        self._seen()
        limits = self.params.verification
        timeline = Timeline(
            (
                Expiry(", ".join(each.datacenters), each.credential, datetime.fromisoformat(each.expires))
                for each in self.proof.calendar()
            ),
            warning=timedelta(days=limits.expiry_warning_days),
            error=timedelta(days=limits.expiry_error_days),
        )
        return Page(self.proof.ledger(), timeline, self.proof.readers())

    @view
    def addresses(self) -> Addresses:
        """Where each place believes the gateways to be."""
        self._seen()
        return self.proof.addresses()

    @view
    def ui(self) -> Page:
        """Where each datacenter's UI is, and which Secret of which cluster holds its token."""
        return Page(*(directions(dc) for dc in self.datacenters), token_directions(self.params))

    @part
    def verify(self) -> Findings:
        """Raises VerifyError also where a check could not look: what was not seen is not proven."""
        after = super().verify()
        unseen = [f"{f.id} ({f.subject}): {f.found}" for f in after if f.severity == "skipped"]
        if not after.proven and not self.unapplied:
            for each in self._shown_when_failed(after):
                settle(each)
            raise VerifyError(
                f"{len(unseen)} of {len(after)} checks could not look; what was not seen is not proven.",
                "give the rights or the access that each of them names, and verify again",
                unseen,
            )
        return after

    def outcome(self, changes: Changes, after: Findings) -> str:
        return super().outcome(changes, after) if self.unapplied else "verified"


def _trouble(cause: Cause) -> Trouble:
    found, why = cause.finding, WHY.get(cause.finding.id, Why(""))
    expected = CATALOGUE[found.id].proves if found.id in CATALOGUE else ""
    consequences = [(each.id, each.subject) for each in cause.consequences]
    return Trouble(
        found.id, found.subject, found.found, expected, why.matters, found.hint, why.notebook, consequences
    )
