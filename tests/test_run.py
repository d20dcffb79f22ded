"""`consulfed run`: its order, its record, and that nothing counts as done that did not come to its end.

Beside our own rules this pins how papermill behaves where we rely on it, with tiny notebooks and a real kernel.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from consulfed_lib import errors, run
from consulfed_lib.errors import ConsulfedError, Interrupted, KernelError, LeakError, ParamsError
from consulfed_lib.kernels import new_manager
from consulfed_lib.results import Result
from consulfed_lib.run import Done, Task, read_result, tasks
from consulfed_lib.steps import NOTEBOOKS, PER_SECONDARY

CLASSES = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ConsulfedError)
]
RESULT = """
from consulfed_lib.results import Result
Result("00-preflight", "test", "dc1", "verified", checks=[
    {"id": "a-check", "subject": "dc1", "severity": "warning", "found": "look here"}])
"""
TASK = Task("00-preflight")


# Order


@pytest.fixture
def three(raw, federation) -> Callable[..., Any]:
    """Parameters of a federation with three secondaries."""
    names = ["dc2", "dc3", "dc4"]
    secondaries = [{"context": name, "datacenter": name} for name in names]
    return lambda **changes: federation(secondaries=secondaries, **changes)


def test_one_secondary_is_five_notebooks(federation):
    """In the order of their numbers."""
    found = tasks(federation())
    assert [task.notebook for task in found] == list(NOTEBOOKS)
    assert [task.secondary for task in found] == ["", "", "dc2", "dc2", ""]


def test_each_secondary_is_finished_before_the_next_one_begins(three):
    """One primary, then independent secondaries, then one verification of all."""
    found = [(task.notebook[:2], task.secondary) for task in tasks(three())]
    assert found == [
        ("00", ""), ("01", ""),
        ("02", "dc2"), ("03", "dc2"), ("02", "dc3"), ("03", "dc3"), ("02", "dc4"), ("03", "dc4"),
        ("04", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("only", ["02", "02-secret", "02-secret-transfer"])
def test_only_names_a_notebook_by_number_or_name(three, only):
    """It still works on every secondary."""
    assert tasks(three(), only) == [Task("02-secret-transfer", name) for name in ("dc2", "dc3", "dc4")]


def test_a_chosen_secondary_is_the_only_one(three):
    """The notebooks that work on no secondary run as ever."""
    found = tasks(three(secondary="dc3"))
    assert {task.secondary for task in found if task.notebook in PER_SECONDARY} == {"dc3"}
    assert len(found) == 5
    assert tasks(three(secondary="dc3"), "03") == [Task("03-secondary-setup", "dc3")]


@pytest.mark.parametrize("only", ["05", "preflight", "2", "02-x"])
def test_only_must_name_a_notebook(federation, only):
    """Otherwise nothing would run, and that would look like a success."""
    with pytest.raises(ParamsError) as caught:
        tasks(federation(), only)
    assert only in caught.value.found
    assert "04-verification" in caught.value.hint


def test_a_secondary_must_be_one(three):
    """Before anything is run."""
    with pytest.raises(ParamsError, match="dc9"):
        tasks(three(secondary="dc9"))


def test_every_output_has_a_name_of_its_own(three):
    """The notebooks of one secondary must not overwrite another's."""
    outputs = [task.output for task in tasks(three())]
    assert len(set(outputs)) == len(outputs)
    assert Task("02-secret-transfer", "dc3").output == "02-secret-transfer-dc3.ipynb"


def test_a_notebook_gets_every_parameter_and_its_own_secondary(three):
    """papermill warns of a parameter that a notebook does not declare, and only 02 and 03 declare that one."""
    given = run._parameters(Task("03-secondary-setup", "dc3"), three())
    assert given["secondary"] == "dc3"
    given = run._parameters(TASK, three(secondary="dc3"))
    assert set(given) == set(three().model_dump()) - {"secondary"}
    assert json.loads(json.dumps(given)) == given


# What one notebook comes to


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real kernel for many notebooks."""
    manager = new_manager(tmp_path_factory.mktemp("k") / "k.json")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(monkeypatch, tmp_path) -> Callable[..., Path]:
    """Makes `00-preflight.ipynb` of these cells, in a folder that `run` takes for the notebooks'."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(run, "notebooks_folder", lambda: folder)

    def make(*sources: str) -> Path:
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata["tags"] = ["parameters"]
        made = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(made, folder / "00-preflight.ipynb")
        return folder / "00-preflight.ipynb"

    return make


@pytest.fixture
def execute(notebook, kernel, federation, tmp_path) -> Callable[..., Done]:
    """Executes a notebook of these cells as a run does it."""

    def work(*sources: str, tell: Callable[[str], None] = lambda line: None) -> Done:
        notebook("reason = ''", *sources)
        return run._execute(TASK, federation(), tmp_path, kernel, tell)

    return work


def test_a_notebook_with_its_result_at_its_end_is_done(execute, tmp_path):
    """With where it is and what it holds; the person who waits is told what cells print, as they print it."""
    lines: list[str] = []
    done = execute("print('one', end='\\n\\n'); print('two')", RESULT, tell=lines.append)
    assert done.path == tmp_path / "00-preflight.ipynb"
    assert done.result["outcome"] == "verified"
    assert read_result(done.path) == done.result
    assert "    one" in lines
    assert "    two" in lines
    assert "verified" in lines[-1]
    assert "1 with a warning" in lines[-1]
    assert "    ! a-check (dc1): look here" in lines


@pytest.mark.parametrize(
    "sources",
    [
        ("1",),
        (RESULT, "1"),
        (RESULT, ""),
        ("import sys", "sys.exit(0)", RESULT),
        ("raise SystemExit", RESULT),
    ],
    ids=["no result", "code after the result", "empty last cell", "sys.exit(0)", "SystemExit"],
)
def test_a_notebook_without_its_result_at_its_end_is_not_done(execute, sources):
    """papermill calls all of these a success."""
    with pytest.raises(KernelError) as caught:
        execute(*sources)
    assert "no result" in caught.value.found
    assert caught.value.exit_code == 51


def test_an_error_of_ours_keeps_its_class_and_its_words(execute, tmp_path):
    """So that the exit code is the cause's; the hint leads to the whole story."""
    with pytest.raises(errors.PreflightError) as caught:
        execute(
            "from consulfed_lib.errors import PreflightError\n"
            "raise PreflightError('2 findings.', 'mend them', ['a (dc1): x', 'b (dc2): y'])",
            RESULT,
        )
    error = caught.value
    assert error.found == "2 findings."
    assert error.details == ("a (dc1): x", "b (dc2): y")
    assert error.hint.startswith("mend them")
    assert str(tmp_path / "00-preflight.ipynb") in error.hint


def test_any_other_error_is_a_fault_of_ours(execute):
    """Exit code 1, with its class and its words; never a success."""
    with pytest.raises(ConsulfedError) as caught:
        execute("{}['missing']", RESULT)
    assert type(caught.value) is ConsulfedError
    assert caught.value.exit_code == 1
    assert "KeyError: 'missing'" in caught.value.found


@pytest.mark.parametrize("form", ["raw", "base64"])
def test_a_record_with_a_private_key_is_not_kept(execute, tmp_path, authority, form):
    """Whoever's it is, and although the notebook came to its end."""
    encode = "" if form == "raw" else "import base64; key = base64.b64encode(key.encode()).decode()"
    source = f"key = ''.join({list(authority.key_pem)!r})\n{encode}\nprint(key)"
    with pytest.raises(LeakError) as caught:
        execute(source, RESULT)
    assert not (tmp_path / "00-preflight.ipynb").exists()
    assert authority.key_pem.splitlines()[1] not in str(caught.value)


def test_a_record_with_a_private_key_is_not_kept_either_when_it_failed(execute, tmp_path, authority):
    """What ended the notebook does not excuse what stands in it."""
    source = f"print(''.join({list(authority.key_pem)!r}))"
    with pytest.raises(LeakError):
        execute(source, "raise ValueError", RESULT)
    assert not (tmp_path / "00-preflight.ipynb").exists()


def test_a_cancelled_run_ends_its_notebook_and_its_file(execute, tmp_path):
    """SIGTERM in the middle of a cell: the cell is interrupted, the file says so, and 130 is the exit code."""

    def cancel_at_begin(line: str) -> None:
        if "begun" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    start = time.monotonic()
    with pytest.raises(Interrupted) as caught, run._terminate_as_interrupt():
        execute("import time\nprint('begun')\ntime.sleep(60)", RESULT, tell=cancel_at_begin)
    assert time.monotonic() - start < 20
    assert caught.value.exit_code == 130
    text = (tmp_path / "00-preflight.ipynb").read_text()
    assert "KeyboardInterrupt" in text
    assert read_result(tmp_path / "00-preflight.ipynb") is None


def test_a_kernel_that_dies_is_an_error_although_its_file_says_completed(
    notebook, federation, tmp_path, tmp_path_factory
):
    """The worst lie of papermill's metadata: no exception, and every cell `completed`, also those that never ran."""
    notebook("reason = ''", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", RESULT)
    mortal = new_manager(tmp_path_factory.mktemp("k") / "k.json")
    mortal.start_kernel()
    try:
        with pytest.raises(KernelError) as caught:
            run._execute(TASK, federation(), tmp_path, mortal, lambda line: None)
    finally:
        mortal.shutdown_kernel(now=True)
    path = tmp_path / "00-preflight.ipynb"
    assert str(path) in str(caught.value)
    assert read_result(path) is None
    record = json.loads(path.read_text())
    assert record["metadata"]["papermill"]["exception"] is None
    assert {cell["metadata"]["papermill"]["status"] for cell in record["cells"]} == {"completed"}
    assert record["cells"][-1]["execution_count"] is None


# How papermill behaves


def test_papermill_calls_a_notebook_that_exits_with_nought_a_success(notebook, kernel, tmp_path):
    """Should this fail after an upgrade, the rule above may have got an easier ground."""
    import papermill

    out = tmp_path / "out.ipynb"
    source = notebook("x = 1", "import sys; sys.exit(0)", RESULT)
    papermill.execute_notebook(source, out, kernel_name="python3", km=kernel, progress_bar=False)
    cells = json.loads(out.read_text())["cells"]
    assert [cell["metadata"]["papermill"]["status"] for cell in cells if cell["cell_type"] == "code"][
        -1
    ] == "pending"


def test_papermill_logs_the_error_as_it_renders_itself(notebook, kernel, tmp_path):
    """`_render_traceback_` is what goes into a pipeline's log: no source line, no frame."""
    import papermill

    source = notebook(
        "x = 1", "from consulfed_lib.errors import ApplyError\nraise ApplyError('It stopped.', 'go on')"
    )
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            source, tmp_path / "out.ipynb", kernel_name="python3", km=kernel, progress_bar=False
        )
    text = str(caught.value)
    assert "ApplyError: It stopped.\nWhat to do: go on" in text
    assert "raise ApplyError" not in text
    assert (caught.value.ename, caught.value.evalue) == ("ApplyError", "It stopped.\nWhat to do: go on")


def test_papermill_takes_any_value_for_a_parameter(notebook, kernel, tmp_path):
    """Types are not enforced, so that `from_notebook` has to."""
    import papermill

    source = notebook("dry_run: bool = True  # x", "dry_run")
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        source, out, {"dry_run": "false"}, kernel_name="python3", km=kernel, progress_bar=False
    )
    assert "'false'" in json.loads(out.read_text())["cells"][-1]["outputs"][0]["data"]["text/plain"]


# Errors as they come out of a notebook


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("details", [(), ("one", "two: - three")], ids=["short", "with details"])
def test_every_class_of_error_comes_out_as_it_went_in(tmp_path, kind, details):
    """Through nothing but its name and its text, which is all that a notebook keeps."""
    for hint in ("do this", ""):
        thrown = kind("It is so.", hint, details)
        caught = run._failure(kind.__name__, str(thrown), tmp_path / "x.ipynb")
        assert type(caught) is kind
        assert (caught.found, caught.details) == (thrown.found, thrown.details)
        assert caught.hint.startswith(hint)
        assert str(tmp_path / "x.ipynb") in caught.hint


@pytest.mark.parametrize("name", ["ValueError", "Exception", "annotations", "__doc__", "int", ""])
def test_what_is_no_error_of_ours_does_not_pass_for_one(tmp_path, name):
    """Also where a module's other name is called so."""
    caught = run._failure(name, "words", tmp_path)
    assert type(caught) is ConsulfedError
    assert "words" in caught.found


def test_an_error_without_words_still_has_its_name(tmp_path):
    """`raise ParamsError("")` must not end in silence."""
    assert "ParamsError" in run._failure("ParamsError", "", tmp_path).found


def test_an_interrupted_cell_is_an_interrupted_run(tmp_path):
    """Somebody pressed the stop button."""
    assert isinstance(run._failure("KeyboardInterrupt", "", tmp_path), Interrupted)


# Results


def outputs(*cells: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A notebook with code cells of these outputs; None makes a markdown cell."""
    kinds = [
        {"cell_type": "markdown", "source": "x"} if cell is None else {"cell_type": "code", "outputs": cell}
        for cell in cells
    ]
    return {"cells": kinds}


MARK = {"output_type": "execute_result", "data": {Result.MIME: {"outcome": "verified"}}}
TEXT = {"output_type": "stream", "text": "x"}
ERROR = {"output_type": "error", "ename": "ValueError"}


@pytest.mark.parametrize(
    ("notebook", "found"),
    [
        (outputs([MARK]), True),
        (outputs([TEXT], [TEXT, MARK], None), True),
        (outputs([MARK], [TEXT]), False),
        (outputs([MARK], []), False),
        (outputs([ERROR]), False),
        (outputs(None), False),
        (outputs(), False),
    ],
)
def test_only_the_last_code_cell_can_hold_the_result(tmp_path, notebook, found):
    """Markdown after it is no matter; code after it is."""
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(notebook))
    assert (read_result(path) is not None) is found


# The run


def test_a_run_stops_at_the_first_notebook_that_fails(notebook, federation, tmp_path):
    """With a folder of its own that only the user can read; later notebooks are not even begun."""
    notebook("x = 1", "from consulfed_lib.errors import PreflightError\nraise PreflightError('Not ready.')")
    lines: list[str] = []
    with pytest.raises(errors.PreflightError, match="Not ready"):
        run.run(federation(), only="", records=tmp_path / "records", tell=lines.append)
    (folder,) = (tmp_path / "records" / "test").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["00-preflight.ipynb"]
    assert str(folder) in lines[0]
    assert "dry run" in lines[0]
    assert "dc1, dc2" in lines[0]


def test_a_record_that_cannot_be_written_is_one_sentence(federation, tmp_path):
    """Before any kernel is started."""
    (tmp_path / "records").write_text("a file")
    with pytest.raises(ParamsError) as caught:
        run.run(federation(), only="", records=tmp_path / "records", tell=lambda line: None)
    assert str(tmp_path / "records") in caught.value.found


def test_two_runs_never_share_a_folder(tmp_path):
    """Also when they begin in the same second."""
    assert run._new_folder(tmp_path) != run._new_folder(tmp_path)


def test_a_signal_means_an_interrupt_during_a_run_only():
    """Afterwards it means again what it meant before."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), run._terminate_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_notebooks_are_those_of_the_checkout():
    """Beside the package."""
    assert (run.notebooks_folder() / "04-verification.ipynb").is_file()


def test_a_dry_run_tells_what_would_change(execute) -> None:
    """A pipeline's log is what a reviewer sees; what stays as it is needs no line."""
    planned = """
from consulfed_lib.results import Result
rows = [{"id": "release", "subject": "dc1", "outcome": "would create", "what": "consul"},
        {"id": "namespace", "subject": "dc1", "outcome": "unchanged", "what": "consul"}]
Result("00-preflight", "test", "dc1", "planned", changes=rows)
"""
    lines: list[str] = []
    execute(planned, tell=lines.append)
    assert "    + would create in dc1: release consul" in lines
    assert not [line for line in lines[:-1] if "namespace" in line]
    assert "1 would create, 1 unchanged" in lines[-1]
