"""The command `consulfed rehearse`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..errors import ConsulfedError, ParamsError
from ..interrupts import terminate_as_interrupt

if TYPE_CHECKING:
    from ..drills.folders import Tell
    from .rehearse import Report


@click.command()
@options.params_file
@click.option(
    "--drill",
    "drills",
    multiple=True,
    metavar="FAULT",
    help="Hold this drill (see `consulfed drill --list`); may be repeated. `all`: every one that fits.",
)
@click.option("--no-drills", is_flag=True, help="End after the verification.")
@click.option(
    "--load-balancer",
    type=click.Choice(["ip", "hostname"]),
    default="ip",
    show_default=True,
    help="What Services of type LoadBalancer get: an IP, or a hostname as on EKS.",
)
@click.option("--keep", is_flag=True, help="Keep the sandbox up, and say how to use it and take it down.")
@options.records("Folder of the records; the rehearsal's go into <federation>-rehearsal in it.")
@options.output("json: progress on standard error, and the report as one JSON object on standard output.")
def rehearse(
    params_file: Path,
    drills: tuple[str, ...],
    no_drills: bool,
    load_balancer: str,
    keep: bool,
    records: Path,
    output: str,
) -> int:
    """Practise the change of PARAMS on this machine, before it is made.

    A sandbox of the same shape comes up: a cluster for each of yours, under the same context names, datacenters,
    namespaces, releases, options and Helm values. On it the plan is made, applied under exactly that plan, and verified
    as `consulfed verify` does it; then one fault after another is put into it, and the right check has to name it.
    The sandbox is taken down at the end, also by Ctrl-C or SIGTERM.

    Your clusters and your kubeconfig are not looked at. What a sandbox cannot imitate is said at the beginning and in
    the end: a rehearsal proves nothing of your network, load balancers and storage, or of what is in your clusters.

    The records are kept under the name <federation>-rehearsal, the report beside them. Exit code 0 only if plan, apply,
    verification and every drill passed; else that of what failed, for a drill 40.
    """
    if no_drills and drills:
        raise click.UsageError("give --drill or --no-drills")

    def tell(line: str) -> None:
        click.echo(line, err=output == "json")

    try:
        with terminate_as_interrupt():
            report = _rehearsed(params_file, drills, no_drills, load_balancer, keep, records, tell)
    except ConsulfedError as error:  # it did not even begin
        if output == "json":
            click.echo(_line({"rehearsal": True, "outcome": "failed", "error": error.data()}))
        raise
    if output == "json":
        click.echo(_line(report.data()))
    if report.error:
        raise report.error
    return 0


def _rehearsed(
    params_file: Path,
    names: tuple[str, ...],
    no_drills: bool,
    load_balancer: str,
    keep: bool,
    records: Path,
    tell: Tell,
) -> Report:
    """The rehearsal, from the parameters to the end of its sandbox. Raises ConsulfedError before anything comes up."""
    from ..params import load

    params = load(params_file, contexts=False)
    from ..checks.values import look_at_values
    from ..drills.folders import keep as keep_folder
    from ..drills.folders import own_folder
    from ..offline import refusal
    from ..sandbox import tools
    from .charts import find
    from .imitation import imitate, lowest_port, too_large
    from .rehearse import Rehearsal, choose
    from .stage import SANDBOX_CHART, Stage, home, own_kubeconfig

    if why := too_large(params):
        raise ParamsError(f"{params_file} cannot be rehearsed: {why}.", "rehearse a part of the federation")
    with own_folder(home(), "a rehearsal", tell) as folder, own_kubeconfig(folder):
        tools.ensure(*tools.PROGRAMS, report=tell)
        fetched, values = folder / "chart", folder / "values"
        for each in (fetched, values):
            each.mkdir(mode=0o700)
        chart = find(params.chart, SANDBOX_CHART, fetched)
        missing = "the pinned chart cannot be had here"
        if error := refusal(look_at_values(params, chart.of_the_user, missing=missing), params_file):
            raise error
        imitation = imitate(params, chart, values, lowest_port())
        choice = choose(names, no_drills, imitation)
        tell(repr(imitation.rows))
        for fault, reason in choice.unfit.items():
            tell(f"drill {fault} is left out: {reason}")
        stage = Stage(folder, imitation, chart, load_balancer, tell)
        try:
            report = Rehearsal(stage, choice, records, tell).hold()
        finally:
            if kept := keep and stage.is_up:
                keep_folder(folder)
            else:
                tell("== taking the sandbox down")
                stage.down()
        if kept:
            report.kept = {"folder": str(stage.folder), "kubeconfig": str(stage.kubeconfig)}
    _conclude(report, tell)
    return report


def _conclude(report: Report, tell: Tell) -> None:
    """What came of it, and what it is no proof of."""
    if report.drills:
        tell(report.drills.table())
    tell(repr(report.imitation.rows.differs()))
    for record in report.records:
        tell(f"Record: {record}")
    if report.file:
        tell(f"Report: {report.file}")
    if report.kept:
        tell(f"The sandbox is up: export KUBECONFIG={report.kept['kubeconfig']}")
        tell(f"To take it down: consulfed sandbox down --folder {report.kept['folder']}")
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    if report.error is None:
        tell(f"Rehearsed: {report.imitation.params.federation}: {', '.join(report.passed)}; {took}")
    else:
        tell(f"Not rehearsed to its end: {took}")


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)
