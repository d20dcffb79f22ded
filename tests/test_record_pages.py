"""Pages are made beside a run, and what could not be made there is made after it, or missed: the run goes on."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from consulfed_lib.record import page
from consulfed_lib.record.archive import Staging
from consulfed_lib.record.pages import Pages

from . import recorded


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    pages.start()
    yield pages
    pages.stop()


def notebook(folder: Path, label: str = "applied") -> Path:
    path = folder / recorded.FILES[label]
    path.write_bytes(recorded.executed().notebooks[label])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Good notebooks, and among them whatever else there may be; one process makes their pages."""
    folder, pages = tmp_path_factory.mktemp("pages"), Pages()
    pages.start()
    pages.make(notebook(folder, "verified"))
    pages.make(folder / "00-that-is-not-there.ipynb")
    for number, content in enumerate([b"", b"{", b"\xff", recorded.executed().notebooks["applied"][:5000]]):
        (folder / f"00-broken-{number}.ipynb").write_bytes(content)
        pages.make(folder / f"00-broken-{number}.ipynb")
    pages.make(notebook(folder, "applied"))
    process = pages._process
    assert process.stdin
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    niceness = os.getpriority(os.PRIO_PROCESS, process.pid)
    pages.finish()
    return SimpleNamespace(folder=folder, niceness=niceness)


@pytest.mark.parametrize("label", ["verified", "applied"])
def test_pages_are_made_beside_and_are_the_same_as_ever(made, label):
    """And for nobody else to read."""
    path = made.folder / recorded.FILES[label]
    found = path.with_suffix(".html")
    assert found.read_text() == page.html(recorded.executed().notebook(label), path.stem)
    assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_what_is_no_notebook_gets_no_page_and_stops_nothing(made):
    """A run may have been stopped while it was written; the ones after it have their pages."""
    assert sorted(path.name for path in made.folder.glob("*.html")) == [
        "00-preflight.html",
        "01-primary-setup.html",
    ]


def test_it_takes_only_what_others_leave_idle(made):
    """nbconvert wants a processor for seconds, and so does the run."""
    assert made.niceness == 19


def test_a_process_that_was_killed_is_survived(tmp_path, pages):
    """Its pages are made when the record is."""
    staging = Staging(tmp_path / "records", "test")
    staging.begin(recorded.begun())
    path = notebook(staging.path)
    process = psutil.Process(pages._process.pid)
    process.kill()
    process.wait()
    pages.make(path)
    pages.make(path)
    pages.finish()
    assert not path.with_suffix(".html").exists()
    staging.pages()
    assert path.with_suffix(".html").read_text() == page.html(
        recorded.executed().notebook("applied"), path.stem
    )
    staging.close()


RUN = """
import signal, sys
from pathlib import Path
from consulfed_lib.record.pages import Pages

signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
pages = Pages()
pages.start()
print("started", flush=True)
sys.stdin.readline()
pages.make(Path(sys.argv[1]))
pages.finish()
"""


def test_ctrl_c_at_a_terminal_is_not_for_it(tmp_path):
    """It is sent to every process of the terminal's group; the run still wants its pages."""
    path = notebook(tmp_path)
    words, pipe = [sys.executable, "-c", RUN, str(path)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as run:
        assert run.stdout
        assert run.stdout.readline() == "started\n"
        os.killpg(run.pid, signal.SIGINT)
        assert run.stdout.readline() == "interrupted\n"
        run.communicate("\n")
    assert path.with_suffix(".html").exists()


def test_it_is_ended_whatever_it_does(tmp_path):
    """A run that failed waits for no page, and leaves no process."""
    pages = Pages()
    pages.start()
    pages.make(notebook(tmp_path))
    pages.stop()
    assert pages._process.returncode == -signal.SIGKILL
