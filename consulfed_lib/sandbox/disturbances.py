"""What the sandbox's own processes do otherwise than they should: load balancers, the network, API servers.

`faults` says what is disturbed, in its memory; the supervisor reads it (`faults.control`), and whoever is concerned
asks here: the Services controller for its load balancers and the paths to gateways, each API server for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

NO_ADDRESSES = "no-addresses"
"""A Service of type LoadBalancer that has no address is given none."""
TLS_ENDS = "tls-ends"
"""The load balancers of mesh gateways end TLS with a certificate of their own."""
DROPPED = "dropped"
"""Packets from one cluster to another one's gateways vanish."""
CUT_OFF = "cut-off"
"""Nothing passes between a cluster and the world."""
SLOW = "slow"
"""Each answer of the API server takes SLOW_SECONDS longer."""
DOWN = "down"
"""Nobody listens at the API server's address."""
CLOCK = "clock"
"""The API server's clock is AHEAD_SECONDS ahead, as its answers say."""

SLOW_SECONDS = 2.0
AHEAD_SECONDS = 600

OUTSIDE = 0
"""In the place of a cluster's number: this machine's people and their programs."""


class Disturbance(NamedTuple):
    """One of the words above, and the number of the cluster that it is about; of DROPPED also where packets begin."""

    what: str
    cluster: int
    source: int = OUTSIDE


class Disturbances:
    """Those that are in force in a sandbox."""

    def __init__(self) -> None:
        self._now: frozenset[Disturbance] = frozenset()
        self._subscribers: list[Callable[[], None]] = []

    def set(self, now: Iterable[Disturbance]) -> None:
        """These and no others; tells everyone who is concerned."""
        after = frozenset(now)
        if after != self._now:
            self._now = after
            for changed in list(self._subscribers):
                changed()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call it after each change; returns what ends that."""
        self._subscribers.append(changed)
        return lambda: self._subscribers.remove(changed)

    def has(self, what: str, cluster: int) -> bool:
        """Whether that is so in that cluster."""
        return any(each.what == what and each.cluster == cluster for each in self._now)

    def vanishes(self, source: int, at: int) -> bool:
        """Whether what is sent from one cluster (or OUTSIDE) gets lost on its way to another one."""
        if source == at:
            return False
        if self.has(CUT_OFF, at) or self.has(CUT_OFF, source):
            return True
        return Disturbance(DROPPED, at, source) in self._now

    def is_filtered(self, at: int) -> bool:
        """Whether anything gets lost on its way to that cluster."""
        return any(
            each.what == CUT_OFF or (each.what == DROPPED and each.cluster == at) for each in self._now
        )
