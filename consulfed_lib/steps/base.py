"""What all steps share: the order of their parts, dry run, progress, and the result that makes a record."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from ..cluster import Cluster
from ..errors import PreflightError, VerifyError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Change, Changes, Finding, Findings, Result
from ..show import Page, Text, as_yaml, display

Action = Callable[[], Change]


class Plan(Page):
    """What would change: values, diffs and a row for each action, under a digest of all of it."""

    def __init__(self, changes: Changes, *parts: Any):
        self.changes = changes
        self.digest = hashlib.sha256(
            json.dumps([changes.data(), [repr(part) for part in parts]], sort_keys=True).encode()
        ).hexdigest()
        super().__init__(*parts, changes, Text("Digest of the plan", f"sha256:{self.digest}"))


class Step(ABC):
    """A notebook's work. Subclasses fill in `look_before`, `planned`, `actions` and `look_after`.

    Each part runs what has to come before it if that has not run yet, so that cells may be run in any order.
    """

    def __init__(self, notebook: str, params: Federation):
        self.notebook = notebook
        self.params = params
        self.facts: dict[str, Any] = {}
        self._started = time.monotonic()
        self._findings: list[Finding] = []
        self._clusters: dict[str, Cluster] = {}
        self._before: Findings | None = None
        self._plan: Plan | None = None
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

    # -- called by notebooks ------------------------------------------------------------------------------------

    def preflight(self) -> Findings:
        """Look before anything is written. Raises PreflightError with every finding that stops the run."""
        self._before = Findings(f"Preflight of {self.subject}", self.look_before())
        if self._before.errors:
            display(self._before)
            raise PreflightError(
                f"{len(self._before.errors)} finding(s) stop {self.notebook}; nothing was written.",
                self._before.errors[0].hint or "mend them and run this notebook again",
                [f"{f.id} ({f.subject}): {f.found}" for f in self._before.errors],
            )
        return self._before

    def plan(self) -> Plan:
        """What would change. Nothing is written."""
        if self._before is None:
            self.preflight()
        self._plan = self.planned()
        return self._plan

    def apply(self) -> Changes:
        """Make the changes; in a dry run, say so and write nothing."""
        plan = self._plan or self.plan()
        if not plan.changes.rows:  # a notebook that only reads
            self._changes = plan.changes
            return self._changes
        if self.params.dry_run:
            apply = "Set dry_run to false (or `consulfed run --apply`) to apply this."
            print(
                f"Dry run: nothing was written. {apply if plan.changes.pending else 'Nothing would change.'}"
            )
            self._changes = plan.changes
            return self._changes
        rows: list[Change] = []
        try:
            for action in self.actions():
                row = timed(action)
                rows.append(row)
                print(f"{row.subject}: {row.id}: {row.outcome}: {row.what} ({row.seconds:.1f} s)")
        except BaseException:
            # The record of a change that stopped half way must say what was done, and how to undo it.
            display(Changes(f"Changes in {self.subject}, as far as they came", rows))
            raise
        self._changes = Changes(f"Changes in {self.subject}", rows)
        return self._changes

    def verify(self) -> Findings:
        """Look at the world again. Raises VerifyError with everything that is not as it should be."""
        if self._changes is None:
            self.apply()
        if self.params.dry_run and self._plan and self._plan.changes.pending:
            why = "dry run: there is nothing to look at until the plan is applied"
            self._after = Findings(
                f"Verification of {self.subject}", [Finding("dry-run", self.subject, "skipped", why)]
            )
            return self._after
        self._after = Findings(f"Verification of {self.subject}", self.look_after())
        if self._after.errors:
            display(self._after)
            raise VerifyError(
                f"{len(self._after.errors)} check(s) of {self.notebook} failed.",
                self._after.errors[0].hint,
                [f"{f.id} ({f.subject}): {f.found}" for f in self._after.errors],
            )
        return self._after

    def result(self) -> Result:
        """The end of the notebook, for a person and for a machine."""
        after = self._after if self._after is not None else self.verify()
        assert self._changes is not None
        return Result(
            notebook=self.notebook,
            federation=self.params.federation,
            subject=self.subject,
            outcome=self.outcome(self._changes, after),
            checks=[*(self._before.data() if self._before else []), *after.data()],
            changes=self._changes.data(),
            facts=self.facts | ({"plan": f"sha256:{self._plan.digest}"} if self._plan else {}),
            seconds=time.monotonic() - self._started,
            consulfed=__version__,
        )

    def outcome(self, changes: Changes, after: Findings) -> str:
        if self.params.dry_run and changes.pending:
            return "planned"
        return "applied" if changes.wrote else "unchanged"

    # -- shared by the steps ------------------------------------------------------------------------------------

    def cluster(self, of: ClusterParams) -> Cluster:
        """The client of a cluster, made once."""
        if of.context not in self._clusters:
            self._clusters[of.context] = Cluster(of.context, self.params.kubeconfig_path)
        return self._clusters[of.context]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._header().items())

    def _repr_html_(self) -> str:
        return Text(f"{self.notebook}: {self.subject}", as_yaml(self._header()))._repr_html_()

    def _writes(self) -> str:
        if type(self).actions is Step.actions:
            return "nothing: this notebook only reads"
        return "nothing: dry run" if self.params.dry_run else "changes will be made"

    def _header(self) -> dict[str, Any]:
        """Who, when, why, and with which effective parameters: papermill records only those that were passed."""
        return {
            "notebook": self.notebook,
            "federation": self.params.federation,
            "works on": self.subject,
            "reason": self.params.reason or "not given",
            "change id": self.params.change_id or "not given",
            "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            "by": f"{_user()} on {socket.gethostname()}",
            "mode": f"{self.params.mode}: {'interactive' if interactive(self.params.mode) else 'headless'}",
            "writes": self._writes(),
            "consulfed": __version__,
            "parameters": self.params.model_dump(
                exclude={"federation", "reason", "change_id", "dry_run", "mode"}
            ),
        }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def interactive(mode: str) -> bool:
    """Whether a person is there: a front end that takes input. It changes what is shown, never what is done."""
    if mode != "auto":
        return mode == "interactive"
    try:
        from IPython import get_ipython

        return bool(get_ipython().get_parent()["content"]["allow_stdin"])
    except (ImportError, AttributeError, KeyError, TypeError):
        return False


def timed(action: Action) -> Change:
    """Run an action and note how long it took."""
    start = time.monotonic()
    return replace(action(), seconds=round(time.monotonic() - start, 1))
