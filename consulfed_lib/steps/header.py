"""The head of a notebook's record: papermill notes only the parameters that were passed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..places import whoami
from ..presence import interactive
from ..show import Yaml, as_yaml

if TYPE_CHECKING:
    from .base import Step


def header(step: Step) -> dict[str, Any]:
    """Who, when, why, and with which effective parameters."""
    params = step.params
    return {
        "notebook": step.notebook,
        "federation": params.federation,
        "works on": step.subject,
        "reason": params.reason or "not given",
        "change id": params.change_id or "not given",
        "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "by": "{user} on {host}".format(**whoami()),
        "mode": f"{params.mode}: {'interactive' if interactive(params.mode) else 'headless'}",
        "writes": step.writes(),
        "consulfed": __version__,
        "parameters": params.model_dump(
            exclude={"federation", "reason", "change_id", "dry_run", "mode"}, exclude_none=True
        ),
    }


def page(step: Step) -> str:
    """The same for a notebook: what a reader looks for first, and the parameters, which fill a page, folded."""
    head = header(step)
    parameters = Yaml("Parameters in force", as_yaml(head.pop("parameters")))._repr_html_()
    first = Yaml(f"{step.notebook}: {step.subject}", as_yaml(head))._repr_html_()
    summary = "All parameters in force, defaults included"
    return f"{first}<details><summary>{summary}</summary>{parameters}</details>"
