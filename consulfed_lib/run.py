"""`consulfed run`: the notebooks of a federation in their order, each executed by papermill into the run's record.

papermill marks cells completed that never ran (kernel death, timeout, interrupt), so that its word is not taken:
a notebook counts as done only when its last cell holds the result of its step.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from . import errors
from .errors import ConsulfedError, Interrupted, KernelError, LeakError, ParamsError
from .kernels import Kernels
from .params import Federation
from .results import MARKS, Result, count
from .steps import NOTEBOOKS, PER_SECONDARY

_SECRET_SHAPES = re.compile(r"BEGIN (?:[A-Z]+ )?PRIVATE KEY|LS0tLS1CRUdJT")
"""A private key, or anything PEM in base64: never in a record, whoever's it is."""


@dataclass(frozen=True)
class Task:
    """One notebook of a run, for one secondary where it works on one."""

    notebook: str
    secondary: str = ""

    @property
    def output(self) -> str:
        return f"{self.notebook}-{self.secondary}.ipynb" if self.secondary else f"{self.notebook}.ipynb"


@dataclass(frozen=True)
class Done:
    """A notebook that came to its end: where it is, and the result that it holds."""

    task: Task
    path: Path
    result: dict[str, Any]


def notebooks_folder() -> Path:
    """The runbook's notebooks: beside the package, as in a checkout. Raises ParamsError when they are not there."""
    folder = Path(__file__).resolve().parents[1] / "notebooks"
    if not (folder / "00-preflight.ipynb").is_file():
        raise ParamsError(
            f"The notebooks are not in {folder}.", "install from a checkout of consulfed: pip install -e ."
        )
    return folder


def tasks(params: Federation, only: str = "") -> list[Task]:
    """What to run: all notebooks, or those whose name begins with `only`; 02 and 03 once for each secondary.

    Raises ParamsError when `only` names no notebook.
    """
    chosen = [name for name in NOTEBOOKS if name.startswith(only)]
    if not chosen:
        raise ParamsError(
            f"--only {only} names no notebook.", f"one of: {', '.join(NOTEBOOKS)}, or its number"
        )
    names = [params.secondary] if params.secondary else [c.datacenter for c in params.secondaries]
    if params.secondary:
        params.chosen_secondary()
    per_secondary = [name for name in chosen if name in PER_SECONDARY]
    ordered = [Task(name) for name in chosen if name < PER_SECONDARY[0]]
    ordered += [Task(name, secondary) for secondary in names for name in per_secondary]
    return ordered + [Task(name) for name in chosen if name > PER_SECONDARY[-1]]


def run(params: Federation, *, only: str, records: Path, tell: Callable[[str], None]) -> list[Done]:
    """Run the notebooks; stops at the first that fails.

    Args:
        records: the record goes into `<records>/<federation>/<UTC time>-<run id>/`, made with mode 0700.
        tell: gets one line at a time for the person who waits.

    Raises:
        ConsulfedError: of the class of the cause; its message names the notebook that holds the whole story.
    """
    todo = tasks(params, only)
    folder = _new_folder(records / params.federation)
    names = ", ".join(cluster.datacenter for cluster in params.clusters)
    tell(f"{params.federation}: {names}; {'dry run' if params.dry_run else 'apply'}; record in {folder}")
    done: list[Done] = []
    with _terminate_as_interrupt(), Kernels([task.notebook for task in todo]) as kernels:
        for task in todo:
            if params.dry_run and task.notebook == "04-verification" and any(_pending(d) for d in done):
                tell(f"{task.notebook}: left out: there is nothing to verify until the plan is applied")
                continue
            with kernels.next() as kernel:
                done.append(_execute(task, params, folder, kernel, tell))
    return done


def _new_folder(parent: Path) -> Path:
    folder = parent / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise ParamsError(
            f"The record's folder {folder} cannot be made: {error.strerror}.", "choose another -o"
        ) from None
    return folder


def _pending(done: Done) -> bool:
    return done.result["outcome"] == "planned"


def _execute(task: Task, params: Federation, folder: Path, kernel: Any, tell: Callable[[str], None]) -> Done:
    # jsonschema tries to load this checker of IRIs, which compiles a grammar for 1.2 s; notebooks hold no IRI.
    sys.modules.setdefault("rfc3987_syntax", cast(Any, None))
    import papermill

    output, start = folder / task.output, time.monotonic()
    label = task.notebook + (f" {task.secondary}" if task.secondary else "")
    tell(f"{label} …")
    work = partial(
        papermill.execute_notebook,
        notebooks_folder() / f"{task.notebook}.ipynb",
        output,
        parameters=_parameters(task, params),
        kernel_name="python3",
        km=kernel,
        progress_bar=False,
        autosave_cell_every=5,
        stdout_file=_Indented(tell),
    )
    try:
        _interruptible(work, kernel)
    except papermill.PapermillExecutionError as error:
        raise _failure(error.ename, error.evalue, output) from None
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted during {label}.", f"run the same command again; it goes on. So far: {output}"
        ) from None
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise KernelError(
            f"The kernel of {label} did not come to its end: {first}",
            f"run the same command again. So far: {output}",
        ) from None
    finally:
        _withhold_leaks(output)
    result = read_result(output)
    if result is None:
        raise KernelError(
            f"{output} holds no result: it did not come to its end.", "run the same command again"
        )
    warnings = [check for check in result["checks"] if check["severity"] == "warning"]
    for check in warnings:
        tell(f"    ! {check['id']} ({check['subject']}): {check['found']}")
    if result["outcome"] == "planned":
        for row in result["changes"]:
            if row["outcome"] != "unchanged":
                tell(
                    f"    {MARKS[row['outcome']]} {row['outcome']} in {row['subject']}: {row['id']} {row['what']}"
                )
    counts = f"{len(result['checks'])} checks, {len(warnings)} with a warning; {count(result['changes'])}"
    tell(f"{label}: {result['outcome']}: {counts}; {time.monotonic() - start:.1f} s")
    return Done(task, output, result)


def _interruptible(work: Callable[[], Any], kernel: Any) -> None:
    """Run papermill beside the main thread, so that Ctrl-C and SIGTERM reach us and not its own handlers.

    An interrupt is passed on to the kernel: the cell stops what it does in good order (Helm included), the error
    stands in the notebook, and the file is finished. A second Ctrl-C gives up waiting for that.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            future.result()
        except KeyboardInterrupt:
            try:
                # Between two cells an interrupt is lost, so it is sent again; late enough not to disturb a Helm that
                # is stopping in good order.
                for patience in (1, 10, 30):
                    kernel.interrupt_kernel()
                    if wait([future], timeout=patience).done:
                        break
            except KeyboardInterrupt:
                pass
            if not future.done():
                kernel.shutdown_kernel(now=True)
            future.exception()
            raise


def _parameters(task: Task, params: Federation) -> dict[str, Any]:
    values = params.model_dump(exclude={"secondary"})
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


def _withhold_leaks(output: Path) -> None:
    """A record that would hold a private key is removed, and the run fails."""
    if output.exists() and _SECRET_SHAPES.search(output.read_text(encoding="utf-8")):
        output.unlink()
        raise LeakError(
            f"The executed notebook {output.name} would have held a private key; it was not kept.",
            "please report this: it is a fault of consulfed",
        )


class _Indented(io.TextIOBase):
    """Passes what cells print on, line by line, indented under the notebook's name."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell = tell

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._tell(f"    {line}")
        return len(text)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a cancelled pipeline, an evicted pod) ends the run as Ctrl-C does: with a finished file."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
