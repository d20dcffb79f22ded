"""What is different between two records; and of a plan, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .find import Record, plan_of
from .shape import Predicate
from .telling import DONE, label

_OF_THE_RELEASE = {"object", "restart"}
"""Items of a plan that Helm does with the release: an apply has one row for all of them."""


@dataclass
class Difference:
    """What is different, a line each, by subject.

    Attributes:
        done, not_done, unplanned: where the first record holds a plan and the second one applied something.
    """

    parameters: list[str] = field(default_factory=list)
    runbook: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)
    unplanned: list[str] = field(default_factory=list)

    def data(self) -> dict[str, list[str]]:
        """For a machine."""
        return asdict(self)

    def told(self) -> str:
        """For a person: only what there is."""
        titles = {
            "not_done": "planned, not done",
            "done": "planned and done",
            "unplanned": "done, not planned",
        }
        lines = []
        for name, found in self.data().items():
            if found:
                lines += [titles.get(name, name), *(f"  {line}" for line in found)]
        return "\n".join(lines) or "No difference but in times."


def difference(before: Record, after: Record) -> Difference:
    """Compare two records of whatever kind."""
    old, new = before.predicate, after.predicate
    found = Difference(
        parameters=_mappings(old.parameters, new.parameters),
        runbook=_mappings(_sources(old), _sources(new)),
        versions=_mappings(old.versions, new.versions),
        clusters=_mappings(old.clusters, new.clusters),
        checks=_mappings(_checks(old), _checks(new)),
        plan=_mappings(_items(before), _items(after)),
        changes=_mappings(_changes(old), _changes(new)),
    )
    if before.predicate.plan and old.dry_run and not new.dry_run:
        found.plan, found.changes = [], []
        _what_came_of_it(_planned(before), _written(new), _changes(new), found)
    return found


def _mappings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = dict(_flat(old)), dict(_flat(new))
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        if key not in after:
            lines.append(f"- {key}: {_word(before[key])}")
        elif key not in before:
            lines.append(f"+ {key}: {_word(after[key])}")
        elif before[key] != after[key]:
            lines.append(f"~ {key}: {_word(before[key])} → {_word(after[key])}")
    return lines


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{a: {b: 1}}` is `a.b` → 1; lists are numbered."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list) and item:
            yield from _flat({str(number): each for number, each in enumerate(item)}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _word(value: Any) -> str:
    return "empty" if value in ("", None, [], {}) else str(value)


def _sources(said: Predicate) -> dict[str, Any]:
    notebooks = {name: source.sha256[:12] for name, source in said.runbook.notebooks.items()}
    return {"commit": said.runbook.commit, "dirty": said.runbook.dirty} | notebooks


def _numbered(
    rows: Iterable[tuple[str, Mapping[str, Any]]], said: Callable[[Mapping[str, Any]], str]
) -> dict[str, str]:
    """Key of a row → what it says; a key that comes again gets a number."""
    found: dict[str, str] = {}
    for key, row in rows:
        number, name = 1, key
        while name in found:
            number += 1
            name = f"{key} ({number})"
        found[name] = said(row)
    return found


def _checks(said: Predicate) -> dict[str, str]:
    rows = (
        (f"{label(n)}: {row.get('id')} ({row.get('subject')})", row)
        for n in said.notebooks
        for row in n.checks
    )
    return _numbered(rows, lambda row: f"{row.get('severity')}: {row.get('found')}")


def _changes(said: Predicate) -> dict[str, str]:
    rows = (
        (f"{label(n)}: {row.get('id')} ({row.get('subject')})", row)
        for n in said.notebooks
        for row in n.changes
    )
    return _numbered(rows, lambda row: f"{row.get('outcome')}: {row.get('what')}")


def _every_item(record: Record) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, each in plan_of(record).items():
        for item in each.get("items") or [] if isinstance(each, dict) else []:
            if isinstance(item, dict):
                yield name, item


def _items(record: Record) -> dict[str, str]:
    rows = (
        (f"{name}: {item.get('id')} ({item.get('subject')}) {item.get('what', '')}".rstrip(), item)
        for name, item in _every_item(record)
    )
    return _numbered(rows, lambda item: f"{item.get('action')} {str(item.get('then', ''))[:19]}".rstrip())


# -- a plan and what came of it -----------------------------------------------------------------------------------


def _planned(record: Record) -> dict[str, list[str]]:
    """Unit of work → the things of the plan that it would do."""
    found: dict[str, list[str]] = {}
    for name, item in _every_item(record):
        if item.get("action") != "none":
            unit = "release" if item.get("id") in _OF_THE_RELEASE else item.get("id")
            key = f"{name}: {unit} ({item.get('subject')})"
            found.setdefault(key, []).append(f"{item.get('action')} {item.get('what', '')}".rstrip())
    return found


def _written(said: Predicate) -> dict[str, list[str]]:
    """Unit of work → what it wrote."""
    found: dict[str, list[str]] = {}
    for notebook in said.notebooks:
        for row in notebook.changes:
            if row.get("outcome") in DONE:
                key = f"{label(notebook)}: {row.get('id')} ({row.get('subject')})"
                found.setdefault(key, []).append(f"{row.get('outcome')}: {row.get('what')}")
    return found


def _what_came_of_it(
    planned: Mapping[str, list[str]],
    written: Mapping[str, list[str]],
    seen: Mapping[str, str],
    found: Difference,
) -> None:
    for unit, things in planned.items():
        if unit in written:
            found.done.append(f"{unit}: {'; '.join(written[unit])}")
        else:
            why = "it was so already" if unit in seen else "the run did not come to it"
            found.not_done.append(f"{unit}: {'; '.join(things)} ({why})")
    found.unplanned += [
        f"{unit}: {'; '.join(things)}" for unit, things in written.items() if unit not in planned
    ]
