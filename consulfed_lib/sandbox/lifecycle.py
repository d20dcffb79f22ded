"""Bring a sandbox up and down, from outside: the other end of the supervisor's pipe and signals."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from . import claims, existing, tools
from .layout import MAX_DATACENTERS, MAX_NODES
from .state import Folder, ProcessId, Shape, remove_tree

UP_SECONDS = 60.0
"""Until every API server answers; it takes about one second."""

DOWN_SECONDS = 30.0
"""Until every process has ended; the supervisor gives itself 20 s."""

PORT_SECONDS = 5.0
"""Until every port of a sandbox that has ended is closed."""

LOG_LINES = 15

Report = Callable[[str], None]


def up(
    folder: Folder,
    datacenters: int | None,
    servers: int | None,
    block: int | None,
    report: Report,
    load_balancer: str | None = None,
    kind: str | None = None,
) -> Shape:
    """Bring the sandbox up; returns when every API server answers.

    What is not said follows the sandbox that is up, else the state that is there (kept by `down --keep`, or
    left by a crash), else it is 2 datacenters with 1 server each, whose load balancers have an address.

    Args:
        kind: of the Consul that the first cluster comes with (`existing`); it is complete when this returns. None or
            nothing said before: it comes with none.

    Raises SandboxError or ToolError; nothing runs then that did not run before.
    """
    _check(datacenters, servers, block)
    folder.prepare()
    with folder.locked():
        wanted = {
            "datacenters": datacenters,
            "servers": servers,
            "block": block,
            "load_balancer": load_balancer,
            "existing": kind,
        }
        if folder.process():
            shape = folder.shape()
            if shape is None:
                raise SandboxError(
                    f"{folder.shape_file} is missing.", "run `consulfed sandbox down`, then up."
                )
            _same(shape, wanted, "A sandbox is up already", "run `consulfed sandbox down` first.")
            report(f"already up: {shape}")
            if shape.existing:
                # Does nothing but where the `up` before was cut off while it was at that.
                existing.install(folder, shape, tools.ensure("helm", report=report)["helm"].path, report)
            return shape
        kept = folder.shape()
        if kept:
            remedy = "leave the options out, or give that state up with `consulfed sandbox down`."
            _same(kept, wanted, "The state that was kept is another sandbox's", remedy)
            datacenters, servers, block = kept.datacenters, kept.servers, kept.block
            load_balancer, kind = kept.load_balancer, kept.existing
            crashed = folder.process_file.exists()
            report(f"{'the last sandbox was killed: ' if crashed else ''}going on with its state: {kept}")
            _see_ports_closed(kept.block)
        folder.remove_traces()
        # Others need nss_wrapper only once a gateway is given a name; here each load balancer has one.
        library = ["nss_wrapper"] if load_balancer == "hostname" else []
        found = tools.ensure(*tools.PROGRAMS, *library, report=report)
        programs = {name: tool.path for name, tool in found.items()}
        try:
            asked = _Asked(datacenters or 2, servers or 1, load_balancer or "ip", kind or "", block)
            _start(folder, asked, programs, report)
        except BaseException:
            folder.remove_traces()
            if not kept:
                folder.remove_state()
            raise
        shape = folder.shape()
        assert shape is not None, "the supervisor writes it before it is ready"
        return shape


def _check(datacenters: int | None, servers: int | None, block: int | None) -> None:
    if sys.platform != "linux":
        raise SandboxError("The sandbox needs Linux.", "run it in a Linux machine, a virtual one will do.")
    for name, value, low, high in (
        ("datacenters", datacenters, 1, MAX_DATACENTERS),
        ("servers", servers, 1, MAX_NODES),
        ("block", block, claims.FIRST_BLOCK, claims.LAST_BLOCK),
    ):
        if value is not None and not low <= value <= high:
            raise SandboxError(f"--{name} is {value}.", f"give a number from {low} to {high}.")


def _same(shape: Shape, wanted: Mapping[str, int | str | None], problem: str, remedy: str) -> None:
    for name, value in wanted.items():
        if value is not None and value != getattr(shape, name):
            raise SandboxError(f"{problem}: {shape}, in block 127.{shape.block}.0.0/16.", remedy)


@dataclass(frozen=True)
class _Asked:
    """The options of a sandbox that is to be started, each of them decided but the block."""

    datacenters: int
    servers: int
    load_balancer: str
    existing: str
    block: int | None


def _start(folder: Folder, asked: _Asked, programs: dict[str, Path], report: Report) -> None:
    """Start the supervisor and follow what it announces, until it is ready or has given up; then see to the Consul
    that the first cluster comes with.
    """
    volatile = folder.volatile
    volatile.mkdir(mode=0o700)
    reading, writing = os.pipe()
    options = {
        "folder": folder.path,
        "datacenters": asked.datacenters,
        "servers": asked.servers,
        "load-balancer": asked.load_balancer,
        "announce-to": writing,
    }
    if asked.existing:
        options["existing"] = asked.existing
    if asked.block is not None:
        options["block"] = asked.block
    command = [sys.executable, "-m", "consulfed_lib.sandbox.supervisor"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += [word for name, path in programs.items() for word in ("--tool", f"{name}={path}")]
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            with folder.log.open("wb") as log:
                folder.log.chmod(0o600)
                supervisor = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                    pass_fds=(writing,),
                )
        finally:
            os.close(writing)
        try:
            _copy_chart(folder)
            _follow(folder, pipe.fileno(), report)
            if asked.existing:
                shape = folder.shape()
                assert shape is not None, "the supervisor writes it before it is ready"
                existing.install(folder, shape, programs["helm"], report)
        except BaseException:
            # Also when a person interrupts: a sandbox that is half up is no use to anyone.
            supervisor.terminate()
            _reap(supervisor)
            raise


def _environment() -> dict[str, str]:
    """As here, but independent of the working directory, and with one malloc arena for each of two threads."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}
    if paths := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep))
    return environment


def _copy_chart(folder: Folder) -> None:
    """The sandbox's chart, where `helm` and `chart: {ref: sandbox}` find it."""
    remove_tree(folder.chart)
    shutil.copytree(Path(__file__).parent / "chart" / "consul", folder.chart)


def _follow(folder: Folder, pipe: int, report: Report) -> None:
    for message in _messages(pipe, time.monotonic() + UP_SECONDS):
        if "cluster" in message:
            report(f"{message['cluster']} answers at {message['url']}")
        elif "error" in message:
            raise SandboxError(**message["error"])
        elif "ready" in message:
            return
    lines = folder.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    raise SandboxError("The sandbox's supervisor did not come up.", f"the whole log is {folder.log}.", lines)


def _messages(pipe: int, deadline: float) -> Iterator[dict[str, Any]]:
    """Each line that comes, as JSON, until the other end is closed or the deadline is over."""
    pending = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            return
        chunk = os.read(pipe, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from map(json.loads, lines)


def _reap(supervisor: subprocess.Popen[bytes]) -> None:
    try:
        supervisor.wait(DOWN_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def down(folder: Folder, keep: bool, report: Report) -> None:
    """Take the sandbox down; returns when none of its processes and ports is left.

    Args:
        keep: whether the clusters' state stays, for the next `up`.

    Raises SandboxError when something is left.
    """
    if not folder.marker.exists():
        report("not up")
        return
    with folder.locked():
        shape, process = folder.shape(), folder.process()
        crashed = process is None and folder.process_file.exists()
        if process:
            _end(process)
        folder.remove_traces()
        if shape is not None and (process or crashed):
            _see_ports_closed(shape.block)
        done = "down" if process else "not up"
        if keep and shape is not None:
            report(f"{done}; the state of the clusters is kept in {folder.path}")
            return
        folder.remove_state()
        report(done)


def _end(process: ProcessId) -> None:
    """Ask the supervisor to end, and see it and all its children gone; what does not end is killed."""
    import psutil

    descriptor = process.open()
    if descriptor is None:
        return
    children: list[int] = []
    try:
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(process.pid).children(recursive=True)
            children = [pidfd for child in found if (pidfd := _open(child.pid)) is not None]
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _wait([descriptor], DOWN_SECONDS):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _wait([descriptor], DOWN_SECONDS)
        if not _wait(children, 5):
            for child in children:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)
            if not _wait(children, 5):
                raise SandboxError("A program of the sandbox does not end.", "see `ps` for consul and envoy.")
    finally:
        for pidfd in (descriptor, *children):
            os.close(pidfd)


def _see_ports_closed(block: int) -> None:
    """Nothing of that block is listened on any more; raises SandboxError when it still is after a while.

    Programs of a supervisor that was killed are killed by the kernel, a moment later. There is nothing to
    watch: who they were is not known any more.
    """
    deadline = time.monotonic() + PORT_SECONDS
    while left := claims.listening(block):
        if time.monotonic() > deadline:
            raise SandboxError(
                f"The sandbox has ended, but something still listens on {', '.join(left)}.",
                "another program may use these addresses: `ss -ltnp` shows which.",
            )
        time.sleep(0.02)


def _open(pid: int) -> int | None:
    try:
        return ProcessId.of(pid).open()
    except ProcessLookupError:
        return None


def _wait(pidfds: list[int], seconds: float) -> bool:
    """Whether all of these processes have ended within so many seconds."""
    deadline, waiting = time.monotonic() + seconds, list(pidfds)
    while waiting and (left := deadline - time.monotonic()) > 0:
        ended = select.select(waiting, [], [], left)[0]
        waiting = [pidfd for pidfd in waiting if pidfd not in ended]
    return not waiting
