"""05-cross-datacenter-traffic: a service of one datacenter called from another; everything is removed at the end.

It writes test workloads into every cluster of the pairs, so that `consulfed run` leaves it out: it is run by hand, or
asked for by its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

from ..checks import Check, check, run_together
from ..checks.federation import Datacenter
from ..checks.permissions import permissions
from ..checks.preflight import Target, api_reachable, distinct_clusters
from ..checks.secrets import secret_complete
from ..errors import ConsulfedError
from ..params import Cluster as ClusterParams
from ..results import Change, Changes, Finding, Findings, several
from ..secret import find
from ..traffic import manifests, objects
from ..traffic.settings import Pair, Settings
from ..traffic.trial import Trial
from .base import Action, Step
from .connect import datacenter, server_pod_ready
from .plan import Plan

_AGAIN = "run 05-cross-datacenter-traffic again"


class Traffic(Step):
    """Refused, allowed, refused again; both ways of every pair; nothing left."""

    everywhere = True
    needs_federation = True

    @property
    def settings(self) -> Settings:
        return Settings(**self.params.traffic.model_dump())

    @property
    def subject(self) -> str:
        return f"federation {self.params.federation}"

    @property
    def name_to_type(self) -> str:
        return self.params.federation

    @cached_property
    def trial(self) -> Trial:
        secret = find(self.cluster(self.params.primary), self.params)
        datacenters = [datacenter(self.params, of, self.cluster(of), secret) for of in self.params.clusters]
        return Trial(self.params, self.settings, datacenters)

    def look_before(self) -> list[Finding]:
        found = run_together(
            partial(api_reachable, of.datacenter, self.params, of) for of in self.params.clusters
        )
        if any(finding.severity == "error" for finding in found):
            return found
        targets = [
            Target(self.params, of, self.cluster(of), notebook=self.notebook) for of in self.params.clusters
        ]
        found += distinct_clusters(self.subject, targets)
        found += run_together(partial(permissions, target.of.datacenter, target) for target in targets)
        if any(finding.severity == "error" for finding in found):
            return found
        primary = self.params.primary
        found += secret_complete(primary.datacenter, self.params, self.cluster(primary), True)
        for of in self.params.clusters:
            found += server_pod_ready(of.datacenter, self.params, of, self.cluster(of))
        if any(finding.severity == "error" for finding in found):
            return found
        found += intentions_served(primary.datacenter, self.trial)
        dcs = self.trial.datacenters.values()
        found += run_together(partial(traffic_free, dc.name, self.trial, dc) for dc in dcs)
        return found

    def planned(self) -> Plan:
        trial, space = self.trial, self.settings.namespace
        rows = []
        for dc in trial.datacenters.values():
            if left := [
                f"{kind} {each['metadata']['name']}" for kind, each in trial.left(dc) if kind != "Pod"
            ]:
                what = f"left by a run that was killed: {', '.join(left)}"
                rows.append(Change("traffic-leftovers", dc.name, "would delete", what))
            deployments = [e["metadata"]["name"] for e in trial.workloads(dc) if e["kind"] == "Deployment"]
            what = f"{', '.join(deployments)} in {space}, each with its Service and ServiceAccount; for the trial only"
            rows.append(Change("traffic-workloads", dc.name, "would create", what))
        for called in trial.datacenters:
            if callers := trial.callers_of(called):
                names = ", ".join(manifests.caller_name(caller) for caller in callers)
                what = f"ServiceIntentions {manifests.echo_name(called)}: allow {names}; for the trial only"
                rows.append(Change("traffic-intention", trial.primary.name, "would create", what))
        return Plan(Changes(f"Plan for {self.subject}", rows))

    def changed_clusters(self) -> list[ClusterParams]:
        return self.params.clusters

    def actions(self) -> list[Action]:
        trial = self.trial
        each = list(trial.datacenters.values())
        called = [dc for dc in each if trial.callers_of(dc.name)]
        return [
            *(partial(self._clean, dc, "traffic-leftovers") for dc in each),
            *(partial(self._make, dc) for dc in each),
            *(partial(self._try, dc) for dc in called),
            *(partial(self._clean, dc, "traffic-clean-up") for dc in each),
        ]

    def _act(self) -> Changes:
        """The trial. Whatever ends it, what it made is removed, as far as that is possible."""
        try:
            return super()._act()
        except BaseException:
            for dc in self.trial.datacenters.values():
                self._clean_after_failure(dc)
            raise

    def _clean_after_failure(self, dc: Datacenter) -> None:
        try:
            print(f"{dc.name}: removed after the failure: {several(self.trial.clean(dc), 'object')}")
        except ConsulfedError as error:
            print(
                f"{dc.name}: not all could be removed after the failure: {error.found} What to do: {_AGAIN}"
            )

    # -- actions ------------------------------------------------------------------------------------------------

    def _clean(self, dc: Datacenter, id: str) -> Change:
        number = self.trial.clean(dc)
        what = f"{several(number, 'object')} in {self.settings.namespace}"
        return Change(id, dc.name, "deleted" if number else "unchanged", what)

    def _make(self, dc: Datacenter) -> Change:
        made = self.trial.ensure_namespace(dc)
        self.trial.make_workloads(dc)
        self.trial.wait_for_pods(dc)
        kinds = [each["kind"] for each in self.trial.workloads(dc)]
        what = f"{several(len(kinds), 'object')} in {self.settings.namespace}" + (
            ", and that namespace" if made else ""
        )
        undo = f"kubectl --context {dc.of.context} -n {self.settings.namespace} delete"
        undo += f" deployments,services,serviceaccounts -l {manifests.LABEL}"
        return Change("traffic-workloads", dc.name, "created", what, undo=undo)

    def _try(self, called: Datacenter) -> Change:
        """The three calls of every pair that calls this datacenter, and the intention between them."""
        trial = self.trial
        pairs = [pair for pair in trial.pairs if pair.called == called.name]
        trial.wait_until_seen(called)
        trial.forbid_by_default(called.name)
        told = [f"before: {trial.prove_refused(pair).said}" for pair in pairs]
        trial.allow(called.name)
        told += [f"allowed: {trial.prove_allowed(pair).said}" for pair in pairs]
        trial.forbid(called.name)
        told += [f"after: {trial.prove_refused_again(pair).said}" for pair in pairs]
        what = f"ServiceIntentions {manifests.echo_name(called.name)}; {'; '.join(told)}"
        undo = f"kubectl --context {trial.primary.of.context} -n {self.settings.namespace}"
        undo += f" delete serviceintentions {manifests.echo_name(called.name)}"
        return Change("traffic-intention", trial.primary.name, "created", what, undo=undo)

    # -- afterwards ---------------------------------------------------------------------------------------------

    def look_after(self) -> list[Finding]:
        trial = self.trial
        for pair, seen in trial.evidence.items():
            if seen.latencies:
                self.facts[f"latency {pair}"] = seen.latency()
        found = [each for pair in trial.pairs for each in traffic_refused(str(pair), trial, pair)]
        found += [each for pair in trial.pairs for each in traffic_allowed(str(pair), trial, pair)]
        dcs = trial.datacenters.values()
        return found + run_together(partial(traffic_cleaned, dc.name, trial, dc) for dc in dcs)

    def outcome(self, changes: Changes, after: Findings) -> str:
        applied = super().outcome(changes, after)
        return "verified" if applied == "applied" and after.proven else applied


@check("traffic-intentions", "the cluster knows ServiceIntentions, which say who may call whom")
def intentions_served(self: Check, subject: str, trial: Trial) -> Iterator[Finding]:
    if objects.is_served(trial.primary.cluster, "ServiceIntentions", trial.settings.namespace):
        yield self.ok(subject, "ServiceIntentions are served")
    else:
        yield self.error(
            subject,
            "the resource serviceintentions.consul.hashicorp.com is not there",
            "it comes with controller.enabled up to chart 0.49, and with connectInject.enabled from 1.0 on",
        )


@check("traffic-free", "no other run tries traffic in this cluster")
def traffic_free(self: Check, subject: str, trial: Trial, dc: Datacenter) -> Iterator[Finding]:
    if busy := trial.busy(dc):
        yield self.error(
            subject,
            f"objects of another run are in {trial.settings.namespace}, which may be at work: {', '.join(busy)}",
            "wait for its end; if it was killed: "
            f"kubectl --context {dc.of.context} -n {trial.settings.namespace} delete"
            f" serviceintentions,deployments,services,serviceaccounts -l {manifests.LABEL}",
        )
    elif left := [each for each in trial.left(dc) if each[0] != "Pod"]:
        yield self.ok(
            subject, f"{several(len(left), 'object')} of a run that was killed, to be removed first"
        )
    else:
        yield self.ok(subject, f"nothing of a trial is in {trial.settings.namespace}")


@check(
    "traffic-refused",
    "a call to another datacenter is refused before its intention exists, and after it is gone",
)
def traffic_refused(self: Check, subject: str, trial: Trial, pair: Pair) -> Iterator[Finding]:
    seen = trial.evidence[pair]
    told = []
    for when, call in (("before the intention", seen.before), ("after it was removed", seen.after)):
        if call is None:
            yield self.skipped(subject, f"{when}: not called")
            return
        if call.kind == "answered":
            names = f"{manifests.caller_name(pair.caller)} {manifests.echo_name(pair.called)}"
            yield self.error(
                subject,
                f"{when}: {call.said}, though nothing of the trial allows it",
                f"in {pair.called}: consul intention check {names}; another intention may let it through",
            )
            return
        if call.kind == "failed":
            yield self.error(
                subject, f"{when}: {call.said}, which is no refusal", f"see the sidecars' logs, and {_AGAIN}"
            )
            return
        told.append(f"{when}: {call.said}")
    yield self.ok(subject, "; ".join(told))


@check("traffic-allowed", "with an intention the service of the other datacenter answers, over mTLS")
def traffic_allowed(self: Check, subject: str, trial: Trial, pair: Pair) -> Iterator[Finding]:
    seen = trial.evidence[pair]
    if seen.allowed is None:
        yield self.skipped(subject, "not called")
    elif seen.allowed.kind != "answered":
        yield self.error(
            subject,
            f"{seen.allowed.said}, though the intention allows it",
            "run 04-verification: do both gateways have the other's address, and is ProxyDefaults global there?",
        )
    else:
        yield self.ok(
            subject, f"{seen.allowed.said}, {seen.took:.1f} s after it was allowed; {seen.latency()}"
        )


@check("traffic-cleaned", "nothing of the trial is left, neither in the cluster nor in Consul")
def traffic_cleaned(self: Check, subject: str, trial: Trial, dc: Datacenter) -> Iterator[Finding]:
    left = [f"{kind} {each['metadata']['name']}" for kind, each in trial.left(dc)]
    left += [f"service {name} in Consul" for name in trial.in_consul(dc)]
    left += [f"an intention to {name}" for name in trial.still_allowed(dc)]
    if left:
        yield self.error(
            subject, f"still there: {', '.join(left)}", f"{_AGAIN}: it begins with removing them"
        )
    else:
        yield self.ok(
            subject, f"nothing left in {trial.settings.namespace}, nothing in the catalog of {dc.name}"
        )
