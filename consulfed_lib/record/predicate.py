"""What a record says of its run: read from the executed notebooks themselves, so that it can say nothing else.

`beginning` is known before anything is done, and is kept beside the notebooks: a run that is killed can be told of
later. `ending` adds what the notebooks show.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..canonical import digest
from ..errors import ConsulfedError, Interrupted
from ..params import Federation
from ..places import whoami
from ..plans import Document, PlanFile
from ..results import Table, now
from .cells import examine, source_digests

NOT_OF_THE_FEDERATION = {"dry_run", "approved_plan"}
"""Parameters that say what this run does, and not what the federation is: they have words of their own."""

_WORST_FIRST = ("interrupted", "failed", "planned", "applied", "unchanged", "verified")


def beginning(params: Federation, kind: str, runbook: Path, approved: str) -> dict[str, Any]:
    """What is known of a run before it begins.

    Args:
        kind: `plan` or `run`.
        runbook: the folder of the notebooks.
        approved: digest of the approved plan; empty without.
    """
    parameters = params.model_dump(mode="json", exclude=NOT_OF_THE_FEDERATION)
    return {
        "federation": params.federation,
        "kind": kind,
        "dry_run": params.dry_run,
        "reason": params.reason,
        "change_id": params.change_id,
        "started": now(),
        "by": whoami(),
        "parameters": parameters,
        "parameters_digest": digest(parameters),
        "runbook": {**_commit(runbook.parent), "notebooks": _sources(runbook)},
        "approved_plan": {"digest": approved} if approved else None,
    }


def ending(begun: Mapping[str, Any], folder: Path, error: ConsulfedError | None) -> dict[str, Any]:
    """The whole: what was known, and what each notebook in the folder shows. `error` is what the run ended with."""
    stories = [_story(path, list(begun["runbook"]["notebooks"])) for path in sorted(folder.glob("*.ipynb"))]
    notebooks = [story for story, _ in stories]
    abouts = [about for _, about in stories]
    return {
        **begun,
        "ended": now(),
        "outcome": outcome((each["outcome"] for each in notebooks), error),
        "error": error.data() if error else None,
        "versions": _merged(about.get("versions") for about in abouts),
        "clusters": _merged(about.get("clusters") for about in abouts),
        "notebooks": notebooks,
        "plan": None,
    }


def outcome(of_notebooks: Iterable[str], error: ConsulfedError | None = None) -> str:
    """What a run comes to: the worst of its notebooks, and never a success where it ended with an error.

    >>> outcome(["verified", "applied", "unchanged", "verified"])
    'applied'
    """
    found = set(of_notebooks)
    if error is not None:
        found.add("interrupted" if isinstance(error, Interrupted) else "failed")
    return next((word for word in _WORST_FIRST if word in found), "failed")


def plan_of(folder: Path, federation: str) -> PlanFile | None:
    """The plan of the whole, of what each executed notebook planned; None where none of them plans anything."""
    documents = {}
    for path in sorted(folder.glob("*.ipynb")):
        result = examine(json.loads(path.read_text(encoding="utf-8")), [], expect_result=True).result
        if result and result.get("plan"):
            secondary = result["parameters"].get("secondary", "")
            label = result["notebook"] + (f" {secondary}" if secondary else "")
            documents[label] = Document.from_data(result["plan"]["document"])
    return PlanFile(federation, documents) if documents else None


# -- one notebook -------------------------------------------------------------------------------------------------


def _story(path: Path, sources: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the predicate says of an executed notebook, what it says of the world)."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    source = next((each for each in sources if path.name.startswith(each.removesuffix(".ipynb"))), path.name)
    name = source.removesuffix(".ipynb")
    times = notebook["metadata"].get("papermill", {})
    seen = examine(notebook, [], expect_result=False)
    rest = path.stem.removeprefix(name).removeprefix("-")
    story = {
        "file": path.name,
        "notebook": name,
        "secondary": "" if rest.startswith("without-") else rest,
        "outcome": seen.result["outcome"] if seen.result else _how_it_stopped(seen.error),
        "started": times.get("start_time"),
        "ended": times.get("end_time"),
        "seconds": times.get("duration"),
        "checks": seen.checks,
        "changes": seen.changes,
        "error": seen.error,
    }
    about: Mapping[str, Any] = seen.result or next(_abouts(notebook), {})
    return story, {key: about.get(key) or {} for key in ("clusters", "versions")}


def _abouts(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What tables of a notebook without a result tell beside their rows."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs") or []:
            table = output.get("data", {}).get(Table.MIME, {})
            if "clusters" in table:
                yield table


def _how_it_stopped(error: Mapping[str, Any] | None) -> str:
    """A notebook without a result and without an error of its own was killed."""
    return "failed" if error and error["class"] not in {"KeyboardInterrupt", "Interrupted"} else "interrupted"


# -- the rest -----------------------------------------------------------------------------------------------------


def _merged(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Of several answers to the same question the first one: the world as it was met."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in (part or {}).items():
            merged.setdefault(key, value)
    return merged


def _sources(folder: Path) -> dict[str, dict[str, Any]]:
    """Source notebook → its SHA-256, and that of each of its code cells."""
    found = {}
    for path in sorted(folder.glob("[0-9][0-9]-*.ipynb")):
        content = path.read_bytes()
        cells = source_digests(json.loads(content))
        found[path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "cells": cells}
    return found


def _commit(root: Path) -> dict[str, Any]:
    """The git commit of the runbook, and whether its notebooks and library differ from it; null where there is none."""
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "notebooks", "consulfed_lib") if commit else None
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
