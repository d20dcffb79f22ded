"""`consulfed run` as a whole, with tiny notebooks, real kernels and the real papermill: its record and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from consulfed_lib import errors, execution, run
from consulfed_lib.errors import Interrupted, ParamsError
from consulfed_lib.execution import Done, read_result
from consulfed_lib.steps import NOTEBOOKS, PER_SECONDARY

RESULT = """
from consulfed_lib.results import Result
Result("{name}", "test", globals().get("secondary", "all"), "verified")
"""
MEET = """
import socket
meeting = socket.socket(socket.AF_UNIX)
meeting.connect({path!r})
meeting.sendall(secondary.encode())
assert meeting.recv(1) == b"!"
print("met", secondary)
"""


@pytest.fixture
def runbook(monkeypatch, tmp_path) -> Callable[..., None]:
    """Makes five notebooks that come to their end, with a cell before it where one is given: `runbook(n03="…")`."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(execution, "notebooks_folder", lambda: folder)

    def make(**cells: str) -> None:
        for name in NOTEBOOKS:
            own = ["secondary = ''"] if name in PER_SECONDARY else []
            sources = [
                "\n".join(["reason = ''", *own]),
                cells.get(f"n{name[:2]}", "1"),
                RESULT.format(name=name),
            ]
            made = [nbformat.v4.new_code_cell(source) for source in sources]
            made[0].metadata["tags"] = ["parameters"]
            metadata = {"language_info": {"name": "python"}}
            nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), folder / f"{name}.ipynb")

    return make


@pytest.fixture
def start(federation, tmp_path) -> Callable[..., list[Done]]:
    """Runs the notebooks for a federation with so many secondaries; what is told is in `start.told`."""

    def work(secondaries: int = 1, only: str = "") -> list[Done]:
        clusters = [{"context": f"dc{i + 2}", "datacenter": f"dc{i + 2}"} for i in range(secondaries)]
        params = federation(secondaries=clusters)
        return run.run(params, only=only, records=tmp_path / "records", tell=work.told.append)  # type: ignore[attr-defined]

    work.told = []  # type: ignore[attr-defined]
    return work


@pytest.fixture
def meeting(tmp_path_factory) -> Iterator[Callable[..., str]]:
    """A place where cells meet: source of a cell that goes on only when so many are in it, or never."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def cell(of: int, then: Callable[[], None] | None = None) -> str:
        path = str(tmp_path_factory.mktemp("m") / "s")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        server.settimeout(60)
        servers.append(server)

        def host() -> None:
            guests = [server.accept()[0] for _ in range(of)]
            for guest in guests:
                guest.recv(100)
            if then:
                then()
            else:
                for guest in guests:
                    guest.sendall(b"!")
            rooms.append(guests)  # their sockets stay open

        rooms: list[list[socket.socket]] = []
        thread = threading.Thread(target=host, daemon=True)
        thread.start()
        threads.append(thread)
        return MEET.format(path=path)

    yield cell
    for thread in threads:
        thread.join(60)
    for server in servers:
        server.close()


def record(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "records" / "test").iterdir()
    return folder


def kernels_left() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if "ipykernel_launcher" in " ".join(each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE
    ]


def test_a_run_stops_at_the_first_notebook_that_fails(runbook, start, tmp_path):
    """With a folder of its own that only the user can read; later notebooks are not even begun."""
    runbook(n00="from consulfed_lib.errors import PreflightError\nraise PreflightError('Not ready.')")
    with pytest.raises(errors.PreflightError, match="Not ready"):
        start()
    assert stat.S_IMODE(record(tmp_path).stat().st_mode) == 0o700
    assert [path.name for path in record(tmp_path).iterdir()] == ["00-preflight.ipynb"]
    assert str(record(tmp_path)) in start.told[0]
    assert "dry run" in start.told[0]
    assert "dc1, dc2" in start.told[0]


def test_papermill_in_several_threads_keeps_notebooks_apart(runbook, start, tmp_path, meeting):
    """Four cells are at work at the same moment; each has its own parameters, output and lines in the log."""
    names = ["dc2", "dc3", "dc4", "dc5"]
    runbook(n02=meeting(of=4))
    done = start(secondaries=4, only="02")
    assert sorted(each.result["subject"] for each in done) == names
    for name in names:
        path = record(tmp_path) / f"02-secret-transfer-{name}.ipynb"
        notebook = json.loads(path.read_text())
        assert notebook["metadata"]["papermill"]["parameters"]["secondary"] == name
        assert notebook["metadata"]["papermill"]["output_path"] == str(path)
        printed = "".join(p for c in notebook["cells"] for o in c["outputs"] for p in o.get("text", []))
        assert printed == f"met {name}\n"
        assert f"{name} |     met {name}" in start.told
    assert {stat.S_IMODE(each.path.parent.stat().st_mode) for each in done} == {0o700}
    assert kernels_left() == []


def test_one_secondary_that_fails_stops_no_other_one(runbook, start, tmp_path):
    """The rest is verified without it; the verdict names it, and the end is of its class."""
    runbook(
        n02="from consulfed_lib.errors import ClusterError\n"
        "if secondary == 'dc3': raise ClusterError('dc3 refuses.', 'ask its owner')"
    )
    with pytest.raises(errors.ClusterError) as caught:
        start(secondaries=2)
    assert "1 of 2 secondaries failed: dc3" in caught.value.found
    assert caught.value.hint.startswith("ask its owner. The whole story: ")
    assert sorted(path.name for path in record(tmp_path).iterdir()) == [
        "00-preflight.ipynb",
        "01-primary-setup.ipynb",
        "02-secret-transfer-dc2.ipynb",
        "02-secret-transfer-dc3.ipynb",
        "03-secondary-setup-dc2.ipynb",
        "04-verification-without-dc3.ipynb",
    ]
    verdict = start.told[-1].splitlines()
    assert verdict[0] == "Verdict of test: 1 of 2 secondaries failed"
    assert any(line.startswith("dc3") and "dc3 refuses." in line for line in verdict)


def test_a_cancelled_run_ends_every_notebook_and_its_file(runbook, start, tmp_path, meeting):
    """SIGTERM while three cells are at work: each is interrupted, each file says so, and 130 is the exit code."""
    runbook(n03=meeting(of=3, then=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(Interrupted) as caught:
        start(secondaries=3, only="03")
    assert caught.value.exit_code == 130
    for name in ("dc2", "dc3", "dc4"):
        assert f"03-secondary-setup {name}" in caught.value.found
        path = record(tmp_path) / f"03-secondary-setup-{name}.ipynb"
        assert "KeyboardInterrupt" in path.read_text()
        assert read_result(path) is None
    assert "– interrupted" in start.told[-1]
    assert kernels_left() == []


def test_nothing_begins_after_a_cancel(runbook, start, tmp_path, meeting):
    """Also what has its kernel already."""
    runbook(n02=meeting(of=1, then=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(Interrupted, match="during 02-secret-transfer dc2"):
        start()
    assert not (record(tmp_path) / "03-secondary-setup-dc2.ipynb").exists()
    assert not (record(tmp_path) / "04-verification.ipynb").exists()


def test_a_record_that_cannot_be_written_is_one_sentence(start, tmp_path):
    """Before any kernel is started."""
    (tmp_path / "records").write_text("a file")
    with pytest.raises(ParamsError) as caught:
        start()
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


def test_secondary_may_be_given_several_times(monkeypatch, tmp_path):
    """`consulfed run --secondary dc2 --secondary dc4`; the params file's own choice is as good."""
    from consulfed_lib import cli

    asked: dict[str, Any] = {}
    monkeypatch.setattr(run, "run", lambda params, **more: asked.update(more) or [])
    params = tmp_path / "p.yaml"
    secondaries = ", ".join(f"{{context: c{i}, datacenter: dc{i}}}" for i in (2, 3, 4))
    params.write_text(
        "federation: test\nchart: {version: 1.9.11}\nprimary: {context: c1, datacenter: dc1}\n"
        f"secondaries: [{secondaries}]\n"
    )
    assert cli.main(["run", str(params), "--secondary", "dc2", "--secondary", "dc4"]) == 0
    assert asked["secondaries"] == ("dc2", "dc4")
