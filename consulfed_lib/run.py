"""`consulfed run`: the notebooks of a federation, each executed into the run's record, and the verdict at the end."""

from __future__ import annotations

import secrets as random
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from . import execution
from .errors import ConsulfedError, Interrupted, ParamsError
from .execution import Done, Task, Tell
from .kernels import Kernels
from .params import Federation
from .schedule import Plan, Story, conduct, plan


def run(
    params: Federation, *, only: str = "", secondaries: Sequence[str] = (), records: Path, tell: Tell
) -> list[Done]:
    """Run the notebooks, secondaries at the same time; one that fails does not stop the others.

    Args:
        only: the number or name of one notebook; empty: all.
        secondaries: work on these only; empty: all.
        records: the record goes into `<records>/<federation>/<UTC time>-<run id>/`, made with mode 0700.
        tell: gets one line at a time for the person who waits.

    Raises:
        ConsulfedError: of the class of the cause, with the path of the notebook that holds the whole story; where
            several secondaries failed it names each, and has the class of the first.
    """
    todo = plan(params, only, secondaries)
    folder = _new_folder(records / params.federation)
    names = ", ".join(cluster.datacenter for cluster in params.clusters)
    at_once = f"; {todo.width} secondaries at once" if todo.width > 1 else ""
    tell(
        f"{params.federation}: {names}; {'dry run' if params.dry_run else 'apply'}{at_once}; record in {folder}"
    )
    story = Story()
    last: ConsulfedError | None = None
    try:
        with _terminate_as_interrupt(), Kernels(todo.order(), todo.width) as kernels:
            _Run(todo, params, folder, kernels, tell).conduct(story)
    except ConsulfedError as error:
        last = error
    if len(todo.chains) > 1 and (story.done or story.failed):
        tell(repr(story.verdict(f"Verdict of {params.federation}", todo.secondaries)))
    if isinstance(last, Interrupted):
        raise last
    if failure := story.failure(todo, last):
        raise failure
    return story.done


class _Run:
    """The run in the background, so that Ctrl-C and SIGTERM reach the main thread and not papermill's handlers."""

    def __init__(self, todo: Plan, params: Federation, folder: Path, kernels: Kernels, tell: Tell):
        self._todo = todo
        self._params = params
        self._folder = folder
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
                    f"run the same command again; it goes on. So far: {self._folder}",
                ) from None

    def _work(self, task: Task) -> Done:
        with self._kernels.take(task.notebook) as kernel:
            self._working.append(task)
            try:
                return execution.execute(
                    task,
                    self._params,
                    self._folder,
                    kernel,
                    self._teller(task),
                    self._kernels.refuse_if_stopped,
                )
            except ConsulfedError as error:
                if self._kernels.stopped:  # whatever an interrupted cell says of it
                    raise Interrupted(error.found, error.hint, error.details) from None
                raise
            finally:
                self._working.remove(task)

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


def _new_folder(parent: Path) -> Path:
    folder = parent / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{random.token_hex(3)}"
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise ParamsError(
            f"The record's folder {folder} cannot be made: {error.strerror}.", "choose another -o"
        ) from None
    return folder


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a cancelled pipeline, an evicted pod) ends the run as Ctrl-C does: with finished files."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
