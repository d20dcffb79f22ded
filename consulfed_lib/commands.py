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
@click.option(
    "--secondary", multiple=True, metavar="DATACENTER", help="Work on this secondary only; may be repeated."
)
@click.option(
    "-o",
    "--output",
    default="records",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the records; the run gets a folder of its own in it.",
)
def run(params_file: Path, apply: bool, only: str, secondary: tuple[str, ...], output: Path) -> None:
    """Run the notebooks for the federation that PARAMS describes.

    Each is executed by papermill into one output notebook of the run's record: 00 and 01, then 02 and 03 of each
    secondary, several secondaries at once (`parallel`), then 04. What fails ends the run with its notebook's path,
    the one error, and the exit code of its cause (see README); a secondary that fails stops no other one. Running it
    again is always safe: what is already so is left alone.
    """
    federation = load(params_file).model_copy(update={"dry_run": not apply})
    from .run import run as run_notebooks

    done = run_notebooks(federation, only=only, secondaries=secondary, records=output, tell=click.echo)
    if done:
        click.echo(f"Done. {len(done)} executed notebooks in {done[0].path.parent}")


@click.group()
def params() -> None:
    """Check the parameters of a federation."""


@params.command()
@click.argument("params_file", metavar="PARAMS", type=click.Path(path_type=Path))
def check(params_file: Path) -> None:
    """Check a params file without any cluster; every mistake is listed at once.

    Read are the parameters, the files of Helm values that they name, what the values of all datacenters come to, and
    the pinned chart, if it is a folder or Helm can fetch it.
    """
    from .offline import checked

    found = checked(params_file, tell=click.echo)
    names = ", ".join(c.datacenter for c in found.secondaries)
    click.echo(f"{params_file} is well: {found.primary.datacenter} is the primary of {names}.")
