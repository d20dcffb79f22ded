"""Restarting the servers of a secondary, one by one, so that they read the federation secret as it is now.

Kubernetes does not do it: the secret is a mounted file, Consul reads it when it starts, and no checksum of it stands in
the StatefulSet's template (consul-facts §1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from ..checks.federation import Datacenter
from ..cluster import resource_path
from ..errors import ClusterError
from ..gateway import difference, listed
from ..params import Federation
from ..plans import Item, item_of
from ..results import Change
from ..secret import read
from ..servers import Servers
from ..values import merged
from ..waiting import Seen, wait_for

_PAUSE = 0.5
"""Seconds after which a server is asked again: of what goes on in Consul no watch of Kubernetes tells."""

_ELECTIONS = 20
"""So many in one wait are no restart of a server, which brings one or two."""


@dataclass(frozen=True)
class Restart:
    """The servers of one datacenter, and the primary's gateways that they must have been started with."""

    params: Federation
    dc: Datacenter

    def wanted(self) -> set[str]:
        """The primary's gateways as this datacenter's copy of the secret has them; what a server reads at its start."""
        copy = read(self.dc.cluster, self.dc.of.namespace, self.params.secret_name)
        return copy.gateways() if copy else set()

    def stale(self) -> dict[str, set[str]]:
        """Server → the gateways that it was started with, of each that was started with others than it would be now.

        One that does not answer is left out: whatever ails it, its next start reads the secret.
        """
        wanted, found = self.wanted(), {}
        for name in sorted(self.servers().pods(), reverse=True):
            try:
                with closing(self.dc.consul.beside(name)) as server:
                    has = set(server.settings().get("PrimaryGateways") or [])
            except ClusterError:
                continue
            if has != wanted:
                found[name] = has
        return found

    def servers(self) -> Servers:
        dc, values = self.dc, merged(self.params, self.dc.of).values
        return Servers(
            dc.cluster, dc.of.namespace, dc.of.release, dc.fullname, dc.name, values, self.params.servers, dc.consul
        )  # fmt: skip

    def planned(self) -> tuple[Change, Item]:
        """For the plan: which would be restarted, and why. What 02 of the same plan copies may make it more of them."""
        stale = self.stale()
        if stale:
            has = set().union(*stale.values())
            why = f"started with {listed(has)}, their secret has {listed(self.wanted())}"
            row = self._row("would restart", f"{', '.join(stale)}, one by one: {why}")
        else:
            row = self._row("unchanged", "started with the gateways that their secret has")
        what = "those that were started with other gateways than their secret has then, one by one"
        return row, item_of(row, by="02-secret-transfer", what=what)

    def apply(self) -> Change:
        """Each stale server is deleted, and the next one only when all are well again.

        The leader comes last. Who leads a secondary has to reach the primary, or gives up at once ("failed to
        establish leadership: Remote DC has no server currently reachable"): while the others still dial the gateways
        of before, none of them could follow it. Where it has gone away by itself, no leader stays until another server
        has been restarted.
        """
        servers, done = self.servers(), list[str]()
        while stale := {name: has for name, has in self.stale().items() if name not in done}:
            leader = servers.leader()
            name = next((each for each in stale if each != leader), leader)
            print(f"{self.dc.name}: restarting {name}: {difference(stale[name], self.wanted())} …")
            ready = partial(_well_or_lost, servers, servers.term())
            self._wait(f"all servers well before {name} restarts", ready)
            before = servers.pods()[name]["metadata"]["uid"]
            self.dc.cluster.delete("pods", self.dc.of.namespace, name)
            well = ready if stale.keys() - {name} else servers.health
            self._wait(f"{name} back, and all servers well", partial(_back, servers, name, before, well))
            done.append(name)
        what = (
            f"restarted one by one: {', '.join(done)}"
            if done
            else "started with the primary's gateways of now"
        )
        return self._row("changed" if done else "unchanged", what)

    def _wait(self, what: str, look: Callable[[], Seen]) -> None:
        with self.dc.cluster.watching(resource_path("pods", self.dc.of.namespace)) as bell:
            wait_for(
                f"{self.dc.name}: {what}",
                look,
                self.params.timeouts.ready,
                until_changed=lambda seconds: bell.wait(min(seconds, _PAUSE)),
                hint=f"the other servers go on serving; kubectl --context {self.dc.of.context} -n"
                f" {self.dc.of.namespace} get pods; mend it and run this notebook again",
            )

    def _row(self, outcome: str, what: str) -> Change:
        return Change("servers", self.dc.name, outcome, what)


def _back(servers: Servers, name: str, before: str, well: Callable[[], Seen]) -> Seen:
    """Whether a server runs in another pod than before, and how all of them are."""
    pod = servers.pods().get(name)
    if pod is None or pod["metadata"]["uid"] == before:
        return Seen(False, f"{name} is not replaced yet")
    if not any("running" in each["state"] for each in pod["status"].get("containerStatuses") or []):
        return Seen(False, f"{name} is not started yet")
    return well()


def _well_or_lost(servers: Servers, term: int) -> Seen:
    """Whether all are well, or no leader stays: then one more that is away takes nothing from anybody.

    Args:
        term: raft's, when the wait began.
    """
    seen = servers.health()
    elections = 0 if seen.done else servers.term() - term
    if elections >= _ELECTIONS:
        return Seen(True, f"no leader stays ({elections} elections): there is none to lose")
    return seen
