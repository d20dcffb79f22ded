"""`papermill --engine consulfed`: what it writes is true, holds no secret, and is there whatever ends it.

The last part pins how papermill's own engine behaves where we rely on it, or would be misled by it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from papermill.engines import papermill_engines

from consulfed_lib import engine
from consulfed_lib.engine import ConsulfedEngine
from consulfed_lib.errors import LeakError
from consulfed_lib.kernels import new_manager
from consulfed_lib.redact import REDACTED, channel, leaks, register

PARAMETERS = "known = 1"
SECRET = hashlib.sha256(b"of the kernel only").hexdigest()
OPEN = """
import hashlib, logging, os, sys, threading
import ipywidgets
from IPython.display import clear_output, display
from consulfed_lib.redact import channel, register

channel.connect()  # and no guard: nothing is held back in the kernel
secret = hashlib.sha256(b"of the kernel only").hexdigest()
register(secret.encode())

def in_pieces(*pieces, file=sys.stdout):
    for piece in pieces:
        file.write(piece)
        file.flush()
"""
SHOWN = {
    "stdout": "print('out', secret)",
    "in pieces": "in_pieces('pieces ', secret[:20], secret[20:40], secret[40:], ' end')",
    "both streams": "in_pieces('a', 'b'); in_pieces('c', 'd', file=sys.stderr); in_pieces('e', 'f')",
    "display": "display({'token': secret}); secret",
    "widget": "ipywidgets.Text(value='typed ' + secret)",
    "updated later": "in_pieces('one', 'two'); shown = display('before', display_id=True)",
    "updates it": "shown.update('after')",
    "cleared": "in_pieces('a', 'b'); clear_output(wait=True); in_pieces('c', 'd')",
}
LAST = "raise ValueError(f'It stopped at {secret}.')"
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "import threading; threading.Event().wait()"


def write(path: Path, *sources: str) -> Path:
    """A notebook with a title, a parameters cell, and cells of these sources."""
    cells: list[Any] = [nbformat.v4.new_markdown_cell("# A title"), nbformat.v4.new_code_cell(PARAMETERS)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += map(nbformat.v4.new_code_cell, sources)
    metadata = {"language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def command(folder: Path, *words: str, umask: int = -1) -> subprocess.CompletedProcess[str]:
    """`papermill in.ipynb out.ipynb` as anybody calls it."""
    environment = dict(os.environ)
    del environment["PYTEST_CURRENT_TEST"]  # ipykernel behaves otherwise where it stands
    words = ("papermill", "in.ipynb", "out.ipynb", "-k", "python3", "--no-progress-bar", *words)
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        umask=umask,
        capture_output=True,
        text=True,
        timeout=120,
    )


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def statuses(notebook: dict[str, Any]) -> list[str]:
    return [cell["metadata"]["papermill"]["status"] for cell in code(notebook)]


def exception(notebook: dict[str, Any]) -> bool | None:
    return notebook["metadata"]["papermill"]["exception"]


# A whole notebook, whose kernel guards nothing


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """By papermill's own command, with everything logged that it can log, and a umask that protects nothing."""
    folder = tmp_path_factory.mktemp("engine")
    write(folder / "in.ipynb", OPEN, *SHOWN.values(), LAST, "1")
    done = command(folder, "--engine", "consulfed", "--log-output", umask=0)
    notebook = read(folder / "out.ipynb")
    mode = stat.S_IMODE((folder / "out.ipynb").stat().st_mode)
    return SimpleNamespace(folder=folder, done=done, notebook=notebook, mode=mode)


def outputs(ran: SimpleNamespace, label: str) -> list[Any]:
    """(kind, text) of each output of a cell."""
    found = next(cell for cell in code(ran.notebook) if "".join(cell["source"]) == SHOWN[label])["outputs"]
    return [
        (o.get("name") or o["output_type"], "".join(o.get("text") or o["data"]["text/plain"])) for o in found
    ]


def test_papermill_knows_the_engine_by_its_entry_point():
    """Nothing has to be imported for it."""
    assert papermill_engines.get_engine("consulfed") is ConsulfedEngine


def test_the_runner_finds_what_only_the_kernel_knew(ran):
    """A kernel tells what it reads, so that a fault of its guard is no leak."""
    assert leaks((ran.folder / "out.ipynb").read_text(), [SECRET, SECRET[40:]]) == 0
    assert outputs(ran, "stdout") == [("stdout", f"out {REDACTED}\n")]
    assert outputs(ran, "display")[1] == ("execute_result", f"'{REDACTED}'")


def test_papermills_log_holds_no_secret_either(ran):
    """Nor does the error with which it ends."""
    log = ran.done.stdout + ran.done.stderr
    assert leaks(log, [SECRET]) == 0
    assert f"out {REDACTED}" in log
    assert f"ValueError: It stopped at {REDACTED}." in log


def test_pieces_of_a_stream_are_one_output(ran):
    """In which a secret is found that came in several."""
    assert outputs(ran, "in pieces") == [("stdout", f"pieces {REDACTED} end")]


def test_streams_stay_in_their_order(ran):
    """What is between two pieces keeps them apart."""
    assert outputs(ran, "both streams") == [("stdout", "ab"), ("stderr", "cd"), ("stdout", "ef")]


def test_a_display_that_is_updated_later_is_found_after_joined_pieces(ran):
    """nbclient knows it by its number among the outputs."""
    assert outputs(ran, "updated later") == [("stdout", "onetwo"), ("display_data", "'after'")]


def test_what_a_cell_takes_back_is_gone(ran):
    """A progress line replaces the one before it."""
    assert outputs(ran, "cleared") == [("stdout", "cd")]


def test_no_state_of_widgets_is_kept(ran):
    """It holds what people type."""
    assert "widgets" not in ran.notebook["metadata"]
    assert "typed" not in json.dumps(outputs(ran, "widget")[1:])


def test_an_ordinary_exception_is_told_as_ever(ran):
    """Exit code 1; the cell failed, and what is after it never ran."""
    assert ran.done.returncode == 1
    assert exception(ran.notebook) is True
    assert set(statuses(ran.notebook)[:-2]) == {"completed"}
    assert statuses(ran.notebook)[-2:] == ["failed", "pending"]
    assert code(ran.notebook)[-1]["execution_count"] is None


def test_the_file_is_its_owners_whatever_the_umask_is(ran):
    """It is evidence, and nobody else's to read."""
    assert ran.mode == 0o600


# What ends it


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real kernel for those notebooks that leave it alive."""
    manager = new_manager(tmp_path_factory.mktemp("k") / "k.json")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A kernel for one notebook."""
    manager = new_manager(tmp_path_factory.mktemp("k") / "k.json")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Executes a notebook with an engine and a kernel; returns what is in the file."""

    def work(engine_name: str, manager: Any, *sources: str, error: Any = None, **more: Any) -> dict[str, Any]:
        import papermill

        source, output = write(tmp_path / "in.ipynb", *sources), tmp_path / "out.ipynb"
        how = {"engine_name": engine_name, "kernel_name": "python3", "km": manager, "progress_bar": False}
        if error:
            with pytest.raises(error):
                papermill.execute_notebook(source, output, **how, **more)
        else:
            papermill.execute_notebook(source, output, **how, **more)
        return read(output)

    return work


@pytest.mark.parametrize(
    ("source", "more"), [(DIES, {}), (HANGS, {"execution_timeout": 1})], ids=["kernel died", "cell timeout"]
)
def test_a_cell_that_did_not_come_to_its_end_has_failed_and_those_after_it_never_ran(
    execute, mortal, source, more
):
    """Whatever ended it: the record of a run is read from here."""
    notebook = execute("consulfed", mortal, "1", source, "2", error=Exception, **more)
    assert exception(notebook) is True
    assert statuses(notebook) == ["completed", "completed", "failed", "pending"]
    assert code(notebook)[-1]["execution_count"] is None
    assert notebook["metadata"]["papermill"]["end_time"]


def test_where_the_kernel_never_starts_no_cell_ran(tmp_path, monkeypatch):
    """papermill's own engine calls all of them completed then."""
    (tmp_path / "kernels" / "dead").mkdir(parents=True)
    spec = {"argv": [sys.executable, "-c", ""], "display_name": "dead", "language": "python"}
    (tmp_path / "kernels" / "dead" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    write(tmp_path / "in.ipynb", "1")
    done = command(tmp_path, "-k", "dead", "--engine", "consulfed")
    assert done.returncode == 1
    notebook = read(tmp_path / "out.ipynb")
    assert exception(notebook) is True
    assert statuses(notebook) == ["pending", "pending"]


def test_a_notebook_that_leaves_with_nought_did_not_come_to_its_end(execute, kernel):
    """papermill raises nothing for it; the file says so."""
    notebook = execute("consulfed", kernel, "import sys; sys.exit(0)", "2")
    assert exception(notebook) is True
    assert statuses(notebook) == ["completed", "failed", "pending"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_finished_file(tmp_path, number):
    """A pipeline that is cancelled sends SIGTERM; papermill's own engine would die of it at once."""
    write(
        tmp_path / "in.ipynb",
        "print('so far')",
        f"import os; os.kill(os.getppid(), {int(number)})\n{HANGS}",
        "2",
    )
    done = command(tmp_path, "--engine", "consulfed")
    notebook = read(tmp_path / "out.ipynb")
    assert done.returncode == 1, done.stderr
    assert "Aborted!" in done.stderr
    assert exception(notebook) is True
    assert statuses(notebook) == ["completed", "completed", "failed", "pending"]
    assert notebook["metadata"]["papermill"]["end_time"]
    assert "so far" in json.dumps(code(notebook)[1]["outputs"])


def test_the_file_is_written_when_a_code_cell_begins_and_at_the_end(tmp_path):
    """Who reads it while a cell works sees that it does, and that those before it ended; a text is no news."""
    path = tmp_path / "out.ipynb"
    cells = [
        nbformat.v4.new_code_cell("1"),
        nbformat.v4.new_markdown_cell("a"),
        nbformat.v4.new_code_cell("2"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {}})
    keeper = engine._Manager(notebook, output_path=str(path), progress_bar=False)
    keeper.notebook_start()
    seen = []
    for cell in keeper.nb.cells:
        keeper.cell_start(cell)
        seen.append(statuses(read(path)))
        keeper.cell_complete(cell)
        seen.append(statuses(read(path)))
    keeper.notebook_complete()
    assert seen[:4] == [["running", "pending"]] * 4
    assert seen[4:] == [["completed", "running"]] * 2
    assert statuses(read(path)) == ["completed", "completed"]


# What may not be kept


def test_a_private_key_in_an_output_leaves_no_file(tmp_path, mortal, authority):
    """Whoever's it is, and although the kernel died after it; nor does the error show it."""
    import papermill

    source = write(tmp_path / "in.ipynb", f"print(''.join({list(authority.key_pem)!r}))", DIES)
    with pytest.raises(LeakError) as caught:
        papermill.execute_notebook(
            source,
            tmp_path / "out.ipynb",
            engine_name="consulfed",
            kernel_name="python3",
            km=mortal,
            progress_bar=False,
        )
    assert not (tmp_path / "out.ipynb").exists()
    assert "out.ipynb" in caught.value.found
    assert authority.key_pem.splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(
    "show", [repr, lambda value: html.escape(value.decode("latin-1"))], ids=["repr", "HTML"]
)
def test_a_secret_is_found_behind_the_escapes_of_the_file_too(tmp_path, show):
    """JSON writes backslashes and quotes otherwise; a reader of the notebook sees them as they were."""
    value = b'\xc8\xc9 "<secret>"\n\xca\xcb'
    register(value if show is repr else value.decode("latin-1").encode())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"# {show(value)}")])
    (tmp_path / "out.ipynb").touch()
    with pytest.raises(LeakError, match="not kept"):
        engine._withhold(notebook, str(tmp_path / "out.ipynb"))
    assert not (tmp_path / "out.ipynb").exists()


def test_nothing_is_said_to_be_removed_that_is_not(authority):
    """papermill writes to a store after each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(authority.key_pem)])
    with pytest.raises(LeakError, match="stands where we can remove nothing") as caught:
        engine._withhold(notebook, "s3://records/out.ipynb")
    assert "remove s3://records/out.ipynb" in caught.value.hint


def test_a_notebook_without_secrets_is_kept(tmp_path):
    """Although others are known."""
    register(SECRET.encode())
    (tmp_path / "out.ipynb").touch()
    engine._withhold(nbformat.v4.new_notebook(), str(tmp_path / "out.ipynb"))
    assert (tmp_path / "out.ipynb").exists()


def test_a_private_key_in_what_a_full_disk_cut_off_leaves_no_file(tmp_path, authority):
    """papermill writes the file where it lies, as far as it comes; here files end at a size."""
    fill = "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (4000, 4000)); print('x' * 9999)"
    write(tmp_path / "in.ipynb", f"print(''.join({list(authority.key_pem)!r}))", fill)
    done = command(tmp_path, "--engine", "consulfed")
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert "LeakError" in done.stderr
    assert not (tmp_path / "out.ipynb").exists()
    assert authority.key_pem.splitlines()[1] not in done.stderr


def test_a_file_that_was_there_is_made_private_too(tmp_path):
    """An earlier output, of papermill's own engine."""
    path = tmp_path / "out.ipynb"
    path.touch(0o644)
    engine._make_private(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_keeps_a_file_from_being_made_is_papermills_to_say(tmp_path):
    """It has its own words for a folder that is not there."""
    engine._make_private(str(tmp_path / "nowhere" / "out.ipynb"))
    assert list(tmp_path.iterdir()) == [], "no folder is made where a name was mistyped"


@pytest.mark.parametrize(
    ("path", "is_file"),
    [
        ("out.ipynb", True),
        ("/a/out.ipynb", True),
        ("-", False),
        ("s3://a/out.ipynb", False),
        ("", False),
        (None, False),
    ],
)
def test_only_files_of_this_machine_are_made_private(path, is_file):
    """Standard output and stores far away have rights of their own."""
    assert engine._is_file(path) is is_file


def test_the_listener_of_a_notebook_leaves_nothing():
    """Its folder is private, and goes with it."""
    with engine._listening() as environment:
        path = Path(environment[channel.VARIABLE])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


# papermill as we rely on it


@pytest.mark.parametrize(
    ("source", "more"), [(DIES, {}), (HANGS, {"execution_timeout": 1})], ids=["kernel died", "cell timeout"]
)
def test_papermill_calls_completed_what_never_ran(execute, mortal, source, more):
    """Which is why we have an engine; should this fail after an upgrade, it may have become needless."""
    notebook = execute("nbclient", mortal, "1", source, "2", error=Exception, **more)
    assert exception(notebook) is None
    assert set(statuses(notebook)) == {"completed"}
    assert code(notebook)[-1]["execution_count"] is None


def test_papermill_fails_on_an_error_that_a_cell_declares(tmp_path, kernel):
    """So that what is expected to fail has to be caught in the library; the rest is run all the same."""
    import papermill

    notebook = nbformat.read(write(tmp_path / "in.ipynb", "raise ValueError('x')", "2"), 4)
    notebook.cells[-2].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    how = {"kernel_name": "python3", "km": kernel, "progress_bar": False}
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **how)
    assert statuses(read(tmp_path / "out.ipynb"))[-2:] == ["completed", "completed"]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """papermill's command with its own engine: one parameter that is known and one that is not, and an early leave."""
    folder = tmp_path_factory.mktemp("stock")
    shows = "import ipywidgets\nipywidgets.Text(value='typed')"
    write(folder / "in.ipynb", shows, "import sys; sys.exit(0)", "known")
    done = command(folder, "-p", "known", "2", "-p", "unknown", "3")
    return SimpleNamespace(done=done, notebook=read(folder / "out.ipynb"))


def test_papermill_calls_a_notebook_that_exits_a_success(stock):
    """With exit code 0, and cells that are still pending: a pipeline would go on."""
    assert stock.done.returncode == 0
    assert statuses(stock.notebook)[-2:] == ["failed", "pending"]


def test_papermill_only_warns_of_a_parameter_that_nobody_declared(stock):
    """So that we refuse those ourselves."""
    assert "Passed unknown parameter: unknown" in stock.done.stderr


def test_papermill_injects_its_cell_right_after_the_declared_one(stock):
    """Under this first line and this tag, by which a record knows it."""
    tags = [cell["metadata"].get("tags") for cell in stock.notebook["cells"]]
    assert tags[1:3] == [["parameters"], ["injected-parameters"]]
    assert "".join(stock.notebook["cells"][2]["source"]) == "# Parameters\nknown = 2\nunknown = 3\n"


def test_papermill_keeps_the_state_of_widgets(stock):
    """What people typed, in clear; our engine drops it."""
    assert "typed" in json.dumps(stock.notebook["metadata"]["widgets"])
