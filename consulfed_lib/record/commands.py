"""`consulfed record`: what was changed, when, by whom; and whether its record is what it claims to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..errors import RecordError

if TYPE_CHECKING:
    from .verify import Verdict

_records = options.records("Folder of the records.")
_output = options.output("How to say it.")


@click.group()
def record() -> None:
    """List, show, verify and compare records.

    RECORD is a record's folder, its run.json, a run's id or the beginning of one, or `latest`.
    """


@record.command("list")
@click.argument("federation", metavar="[PARAMS|FEDERATION]", default="")
@_records
@_output
def list_records(federation: str, records: Path, output: str) -> None:
    """List the records of a federation, or of all: the oldest first.

    A run that was killed has left no record yet, and is listed as such; the next run closes it.
    """
    from .find import rows

    if Path(federation).is_file():
        from ..params import load

        federation = load(Path(federation)).federation
    if "/" in federation:
        raise RecordError(
            f"{federation} is neither a params file nor the name of a federation.", "give one of them"
        )
    found = rows(records, federation)
    click.echo(_json(found.data()) if output == "json" else repr(found))


@record.command()
@click.argument("name", metavar="RECORD")
@_records
@_output
def show(name: str, records: Path, output: str) -> None:
    """Show who changed what, why and when, what came of it, and how to undo it."""
    from .find import find, read
    from .telling import data, told
    from .verify import verify as look

    folder = find(name, records)
    found, verdict = read(folder), look(folder)
    click.echo(_json(data(found, verdict)) if output == "json" else told(found, verdict))


@record.command()
@click.argument("names", metavar="RECORD|OUT.ipynb...", nargs=-1, required=True)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="PUBLIC.pem",
    type=click.Path(path_type=Path),
    help="It must be signed with this key (or with another that is given).",
)
@_records
@_output
def verify(names: tuple[str, ...], keys: tuple[Path, ...], records: Path, output: str) -> None:
    """Recompute everything that a record claims: files, digests, signature, chain, and that every cell ran.

    Exit code 0: each is intact, whatever the outcome of its run was. 52: at least one is not; every file is named.

    OUT.ipynb is a notebook that papermill executed without consulfed; it is held against the installed runbook.
    """
    from .keys import load_public_key
    from .telling import verdict_told

    public = [load_public_key(path) for path in keys]
    verdicts = [(name, _look(name, public, records)) for name in names]
    if output == "json":
        click.echo(_json([verdict.data() for _, verdict in verdicts]))
    else:
        for _, verdict in verdicts:
            click.echo(verdict_told(verdict, verdict.place))
    broken = [(verdict.place, problem) for _, verdict in verdicts for problem in verdict.problems]
    if broken:
        places = {place for place, _ in broken}
        raise RecordError(
            f"{len(places)} of {len(verdicts)} {'is' if len(places) == 1 else 'are'} not what it claims to be.",
            "take it from a copy that verifies; until then it proves nothing",
            [problem if len(verdicts) == 1 else f"{place.name}: {problem}" for place, problem in broken],
        )


def _look(name: str, keys: list[Any], records: Path) -> Verdict:
    """One of several: what cannot be found is a problem of that one, and the others are looked at all the same."""
    from .find import find
    from .verify import Verdict, verify_notebook
    from .verify import verify as look

    if name.endswith(".ipynb"):
        verdict = verify_notebook(Path(name))
        verdict.problems += [f"{name}: a notebook alone has no signature to check with --key"] if keys else []
        return verdict
    try:
        return look(find(name, records), keys)
    except RecordError as error:
        return Verdict(Path(name), [error.found, *error.details])


@record.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_records
@_output
def diff(before: str, after: str, records: Path, output: str) -> None:
    """Show what is different between two records: parameters, versions, clusters, checks, plan and changes.

    Of a plan and the run that applied it: what was done of it, what was not, and what was done without being planned.
    """
    from .differ import difference
    from .find import find, read

    found = difference(read(find(before, records)), read(find(after, records)))
    click.echo(_json(found.data()) if output == "json" else found.told())


@record.command()
@click.argument("name", metavar="RECORD|OUT.ipynb")
@_records
@click.option(
    "-o",
    "--output",
    default=Path(),
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Where to write; default: this folder.",
)
def html(name: str, records: Path, output: Path) -> None:
    """Write the page of an executed notebook, or of each of a record: one file that loads nothing from outside."""
    from .find import find

    notebooks = [Path(name)] if name.endswith(".ipynb") else sorted(find(name, records).glob("*.ipynb"))
    into_folder = output.is_dir() or len(notebooks) != 1 or output.suffix != ".html"
    for path in notebooks:
        target = output / f"{path.stem}.html" if into_folder else output
        _write_page(path, target)
        click.echo(str(target))


def _write_page(path: Path, target: Path) -> None:
    from . import page
    from .cells import examine

    try:
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.", "give an executed notebook") from None
    except ValueError:
        notebook = None
    if problems := [
        each for each in examine(notebook, [], expect_result=False).problems if "no notebook" in each
    ]:
        raise RecordError(f"{path}: {problems[0]}.", "give an executed notebook")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.html(notebook, path.stem), encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{target} cannot be written: {error.strerror}.", "choose another -o") from None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
