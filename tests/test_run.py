"""`consulfed run` as a whole, with tiny notebooks, real kernels and the real papermill: its record and its end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from consulfed_lib import errors, execution, redact, run
from consulfed_lib import params as parameters
from consulfed_lib.errors import Interrupted, LeakError, RecordError
from consulfed_lib.execution import Done, read_result
from consulfed_lib.params import NOTEBOOK_NAMES
from consulfed_lib.record.archive import Staging
from consulfed_lib.record.predicate import beginning
from consulfed_lib.record.verify import verify
from consulfed_lib.steps import NOTEBOOKS, PER_SECONDARY

from .conftest import is_kernel

RESULT = """
from consulfed_lib.results import Result
Result("{name}", "test", globals().get("secondary", "all"), "verified", parameters={{}})
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
            declared = [each for each in NOTEBOOK_NAMES if each != "secondary" or name in PER_SECONDARY]
            sources = [
                "\n".join(f"{each} = ''" for each in declared),
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

    def work(secondaries: int = 1, only: str = "", **more: Any) -> list[Done]:
        clusters = [{"context": f"dc{i + 2}", "datacenter": f"dc{i + 2}"} for i in range(secondaries)]
        params = federation(secondaries=clusters)
        told = work.told.append  # type: ignore[attr-defined]
        return run.run(params, only=only, records=tmp_path / "records", tell=told, **more).done

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
    """The only record; nothing of a run lies beside it."""
    folder, lock = sorted((tmp_path / "records" / "test").iterdir(), reverse=True)
    assert lock.name == ".lock"
    return folder


def notebooks(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in record(tmp_path).glob("*.ipynb"))


def claimed(tmp_path: Path) -> str:
    """The outcome that the record claims; it verifies."""
    verdict = verify(record(tmp_path))
    assert verdict.problems == []
    return verdict.facts["outcome"]


def kernels_left() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if is_kernel(each)]


def test_a_run_stops_at_the_first_notebook_that_fails(runbook, start, tmp_path):
    """With a folder of its own that only the user can read; later notebooks are not even begun."""
    runbook(n00="from consulfed_lib.errors import PreflightError\nraise PreflightError('Not ready.')")
    with pytest.raises(errors.PreflightError, match="Not ready"):
        start()
    assert stat.S_IMODE(record(tmp_path).stat().st_mode) == 0o500
    assert notebooks(tmp_path) == ["00-preflight.ipynb"]
    assert claimed(tmp_path) == "failed"
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
        printed = "".join(p for c in notebook["cells"] for o in c["outputs"] for p in o.get("text", []))
        assert printed == f"met {name}\n"
        assert f"{name} |     met {name}" in start.told
    assert {each.path.parent for each in done} == {record(tmp_path)}
    assert claimed(tmp_path) == "verified"
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
    assert claimed(tmp_path) == "failed"
    assert notebooks(tmp_path) == [
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
    assert claimed(tmp_path) == "interrupted"
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
    with pytest.raises(RecordError) as caught:
        start()
    assert str(tmp_path / "records") in caught.value.found


def test_a_record_that_holds_a_secret_is_not_kept(runbook, start, tmp_path):
    """Whatever the run came to: the end is a leak, and nothing of the record is left."""
    runbook(n00="print(''.join(['-----BEGIN ', 'PRIVATE KEY-----']))")
    with pytest.raises(LeakError) as caught:
        start(only="00")
    assert caught.value.exit_code == 50
    assert [path.name for path in (tmp_path / "records" / "test").iterdir()] == [".lock"]


def test_a_secret_that_only_a_kernel_knew_is_scrubbed_by_the_runner(runbook, start, tmp_path):
    """Also where the kernel's own guard is gone: the kernel had told the runner what is secret."""
    runbook(
        n00="import hashlib; from consulfed_lib import redact; redact.install()\n"
        "value = hashlib.sha256(b'x').hexdigest(); redact.register(value.encode())\n"
        "session = get_ipython().kernel.session; session.send = type(session).send.__get__(session)\n"
        "print('it is', value)"
    )
    start(only="00")
    value = hashlib.sha256(b"x").hexdigest()
    files = [path.read_text() for path in record(tmp_path).iterdir()]
    assert not [text for text in files if value in text]
    assert [text for text in files if f"it is {redact.REDACTED}" in text]


def test_a_disk_that_is_full_leaves_no_record(runbook, tmp_path):
    """Files end at a size here, as on a full disk: one sentence, an exit code, and nothing in the record's place."""
    runbook()
    _params_file(tmp_path)
    code = (
        "import resource, sys; from pathlib import Path; from consulfed_lib import cli, execution\n"
        f"execution.notebooks_folder = lambda: Path({str(tmp_path / 'notebooks')!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # a page of HTML is larger
        f"sys.exit(cli.main(['run', {str(tmp_path / 'p.yaml')!r}, '--only', '00', '--records', "
        f"{str(tmp_path / 'records')!r}]))"
    )
    env = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == RecordError.exit_code, done.stderr
    assert "file too large" in done.stderr
    assert "Traceback" not in done.stderr
    left = [path.name for path in (tmp_path / "records" / "test").iterdir()]
    assert [name for name in left if not name.startswith(".")] == []


def test_what_a_killed_run_left_is_recorded_by_the_next_one(runbook, start, tmp_path):
    """As interrupted, with what its notebooks show; the two are one chain."""
    left = Staging(tmp_path / "records", "test")
    runbook()
    start(only="00")
    left.begin(beginning(_params(tmp_path), "run", execution.notebooks_folder(), ""))
    (left.path / "00-preflight.ipynb").write_bytes(
        next((tmp_path / "records" / "test").glob("2*/00-preflight.ipynb")).read_bytes()
    )
    os.close(left._lock)  # as when its process dies
    start(only="00")
    assert any(f"{left.run} is recorded as interrupted" in line for line in start.told)
    verdict = verify(left.place)
    assert verdict.problems == []
    assert verdict.facts["outcome"] == "interrupted"


def test_the_summary_is_one_line_of_json(runbook, tmp_path, monkeypatch, capsys):
    """The last one on standard output, also where the run failed, and where it could not begin."""
    from consulfed_lib import cli

    runbook(n00="from consulfed_lib.errors import PreflightError\nraise PreflightError('Not ready.')")
    monkeypatch.chdir(tmp_path)
    params = _params_file(tmp_path)
    assert cli.main(["run", str(params), "-o", "json"]) == 11
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["outcome"] == "failed"
    assert summary["exit_code"] == summary["error"]["exit_code"] == 11
    assert Path(summary["record"]).is_dir()
    assert cli.main(["run", "nothing.yaml", "-o", "json"]) == 10
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["class"] == "ParamsError"
    assert cli.main(["run", str(params), "--approved-plan", "x"]) == 10
    assert "--apply" in capsys.readouterr().err


def _params_file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(
        "federation: test\nchart: {version: 1.9.11}\nprimary: {context: c1, datacenter: dc1}\n"
        "secondaries: [{context: c2, datacenter: dc2}]\n"
    )
    return path


def _params(tmp_path: Path) -> parameters.Federation:
    return parameters.load(_params_file(tmp_path))


def test_secondary_may_be_given_several_times(monkeypatch, tmp_path):
    """`consulfed run --secondary dc2 --secondary dc4`; the params file's own choice is as good."""
    from consulfed_lib import cli

    asked: dict[str, Any] = {}
    ended = run.Outcome("r", "test", "verified", tmp_path)
    monkeypatch.setattr(run, "carry_out", lambda params, **more: asked.update(more) or ended)
    params = tmp_path / "p.yaml"
    secondaries = ", ".join(f"{{context: c{i}, datacenter: dc{i}}}" for i in (2, 3, 4))
    params.write_text(
        "federation: test\nchart: {version: 1.9.11}\nprimary: {context: c1, datacenter: dc1}\n"
        f"secondaries: [{secondaries}]\n"
    )
    assert cli.main(["run", str(params), "--secondary", "dc2", "--secondary", "dc4"]) == 0
    assert asked["secondaries"] == ("dc2", "dc4")
