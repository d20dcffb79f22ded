"""The federation as a picture while it comes up: what was seen so far, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from ..params import Federation
from ..show import Topology

_FACTS = 3


def coming_up(params: Federation, seen: Mapping[str, str]) -> Topology:
    """Each datacenter with the newest facts that waits have seen of it; no link counts as proven by that.

    Args:
        seen: what is waited for (`dc1: Consul`) → the state seen last, its facts between commas.
    """
    boxes = {}
    for of in params.clusters:
        facts = [
            fact
            for what, state in seen.items()
            if what.startswith(f"{of.datacenter}: ")
            for fact in state.split(", ")
        ]
        boxes[of.datacenter] = facts[-_FACTS:] or ["not looked at here"]
    return Topology(boxes, {})
