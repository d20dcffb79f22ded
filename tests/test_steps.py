"""The parts of a step: their order, dry run, plan and result. The steps themselves are proven on sandboxes (e2e)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consulfed_lib import steps
from consulfed_lib.errors import ApplyError, ParamsError, PreflightError, VerifyError
from consulfed_lib.params import Federation
from consulfed_lib.results import Change, Changes, Finding, Result
from consulfed_lib.show import Text
from consulfed_lib.steps.base import Action, Plan, Step


class Switch(Step):
    """A whole step in small: it turns something on, once."""

    subject = "dc1"

    def __init__(self, params: Federation, *, ready: bool = True, works: bool = True):
        super().__init__("01-primary-setup", params)
        self.ready, self.works, self.on, self.calls = ready, works, False, []

    def _finding(self, ok: bool) -> list[Finding]:
        return [
            Finding("switch", "dc1", "ok", "fine")
            if ok
            else Finding("switch", "dc1", "error", "bad", "mend it")
        ]

    def look_before(self) -> list[Finding]:
        self.calls.append("preflight")
        return self._finding(self.ready)

    def planned(self) -> Plan:
        self.calls.append("plan")
        outcome = "unchanged" if self.on else "would create"
        return Plan(Changes("Plan", [Change("switch", "dc1", outcome, "light")]), Text("Values", "x: 1"))

    def actions(self) -> list[Action]:
        return [self.turn_on]

    def turn_on(self) -> Change:
        self.calls.append("apply")
        outcome = "unchanged" if self.on else "created"
        self.on = self.works
        return Change("switch", "dc1", outcome, "light")

    def look_after(self) -> list[Finding]:
        self.calls.append("verify")
        return self._finding(self.on)


@pytest.fixture
def switch(federation: Callable[..., Federation]) -> Callable[..., Switch]:
    """Makes a switch; `dry_run` is false unless it is given."""
    return lambda dry_run=False, **kinds: Switch(federation(dry_run=dry_run), **kinds)


def test_each_part_runs_what_comes_before_it(switch: Callable[..., Switch]) -> None:
    """Running the last cell alone does everything, once, in order."""
    step = switch()
    assert step.result().outcome == "applied"
    assert step.calls == ["preflight", "plan", "apply", "verify"]


def test_a_dry_run_acts_on_nothing(switch: Callable[..., Switch]) -> None:
    """It plans, and what it could not look at is skipped, not green."""
    step = switch(dry_run=True)
    result = step.result()
    assert step.calls == ["preflight", "plan"]
    assert not step.on
    assert result.outcome == "planned"
    assert result.checks[-1]["severity"] == "skipped"


def test_a_dry_run_of_what_is_done_verifies(switch: Callable[..., Switch]) -> None:
    """Where nothing is planned there is something to look at."""
    step = switch(dry_run=True)
    step.on = True
    assert step.result().outcome == "unchanged"
    assert step.calls == ["preflight", "plan", "verify"]


def test_preflight_errors_stop_before_anything_is_written(switch: Callable[..., Switch]) -> None:
    """The error names the check, where it looked, and what to do."""
    step = switch(ready=False)
    with pytest.raises(PreflightError, match="switch \\(dc1\\): bad") as caught:
        step.apply()
    assert step.calls == ["preflight"]
    assert caught.value.hint == "mend it"


def test_acted_and_looked_and_it_was_not_so(switch: Callable[..., Switch]) -> None:
    """An action that reports success proves nothing: the look afterwards counts."""
    step = switch(works=False)
    with pytest.raises(VerifyError, match="switch \\(dc1\\): bad"):
        step.result()


def test_a_change_that_stops_half_way_is_recorded(switch: Callable[..., Switch], capsys) -> None:
    """What was done before the error, and how to undo it, stands in the notebook."""
    step = switch()

    def stop() -> Change:
        raise ApplyError("the second action failed")

    step.actions = lambda: [step.turn_on, stop]
    with pytest.raises(ApplyError):
        step.apply()
    assert "as far as they came: 1 created" in capsys.readouterr().out


def test_a_second_application_is_unchanged(switch: Callable[..., Switch]) -> None:
    """What is already so is reported as unchanged."""
    step = switch()
    step.on = True
    assert step.result().outcome == "unchanged"


def test_the_digest_of_a_plan_is_that_of_its_content(switch: Callable[..., Switch]) -> None:
    """The same plan has the same digest, another state of the world another one."""
    one, same, other = switch(), switch(dry_run=True), switch()
    other.on = True
    digest = one.plan().document.digest
    assert digest == same.plan().document.digest
    assert digest != other.plan().document.digest
    assert digest in repr(one.plan())


def test_a_result_is_for_people_and_machines(switch: Callable[..., Switch]) -> None:
    """The last cell holds both a table and JSON under a type of its own."""
    bundle = switch().result()._repr_mimebundle_()
    assert bundle[Result.MIME]["outcome"] == "applied"
    assert bundle[Result.MIME]["changes"][0]["id"] == "switch"
    assert "applied" in bundle["text/html"]


def test_the_header_says_whether_it_writes(switch: Callable[..., Switch]) -> None:
    """papermill records only parameters that were passed; the header shows the effective ones."""
    assert "writes: changes will be made" in repr(switch())
    assert "writes: nothing: dry run" in repr(switch(dry_run=True))
    assert "hashicorp/consul" in repr(switch())


def test_an_unknown_notebook_is_refused() -> None:
    """The names of the notebooks are those of the table."""
    with pytest.raises(ParamsError, match="no notebook"):
        steps.open("99-nothing", {})
