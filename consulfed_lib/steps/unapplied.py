"""A federation of which nothing is there yet, looked at by somebody in a dry run: told in words, not as a failure.

Where nobody looks on it stays a failure: a pipeline that verifies clusters without Consul has verified nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from .. import presence
from ..errors import ClusterError
from ..params import Cluster as ClusterParams
from ..results import Change, Changes, Finding
from ..show import Text
from .parts import part
from .plan import Plan

if TYPE_CHECKING:
    from .base import Step

Of = TypeVar("Of", bound="Step")

_FOLLOWS = {"secret-complete", "server-pod", "leaving-release"}
"""Checks that fail where nothing is there yet."""

_APPLY = "apply 01-primary-setup, 02-secret-transfer and 03-secondary-setup first, with dry_run false"


def without_a_federation(step: Step, found: list[Finding]) -> list[Finding] | None:
    """What was found, without what follows from there being no federation yet; None where that is not all of it."""
    errors = {finding.id for finding in found if finding.severity == "error"}
    if not (errors and errors <= _FOLLOWS and step.params.dry_run and presence.somebody()):
        return None
    if any(_something_in(step, of) for of in step.params.clusters):
        return None
    names = ", ".join(of.datacenter for of in step.params.clusters)
    told = f"nothing is there yet: neither the federation secret nor a Consul server in {names}"
    rest = [finding for finding in found if finding.severity != "error"]
    return [*rest, Finding("federation-there", step.subject, "skipped", told, _APPLY)]


def _something_in(step: Step, of: ClusterParams) -> bool:
    """Also where it cannot be told: what does not answer is no proof that there is nothing."""
    cluster = step.cluster(of)
    try:
        pods = cluster.list("pods", of.namespace, f"component=server,release={of.release}")
        return bool(pods or cluster.get("secrets", of.namespace, step.params.secret_name))
    except ClusterError:
        return True


def nothing_planned(step: Step) -> Plan:
    """The plan of a notebook that has nothing to work on yet."""
    row = Change("federation", step.subject, "waits", f"nothing is there yet: {_APPLY}")
    return Plan(Changes(f"Plan for {step.subject}", [row]), items=[])


def view(method: Callable[[Of], Any]) -> Callable[[Of], Any]:
    """Declare a part that shows what is there; of a federation that is not there yet it says that."""

    @wraps(method)
    def show(step: Of) -> Any:
        if step.unseen:
            step.preflight()
        if step.unapplied:
            return Text(
                f"{method.__name__.capitalize()} of {step.subject}", f"Nothing is there yet: {_APPLY}."
            )
        return method(step)

    return part(show)
