"""How a record gets to its place: made in a private folder beside the others, and moved there at once when it is whole.

While a run works, two things of it lie in the federation's folder:

    .<run>.partial/   the record as far as it is, for nobody else to read
    .<run>.begun      what was known when the run began; locked (flock) while its process lives

A run that is killed leaves both behind, and the lock falls with the process: so the next run can tell the dead from
the living, and closes the record in its stead as one that was interrupted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets as random
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..canonical import canonical
from ..errors import Interrupted, LeakError, RecordError
from .durable import alone, spoken_of, sync, write_file
from .files import PLAN, RUN, SUMS, sha256_of, sums
from .statement import seal, statement
from .verify import links, verify

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

Scan = Callable[[Path], Mapping[str, Any] | None]
"""Looks for secrets in a folder; returns what it did, for the predicate. Raises LeakError at a hit."""

KILLED = "killed; closed by the run after it"


class Staging:
    """The record of a run while it is made.

    Attributes:
        run: the run's id, `<UTC time>-<6 hex digits>`; the record will be called so.
        path: the private folder in which it is made.
        place: where it will be.
    """

    def __init__(self, records: Path, federation: str):
        """Make the folder. Raises RecordError when it cannot be made."""
        self.federation = federation
        self._parent = (records / federation).absolute()
        with spoken_of("The record's folder cannot be made", self._parent):
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with alone(self._parent):
                self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{random.token_hex(3)}"
                self._lock = os.open(self._begun, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                self.path.mkdir(mode=0o700)

    @classmethod
    def _taken_over(cls, parent: Path, run: str, lock: int) -> Staging:
        """That of a run which is dead; its lock is ours now."""
        staging = cls.__new__(cls)
        staging.federation, staging._parent, staging.run, staging._lock = parent.name, parent, run, lock
        return staging

    @property
    def path(self) -> Path:
        return self._parent / f".{self.run}.partial"

    @property
    def place(self) -> Path:
        return self._parent / self.run

    @property
    def _begun(self) -> Path:
        return self._parent / f".{self.run}.begun"

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write down what is known at the beginning, before anything is done. Raises RecordError."""
        with spoken_of("The record cannot be begun", self._begun):
            with os.fdopen(os.dup(self._lock), "wb") as file:
                file.write(canonical(facts) + b"\n")
            os.fsync(self._lock)
            sync(self._parent)

    def facts(self) -> dict[str, Any] | None:
        """What was written down at the beginning; None where nothing was, or not all of it."""
        try:
            facts = json.loads(self._begun.read_bytes())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the record: all of it or nothing. Raises RecordError."""
        with spoken_of(f"{name} cannot be written", self.path):
            write_file(self.path / name, content)

    def tidy(self) -> list[str]:
        """Remove what a record cannot hold, such as a notebook that a full disk or a kill cut off.

        Returns the names of those notebooks, for `left_out` of the predicate. Raises RecordError.
        """
        with spoken_of("What there is of the run cannot be read", self.path):
            self.path.chmod(0o700)
            return _tidied(self.path)

    def pages(self) -> None:
        """Write the page of each notebook that has none yet. Raises RecordError."""
        for path in sorted(self.path.glob("*.ipynb")):
            if not path.with_suffix(".html").exists():
                from . import page

                with spoken_of(f"The page of {path.name} cannot be made", self.path):
                    notebook = json.loads(path.read_bytes())
                self.write(f"{path.stem}.html", page.html(notebook, path.stem).encode())

    def finish(self, predicate: Mapping[str, Any], signers: Sequence[Signer], scan: Scan) -> Path:
        """Scan, seal and verify the record, and move it to its place in one step.

        Args:
            predicate: what the record says; run, previous record and the scan's answer are added to it.
            scan: is given the folder with everything in clear, what run.json will say included.

        Raises:
            LeakError: it would have held a secret; nothing of it is left.
            RecordError: it cannot be written (then what there is stays, for the next run to close), or does not
                verify (then it is kept aside, as `.<run>.refused`). In its place there is nothing, or, where only the
                very last step failed, the whole record.
        """
        with spoken_of("The record cannot be written", self._parent), alone(self._parent):
            said = {**predicate, "run": self.run, "federation": self.federation, "previous": self._previous()}
            subjects = self._digests()
            # As plain text for the scan: in the envelope it is base64 and harder to search.
            write_file(self.path / RUN, canonical(statement(subjects, said)))
            try:
                said["scan"] = scan(self.path) or said.get("scan")
            except LeakError:
                self.discard()
                raise
            (self.path / RUN).unlink()  # a killed run must leave nothing that looks like one
            write_file(self.path / RUN, seal(statement(subjects, said), signers))
            write_file(self.path / SUMS, sums(self._digests() | {RUN: sha256_of(self.path / RUN)}))
            self._hold()
            self._move()
        return self.place

    def discard(self) -> None:
        """Remove what there is. Raises RecordError when that cannot be done."""
        with spoken_of("What is left of the run cannot be removed", self.path):
            if self.path.exists():
                self.path.chmod(0o700)
                shutil.rmtree(self.path)
            self._begun.unlink(missing_ok=True)
            sync(self._parent)
        self.close()

    def close(self) -> None:
        """Give the lock back; the next run may then close what is left."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _previous(self) -> dict[str, str] | None:
        """The end of the chain: the record that no other one comes after."""
        found = links(self._parent)
        followed = {link.get("run") for link in found.values()}
        ends = [run for run in found if run not in followed] or list(found)
        return {"run": ends[-1], "sha256": sha256_of(self._parent / ends[-1] / RUN)} if ends else None

    def _digests(self) -> dict[str, str]:
        """Name → SHA-256 of each file of the record but run.json and SHA256SUMS."""
        paths = sorted(path for path in self.path.iterdir() if path.name not in {RUN, SUMS})
        for path in paths:
            sync(path)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def _hold(self) -> None:
        """Nothing is kept that `consulfed record verify` would not believe."""
        problems = verify(self.path, name=self.run).problems
        if not problems:
            return
        aside = self._parent / f".{self.run}.refused"
        os.rename(self.path, aside)
        self._begun.unlink(missing_ok=True)
        self.close()
        raise RecordError(
            "The record does not show what it says, and was not kept.",
            f"please report this. What there is of it: {aside}",
            problems,
        )

    def _move(self) -> None:
        for path in self.path.iterdir():
            path.chmod(0o400)
        self.path.chmod(0o500)
        sync(self.path)
        os.rename(self.path, self.place)
        sync(self._parent)
        self._begun.unlink(missing_ok=True)
        self.close()


def abandoned(records: Path, federation: str) -> list[Staging]:
    """What killed runs of a federation left behind, oldest first; each is ours now, and locked.

    Raises RecordError when the folder cannot be read.
    """
    parent = (records / federation).absolute()
    if not parent.is_dir():
        return []
    found = []
    with spoken_of("The records cannot be read", parent), alone(parent):
        runs = {path.name[1:].rpartition(".")[0] for path in parent.glob(".[0-9]*.partial")}
        runs |= {path.name[1:].rpartition(".")[0] for path in parent.glob(".[0-9]*.begun")}
        for run in sorted(runs):
            lock = os.open(parent / f".{run}.begun", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # it lives
                os.close(lock)
                continue
            found.append(Staging._taken_over(parent, run, lock))
    return found


def close_abandoned(staging: Staging, scan: Scan, signers: Sequence[Signer] = ()) -> Path | None:
    """Make a record of what a killed run left: with the outcome `interrupted`, whatever it had come to.

    Returns the record, or None where nothing had been begun and nothing is left.

    Raises LeakError and RecordError as `Staging.finish` does.
    """
    facts = staging.facts()
    notebooks = sorted(staging.path.glob("*.ipynb")) if staging.path.is_dir() else []
    if facts is None or not staging.path.is_dir():
        if notebooks:
            raise _unknown(staging)
        staging.discard()  # nothing had been done yet; or all was, and the record is in its place
        return None
    from .predicate import ending

    left_out = staging.tidy()
    error = Interrupted(f"The run was {KILLED}.", "run the same command again; it goes on")
    predicate = ending(facts, staging.path, error)
    if left_out:
        predicate["left_out"] = left_out
    staging.pages()
    return staging.finish({"scan": None, **predicate, "plan": None}, signers, scan)


def discard(staging: Staging) -> None:
    """Remove what a killed run left."""
    staging.discard()


def partials(folder: Path) -> list[tuple[str, str]]:
    """(run, what is left of it) of a federation's folder: `at work`, `killed` or `refused`."""
    found = []
    for path in sorted([*folder.glob(".[0-9]*.partial"), *folder.glob(".[0-9]*.refused")]):
        run, _, kind = path.name[1:].rpartition(".")
        word = (
            "refused"
            if kind == "refused"
            else "at work"
            if _is_locked(folder / f".{run}.begun")
            else "killed"
        )
        found.append((run, word))
    return found


def _is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; looking takes a shared one for a moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _unknown(staging: Staging) -> RecordError:
    staging.close()
    return RecordError(
        f"A killed run left notebooks without what it had written down at its beginning: {staging.path}.",
        "look at them, and remove that folder",
    )


def _tidied(folder: Path) -> list[str]:
    """Remove what a record cannot hold; returns the notebooks that were not written to their end."""
    left_out = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".ipynb" and not _is_json(path):
            left_out.append(path.name)
            path.unlink()
            path.with_suffix(".html").unlink(missing_ok=True)
        elif path.name in {RUN, SUMS, PLAN} or path.suffix not in {".ipynb", ".html"}:
            path.unlink()  # nobody may approve the plan of a run that did not come to its end
    for path in folder.glob("*.html"):
        if not path.with_suffix(".ipynb").exists():
            path.unlink()
    return left_out


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False
