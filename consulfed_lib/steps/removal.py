"""What 90 does in the primary's Consul: the leaving datacenter's servers out of the WAN pool, its logins removed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from .. import leaving
from ..checks.federation import Datacenter, node_health
from ..checks.leaving import tell
from ..cluster import is_ready
from ..consul import Consul
from ..errors import WaitTimeoutError
from ..leaving import Accounts
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Change
from ..waiting import Seen, wait_for
from .base import Action

_IDS = {
    "auth-method": "auth-method",
    "binding-rule": "binding-rules",
    "token": "login-tokens",
    "role": "roles",
    "policy": "policies",
}
"""Kind of an ACL object → id of its row."""

_IN_POOL = (leaving.ALIVE, leaving.LEAVING)


@dataclass(frozen=True)
class Known:
    """What the primary has at one moment.

    Attributes:
        members: servers of the leaving datacenter in the WAN pool.
        accounts, others: ACL objects: those of the leaving datacenter, and all other ones.
        has_state: whether there is a federation state of it.
        answers: whether its Consul lives: the primary reads its servers' health through the gateways.
    """

    members: dict[str, int]
    accounts: Accounts
    others: Accounts
    has_state: bool
    answers: bool


@dataclass(frozen=True)
class Removal:
    """One datacenter, on its way out of what the others know.

    Attributes:
        of: the datacenter that leaves.
        remaining: the datacenters that stay, the primary first.
        undo: how all of it is taken back.
    """

    params: Federation
    of: ClusterParams
    remaining: Sequence[Datacenter]
    undo: str

    @property
    def name(self) -> str:
        return self.of.datacenter

    @property
    def primary(self) -> Datacenter:
        return self.remaining[0]

    def look(self) -> Known:
        consul, accounts, others = self.primary.consul, Accounts({}), Accounts({})
        if self.params.acls:
            accounts, others = leaving.accounts(consul, self.params.fullname(self.of), self.name)
        members, state = leaving.members(consul, self.name), leaving.has_state(consul, self.name)
        return Known(members, accounts, others, state, bool(members) and self._answers())

    def _row(self, id: str, outcome: str, what: str) -> Change:
        return Change(id, self.primary.name, outcome, what, undo="" if outcome == "unchanged" else self.undo)

    # -- plan ---------------------------------------------------------------------------------------------------

    def rows(self, known: Known) -> list[Change]:
        """A row for each thing that would go, and for what stays."""
        rows = [self._pool_row(*each, known.answers) for each in sorted(known.members.items())]
        for kind in leaving.KINDS:
            if known.accounts.of(kind):
                # Tokens come and go with their pods: a plan that names them would not be the same a minute later.
                what = known.accounts.names(kind) if kind != "token" else f"all of {self.name}"
                rows.append(self._row(_IDS[kind], "would delete", what))
        if known.has_state:
            what = f"of {self.name}: stays until the leader prunes it (once an hour); no API deletes it"
            rows.append(self._row("federation-state", "unchanged", what))
        return rows

    def _pool_row(self, member: str, status: int, answers: bool) -> Change:
        word = leaving.WORDS.get(status, str(status))
        if status in _IN_POOL and self._is_left_running(answers):
            return self._row("wan-member", "unchanged", f"{member} {word}: stays while it runs")
        if status not in _IN_POOL and not self._can_forget:
            return self._row(
                "wan-member", "unchanged", f"{member} {word}: forgotten after 72 h, not on request"
            )
        return self._row("wan-member", "would delete", f"{member} {word}")

    def _is_left_running(self, answers: bool) -> bool:
        """Whether its servers live, and are not ours to stop: those of a cluster that is kept, or out of reach."""
        leave = self.params.leave
        return answers and (leave.unreachable or not leave.uninstall)

    @property
    def _can_forget(self) -> bool:
        return leaving.can_forget(self.primary.consul.version())

    # -- actions ------------------------------------------------------------------------------------------------

    def actions(self, known: Known) -> list[Action]:
        """`known` is what was there when the plan was made."""
        kinds = leaving.KINDS if self.params.acls else ()
        return [partial(self.leave_pool, known), *(partial(self.delete, known, kind) for kind in kinds)]

    def leave_pool(self, known: Known) -> Change:
        """Until no remaining datacenter sees one of its servers alive; then what Consul can forget is forgotten."""
        if not self._is_left_running(known.answers):
            self._wait_until_missed()
        if self._can_forget:
            self._forget()
        after = leaving.members(self.primary.consul, self.name)
        out = [
            name for name, status in known.members.items() if name not in after or _left(status, after[name])
        ]
        kept = f"in the list: {tell(after)}" if after else "none in the list"
        if not out:
            return self._row("wan-member", "unchanged", kept)
        return self._row("wan-member", "deleted", f"{', '.join(sorted(out))}; {kept}")

    def _wait_until_missed(self) -> None:
        """A server that ended without a word is missed after a minute or two."""

        def look() -> Seen:
            alive = [
                f"{member} {leaving.WORDS[status]} in {dc.name}"
                for dc in self.remaining
                for member, status in sorted(leaving.members(dc.consul, self.name).items())
                if status in _IN_POOL
            ]
            return Seen(not alive, ", ".join(alive) or "none of its servers is alive in the WAN pool")

        limit = self.params.timeouts.federation
        if not self.params.leave.unreachable:
            hint = f"see that no server of {self.name} runs any more; then run this again"
            wait_for(f"{self.name} leaves the pool", look, limit, hint=hint)
        else:
            with suppress(WaitTimeoutError):  # whom they still see then is for the check of the pool to say
                wait_for(f"{self.name} is missed", look, limit)

    def _answers(self) -> bool:
        left = Datacenter(self.params, self.of, self.primary.cluster, self.primary.consul)
        return all(found.severity == "ok" for found in node_health(self.name, self.primary, left))

    def _forget(self) -> None:
        """Each server of the remaining datacenters is asked, because gossip may not have told it yet."""

        def look() -> Seen:
            left: dict[str, int] = {}
            for server in self._servers():
                with closing(server):
                    there = leaving.members(server, self.name)
                    gone = {member: status for member, status in there.items() if status not in _IN_POOL}
                    for member in gone:
                        leaving.forget(server, member)
                    left |= gone
            return Seen(not left, tell(left))

        wait_for(f"{self.name} is forgotten", look, self.params.timeouts.federation)

    def _servers(self) -> list[Consul]:
        return [
            dc.consul.beside(pod["metadata"]["name"])
            for dc in self.remaining
            for pod in dc.cluster.list("pods", dc.of.namespace, f"component=server,release={dc.of.release}")
            if is_ready(pod)
        ]

    def delete(self, known: Known, kind: str) -> Change:
        """All of one kind, one by one; what went with its auth method is told, too."""
        consul = self.primary.consul
        there = leaving.accounts(consul, self.params.fullname(self.of), self.name)[0].of(kind)
        for thing in there:
            leaving.delete(consul, kind, thing)
        went = [thing for thing in known.accounts.of(kind) if thing not in there]
        words = [
            *(thing.name for thing in there),
            *(f"{thing.name} (with the auth method)" for thing in went),
        ]
        if not words:
            return self._row(_IDS[kind], "unchanged", f"none of {self.name}")
        return self._row(_IDS[kind], "deleted", ", ".join(words))


def _left(before: int, after: int) -> bool:
    """Whether a member that is still in the list has left meanwhile."""
    return before != leaving.LEFT and after == leaving.LEFT
