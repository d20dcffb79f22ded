"""`papermill --engine consulfed`: papermill's own engine, but what it writes is true and holds no secret.

papermill marks cells completed that never ran when a kernel dies, a cell takes too long or somebody interrupts; here
the cell that was running failed, and those after it never ran. And each message of the kernel is looked at once more
by the process that writes the file, which the kernel tells what is secret (`redact.channel`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger

from . import redact
from .errors import LeakError
from .interrupts import terminate_as_interrupt
from .places import in_memory
from .redact.channel import Listener


class _Scrubbing(logging.Filter):
    """What papermill logs of outputs and errors passes through here."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact.scrub(record.getMessage()), ()
        return True


_SCRUBBING = _Scrubbing()


class _Manager(NotebookExecutionManager):
    """Keeps the notebook's file, and what it says of its cells.

    It is written when a code cell begins, which tells of those before it, too, while one goes on for long, and at the
    end: papermill alone writes it twice a cell, texts included, which takes a second of a processor for each notebook.
    """

    _unwritten = False

    def cell_start(self, cell: Any, *args: Any, **kwargs: Any) -> None:
        with self._not_written(cell.cell_type != "code"):
            super().cell_start(cell, *args, **kwargs)

    def cell_complete(self, *args: Any, **kwargs: Any) -> None:
        with self._not_written():
            super().cell_complete(*args, **kwargs)

    @contextmanager
    def _not_written(self, so: bool = True) -> Iterator[None]:
        self._unwritten = so
        try:
            yield
        finally:
            self._unwritten = False

    def save(self, **kwargs: Any) -> None:
        """papermill calls completed what is pending at the end, also where the kernel never started."""
        if self._unwritten:
            return
        for cell in self.nb.cells:
            if cell.metadata.papermill["start_time"] is None:
                cell.metadata.papermill["status"] = self.PENDING
        super().save(**kwargs)


class _Client(PapermillNotebookClient):
    def process_message(self, msg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return super().process_message({**msg, "content": redact.scrub(msg["content"])}, *args, **kwargs)

    def output(self, outs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """A stream goes on where it was: its pieces are one output, and a secret that came in two of them is found."""
        made = super().output(outs, *args, **kwargs)
        if made and made.output_type == "stream" and len(outs) > 1 and outs[-2].get("name") == made.name:
            outs.pop()
            outs[-1].text = redact.scrub(outs[-1].text + made.text)
        return made

    def set_widgets_metadata(self) -> None:
        """No state of widgets: it holds what people typed, and nobody can use it in a file."""

    def papermill_execute_cells(self) -> None:
        """As papermill does it, but that a cell which did not come to its end has failed, whatever ended it."""
        from nbclient.exceptions import CellExecutionError

        for index, cell in enumerate(self.nb.cells):
            try:
                self.nb_man.cell_start(cell, index)
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                break
            except BaseException:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index)
                raise
            finally:
                self.nb_man.cell_complete(self.nb.cells[index], cell_index=index)


class ConsulfedEngine(NBClientEngine):
    """Executes a notebook; `km` is a kernel that runs already, and knows its runner (`kernels.Kernels`).

    Raises LeakError where a secret would stand in the finished notebook; its file is removed then.
    """

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str | None,
        output_path: str | None = None,
        progress_bar: bool = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> Any:
        if _SCRUBBING not in logger.filters:
            logger.addFilter(_SCRUBBING)
        manager = _Manager(
            nb,
            output_path=output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        _make_private(output_path)
        manager.notebook_start()
        try:
            with terminate_as_interrupt():
                cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **kwargs)
        except BaseException:  # before a cell, between two or after the last one: none of them failed
            manager.nb.metadata.papermill["exception"] = True
            raise
        finally:
            manager.cleanup_pbar()
            try:
                manager.notebook_complete()
            finally:  # a full disk leaves what was written before it
                _withhold(manager.nb, output_path)
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str | None,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,
    ) -> Any:
        given = {key: value for key, value in kwargs.items() if key not in {"input_path", "timeout"}}
        client = _Client(
            nb_man,
            **given,
            timeout=execution_timeout or kwargs.get("timeout"),
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        if given.get("km") is not None:
            return client.execute()
        with _listening() as environment:
            return client.execute(env={**os.environ, **environment})


@contextmanager
def _listening() -> Iterator[dict[str, str]]:
    """A listener for the kernel that will be started with this in its environment."""
    folder = Path(tempfile.mkdtemp(prefix="consulfed-", dir=in_memory()))
    try:
        with Listener(folder) as listener:
            yield listener.environment()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_file(output_path: str | None) -> bool:
    """Whether that is a file of this machine, and not standard output or a store far away."""
    return bool(output_path) and output_path != "-" and "://" not in str(output_path)


def _make_private(output_path: str | None) -> None:
    """Readable by its owner only, from the first byte on. What keeps it from being made is papermill's to say."""
    if _is_file(output_path):
        with contextlib.suppress(OSError):
            os.close(os.open(str(output_path), os.O_WRONLY | os.O_CREAT, 0o600))
            os.chmod(str(output_path), 0o600)


def _withhold(notebook: Any, output_path: str | None) -> None:
    """Raises LeakError where the finished notebook holds a secret; its file is gone then."""
    text = json.dumps(notebook, ensure_ascii=False)
    if not redact.betrays(text) and not redact.betrays("\n".join(redact.texts(notebook))):
        return
    name = redact.scrub(Path(str(output_path)).name)
    if "://" in str(output_path):  # papermill has written there after each cell
        raise LeakError(
            f"The executed notebook {name} holds a secret, and stands where we can remove nothing.",
            f"remove {redact.scrub(str(output_path))}, and what holds a copy of it; then report this",
        )
    if _is_file(output_path):
        Path(str(output_path)).unlink(missing_ok=True)
    raise LeakError(
        f"The executed notebook {name} would have held a secret; it was not kept.",
        "please report this: it is a fault of consulfed",
    )
