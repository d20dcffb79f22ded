"""A rehearsal: plan, apply under that plan, verify, drills; and what came of each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import redact
from ..drills.catalogue import DRILLS, Drill, chosen
from ..drills.folders import Tell
from ..errors import ConsulfedError, Interrupted, LeakError, ParamsError, RecordError, VerifyError
from ..results import several
from ..sandbox.state import write_private
from .imitation import Imitation
from .stage import Stage

if TYPE_CHECKING:
    from ..drills.run import Report as Drills
    from ..run import Outcome

DEFAULT = (
    "gateway-down", "stale-copy", "replication-token-revoked", "proxy-defaults-missing", "api-server-down",
)  # fmt: skip
"""The drills of a rehearsal that names none: about six seconds each, and each of another kind."""

ALL = "all"

FEDERATION_SECONDS = 60
"""Within which a verification after an apply has to prove all."""


@dataclass(frozen=True)
class Choice:
    """The drills of a rehearsal, and why others that there are, or were asked for with `all`, are none."""

    drills: Sequence[Drill] = ()
    unfit: dict[str, str] = field(default_factory=dict)


def choose(names: Sequence[str], none: bool, imitation: Imitation) -> Choice:
    """The drills that these names mean in a federation of that shape.

    Args:
        names: faults; `all` for every one that fits; none of them for those of DEFAULT that fit.
        none: no drill at all.

    Raises ParamsError for a name that is none, and for one that does not fit: who names it wants it.
    """
    if none:
        return Choice()
    wanted = chosen([name for name in names if name != ALL] or DEFAULT)
    if ALL in names:
        wanted = list(DRILLS.values())
    why = {each.fault: each.unfit(imitation.params.servers, imitation.has) for each in wanted}
    unfit = {fault: reason for fault, reason in why.items() if reason}
    named = [f"{fault}: {reason}" for fault, reason in unfit.items() if fault in names]
    if named:
        raise ParamsError("Drills do not fit the federation.", "leave them out, or name others", named)
    datacenters = [each.datacenter for each in imitation.params.clusters]
    return Choice([each.among(datacenters) for each in wanted if each.fault not in unfit], unfit)


@dataclass
class Report:
    """What came of a rehearsal.

    Attributes:
        seconds: of each part.
        error: what it ended with; None where all of it passed.
        file: where the report itself is kept, beside the records of the rehearsal.
        kept: the sandbox that was kept: its folder and its kubeconfig.
    """

    imitation: Imitation
    choice: Choice
    plan: Outcome | None = None
    apply: Outcome | None = None
    verified: str = ""
    drills: Drills | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    error: ConsulfedError | None = None
    file: Path | None = None
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> list[str]:
        """What passed, in words."""
        held = [] if self.drills is None else [several(len(self.drills.outcomes), "drill")]
        return ["planned", "applied", "verified", *held]

    @property
    def records(self) -> list[Path]:
        return [each.record for each in (self.plan, self.apply) if each and each.record]

    def data(self) -> dict[str, Any]:
        """For a machine: the last line of `consulfed rehearse -o json`, and the file beside the records."""
        drills = self.drills.data() if self.drills else None
        return {
            "rehearsal": True,
            "federation": self.imitation.params.federation,
            "outcome": "failed" if self.error else "passed",
            "exit_code": self.error.exit_code if self.error else 0,
            "imitation": [asdict(row) for row in self.imitation.rows.rows],
            "plan": self.plan.summary() if self.plan else None,
            "apply": self.apply.summary() if self.apply else None,
            "verify": self.verified or None,
            "drills": drills,
            "drills_that_do_not_fit": self.choice.unfit,
            "seconds": {name: round(each, 1) for name, each in self.seconds.items()},
            "records": [str(each) for each in self.records],
            "file": str(self.file) if self.file else None,
            "kept": self.kept or None,
            "error": self.error.data() if self.error else None,
        }


class Rehearsal:
    """One rehearsal on a stage that is not up yet.

    Args:
        records: the records go into `<records>/<federation>-rehearsal/`.
        tell: gets one line at a time for the person who waits.
    """

    def __init__(self, stage: Stage, choice: Choice, records: Path, tell: Tell):
        self.report = Report(stage.imitation, choice)
        self._stage = stage
        self._records = records
        self._tell = tell

    def hold(self) -> Report:
        """All of it, as far as it goes: what it ends with is in the report. The stage stays up."""
        try:
            self._hold()
        except ConsulfedError as error:
            self.report.error = error
        except KeyboardInterrupt:
            self.report.error = Interrupted("Interrupted.", "rehearse again; nothing of it is half done")
        self._keep()
        return self.report

    def _hold(self) -> None:
        report, count = self.report, len(self._stage.imitation.params.clusters)
        with self._part("sandbox", f"bringing {several(count, 'cluster')} up"):
            self._stage.up()
        with self._part("plan", "plan"):
            report.plan = self._run("plan")
        assert report.plan is not None
        assert report.plan.record is not None, "a run without an error has one"
        self._tell(f"Plan {report.plan.plan}: {report.plan.record / 'plan.json'}")
        with self._part("apply", "apply, under that plan"):
            report.apply = self._run("run", dry_run=False, approved_plan=str(report.plan.record.absolute()))
        with self._part("verify", "verify"):
            self._verify()
        if report.choice.drills:
            with self._part("drills", several(len(report.choice.drills), "drill")):
                self._drill()

    @contextmanager
    def _part(self, name: str, what: str) -> Iterator[None]:
        self._tell(f"== {what}")
        start = time.monotonic()
        try:
            yield
        finally:
            self.report.seconds[name] = time.monotonic() - start

    def _run(self, kind: str, **changes: Any) -> Outcome:
        """One run of the notebooks; what it comes to is in the report also where it fails."""
        from ..run import carry_out

        params = self._stage.params().model_copy(update=changes)
        outcome = carry_out(params, kind=kind, records=self._records, tell=self._tell)
        if kind == "plan":
            self.report.plan = outcome
        else:
            self.report.apply = outcome
        if outcome.error:
            raise outcome.error
        return outcome

    def _verify(self) -> None:
        """As `consulfed verify` does it."""
        from ..verify.command import look

        params = self._stage.params()
        deadlines = params.timeouts.model_copy(update={"federation": FEDERATION_SECONDS})
        found = look(params.model_copy(update={"timeouts": deadlines}))
        self.report.verified = found.outcome
        self._tell(f"{found.outcome}: {found.findings.summary()}")
        if found.error:
            raise found.error

    def _drill(self) -> None:
        from ..drills.run import hold_on

        held = self.report.drills = hold_on(self._stage, self.report.choice.drills)
        if held.failed:
            raise VerifyError(
                f"{several(len(held.failed), 'drill')} of {len(held.outcomes)} failed.",
                "see what each drill found above; rehearse again with --keep, and look at the sandbox",
                held.failed,
            )

    def _keep(self) -> None:
        """The report as a file beside the records, named like the first of them; nothing where there is no record."""
        if not self.report.records:
            return
        first = self.report.records[0]
        self.report.file = first.parent / f"{first.name}.rehearsal.json"
        text = json.dumps(self.report.data(), ensure_ascii=False, indent=2)
        if redact.betrays(text):
            self.report.file = None
            self.report.error = LeakError(
                "The report of the rehearsal would have held a secret; it was not kept.",
                "please report this: it is a fault of consulfed",
            )
            return
        try:
            write_private(self.report.file, text.encode() + b"\n")
        except OSError as error:
            where, self.report.file = self.report.file, None
            self.report.error = self.report.error or RecordError(
                f"{where} cannot be written: {error.strerror}.", "choose another folder with --records"
            )
