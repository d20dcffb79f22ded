"""Which process works on something, and whether it still does: what a killed run left may be cleared, and nothing else.

Releases, probes, canaries and trials carry the label of the process that made them.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

RUNNER_LABEL = "consulfed-runner"
"""Label whose value is `<machine>.<pid>.<start time>`. On a release's Secret it is the process that runs Helm, so that
a release left in `pending-…` by a killed run of ours can be told from one that somebody is working on."""


def runner_label(pid: int | None = None) -> str:
    """This process, as a label's value: enough to tell later whether it still runs.

    The start time makes the answer right after the pid was given to another process.
    """
    pid = pid or os.getpid()
    return f"{_machine()}.{pid}.{_start_time(pid)}"


def runner_is_gone(label: str) -> bool:
    """Whether a release's runner was on this machine and no longer works on it. False when that cannot be known.

    This process itself counts as gone: while it looks, it runs no Helm.
    """
    machine, _, rest = label.partition(".")
    pid, _, started = rest.partition(".")
    if not pid.isdigit():
        return False
    ours = _machine()
    if machine != ours:  # no process outlives the start of its machine
        known = ours.rpartition("-")[0]
        return bool(known) and machine.startswith(f"{known}-")
    return int(pid) == os.getpid() or _start_time(int(pid)) != started


def _machine() -> str:
    """This boot of this machine, and its pids: pods of one Deployment differ in it however alike their names are.

    `<machine>-<boot>` where the machine is known again after it was started anew; in a container, whose host may be
    another one next time, `<boot>` alone.
    """
    host, space = socket.gethostname(), _read(lambda: os.readlink("/proc/self/ns/pid"))
    boot = _digest(host, _read(Path("/proc/sys/kernel/random/boot_id").read_text), space)
    id = _read(Path("/etc/machine-id").read_text) if space == _NO_CONTAINER else ""
    return f"{_digest(host, id)}-{boot}" if id else boot


_NO_CONTAINER = "pid:[4026531836]"
"""The pid namespace that a machine starts with (PROC_PID_INIT_INO of Linux)."""


def _read(read: Callable[[], str]) -> str:
    try:
        return read().strip()
    except OSError:  # no Linux: the host name must do
        return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which a process started; `0` where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "0"
    return text.rpartition(")")[2].split()[19]
