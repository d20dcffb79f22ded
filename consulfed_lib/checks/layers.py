"""Cause and consequence: in which order checks build on each other, so that the first broken one is named.

A federation that is broken in one place fails in many checks. What stands further down in LAYERS than an error, lives
on what that one looks at, and speaks of its datacenters, follows from it; from the nearest, where there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from ..results import Finding

LAYERS: Mapping[str, tuple[str, ...]] = {
    "Kubernetes API": ("api-reachable", "permissions", "server-pod"),
    "shared secrets": (
        "secret-complete", "secret-copy", "federation-secret", "server-ca", "gossip-key", "replication-token",
    ),
    "server certificate": ("server-certificate",),
    "servers": ("servers", "autopilot"),
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
    "who may read": ("secret-readers", "local-files"),
    "over time": ("stability",),
}  # fmt: skip
"""Layer → its checks; the first layer is what all others stand on."""

_RPC = "RPC through gateways"

ORDER: Mapping[str, int] = {id: n for n, id in enumerate(id for ids in LAYERS.values() for id in ids)}

_FOLLOW = {
    "federation-secret", "server-ca", "gossip-key", "replication-token", "gateway-address", "gateway-addresses",
    "gateway-from-secondary", "gateway-from-primary", "primary-gateways", "node-health", "catalog-services",
    "datacenters", "wan-members", "consul-versions", "federation-states", "acl-replication",
    "acl-canary", "ca-root", "connect-ca", "proxy-defaults", "ui", "stability",
}  # fmt: skip
"""Checks that fail because anything below them does; the others are causes by themselves, but for these:"""

_ASKED_WITH = {"server-certificate", "replication-token"}
"""Checks of how servers are asked: over TLS, with the replication token."""

_ANSWERED = {*_ASKED_WITH, "servers"}
"""Checks without which nothing is answered: without a leader nothing is, either."""

_FOLLOW_ONLY: Mapping[str, set[str]] = {
    "servers": _ASKED_WITH,
    "autopilot": _ANSWERED,
    "gateway-registered": _ANSWERED,
    "gossip-keys": _ANSWERED,
    "auth-method": _ANSWERED | {"gateway-registered", "gateway-from-secondary", "node-health"},
    "anonymous-policy": _ANSWERED,
}
"""Check → the only ones that it follows from; the secondary's set-up writes its auth method into the primary."""

_FELT_EVERYWHERE = {"replication-token"}
"""Checks of the primary whose failing is felt in every datacenter: each is asked with that token."""

_FROM_THE_PRIMARY = {
    "primary-gateways", "acl-replication", "acl-canary", "auth-method", "ca-root", "connect-ca", "proxy-defaults",
}  # fmt: skip
"""Checks of a secondary that look at what comes from the primary."""

_OF_ALL = {
    "datacenters", "wan-members", "consul-versions", "federation-states", "ui", "stability",
}  # fmt: skip
"""Checks of one datacenter that look at what it knows of all others."""

_COPIES, _OF_COPIES = {"secret-copy", "federation-secret"}, {"gateway-addresses"}
"""Checks of the copies of the federation secret, and those of the primary that look into each copy, too."""

_INDEPENDENT = {
    "api-url-from-primary", "api-url-from-secondary", "auth-method", "anonymous-policy", "binding-rules",
    "consul-versions", "proxy-defaults", "ui", "secret-readers", "local-files",
}  # fmt: skip
"""Checks whose failing breaks nothing that other checks look at."""


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
    errors = [each for each in findings if each.severity == "error"]
    # What comes from the primary is named there first.
    for finding in in_order(sorted(errors, key=lambda each: each.subject != primary)):
        above = next((each for each in reversed(found) if _follows(finding, each[0], primary)), None)
        if above:
            above[1].append(finding)
        else:
            found.append((finding, []))
    return [Cause(finding, tuple(consequences)) for finding, consequences in found]


def _follows(finding: Finding, cause: Finding, primary: str) -> bool:
    from_primary = finding.id in _FROM_THE_PRIMARY or cause.id in _FELT_EVERYWHERE
    related = finding.id in _OF_ALL or _about(cause) <= _about(finding) | (
        {primary} if from_primary else set()
    )
    if finding.id in _FOLLOW_ONLY:
        return related and cause.id in _FOLLOW_ONLY[finding.id]
    if finding.id not in _FOLLOW or (cause.id in _INDEPENDENT and cause.id != finding.id):
        return False
    if finding.id in _OF_COPIES and cause.id in _COPIES:
        return True
    if (
        layer(finding.id) == layer(cause.id) != ""
    ):  # what looks at the same end, or lacks what the primary lacks
        same = _end(finding) == _end(cause) or (from_primary and cause.subject == primary)
        return same or finding.id in _OF_ALL
    return related and ORDER.get(finding.id, len(ORDER)) > ORDER.get(cause.id, len(ORDER))


def _about(finding: Finding) -> set[str]:
    """The datacenters that a finding speaks of."""
    return set(finding.subject.split(" → "))


def _end(finding: Finding) -> str:
    """The datacenter that a finding looks at."""
    return finding.subject.rpartition(" → ")[2]


def links(findings: Iterable[Finding], names: Sequence[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """(from, to) → (verdict, first layer that is not well) of each ordered pair, from the checks of that pair.

    A way is proven only by a request that went it: with nothing but a connection to the gateway it is not.
    """
    verdicts = {}
    findings = list(findings)
    for a, b in permutations(names, 2):
        of_pair = in_order(f for f in findings if f.subject == f"{a} → {b}")
        severity, first = worst(of_pair)
        if of_pair and severity != "error" and not any(f.id in LAYERS[_RPC] for f in of_pair):
            severity, first = "skipped", _RPC
        verdicts[a, b] = severity, first
    return verdicts


def worst(findings: Sequence[Finding]) -> tuple[str, str]:
    """(the worst severity among them, the layer of the first that has it); nothing looked at is `skipped`."""
    for severity in ("error", "warning", "skipped"):
        first = next((f for f in findings if f.severity == severity), None)
        if first:
            return severity, layer(first.id)
    return ("ok", "") if findings else ("skipped", "")
