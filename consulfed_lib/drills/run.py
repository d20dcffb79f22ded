"""Holding drills: one after another on one sandbox, a new one where a fault could not be taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConsulfedError
from ..results import Table, several
from .catalogue import DRILLS, VERIFY, Drill, Ground
from .folders import Tell, own_folder
from .ground import DrillSandbox, FederatedSandbox, home
from .judge import LOOKS, Outcome, observe, until_well

HEALTHY_LOOKS = 20
"""Looks at a healthy federation before all drills; none of them may find anything."""

NAMED_SECONDS = 120
"""Within which the cause has to be named: servers take up to 60 s to hear of what happened elsewhere."""

WELL_SECONDS = 420
"""Within which all has to be well again; ACL replication that had failed took 230 s to try again, measured."""


class Drills(Table):
    """What came of each drill."""

    kind = "drills"
    columns = ("fault", "check", "subject", "consequences", "named", "recovered", "beside", "passed", "why")

    def _cell(self, row: Any, column: str) -> str:
        value = getattr(row, column)
        if column == "passed":
            return "✔ passed" if value else "✘ failed"
        if column == "check":
            return value or "nothing, as it has to be"
        if column == "beside":
            return ", ".join(value)
        if column in {"named", "recovered"}:
            return "never" if value is None else f"{value:.1f} s"
        return super()._cell(row, column)

    def summary(self) -> str:
        failed = sum(not row.passed for row in self.rows)
        return (
            f"{several(len(self.rows), 'drill')}, {failed} failed" if failed else f"{len(self.rows)} passed"
        )


@dataclass
class Report:
    """All drills that were held.

    Attributes:
        healthy: looks at the healthy federation.
        alarms: what these found, though there was nothing to be found.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    healthy: int = 0
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> list[str]:
        """Everything that was not as it should be."""
        found = [f"{each.fault}: {each.why}" for each in self.outcomes if not each.passed]
        return [*(f"a healthy federation: {alarm}" for alarm in self.alarms), *found]

    def table(self) -> str:
        alarms = ", ".join(self.alarms) or "nothing found"
        return f"{Drills('Drills', self.outcomes)!r}\n{several(self.healthy, 'look')} at a healthy federation: {alarms}"

    def data(self) -> dict[str, Any]:
        return {
            "passed": not self.failed,
            "seconds": round(self.seconds, 1),
            "healthy": {"looks": self.healthy, "alarms": self.alarms},
            "drills": [asdict(each) | {"passed": each.passed, "why": each.why} for each in self.outcomes],
        }


def hold(drills: Sequence[Drill], tell: Tell) -> Report:
    """Hold these drills; one that fails leaves a healthy sandbox to the next, if need be a new one.

    Args:
        tell: gets one line at a time for the person who waits.

    Raises:
        ConsulfedError: a sandbox did not come up, or could not be federated or taken down.
    """
    report, start = Report(), time.monotonic()
    todo = HEALTHY_LOOKS if len(drills) == len(DRILLS) else LOOKS
    with own_folder(home(), "a drill", tell) as folder:
        for number, (ground, group) in enumerate(groupby(sorted(drills, key=_ground), key=_ground)):
            with _Sandboxes(ground, folder / str(number), tell) as sandboxes:
                if ground.federated:
                    _look_at_what_is_well(sandboxes.whole(), todo, report)
                    todo = LOOKS
                for drill in group:
                    report.outcomes.append(_hold_one(drill, sandboxes))
    order = list(DRILLS)
    report.outcomes.sort(key=lambda each: order.index(each.fault))
    report.seconds = time.monotonic() - start
    return report


def hold_on(sandbox: FederatedSandbox, drills: Sequence[Drill]) -> Report:
    """Hold these drills on one sandbox that is federated, and stays. Where it is not well again after one of them, the
    others are not held, and did not pass.
    """
    report, start, only = Report(), time.monotonic(), _Only(sandbox)
    _look_at_what_is_well(sandbox, LOOKS, report)
    for drill in drills:
        if only.broken:
            outcome = Outcome.begin(drill)
            outcome.trouble = f"not held: the sandbox was not well again after {only.broken}"
            report.outcomes.append(outcome)
            continue
        report.outcomes.append(_hold_one(drill, only))
    report.seconds = time.monotonic() - start
    return report


def _ground(drill: Drill) -> Ground:
    return drill.ground


class _Replaced(Protocol):
    """Where a drill gets its sandbox from, and gives up one that it has left broken."""

    tell: Tell

    def whole(self) -> FederatedSandbox: ...

    def give_up(self, fault: str = "") -> None: ...


class _Only:
    """A sandbox that is not replaced; `broken` is the fault that it was not well again after."""

    def __init__(self, sandbox: FederatedSandbox):
        self.tell = sandbox.tell
        self.broken = ""
        self._sandbox = sandbox

    def whole(self) -> FederatedSandbox:
        return self._sandbox

    def give_up(self, fault: str = "") -> None:
        self.broken = fault


class _Sandboxes:
    """The sandbox of a ground, replaced by a new one where it was left broken."""

    def __init__(self, ground: Ground, folder: Path, tell: Tell):
        self.tell = tell
        self._ground = ground
        self._folder = folder
        self._made = 0
        self._sandbox: DrillSandbox | None = None

    def __enter__(self) -> _Sandboxes:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def whole(self) -> DrillSandbox:
        """One that is up and without a fault."""
        if self._sandbox is None:
            self._made += 1
            self._sandbox = DrillSandbox(self._ground, self._folder / str(self._made), self.tell)
            self._sandbox.up()
        return self._sandbox

    def give_up(self, fault: str = "") -> None:
        """Take it down; the next drill gets a new one."""
        if self._sandbox is not None:
            self._sandbox.down()
            self._sandbox = None


def _look_at_what_is_well(sandbox: FederatedSandbox, looks: int, report: Report) -> None:
    for _ in range(looks):
        sight = sandbox.look(VERIFY)
        report.healthy += 1
        found = [*map(str, sight.causes), *(f"warning: {each}" for each in sorted(sight.warnings))]
        if not found and sight.error:
            found = [sight.error]
        report.alarms += [each for each in found if each not in report.alarms]
    sandbox.tell(
        f"{several(looks, 'look')} at a healthy federation: {', '.join(report.alarms) or 'nothing found'}"
    )


def _hold_one(drill: Drill, sandboxes: _Replaced) -> Outcome:
    outcome, sandbox = Outcome.begin(drill), sandboxes.whole()
    looks = LOOKS if drill.ground.federated else 1  # a whole installation is tried for each of them
    try:
        sandbox.inject(drill.fault)
        observe(outcome, drill, lambda: sandbox.look(drill.look), NAMED_SECONDS, looks)
    except ConsulfedError as error:
        outcome.trouble = _words(error)
    try:
        sandbox.clear()
        outcome.recovered = _recover(sandbox, drill)
    except ConsulfedError as error:
        outcome.trouble = "; ".join(filter(None, (outcome.trouble, _words(error))))
    if outcome.recovered is None:
        sandboxes.tell(f"{drill.fault}: the sandbox is not well again, and no use to another drill")
        sandboxes.give_up(drill.fault)
    elif not drill.ground.federated:
        sandboxes.give_up()  # it is federated now
    sandboxes.tell(_told(outcome))
    return outcome


def _words(error: ConsulfedError) -> str:
    return f"{type(error).__name__}: {error.found}"


def _recover(sandbox: FederatedSandbox, drill: Drill) -> float | None:
    """Seconds until all is well; what was not federated yet is, by the same runbook that stopped before."""
    if drill.ground.federated:
        return until_well(list(_looks(sandbox, drill)), drill, WELL_SECONDS)
    assert isinstance(sandbox, DrillSandbox), "no other one is not federated"
    start = time.monotonic()
    sandbox.federate()
    return round(time.monotonic() - start, 1)


def _looks(sandbox: FederatedSandbox, drill: Drill) -> Iterator[Any]:
    for where in dict.fromkeys((drill.look, VERIFY)):
        yield lambda where=where: sandbox.look(where)


def _told(outcome: Outcome) -> str:
    if not outcome.passed:
        return f"✘ {outcome.fault}: {outcome.why}"
    if outcome.harmless:
        return f"✔ {outcome.fault}: nothing is named, as it has to be: {outcome.harmless}"
    follows = f", {several(outcome.consequences, 'consequence')}" if outcome.consequences else ""
    return (
        f"✔ {outcome.fault}: {outcome.check} ({outcome.subject}) after {outcome.named:.1f} s{follows};"
        f" well again after {outcome.recovered:.1f} s"
    )
