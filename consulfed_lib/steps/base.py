"""What all steps share: the order of their parts, dry run, progress, and the result that makes a record."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from .. import __version__
from ..checks import run_together
from ..cluster import Cluster
from ..errors import ApprovalError, ClusterError, PreflightError, ToolError, VerifyError
from ..helm import Charts
from ..identity import identity
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..places import whoami
from ..plans import Document
from ..presence import interactive
from ..results import Change, Changes, Finding, Findings, Result, now
from ..show import Picture, display
from .approval import Approval
from .confirmation import ask
from .header import header, page
from .parts import forget, part, settle
from .plan import Plan
from .unapplied import nothing_planned, without_a_federation

Action = Callable[[], Change]


class Step(ABC):
    """A notebook's work. Subclasses fill in `look_before`, `planned`, `actions` and `look_after`.

    Each part runs what has to come before it if that has not run yet, so that cells may be run in any order. One that
    is run again looks at the world again, and so does what comes after it.

    Attributes:
        running: the part that runs now; empty: none.
        done: what it has done so far; `doing`: what it does now.
        unapplied: whether there is nothing yet of the federation that it needs, and that is all that it can say.
        in_notebook: whether its parts are run by cells, in which an interrupt is the end of a cell and of nothing else.
    """

    everywhere = False
    """Whether it looks at every cluster of the federation, and not only at those that it works on."""
    uses_helm = False
    needs_federation = False
    """Whether there is nothing to do before 01 to 03 were applied."""

    def __init__(self, notebook: str, params: Federation):
        self.notebook = notebook
        self.params = params
        self.facts: dict[str, Any] = {}
        self.versions = {"consulfed": __version__, "chart": params.chart.version}
        self.identities: dict[str, dict[str, str]] = {}
        self._started, self._began = time.monotonic(), now()
        self._clusters: dict[str, Cluster] = {}
        self.running, self.doing = "", ""
        self.done: list[Change] = []
        self.in_notebook = False
        self._stopped = False
        self.unapplied = False
        self._before: Findings | None = None
        self._plan: Plan | None = None
        self._plan_shown = False
        self._changes: Changes | None = None
        self._after: Findings | None = None

    # -- filled in by each step ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def subject(self) -> str:
        """What it works on: a datacenter, or the federation."""

    @abstractmethod
    def look_before(self) -> list[Finding]:
        """Checks that must hold before anything is written."""

    @abstractmethod
    def planned(self) -> Plan:
        """What would change."""

    def actions(self) -> list[Action]:
        """The changes, in order; each acts only where the world differs, and says what it did."""
        return []

    @abstractmethod
    def look_after(self) -> list[Finding]:
        """Checks that must hold afterwards."""

    def changed_clusters(self) -> list[ClusterParams]:
        """The clusters that the plan speaks of."""
        return []

    def begun(self) -> bool:
        """Whether a run under the very approval that is given has begun the change already."""
        return False

    def picture(self, seen: Mapping[str, str]) -> Picture | None:
        """What is drawn while it waits, from what its waits have seen (what is waited for → state); None: nothing."""
        return None

    @property
    def name_to_type(self) -> str:
        """What a person types before it is written to."""
        return self.subject

    # -- called by notebooks ------------------------------------------------------------------------------------

    @part
    def preflight(self) -> Findings:
        """Look before anything is written. Raises PreflightError with every finding that stops the run, and
        ApprovalError where an approval is needed and none is given."""
        if self._before is not None:
            self._renew()
            self.facts = {}
        self.approval.demand()
        found = self.look_before()
        waiting = without_a_federation(self, found) if self.needs_federation else None
        self.unapplied = waiting is not None
        self._before = Findings(f"Preflight of {self.subject}", found if waiting is None else waiting)
        self._identify()
        self._before.about = {"clusters": self.identities, "versions": self.versions, "by": whoami()}
        if self._before.errors:
            display(self._before)
            raise PreflightError(
                f"{len(self._before.errors)} finding(s) stop {self.notebook}; nothing was written.",
                self._before.errors[0].hint or "mend them and run this notebook again",
                [f"{f.id} ({f.subject}): {f.found}" for f in self._before.errors],
            )
        return self._before

    @part
    def plan(self) -> Plan:
        """What would change. Nothing is written."""
        if self._plan is not None:
            self._renew()
        if self.unseen:
            self.preflight()
        self._plan = self.compute()
        self._plan_shown = self.running == "plan"
        return self._plan

    def _renew(self) -> None:
        """Forget what follows from the world as it was."""
        forget(self)
        self._plan = self._changes = self._after = None
        self._stopped = False

    def compute(self) -> Plan:
        """The plan for the world as it is now, whether it is ready for it or not."""
        plan = nothing_planned(self) if self.unapplied else self.planned()
        clusters = {of.datacenter: self._uid(of) for of in self.changed_clusters()} if plan.items else {}
        plan.seal(Document(self.notebook, self.subject, clusters, plan.items, plan.values))
        return plan

    @part
    def apply(self) -> Changes:
        """Make the changes; in a dry run, say so and write nothing."""
        if self._changes is not None or self._stopped:
            self._renew()
        plan = self._plan or self.plan()
        if not plan.changes.rows:  # a notebook that only reads
            self._changes = plan.changes
            return self._changes
        if self.params.dry_run:
            print(f"Dry run: nothing was written. {self._how_to_apply(plan.changes)}")
            self._changes = plan.changes
            return self._changes
        self._approved(self._confirmed(plan))
        self._changes = self._act()
        return self._changes

    def _how_to_apply(self, planned: Changes) -> str:
        if self.unapplied:
            return "There is no federation yet for this notebook to work on."
        if not planned.pending:
            return "Nothing would change."
        return "Set dry_run to false (or `consulfed run --apply`) to apply this."

    def _act(self) -> Changes:
        """All actions, one after another."""
        self._stopped = True
        try:
            for action in self.actions():
                self.doing = _name(action)
                row = timed(action)
                self.done.append(row)
                print(f"{row.subject}: {row.id}: {row.outcome}: {row.what} ({row.seconds:.1f} s)")
        except BaseException:
            # The record of a change that stopped half way must say what was done, and how to undo it.
            display(Changes(f"Changes in {self.subject}, as far as they came", self.done))
            raise
        self._stopped, self.doing = False, ""
        return Changes(f"Changes in {self.subject}", self.done)

    def _confirmed(self, plan: Plan) -> Plan:
        """The plan, once a person who is there has confirmed it. Raises ApprovalError where it is not confirmed, or
        where something else would be done by then."""
        if not plan.changes.pending or not interactive(self.params.mode):
            return plan
        if not self._plan_shown:
            display(plan)
        pending = [row for row in plan.changes if row.outcome != "unchanged"]
        display(Changes(f"To be applied in {self.subject}", pending))
        ask(self.name_to_type)
        self._plan = now = self.compute()
        assert plan.document is not None
        assert now.document is not None
        if now.document.digest != plan.document.digest:
            display(now)
            raise ApprovalError(
                f"What {self.notebook} would do now is not what was confirmed; it wrote nothing.",
                "look at the plan above, which is that of now; then run this cell again",
            )
        return now

    def _approved(self, plan: Plan) -> Plan:
        """The plan of this moment, which may be acted on. Raises ApprovalError where it is not what was approved."""
        if not self.approval.given:
            return plan
        self._plan = plan = self.compute()
        assert plan.document is not None
        self.approval.hold(plan.document, self.begun())
        return plan

    @part
    def verify(self) -> Findings:
        """Look at the world again. Raises VerifyError with everything that is not as it should be."""
        if self._changes is None:
            self.apply()
        if self.params.dry_run and self._plan and self._plan.changes.pending:
            then = "there is a federation" if self.unapplied else "the plan is applied"
            why = f"dry run: there is nothing to look at until {then}"
            self._after = Findings(
                f"Verification of {self.subject}", [Finding("dry-run", self.subject, "skipped", why)]
            )
            return self._after
        self._after = Findings(f"Verification of {self.subject}", self.look_after())
        if self._after.errors:
            for each in self._shown_when_failed(self._after):
                settle(each)
            raise self._failed(self._after)
        return self._after

    def _shown_when_failed(self, after: Findings) -> list[Any]:
        """What people are to see of findings that are not as they should be."""
        return [after]

    def _failed(self, after: Findings) -> VerifyError:
        """The error for findings that are not as they should be."""
        return VerifyError(
            f"{len(after.errors)} check(s) of {self.notebook} failed.",
            after.errors[0].hint,
            [f"{f.id} ({f.subject}): {f.found}" for f in after.errors],
        )

    @part
    def result(self) -> Result:
        """The end of the notebook, for a person and for a machine."""
        after = self._after if self._after is not None else self.verify()
        assert self._changes is not None
        plan = self._plan.data() if self._plan else None
        return Result(
            notebook=self.notebook,
            federation=self.params.federation,
            subject=self.subject,
            outcome=self.outcome(self._changes, after),
            checks=[*(self._before.data() if self._before else []), *after.data()],
            changes=self._changes.data(),
            facts=self.facts | ({"plan": plan["digest"]} if plan else {}),
            seconds=time.monotonic() - self._started,
            plan=plan,
            approved_plan=self.approval.digest,
            clusters=self.identities,
            versions=self.versions,
            by=whoami(),
            parameters=self.params.model_dump(),
            started=self._began,
            ended=now(),
        )

    def outcome(self, changes: Changes, after: Findings) -> str:
        if self.params.dry_run and changes.pending:
            return "planned"
        return "applied" if changes.wrote else "unchanged"

    # -- who and what -------------------------------------------------------------------------------------------

    @cached_property
    def approval(self) -> Approval:
        """The approval that the parameters give for this notebook."""
        return Approval(self.params, self.notebook)

    def _identify(self) -> None:
        """Note which clusters these are, and who we are there; one that does not answer is a check's to say."""

        def note(of: ClusterParams) -> list[Finding]:
            try:
                self.identities[of.datacenter] = identity(self.cluster(of))
            except ClusterError as error:
                self.identities[of.datacenter] = {"context": of.context, "error": error.found}
            return []

        if self.uses_helm:
            with suppress(ToolError):  # the check `helm` says it
                self.versions["helm"] = Charts().version()
        met = [of for of in self.params.clusters if self.everywhere or of.context in self._clusters]
        run_together(partial(note, of) for of in met)

    def _uid(self, of: ClusterParams) -> str:
        known = self.identities.get(of.datacenter, {}).get("uid")
        return known or self.cluster(of).uid()

    @property
    def unseen(self) -> bool:
        """Whether preflight has not looked yet, or has not seen what this notebook needs."""
        return self._before is None or bool(self._before.errors) or self.unapplied

    # -- shared by the steps ------------------------------------------------------------------------------------

    def cluster(self, of: ClusterParams) -> Cluster:
        """The client of a cluster, made once."""
        if of.context not in self._clusters:
            self._clusters[of.context] = Cluster(of.context, self.params.kubeconfig_path)
        return self._clusters[of.context]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in header(self).items())

    def _repr_html_(self) -> str:
        return page(self)

    def writes(self) -> str:
        """Whether it will write, in words."""
        if type(self).actions is Step.actions:
            return "nothing: this notebook only reads"
        return "nothing: dry run" if self.params.dry_run else "changes will be made"


def _name(action: Action) -> str:
    """What an action does, in words: `wait_until_ready`, and a partial of it, is "wait until ready"."""
    called = action.func if isinstance(action, partial) else action
    return getattr(called, "__name__", "an action").strip("_").replace("_", " ")


def timed(action: Action) -> Change:
    """Run an action and note how long it took."""
    start, at = time.monotonic(), now()
    return replace(action(), seconds=round(time.monotonic() - start, 1), at=at)
