"""90-defederate: one secondary is taken out of the federation, also one whose cluster is gone.

First that cluster, then the primary, so that nothing that is removed there is made again. It is no part of a whole run:
it is asked for by its number, and does nothing without the datacenter's name.
"""

from __future__ import annotations

from functools import cached_property, partial

from ..checks import run_together
from ..checks.leaving import (
    by_hand,
    leaving_cluster,
    leaving_release,
    left_accounts,
    left_cluster,
    left_others,
    left_pool,
    left_secret,
    left_state,
    left_unseen,
)
from ..checks.permissions import permissions
from ..checks.preflight import api_reachable, distinct_clusters, helm_program
from ..checks.secrets import secret_complete
from ..checks.target import Target
from ..errors import ParamsError, VerifyError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..presence import interactive
from ..results import Change, Changes, Finding, Findings
from ..secret import find
from .base import Action, Step
from .connect import datacenter, server_pod_ready
from .departure import Departure
from .parts import part
from .plan import Plan
from .removal import Known, Removal
from .verification import Verification

_VERIFICATION = "04-verification"


class Defederation(Step):
    """Out of the cluster, out of the pool, out of the primary's ACLs; and the others as before."""

    uses_helm = True
    needs_federation = True
    _known: Known | None = None

    @property
    def of(self) -> ClusterParams:
        return self.params.chosen_secondary()

    @property
    def subject(self) -> str:
        return self.of.datacenter

    @property
    def gone(self) -> bool:
        """Whether the cluster cannot be reached, as the parameters say."""
        return self.params.leave.unreachable

    @property
    def _undo(self) -> str:
        return f"run 02-secret-transfer and 03-secondary-setup again for {self.subject}"

    @cached_property
    def rest(self) -> Federation:
        """The federation without the datacenter that leaves; to be looked at, not to be tried by writing."""
        others = [each for each in self.params.secondaries if each.datacenter != self.subject]
        looks = self.params.verification.model_copy(update={"canary": False, "latency": 0})
        return self.params.model_copy(update={"secondaries": others, "secondary": "", "verification": looks})

    @cached_property
    def removal(self) -> Removal:
        secret = find(self.cluster(self.params.primary), self.params)
        remaining = [datacenter(self.params, of, self.cluster(of), secret) for of in self.rest.clusters]
        return Removal(self.params, self.of, remaining, self._undo)

    @property
    def departure(self) -> Departure:
        return Departure(self.params, self.of, self.cluster(self.of), self._undo)

    def _target(self) -> Target:
        """The cluster that leaves, as it is now."""
        return Target(self.params, self.of, self.cluster(self.of), notebook=self.notebook)

    # -- before -------------------------------------------------------------------------------------------------

    def look_before(self) -> list[Finding]:
        staying = self.rest.clusters
        found = run_together(
            [
                partial(leaving_cluster, self.subject, self.params, self.of),
                *(partial(api_reachable, of.datacenter, self.params, of) for of in staying),
            ]
        )
        if any(finding.severity == "error" for finding in found):
            return found
        targets = [Target(self.params, of, self.cluster(of), notebook=_VERIFICATION) for of in staying]
        targets += [] if self.gone else [self._target()]
        found += distinct_clusters(self.subject, targets)
        found += run_together(partial(permissions, target.of.datacenter, target) for target in targets)
        if any(finding.severity == "error" for finding in found):
            return found
        primary = self.params.primary
        found += secret_complete(primary.datacenter, self.params, self.cluster(primary), True)
        for of in staying:
            found += server_pod_ready(of.datacenter, self.params, of, self.cluster(of))
        if not self.gone:
            found += leaving_release(self.subject, targets[-1])
            found += (
                helm_program("this machine", self.cluster(self.of)) if self.params.leave.uninstall else []
            )
        return found

    def changed_clusters(self) -> list[ClusterParams]:
        return [self.params.primary] if self.gone else [self.params.primary, self.of]

    def planned(self) -> Plan:
        self._known = self.removal.look()
        rows = [self._not_there()] if self.gone else self.departure.rows()
        rows += self.removal.rows(self._known)
        return Plan(Changes(f"Plan for {self.subject} ({self.of.context}), which leaves", rows))

    def _not_there(self) -> Change:
        what = f"nothing in {self.of.context}, which does not answer; what is to be done there later is in `undo`"
        return Change("release", self.subject, "unchanged", what, undo=by_hand(self.params, self.of))

    # -- apply --------------------------------------------------------------------------------------------------

    def _confirmed(self, plan: Plan) -> Plan:
        """The parameters may give the name, or a person who is there. Raises ParamsError where neither is so."""
        given = self.params.leave.confirm
        if not plan.changes.pending or given == self.subject:
            return plan
        if given or not interactive(self.params.mode):
            raise ParamsError(
                f"{self.subject} would leave the federation, and leave.confirm is {given!r}; nothing was written.",
                f'if that is meant, give its name in the parameters: leave: {{confirm: "{self.subject}"}}',
            )
        return super()._confirmed(plan)

    def actions(self) -> list[Action]:
        assert self._known is not None  # there is a plan before anything is done
        return ([] if self.gone else self.departure.actions()) + self.removal.actions(self._known)

    # -- afterwards ---------------------------------------------------------------------------------------------

    def look_after(self) -> list[Finding]:
        assert self._known is not None
        now, primary = self.removal.look(), self.removal.primary
        found = self._look_at_cluster()
        for dc in self.removal.remaining:
            found += left_pool(dc.name, dc, self.subject)
        if self.params.acls:
            found += left_accounts(primary.name, now.accounts)
            found += left_others(primary.name, self._known.others, now.others)
        found += left_state(primary.name, primary, self.subject)
        return found + self._look_at_rest()

    def _look_at_cluster(self) -> list[Finding]:
        found = left_unseen(self.subject, self.params, self.of)
        if self.gone:
            self.facts["to do by hand"] = by_hand(self.params, self.of)
            return found
        if claims := self.departure.claims():
            self.facts["volume claims that stay"] = ", ".join(claims)
        target = self._target()
        return found + left_cluster(self.subject, target) + left_secret(self.subject, target)

    def _look_at_rest(self) -> list[Finding]:
        """Everything that 04 looks at, for the federation without the datacenter that left."""
        proof = Verification(_VERIFICATION, self.rest)
        proof._clusters = self._clusters
        found = proof.look_after()
        self.facts |= {f"the others {key}": value for key, value in proof.facts.items()}
        self.versions |= {key: value for key, value in proof.versions.items() if key not in self.versions}
        return found

    @part
    def verify(self) -> Findings:
        """Raises VerifyError also where a check could not look: what was not seen is not proven."""
        after = super().verify()
        unseen = [f"{f.id} ({f.subject}): {f.found}" for f in after if f.severity == "skipped"]
        if unseen and not (self.params.dry_run and after.rows[0].id == "dry-run"):
            raise VerifyError(
                f"{len(unseen)} of {len(after)} checks could not look; what was not seen is not proven.",
                "give the rights or the access that each of them names, and run this again",
                unseen,
            )
        return after
