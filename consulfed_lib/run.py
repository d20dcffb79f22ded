"""`consulfed run` and `consulfed plan`: the notebooks of a federation, each executed into the run's record.

The record is made in a private folder beside the others and moved to its place when it is whole, verified, and
scanned for every secret that the kernels met. Whatever ends a run, its record never says more than was done.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import execution
from .errors import ApprovalError, ConsulfedError, Interrupted, KernelError, LeakError, RecordError
from .execution import Done, Task, Tell
from .interrupts import terminate_as_interrupt
from .keeping import Keeper
from .kernels import Kernels
from .params import Federation
from .plans import PlanFile
from .schedule import Plan, Story, conduct, plan
from .steps import PER_SECONDARY


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        run: the run's id, which is the name of its record.
        word: `planned`, `unchanged`, `applied`, `verified`, `failed` or `interrupted`.
        record: the folder of its record; None where none was kept.
        plan: digest of the plan; empty where nothing was planned.
        done: the notebooks that came to their end.
        error: what it ended with; None where all is well.
    """

    run: str
    federation: str
    word: str = "failed"
    record: Path | None = None
    plan: str = ""
    approved_plan: str = ""
    done: list[Done] = field(default_factory=list)
    error: ConsulfedError | None = None

    def summary(self) -> dict[str, Any]:
        """For a machine: the last line of `consulfed run -o json`."""
        return {
            "run": self.run,
            "federation": self.federation,
            "outcome": self.word,
            "exit_code": self.error.exit_code if self.error else 0,
            "record": str(self.record) if self.record else None,
            "plan": self.plan or None,
            "approved_plan": self.approved_plan or None,
            "notebooks": [
                {
                    "notebook": each.task.notebook,
                    "secondary": each.task.secondary,
                    "outcome": each.outcome,
                    "seconds": round(each.seconds, 1),
                }
                for each in self.done
            ],
            "error": self.error.data() if self.error else None,
        }


def run(params: Federation, **how: Any) -> Outcome:
    """As `carry_out`, but raises the error that the run ended with."""
    outcome = carry_out(params, **how)
    if outcome.error:
        raise outcome.error
    return outcome


def carry_out(
    params: Federation,
    *,
    kind: str = "run",
    only: str = "",
    secondaries: Sequence[str] = (),
    records: Path,
    sign_key: str = "",
    tell: Tell,
) -> Outcome:
    """Run the notebooks, secondaries at the same time; one that fails does not stop the others.

    Args:
        kind: `plan` for one that people are to approve; else `run`.
        only: the number or name of one notebook; empty: all.
        secondaries: work on these only; empty: all.
        records: the record goes into `<records>/<federation>/<UTC time>-<run id>/`.
        sign_key: what the record is signed with (`record.statement.load_signer`); empty: unsigned.
        tell: gets one line at a time for the person who waits.

    Returns:
        How it ended. Its error is of the class of the cause, with the path of the notebook that holds the whole
        story; where several secondaries failed it names each, and has the class of the first.

    Raises:
        ConsulfedError: it could not even begin.
    """
    todo = plan(params, only, secondaries)
    approved = _approved(params, todo)
    with Keeper(params, kind, records, sign_key, approved, tell) as keeper:
        names = ", ".join(cluster.datacenter for cluster in params.clusters)
        at_once = f"; {todo.width} secondaries at once" if todo.width > 1 else ""
        what = "dry run" if params.dry_run else f"apply of plan {approved.digest}" if approved else "apply"
        tell(f"{params.federation}: {names}; {what}{at_once}; record in {keeper.place}")
        story, last = Story(), None
        try:
            with terminate_as_interrupt(), Kernels(todo.order(), todo.width) as kernels:
                _Run(todo, params, keeper, kernels, tell).conduct(story)
        except ConsulfedError as error:
            last = error
        if len(todo.chains) > 1 and (story.done or story.failed):
            tell(repr(story.verdict(f"Verdict of {params.federation}", todo.secondaries)))
        failure = story.leak() or (last if isinstance(last, Interrupted) else story.failure(todo, last))
        outcome = Outcome(keeper.run, params.federation, done=story.done, error=failure)
        outcome.approved_plan = approved.digest if approved else ""
        with _held_back():
            _keep(keeper, outcome)
    return outcome


def _keep(keeper: Keeper, outcome: Outcome) -> None:
    """Make the record; where it cannot be, that is how the run ended, unless it had failed before."""
    if isinstance(outcome.error, LeakError):
        keeper.discard()
        return
    try:
        kept = keeper.finish(outcome.error)
    except LeakError as error:
        outcome.error = error
    except RecordError as error:
        if outcome.error is None:
            outcome.error = error
        else:
            outcome.error.details += (f"its record could not be kept: {error.found}",)
    else:
        outcome.word, outcome.record, outcome.plan = kept.word, kept.folder, kept.plan


def _approved(params: Federation, todo: Plan) -> PlanFile | None:
    """The plan under which this run applies; None where it applies without one, or nothing.

    Raises ApprovalError where it is no plan of this federation, or says nothing of a notebook that would be run.
    """
    if params.dry_run or not params.approved_plan:
        return None
    found = PlanFile.read(Path(params.approved_plan))
    if found.federation != params.federation:
        raise ApprovalError(
            f"The approved plan is that of the federation {found.federation!r}, not of {params.federation!r}.",
            "give the plan of this federation",
        )
    changing = {"01-primary-setup", *PER_SECONDARY}
    tasks = [*todo.before, *(task for chain in todo.chains for task in chain)]
    missing = [t.label for t in tasks if t.notebook in changing and t.label not in found.notebooks]
    if missing:
        raise ApprovalError(
            f"The approved plan says nothing of {', '.join(missing)}; nothing was written.",
            "make a plan of the federation as it is in the parameters now, and have it approved",
        )
    return found


class _Run:
    """The run in the background, so that Ctrl-C and SIGTERM reach the main thread and not papermill's handlers."""

    def __init__(self, todo: Plan, params: Federation, keeper: Keeper, kernels: Kernels, tell: Tell):
        self._todo = todo
        self._params = params
        self._keeper = keeper
        self._kernels = kernels
        self._tell = tell
        self._working: list[Task] = []

    def conduct(self, story: Story) -> None:
        """Raises ConsulfedError as `schedule.conduct` does, and Interrupted when a person or a signal ended it."""
        with ThreadPoolExecutor(1, "run") as pool:
            future = pool.submit(conduct, self._todo, self._work, self._tell, story)
            try:
                future.result()
            except KeyboardInterrupt:
                labels = ", ".join(sorted(task.label for task in self._working)) or "the run"
                self._stop(future)
                raise Interrupted(
                    f"Interrupted during {labels}.",
                    f"run the same command again; it goes on. So far: {self._keeper.place}",
                ) from None

    def _work(self, task: Task) -> Done:
        with self._kernels.take(task.notebook) as kernel:
            self._working.append(task)
            try:
                return execution.execute(
                    task,
                    self._params,
                    self._keeper.folder,
                    kernel,
                    self._teller(task),
                    self._kernels.refuse_if_stopped,
                    self._keeper.place,
                )
            except ConsulfedError as error:
                if self._kernels.stopped:  # whatever an interrupted cell says of it
                    raise Interrupted(error.found, error.hint, error.details) from None
                if isinstance(error, KernelError) and (words := self._kernels.last_words(kernel)):
                    error.details += (f"the kernel's last words: {words}",)
                raise
            finally:
                self._working.remove(task)
                self._keeper.executed(task.output)

    def _teller(self, task: Task) -> Tell:
        """Lines of notebooks that work at the same time are told apart by their datacenter."""
        if self._todo.width == 1 or not task.secondary:
            return self._tell
        width = max(map(len, self._todo.secondaries))
        return lambda line: self._tell(f"{task.secondary:<{width}} | {line}")

    def _stop(self, future: Future[None]) -> None:
        """Interrupt the cells at work: each stops what it does in good order (Helm included), its error stands in its
        notebook, and the file is finished. A second Ctrl-C gives up waiting for that.
        """
        try:
            # Just before a cell begins an interrupt is lost, so it is sent again; late enough not to disturb a Helm
            # that is stopping in good order, nor a kernel that is writing down, slowly, where it was interrupted.
            for patience in (10, 30):
                self._kernels.interrupt()
                if wait([future], timeout=patience).done:
                    break
        except KeyboardInterrupt:
            pass
        if not future.done():
            self._kernels.kill()
        future.exception()


@contextmanager
def _held_back() -> Iterator[None]:
    """Signals that ask the run to end find it ending: its record is made first."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
