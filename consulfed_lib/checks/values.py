"""Will these Helm values make a federation? Read from the parameters alone; one check also reads the pinned chart.

The facts are in `facts` and `lint`; here each gets the check that reports it, with what is proven when it is silent
and what to do when it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConsulfedError
from ..params import Federation
from ..results import Finding
from ..values import Merged, datacenter, merged
from ..values.facts import Datacenter
from ..values.lint import Mistake, role_mistakes, unknown
from . import Check, Worst, check

UNKNOWN_URL = "https://taken-from-the-kubeconfig.invalid"
"""Stands for a secondary's API URL where no kubeconfig was read; only its scheme is judged."""


@dataclass(frozen=True)
class Judged:
    """The final values of every datacenter and all that is wrong with them, found once for all checks."""

    datacenters: tuple[Datacenter, ...]
    merges: tuple[Merged, ...]
    mistakes: tuple[Mistake, ...]

    @classmethod
    def of(cls, world: Federation | Judged, urls: Mapping[str, str] | None = None) -> Judged:
        """Judge parameters; what is judged already is given back.

        Args:
            urls: datacenter → URL of its API, where one is known better than from the parameters.
        """
        if isinstance(world, Judged):
            return world
        merges, datacenters, conflicts = [], [], []
        for cluster in world.clusters:
            url = (urls or {}).get(cluster.datacenter) or cluster.api_url or UNKNOWN_URL
            one = merged(world, cluster, url)
            merges.append(one)
            datacenters.append(datacenter(world, cluster, one.values))
            conflicts += [Mistake(c.check, cluster.datacenter, c.path, c.sentence) for c in one.conflicts]
        said = {(each.datacenter, each.path) for each in conflicts}
        rest = [each for each in role_mistakes(datacenters) if (each.datacenter, each.path) not in said]
        return cls(tuple(datacenters), tuple(merges), (*conflicts, *_sourced(rest, datacenters, merges)))


def _sourced(mistakes: list[Mistake], datacenters: list[Datacenter], merges: list[Merged]) -> list[Mistake]:
    """The same, with the file or the parameter that a wrong value comes from."""
    by_name = dict(zip((each.name for each in datacenters), merges, strict=True))
    found = []
    for each in mistakes:
        source = by_name[each.datacenter].source(each.path)
        sentence = f"{each.sentence} (in {source})" if source else each.sentence
        found.append(Mistake(each.check, each.datacenter, each.path, sentence, each.warning))
    return found


_REMEDY = "correct it in your values, or in the parameter that it comes from"
_ALIKE = "make it the same in every datacenter; it is one parameter of the federation"
_GENERATION = "take the key out, or pin a chart that has it"

_ROWS: tuple[tuple[str, str, str, Worst], ...] = (
    # id, what it proves, what to do, the worst
    ("values-conflict", "no value of the user's own contradicts a parameter or what federation needs",
     "take it out of your values, or change the parameter that is named", "error"),
    ("values-misplaced", "no key of federation stands where Helm would ignore it (consul-k8s #3796)",
     "move it to its place", "error"),
    ("values-generation", "every key that came or went with a generation of the chart is the pinned one's",
     _GENERATION, "error"),
    ("values-pinned", "every image that values name has a version", "name a tag or a digest", "warning"),
    ("values-consul-version", "an image of Consul that values name goes with the chart",
     "leave global.image to the chart", "warning"),
    ("values-datacenter", "each datacenter has a name of its own, in lower case", _REMEDY, "error"),
    ("values-federation", "federation is on in every datacenter", _REMEDY, "error"),
    ("values-federation-secret", "the primary makes the federation secret, and no secondary does", _REMEDY, "error"),
    ("values-primary-names-primary", "the primary's values name no primary (consul-k8s #1873)", _REMEDY, "error"),
    ("values-primary-datacenter", "each secondary's values name the primary", _REMEDY, "error"),
    ("values-auth-method-host", "with ACLs, each secondary's values have the https:// URL of its API (#1425)",
     "give api_url of that cluster in the parameters", "error"),
    ("values-tls", "TLS is on in every datacenter", _REMEDY, "error"),
    ("values-shared-ca", "each secondary takes its CA from the federation secret", _REMEDY, "error"),
    ("values-gossip-key", "each secondary takes its gossip key from the federation secret", _REMEDY, "error"),
    ("values-replication-token", "the primary makes the replication token, and each secondary takes it, with ACLs only",
     _REMEDY, "error"),
    ("values-secret-volume", "the servers of each secondary load the server config of the federation secret",
     "let consulfed write this entry, or make it like the one in the plan", "error"),
    ("values-acls-alike", "ACLs are on, or off, in every datacenter", _ALIKE, "error"),
    ("values-gossip-alike", "gossip encryption is on, or off, in every datacenter", _ALIKE, "error"),
    ("values-tls-alike", "TLS is the same in every datacenter", _ALIKE, "error"),
    ("values-domain-alike", "the domain of Consul is the same in every datacenter",
     "give global.domain in the federation's values, not in a cluster's", "error"),
    ("values-components", "no component that federation needs is off", _REMEDY, "error"),
    ("values-admin-partitions", "admin partitions are off; they exclude federation", _REMEDY, "error"),
    ("values-external-servers", "each datacenter runs its own servers", _REMEDY, "error"),
    ("values-secrets-backend", "secrets are Kubernetes', so that there is a federation secret",
     "federate with Vault by HashiCorp's own guide; this runbook cannot", "error"),
    ("values-update-partition", "server.updatePartition is 0, so that the federation secret is made",
     "finish the rolling upgrade, then set it to 0", "error"),
    ("values-gateway-service-name", "gateways are registered as mesh-gateway", _REMEDY, "error"),
    ("values-bootstrap-expect", "server.bootstrapExpect is the number of servers",
     "leave it to the chart, and say `servers` in the parameters", "error"),
    ("values-server-config", "server.extraConfig does not undo what federation sets", _REMEDY, "error"),
    ("values-replicas", "the number of servers is said, and not left to the chart, whose default changed",
     "say server.replicas", "warning"),
)  # fmt: skip


def _declare(id: str, proves: str, remedy: str, severity: Worst) -> Check:
    @check(id, proves, severity)
    def look(self: Check, subject: str, world: Federation | Judged) -> Iterator[Finding]:
        judged = Judged.of(world)
        found = [each for each in judged.mistakes if each.check == self.id]
        for each in found:
            report = self.warning if each.warning else self.error
            yield report(each.datacenter, each.sentence, remedy)
        if not found:
            yield self.ok(subject, f"so it is in {', '.join(each.name for each in judged.datacenters)}")

    return look


OFFLINE: tuple[Check, ...] = tuple(_declare(*row) for row in _ROWS)
"""What the parameters and the user's values tell by themselves; each is called with a subject and parameters."""


@check("values-chart-keys", "every key of the values is one of the pinned chart's own values.yaml")
def chart_keys(
    self: Check, subject: str, world: Federation | Judged, chart_values: Mapping[str, Any]
) -> Iterator[Finding]:
    """Called with the parameters and with the chart's own values (`helm.Charts().chart_values(chart)`)."""
    judged = Judged.of(world)
    count = 0
    for of, one in zip(judged.datacenters, judged.merges, strict=True):
        told = {
            each.path for each in judged.mistakes if each.check in {"values-misplaced", "values-generation"}
        }
        for path, sentence in unknown(of.values, chart_values, told):
            source = one.source(path)
            count += 1
            yield self.error(
                of.name,
                f"{sentence} (in {source})" if source else sentence,
                "mend it: Helm ignores an unknown key in silence"
                if source
                else f"please report it: this chart says it is {of.chart}",
            )
    if not count:
        names = ", ".join(each.name for each in judged.datacenters)
        yield self.ok(subject, f"so it is in {names}, for chart {judged.datacenters[0].chart}")


def look_at_values(
    params: Federation,
    chart_values: Mapping[str, Any] | None = None,
    urls: Mapping[str, str] | None = None,
    missing: str = "the chart was not read",
) -> list[Finding]:
    """Every check of this module, the values judged once.

    Args:
        chart_values: the chart's own values; without them `values-chart-keys` is skipped.
        urls: as for `Judged.of`.
        missing: why there are none.
    """
    judged, subject = Judged.of(params, urls), params.federation
    found = [finding for each in OFFLINE for finding in each(subject, judged)]
    if chart_values is None:
        return [*found, chart_keys.skipped(subject, missing)]
    return found + chart_keys(subject, judged, chart_values)


def look_with_chart(params: Federation) -> list[Finding]:
    """`look_at_values` with the pinned chart as Helm has it here; what stands in the way of that is said."""
    from ..helm import Charts  # the Kubernetes client with it, which nothing else here needs

    try:
        chart_values = Charts().chart_values(params.chart)
    except ConsulfedError as error:
        return look_at_values(params, missing=error.found)
    return look_at_values(params, chart_values)
