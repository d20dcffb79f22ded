"""Cause and consequence: in which order checks build on each other, so that the first broken one is named.

A federation that is broken in one place fails in many checks. What stands further down in LAYERS and speaks of the
same datacenters as an error above it, and lives on the connection between them, follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..results import Finding

LAYERS: Mapping[str, tuple[str, ...]] = {
    "Kubernetes API": ("api-reachable", "permissions", "server-pod"),
    "shared secrets": (
        "secret-complete", "secret-copy", "federation-secret", "server-ca", "gossip-key", "replication-token",
    ),
    "servers": ("servers", "autopilot"),
    "server certificate": ("server-certificate",),
    "gateway": ("gateway-registered", "gateway-address", "gateway-addresses"),
    "network": ("gateway-from-secondary", "gateway-from-primary", "api-url-from-primary", "api-url-from-secondary"),
    "way to the primary": ("primary-gateways",),
    "RPC through gateways": ("node-health", "catalog-services"),
    "gossip": ("datacenters", "wan-members", "consul-versions", "gossip-keys"),
    "federation states": ("federation-states",),
    "ACL replication": ("acl-replication", "acl-canary"),
    "ACL logins": ("auth-method", "anonymous-policy", "binding-rules"),
    "mesh CA": ("ca-root", "connect-ca"),
    "config entries": ("proxy-defaults",),
    "UI": ("ui",),
    "who may read": ("secret-readers",),
    "over time": ("stability",),
}  # fmt: skip
"""Layer → its checks; the first layer is what all others stand on."""

ORDER: Mapping[str, int] = {id: n for n, id in enumerate(id for ids in LAYERS.values() for id in ids)}

_FOLLOW = {
    "federation-secret", "server-ca", "gossip-key", "replication-token", "gateway-address", "gateway-addresses",
    "gateway-from-secondary", "gateway-from-primary", "primary-gateways", "node-health", "catalog-services",
    "datacenters", "wan-members", "consul-versions", "federation-states", "acl-replication",
    "acl-canary", "auth-method", "ca-root", "connect-ca", "proxy-defaults", "ui", "stability",
}  # fmt: skip
"""Checks that fail because something below them does; the others are causes by themselves."""

_FROM_THE_PRIMARY = {
    "proxy-defaults",
    "acl-replication",
    "acl-canary",
    "auth-method",
    "ca-root",
    "connect-ca",
}
"""Checks of a secondary that look at what comes from the primary."""

_OF_ALL = {
    "datacenters",
    "wan-members",
    "consul-versions",
    "federation-states",
    "ui",
    "stability",
}
"""Checks of one datacenter that look at what it knows of all others."""

_INDEPENDENT = {"secret-readers", "binding-rules", "consul-versions"}
"""Checks whose failing breaks nothing that others look at."""


@dataclass(frozen=True)
class Cause:
    """An error that follows from no other one, and those that follow from it."""

    finding: Finding
    consequences: tuple[Finding, ...]


def layer(id: str) -> str:
    """The layer of a check, in words; empty for one that has none."""
    return next((name for name, ids in LAYERS.items() if id in ids), "")


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Causes before consequences."""
    return sorted(findings, key=lambda finding: ORDER.get(finding.id, len(ORDER)))


def causes(findings: Iterable[Finding], primary: str = "") -> list[Cause]:
    """The errors that follow from no other one, each with what follows from it.

    Args:
        primary: name of the primary datacenter, from which some things come to all others.
    """
    found: list[tuple[Finding, list[Finding]]] = []
    for finding in in_order(each for each in findings if each.severity == "error"):
        above = next((each for each in found if _follows(finding, each[0], primary)), None)
        if above:
            above[1].append(finding)
        else:
            found.append((finding, []))
    return [Cause(finding, tuple(consequences)) for finding, consequences in found]


def _follows(finding: Finding, cause: Finding, primary: str) -> bool:
    if finding.id not in _FOLLOW or cause.id in _INDEPENDENT:
        return False
    deeper = ORDER.get(finding.id, len(ORDER)) > ORDER.get(cause.id, len(ORDER))
    beside = layer(finding.id) == layer(cause.id) != ""
    about = _about(finding) | ({primary} if finding.id in _FROM_THE_PRIMARY else set())
    return (deeper or beside) and (finding.id in _OF_ALL or bool(about & _about(cause)))


def _about(finding: Finding) -> set[str]:
    """The datacenters that a finding speaks of."""
    return set(finding.subject.split(" → "))


def links(findings: Iterable[Finding], names: Sequence[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """(from, to) → (verdict, first layer that is not well) of each ordered pair, from the checks of that pair."""
    verdicts = {}
    findings = list(findings)
    for a in names:
        for b in names:
            if a != b:
                of_pair = in_order(f for f in findings if f.subject == f"{a} → {b}")
                verdicts[a, b] = worst(of_pair)
    return verdicts


def worst(findings: Sequence[Finding]) -> tuple[str, str]:
    """(the worst severity among them, the layer of the first that has it); nothing looked at is `skipped`."""
    for severity in ("error", "warning", "skipped"):
        first = next((f for f in findings if f.severity == severity), None)
        if first:
            return severity, layer(first.id)
    return ("ok", "") if findings else ("skipped", "")
