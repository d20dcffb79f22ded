"""A whole step in small, for tests of what all steps share: it turns something on, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from consulfed_lib.params import Federation
from consulfed_lib.results import Change, Changes, Finding
from consulfed_lib.show import Text
from consulfed_lib.steps.base import Action, Step
from consulfed_lib.steps.plan import Plan
from consulfed_lib.waiting import Seen, wait_for


class Switch(Step):
    """
    Args:
        ready: whether preflight finds it well.
        works: whether turning it on turns it on.
        held: the parts that wait, each until it is taken out of this set.
    """

    subject = "dc1"

    def __init__(self, params: Federation, *, ready: bool = True, works: bool = True):
        super().__init__("01-primary-setup", params)
        self.ready, self.works, self.on, self.calls = ready, works, False, list[str]()
        self.held: set[str] = set()
        self.state = "dark"

    def hold(self, where: str) -> None:
        wait_for(f"dc1: {where}", lambda: Seen(where not in self.held, self.state), 60)

    def _finding(self, ok: bool) -> list[Finding]:
        return [
            Finding("switch", "dc1", "ok", "fine")
            if ok
            else Finding("switch", "dc1", "error", "bad", "mend it")
        ]

    def look_before(self) -> list[Finding]:
        self.calls.append("preflight")
        self.hold("preflight")
        return self._finding(self.ready)

    def planned(self) -> Plan:
        self.calls.append("plan")
        self.hold("plan")
        outcome = "unchanged" if self.on else "would create"
        return Plan(Changes("Plan", [Change("switch", "dc1", outcome, "light")]), Text("Values", "x: 1"))

    def actions(self) -> list[Action]:
        return [self.turn_on, self.wait_for_light]

    def turn_on(self) -> Change:
        self.calls.append("apply")
        outcome = "unchanged" if self.on else "created"
        self.on = self.works
        return Change("switch", "dc1", outcome, "light")

    def wait_for_light(self) -> Change:
        """In a thread, as Helm is watched."""
        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(self.hold, "thread")
            self.hold("apply")
            seen.result()
        return Change("light", "dc1", "unchanged", "it shines")

    def look_after(self) -> list[Finding]:
        self.calls.append("verify")
        self.hold("verify")
        return self._finding(self.on)
