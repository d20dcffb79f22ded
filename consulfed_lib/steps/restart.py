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
        """Each stale server is deleted, and the next one only when all are well again."""
        stale, done = self.stale(), []
        for name, has in stale.items():
            print(f"{self.dc.name}: restarting {name}: {difference(has, self.wanted())} …")
            servers = self.servers()
            self._wait(f"all servers well before {name} restarts", servers.health)
            before = servers.pods()[name]["metadata"]["uid"]
            self.dc.cluster.delete("pods", self.dc.of.namespace, name)
            self._wait(f"{name} back, and all servers well", partial(self._look, servers, name, before))
            done.append(name)
        what = (
            f"restarted one by one: {', '.join(done)}"
            if done
            else "started with the primary's gateways of now"
        )
        return self._row("changed" if done else "unchanged", what)

    def _look(self, servers: Servers, name: str, before: str) -> Seen:
        pod = servers.pods().get(name)
        if pod is None or pod["metadata"]["uid"] == before:
            return Seen(False, f"{name} is not replaced yet")
        return servers.health()

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
