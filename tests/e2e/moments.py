"""Moments of a run, told by the run itself: before each part and each action of each notebook, and each Helm.

Nothing in the library knows of it. Every kernel of a run gets a start-up file of IPython in which the step's parts are
wrapped, and finds a `helm` on its PATH that says that it begins before it becomes the real one. Both say so at a socket
and go on when they are told to; so a test can stop a run exactly there, and kill whatever it likes.

A new action is a moment by itself, because what is wrapped is the list that `actions()` gives.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from consulfed_lib.places import find_program, tools_folder

VARIABLE = "CONSULFED_TEST_MOMENTS"
LONG = 0.3
"""Seconds from which on a part is long enough to be killed within it, too."""

_TELL = """
import json, os, socket

ASKED = os.environ.get("CONSULFED_TEST_MOMENTS")

def tell(**said):
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect("\\0" + ASKED)
        wire.sendall(json.dumps({"pid": os.getpid(), **said}).encode() + b"\\n")
        wire.recv(1)
"""
KERNEL = (
    _TELL
    + """
def install():
    from consulfed_lib.steps.base import Step

    def watched(step, number, of, action):
        def act():
            tell(notebook=step.notebook, part=f"action {number} of {of}", at="before")
            row = action()
            tell(notebook=step.notebook, part=f"action {number} of {of}", at="after",
                 row=[row.subject, row.id, row.outcome])
            return row
        return act

    def apply(self, real=Step.apply):
        actions = self.actions
        self.actions = lambda: [
            watched(self, number, len(found), action)
            for found in [actions()] for number, action in enumerate(found, 1)
        ]
        try:
            return real(self)
        finally:
            del self.actions

    def part(name, real):
        def part(self):
            tell(notebook=self.notebook, part=name, at="before")
            return real(self)
        return part

    Step.apply = apply
    for name in ("preflight", "verify", "result"):
        setattr(Step, name, part(name, getattr(Step, name)))

if ASKED:
    install()
"""
)
"""What a kernel runs when it starts."""
_HELM = (
    "#!{python} -SE\n"
    + _TELL
    + """
import sys
if ASKED:
    tell(notebook="", part="helm " + sys.argv[1], at="before")
os.execv("{helm}", ["{helm}", *sys.argv[1:]])
"""
)


@dataclass(frozen=True)
class Moment:
    """A point of a run at which it can be killed.

    Attributes:
        part: `preflight`, `action 2 of 6`, `helm upgrade`, `verify` or `result`.
        at: `before` it, `within` it, or `after` it; after an action is before the next one, but for the last.
        nth: which of the parts of that name it is; a notebook asks Helm several times.
        seconds: how long the part took in the undisturbed run.
        what: the action's row, for people.
    """

    notebook: str
    part: str
    at: str
    nth: int = 1
    seconds: float = 0.0
    what: str = ""

    def __str__(self) -> str:
        which = f" {self.nth}" if self.nth > 1 else ""
        return f"{self.notebook}: {self.at} {self.part}{which}{self.what and f' ({self.what})'}"

    @property
    def is_helms(self) -> bool:
        return self.part.startswith("helm ")


class Told:
    """A run that stands still at a moment until it is told to go on.

    Attributes:
        pid: of the kernel, or of Helm.
        row: subject, id and outcome of an action that was done.
    """

    def __init__(self, wire: socket.socket, said: dict[str, Any], notebook: str, nth: int):
        self.pid: int = said["pid"]
        self.notebook, self.nth, self.time = notebook, nth, time.monotonic()
        self.part, self.at = said["part"], said["at"]
        self.row: list[str] = said.get("row") or []
        self._wire = wire

    def go(self) -> None:
        """Let it go on; harmless where it does, or is dead."""
        self._wire.close()

    def is_at(self, moment: Moment) -> bool:
        """Whether this is that moment, or the beginning of the part within which it is."""
        at = "before" if moment.at == "within" else moment.at
        mine = (self.notebook, self.part, self.at, self.nth)
        return mine == (moment.notebook, moment.part, at, moment.nth)


class Ground:
    """Where runs of a test leave what they leave: a home and temporary folder of their own, with what tells moments."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.home, self.tmp = folder / "home", folder / "tmp"
        startup = self.home / ".ipython" / "profile_default" / "startup"
        cache = self.home / ".cache" / "consulfed" / "tools"
        programs = folder / "bin"
        for each in (startup, cache, programs, self.tmp):
            each.mkdir(parents=True)
        (cache / "bin").symlink_to(tools_folder())
        (startup / "00-moments.py").write_text(KERNEL)
        helm = programs / "helm"
        helm.write_text(
            _HELM.replace("{python}", sys.executable).replace("{helm}", str(find_program("helm")))
        )
        helm.chmod(0o755)

    def env(self, base: dict[str, str]) -> dict[str, str]:
        return {
            **base,
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "IPYTHONDIR": str(self.home / ".ipython"),
            "PATH": f"{self.folder / 'bin'}:{base['PATH']}",
        }


class Run:
    """A run whose moments are told: iterate over them. What it says goes into a file.

    Whatever it still is when it is left, it is killed.
    """

    _numbers = iter(range(1, 10**6))

    def __init__(self, ground: Ground, base: dict[str, str], command: Sequence[str]):
        self.folder = ground.folder / f"run-{next(self._numbers)}"
        self.folder.mkdir()
        self.began = time.time()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._notebook = ""
        self._listening = socket.socket(socket.AF_UNIX)
        # The name of a Unix socket may be 107 bytes long: a folder of a test may be longer.
        self._listening.bind(f"\0consulfed-moments-{os.getpid()}-{self.folder.name}")
        self._listening.listen(16)
        self._listening.settimeout(0.1)
        env = ground.env(base) | {VARIABLE: self._listening.getsockname()[1:].decode()}
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        for each in self.family():
            each.kill()
        self.process.wait()

    def __iter__(self) -> Iterator[Told]:
        """Each moment as it comes, until the run has ended. Whoever takes one has to let it go on."""
        while True:
            told = self.next()
            if told is not None:
                yield told
            elif self.process.poll() is not None:
                return

    def next(self) -> Told | None:
        """The next moment; None where none comes within a tenth of a second."""
        try:
            wire, _ = self._listening.accept()
        except TimeoutError:
            return None
        wire.settimeout(10)
        said = json.loads(wire.makefile().readline() or "null")
        if said is None:  # killed before it had said anything
            wire.close()
            return None
        self._notebook = notebook = said["notebook"] or self._notebook
        key = notebook, said["part"], said["at"]
        self._counts[key] = self._counts.get(key, 0) + 1
        return Told(wire, said, notebook, self._counts[key])

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """The run and every process that it has, Helm included."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def until(self, moment: Moment) -> Told | None:
        """Let it go on until it stands still at that moment; None where it ended before."""
        for told in self:
            if told.is_at(moment):
                return told
            told.go()
        return None

    def pass_time(self, seconds: float) -> Told | None:
        """Let it work for so long, or until its end; where it comes to its next part before, it stands still there.

        Helm belongs to the part that it is called in, and may begin."""
        end = time.monotonic() + seconds
        held = None
        while (left := end - time.monotonic()) > 0 and self.process.poll() is None:
            if held is not None:
                time.sleep(min(left, 0.1))
            elif told := self.next():
                if told.part.startswith("helm "):
                    told.go()
                else:
                    held = told
        return held

    def to_its_end(self) -> int:
        """Let it go on to its end; its exit code."""
        for told in self:
            told.go()
        return self.process.wait()


def observed(run: Run) -> list[Moment]:
    """Every moment of a run that nobody disturbs, in their order; it is at its end then."""
    tellings = []
    for told in run:
        tellings.append(told)
        told.go()
    rows = {(told.notebook, told.part): ": ".join(told.row[:2]) for told in tellings if told.at == "after"}
    ended = time.monotonic()
    found = []
    for i, told in enumerate(tellings):
        rest = tellings[i + 1 :]
        what = rows.get((told.notebook, told.part), "")
        if told.at == "after":
            follows = next((each for each in rest if each.notebook == told.notebook), None)
            if follows is None or not follows.part.startswith("action"):
                found.append(Moment(told.notebook, told.part, "after", told.nth, what=what))
            continue
        # A part lasts over the Helms in it; a Helm lasts until its kernel does something else.
        after = next((each for each in rest if told.part.startswith("helm") or "helm" not in each.part), None)
        seconds = (after.time if after else ended) - told.time
        moment = (told.notebook, told.part)
        found.append(Moment(*moment, "before", told.nth, seconds, what))
        if seconds >= LONG and told.part != "result":  # with the result a notebook is at its end
            found.append(Moment(*moment, "within", told.nth, seconds, what))
    return found
