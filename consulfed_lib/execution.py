"""One notebook of a run: executed by papermill into the record, and believed only when its result is at its end.

papermill marks cells completed that never ran (kernel death, timeout, interrupt), so that its word is not taken:
a notebook counts as done only when its last cell holds the result of its step.

Several may be executed at the same time, each in a thread of its own: papermill's registries are only read, its
working directory is ours and the same for all, and each notebook has a client, a kernel and an event loop of its own.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import errors, iris, redact
from .errors import ConsulfedError, Interrupted, KernelError, ParamsError
from .params import Federation
from .results import MARKS, Result, count

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """One notebook of a run: for one secondary where it works on one, without those that the run gave up."""

    notebook: str
    secondary: str = ""
    without: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """As it stands in progress lines and errors."""
        rest = f" without {', '.join(self.without)}" if self.without else ""
        return self.notebook + (f" {self.secondary}" if self.secondary else "") + rest

    @property
    def output(self) -> str:
        """Name of the executed notebook; what was looked at without a secondary never has the name of the whole."""
        names = "-".join(self.without)
        rest = f"-without-{names if len(names) <= 100 else len(self.without)}" if self.without else ""
        return self.notebook + (f"-{self.secondary}" if self.secondary else "") + rest + ".ipynb"


@dataclass(frozen=True)
class Done:
    """A notebook that came to its end: where it is, the result that it holds, and the seconds it took."""

    task: Task
    path: Path
    result: dict[str, Any]
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        return str(self.result["outcome"])


def notebooks_folder() -> Path:
    """The runbook's notebooks: beside the package, as in a checkout. Raises ParamsError when they are not there."""
    folder = Path(__file__).resolve().parents[1] / "notebooks"
    if not (folder / "00-preflight.ipynb").is_file():
        raise ParamsError(
            f"The notebooks are not in {folder}.", "install from a checkout of consulfed: pip install -e ."
        )
    return folder


def execute(
    task: Task,
    params: Federation,
    folder: Path,
    kernel: Any,
    tell: Tell,
    before_cell: Callable[[], None] = lambda: None,
    place: Path | None = None,
) -> Done:
    """Execute one notebook into `folder`, with a kernel that is started or starting.

    It must not be called in the main thread: there nbclient would take over the signals.

    Args:
        place: the folder where people will find it afterwards, if it is another one.
        before_cell: is called before each cell; what it raises ends the notebook there.

    Raises:
        ConsulfedError: of the class of the cause; its hint leads to the executed notebook.
    """
    iris.leave_out()
    import papermill

    output, start = folder / task.output, time.monotonic()
    found_at = (place or folder) / task.output
    tell(f"{task.label} …")
    said = _Indented(tell)
    try:
        papermill.execute_notebook(
            notebooks_folder() / f"{task.notebook}.ipynb",
            output,
            parameters=_parameters(task, params),
            engine_name="consulfed",
            kernel_name="python3",
            km=kernel,
            progress_bar=False,
            autosave_cell_every=5,
            stdout_file=said,
            on_cell_start=lambda **_: before_cell(),
        )
    except papermill.PapermillExecutionError as error:
        raise _failure(error.ename, error.evalue, found_at) from None
    except ConsulfedError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise KernelError(
            f"The kernel of {task.label} did not come to its end: {first}",
            f"run the same command again. So far: {found_at}",
        ) from None
    finally:
        said.close()
    result = read_result(output)
    if result is None:
        raise KernelError(
            f"{found_at} holds no result: it did not come to its end.", "run the same command again"
        )
    done = Done(task, found_at, result, time.monotonic() - start)
    _tell_result(done, tell)
    return done


def _tell_result(done: Done, tell: Tell) -> None:
    """Warnings, what a dry run would change, and one line of summary."""
    result = done.result
    warnings = [check for check in result["checks"] if check["severity"] == "warning"]
    for check in warnings:
        tell(f"    ! {check['id']} ({check['subject']}): {check['found']}")
    if done.outcome == "planned":
        for row in result["changes"]:
            if row["outcome"] != "unchanged":
                mark = MARKS[row["outcome"]]
                tell(f"    {mark} {row['outcome']} in {row['subject']}: {row['id']} {row['what']}")
    counts = f"{len(result['checks'])} checks, {len(warnings)} with a warning; {count(result['changes'])}"
    tell(f"{done.task.label}: {done.outcome}: {counts}; {done.seconds:.1f} s")


def _parameters(task: Task, params: Federation) -> dict[str, Any]:
    values = params.model_dump(exclude={"secondary"})
    values["secondaries"] = [each for each in values["secondaries"] if each["datacenter"] not in task.without]
    return values | ({"secondary": task.secondary} if task.secondary else {})


def _failure(name: str, message: str, output: Path) -> ConsulfedError:
    """The error that a notebook ended with, as an error of the same class; anything else is a fault of ours."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ConsulfedError)):
        if name == "KeyboardInterrupt":
            return Interrupted("Interrupted.", f"run the same command again; it goes on. So far: {output}")
        kind = ConsulfedError
        message = f"{name}: {message}"
    cause, _, hint = message.partition("\nWhat to do: ")
    found, *details = cause.splitlines() or [name]
    hint = f"{hint}. The whole story: {output}" if hint else f"see {output}"
    return kind(found, hint, [line.removeprefix("  - ") for line in details])


def read_result(path: Path) -> dict[str, Any] | None:
    """The result in the last code cell of an executed notebook; None if it did not come to its end."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for output in cells[-1].get("outputs", []) if cells else []:
        if Result.MIME in output.get("data", {}):
            return output["data"][Result.MIME]
    return None


class _Indented(io.TextIOBase):
    """Passes what cells print on, one whole line at a time, indented under the notebook's name."""

    def __init__(self, tell: Tell):
        self._tell = tell
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._pass_on(line)
        return len(text)

    def close(self) -> None:
        self._pass_on(self._begun)
        self._begun = ""
        super().close()

    def _pass_on(self, line: str) -> None:
        if line.strip():
            self._tell(
                f"    {redact.scrub(line)}"
            )  # whole lines: a secret that came in pieces is whole here, too
