"""The command `consulfed verify`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import options
from ..errors import ConsulfedError
from ..params import Federation, load
from ..waiting import nap

if TYPE_CHECKING:
    from ..results import Finding
    from .reports import Report

_PAUSE = 0.25
"""Seconds between two looks of --watch: what happens is told soon, and the API servers have other things to do."""


@click.command()
@options.params_file
@click.option(
    "-o",
    "--output",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "junit"]),
    help="For a person, a program, or a test report.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Look again and again, and tell what changes, until Ctrl-C; with -o json a report a line.",
)
@click.option(
    "--wait",
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Look again for so long where not all is well.",
)
@click.option("--soak", type=int, metavar="SECONDS", help="Every verdict must hold for so long.")
@click.option(
    "--canary",
    is_flag=True,
    help="Prove ACL replication by a policy and a token that are made and removed again.",
)
@click.option(
    "--prometheus",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the verdicts to this file, for the textfile collector.",
)
def verify(
    params_file: Path,
    output: str,
    watch: bool,
    wait: int,
    soak: int | None,
    canary: bool,
    prometheus: Path | None,
) -> int:
    """Prove that the federation of PARAMS works, or name what does not; without a notebook, and reading only.

    Exit code 0 only if everything that was asked for was proven: a check that could not look is not green. The first
    broken layer is named, and what fails because of it is told apart.
    """
    if watch and output == "junit":
        raise click.UsageError("--watch has no end that JUnit could report; use it with -o table or json")
    params = load(params_file)
    wanted = params.verification.model_copy(
        update={
            "canary": canary or params.verification.canary,
            "soak": params.verification.soak if soak is None else soak,
        }
    )
    deadlines = params.timeouts.model_copy(update={"federation": wait, "ready": max(1, wait)})
    params = params.model_copy(
        update={"verification": wanted, "timeouts": deadlines, "dry_run": not wanted.canary}
    )
    from . import reports

    report = look(params)
    while True:
        if prometheus:
            reports.write(prometheus, report.prometheus())
        if not watch:
            break
        if output == "json":
            click.echo(report.json(indent=None))
        else:
            click.echo(f"{time.strftime('%H:%M:%S')} {report.outcome}: {report.findings.summary()}")
        try:
            report, changes = _watched(params, report)
        except KeyboardInterrupt:
            break
        for change in changes if output == "table" else ():
            click.echo(f"  {change}")
    if not watch:
        click.echo({"table": report.table, "json": report.json, "junit": report.junit}[output]())
    if report.error:
        raise report.error
    return 0


def look(params: Federation) -> Report:
    """One whole verification; its progress is told on standard error, so that standard output holds the report."""
    from ..steps import open_step
    from ..steps.verification import Verification
    from .reports import Report

    step = open_step("04-verification", params)
    assert isinstance(step, Verification)
    start = time.monotonic()
    error: ConsulfedError | None = None
    step.quiet = True
    with redirect_stdout(sys.stderr):
        try:
            step.verify()
        except ConsulfedError as failed:
            error = failed
    return Report(step, step.seen(), error, time.monotonic() - start)


def _watched(params: Federation, before: Report) -> tuple[Report, list[str]]:
    """The next report that differs, and what changed."""
    was = before.verdicts()
    while True:
        nap(_PAUSE)
        report = look(params)
        now = report.verdicts()
        changes = []
        for id, subject in now | was:
            then, this = (_severity(each, (id, subject)) for each in (was, now))
            if then != this:
                found = f": {now[id, subject].found}" if (id, subject) in now else ""
                changes.append(f"{id} ({subject}): {then} → {this}{found}")
        if changes:
            return report, changes


def _severity(verdicts: Mapping[tuple[str, str], Finding], key: tuple[str, str]) -> str:
    return verdicts[key].severity if key in verdicts else "not looked at"
