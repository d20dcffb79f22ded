"""What the notebooks call: one class a notebook, each with preflight, plan, apply, verify and result.

step = steps.open("01-primary-setup", globals())
step.preflight()        # reads; stops with every finding at once
step.plan()             # what would change, as a diff without secrets
step.apply()            # changes, only with `dry_run` false
step.verify()           # reads the world again
step.result()           # a table for a person, JSON for a machine
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import params as parameters
from .. import presence, redact, waiting
from ..durations import Durations
from ..errors import ParamsError
from ..show import Progress

if TYPE_CHECKING:
    from ..params import Federation
    from .base import Step

NOTEBOOKS: dict[str, tuple[str, str]] = {
    "00-preflight": ("preflight", "Preflight"),
    "01-primary-setup": ("primary", "PrimarySetup"),
    "02-secret-transfer": ("transfer", "SecretTransfer"),
    "03-secondary-setup": ("secondary", "SecondarySetup"),
    "04-verification": ("verification", "Verification"),
    "05-cross-datacenter-traffic": ("traffic", "Traffic"),
    "90-defederate": ("defederation", "Defederation"),
}
"""Notebook → module and class; in the order in which they run."""

PER_SECONDARY = ("02-secret-transfer", "03-secondary-setup", "90-defederate")
"""Notebooks that work on one secondary, and run once for each."""

ON_REQUEST = ("05-cross-datacenter-traffic", "90-defederate")
"""Notebooks that are no part of setting up a federation: they run only where they are asked for by their number."""

ONE_AT_A_TIME = ("90-defederate",)
"""Notebooks of ON_REQUEST that never run for every secondary: one has to be chosen."""


def open(notebook: str, names: Mapping[str, Any]) -> Step:
    """Begin a notebook: check its parameters (pass `globals()`), guard its outputs, connect to its clusters."""
    redact.install()
    if notebook not in NOTEBOOKS:
        raise ParamsError(f"There is no notebook {notebook!r}.", f"one of: {', '.join(NOTEBOOKS)}")
    return begin(open_step(notebook, parameters.from_notebook(names)))


def begin(step: Step) -> Step:
    """From now on cells run the parts of this step, and what they wait for is shown as its parameters say."""
    step.in_notebook = True
    presence.note(presence.interactive(step.params.mode))
    durations = Durations(step.params.federation)
    waiting.tell_by(Progress(durations, step.picture) if presence.somebody() else waiting.Log(durations.note))
    return step


def open_step(notebook: str, params: Federation) -> Step:
    """A notebook's step for parameters that are checked already."""
    module, name = NOTEBOOKS[notebook]
    return getattr(import_module(f".{module}", __name__), name)(notebook, params)
