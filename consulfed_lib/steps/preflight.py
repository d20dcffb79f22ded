"""00-preflight: reads every cluster at once, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..checks import Check, check, run_together
from ..checks.preflight import look_at_clusters
from ..checks.values import look_with_chart
from ..errors import ApprovalError
from ..params import Federation
from ..results import Changes, Finding, Findings
from . import open_step
from .approval import AGAIN
from .base import Step
from .parts import part
from .plan import Plan


class Preflight(Step):
    """Is every cluster ready for the whole federation?"""

    everywhere = True
    uses_helm = True

    @property
    def subject(self) -> str:
        return f"federation {self.params.federation}"

    def look_before(self) -> list[Finding]:
        return look_with_chart(self.params) + look_at_clusters(self.params)

    @part
    def preflight(self) -> Findings:
        """Look, and hold what every notebook would do against the approved plan before the first of them writes.

        Raises ApprovalError, beside what every preflight raises, with all that was not approved.
        """
        found = super().preflight()
        if self.approval.file is not None:
            found.rows += self._look_at_plans(list(self.approval.file.notebooks))
            if broken := [
                each for each in found.rows if each.id == approved_plan.id and each.severity == "error"
            ]:
                raise ApprovalError(
                    "What would be done now is not what was approved; nothing was written.",
                    AGAIN,
                    [line for each in broken for line in each.found.split("\n")],
                )
        return found

    def _look_at_plans(self, labels: list[str]) -> list[Finding]:
        known = {of.datacenter for of in self.params.secondaries}
        chosen = [label.partition(" ") for label in labels]
        return run_together(
            partial(
                approved_plan, secondary or self.params.primary.datacenter, self.params, notebook, secondary
            )
            for notebook, _, secondary in chosen
            if not secondary or secondary in known
        )

    def planned(self) -> Plan:
        return Plan(Changes("Preflight only reads"))

    def look_after(self) -> list[Finding]:
        return []

    def outcome(self, changes: Changes, after: object) -> str:
        return "verified"


@check("approved-plan", "what a notebook would do now is what was approved, or what is left of it")
def approved_plan(
    self: Check, subject: str, params: Federation, notebook: str, secondary: str
) -> Iterator[Finding]:
    step = open_step(notebook, params.model_copy(update={"secondary": secondary}))
    document = step.compute().document
    assert document is not None
    if found := step.approval.deviations(document, step.begun()):
        yield self.error(subject, "\n".join(f"{step.approval.label}: {each}" for each in found), AGAIN)
    else:
        left = len(document.pending)
        what = "all of it is done already" if not left else f"{left} of its items are to be done"
        yield self.ok(subject, f"{step.approval.label}: as approved; {what}")
