"""The order of a run: what waits for what, what works at the same time, and that no secondary stops another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.errors import (
    ApplyError,
    ClusterError,
    ConsulfedError,
    Interrupted,
    ParamsError,
    PreflightError,
    VerifyError,
)
from consulfed_lib.execution import Done, Task
from consulfed_lib.schedule import Plan, Story, conduct, plan
from consulfed_lib.steps import NOTEBOOKS, ON_REQUEST, ONE_AT_A_TIME, PER_SECONDARY

PATIENCE = 20
"""Seconds after which a test that waits for something at the same time gives up."""


@pytest.fixture
def four(federation) -> Callable[..., Any]:
    """Parameters of a federation with four secondaries."""
    secondaries = [{"context": name, "datacenter": name} for name in ("dc2", "dc3", "dc4", "dc5")]
    return lambda **changes: federation(secondaries=secondaries, **changes)


def short(tasks: Any) -> list[str]:
    """`02 dc3` for each task."""
    return [f"{task.notebook[:2]} {task.secondary}".strip() for task in tasks]


# Plan


def test_one_secondary_is_five_notebooks(federation):
    """In the order of their numbers."""
    todo = plan(federation())
    assert short(todo.before) == ["00", "01"]
    assert [short(chain) for chain in todo.chains] == [["02 dc2", "03 dc2"]]
    assert short(todo.after) == ["04"]
    assert todo.order() == [name for name in NOTEBOOKS if name not in ON_REQUEST]
    assert todo.width == 1


@pytest.mark.parametrize("name", ON_REQUEST)
def test_what_makes_workloads_runs_only_where_it_is_asked_for(federation, name):
    """By its number; neither with all of them, nor with those whose numbers begin with the same digit."""
    for only in ("", "0"):
        assert name not in plan(federation(), only).order()
    for only in (name[:2], name):
        assert plan(federation(), only).order() == [name]


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_what_takes_a_secondary_out_runs_for_one_that_is_chosen(four, federation, name):
    """Never for all of them, however many there are."""
    assert set(ONE_AT_A_TIME) <= set(ON_REQUEST) & set(PER_SECONDARY)
    for chosen in ([], ["dc2", "dc3"]):
        with pytest.raises(ParamsError, match="one secondary") as caught:
            plan(four(), name[:2], chosen)
        assert "--secondary" in caught.value.hint
    todo = plan(four(), name[:2], ["dc3"])
    assert todo == plan(four(secondary="dc3"), name[:2])
    assert (todo.before, todo.chains, todo.after) == ((), ((Task(name, "dc3"),),), ())
    assert plan(federation(), name[:2]).secondaries == ("dc2",)


def test_each_secondary_has_a_chain_of_its_own(four):
    """One primary, then independent secondaries, then one verification of all."""
    todo = plan(four())
    assert [short(chain) for chain in todo.chains] == [[f"02 dc{i}", f"03 dc{i}"] for i in (2, 3, 4, 5)]


@pytest.mark.parametrize(("parallel", "width"), [(1, 1), (3, 3), (4, 4), (16, 4)])
def test_so_many_secondaries_at_once_as_the_parameters_say(four, parallel, width):
    """And no more than there are."""
    assert plan(four(parallel=parallel)).width == width


def test_kernels_are_started_in_the_order_in_which_notebooks_begin(four):
    """Two at once: their 02, their 03, then the next two's."""
    begun = [notebook[:2] for notebook in plan(four(parallel=2)).order()]
    assert begun == ["00", "01", "02", "02", "03", "03", "02", "02", "03", "03", "04"]
    begun = [notebook[:2] for notebook in plan(four(parallel=3)).order()]
    assert begun == ["00", "01", "02", "02", "02", "03", "03", "03", "02", "03", "04"]


MOVING = {"chart": True}


def test_charts_are_moved_one_datacenter_after_another(four):
    """However many secondaries are worked on at once otherwise; the primary first, or last."""
    first, last = plan(four(upgrade=MOVING)), plan(four(upgrade=MOVING | {"order": "secondaries-first"}))
    assert (first.width, first.one_by_one) == (last.width, last.one_by_one) == (1, True)
    assert (short(first.before), short(first.after)) == (["00", "01"], ["04"])
    assert (short(last.before), short(last.after)) == (["00"], ["01", "04"])
    alone = plan(four(upgrade=MOVING | {"order": "secondaries-first"}), "01")
    assert (short(alone.before), short(alone.after)) == (["01"], [])


@pytest.mark.parametrize("only", ["02", "02-secret", "02-secret-transfer"])
def test_only_names_a_notebook_by_number_or_name(four, only):
    """It still works on every secondary."""
    todo = plan(four(), only)
    assert todo.before == todo.after == ()
    assert [short(chain) for chain in todo.chains] == [["02 dc2"], ["02 dc3"], ["02 dc4"], ["02 dc5"]]


def test_only_the_verification_has_no_chains(four):
    """Nor anything that works on a secondary."""
    assert plan(four(), "04") == Plan((), (), (Task("04-verification"),), 1, ("dc2", "dc3", "dc4", "dc5"))


def test_chosen_secondaries_are_the_only_ones(four):
    """The notebooks that work on no secondary run as ever; the order is that of the parameters."""
    assert plan(four(), "", ["dc5", "dc3"]).secondaries == ("dc3", "dc5")
    assert plan(four(secondary="dc3")).secondaries == ("dc3",)
    assert short(plan(four(), "", ["dc3"]).before) == ["00", "01"]


@pytest.mark.parametrize("only", ["06", "preflight", "2", "02-x"])
def test_only_must_name_a_notebook(federation, only):
    """Otherwise nothing would run, and that would look like a success."""
    with pytest.raises(ParamsError) as caught:
        plan(federation(), only)
    assert only in caught.value.found
    assert "04-verification" in caught.value.hint


def test_a_secondary_must_be_one(four):
    """Before anything is run; every name that is none is said."""
    with pytest.raises(ParamsError, match="dc8, dc1") as caught:
        plan(four(), "", ["dc8", "dc3", "dc1"])
    assert "dc2, dc3, dc4, dc5" in caught.value.hint


def test_every_output_has_a_name_of_its_own(four):
    """The notebooks of one secondary must not overwrite another's."""
    todo = plan(four())
    outputs = [task.output for task in (*todo.before, *sum(todo.chains, ()), *todo.after)]
    assert len(set(outputs)) == len(outputs) == 11


# Conducting


class Runner:
    """Executes notebooks that come to their end at once, but for those that are to fail; notes what happened."""

    def __init__(self, **failing: ConsulfedError | list[ConsulfedError]):
        """`dc3_02=error`, `all_04=error`; a list fails once for each of its errors."""
        self.failing = {
            name: each if isinstance(each, list) else [each] * 9 for name, each in failing.items()
        }
        self.outcome = "applied"
        self.events: list[str] = []
        self.tasks: list[Task] = []
        self.told: list[str] = []
        self.story = Story()
        self.meet: Callable[[Task], None] = lambda task: None
        self._lock = threading.Lock()

    def __call__(self, task: Task) -> Done:
        (name,) = short([task])
        with self._lock:
            self.events.append(f"> {name}")
            self.tasks.append(task)
        self.meet(task)
        with self._lock:
            self.events.append(f"< {name}")
            left = self.failing.get(f"{task.secondary or 'all'}_{task.notebook[:2]}")
            if left:
                raise left.pop(0)
        last = task.notebook == "04-verification"
        return Done(task, Path(task.output), {"outcome": "verified" if last else self.outcome})

    def conduct(self, todo: Plan) -> None:
        conduct(todo, self, self.told.append, self.story)

    def failure(self, todo: Plan) -> ConsulfedError | None:
        """The error that the run ends with."""
        try:
            self.conduct(todo)
        except ConsulfedError as error:
            return self.story.failure(todo, error)
        return self.story.failure(todo, None)

    def verdicts(self, todo: Plan) -> dict[str, tuple[str, str]]:
        rows = self.story.verdict("Verdict", todo.secondaries)
        return {row.secondary: (row.verdict, row.found) for row in rows}

    def begun(self, number: str) -> list[str]:
        return sorted(event[2:] for event in self.events if event.startswith(f"> {number}"))


def test_secondaries_work_at_the_same_time(four):
    """Each 03 ends only after all four have begun."""
    runner, together = Runner(), threading.Barrier(4, timeout=PATIENCE)
    runner.meet = lambda task: together.wait() if task.notebook in PER_SECONDARY else None
    runner.conduct(plan(four()))
    assert len(runner.story.done) == 11


def test_never_more_at_once_than_asked_for(four):
    """Two of four: each waits for a companion, and a third never works beside them."""
    runner, together = Runner(), threading.Barrier(2, timeout=PATIENCE)
    runner.meet = lambda task: together.wait() if task.secondary else None
    runner.conduct(plan(four(parallel=2)))
    at_work = most = 0
    for event in runner.events[4:-2]:
        at_work += 1 if event.startswith(">") else -1
        most = max(most, at_work)
    assert most == 2


def test_a_chart_that_could_not_be_moved_keeps_the_others_where_they_are(four):
    """The window in which versions differ stays short; the primary, whose turn is last, is left out too."""
    runner = Runner(dc3_03=ApplyError("dc3 broke"))
    todo = plan(four(upgrade=MOVING | {"order": "secondaries-first"}))
    error = runner.failure(todo)
    assert error is not None
    assert runner.begun("03") == ["03 dc2", "03 dc3"]
    assert runner.begun("01") == []
    assert any("its chart is moved only after that of every secondary" in line for line in runner.told)
    assert runner.verdicts(todo)["dc4"][0] == "– not begun"


def test_one_at_a_time_is_one_after_another(four):
    """`parallel: 1` for those whose changes must come one after another."""
    runner = Runner()
    runner.conduct(plan(four(parallel=1)))
    begun = [event[2:] for event in runner.events if event.startswith(">")]
    assert begun == ["00", "01", *(f"{n} dc{i}" for i in (2, 3, 4, 5) for n in ("02", "03")), "04"]


def test_a_step_begins_after_the_one_before_it(four):
    """Primary before secondaries, 02 before 03 of the same one, and the verification after all."""
    runner = Runner()
    runner.conduct(plan(four()))
    at = runner.events.index
    for i in (2, 3, 4, 5):
        assert (
            at("< 01")
            < at(f"> 02 dc{i}")
            < at(f"< 02 dc{i}")
            < at(f"> 03 dc{i}")
            < at(f"< 03 dc{i}")
            < at("> 04")
        )


# Failures


def test_one_that_fails_stops_no_other(four):
    """Its own 03 is not begun; the others come to their end and are verified without it."""
    todo, runner = plan(four()), Runner(dc3_02=ClusterError("dc3 refuses."))
    error = runner.failure(todo)
    assert runner.begun("03") == ["03 dc2", "03 dc4", "03 dc5"]
    assert runner.tasks[-1] == Task("04-verification", without=("dc3",))
    assert runner.verdicts(todo)["dc3"] == ("✘ failed", "02-secret-transfer dc3: dc3 refuses.")
    assert runner.verdicts(todo)["dc4"] == ("✔ applied", "02 applied, 03 applied")
    assert isinstance(error, ClusterError)
    assert error.found == "1 of 4 secondaries failed: dc3. The federation is verified without it."
    assert error.details == ("dc3: 02-secret-transfer dc3: dc3 refuses.",)


def test_one_that_fails_at_once_stops_none_that_is_at_work(four):
    """The others are still at work, and one has not begun yet."""
    todo, runner, failed = plan(four(parallel=3)), Runner(dc2_02=ApplyError("No.")), threading.Event()

    def meet(task: Task) -> None:
        if task.secondary == "dc5":
            failed.set()
        elif task.secondary in {"dc3", "dc4"}:
            assert failed.wait(PATIENCE), "dc5 takes the place of dc2, which has failed"

    runner.meet = meet
    runner.failure(todo)
    assert runner.begun("03") == ["03 dc3", "03 dc4", "03 dc5"]


def test_the_end_is_of_the_class_of_the_first_that_failed(four):
    """In the order of the parameters, however the threads came: the exit code must not be a matter of luck."""
    runner = Runner(dc5_02=ClusterError("Five.", "mend five"), dc3_03=ApplyError("Three.", "mend three"))
    error = runner.failure(plan(four()))
    assert type(error) is ApplyError
    assert error.hint == "mend three"
    assert error.details == ("dc3: 03-secondary-setup dc3: Three.", "dc5: 02-secret-transfer dc5: Five.")
    assert error.found.startswith("2 of 4 secondaries failed: dc3, dc5.")


def test_details_name_the_cause_better_than_their_heading(four):
    """`1 check failed` helps nobody."""
    todo, runner = (
        plan(four()),
        Runner(dc2_03=VerifyError("2 checks failed.", "h", ["a (dc2): x", "b (dc2): y"])),
    )
    runner.failure(todo)
    assert runner.verdicts(todo)["dc2"][1] == "03-secondary-setup dc2: a (dc2): x; b (dc2): y"


def test_the_only_secondary_fails_with_its_own_words(federation):
    """There is nobody to tell it from."""
    failed = ApplyError("Helm could not.", "mend it")
    assert Runner(dc2_03=failed).failure(plan(federation())) is failed


def test_nothing_is_verified_when_no_secondary_came_to_its_end(four):
    """That is said, and is no success."""
    broken = {f"dc{i}_02": ApplyError("No.") for i in (2, 3, 4, 5)}
    runner = Runner(**broken)
    error = runner.failure(plan(four()))
    assert runner.begun("04") == []
    assert runner.told == ["04-verification: left out: no secondary came to its end"]
    assert error is not None
    assert "verified" not in error.found


def test_a_primary_that_fails_stops_everything(four):
    """Secondaries cannot join it."""
    failed = ApplyError("Helm could not.")
    runner = Runner(all_01=failed)
    assert runner.failure(plan(four())) is failed
    assert runner.begun("0") == ["00", "01"]
    assert set(runner.verdicts(plan(four())).values()) == {("– not begun", "")}


def test_a_verification_that_fails_is_told_beside_the_secondaries_that_did(four):
    """The federation of the rest does not work, and nothing calls it verified."""
    broken = VerifyError("1 check failed.", "see", ["wan-members (dc2): not alive"])
    failed = VerifyError("x", "y", ["acl-replication (dc4): stopped"])
    assert Runner(all_04=broken).failure(plan(four())) is broken
    error = Runner(all_04=broken, dc4_03=failed).failure(plan(four()))
    assert error is not None
    assert error.details[-1] == "wan-members (dc2): not alive"
    assert "verified" not in error.found


def test_a_fault_of_ours_in_one_chain_is_not_swallowed(four):
    """What is no ConsulfedError is a bug, and the others still come to their end."""
    runner = Runner(dc2_02=ZeroDivisionError())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        runner.conduct(plan(four()))
    assert runner.begun("03") == ["03 dc3", "03 dc4", "03 dc5"]


def test_an_interrupt_is_the_end(four):
    """No verification, and nobody is said to have failed who was interrupted."""
    todo, runner = plan(four()), Runner(dc2_03=Interrupted("Interrupted."), dc3_02=ApplyError("No."))
    with pytest.raises(Interrupted):
        runner.conduct(todo)
    assert runner.begun("04") == runner.told == []
    assert runner.verdicts(todo)["dc2"][0] == "– interrupted"
    assert runner.verdicts(todo)["dc3"][0] == "✘ failed"


# Dry run


def test_there_is_nothing_to_verify_until_a_plan_is_applied(four):
    """A dry run of what is already so is verified all the same."""
    todo, runner = plan(four()), Runner()
    runner.outcome = "planned"
    assert runner.failure(todo) is None
    assert runner.told == ["04-verification: left out: there is nothing to verify until the plan is applied"]
    assert runner.verdicts(todo)["dc2"] == ("✔ planned", "02 planned, 03 planned")
    runner = Runner()
    runner.outcome = "unchanged"
    runner.conduct(todo)
    assert runner.begun("04") == ["04"]
    assert runner.verdicts(todo)["dc2"][0] == "✔ unchanged"


# Preflight


def unfit(*details: str) -> PreflightError:
    return PreflightError("n finding(s) stop 00-preflight; nothing was written.", "mend it", details)


def test_an_unfit_secondary_is_left_out_and_the_rest_is_looked_at_again(four):
    """So that the preflight of what is worked on passes as a whole, and is on record."""
    todo, runner = plan(four()), Runner(all_00=[unfit("namespace (dc3): terminating", "crds (dc3): none")])
    error = runner.failure(todo)
    assert [task.without for task in runner.tasks if task.notebook == "00-preflight"] == [(), ("dc3",)]
    assert runner.begun("03") == ["03 dc2", "03 dc4", "03 dc5"]
    assert runner.tasks[-1].without == ("dc3",)
    found = "00-preflight: namespace (dc3): terminating; crds (dc3): none"
    assert runner.verdicts(todo)["dc3"] == ("✘ failed", found)
    assert type(error) is PreflightError
    assert error.hint == "mend it"


def test_what_the_second_look_finds_is_left_out_too(four):
    """An API server that does not answer can hide what is wrong elsewhere."""
    runner = Runner(all_00=[unfit("api (dc3): down"), unfit("crds (dc5): none")])
    error = runner.failure(plan(four()))
    assert [t.without for t in runner.tasks if t.notebook[:2] == "00"] == [(), ("dc3",), ("dc3", "dc5")]
    assert runner.begun("02") == ["02 dc2", "02 dc4"]
    assert error is not None
    assert error.found.startswith("2 of 4 secondaries failed: dc3, dc5.")


@pytest.mark.parametrize(
    "details",
    [
        ("api (dc1): down", "api (dc3): down"),
        ("helm (this machine): too old",),
        ("distinct-clusters (test): dc2 and dc3 are one cluster",),
        ("something without a subject", "api (dc3): down"),
        (),
        tuple(f"api (dc{i}): down" for i in (2, 3, 4, 5)),
    ],
    ids=["the primary", "this machine", "the whole", "no subject", "no details", "every secondary"],
)
def test_what_is_not_one_secondarys_stops_the_run(four, details):
    """Before anything is written anywhere."""
    stop = unfit(*details)
    runner = Runner(all_00=stop)
    assert runner.failure(plan(four())) is stop
    assert runner.begun("0") == ["00"]


def test_a_preflight_that_runs_alone_fails_as_it_is(four):
    """There is nothing to go on with."""
    stop = unfit("api (dc3): down")
    runner = Runner(all_00=stop)
    assert runner.failure(plan(four(), "00")) is stop
    assert len(runner.tasks) == 1


def test_an_unfit_secondary_that_was_not_chosen_is_named_all_the_same(four):
    """The chosen one is worked on, and the end is no success: the federation is not as it should be."""
    todo, runner = plan(four(), "", ["dc2"]), Runner(all_00=[unfit("api (dc4): down")])
    error = runner.failure(todo)
    assert runner.begun("03") == ["03 dc2"]
    assert list(runner.verdicts(todo)) == ["dc2", "dc4"]
    assert error is not None
    assert error.exit_code == PreflightError.exit_code


def test_the_verdict_is_a_table_for_a_log(four):
    """A line for each secondary, with how long it took."""
    todo, runner = plan(four()), Runner(dc3_02=ClusterError("dc3 refuses."))
    runner.failure(todo)
    lines = repr(runner.story.verdict("Verdict of test", todo.secondaries)).splitlines()
    assert lines[0] == "Verdict of test: 1 of 4 secondaries failed"
    assert [line.split()[0] for line in lines[2:]] == ["dc2", "dc3", "dc4", "dc5"]
    assert set(runner.story.seconds) == {"dc2", "dc3", "dc4", "dc5"}
