"""The approval that a run is given, and what it allows: the plan that was approved, or what is left of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ..errors import ApprovalError
from ..params import Federation
from ..plans import Document, PlanFile
from ..plans.approval import deviations, matches
from . import PER_SECONDARY

AGAIN = "look at what changed; then `consulfed plan PARAMS`, and have that plan approved"


class Approval:
    """What `approved_plan` of the parameters says of one notebook: the digest of its plan, or the file of the whole.

    With the file it can be told what has changed since, and a run that was killed goes on under the same approval.
    """

    def __init__(self, params: Federation, notebook: str):
        self._params = params
        self._notebook = notebook

    @property
    def given(self) -> bool:
        return bool(self._params.approved_plan)

    @property
    def label(self) -> str:
        """The notebook's name in the plan of the whole federation."""
        if self._notebook not in PER_SECONDARY:
            return self._notebook
        return f"{self._notebook} {self._params.chosen_secondary().datacenter}"

    @cached_property
    def file(self) -> PlanFile | None:
        """The plan of the whole federation; None where only a digest is given. Raises ApprovalError."""
        given = self._params.approved_plan
        if not given or given.startswith("sha256:"):
            return None
        found = PlanFile.read(Path(given))
        if found.federation != self._params.federation:
            raise ApprovalError(
                f"The approved plan is that of the federation {found.federation!r}, not of"
                f" {self._params.federation!r}.",
                "give the plan of this federation",
            )
        return found

    @property
    def document(self) -> Document | None:
        return self.file.notebooks.get(self.label) if self.file else None

    @property
    def digest(self) -> str:
        """Digest of what was approved, of the whole where the file is given; empty without approval."""
        return self.file.digest if self.file else self._params.approved_plan

    @property
    def mark(self) -> str:
        """What a Helm release is labelled with that is made under this approval; empty without approval."""
        digest = self.document.digest if self.document else self._params.approved_plan
        return digest.removeprefix("sha256:")[:40] if digest.startswith("sha256:") else ""

    def demand(self) -> None:
        """Raises ApprovalError where changes will be made that must be approved, and nothing is."""
        if self._params.require_approval and not self._params.dry_run and not self.given:
            raise ApprovalError(
                f"The federation {self._params.federation} requires an approved plan (require_approval), and none"
                " is given; nothing was written.",
                "consulfed plan PARAMS; have it approved; then consulfed run PARAMS --apply --approved-plan FILE",
            )

    def hold(self, now: Document, begun: bool) -> None:
        """Raises ApprovalError unless what would be done now was approved.

        Args:
            begun: see `plans.approval.deviations`.
        """
        found = self.deviations(now, begun)
        if found:
            raise ApprovalError(
                f"What {self.label} would do now is not what was approved; it wrote nothing.", AGAIN, found
            )

    def deviations(self, now: Document, begun: bool) -> list[str]:
        """What would be done now and was not approved, a sentence each."""
        if self.file is None:
            if matches(self._params.approved_plan, now):
                return []
            return [
                f"the plan is now {now.digest}, approved was {self._params.approved_plan}",
                "a digest alone does not tell what changed: give the plan's file instead",
            ]
        if self.document is None:
            return [f"{self.label} is not in the approved plan"] if now.pending else []
        return deviations(self.document, now, begun)
