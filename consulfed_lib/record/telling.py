"""A record, for a person: who changed what, why and when, what came of it, and how it is taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..results import MARKS, count, several
from .find import Record
from .shape import Notebook
from .statement import short
from .verify import Verdict

DONE = {"created", "changed", "deleted"}
"""Outcomes of a change that wrote something (`results.Change.wrote`)."""


def told(record: Record, verdict: Verdict) -> str:
    """The whole of a record on a page or two."""
    said = record.predicate
    lines = [f"{said.federation}, run {said.run}: {said.outcome.upper()}"]
    if not verdict.intact:
        lines.append(
            f"NOT INTACT: {several(len(verdict.problems), 'problem')}; see: consulfed record verify {record.folder}"
        )
    lines += ["", *_fields(_about(record))]
    if said.error:
        lines += ["", "It ended with", *_error(said.error)]
    lines += ["", "Notebooks", *(f"  {_notebook(each)}" for each in said.notebooks)]
    lines += [f"  {name}: it was not written to its end; not in the record" for name in said.left_out]
    lines += _section("What would change" if said.dry_run else "What changed", _changes(said.notebooks))
    lines += _section("How to undo it, the last change first", _undo(said.notebooks))
    lines += _section("Not well", _not_well(said.notebooks))
    return "\n".join(lines)


def data(record: Record, verdict: Verdict) -> dict[str, Any]:
    """The same for a machine: the predicate as it is signed, and the verdict."""
    return verdict.data() | {"predicate": dict(record.sealed.predicate)}


def label(notebook: Notebook) -> str:
    """`03-secondary-setup dc2`, as the plan names it."""
    return f"{notebook.notebook} {notebook.secondary}".strip()


def _about(record: Record) -> dict[str, str]:
    said = record.predicate
    users = {f"{name} in {dc}" for dc, each in said.clusters.items() if (name := each.get("user"))}
    dirty = {True: ", with changes that are in no commit", False: "", None: ""}[said.runbook.dirty]
    return {
        "who": f"{said.by.get('user', '?')} on {said.by.get('host', '?')}"
        + "".join(f"; {u}" for u in sorted(users)),
        "why": said.reason or "no reason given",
        "change id": said.change_id or "none",
        "when": f"{_clock(said.started)} to {_clock(said.ended)} UTC",
        "what": ("a plan for approval" if said.kind == "plan" else "a run")
        + (", dry: nothing was written" if said.dry_run else ""),
        "where": "; ".join(_cluster(dc, each) for dc, each in said.clusters.items()) or "no cluster answered",
        "plan": said.plan.digest if said.plan else "none",
        "approved plan": said.approved_plan.digest if said.approved_plan else "none",
        "checks": _tally(check.get("severity") for check in said.checks),
        "changes": count(each for each in said.changes if "outcome" in each),
        "runbook": f"commit {said.runbook.commit}{dirty}" if said.runbook.commit else "no git checkout",
        "versions": ", ".join(f"{name} {value}" for name, value in said.versions.items()) or "not known",
        "signed": ", ".join(f"by key {short(keyid)}" for keyid in record.sealed.keyids) or "no",
        "before it": said.previous.run if said.previous else "no record",
        "record": str(record.folder),
    }


def _fields(fields: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, fields))
    for name, value in fields.items():
        yield f"  {name:<{width}}  {value}"


def _clock(time: str) -> str:
    return time[:19].replace("T", " ")


def _cluster(datacenter: str, cluster: Mapping[str, Any]) -> str:
    words = [f"context {cluster.get('context', '?')}"]
    words += [f"UID {cluster['uid']}"] if cluster.get("uid") else []
    words += [f"Kubernetes {cluster['kubernetes']}"] if cluster.get("kubernetes") else []
    return f"{datacenter} ({', '.join(words)})"


def _tally(severities: Iterable[Any]) -> str:
    counts = Counter(map(str, severities))
    return ", ".join(f"{number} {severity}" for severity, number in counts.items()) or "none"


def _error(error: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {error.get('class')}: {error.get('found')}"
    yield from (f"    - {each}" for each in error.get("details") or [])
    if error.get("hint"):
        yield f"  What to do: {error['hint']}"


def _notebook(notebook: Notebook) -> str:
    seconds = f"; {notebook.seconds:.1f} s" if notebook.seconds is not None else ""
    error = notebook.error or {}
    first = (str(error.get("found") or "").splitlines() or [""])[0]
    why = f": {error.get('class')}: {first}" if error else ""
    checks = several(len(notebook.checks), "check")
    return f"{label(notebook)}: {notebook.outcome} ({checks}; {count(notebook.changes)}{seconds}){why}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"  {line}" for line in lines]
    return ["", title, *found] if found else []


def _changes(notebooks: Iterable[Notebook]) -> Iterator[str]:
    for notebook in notebooks:
        for row in notebook.changes:
            if row.get("outcome") != "unchanged":
                outcome = str(row.get("outcome"))
                yield f"{MARKS.get(outcome, '?')} {row.get('subject')}: {row.get('id')}: {outcome}: {row.get('what')}"


def _undo(notebooks: Iterable[Notebook]) -> Iterator[str]:
    rows = [row for notebook in notebooks for row in notebook.changes]
    done = [row for row in rows if row.get("outcome") in DONE and row.get("undo")]
    yield from (f"{row.get('subject')}: {row['undo']}" for row in reversed(done))


def _not_well(notebooks: Iterable[Notebook]) -> Iterator[str]:
    for notebook in notebooks:
        for row in notebook.checks:
            if row.get("severity") in {"error", "warning"}:
                severity = str(row["severity"])
                hint = f" ({row['hint']})" if row.get("hint") else ""
                yield f"{MARKS[severity]} {row.get('subject')}: {row.get('id')}: {row.get('found')}{hint}"


def verdict_told(verdict: Verdict, place: Path | str) -> str:
    """What `verify` found; the outcome is said loudly, because an intact record may be one of a failure."""
    outcome = str(verdict.facts.get("outcome", "unknown")).upper()
    lines = [f"{place}: {'intact' if verdict.intact else 'NOT INTACT'}; outcome {outcome}"]
    if verdict.facts:
        counts = ", ".join(
            several(verdict.facts[f"{word}s"], word)
            for word in ("notebook", "check", "change")
            if f"{word}s" in verdict.facts
        )
        lines.append(f"  {verdict.facts.get('federation')}: {counts}")
    lines += [f"  ✘ {problem}" for problem in verdict.problems]
    lines += [f"  · {note}" for note in verdict.notes]
    return "\n".join(lines)
