"""The parts of a step: their order, dry run, plan and result. The steps themselves are proven on sandboxes (e2e)."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace

import pytest

from consulfed_lib import steps
from consulfed_lib.errors import ApplyError, ApprovalError, ParamsError, PreflightError, VerifyError
from consulfed_lib.params import Federation
from consulfed_lib.results import Change, Result
from consulfed_lib.steps.base import Step

from .switch import Switch


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


def test_the_head_of_a_notebook_begins_with_what_is_looked_for(switch: Callable[..., Switch]) -> None:
    """Parameters fill a page: they are all there, and folded; of those that a cluster leaves out nothing is said."""
    shown, _, folded = switch()._repr_html_().partition("<details>")
    assert "changes will be made" in shown
    assert "hashicorp/consul" not in shown
    assert "hashicorp/consul" in folded
    assert "null" not in folded


def test_an_unknown_notebook_is_refused() -> None:
    """The names of the notebooks are those of the table."""
    with pytest.raises(ParamsError, match="no notebook"):
        steps.open("99-nothing", {})


# Again, and in another order


def test_a_part_that_is_run_again_looks_again(switch: Callable[..., Switch]) -> None:
    """And so does what comes after it: nothing of an older look is shown as of now."""
    step = switch()
    step.result()
    step.calls.clear()
    step.preflight()
    step.result()
    assert step.calls == ["preflight", "plan", "apply", "verify"]
    step.calls.clear()
    assert step.plan().changes.rows[0].outcome == "unchanged"
    assert step.result().outcome == "unchanged"
    assert step.calls == ["plan", "apply", "verify"]
    step.calls.clear()
    step.apply()
    assert step.calls == ["plan", "apply"]


def test_what_a_step_computed_once_is_computed_again_with_its_part(federation) -> None:
    """What it took from the world when it was first asked for, the world may have changed since."""

    class Remembers(Switch):
        @cached_property
        def seen(self) -> bool:
            return self.on

    step = Remembers(federation(dry_run=False))
    step.preflight()
    assert not step.seen
    step.apply()
    assert not step.seen
    step.preflight()
    assert step.seen


def test_nothing_goes_on_after_a_preflight_that_found_errors(switch: Callable[..., Switch]) -> None:
    """Who runs the next cell all the same has it looked at again."""
    step = switch(ready=False)
    for part in (step.preflight, step.plan, step.apply, step.result):
        with pytest.raises(PreflightError):
            part()
    assert step.calls == ["preflight"] * 4
    step.ready = True
    assert step.result().outcome == "applied"


def test_a_change_that_stopped_is_planned_again(switch: Callable[..., Switch]) -> None:
    """Its plan was for the world as it was before."""
    step = switch()

    def stop() -> Change:
        raise ApplyError("the second action failed")

    whole = step.actions
    step.actions = lambda: [step.turn_on, stop]
    with pytest.raises(ApplyError):
        step.apply()
    step.actions = whole
    assert step.result().outcome == "unchanged"
    assert step.calls == ["preflight", "plan", "apply", "plan", "apply", "verify"]


# Confirmed by a person


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A person at a keyboard, who types `answer`; what they were asked is in `questions`."""
    person = SimpleNamespace(answer="dc1", questions=[], meanwhile=lambda: None)

    def answer(question: str) -> str:
        person.questions.append(question)
        person.meanwhile()
        return person.answer

    monkeypatch.setattr(builtins, "input", answer)
    return person


def test_a_person_confirms_by_the_datacenters_name(federation, asked, capsys) -> None:
    """They see what would be done, and are asked once; what is as it should be asks nobody."""
    step = Switch(federation(dry_run=False, mode="interactive"))
    assert step.result().outcome == "applied"
    assert len(asked.questions) == 1
    assert "dc1" in asked.questions[0]
    assert "To be applied in dc1: 1 would create" in capsys.readouterr().out
    assert step.apply().wrote is False
    assert len(asked.questions) == 1


@pytest.mark.parametrize("typed", ["", "dc2", "DC1", "yes", "a token that somebody pasted"])
def test_nothing_is_written_for_another_name(federation, asked, typed) -> None:
    """The error says so; what was typed instead is nobody's business. The cell may be run again."""
    step = Switch(federation(dry_run=False, mode="interactive"))
    asked.answer = typed
    with pytest.raises(ApprovalError, match="dc1; nothing was written") as caught:
        step.apply()
    assert not step.on
    if len(typed) > 3:
        assert typed not in str(caught.value)
    asked.answer = " dc1 "
    assert step.apply().wrote


@pytest.mark.parametrize(
    "given", [{"dry_run": True, "mode": "interactive"}, {"mode": "headless"}, {"mode": "auto"}]
)
def test_nobody_is_asked_where_nothing_is_written_or_nobody_is_there(federation, asked, given) -> None:
    """A dry run, and a run without a person."""
    Switch(federation(**({"dry_run": False} | given))).result()
    assert asked.questions == []


def test_what_is_typed_is_the_name_of_what_is_written_to(federation) -> None:
    """A datacenter's, so that nobody types one and changes another; the federation's where all are written to."""
    named = {name: steps.open_step(name, federation()) for name in steps.NOTEBOOKS}
    typed = {
        name: step.name_to_type for name, step in named.items() if type(step).actions is not Step.actions
    }
    assert typed == {
        "01-primary-setup": "dc1",
        "02-secret-transfer": "dc2",
        "03-secondary-setup": "dc2",
        "05-cross-datacenter-traffic": "test",
        "90-defederate": "dc2",
    }


def test_where_nobody_can_answer_nothing_is_written(federation, monkeypatch) -> None:
    """The parameters say that somebody is there, and nobody is: it neither hangs nor writes."""

    def no_terminal(question: str) -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", no_terminal)
    step = Switch(federation(dry_run=False, mode="interactive"))
    with pytest.raises(ApprovalError, match="nobody can be asked") as caught:
        step.apply()
    assert not step.on
    assert "mode" in caught.value.hint


def test_what_is_confirmed_is_what_is_done(federation, asked) -> None:
    """A person who thinks for an hour confirms what they saw, not what has become of it."""
    step = Switch(federation(dry_run=False, mode="interactive"))

    def somebody_else_was_quicker() -> None:
        step.on = True

    asked.meanwhile = somebody_else_was_quicker
    with pytest.raises(ApprovalError, match="not what was confirmed"):
        step.apply()
    assert "apply" not in step.calls
