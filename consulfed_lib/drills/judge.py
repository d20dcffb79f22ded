"""What looks at a broken federation are worth: is the cause named, and is nothing else called a cause?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..checks.layers import causes
from ..errors import ConsulfedError
from ..results import Finding
from .catalogue import Drill, Named

LOOKS = 3
"""So often the cause has to be named, without a pause: what depends on it goes on breaking meanwhile."""

PAUSE = 0.25
"""Seconds between two looks that have not seen it yet: Consul cannot be watched in its whole, and a look is work."""


class Clock(Protocol):
    """What is needed of the module `time`."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Sight:
    """What one look found.

    Attributes:
        causes: each error that follows from no other one → how many others follow from it.
        warnings: what was only warned of.
        error: why nothing is proven; empty where all was looked at and is well.
    """

    causes: Mapping[Named, int]
    warnings: frozenset[Named] = frozenset()
    error: str = ""

    @classmethod
    def of(cls, findings: Iterable[Finding], primary: str, error: ConsulfedError | None = None) -> Sight:
        """Args:
        primary: name of the primary datacenter.
        error: what the look ended with. Where no finding says why, it stands for itself: nobody named a cause.
        """
        findings = list(findings)
        found = {
            Named(c.finding.id, c.finding.subject): len(c.consequences) for c in causes(findings, primary)
        }
        if error is not None and not found and all(each.severity != "skipped" for each in findings):
            found[Named(type(error).__name__, error.found)] = 0
        warned = frozenset(Named(each.id, each.subject) for each in findings if each.severity == "warning")
        return cls(found, warned, error.found if error else "")

    def names(self, drill: Drill) -> bool:
        """Whether it names what the drill's fault is, as severely as it has to; of a harmless one, nothing."""
        if drill.cause is None:
            return not self.causes and not self.error
        return drill.cause in (self.causes if drill.severity == "error" else self.warnings)

    def false_alarms(self, drill: Drill) -> list[Named]:
        """Causes that are none."""
        right = {*drill.also, drill.cause} if drill.severity == "error" else set(drill.also)
        return [each for each in self.causes if each not in right]


@dataclass
class Outcome:
    """One drill, as a row of the table and as data.

    Attributes:
        check, subject: what named the fault, or should have; empty where nothing may be named.
        look: where one looked: `verify`, or a notebook.
        consequences: the most errors that a look counted as following from it.
        beside: other causes that are right, as far as they were named.
        false_alarms: other causes, which are none.
        named: seconds from the fault being in force to the end of the look that named it; None: never named. Of a
            harmless one: to the end of the first look.
        recovered: seconds from the fault being cleared to everything being proven again; None: not in time.
        looks: how many there were while the fault was in force.
        trouble: what else went wrong.
        harmless: why nothing may be named; empty where something has to be.
    """

    fault: str
    check: str
    subject: str
    look: str
    severity: str = "error"
    consequences: int = 0
    beside: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    named: float | None = None
    recovered: float | None = None
    looks: int = 0
    trouble: str = ""
    harmless: str = ""

    @classmethod
    def begin(cls, drill: Drill) -> Outcome:
        return cls(
            drill.fault, *(drill.cause or ("", "")), drill.look, drill.severity, harmless=drill.harmless
        )

    @property
    def passed(self) -> bool:
        return not self.why

    @property
    def why(self) -> str:
        """Why it did not pass; empty where it did."""
        reasons = []
        if self.trouble:
            reasons.append(self.trouble)
        elif self.named is None:
            reasons.append("not all was proven" if self.harmless else "never named")
        if self.false_alarms:
            reasons.append(f"called a cause and is none: {', '.join(self.false_alarms)}")
        if self.recovered is None:
            reasons.append("not well again after it was cleared")
        return "; ".join(reasons)

    def note(self, drill: Drill, sight: Sight) -> None:
        """One look while the fault is in force."""
        self.looks += 1
        if drill.cause and sight.names(drill):
            self.consequences = max(self.consequences, sight.causes.get(drill.cause, 0))
        self.beside += [
            text for each in drill.also if each in sight.causes and (text := str(each)) not in self.beside
        ]
        new = (str(each) for each in sight.false_alarms(drill))
        self.false_alarms += [text for text in new if text not in self.false_alarms]


def observe(
    outcome: Outcome,
    drill: Drill,
    look: Callable[[], Sight],
    deadline: float,
    looks: int = LOOKS,
    clock: Clock = time,
) -> None:
    """Look until the cause was named so many times, or never was within the deadline (seconds).

    A look in between that does not name it begins the count anew; the time is that of the first of those that count.
    """
    start, row = clock.monotonic(), 0
    while row < looks:
        sight = look()
        seconds = clock.monotonic() - start
        outcome.note(drill, sight)
        if sight.names(drill):
            row += 1
            outcome.named = outcome.named if row > 1 else round(seconds, 1)
        else:
            row, outcome.named = 0, None
            if seconds >= deadline:
                return
            clock.sleep(PAUSE)


def until_well(
    looks: Iterable[Callable[[], Sight]], drill: Drill, deadline: float, clock: Clock = time
) -> float | None:
    """Seconds until none of these looks has anything to say of the fault and all is proven; None: not in time."""
    start = clock.monotonic()
    while not all(_well(look(), drill) for look in looks):
        if clock.monotonic() - start >= deadline:
            return None
        clock.sleep(PAUSE)
    return round(clock.monotonic() - start, 1)


def _well(sight: Sight, drill: Drill) -> bool:
    return not sight.causes and not sight.error and drill.cause not in sight.warnings
