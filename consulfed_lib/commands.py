"""The commands of the runbook: `consulfed run` and `consulfed plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .errors import ConsulfedError, ParamsError
from .params import Federation, load

if TYPE_CHECKING:
    from .run import Outcome

_secondary = click.option(
    "--secondary", multiple=True, metavar="DATACENTER", help="Work on this secondary only; may be repeated."
)
_sign_key = click.option(
    "--sign-key",
    default="",
    metavar="KEY",
    help="Sign the record: a private key in PEM, or a signer URI (awskms:, gcpkms:, azurekms:, hsm:).",
)


@click.command()
@options.params_file
@click.option(
    "--apply", is_flag=True, help="Make the changes. Without it nothing is written anywhere (dry run)."
)
@click.option(
    "--approved-plan",
    default=None,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Apply only what this plan says: the plan.json, or the folder of the record that `consulfed plan` wrote.",
)
@click.option("--only", default="", metavar="NN", help="Run only this notebook, by its number or name.")
@_secondary
@options.records("Folder of the records; the run gets a folder of its own in it.")
@_sign_key
@options.output("json: the last line on standard output is the summary of the run as one JSON object.")
def run(
    params_file: Path,
    apply: bool,
    approved_plan: Path | None,
    only: str,
    secondary: tuple[str, ...],
    records: Path,
    sign_key: str,
    output: str,
) -> int:
    """Run the notebooks for the federation that PARAMS describes.

    Each is executed by papermill into one output notebook of the run's record: 00 and 01, then 02 and 03 of each
    secondary, several secondaries at once (`parallel`), then 04. What fails ends the run with its notebook's path,
    the one error, and the exit code of its cause (see README); a secondary that fails stops no other one. Running it
    again is always safe: what is already so is left alone.

    With --approved-plan nothing is done but what that plan says, or what is left of it.
    """

    def work() -> Outcome:
        if approved_plan and not apply:
            raise ParamsError("--approved-plan is given without --apply.", "add --apply, or leave it out")
        federation = load(params_file).model_copy(update={"dry_run": not apply})
        if approved_plan:
            federation = federation.model_copy(update={"approved_plan": str(approved_plan.absolute())})
        from .run import carry_out

        return carry_out(
            federation, only=only, secondaries=secondary, records=records, sign_key=sign_key, tell=click.echo
        )

    return _ended(work, as_json=output == "json")


@click.command()
@options.params_file
@_secondary
@click.option(
    "-o",
    "--output",
    default=options.RECORDS,
    show_default=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder in which the record of the plan gets a folder of its own.",
)
@_sign_key
def plan(params_file: Path, secondary: tuple[str, ...], output: Path, sign_key: str) -> int:
    """Write down what `consulfed run --apply` would do, for somebody to approve. Nothing is changed anywhere.

    The plan is a record: the notebooks of a dry run, and plan.json with everything that would be created, changed,
    restarted and deleted in each cluster. Its digest is the same on every machine while the world stays the same.
    """

    def work() -> Outcome:
        federation: Federation = load(params_file).model_copy(update={"dry_run": True})
        from .run import carry_out

        outcome = carry_out(
            federation, kind="plan", secondaries=secondary, records=output, sign_key=sign_key, tell=click.echo
        )
        if outcome.plan and outcome.record:
            click.echo(f"Plan {outcome.plan}: {outcome.record / 'plan.json'}")
            click.echo(
                f"To apply exactly this: consulfed run {params_file} --apply --approved-plan {outcome.record}"
            )
        return outcome

    return _ended(work, as_json=False)


def _ended(work: Callable[[], Outcome], as_json: bool) -> int:
    """Do the work; say how it ended, as JSON where that is asked for.

    Raises the error that the run ended with, once the summary is said.
    """
    try:
        outcome = work()
    except ConsulfedError as error:  # it did not even begin
        if as_json:
            click.echo(_line({"outcome": "failed", "record": None, "error": error.data()}))
        raise
    if as_json:
        click.echo(_line(outcome.summary()))
    if outcome.error:
        raise outcome.error
    if not as_json:
        click.echo(f"Done: {outcome.word}. Record: {outcome.record}")
    return 0


def _line(summary: dict[str, Any]) -> str:
    import json

    return json.dumps(summary, ensure_ascii=False)
