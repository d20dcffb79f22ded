"""00-preflight: reads every cluster at once, before anything is written."""

from __future__ import annotations

from ..checks.preflight import look_at_clusters
from ..checks.values import look_with_chart
from ..results import Changes, Finding
from .base import Plan, Step


class Preflight(Step):
    """Is every cluster ready for the whole federation?"""

    @property
    def subject(self) -> str:
        return f"federation {self.params.federation}"

    def look_before(self) -> list[Finding]:
        return look_with_chart(self.params) + look_at_clusters(self.params)

    def planned(self) -> Plan:
        return Plan(Changes("Preflight only reads"))

    def look_after(self) -> list[Finding]:
        return []

    def outcome(self, changes: Changes, after: object) -> str:
        return "verified"
