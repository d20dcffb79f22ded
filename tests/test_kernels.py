"""Kernels that are started ahead: nothing shows of it in a record, and nothing is left of them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest

from consulfed_lib import kernels, nursery
from consulfed_lib.errors import Interrupted
from consulfed_lib.kernels import Kernels
from consulfed_lib.nursery import NAME, Born, Nursery
from consulfed_lib.provisioner import Forking
from consulfed_lib.redact import leaks

LOOK = """import json, sys
print(json.dumps({"modules": [name for name in sys.modules if name.startswith("consulfed_lib.steps.")],
                  "names": [name for name in dir() if "consulfed" in name], "history": list(In)}))
import hashlib
from consulfed_lib import redact
assert redact.install()
redact.register(hashlib.sha256(b"of a kernel").hexdigest().encode())"""


class Broken(Exception):
    """Something goes wrong in the middle of a run."""


def process(manager: Any) -> psutil.Process:
    return psutil.Process(manager.provisioner.pid)


def ahead(kernels: Kernels) -> list[Any]:
    """Those that are started already, for notebooks to come."""
    return [starting.result() for _, starting in kernels._ready]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A line of kernels for three notebooks; the first ran one, then something broke while the second was in use."""
    import papermill

    folder = tmp_path_factory.mktemp("kernels")
    seen = SimpleNamespace(output=folder / "out.ipynb", processes=[])
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOK)]), folder / "in.ipynb")
    secret = hashlib.sha256(b"of a kernel").hexdigest()
    try:
        with Kernels(["00-preflight", "01-primary-setup", "02-secret-transfer"]) as kernels:
            seen.folder = kernels._folder
            with kernels.take("00-preflight") as manager:
                papermill.execute_notebook(
                    folder / "in.ipynb", seen.output, kernel_name="python3", km=manager, progress_bar=False
                )
                seen.told = leaks(secret)
                seen.live = {process(each) for each in (manager, *ahead(kernels))}
                seen.mode = stat.S_IMODE(seen.folder.stat().st_mode)
                seen.transport = manager.transport
                seen.tcp = process(manager).net_connections("inet")
                seen.unix = {each.laddr for each in process(manager).net_connections("unix") if each.laddr}
                first = process(manager)
            seen.first_is_gone = not psutil.wait_procs([first], timeout=5)[1]
            with kernels.take("01-primary-setup") as manager:
                seen.live |= {process(each) for each in (manager, *ahead(kernels))}
                raise Broken
    except Broken:
        seen.broke = True
    return seen


def cell(ran: SimpleNamespace) -> dict[str, Any]:
    return json.loads(Path(ran.output).read_text())["cells"][0]


def printed(ran: SimpleNamespace) -> dict[str, Any]:
    return json.loads("".join(cell(ran)["outputs"][0]["text"]))


def test_starting_ahead_does_not_count_as_a_cell(ran):
    """The record's first cell is In[1], with nothing before it: what was imported ahead was no cell."""
    assert cell(ran)["execution_count"] == 1
    assert printed(ran)["history"] == ["", LOOK]


def test_the_step_is_imported_ahead(ran):
    """That is what it is for: nobody waits for imports. It is the notebook's own step."""
    assert "consulfed_lib.steps.preflight" in printed(ran)["modules"]


def test_a_kernel_speaks_over_unix_sockets_in_a_private_folder(ran):
    """On TCP any user of the machine could listen to a run, or take part in it.

    ipykernel keeps one TCP port of its own, through which processes that a cell forks print (iostream.IOPubThread);
    nobody is connected to it, and it takes nothing without its random key.
    """
    assert ran.transport == "ipc"
    channels = {Path(name) for name in ran.unix if name.startswith(str(ran.folder))}
    assert len(channels) == 5
    assert ran.mode & 0o077 == 0
    assert [each.status for each in ran.tcp] in ([], [psutil.CONN_LISTEN])


def test_what_a_kernel_knows_to_be_secret_its_runner_knows(ran):
    """While the kernel still works: the runner keeps what it puts out."""
    assert ran.told


def test_a_kernel_ends_with_its_notebook(ran):
    """Not only with the whole run: each holds a hundred megabytes, and secrets."""
    assert ran.first_is_gone


def test_after_an_error_no_kernel_and_no_folder_is_left(ran):
    """Neither the one in use nor those that were started ahead."""
    assert ran.broke
    assert len(ran.live) == 3
    assert [each for each in ran.live if not is_gone(each)] == []
    assert not ran.folder.exists()


def test_a_line_of_no_notebooks_leaves_nothing():
    """Nothing to run is nothing to start."""
    with Kernels([]) as kernels:
        assert kernels._ready == []
    assert not kernels._folder.exists()


def test_so_many_are_ahead_as_work_at_once_and_never_too_many():
    """A wave of secondaries finds its kernels ready; a hundred secondaries do not fill the memory ahead of time."""
    for width, later in ((1, 2), (3, 3), (16, 4)):
        kernels = Kernels(["00-preflight"], width)
        assert kernels._ahead_later == later
        kernels.__exit__()


@pytest.fixture(scope="module")
def together() -> SimpleNamespace:
    """Kernels of which two work at the same time, taken in threads that end; then they are interrupted."""
    seen = SimpleNamespace(errors=[])
    with Kernels(["02-secret-transfer", "02-secret-transfer", "03-secondary-setup"], 2) as kernels:
        taken = kernels.take("02-secret-transfer"), kernels.take("02-secret-transfer")
        with ThreadPoolExecutor(2) as pool:
            managers = list(pool.map(lambda each: each.__enter__(), taken))
        seen.are_two = managers[0] is not managers[1]
        seen.alive = [manager.is_alive() for manager in managers]
        unexpected = kernels.take("04-verification")
        seen.other = unexpected.__enter__().is_alive()
        unexpected.__exit__(None, None, None)
        kernels.interrupt()
        try:
            kernels.take("03-secondary-setup").__enter__()
        except Interrupted as error:
            seen.errors.append(error)
        kernels.kill()
        seen.killed = [not manager.is_alive() for manager in managers]
        for each in taken:
            each.__exit__(None, None, None)
        seen.folder = kernels._folder
    return seen


def test_notebooks_at_the_same_time_have_kernels_of_their_own(together):
    """And a kernel outlives the thread that asked for it: Linux ends a child with the thread that started it."""
    assert together.are_two
    assert together.alive == [True, True]


def test_a_notebook_that_nobody_expected_gets_a_kernel_too(together):
    """A second preflight, for example, once an unfit secondary is left out."""
    assert together.other


def test_after_an_interrupt_no_notebook_gets_a_kernel(together):
    """Its run is about to end."""
    assert len(together.errors) == 1


def test_kernels_that_do_not_stop_are_killed(together):
    """And their folder goes, whatever happened."""
    assert together.killed == [True, True]
    assert not together.folder.exists()


def forked(kernels: Kernels) -> list[bool]:
    """Of a kernel for each of two notebooks, one after the other: whether it is the nursery's child, and alive."""
    found = []
    for notebook in ("00-preflight", "02-secret-transfer"):
        with kernels.take(notebook) as manager:
            assert manager.is_alive()
            found.append(process(manager).name() == NAME and process(manager).ppid() != os.getpid())
    return found


def test_every_kernel_of_a_run_is_a_fork_of_one_process():
    """Which has imported everything; it ends with the run."""
    with Kernels(["00-preflight", "02-secret-transfer"]) as kernels:
        assert forked(kernels) == [True, True]
        assert kernels._nursery is not None
        nursery = psutil.Process(kernels._nursery._process.pid)
        assert nursery.parent() == psutil.Process()
    assert is_gone(nursery)


def test_without_its_nursery_a_run_goes_on():
    """Somebody killed it: kernels start by themselves from then on. Those that it bore ended with it."""
    with Kernels(["00-preflight", "02-secret-transfer"]) as kernels:
        with kernels.take("00-preflight") as manager:
            assert kernels._nursery is not None
            kernel = process(manager)
            kernels._nursery._process.kill()
            kernels._nursery._process.wait()
            assert psutil.wait_procs([kernel], timeout=30)[1] == []
        while kernels._ready:
            kernels._end(kernels._ready.pop()[1].result())
        assert forked(kernels) == [False, False]


@pytest.mark.parametrize(
    "command", [["another/python", "-m", "ipykernel_launcher"], [sys.executable, "-m", "x"]]
)
def test_another_kernel_than_this_pythons_is_started_as_it_is(command):
    """A kernelspec python3 of the user's own, for example."""
    forking = Forking()
    assert forking._born([*command, "-f", "x.json"]) is None


def test_a_kernel_that_cannot_begin_is_told_as_ended(tmp_path):
    """Nobody waits for it, and the nursery bears the next one."""
    made = Nursery([], dict(os.environ))
    try:
        for _ in range(2):
            unborn = made.bear([], str(tmp_path / "no" / "log"))
            assert unborn is not None
            assert unborn.wait() == unborn.poll() == 1
    finally:
        made.close()


def test_elsewhere_than_on_linux_each_kernel_starts_by_itself(monkeypatch):
    """Where a fork may not go on by itself."""
    monkeypatch.setattr(nursery, "SUPPORTED", False)
    with Kernels(["00-preflight"]) as kernels:
        assert forked(kernels) == [False, False]


def test_a_kernel_that_has_ended_is_told_as_such():
    """As Popen tells it: by poll, and wait returns."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended = Born(gone.pid)
    assert ended.poll() == ended.wait() == 1
    ended.terminate()
    ended.kill()


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of sockets whose run is gone is removed by the next run; that of a run which lives stays."""
    monkeypatch.setattr(kernels, "in_memory", lambda: str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f"{kernels._PREFIX}{gone.pid}-x").mkdir()
    (tmp_path / f"{kernels._PREFIX}{os.getpid()}-x").mkdir()
    kernels._sweep()
    assert [folder.name for folder in tmp_path.glob(f"{kernels._PREFIX}*")] == [
        f"{kernels._PREFIX}{os.getpid()}-x"
    ]
