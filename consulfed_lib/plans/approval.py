"""Is what would be done now what was approved? If not, what has changed since.

Approved is the plan, and each part of it that is done already stays approved: a run that was killed goes on under the
same approval, and a run of what is done changes nothing. What is refused is whatever was not in the plan, or would
start from another state of the world, or lead to one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ..canonical import canonical
from .document import Document, Item

_LINES = 12
"""How many lines of differing Helm values an error shows."""


def deviations(approved: Document, now: Document, begun: bool) -> list[str]:
    """What would be done now and was not approved, a sentence each; empty where all of it was.

    Args:
        begun: the release as it is now was begun under this very approval (a run that was killed): then it may start
            from what that run left, as long as it leads where the plan leads.
    """
    if approved.digest in (now.digest, now.opened().digest):
        return []
    found = list(_clusters(approved, now))
    if not now.pending:
        return found
    found += _values(approved.values, now.values)
    known = {each.key: each for each in approved.items}
    for item in now.pending:
        found += _deviation(item, known.get(item.key), begun)
    return found


def matches(approved: str, now: Document) -> bool:
    """Whether a digest that was approved is this plan's: as it is, or as it was before what it builds on was there.

    A plan with nothing left to do matches any: applying it writes nothing.
    """
    return approved in (now.digest, now.opened().digest) or not now.pending


def _clusters(approved: Document, now: Document) -> Iterator[str]:
    for datacenter in sorted(approved.clusters.keys() | now.clusters.keys()):
        before, after = approved.clusters.get(datacenter), now.clusters.get(datacenter)
        if before != after:
            yield f"{datacenter}: another cluster: UID {after or 'not there'}, approved was {before or 'none'}"


def _values(approved: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    if canonical(approved) == canonical(now):
        return
    before, after = (yaml.safe_dump(each or {}).splitlines() for each in (approved, now))
    lines = [line for line in difflib.unified_diff(before, after, lineterm="", n=0) if line[:1] in "+-"]
    changes = [line for line in lines if not line.startswith(("---", "+++"))]
    more = f"; and {len(changes) - _LINES} lines more" if len(changes) > _LINES else ""
    yield f"the Helm values are others: {'; '.join(changes[:_LINES])}{more}"


def _deviation(item: Item, approved: Item | None, begun: bool) -> Iterator[str]:
    """One thing that would be done now, against what was approved of it."""
    if begun and item.id in {"clear-the-way", "restart"}:
        return  # what a killed run of ours left; to be taken away, or restarted, before it can go on
    if item.action == "restart" and approved is not None and approved.by:
        return  # it follows from what that notebook of the same plan made
    if approved is None or not approved.pending:
        was = "it was as wanted when the plan was made" if approved else "it is not in the approved plan"
        if not (begun and approved is not None and item.then == approved.then):
            yield f"{item.label}: would {item.action}, but {was}"
        return
    leads_there = item.then == approved.then or bool(approved.by and not approved.then)
    if not leads_there:
        yield f"{item.label}: would become something else than what was approved"
    elif begun:
        return
    elif item.action != approved.action:
        yield f"{item.label}: would {item.action}, approved was to {approved.action}"
    elif (item.now, item.diff) != (approved.now, approved.diff) and not approved.by:
        yield f"{item.label}: it has changed since the plan was made"
