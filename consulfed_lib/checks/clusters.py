"""Can Consul live in this cluster? Kubernetes' version, clocks, nodes, volumes, and who gives out addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import yaml

from ..chart import ChartVersion, stuck_on_kubernetes, supported_kubernetes
from ..errors import ConsulfedError
from ..results import Finding
from . import Check, check
from .existing import server_claims
from .target import Target

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_LATE, _TOO_LATE = 5.0, 60.0
"""Seconds between two clocks that are worth a warning, and that break things: what one side signs is not valid yet
on the other, and tokens that expire do so at once."""


# -- Kubernetes itself --------------------------------------------------------------------------------------------


@check("kubernetes-version", "the pinned chart runs on this cluster's version of Kubernetes")
def kubernetes_version(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    version, pinned = target.greeting().version, target.params.chart
    try:
        wanted = str(target.chart_metadata().get("kubeVersion") or "")
    except ConsulfedError:
        yield self.skipped(subject, f"Kubernetes {version}; the chart that says what it needs cannot be had")
        return
    fits = satisfies(version, wanted or ">=1.0")
    if fits is None:
        yield self.skipped(
            subject, f"Kubernetes {version}; the chart needs {wanted!r}, which cannot be compared"
        )
    elif not fits:
        yield self.error(
            subject,
            f"Kubernetes {version}; chart {pinned.version} needs {wanted}",
            "upgrade the cluster, or pin an older chart",
        )
    elif stuck := stuck_on_kubernetes(
        pinned.parsed,
        _minor(version),
        target.params.acls,
        target.params.gossip_encryption and not target.params.gossip_key.secret,
    ):
        yield self.error(subject, f"Kubernetes {version}; chart {pinned.version} {stuck[0]}", stuck[1])
    elif (known := _tested_with(pinned.version)) and not known[0] <= _minor(version) <= known[1]:
        low, high = (".".join(map(str, each)) for each in known)
        yield self.warning(
            subject,
            f"Kubernetes {version}; HashiCorp tests chart {pinned.version} with {low} to {high}",
            "it may work; where it does not, nobody will have seen it before: pin a chart of the cluster's time",
        )
    else:
        yield self.ok(subject, f"Kubernetes {version}" + (f"; the chart needs {wanted}" if wanted else ""))


def _tested_with(chart: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The range that HashiCorp publishes for a chart; for releases only, so not for `1.9.11-beta1`."""
    return None if "-" in chart else supported_kubernetes(ChartVersion.parse(chart))


def _minor(version: str) -> tuple[int, int]:
    """Major and minor number of a version that was understood before."""
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)


_COMPARISON = re.compile(r"(>=|<=|!=|=|>|<)?\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-[0-9A-Za-z.-]+)?")


def satisfies(version: str, constraint: str) -> bool | None:
    """Whether a Kubernetes version satisfies a chart's `kubeVersion`; None where either is not understood.

    Helm's grammar has more (`~`, `^`, `x`, ranges); charts of Consul have only comparisons. What comes after the
    numbers, such as `-eks-1552ad0`, is the distributor's and counts for nothing: Helm does the same for `-0`.

    >>> satisfies("v1.30.2-eks-1552ad0", ">=1.22.0-0")
    True
    """
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not numbers:
        return None
    have = tuple(int(part or 0) for part in numbers.groups())
    allowed = False
    for alternative in constraint.split("||"):
        parts = [part for part in re.split(r"\s*,\s*|\s+(?=[<>=!])", alternative.strip()) if part]
        matches = [_COMPARISON.fullmatch(part) for part in parts]
        if not parts or None in matches:
            return None
        allowed = allowed or all(_compare(have, match) for match in matches if match)
    return allowed


def _compare(have: tuple[int, ...], match: re.Match[str]) -> bool:
    sign, wanted = match[1] or "=", tuple(int(part or 0) for part in match.groups()[1:])
    return {
        ">=": have >= wanted, "<=": have <= wanted, ">": have > wanted, "<": have < wanted,
        "!=": have != wanted, "=": have == wanted,
    }[sign]  # fmt: skip


@check("clocks", "the clocks of the API server, of the nodes and of this machine agree")
def clocks(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    ahead = target.greeting().ahead
    if ahead is None:
        yield self.skipped(subject, "the API server's answers have no date")
        return
    leases = target.list_if_allowed("leases", "kube-node-lease")
    nodes = {
        lease["metadata"]["name"]: ahead + skew
        for lease in leases or []
        if (skew := _skew(lease)) is not None
    }
    wrong = {who: by for who, by in {"the API server": ahead, **nodes}.items() if abs(by) > _LATE}
    if not wrong:
        most = max(map(abs, nodes.values()), default=0)
        seen = f"those of {len(nodes)} nodes by at most {most:.0f} s" if nodes else "the nodes' were not seen"
        yield self.ok(subject, f"the API server's differs from this machine's by {abs(ahead):.0f} s, {seen}")
        return
    say = self.error if any(abs(by) > _TOO_LATE for by in wrong.values()) else self.warning
    what = ", ".join(
        f"{who} is {abs(by):.0f} s {'ahead' if by > 0 else 'behind'}" for who, by in sorted(wrong.items())[:5]
    )
    yield say(
        subject,
        f"against this machine's clock, {what}",
        "have all of them set by NTP, this machine's too: certificates and tokens are refused before their time",
    )


def _skew(lease: Mapping[str, Any]) -> float | None:
    """Seconds by which a node's clock is ahead of the API server's; None where its lease does not tell.

    A kubelet renews its lease every 10 s and writes its own time into it; the API server notes beside it, under
    `managedFields` and to the second, when it took that. So both clocks stand in one object.
    """
    renewed, noted = (
        lease.get("spec", {}).get("renewTime"),
        [
            entry.get("time")
            for entry in lease["metadata"].get("managedFields") or []
            if entry.get("manager") == "kubelet"
        ],
    )
    if not renewed or len(noted) != 1 or not noted[0]:
        return None
    return (datetime.fromisoformat(renewed) - datetime.fromisoformat(noted[0])).total_seconds() - 0.5


# -- nodes and volumes --------------------------------------------------------------------------------------------


@check("capacity", "there is a node for each Consul server (the chart places one a node)")
def capacity(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    wanted, nodes = target.params.servers, target.list("nodes")
    selector, tolerations = _yaml(target, "server.nodeSelector"), _yaml(target, "server.tolerations")
    if selector is None or tolerations is None:
        yield self.skipped(
            subject, "server.nodeSelector or server.tolerations is no plain YAML; not looked at"
        )
        return
    barred = {
        n["metadata"]["name"]: why for n in nodes if (why := _barred(n, selector or {}, tolerations or []))
    }
    usable = len(nodes) - len(barred)
    # The chart's own affinity, and most that people give, let no two servers share a node.
    spread = "requiredDuringScheduling" in str(target.value("server.affinity", "requiredDuringScheduling"))
    found = f"{usable} {'node' if usable == 1 else 'nodes'} can run servers, {wanted} wanted"
    if usable < (wanted if spread else 1):
        whys = "; ".join(f"{name} {why}" for name, why in sorted(barred.items())[:5])
        # Servers that run already need no other node; and where nodes are made on demand, more will come.
        report = self.warning if target.release() or _makes_nodes(nodes) else self.error
        yield report(
            subject,
            found + (f": {whys}" if whys else ""),
            "add nodes, or ask for fewer `servers`; server.nodeSelector, .tolerations and .affinity can be given"
            " in `values`",
        )
    elif usable < wanted:
        yield self.warning(
            subject, f"{found}: servers share nodes", "with one of these nodes more than one server is lost"
        )
    else:
        yield self.ok(subject, found)


def _makes_nodes(nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether something in the cluster makes nodes when pods need them, by the labels that it gives them."""
    marks = (
        "karpenter.sh/",
        "karpenter.azure.com/",
        "cloud.google.com/gke-provisioning",
        "eks.amazonaws.com/compute-type",
    )
    return any(label.startswith(marks) for node in nodes for label in node["metadata"].get("labels") or {})


def _yaml(target: Target, path: str) -> Any:
    """A value that the chart takes as YAML in a text: parsed; empty where it is not given; None for a template."""
    value = target.value(path)
    if not isinstance(value, str):
        return value or {}
    try:
        return None if "{{" in value else yaml.safe_load(value) or {}
    except yaml.YAMLError:
        return None


def _barred(node: Mapping[str, Any], selector: Mapping[str, Any], tolerations: Iterable[Any]) -> str:
    """Why a server's pod cannot run on a node; empty when it can."""
    spec, labels = node.get("spec", {}), node["metadata"].get("labels") or {}
    if spec.get("unschedulable"):
        return "is cordoned"
    conditions = node.get("status", {}).get("conditions") or []
    if any(c["type"] == "Ready" and c["status"] != "True" for c in conditions):
        return "is not ready"
    for key, value in selector.items():
        if labels.get(key) != str(value):
            return f"has not the label {key}={value}"
    for taint in spec.get("taints") or []:
        if taint.get("effect") != "PreferNoSchedule" and not any(_tolerates(t, taint) for t in tolerations):
            return f"has the taint {taint['key']}:{taint['effect']}"
    return ""


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (
        taint.get("value") or ""
    )


@check("storage", "the servers' volumes are there, or the storage class that makes them is")
def storage(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    claims = [claim for claim in server_claims(target) if claim.get("status", {}).get("phase") == "Bound"]
    if len(claims) >= target.params.servers:
        yield self.ok(subject, f"{len(claims)} volumes are there")
        return
    classes = {each["metadata"]["name"]: each for each in target.list("storageclasses")}
    named = target.value("server.storageClass") or ""
    defaults = [
        name
        for name, each in classes.items()
        if (each["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    there = f"there is {', '.join(sorted(classes))}" if classes else "there is none at all"
    if named and named not in classes:
        yield self.error(
            subject,
            f"the storage class {named!r} of server.storageClass does not exist; {there}",
            "the servers would wait for their volumes for ever: correct server.storageClass, or make that class",
        )
    elif not named and not defaults:
        yield self.error(
            subject,
            f"no storage class is the default; {there}",
            "the servers would wait for their volumes for ever: mark one as the default, or name one in the"
            " parameters: values: {server: {storageClass: NAME}}",
        )
    elif classes[name := named or sorted(defaults)[0]].get("provisioner") == "kubernetes.io/no-provisioner":
        yield self.warning(
            subject,
            f"volumes of the storage class {name} are made by hand",
            f"see that {target.params.servers} free PersistentVolume(s) of that class are there",
        )
    else:
        yield self.ok(subject, f"storage class {name}" + ("" if named else ", the default"))


CLUSTERS = (kubernetes_version, clocks, capacity, storage)
