"""One notebook of a run: that nothing counts as done that did not come to its end.

Beside our own rules this pins how papermill behaves where we rely on it, with tiny notebooks and a real kernel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from consulfed_lib import errors, execution
from consulfed_lib.errors import ConsulfedError, Interrupted, KernelError, LeakError
from consulfed_lib.execution import Done, Task, execute, read_result
from consulfed_lib.kernels import new_manager
from consulfed_lib.results import Result

CLASSES = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ConsulfedError)
]
RESULT = """
from consulfed_lib.results import Result
Result("00-preflight", "test", "dc1", "verified", checks=[
    {"id": "a-check", "subject": "dc1", "severity": "warning", "found": "look here"}])
"""
TASK = Task("00-preflight")


def in_a_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """As a run does it: in the main thread nbclient would take over the signals."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


# Names and parameters


@pytest.fixture
def three(federation) -> Callable[..., Any]:
    """Parameters of a federation with three secondaries."""
    secondaries = [{"context": name, "datacenter": name} for name in ("dc2", "dc3", "dc4")]
    return lambda **changes: federation(secondaries=secondaries, **changes)


def test_what_was_looked_at_without_a_secondary_never_has_the_name_of_the_whole():
    """A verified record of the rest must not pass for one of the federation."""
    whole, rest = Task("04-verification"), Task("04-verification", without=("dc3", "dc5"))
    assert whole.output == "04-verification.ipynb"
    assert rest.output == "04-verification-without-dc3-dc5.ipynb"
    assert rest.label == "04-verification without dc3, dc5"
    assert Task("02-secret-transfer", "dc3").output == "02-secret-transfer-dc3.ipynb"


def test_a_name_is_never_too_long_for_a_file():
    """Also where many secondaries with long names are left out."""
    names = tuple(f"{'x' * 60}{i}" for i in range(30))
    assert Task("04-verification", without=names).output == "04-verification-without-30.ipynb"


def test_a_notebook_gets_every_parameter_and_its_own_secondary(three):
    """papermill warns of a parameter that a notebook does not declare, and only 02 and 03 declare that one."""
    given = execution._parameters(Task("03-secondary-setup", "dc3"), three())
    assert given["secondary"] == "dc3"
    given = execution._parameters(TASK, three(secondary="dc3"))
    assert set(given) == set(three().model_dump()) - {"secondary"}
    assert json.loads(json.dumps(given)) == given


def test_a_notebook_without_a_secondary_does_not_get_it(three):
    """The rest of the secondaries is what its record then speaks of."""
    given = execution._parameters(Task("04-verification", without=("dc3",)), three())
    assert [each["datacenter"] for each in given["secondaries"]] == ["dc2", "dc4"]


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
    monkeypatch.setattr(execution, "notebooks_folder", lambda: folder)

    def make(*sources: str) -> Path:
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata["tags"] = ["parameters"]
        made = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(made, folder / "00-preflight.ipynb")
        return folder / "00-preflight.ipynb"

    return make


@pytest.fixture
def executed(notebook, kernel, federation, tmp_path) -> Callable[..., Done]:
    """Executes a notebook of these cells as a run does it."""

    def work(*sources: str, tell: Callable[[str], None] = lambda line: None) -> Done:
        notebook("reason = ''", *sources)
        return in_a_thread(execute, TASK, federation(), tmp_path, kernel, tell)

    return work


def test_a_notebook_with_its_result_at_its_end_is_done(executed, tmp_path):
    """With where it is and what it holds; the person who waits is told what cells print, as they print it."""
    lines: list[str] = []
    done = executed("print('one', end='\\n\\n'); print('two')", RESULT, tell=lines.append)
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
def test_a_notebook_without_its_result_at_its_end_is_not_done(executed, sources):
    """papermill calls all of these a success."""
    with pytest.raises(KernelError) as caught:
        executed(*sources)
    assert "no result" in caught.value.found
    assert caught.value.exit_code == 51


def test_an_error_of_ours_keeps_its_class_and_its_words(executed, tmp_path):
    """So that the exit code is the cause's; the hint leads to the whole story."""
    with pytest.raises(errors.PreflightError) as caught:
        executed(
            "from consulfed_lib.errors import PreflightError\n"
            "raise PreflightError('2 findings.', 'mend them', ['a (dc1): x', 'b (dc2): y'])",
            RESULT,
        )
    error = caught.value
    assert error.found == "2 findings."
    assert error.details == ("a (dc1): x", "b (dc2): y")
    assert error.hint.startswith("mend them")
    assert str(tmp_path / "00-preflight.ipynb") in error.hint


def test_any_other_error_is_a_fault_of_ours(executed):
    """Exit code 1, with its class and its words; never a success."""
    with pytest.raises(ConsulfedError) as caught:
        executed("{}['missing']", RESULT)
    assert type(caught.value) is ConsulfedError
    assert caught.value.exit_code == 1
    assert "KeyError: 'missing'" in caught.value.found


@pytest.mark.parametrize("form", ["raw", "base64"])
def test_a_record_with_a_private_key_is_not_kept(executed, tmp_path, authority, form):
    """Whoever's it is, and although the notebook came to its end."""
    encode = "" if form == "raw" else "import base64; key = base64.b64encode(key.encode()).decode()"
    source = f"key = ''.join({list(authority.key_pem)!r})\n{encode}\nprint(key)"
    with pytest.raises(LeakError) as caught:
        executed(source, RESULT)
    assert not (tmp_path / "00-preflight.ipynb").exists()
    assert authority.key_pem.splitlines()[1] not in str(caught.value)


def test_a_record_with_a_private_key_is_not_kept_either_when_it_failed(executed, tmp_path, authority):
    """What ended the notebook does not excuse what stands in it."""
    source = f"print(''.join({list(authority.key_pem)!r}))"
    with pytest.raises(LeakError):
        executed(source, "raise ValueError", RESULT)
    assert not (tmp_path / "00-preflight.ipynb").exists()


def test_what_refuses_a_cell_ends_the_notebook_before_it(notebook, kernel, federation, tmp_path):
    """A kernel that executes nothing takes no notice of an interrupt: the next cell must not begin all the same."""
    notebook("reason = ''", "print(6 * 7)", RESULT)
    asked: list[bool] = []

    def refuse() -> None:
        asked.append(True)
        if len(asked) == 3:  # after the parameters and those injected
            raise Interrupted("Interrupted.")

    with pytest.raises(Interrupted):
        in_a_thread(execute, TASK, federation(), tmp_path, kernel, lambda line: None, refuse)
    cells = json.loads((tmp_path / TASK.output).read_text())["cells"]
    assert [cell["execution_count"] is None for cell in cells] == [False, False, True, True]


def test_a_kernel_that_dies_is_an_error_and_its_file_says_so(
    notebook, federation, tmp_path, tmp_path_factory
):
    """papermill's own engine would call every cell completed; ours says which one failed, and which never ran."""
    notebook("reason = ''", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", RESULT)
    mortal = new_manager(tmp_path_factory.mktemp("k") / "k.json")
    mortal.start_kernel()
    try:
        with pytest.raises(KernelError) as caught:
            in_a_thread(execute, TASK, federation(), tmp_path, mortal, lambda line: None)
    finally:
        mortal.shutdown_kernel(now=True)
    path = tmp_path / "00-preflight.ipynb"
    assert str(path) in str(caught.value)
    assert read_result(path) is None
    record = json.loads(path.read_text())
    assert record["metadata"]["papermill"]["exception"] is True
    statuses = [cell["metadata"]["papermill"]["status"] for cell in record["cells"]]
    assert statuses[-3:] == ["completed", "failed", "pending"]
    assert record["cells"][-1]["execution_count"] is None


def test_a_dry_run_tells_what_would_change(executed) -> None:
    """A pipeline's log is what a reviewer sees; what stays as it is needs no line."""
    planned = """
from consulfed_lib.results import Result
rows = [{"id": "release", "subject": "dc1", "outcome": "would create", "what": "consul"},
        {"id": "namespace", "subject": "dc1", "outcome": "unchanged", "what": "consul"}]
Result("00-preflight", "test", "dc1", "planned", changes=rows)
"""
    lines: list[str] = []
    executed(planned, tell=lines.append)
    assert "    + would create in dc1: release consul" in lines
    assert not [line for line in lines[:-1] if "namespace" in line]
    assert "1 would create, 1 unchanged" in lines[-1]


def test_the_notebooks_are_those_of_the_checkout():
    """Beside the package."""
    assert (execution.notebooks_folder() / "04-verification.ipynb").is_file()


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
        caught = execution._failure(kind.__name__, str(thrown), tmp_path / "x.ipynb")
        assert type(caught) is kind
        assert (caught.found, caught.details) == (thrown.found, thrown.details)
        assert caught.hint.startswith(hint)
        assert str(tmp_path / "x.ipynb") in caught.hint


@pytest.mark.parametrize("name", ["ValueError", "Exception", "annotations", "__doc__", "int", ""])
def test_what_is_no_error_of_ours_does_not_pass_for_one(tmp_path, name):
    """Also where a module's other name is called so."""
    caught = execution._failure(name, "words", tmp_path)
    assert type(caught) is ConsulfedError
    assert "words" in caught.found


def test_an_error_without_words_still_has_its_name(tmp_path):
    """`raise ParamsError("")` must not end in silence."""
    assert "ParamsError" in execution._failure("ParamsError", "", tmp_path).found


def test_an_interrupted_cell_is_an_interrupted_run(tmp_path):
    """Somebody pressed the stop button."""
    assert isinstance(execution._failure("KeyboardInterrupt", "", tmp_path), Interrupted)


def test_an_interrupted_part_says_in_the_log_what_was_done(tmp_path):
    """Its cell says it in the notebook."""
    said = "Apply of 01 was interrupted.\n  - done so far: 1 created\nWhat to do: run the same again"
    error = execution._failure("Interrupted", said, tmp_path / "01.ipynb")
    assert isinstance(error, Interrupted)
    assert (error.found, error.details) == ("Apply of 01 was interrupted.", ("done so far: 1 created",))


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


def test_a_line_is_told_as_a_whole():
    """A kernel sends what is printed in pieces; beside other notebooks' lines half a line would make no sense."""
    lines: list[str] = []
    said = execution._Indented(lines.append)
    for piece in ("dc2: ser", "vers 1/1\n\n  gate", "way", " ready"):
        said.write(piece)
    assert lines == ["    dc2: servers 1/1"]
    said.close()
    assert lines == ["    dc2: servers 1/1", "      gateway ready"]
