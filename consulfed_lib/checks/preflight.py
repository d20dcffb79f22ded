"""Is each cluster ready for the change? Everything here reads; all clusters are looked at together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

from .. import helm
from ..chart import longest_fullname
from ..cluster import Cluster
from ..errors import ConsulfedError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding
from . import Check, check, run_together
from .balancers import load_balancer
from .clusters import CLUSTERS
from .existing import EXISTING
from .gateways import BEFORE as GATEWAY
from .permissions import permissions
from .pod_security import pod_security
from .target import Once, Target

OLDEST_HELM = (3, 14)


@check("api-reachable", "the context exists and its API server answers")
def api_reachable(self: Check, subject: str, params: Federation, of: ClusterParams) -> Iterator[Finding]:
    cluster = Cluster(of.context, params.kubeconfig_path)
    yield self.ok(subject, f"{cluster.server} answers, Kubernetes {cluster.version()}")


@check("distinct-clusters", "the contexts are different clusters (UID of kube-system)")
def distinct_clusters(self: Check, subject: str, targets: list[Target]) -> Iterator[Finding]:
    seen: dict[str, Target] = {}
    for target in targets:
        other = seen.setdefault(target.cluster.uid(), target)
        if other is not target:
            yield self.error(
                target.of.datacenter,
                f"{target.of.context} and {other.of.context} are the same cluster",
                "give each datacenter a cluster of its own",
            )
    if len(seen) == len(targets):
        yield self.ok(subject, f"{len(targets)} contexts, {len(seen)} clusters")


@check("names", "the names of the chart's Jobs fit into labels")
def names(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    params = target.params
    limit = longest_fullname(params.gossip_encryption and not params.gossip_key.secret)
    yield self.ok(subject, f"{target.fullname!r} has {len(target.fullname)} of {limit} characters")


@check("api-url", "the URL that the primary's servers are given for this cluster's API can be theirs too")
def api_url(self: Check, subject: str, url: str) -> Iterator[Finding]:
    host = urlsplit(url).hostname or ""
    hint = f"give api_url of {subject} in the parameters: a full https:// URL that the primary's servers can reach"
    if not url.startswith("https://"):
        yield self.error(subject, f"{url} is no https URL", hint)
    elif host in {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}:
        yield self.warning(subject, f"{url} works on this machine only", hint)
    else:
        yield self.ok(subject, url)


@check("helm", f"Helm {'.'.join(map(str, OLDEST_HELM))} or newer is here")
def helm_program(self: Check, subject: str, cluster: Cluster) -> Iterator[Finding]:
    version = helm.Helm(cluster).version()
    major, minor = (int(part) for part in version.removeprefix("v").split(".")[:2])
    if (major, minor) >= OLDEST_HELM:
        yield self.ok(subject, f"Helm {version}")
    else:
        yield self.error(subject, f"Helm {version}", "install Helm 3.14 or newer")


@check("chart", "the pinned chart can be had, and is the version that the parameters name")
def chart(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    params = target.params
    try:
        metadata = target.chart_metadata()
    except ConsulfedError as error:
        yield self.error(
            subject,
            f"chart {params.chart.ref} {params.chart.version} cannot be had: {error.found}",
            error.hint or "see chart.ref, chart.repo and chart.version in the parameters",
        )
        return
    if str(metadata.get("version")) != params.chart.version:
        yield self.error(
            subject,
            f"{params.chart.ref} is version {metadata.get('version')}, the parameters name {params.chart.version}",
            "correct chart.version in the parameters",
        )
        return
    yield self.ok(
        subject, f"{metadata['name']} {metadata['version']}, Consul {metadata.get('appVersion', '?')}"
    )


PER_CLUSTER = (permissions, *EXISTING, *CLUSTERS, *GATEWAY, load_balancer, pod_security, names)


def look_at_clusters(
    params: Federation, of: Sequence[ClusterParams] = (), notebook: str = "00-preflight"
) -> list[Finding]:
    """Every preflight check on every cluster (or on those given) and on this machine, all of it together."""
    chosen = of or params.clusters
    reached = run_together(partial(api_reachable, c.datacenter, params, c) for c in chosen)
    shared = Once()
    targets = [
        Target(params, of, Cluster(of.context, params.kubeconfig_path), shared, notebook)
        for of, finding in zip(chosen, reached, strict=True)
        if finding.severity == "ok"
    ]
    if not targets:
        return reached
    calls = [partial(each, target.of.datacenter, target) for target in targets for each in PER_CLUSTER]
    if len(chosen) > 1:
        calls.append(partial(distinct_clusters, params.federation, targets))
    calls.append(partial(helm_program, "this machine", targets[0].cluster))
    calls.append(partial(chart, "this machine", targets[0]))
    return reached + run_together(calls)
