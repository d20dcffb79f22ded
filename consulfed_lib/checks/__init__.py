"""Checks: each reads, and says what it found. What changes things is an action and lives with its step.

A check is a generator of findings with an id and a sentence that says what it proves; the catalogue holds all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import ConsulfedError
from ..results import Finding, now

Look = Callable[..., Iterator[Finding]]
Worst = Literal["error", "warning"]


@dataclass(frozen=True)
class Check:
    """A check. Calling it looks; an error while looking is a finding too, never a pass.

    Attributes:
        id: its stable name.
        proves: what is certain when it is ok.
        look: called with the check and the world; yields findings.
        severity: the worst that it reports. An `error` stops the run; a `warning` never does, also where the check
            could not look.
    """

    id: str
    proves: str
    look: Look
    severity: Worst = "error"

    def __call__(self, subject: str, *world: Any) -> list[Finding]:
        at, start = now(), time.monotonic()
        found = self._found(subject, *world) or [self.skipped(subject, "there was nothing to look at")]
        seconds = round(time.monotonic() - start, 3)
        return [replace(each, at=at, seconds=seconds) for each in found]

    def _found(self, subject: str, *world: Any) -> list[Finding]:
        try:
            return list(self.look(self, subject, *world))
        except ConsulfedError as error:
            return [Finding(self.id, subject, self.severity, error.found, error.hint)]

    def ok(self, subject: str, found: str) -> Finding:
        return Finding(self.id, subject, "ok", found)

    def warning(self, subject: str, found: str, hint: str) -> Finding:
        return Finding(self.id, subject, "warning", found, hint)

    def error(self, subject: str, found: str, hint: str) -> Finding:
        """Raises TypeError in a check that is declared to warn only: the catalogue would lie."""
        if self.severity != "error":
            raise TypeError(f"{self.id} is declared to report a {self.severity} at worst")
        return Finding(self.id, subject, "error", found, hint)

    def skipped(self, subject: str, why: str) -> Finding:
        return Finding(self.id, subject, "skipped", why)


CATALOGUE: dict[str, Check] = {}
"""Every check by its id, in the order in which they are declared."""


def check(id: str, proves: str, severity: Worst = "error") -> Callable[[Look], Check]:
    """Declare a check: the decorated generator gets the check itself, the subject, and the world."""

    def declare(look: Look) -> Check:
        if id in CATALOGUE:
            raise ValueError(f"two checks are called {id}")
        CATALOGUE[id] = Check(id, proves, look, severity)
        return CATALOGUE[id]

    return declare


def run_together(calls: Iterable[Callable[[], list[Finding]]]) -> list[Finding]:
    """Run independent looks at the same time; their findings in the order of the calls."""
    calls = list(calls)
    if not calls:
        return []
    pool = ThreadPoolExecutor(max_workers=min(16, len(calls)))
    try:
        return [finding for found in pool.map(lambda call: call(), calls) for finding in found]
    finally:  # who interrupts does not wait for looks that nobody needs any more
        pool.shutdown(wait=False, cancel_futures=True)
