"""What is in a sandbox's folder, and whether the supervisor that it tells of still lives.

A process is known by its id, the time it started and the boot of the machine, so that an id that was given
to another process meanwhile is never taken for ours, let alone signalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from .layout import SandboxLayout


@dataclass(frozen=True)
class ProcessId:
    """A process, and no later one of the same id."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Raises ProcessLookupError when there is no such process."""
        return cls(pid, _start_time(pid), Path("/proc/sys/kernel/random/boot_id").read_text().strip())

    @property
    def alive(self) -> bool:
        try:
            return ProcessId.of(self.pid) == self
        except ProcessLookupError:
            return False

    def open(self) -> int | None:
        """A pidfd (readable when the process has ended, and the way to signal it); None when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Looked at after opening: from here on the descriptor can only mean the process that was looked at.
        if self.alive:
            return descriptor
        os.close(descriptor)
        return None


def _start_time(pid: int) -> int:
    """Clock ticks from boot to the start of the process, field 22 of /proc/PID/stat (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    # The name, in parentheses, may hold anything; the fields after it start with the state (3).
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return int(fields[19])


@dataclass(frozen=True)
class Shape:
    """What a sandbox was asked to be; kept with its state, which holds its addresses."""

    block: int
    datacenters: int
    servers: int
    load_balancer: str = "ip"
    existing: str = ""
    """What Consul the first cluster came with (`existing`); empty: with none."""

    def layout(self, folder: Path) -> SandboxLayout:
        return SandboxLayout(folder, self.block, self.datacenters, self.servers, self.load_balancer)

    def __str__(self) -> str:
        size = f"{_count(self.datacenters, 'datacenter')} with {_count(self.servers, 'server')} each"
        if self.load_balancer != "ip":
            size += f", load balancers with a {self.load_balancer}"
        return f"{size}, a Consul in dc1 that was there before ({self.existing})" if self.existing else size


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


@dataclass(frozen=True)
class Folder:
    """The state folder of one sandbox; the paths in it."""

    path: Path

    @property
    def marker(self) -> Path:
        """The file that makes a folder a sandbox's own; also the lock of `up` and `down`."""
        return self.path / ".consulfed-sandbox"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def chart(self) -> Path:
        return self.path / "chart" / "consul"

    @property
    def process_file(self) -> Path:
        """JSON: the supervisor's ProcessId; there from its start to its end, and after a crash."""
        return self.path / "supervisor.json"

    @property
    def shape_file(self) -> Path:
        """JSON: the Shape of the state in the folder; there as long as there is any."""
        return self.path / "shape.json"

    @property
    def existing_file(self) -> Path:
        """JSON: the kind of Consul that the first cluster came with; there once it is complete."""
        return self.path / "existing.json"

    @property
    def faults(self) -> Path:
        """What was injected into it and is not taken back yet, a JSON file each (`faults.memory`)."""
        return self.path / "faults"

    @property
    def health_file(self) -> Path:
        """JSON: the health of each of the supervisor's tasks."""
        return self.path / "health.json"

    @property
    def hosts_file(self) -> Path:
        """The names that resolve in the sandbox (`names`)."""
        return self.path / "hosts"

    def keys(self, cluster: str) -> Path:
        return self.path / "keys" / cluster

    @property
    def volatile(self) -> Path:
        """Where pods' secrets are while it runs: in memory (/dev/shm) if that can be."""
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        memory = Path("/dev/shm")
        if os.access(memory, os.W_OK):
            candidate = memory / f"consulfed-{os.getuid()}-{name}"
            # /dev/shm is everyone's: a folder of that name that another user made is not ours to use.
            if not candidate.exists() or _is_own_folder(candidate):
                return candidate
        return self.path / "volatile"

    def process(self) -> ProcessId | None:
        """The supervisor, if it lives."""
        recorded = read_json(self.process_file)
        try:
            process = ProcessId(**recorded)
        except TypeError:
            return None
        return process if process.alive else None

    def shape(self) -> Shape | None:
        try:
            return Shape(**read_json(self.shape_file))
        except TypeError:
            return None

    def health(self) -> dict[str, Any]:
        return read_json(self.health_file)

    def prepare(self) -> None:
        """Make the folder, for the user only. Raises SandboxError for a folder with something else in it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Listed first: another `up` makes its marker before anything else.
            if any(self.path.iterdir()) and not self.marker.exists():
                raise SandboxError(
                    f"{self.path} holds other files and is no sandbox's folder.",
                    "name an empty or a new folder.",
                )
            self.path.chmod(0o700)
            self.marker.touch(mode=0o600)
        except OSError as error:
            raise SandboxError(
                f"The sandbox's folder {self.path} cannot be used: {error.strerror}.",
                "name another one with --folder or CONSULFED_SANDBOX.",
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One `up` or `down` at a time; a second one waits for the first."""
        with self.marker.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remove_traces(self) -> None:
        """What must not outlive the supervisor, whether or not its state is kept."""
        for path in (self.kubeconfig, self.process_file, self.health_file, self.hosts_file):
            path.unlink(missing_ok=True)
        remove_tree(self.volatile)

    def remove_state(self) -> None:
        """The clusters' state: the next `up` starts with new ones. Only names that are ours; the log stays."""
        self.shape_file.unlink(missing_ok=True)
        self.existing_file.unlink(missing_ok=True)
        names = [entry.name for entry in self.path.iterdir() if entry.name.removeprefix("dc").isdigit()]
        for name in (*names, "keys", "chart", self.faults.name):
            remove_tree(self.path / name)


def remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def write_private(path: Path, content: bytes) -> None:
    """Write a whole file with mode 0600, or leave what was there."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """As `write_private`; dataclasses become objects."""
    write_private(path, json.dumps(value, indent=1, default=asdict).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is none, or none that can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_own_folder(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
