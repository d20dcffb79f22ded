"""The commands of the runbook: `consulfed run` and `consulfed params`."""

from __future__ import annotations

from pathlib import Path

import click

from .params import load


@click.command()
@click.argument("params_file", metavar="PARAMS", type=click.Path(path_type=Path))
@click.option(
    "--apply", is_flag=True, help="Make the changes. Without it nothing is written anywhere (dry run)."
)
@click.option("--only", default="", metavar="NN", help="Run only this notebook, by its number or name.")
@click.option("--secondary", default="", metavar="DATACENTER", help="Work on this secondary only.")
@click.option(
    "-o",
    "--output",
    default="records",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the records; the run gets a folder of its own in it.",
)
def run(params_file: Path, apply: bool, only: str, secondary: str, output: Path) -> None:
    """Run the notebooks for the federation that PARAMS describes, in their order.

    Each is executed by papermill into one output notebook of the run's record; the first that fails stops the
    run, with its notebook's path, the one error, and the exit code of its cause (see README). Running it again is
    always safe: what is already so is left alone.
    """
    federation = load(params_file)
    changed = {"dry_run": not apply} | ({"secondary": secondary} if secondary else {})
    federation = federation.model_copy(update=changed)
    from .run import run as run_notebooks

    done = run_notebooks(federation, only=only, records=output, tell=click.echo)
    if done:
        click.echo(f"Done. {len(done)} executed notebooks in {done[0].path.parent}")


@click.group()
def params() -> None:
    """Check the parameters of a federation."""


@params.command()
@click.argument("params_file", metavar="PARAMS", type=click.Path(path_type=Path))
def check(params_file: Path) -> None:
    """Check a params file without any cluster; every mistake is listed at once."""
    federation = load(params_file)
    names = ", ".join(c.datacenter for c in federation.secondaries)
    click.echo(f"{params_file} is well: {federation.primary.datacenter} is the primary of {names}.")
