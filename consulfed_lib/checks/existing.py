"""What is in a cluster already: is it this release, nothing at all, or something that is in the way?

Helm takes over no object of somebody else ("invalid ownership metadata"), and it finds out half way: so the owners
of what is cluster-wide are looked at first. Who owns an object stands in annotations that Helm itself writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .. import adoption, helm
from ..chart import ChartVersion, fullname
from ..cluster import Cluster
from ..results import Finding
from ..runner import runner_is_gone
from ..values import merged
from ..values.facts import get
from . import Check, check
from .target import Target

_OWNER = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")
_CHART_LABEL = "consul-helm"
"""Label `chart` on every object of HashiCorp's chart, in each generation."""

_CLUSTER_WIDE = (
    "auth-method",
    "connect-injector",
    "controller",
    "mesh-gateway",
    "server",
    "webhook-cert-manager",
)
"""Suffixes of the chart's cluster-wide objects, from its templates 0.44.0 to 2.0.3 with a federation's values."""

_CRDS, _GATEWAY_API = ".consul.hashicorp.com", ".gateway.networking.k8s.io"
_BRINGS_GATEWAY_API = ChartVersion.parse("1.2.0")
"""The first chart that brings the CRDs of the Gateway API, unless told not to."""


@check("namespace", "the namespace is there, or will be made")
def namespace(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    found = target.get("namespaces", "", target.of.namespace)
    if found and found.get("status", {}).get("phase") == "Terminating":
        yield self.error(
            subject,
            f"namespace {target.of.namespace} is being deleted",
            "wait until it is gone, then run again",
        )
    else:
        yield self.ok(subject, f"{target.of.namespace} {'is there' if found else 'will be created'}")


@check("existing-release", "the release is not there yet, or is what these parameters made of this cluster")
def existing_release(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of = target.of
    found = target.release()
    upgrade = target.params.upgrade
    if found is None and target.is_primary and upgrade.existing:
        yield self.error(
            subject,
            f"there is no release {of.release} in {of.namespace}, but upgrade.existing says that there is",
            f"correct release and namespace (helm list -A --kube-context {of.context}), or leave upgrade.existing out",
        )
    elif found is None:
        yield self.ok(subject, f"no release {of.release} in {of.namespace} yet")
    elif found.pending and not runner_is_gone(found.runner):
        yield self.error(
            subject,
            f"release {of.release} is {found.status}: another Helm may be working on it",
            f"wait for it; if nobody is, delete its record: kubectl --context {of.context} -n {of.namespace}"
            f" delete secret {found.secret}",
        )
    elif not found.ours and not target.is_primary:
        yield self.error(
            subject,
            f"release {of.release} (revision {found.revision}) was not made by consulfed, and a Consul that lives"
            " already cannot become a secondary: it would get a new CA, a new gossip key and other ACLs under its"
            " own data",
            "choose an empty cluster for this datacenter and move its services there, or make it the primary",
        )
    elif not found.ours and not upgrade.existing:
        yield self.error(
            subject,
            f"release {of.release} (revision {found.revision}, chart {found.version}) was not made by consulfed",
            "to bring it to federation and keep its values: set upgrade.existing to true; else choose another cluster",
        )
    elif target.is_primary and not found.ours:
        yield from _adoptable(self, subject, target, found)
    elif another := _another_role(target, found.values):
        yield self.error(
            subject,
            f"release {of.release} in {of.context} {another}",
            "correct the contexts, datacenters and options in the parameters; what a datacenter is cannot be changed",
        )
    elif found.version != target.params.chart.version and not upgrade.chart:
        yield self.error(
            subject,
            f"release {of.release} has chart {found.version}, the parameters pin {target.params.chart.version}",
            f"set chart.version to {found.version}; or set upgrade.chart to true, to move it",
        )
    elif _newer(found.version, target.params.chart.parsed):
        yield self.warning(
            subject,
            f"release {of.release} has chart {found.version}, the parameters pin the older"
            f" {target.params.chart.version}",
            "raise chart.version, unless you mean to go back: Consul's servers do not read newer data for sure",
        )
    else:
        yield self.ok(
            subject, f"release {of.release}, revision {found.revision}, {found.status}, made by consulfed"
        )


def _adoptable(self: Check, subject: str, target: Target, found: helm.Release) -> Iterator[Finding]:
    """Whether a release that somebody else made can become the primary; every reason why not."""
    params, of = target.params, target.of
    refused = list(adoption.refusals(params, of, found))
    for why, instead in refused:
        yield self.error(subject, f"release {of.release} cannot become the primary: {why}", instead)
    conflicts = [] if refused else merged(params, of, installed=target.installed()).conflicts
    for each in conflicts:
        yield self.error(
            subject,
            each.sentence,
            "set that parameter to what is there, or change the release first: an upgrade to federation keeps it",
        )
    if not refused and not conflicts:
        yield self.ok(
            subject,
            f"release {of.release}, revision {found.revision}, {found.status}, chart {found.version}, made by somebody"
            " else: its values are kept but for what federation needs",
        )


def _newer(installed: str, pinned: ChartVersion) -> bool:
    try:
        return ChartVersion.parse(installed) > pinned
    except ValueError:  # of a generation that is not known: only newer than all that are
        return True


def _another_role(target: Target, values: Mapping[str, Any]) -> str:
    """How an installed release differs from what the parameters make of its cluster; empty when it fits."""
    params, there = target.params, values.get("global", {})
    federation, gossip = there.get("federation", {}), there.get("gossipEncryption") or {}
    encrypted = bool(gossip.get("autoGenerate") or gossip.get("secretName"))
    primary = target.is_primary
    if there.get("datacenter") != target.of.datacenter:
        return f"is datacenter {there.get('datacenter')!r}, not {target.of.datacenter!r}"
    if bool(federation.get("createFederationSecret")) != primary:
        return f"is a {'secondary' if primary else 'primary'}, not a {'primary' if primary else 'secondary'}"
    if not primary and (of := federation.get("primaryDatacenter", "")) not in ("", params.primary.datacenter):
        return f"is a secondary of {of!r}, not of {params.primary.datacenter!r}"
    name = fullname(target.of.release, there.get("name") or "", values.get("fullnameOverride") or "")
    if name != target.fullname:
        # Under other names Helm would delete the servers and start new ones, on volumes that are empty.
        return f"has objects that are named {name}-…; the parameters name them {target.fullname}-…"
    acls = bool(there.get("acls", {}).get("manageSystemACLs"))
    if acls != params.acls:
        return f"has ACLs {_on(acls)}, the parameters have acls {_on(params.acls)}"
    if encrypted != params.gossip_encryption:
        now, wanted = _on(encrypted), _on(params.gossip_encryption)
        return f"has gossip encryption {now}, the parameters have gossip_encryption {wanted}"
    if primary and (now := gossip.get("secretName") or "") != params.gossip_key.secret:
        # Members with another key do not hear each other.
        return f"has {_gossip_key(now)}, the parameters want {_gossip_key(params.gossip_key.secret)}"
    return ""


def _on(value: bool) -> str:
    return "on" if value else "off"


def _gossip_key(secret: str) -> str:
    return f"the gossip key of secret {secret}" if secret else "a generated gossip key"


@check("other-installations", "no other Helm release owns what this one will own in the whole cluster")
def other_installations(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    names = {f"{target.fullname}-{suffix}" for suffix in _CLUSTER_WIDE}
    owned: dict[tuple[str, str], list[str]] = {}
    for resource in ("customresourcedefinitions", "clusterroles", "mutatingwebhookconfigurations"):
        for metadata in _metadata(target, resource):
            owner, name = _owner(metadata), metadata["name"]
            if owner is None or owner == (target.of.release, target.of.namespace):
                continue
            ours = name.endswith(_CRDS) or name in names
            if ours or metadata.get("labels", {}).get("chart") == _CHART_LABEL:
                owned.setdefault(owner, []).extend([name] if ours else [])
    for (release, where), taken in sorted(owned.items()):
        what = f"release {release} in namespace {where} is another installation of Consul"
        undo = f"helm uninstall {release} --kube-context {target.of.context} -n {where}"
        if taken:
            yield self.error(
                subject,
                f"{what} and owns {_some(taken)}; Helm would refuse to touch them",
                "correct release and namespace in the parameters if that is the one that is meant; else choose"
                f" another cluster, or remove it: {undo}",
            )
        else:
            yield self.warning(
                subject, f"{what}; its webhooks act on the same pods", f"if it is not needed: {undo}"
            )
    if not owned:
        yield self.ok(subject, "none")


@check("crds", "the custom resource definitions are this release's own, or the chart can bring them")
def crds(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, found = target.of, _metadata(target, "customresourcedefinitions")
    consuls = [each for each in found if each["name"].endswith(_CRDS)]
    wrong = [*_terminating(self, subject, consuls), *_ownerless(self, subject, target, consuls)]
    strangers = [
        each["name"]
        for each in found
        if each["name"].endswith(_GATEWAY_API) and _owner(each) != (of.release, of.namespace)
    ]
    if strangers and _brings_gateway_api(target):
        wrong.append(
            self.error(
                subject,
                f"the Gateway API is there already ({_some(strangers)}), and the chart would bring its own",
                "leave it to whoever brought it, in the parameters: values:"
                " {connectInject: {apiGateway: {manageExternalCRDs: false}}}",
            )
        )
    installed = target.release()
    # A release that stopped half way is completed by Helm, with all of its objects; one that is deployed is left alone.
    if (
        installed
        and installed.status == "deployed"
        and not target.params.chart.parsed.mode_in_values
        and not any(each["name"] == f"proxydefaults{_CRDS}" for each in consuls)
    ):
        wrong.append(
            self.error(
                subject,
                f"release {of.release} is installed, but the CRD proxydefaults{_CRDS} is gone",
                f"helm rollback {of.release} {installed.revision} --kube-context {of.context} -n {of.namespace}"
                " makes the objects of that revision again",
            )
        )
    there = f"{len(consuls)} of Consul are there" if consuls else "none yet; the chart brings them"
    yield from wrong or [self.ok(subject, there)]


def _terminating(self: Check, subject: str, consuls: Iterable[Mapping[str, Any]]) -> list[Finding]:
    stuck = [each["name"] for each in consuls if each.get("deletionTimestamp")]
    if not stuck:
        return []
    kind = stuck[0]
    return [
        self.error(
            subject,
            f"{_some(stuck)} are being deleted and wait for their objects to go",
            f"see which are left (kubectl get {kind} -A); where no Consul runs any more, nobody takes their"
            " finalizers away: do it by hand, then run again",
        )
    ]


def _ownerless(
    self: Check, subject: str, target: Target, consuls: Iterable[Mapping[str, Any]]
) -> list[Finding]:
    of, free = target.of, [each["name"] for each in consuls if _owner(each) is None]
    if not free:
        return []
    adopt = (
        f"kubectl --context {of.context} annotate crd NAME {_OWNER[0]}={of.release} {_OWNER[1]}={of.namespace};"
        f" kubectl --context {of.context} label crd NAME app.kubernetes.io/managed-by=Helm"
    )
    return [
        self.error(
            subject,
            f"{_some(free)} belong to no Helm release; Helm would refuse to touch them",
            f"let this release have each of them: {adopt} (deleting them would delete all their objects)",
        )
    ]


def _brings_gateway_api(target: Target) -> bool:
    return (
        target.params.chart.parsed >= _BRINGS_GATEWAY_API
        and target.value("connectInject.apiGateway.manageExternalCRDs", True) is not False
        and target.value("global.installK8sNetworkingCRDs", True) is not False
    )


@check("leftovers", "nothing of an older installation would break or mislead the new one")
def leftovers(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, release, clear = target.of, target.release(), target.params.upgrade.clear_leftovers
    found: list[Finding] = []
    for job in target.list("jobs", of.namespace, f"release={of.release}"):
        if failed_job(job):
            name = job["metadata"]["name"]
            what = f"failed hook Job {name} is left over; the next upgrade would stop at it"
            if clear or release is None or release.ours:
                found.append(self.warning(subject, what, "the run removes it before Helm starts"))
            else:
                delete = f"kubectl --context {of.context} -n {of.namespace} delete job/{name}"
                hint = f"see its log; then {delete}, or set upgrade.clear_leftovers to true"
                found.append(self.error(subject, what, hint))
    if release is None:
        secrets = old_secrets(target.list, of.namespace, target.fullname, target.values())
        claims = sorted(claim["metadata"]["name"] for claim in server_claims(target))
        if clear and secrets and not claims:
            found.append(
                self.warning(
                    subject,
                    f"left from an older installation: {', '.join(f'secret {n}' for n in secrets)}",
                    "the run removes them before Helm starts",
                )
            )
        elif old := [*(f"secret {n}" for n in secrets), *(f"volume claim {n}" for n in claims)]:
            # With the claims goes the data: no parameter says that it is not needed.
            clears = "; or set upgrade.clear_leftovers to true" if secrets and not claims else ""
            delete = " ".join([*(f"secret/{n}" for n in secrets), *(f"pvc/{n}" for n in claims)])
            found.append(
                self.error(
                    subject,
                    f"left from an older installation: {', '.join(old)}",
                    f"if nothing there is needed: kubectl --context {of.context} -n {of.namespace} delete {delete}"
                    + clears,
                )
            )
    yield from found or [self.ok(subject, "none")]


def old_secrets(
    listed: Callable[..., list[dict[str, Any]]], namespace: str, fullname: str, values: Mapping[str, Any]
) -> list[str]:
    """Secrets that an installation which is gone left, and a new one of that name would take for its own.

    Args:
        listed: `list` of a cluster.
        values: those of the new one; what they refer to was put there on purpose.
    """
    suffixes = (
        "ca-cert",
        "ca-key",
        "bootstrap-acl-token",
        "gossip-encryption-key",
        "acl-replication-acl-token",
    )
    given = ("gossipEncryption", "tls.caCert", "tls.caKey", "acls.bootstrapToken")
    meant = {get(values, f"global.{path}.secretName") for path in given}
    # Releases are the largest Secrets by far, and none of them is meant.
    there = {each["metadata"]["name"] for each in listed("secrets", namespace, "owner!=helm", whole=False)}
    return sorted(there & {f"{fullname}-{suffix}" for suffix in suffixes} - meant)


def failed_job(job: Mapping[str, Any]) -> bool:
    """Whether a Job has given up."""
    return any(
        c["type"] == "Failed" and c["status"] == "True" for c in job.get("status", {}).get("conditions") or []
    )


def server_claims(target: Target) -> list[dict[str, Any]]:
    """The volume claims of the release's servers: `data-<namespace>-<pod>`, the namespace cut to 58 characters."""
    where = target.of.namespace
    cut = where[:58].removesuffix("-")
    name = re.compile(
        rf"data-({re.escape(cut)}-|{re.escape(where)}-)?{re.escape(target.fullname)}-server-\d+"
    )
    claims = target.list("persistentvolumeclaims", where)
    return [claim for claim in claims if name.fullmatch(claim["metadata"]["name"])]


def installations(cluster: Cluster) -> list[tuple[str, str]]:
    """(release, namespace) of every Helm release of Consul in a cluster, by the cluster-wide objects that each has."""
    roles = cluster.list("clusterroles", "", f"chart={_CHART_LABEL}", whole=False)
    return sorted({owner for each in roles if (owner := _owner(each["metadata"]))})


def _metadata(target: Target, resource: str) -> list[dict[str, Any]]:
    return [each["metadata"] for each in target.list(resource, whole=False)]


def _owner(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """(release, namespace) of the Helm release that an object belongs to; None where it belongs to none."""
    annotations = metadata.get("annotations") or {}
    name, where = (annotations.get(key, "") for key in _OWNER)
    return (name, where) if name else None


def _some(names: Iterable[str]) -> str:
    """The first names of a list that may be long."""
    names = sorted(set(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


EXISTING = (namespace, existing_release, other_installations, crds, leftovers)
