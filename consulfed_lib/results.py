"""What a step found and did: objects with a table for a person and data for a machine.

Two kinds, never mixed: a check reads and ends in a `Finding`; an action changes and ends in a `Change`.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from .palette import MARKS, Severity
from .tables import Table, pairs

__all__ = [
    "MARKS", "Change", "Changes", "Finding", "Findings", "Result", "Severity", "Table", "count", "now", "several",
]  # fmt: skip


def now() -> str:
    """This moment in UTC, as records write it: `2026-11-28T21:04:05.678Z`."""
    return f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        id: the check's id, stable for as long as the check exists.
        subject: the cluster, datacenter or ordered pair that it looked at.
        severity: `ok`, `warning`, `error`, or `skipped` (not looked at: never counts as proven).
        found: what was seen, with the value expected where it differs; never a secret.
        hint: what to do about it; empty when all is well.
        at: when its check began to look, in UTC (ISO 8601).
        seconds: how long its check looked.
    """

    id: str
    subject: str
    severity: Severity
    found: str
    hint: str = ""
    at: str = field(default="", compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Change:
    """What one action did, or would do in a dry run.

    Attributes:
        id: the action's id.
        subject: the cluster that it writes to.
        outcome: `unchanged`, `created`, `changed`, `deleted`, or `would create` …, or `waits` for another step.
        what: the object, and what about it.
        seconds: how long it took, waiting included.
        undo: how it is taken back.
        at: when it began, in UTC (ISO 8601).
    """

    id: str
    subject: str
    outcome: str
    what: str
    seconds: float = 0.0
    undo: str = ""
    at: str = field(default="", compare=False)

    @property
    def wrote(self) -> bool:
        return self.outcome in {"created", "changed", "deleted"}


def several(number: int, word: str) -> str:
    """
    >>> several(1, "server"), several(3, "server")
    ('1 server', '3 servers')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _said(finding: Finding) -> tuple[str, ...]:
    """Family of the check, and all that it says."""
    return finding.id.partition("-")[0], finding.subject, finding.severity, finding.found, finding.hint


class Findings(Table):
    """The findings of several checks."""

    kind = "findings"
    columns = ("id", "subject", "severity", "found", "hint")

    def _rows_shown(self) -> list[Finding]:
        """Checks of one family that say the same, one after another, are one row: `values-… (29 checks)`."""
        shown = []
        for (family, *_), group in groupby(self.rows, _said):
            rows = list(group)
            shown += rows if len(rows) < 4 else [replace(rows[0], id=f"{family}-… ({len(rows)} checks)")]
        return shown

    @property
    def errors(self) -> list[Finding]:
        return [row for row in self.rows if row.severity == "error"]

    @property
    def passed(self) -> bool:
        """Nothing wrong; a skipped check is not wrong, but it is not green either (see `proven`)."""
        return not self.errors

    @property
    def proven(self) -> bool:
        """Everything was looked at, and all of it is well (warnings allowed)."""
        return bool(self.rows) and all(row.severity in {"ok", "warning"} for row in self.rows)

    def summary(self) -> str:
        counts = {
            s: sum(row.severity == s for row in self.rows) for s in ("ok", "warning", "error", "skipped")
        }
        return ", ".join(f"{n} {s}" for s, n in counts.items() if n) or "nothing to check"


def count(changes: Iterable[Mapping[str, Any]]) -> str:
    """How many changes of which outcome, in words.

    >>> count([{"outcome": "created"}, {"outcome": "unchanged"}, {"outcome": "unchanged"}])
    '1 created, 2 unchanged'
    """
    counts = Counter(change["outcome"] for change in changes)
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "nothing to do"


class Changes(Table):
    """What the actions of a step did, or would do."""

    kind = "changes"
    columns = ("id", "subject", "outcome", "what", "seconds", "undo")

    @property
    def wrote(self) -> bool:
        return any(row.wrote for row in self.rows)

    @property
    def pending(self) -> bool:
        """Something is still to be done: the rows of a plan that are not `unchanged`."""
        return any(row.outcome != "unchanged" for row in self.rows)

    def summary(self) -> str:
        return count(self.data())


@dataclass
class Result:
    """The end of a notebook: what it is worth as a record.

    Attributes:
        outcome: `planned` (dry run), `unchanged`, `applied` or `verified`; a notebook that failed has no result.
        plan: `{"digest", "document"}` of what would have been, or was, changed; None where nothing ever is.
        approved_plan: digest of the plan under which it was applied; empty: without approval.
        clusters: datacenter → who we were there, and which cluster it was (see `identity`).
        versions: of consulfed and of what it drove, as far as it met them.
        by: user and host.
        parameters: the effective ones; papermill records only those that were passed.
        started, ended: in UTC (ISO 8601).
    """

    notebook: str
    federation: str
    subject: str
    outcome: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    plan: dict[str, Any] | None = None
    approved_plan: str = ""
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    ended: str = ""

    MIME = "application/vnd.consulfed.result+json"

    def data(self) -> dict[str, Any]:
        return asdict(self)

    def __repr__(self) -> str:
        return (
            f"{self.notebook} {self.subject}: {self.outcome}"
            f" ({len(self.checks)} checks; {count(self.changes)}; {self.seconds:.1f} s)"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        rows = {
            "outcome": self.outcome, "federation": self.federation, "subject": self.subject,
            "checks": len(self.checks), "changes": count(self.changes),
            **self.facts, "seconds": f"{self.seconds:.1f}",
        }  # fmt: skip
        return {
            "text/plain": repr(self),
            "text/html": pairs(rows, f"<b>{html.escape(self.notebook)}</b>", "consulfed-result"),
            self.MIME: self.data(),
        }
