"""Which drill there is for each fault: where one looks, what has to be named, and what may stand beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import ParamsError

VERIFY = "verify"
"""The look of most drills: everything that `consulfed verify` looks at."""


class Named(NamedTuple):
    """What a look names: a check, and the datacenter or ordered pair that it speaks of."""

    check: str
    subject: str

    def __str__(self) -> str:
        return f"{self.check} ({self.subject})"


class Ground(NamedTuple):
    """The sandbox that a drill needs."""

    datacenters: int = 2
    servers: int = 1
    federated: bool = True

    def __str__(self) -> str:
        how = "federated" if self.federated else "with nothing in them"
        return f"{self.datacenters} datacenters, servers in each: {self.servers}, {how}"


FEDERATED = Ground()
THREE_SERVERS = Ground(servers=3)
EMPTY = Ground(federated=False)

ACLS, GOSSIP, PRIMARY_BALANCER, SECONDARY_BALANCER = NEEDS = (
    "ACLs",
    "gossip encryption",
    "a load balancer in front of the primary's gateways, whose address is announced",
    "a load balancer in front of the first secondary's gateways",
)
"""What a fault may need of the federation; the sandbox of the drills has it all."""


@dataclass(frozen=True)
class Drill:
    """One fault and what has to be said of it.

    Attributes:
        fault: its name in `sandbox.faults.FAULTS`.
        cause: what has to be named, as an error that follows from no other one; None: nothing may be.
        look: `verify`, or the notebook whose preflight is asked.
        severity: `warning` where the check warns, because a run mends that by itself or can go on.
        also: other causes that are right beside it → why they are.
        ground: the sandbox that it needs.
        needs: what of NEEDS.
        harmless: why nothing may be named where `cause` is None: the federation works with that fault.
    """

    fault: str
    cause: Named | None
    look: str = VERIFY
    severity: str = "error"
    also: Mapping[Named, str] = field(default_factory=dict)
    ground: Ground = FEDERATED
    harmless: str = ""
    needs: frozenset[str] = frozenset()

    def among(self, datacenters: Sequence[str]) -> Drill:
        """The same in a federation of these datacenters, the primary first: the fault is in its first secondary, or
        in the primary. What else is right beside a cause in the primary is so of every secondary.
        """
        primary, first, *_ = datacenters

        def renamed(named: Named, secondary: str) -> Named:
            names = {"dc1": primary, "dc2": secondary}
            return Named(named.check, " → ".join(names[each] for each in named.subject.split(" → ")))

        everywhere = self.cause is not None and self.cause.subject == "dc1"
        also = {
            renamed(named, secondary): why
            for named, why in self.also.items()
            for secondary in (datacenters[1:] if everywhere else [first])
        }
        return replace(self, cause=self.cause and renamed(self.cause, first), also=also)

    def unfit(self, servers: int, has: Iterable[str]) -> str:
        """Why it cannot be held in a federation of so many servers a datacenter that has that of NEEDS; else empty."""
        if not self.ground.federated:
            return "it needs clusters with nothing in them"
        if servers < self.ground.servers:
            return f"it needs {self.ground.servers} servers in each datacenter"
        missing = [each for each in NEEDS if each in self.needs and each not in set(has)]
        return f"it needs {' and '.join(missing)}" if missing else ""


_ALL = (
    # Gateways
    Drill("gateway-down", Named("gateway-registered", "dc2")),
    Drill("primary-gateway-down", Named("gateway-registered", "dc1")),
    Drill("gateway-address-changed", Named("secret-complete", "dc1"), needs=frozenset({PRIMARY_BALANCER})),
    Drill("stale-gateway-in-catalog", Named("stale-gateways", "dc1"), "01-primary-setup", "warning"),
    Drill(
        "tls-terminating-balancer",
        Named("gateway-from-primary", "dc1 → dc2"),
        needs=frozenset({SECONDARY_BALANCER}),
    ),
    Drill("firewall-drop", Named("gateway-from-secondary", "dc2 → dc1")),
    Drill(
        "load-balancer-pending",
        Named("gateway-pending", "dc1"),
        "01-primary-setup",
        also={
            Named("installed", "dc1"): "it says the same of the whole installation",
            Named("secret-complete", "dc1"): "the chart makes it only once the gateway has an address",
            Named("proxy-defaults-synced", "dc1"): "01 makes ProxyDefaults once the secret is there",
        },
        ground=EMPTY,
    ),
    # Secrets
    Drill("stale-copy", Named("secret-copy", "dc2")),
    Drill("wrong-ca-in-copy", Named("secret-copy", "dc2")),
    Drill("double-base64-ca", Named("secret-copy", "dc2")),
    Drill("federation-secret-edited", Named("secret-complete", "dc1")),
    Drill(
        "managed-by-stripped",
        None,
        harmless="the secret is known by its name; the label only helps who searches",
    ),
    Drill("gossip-key-mismatch", Named("secret-copy", "dc2"), needs=frozenset({GOSSIP})),
    Drill("expired-server-certificate", Named("server-certificate", "dc2")),
    Drill("replication-token-revoked", Named("replication-token", "dc1"), needs=frozenset({ACLS})),
    # Settings
    Drill("acls-off", Named("acl-replication", "dc2"), needs=frozenset({ACLS})),
    Drill("api-url-unreachable", Named("auth-method", "dc2"), needs=frozenset({ACLS})),
    Drill("proxy-defaults-missing", Named("proxy-defaults", "dc1")),
    # Servers
    Drill(
        "server-down",
        Named("servers", "dc2"),
        also={Named("autopilot", "dc2"): "it knows before raft has one server less"},
        ground=THREE_SERVERS,
    ),
    Drill("quorum-lost", Named("server-pod", "dc2"), ground=THREE_SERVERS),
    Drill("duplicate-datacenter", Named("server-pod", "dc2")),
    Drill("disk-full", Named("server-pod", "dc2")),
    Drill("partitioned", Named("api-reachable", "dc2")),
    # Kubernetes and Helm
    Drill("api-server-slow", None, harmless="everything takes longer and comes out as before"),
    Drill("api-server-down", Named("api-reachable", "dc2")),
    Drill("failed-job", Named("leftovers", "dc1"), "01-primary-setup", "warning"),
    Drill("release-pending", Named("existing-release", "dc1"), "01-primary-setup"),
    Drill("clock-skew", Named("clocks", "dc2"), "00-preflight"),
)

DRILLS: Mapping[str, Drill] = {drill.fault: drill for drill in _ALL}
"""Fault → its drill, in the order in which they are listed."""


def chosen(names: Iterable[str]) -> list[Drill]:
    """The drills of these faults, in the catalogue's order; all of them where none is named.

    Raises ParamsError that names everything that is no drill.
    """
    names = list(names)
    unknown = [name for name in names if name not in DRILLS]
    if unknown:
        raise ParamsError(
            f"There is no drill {', '.join(map(repr, unknown))}.", f"one of: {', '.join(DRILLS)}"
        )
    return [drill for name, drill in DRILLS.items() if not names or name in names]
