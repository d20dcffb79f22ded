"""Records by name: a folder, its run.json, a run's id or the beginning of one, or the latest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..results import Table
from . import shape
from .archive import partials
from .files import RUN, SUMS, contents_of, read_file, sha256_of
from .shape import Predicate
from .statement import Sealed, unseal
from .verify import links

LATEST = "latest"
_HINT = "list them with: consulfed record list"


@dataclass(frozen=True)
class Record:
    """A record that can be read; whether it is intact is for `verify` to say."""

    folder: Path
    sealed: Sealed
    predicate: Predicate


@dataclass(frozen=True)
class Row:
    """One line of `consulfed record list`."""

    started: str
    federation: str
    run: str
    kind: str
    result: str
    change_id: str = ""
    plan: str = ""
    signed: str = ""
    chain: str = ""


class Rows(Table):
    """The records that there are."""

    columns = ("started", "federation", "run", "kind", "result", "change_id", "plan", "signed", "chain")

    def summary(self) -> str:
        return f"{len(self.rows)}" if self.rows else "none"


def read(folder: Path) -> Record:
    """Read a record. Raises RecordError when its run.json cannot be read."""
    try:
        sealed = unseal(read_file(folder / RUN))
    except OSError as error:
        raise RecordError(f"{folder} is no record: {RUN}: {error.strerror}.", _HINT) from None
    except RecordError as error:
        raise RecordError(f"{folder}: {error.found}", error.hint) from None
    predicate, problems = shape.read(sealed.predicate)
    if predicate is None:
        raise RecordError(f"{folder}: {RUN} does not say what a record says.", _HINT, problems)
    return Record(folder, sealed, predicate)


def find(name: str, records: Path) -> Path:
    """The folder of the record that is meant.

    Args:
        name: a record's folder, its run.json, a folder in which exactly one record is; a run's id or its beginning;
            `latest`.
        records: where runs are looked for by name.

    Raises:
        RecordError: there is none, or more than one.
    """
    path = Path(name)
    if name and path.is_dir():
        return _in_folder(path)
    if name and path.exists():
        if path.name != RUN:
            raise RecordError(f"{path} is no record: it is neither a folder nor its {RUN}.", _HINT)
        return path.absolute().parent
    every = list(_folders(records))
    if name == LATEST and every:
        return max(every, key=_age)
    found = [folder for folder in every if name and folder.name.startswith(name)]
    exact = [folder for folder in found if folder.name == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise RecordError(f"There is no record {name} in {records}.", _HINT)
    raise RecordError(
        f"{len(found)} records are called {name}….", "write more of the name", [str(f) for f in found]
    )


def _in_folder(path: Path) -> Path:
    """The folder itself where it is a record, however broken; else the one record below it."""
    if any((path / name).exists() for name in (RUN, SUMS)) or any(path.glob("*.ipynb")):
        return path
    below = [each for name in (RUN, SUMS) for depth in ("*", "*/*") for each in path.glob(f"{depth}/{name}")]
    found = sorted({each.parent for each in below if not each.parent.name.startswith(".")})
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} records are" if found else "No record is"
    raise RecordError(f"{what} in {path}; one was expected.", _HINT, [str(each) for each in found[:20]])


def _folders(records: Path, federation: str = "") -> Iterator[Path]:
    parents = [records / federation] if federation else sorted(records.glob("[!.]*"))
    for parent in parents:
        yield from sorted(each for each in parent.glob("[0-9]*") if each.is_dir())


def _age(folder: Path) -> tuple[str, str]:
    try:
        return read(folder).predicate.ended, folder.name
    except RecordError:
        return "", folder.name


def rows(records: Path, federation: str = "") -> Rows:
    """Every record, and what killed runs left, in the order in which they began."""
    found: list[Row] = []
    parents = [records / federation] if federation else sorted(p for p in records.glob("[!.]*") if p.is_dir())
    for parent in parents:
        chain = links(parent)
        found += [_row(folder, chain) for folder in _folders(records, parent.name)]
        found += [
            Row(_time(run), parent.name, run, "", f"{word}, not a record") for run, word in partials(parent)
        ]
    where = f"{records}/{federation}" if federation else f"{records}"
    return Rows(f"Records in {where}", sorted(found, key=lambda row: (row.federation, row.run)))


def _row(folder: Path, chain: Mapping[str, Mapping[str, Any]]) -> Row:
    try:
        record = read(folder)
    except RecordError:
        return Row(_time(folder.name), folder.parent.name, folder.name, "", "cannot be read: verify it")
    said = record.predicate
    return Row(
        started=said.started[:19].replace("T", " "),
        federation=said.federation,
        run=folder.name,
        kind=said.kind if not said.dry_run or said.kind == "plan" else f"{said.kind} (dry)",
        result=said.outcome,
        change_id=said.change_id,
        plan=said.plan.digest.removeprefix("sha256:")[:12] if said.plan else "",
        signed="yes" if record.sealed.keyids else "no",
        chain=_chain(folder, said, chain),
    )


def _chain(folder: Path, said: Predicate, chain: Mapping[str, Mapping[str, Any]]) -> str:
    """`ok`, `first`, `not here` (the record before it) or `broken` (by this record, or by one after it)."""
    own = sha256_of(folder / RUN)
    if any(link.get("run") == said.run and link.get("sha256") != own for link in chain.values()):
        return "broken"
    if said.previous is None:
        return "first"
    if said.previous.run not in chain:
        return "not here"
    return "ok" if sha256_of(folder.parent / said.previous.run / RUN) == said.previous.sha256 else "broken"


def _time(run: str) -> str:
    """
    >>> _time("20261128T222136Z-9a37a6")
    '2026-11-28 22:21:36'
    """
    day, time = run[:8], run[9:15]
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:]}"


def plan_of(record: Record) -> Mapping[str, Any]:
    """Notebook (`03-secondary-setup dc2`) → what it planned: the `notebooks` of plan.json; empty without one."""
    import json

    contents = contents_of(record.folder, []) or {}
    try:
        notebooks = json.loads(contents["plan.json"])["plan"]["notebooks"]
    except (KeyError, ValueError, TypeError):
        return {}
    return notebooks if isinstance(notebooks, dict) else {}
