"""The command `consulfed drill`."""

from __future__ import annotations

import json

import click

from .. import options
from ..errors import VerifyError
from ..interrupts import terminate_as_interrupt
from ..results import several


@click.command()
@click.argument("names", metavar="[FAULT]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="List the drills, and what each has to name.")
@options.output("Text, or JSON for a machine.")
def drill(names: tuple[str, ...], only_list: bool, output: str) -> int:
    """Put each FAULT into a sandbox that is federated, and see that the right check names it; without one: all.

    It needs no cluster: sandboxes of its own come up and are taken down. Each fault is real, see `consulfed sandbox
    fault --list`. A drill passes where the cause is named three times in a row, no other one is called a cause, and all
    is proven again once the fault is cleared. Exit code 0 only if every drill passed, else 40.
    """
    from .catalogue import chosen

    drills = chosen(names)
    if only_list:
        click.echo(_listed(output))
        return 0
    from .run import hold

    with terminate_as_interrupt():
        report = hold(drills, lambda line: click.echo(line, err=True))
    click.echo(
        json.dumps(report.data(), ensure_ascii=False, indent=2) if output == "json" else report.table()
    )
    if report.failed:
        raise VerifyError(
            f"{several(len(report.failed), 'drill')} of {len(drills)} failed.",
            "a check is missing or names the wrong thing; hold that drill alone: consulfed drill FAULT",
            report.failed,
        )
    return 0


def _listed(output: str) -> str:
    """Every fault, with what has to name it."""
    from ..sandbox.faults import FAULTS
    from .catalogue import DRILLS

    if output == "json":
        rows = [
            {
                "fault": each.fault,
                "what": FAULTS[each.fault].what,
                "cause": each.cause and each.cause._asdict(),
                "severity": each.severity,
                "look": each.look,
                "ground": each.ground._asdict(),
                "needs": sorted(each.needs),
                "also": {str(named): why for named, why in each.also.items()},
                "harmless": each.harmless,
            }
            for each in DRILLS.values()
        ]
        return json.dumps(rows, ensure_ascii=False, indent=2)
    width = max(map(len, DRILLS))
    lines = []
    for each in DRILLS.values():
        named = str(each.cause) if each.cause else f"nothing ({each.harmless})"
        lines.append(f"{each.fault:<{width}}  {FAULTS[each.fault].what}\n{'':<{width}}  named: {named}")
        lines += [f"{'':<{width}}  right beside it: {beside}: {why}" for beside, why in each.also.items()]
    return "\n".join(lines)
