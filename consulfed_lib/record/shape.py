"""What `run.json` says of a run, field by field: the predicate `urn:consulfed:run-record:v1`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STOPPED = {"failed", "interrupted"}
"""Outcomes without a result."""

OfNotebook = Literal["planned", "applied", "unchanged", "verified", "failed", "interrupted"]


RunName = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z-[0-9a-f]{6}$")]
"""A run's id, and the name of its record."""


class _Model(BaseModel):
    """What else is in it is kept and not looked at: a later version may say more."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Error(_Model):
    """What a run or a notebook ended with."""

    found: str
    details: list[str] = []
    hint: str = ""
    exit_code: int | None = None


class Source(_Model):
    """A notebook of the runbook: SHA-256 of the file, and of the source of each code cell."""

    sha256: str
    cells: list[str]


class Runbook(_Model):
    """Which runbook was executed; commit and dirty are null where it is in no git checkout."""

    commit: str | None
    dirty: bool | None
    notebooks: dict[str, Source]


class Notebook(_Model):
    """One executed notebook; `seconds`, `started` and `ended` as papermill noted them."""

    file: str
    notebook: str
    secondary: str
    outcome: OfNotebook
    started: str | None
    ended: str | None
    seconds: float | int | None
    checks: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    error: dict[str, Any] | None


class PlanOf(_Model):
    """The plan that was made: its file, and the digest of its content."""

    file: str
    digest: str


class Approved(_Model):
    """The plan under which the run applied."""

    digest: str


class Previous(_Model):
    """The record before this one, and the SHA-256 of its run.json."""

    run: RunName
    sha256: str


class Predicate(_Model):
    """The whole. Times are in UTC (ISO 8601); digests are `sha256:…` over a value's canonical form.

    `left_out` names notebooks that were not written to their end: the run was killed, or the disk full.
    """

    run: RunName
    federation: str
    kind: Literal["plan", "run"]
    dry_run: bool
    reason: str
    change_id: str
    started: str
    ended: str
    outcome: OfNotebook
    error: dict[str, Any] | None
    by: dict[str, str]
    parameters: dict[str, Any]
    parameters_digest: str
    runbook: Runbook
    versions: dict[str, Any]
    clusters: dict[str, dict[str, Any]]
    notebooks: list[Notebook]
    plan: PlanOf | None
    approved_plan: Approved | None
    scan: dict[str, Any] | None
    previous: Previous | None
    left_out: list[str] = []

    @property
    def checks(self) -> list[dict[str, Any]]:
        return [check for notebook in self.notebooks for check in notebook.checks]

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [change for notebook in self.notebooks for change in notebook.changes]


def read(predicate: Mapping[str, Any]) -> tuple[Predicate | None, list[str]]:
    """(what is said, what is wrong with how it is said, a sentence each)."""
    try:
        return Predicate.model_validate(dict(predicate)), []
    except ValidationError as error:
        places = [
            (".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_input=False)
        ]
        return None, [f"its {place}: {message.lower()}" for place, message in places]
