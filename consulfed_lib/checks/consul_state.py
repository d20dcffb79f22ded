"""What Consul itself says of each datacenter: raft, versions, gossip, gateways, distances. Everything here reads."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..consul import Pool
from ..errors import ClusterError
from ..results import Finding, several
from . import Check, check, run_together
from .consul_acls import anonymous_policy, auth_method, binding_rules
from .federation import ALIVE, Datacenter


def _kubectl(dc: Datacenter) -> str:
    return f"kubectl --context {dc.of.context} -n {dc.of.namespace}"


# Raft


@check("autopilot", "raft's autopilot finds every server healthy, and with three or more one may fail")
def autopilot(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    health = dc.consul.autopilot_health()
    known = health.get("Servers") or []
    ill = [each for each in known if not each["Healthy"]]
    for each in ill:
        hint = f"see its log: {_kubectl(dc)} logs {each['Name']} --tail=50"
        yield self.error(subject, f"{each['Name']} is not healthy: {_illness(each, known)}", hint)
    if ill:
        return
    if not health["Healthy"]:
        yield self.error(
            subject,
            "it is not healthy, and no server is named",
            f"{_kubectl(dc)} logs {dc.consul.pod} --tail=50",
        )
        return
    tolerance, voters = health.get("FailureTolerance", 0), sum(bool(each["Voter"]) for each in known)
    if max(dc.params.servers, len(known)) >= 3 and tolerance == 0:
        yield self.warning(
            subject,
            f"no server may fail any more: {voters} of {several(len(known), 'server')} vote",
            f"see which one is missing: {_kubectl(dc)} get pods -l component=server,release={dc.of.release}",
        )
        return
    yield self.ok(subject, f"{several(len(known), 'server')} healthy, {tolerance} may fail")


def _illness(server: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> str:
    """Why autopilot calls a server unhealthy: serf, silence, or a log that is behind (operator/autopilot/health)."""
    if (status := server.get("SerfStatus")) != "alive":
        return f"gossip says {status or 'nothing'} of it"
    leaders = [each for each in known if each.get("Leader")]
    behind = leaders[0].get("LastIndex", 0) - server.get("LastIndex", 0) if leaders else 0
    heard = f"it heard from the leader {server.get('LastContact') or 'at no known time'} ago"
    return heard + (f", and is {behind} log entries behind" if behind > 0 else "")


# Gateways


@check("gateway-registered", "each gateway pod is registered for federation, and healthy")
def gateway_registered(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    wanted, found = dc.params.gateway(dc.of).replicas, dc.consul.service_health("mesh-gateway")
    see = f"{_kubectl(dc)} get pods -l component=mesh-gateway,release={dc.of.release}"
    restart = f"{_kubectl(dc)} rollout restart deployment/{dc.fullname}-mesh-gateway"
    bad = False
    for each in found:
        name, meta = each["Service"]["ID"], each["Service"].get("Meta") or {}
        failing = [c for c in each.get("Checks") or [] if c["Status"] != "passing"]
        for one in failing:
            bad = True
            yield self.error(subject, f"{name}: {one['Name']} is {one['Status']}", see)
        if meta.get("consul-wan-federation") != "1":
            bad = True
            yield self.error(
                subject,
                f"{name} is not registered for federation (no consul-wan-federation=1)",
                f"run the setup notebook of {dc.name}; if global.federation.enabled is on already: {restart}",
            )
    if not found:
        yield self.error(subject, f"no gateway is registered; expected {wanted}", see)
    elif len(found) != wanted:
        why = (
            "one that is gone is still registered, or they were scaled"
            if len(found) > wanted
            else "the others are not up"
        )
        yield self.warning(
            subject, f"{several(len(found), 'gateway')} registered; expected {wanted}: {why}", see
        )
    elif not bad:
        yield self.ok(subject, f"{several(len(found), 'gateway')} passing")


# Versions

Version = tuple[int, ...]
"""Major, minor, patch; empty where it is not said."""

_BROKEN: tuple[tuple[Callable[[Version, Version], bool], str, str], ...] = (
    (
        lambda primary, secondary: secondary[:2] >= (1, 14) and primary[:2] < (1, 13),
        "components of {dc} cannot log in at a primary older than 1.13 (consul-k8s #1798)",
        "upgrade {primary} to 1.13 or newer",
    ),
    (
        lambda primary, secondary: primary[:2] == (1, 17) and secondary[:2] == (1, 15),
        "{dc} cannot replicate the built-in policies of {primary} (consul #22116)",
        "upgrade {dc} to the version of {primary}",
    ),
)
"""Pairs (primary, secondary) that are known to break ACLs, what breaks, and the way out."""

_STREAMING = (1, 10, 0), (1, 10, 2)
"""From, to: federation over mesh gateways breaks with their streaming (consul #10796)."""


def _version(build: str) -> Version:
    """Of serf's tag `build`.

    >>> _version("1.22.7+ent:a1b2c3d4"), _version("1.8.7:")
    ((1, 22, 7), (1, 8, 7))
    """
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", build)
    return tuple(map(int, found.groups())) if found else ()


def _written(version: Version) -> str:
    return ".".join(map(str, version)) or "unknown"


@check("consul-versions", "the servers of all datacenters, as this one sees them, have one version of Consul")
def consul_versions(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    seen: dict[str, set[Version]] = defaultdict(set)
    for member in dc.consul.wan_members():
        if member["Status"] == ALIVE:
            tags = member.get("Tags") or {}
            seen[tags.get("dc", "")].add(_version(tags.get("build", "")))
    if not seen:
        yield self.skipped(subject, "it sees no server alive, or the token may not read nodes")
        return
    said = "; ".join(f"{name} {', '.join(map(_written, sorted(seen[name])))}" for name in sorted(seen))
    wrong = list(dict.fromkeys(_broken(dc, seen)))
    for found, hint in wrong:
        yield self.error(subject, f"{found}: {said}", hint)
    if wrong:
        return
    if not all(version for versions in seen.values() for version in versions):
        yield self.warning(subject, f"not every server says its version: {said}", "see their logs")
    elif len({version[:2] for versions in seen.values() for version in versions}) > 1:
        yield self.warning(
            subject,
            f"they differ: {said}",
            "bring all to the same chart version; watch acl-replication and logins after each datacenter",
        )
    else:
        yield self.ok(subject, said)


def _broken(dc: Datacenter, seen: Mapping[str, set[Version]]) -> Iterator[tuple[str, str]]:
    """(what breaks, way out) of the versions that are known to break."""
    first = dc.params.primary.datacenter
    for name, versions in seen.items():
        if any(_STREAMING[0] <= version <= _STREAMING[1] for version in versions):
            yield (
                f"federation breaks with the streaming of {name} (consul #10796)",
                f"upgrade {name} to 1.10.3 or newer",
            )
    for name in sorted(set(seen) - {first}) if dc.params.acls else ():
        for breaks, found, hint in _BROKEN:
            pairs = ((one, other) for one in seen.get(first, ()) for other in seen[name])
            if any(breaks(*pair) for pair in pairs if all(pair)):
                words = {"dc": name, "primary": first}
                yield found.format(**words), hint.format(**words)


# Gossip


@check("gossip-keys", "all nodes of the datacenter's gossip pools have exactly one key, the same")
def gossip_keys(self: Check, subject: str, dc: Datacenter, fingerprint_key: bytes) -> Iterator[Finding]:
    """`fingerprint_key`: the federation secret's, so that fingerprints are those of the other tables."""
    try:
        pools = [each for each in dc.consul.keyring() if each.wan or each.datacenter == dc.name]
    except ClusterError as error:
        # 403 in newer versions, 500 in 1.8: "Reading keyring denied by ACLs"
        if error.status == 403 or (error.status == 500 and "denied" in error.found):
            yield self.skipped(subject, 'the token may not read it: keyring = "read" is missing')
            return
        raise
    if not pools:
        yield self.skipped(subject, "Consul names no gossip pool")
        return
    hint = (
        "finish the rotation, with a token that may write the keyring: "
        f"{_kubectl(dc)} exec {dc.consul.pod} -- consul keyring -list; then -use the new key and -remove the old one"
    )
    wrong = [f"{_pool(each)}: {found}" for each in pools if (found := _uneven(each))]
    prints = {key.fingerprint(fingerprint_key) for each in pools for key, _ in each.keys}
    if not wrong and len(prints) > 1:
        wrong = ["the pool of all datacenters has another key than this one's own"]
    for each in wrong:
        yield self.error(subject, each, hint)
    if not wrong:
        counts = ", ".join(f"{several(each.nodes, 'node')} of {_pool(each)}" for each in pools)
        yield self.ok(subject, f"one key, fingerprint {prints.pop()}, on {counts}")


def _pool(pool: Pool) -> str:
    return "the WAN" if pool.wan else pool.datacenter


def _uneven(pool: Pool) -> str:
    """How a pool's keys are not one on every node; empty: they are."""
    if len(pool.keys) != 1:
        return f"{several(len(pool.keys), 'key')} on {several(pool.nodes, 'node')}; expected 1"
    held = pool.keys[0][1]
    return "" if held == pool.nodes else f"only {held} of {several(pool.nodes, 'node')} have its key"


# Distances


def round_trips(dc: Datacenter) -> dict[str, float | None]:
    """Other datacenters → milliseconds there and back, estimated from network coordinates; None: not measured yet.

    The median over all pairs of servers, each as Consul computes it (`consul rtt`). What another datacenter says of
    the same pair may differ: each has its own view.
    """
    known = {
        each["Datacenter"]: [one["Coord"] for one in each.get("Coordinates") or []]
        for each in dc.consul.coordinates()
        if str(each.get("AreaID", "")).lower() == "wan"
    }
    ours = [one for one in known.pop(dc.name, []) if any(one["Vec"])]
    far: dict[str, float | None] = {}
    for name, theirs in known.items():
        pairs = [_distance(one, other) for one in ours for other in theirs if any(other["Vec"])]
        far[name] = round(statistics.median(pairs) * 1000, 3) if pairs else None
    return far


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Seconds between two network coordinates ; adjustments count unless they make it negative."""
    plain = math.dist(one["Vec"], other["Vec"]) + one["Height"] + other["Height"]
    adjusted = plain + one["Adjustment"] + other["Adjustment"]
    return float(adjusted if adjusted > 0 else plain)


# All of it

CONSUL_CHECKS = (
    autopilot, consul_versions, gossip_keys, gateway_registered,
    auth_method, anonymous_policy, binding_rules,
)  # fmt: skip
"""In the order of cause and consequence, for the layers of a verification."""


def look_at_consul(dcs: Sequence[Datacenter], fingerprint_key: bytes | None = None) -> list[Finding]:
    """Every check in every datacenter, all datacenters together; the first is the primary.

    Args:
        fingerprint_key: the federation secret's; None: gossip keys are not asked for. The replication token that
            the chart makes may not read them, and what was asked for and not seen leaves a federation unproven.
    """
    primary, params = dcs[0], dcs[0].params

    def of_one(dc: Datacenter) -> list[Finding]:
        found = autopilot(dc.name, dc) + consul_versions(dc.name, dc)
        if fingerprint_key is not None and params.gossip_encryption:
            found += gossip_keys(dc.name, dc, fingerprint_key)
        found += gateway_registered(dc.name, dc)
        if not params.acls:
            return found
        if dc is primary:
            found += anonymous_policy(dc.name, dc)
        else:  # of the primary's Consul, whose one connection serves all of them in turn
            found += auth_method(dc.name, primary, dc, dc.of.api_url or dc.cluster.server)
        return found + binding_rules(dc.name, dc)

    order = [each.id for each in CONSUL_CHECKS]
    return sorted(
        run_together(partial(of_one, dc) for dc in dcs), key=lambda finding: order.index(finding.id)
    )
