"""Processes of the node: they die with whoever started them, and are ended gracefully first."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consulfed_lib.sandbox.node import full_disk, process

REPOSITORY = Path(__file__).resolve().parents[2]

PARENT = """
import asyncio, sys
from consulfed_lib.sandbox.node import process
async def main():
    child = await process.spawn(["sleep", "1000"], env={})
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""


def test_child_dies_with_a_parent_that_is_killed():
    """A supervisor that is killed with -9 leaves no process behind."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
        try:
            parent.kill()
            ended, _, _ = select.select([watched], [], [], 5)
        finally:
            os.close(watched)
    assert ended, f"process {child} still runs 5 s after its parent was killed"


def test_child_of_another_parent_does_not_start():
    """A child whose parent ended before it could ask for its signal ends by itself."""
    code = "from consulfed_lib.sandbox.node.process import die_with_parent; die_with_parent(1); print('runs')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert (done.returncode, done.stdout) == (125, b"")


async def _stopped(script: str, grace: float) -> tuple[int, list[str]]:
    lines: list[str] = []
    started = asyncio.Event()

    def log(line: str) -> None:
        lines.append(line)
        started.set()

    child = await process.spawn([sys.executable, "-c", script], env={}, log=log)
    await asyncio.wait_for(started.wait(), 10)
    return await process.stop(child, grace=grace), lines


def test_stop_lets_a_program_end_itself_first():
    """SIGTERM comes first, and a program that ends upon it keeps its own exit code."""
    script = (
        "import signal,sys;signal.signal(15,lambda *a: sys.exit(7));print('up',flush=True);signal.pause()"
    )
    assert asyncio.run(_stopped(script, grace=10)) == (7, ["up"])


def test_stop_kills_a_program_that_does_not_end():
    """After the grace a program is killed, and its exit code says so as a container's would: 137."""
    script = (
        "import signal;signal.signal(15,signal.SIG_IGN);print('up',flush=True)\nwhile True: signal.pause()"
    )
    code, _ = asyncio.run(_stopped(script, grace=0.05))
    assert code == 128 + signal.SIGKILL


def test_environment_is_exactly_what_was_given():
    """Nothing of the supervisor's environment, where tokens may be, reaches a program."""

    async def run() -> bytes:
        child = await process.spawn(["/usr/bin/env"], env={"ONLY": "this"})
        output, _ = await child.communicate()
        return output

    assert asyncio.run(run()) == b"ONLY=this\n"


def test_a_line_too_long_for_the_buffer_does_not_end_the_log():
    """A program whose output has one endless line is logged again from the next line on."""
    script = f"print('x'*{3 << 20}, flush=True); print('after', flush=True)"

    async def run() -> list[str]:
        lines: list[str] = []
        child = await process.spawn([sys.executable, "-c", script], env={}, log=lines.append)
        await child.wait()
        while process._tasks:
            await asyncio.gather(*process._tasks)
        return lines

    assert asyncio.run(run())[-1] == "after"


WRITING = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.write(file, b"x")
for room in (lambda: os.pwrite(file, b"x", 0), lambda: os.posix_fallocate(file, 0, 100)):
    try:
        room()
    except OSError as error:
        print(error.strerror)
"""


def test_a_full_disk_refuses_as_the_kernel_does(tmp_path: Path):
    """For the child alone: what it says goes by write(2), and this process writes on."""
    words = [sys.executable, "-c", WRITING, str(tmp_path / "file")]
    full = subprocess.run(words, preexec_fn=full_disk.refuse_room(), capture_output=True, text=True)
    assert (full.stdout.splitlines(), full.stderr) == (["No space left on device"] * 2, "")
    free = subprocess.run(words, capture_output=True, text=True)
    assert (free.stdout, free.stderr) == ("", "")
    assert (tmp_path / "file").stat().st_size == 100


def test_a_full_disk_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch):
    """System calls have other numbers on other machines."""
    monkeypatch.setattr(full_disk.platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="cannot be had on riscv64"):
        full_disk.refuse_room()
