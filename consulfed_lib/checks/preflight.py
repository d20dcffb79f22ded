"""Is each cluster ready for the change? Everything here reads; all clusters are looked at together."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .. import helm
from ..chart import longest_fullname
from ..cluster import Cluster
from ..errors import ConsulfedError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding
from . import Check, check, run_together
from .permissions import permissions

OLDEST_HELM = (3, 14)


@dataclass(frozen=True)
class Target:
    """One cluster of the federation as preflight sees it."""

    params: Federation
    of: ClusterParams
    cluster: Cluster

    @property
    def fullname(self) -> str:
        return self.params.fullname(self.of)


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


@check("namespace", "the namespace is there, or will be made")
def namespace(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    found = target.cluster.get("namespaces", "", target.of.namespace)
    if found and found.get("status", {}).get("phase") == "Terminating":
        yield self.error(
            subject,
            f"namespace {target.of.namespace} is being deleted",
            "wait until it is gone, then run again",
        )
    else:
        yield self.ok(subject, f"{target.of.namespace} {'is there' if found else 'will be created'}")


@check("existing-release", "no other installation of Consul is in the way")
def existing_release(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of = target.of
    found = helm.release(target.cluster, of.namespace, of.release)
    if found is None:
        yield self.ok(subject, f"no release {of.release} in {of.namespace} yet")
    elif found.pending and not helm.runner_is_gone(found.runner):
        yield self.error(
            subject,
            f"release {of.release} is {found.status}: another Helm may be working on it",
            f"wait for it; if nobody is, delete its record: kubectl --context {of.context} -n {of.namespace}"
            f" delete secret {found.secret}",
        )
    elif not found.ours:
        yield self.error(
            subject,
            f"release {of.release} (revision {found.revision}) was not made by consulfed; its values would be replaced",
            "choose another cluster; upgrading an existing installation is not supported by this version",
        )
    elif another := _another_role(target, found.values):
        yield self.error(
            subject,
            f"release {of.release} in {of.context} {another}",
            "correct the contexts, datacenters and options in the parameters; what a datacenter is cannot be changed",
        )
    else:
        yield self.ok(
            subject, f"release {of.release}, revision {found.revision}, {found.status}, made by consulfed"
        )


def _another_role(target: Target, values: Mapping[str, Any]) -> str:
    """How an installed release differs from what the parameters make of its cluster; empty when it fits."""
    there = values.get("global", {})
    federation = there.get("federation", {})
    primary = target.of.datacenter == target.params.primary.datacenter
    if there.get("datacenter") != target.of.datacenter:
        return f"is datacenter {there.get('datacenter')!r}, not {target.of.datacenter!r}"
    if bool(federation.get("createFederationSecret")) != primary:
        return f"is a {'secondary' if primary else 'primary'}, not a {'primary' if primary else 'secondary'}"
    if bool(there.get("acls", {}).get("manageSystemACLs")) != target.params.acls:
        return f"has ACLs {'off' if target.params.acls else 'on'}, the parameters want the opposite"
    if bool(there.get("gossipEncryption")) != target.params.gossip_encryption:
        now = "off" if target.params.gossip_encryption else "on"
        return f"has gossip encryption {now}, the parameters want the opposite"
    return ""


@check("leftovers", "nothing of an older installation would break or mislead the new one")
def leftovers(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, cluster, name = target.of, target.cluster, target.fullname
    installed = helm.release(cluster, of.namespace, of.release) is not None
    found: list[Finding] = []
    for job in cluster.list("jobs", of.namespace, f"release={of.release}"):
        if failed_job(job):
            found.append(
                self.warning(
                    subject,
                    f"failed hook Job {job['metadata']['name']} is left over; the next upgrade would stop at it",
                    "the run removes it before Helm starts",
                )
            )
    if not installed:
        old = {
            f"{name}-ca-cert",
            f"{name}-ca-key",
            f"{name}-bootstrap-acl-token",
            f"{name}-gossip-encryption-key",
            f"{name}-acl-replication-acl-token",
        }
        there = sorted(
            s["metadata"]["name"]
            for s in cluster.list("secrets", of.namespace)
            if s["metadata"]["name"] in old and s.get("type") != "kubernetes.io/service-account-token"
        )
        ours = re.compile(rf"data-({re.escape(of.namespace)}-)?{re.escape(name)}-server-\d+")
        claims = [
            claim["metadata"]["name"]
            for claim in cluster.list("persistentvolumeclaims", of.namespace)
            if ours.fullmatch(claim["metadata"]["name"])
        ]
        what = [*(f"secret {n}" for n in there), *(f"volume claim {n}" for n in claims)]
        if what:
            found.append(
                self.error(
                    subject,
                    f"left from an older installation: {', '.join(what)}",
                    f"if nothing there is needed: kubectl --context {of.context} -n {of.namespace} delete "
                    + " ".join([*(f"secret/{n}" for n in there), *(f"pvc/{n}" for n in claims)]),
                )
            )
    yield from found or [self.ok(subject, "none")]


def failed_job(job: Mapping[str, Any]) -> bool:
    """Whether a Job has given up."""
    return any(
        c["type"] == "Failed" and c["status"] == "True" for c in job.get("status", {}).get("conditions") or []
    )


@check("capacity", "there is a node for each Consul server (the chart places one a node)")
def capacity(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    nodes = [n for n in target.cluster.list("nodes") if not n.get("spec", {}).get("unschedulable")]
    wanted = target.params.servers
    if len(nodes) < wanted:
        yield self.error(
            subject,
            f"{len(nodes)} schedulable nodes for {wanted} servers",
            "add nodes, or ask for fewer `servers`",
        )
    else:
        yield self.ok(subject, f"{len(nodes)} schedulable nodes for {wanted} servers")


@check("names", "the names of the chart's Jobs fit into labels")
def names(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    limit = longest_fullname(target.params.gossip_encryption)
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
    program = helm.Helm(cluster).program
    try:
        done = subprocess.run(
            [str(program), "version", "--short"], capture_output=True, text=True, timeout=30, check=False
        )
        text = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        text = f"that does not answer ({type(error).__name__})"
    match = re.search(r"v(\d+)\.(\d+)", text)
    if match and (int(match[1]), int(match[2])) >= OLDEST_HELM:
        yield self.ok(subject, f"Helm {text.partition('+')[0]}")
    else:
        yield self.error(subject, f"Helm {text or 'of unknown version'}", "install Helm 3.14 or newer")


@check("chart", "the pinned chart can be had, and is the version that the parameters name")
def chart(self: Check, subject: str, params: Federation, cluster: Cluster) -> Iterator[Finding]:
    try:
        metadata = helm.Helm(cluster).chart_metadata(params.chart)
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


def look_at_clusters(params: Federation) -> list[Finding]:
    """Every preflight check on every cluster, all clusters together."""
    reached = run_together(partial(api_reachable, c.datacenter, params, c) for c in params.clusters)
    targets = [
        Target(params, of, Cluster(of.context, params.kubeconfig_path))
        for of, finding in zip(params.clusters, reached, strict=True)
        if finding.severity == "ok"
    ]
    if not targets:
        return reached
    calls = [partial(each, target.of.datacenter, target) for target in targets for each in PER_CLUSTER]
    calls.append(partial(distinct_clusters, params.federation, targets))
    calls.append(partial(helm_program, "this machine", targets[0].cluster))
    calls.append(partial(chart, "this machine", params, targets[0].cluster))
    return reached + run_together(calls)


PER_CLUSTER = (permissions, namespace, existing_release, leftovers, capacity, names)
