"""Everything that a record claims, recomputed from what is in it. Nothing here raises for a record that is broken.

What this proves: nothing was changed since the record was made (with a signature: by anybody but the holder of the
key; with a later record: by anybody who did not change that one, too), and each notebook ran as its source says.
What it cannot prove, unsigned and alone: that nobody made the whole record anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..canonical import canonical, digest
from ..errors import RecordError
from ..plans import Document
from ..plans.approval import deviations
from . import page, shape
from .cells import Evidence, examine
from .files import PLAN, RUN, SUMS, check_subjects, check_sums, contents_of, read_file, sha256_of
from .shape import STOPPED, Notebook, Predicate
from .statement import Sealed, check_signature, peek, short, unseal

if TYPE_CHECKING:
    from securesystemslib.signer import Key


@dataclass
class Verdict:
    """What was found.

    Attributes:
        problems: what is wrong, a sentence each that names the file; empty: intact.
        notes: what is not wrong, and is not proven either.
        facts: run, federation, kind, outcome and counts, as far as they could be read.
    """

    place: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def intact(self) -> bool:
        return not self.problems

    def data(self) -> dict[str, Any]:
        """For a machine."""
        return {"record": str(self.place), "intact": self.intact} | {
            "problems": self.problems, "notes": self.notes, "facts": self.facts
        }  # fmt: skip


def verify(folder: Path, keys: Sequence[Key] = (), *, name: str = "") -> Verdict:
    """Recompute everything that a record claims.

    Args:
        keys: public keys; one of them must have signed it. None: a signature is not looked at.
        name: what the folder will be called, while it has another name.
    """
    verdict = Verdict(folder)
    contents = contents_of(folder, verdict.problems)
    if contents is None:
        return verdict
    digests = {each: hashlib.sha256(content).hexdigest() for each, content in contents.items()}
    sealed = _unsealed(contents, verdict.problems)
    subjects = sealed.subjects if sealed else None
    verdict.problems += check_sums(contents.get(SUMS), digests, subjects)
    if sealed is None:
        return verdict
    verdict.problems += check_subjects(digests, sealed.subjects)
    _signature(sealed, keys, verdict)
    predicate, misshapen = shape.read(sealed.predicate)
    verdict.problems += [f"{RUN}: {each}" for each in misshapen]
    if predicate is None:
        return verdict
    verdict.facts = _facts(predicate, sealed)
    evidence = _notebooks(predicate, contents, verdict.problems)
    verdict.problems += [f"{RUN}: {each}" for each in _claims(predicate, evidence)]
    verdict.problems += _plan(predicate, contents, evidence)
    verdict.problems += _pages(contents)
    if (name or folder.name) != predicate.run:
        verdict.notes.append(f"the folder is not called {predicate.run}, which is the run's id")
    _chain(folder, predicate, digests[RUN], verdict)
    return verdict


def verify_notebook(path: Path) -> Verdict:
    """Hold one executed notebook, by whatever papermill, against the notebooks of the installed runbook."""
    from ..execution import notebooks_folder

    verdict = Verdict(path)
    try:
        executed = json.loads(read_file(path))
    except OSError as error:
        verdict.problems.append(f"{path.name}: it cannot be read: {error.strerror}")
        return verdict
    except (ValueError, RecursionError):
        verdict.problems.append(f"{path.name}: it is no JSON: it was not finished, or was edited")
        return verdict
    sources = {
        each.stem: json.loads(each.read_bytes()) for each in notebooks_folder().glob("[0-9][0-9]-*.ipynb")
    }
    best: tuple[int, str, Evidence] | None = None
    for name, source in sorted(sources.items()):
        found = examine(executed, source, expect_result=True, notebook=name)
        if best is None or len(found.problems) < best[0]:
            best = len(found.problems), name, found
    if best is None:
        verdict.problems.append(f"{path.name}: the installed runbook has no notebooks to compare it with")
        return verdict
    _, name, evidence = best
    verdict.problems += [f"{path.name}: {each}" for each in evidence.problems]
    result = evidence.result or {}
    verdict.facts = {
        "notebook": name,
        "federation": result.get("federation"),
        "outcome": result.get("outcome") or ("failed" if evidence.ended == "error" else "interrupted"),
        "checks": len(evidence.checks),
        "changes": len(evidence.changes),
        "cells": evidence.ran,
    }
    verdict.notes.append(
        "a notebook alone: nothing tells whether its outputs were edited; a record of `consulfed run` has digests"
    )
    return verdict


# -- run.json -----------------------------------------------------------------------------------------------------


def _unsealed(contents: Mapping[str, bytes], problems: list[str]) -> Sealed | None:
    if RUN not in contents:
        problems.append(f"{RUN}: it is missing")
        return None
    try:
        return unseal(contents[RUN])
    except RecordError as error:
        problems.append(f"{RUN}: {error.found}")
        return None


def _signature(sealed: Sealed, keys: Sequence[Key], verdict: Verdict) -> None:
    if keys:
        verdict.problems += [f"{RUN}: {each}" for each in check_signature(sealed.envelope, keys)]
    elif sealed.keyids:
        names = ", ".join(map(short, sealed.keyids))
        verdict.notes.append(f"signed by {names}; give --key to check the signature")
    else:
        verdict.notes.append("unsigned: whoever could write here could have made the whole record anew")


def _facts(predicate: Predicate, sealed: Sealed) -> dict[str, Any]:
    return {
        "run": predicate.run,
        "federation": predicate.federation,
        "kind": predicate.kind,
        "outcome": predicate.outcome,
        "notebooks": len(predicate.notebooks),
        "checks": len(predicate.checks),
        "changes": len(predicate.changes),
        "signed_by": sealed.keyids,
    }


def _claims(predicate: Predicate, evidence: Mapping[str, Evidence]) -> list[str]:
    """What the predicate says of itself."""
    from .predicate import outcome

    problems = []
    if predicate.parameters_digest != digest(predicate.parameters):
        problems.append("its parameters_digest is not that of its parameters")
    words = [each.outcome for each in predicate.notebooks]
    if predicate.error is not None:
        words.append("interrupted" if predicate.error.get("class") == "Interrupted" else "failed")
    if predicate.outcome != outcome(words):
        problems.append(
            f"its outcome is {predicate.outcome!r}; its notebooks and error come to {outcome(words)!r}"
        )
    if predicate.dry_run and "applied" in words:
        problems.append("it was a dry run, but a notebook applied something")
    for found in evidence.values():
        result = found.result or {}
        if result and result.get("federation") != predicate.federation:
            problems.append(
                f"it is of {predicate.federation!r}, but a notebook is of {result.get('federation')!r}"
            )
    return problems


# -- the notebooks, the plan, the pages ---------------------------------------------------------------------------


def _notebooks(
    predicate: Predicate, contents: Mapping[str, bytes], problems: list[str]
) -> dict[str, Evidence]:
    """Each executed notebook against its source and against what is said of it; file → what it shows."""
    found = {}
    for claim in predicate.notebooks:
        if claim.file in found:
            problems.append(f"{RUN}: it speaks of {claim.file} twice")
        elif claim.file in contents:
            found[claim.file] = _notebook(claim, predicate, contents[claim.file], problems)
        else:
            problems.append(f"{claim.file}: it is missing; {RUN} says how it ended")
    problems += [
        f"{name}: {RUN} does not say how it ended"
        for name in sorted(contents)
        if name.endswith(".ipynb") and name not in found
    ]
    return found


def _notebook(claim: Notebook, predicate: Predicate, content: bytes, problems: list[str]) -> Evidence:
    source = predicate.runbook.notebooks.get(f"{claim.notebook}.ipynb")
    try:
        executed = json.loads(content)
    except (ValueError, RecursionError):
        problems.append(f"{claim.file}: it is no JSON")
        return Evidence()
    stopped = claim.outcome in STOPPED
    digests = source.cells if source else []
    evidence = examine(executed, digests, expect_result=not stopped, notebook=claim.notebook)
    if source is None:
        problems.append(f"{claim.file}: {RUN} does not say what the source of {claim.notebook} was")
        return evidence
    problems += [f"{claim.file}: {each}" for each in evidence.problems]
    if evidence.result is not None and evidence.result.get("outcome") != claim.outcome:
        problems.append(
            f"{claim.file}: its outcome is {evidence.result.get('outcome')!r}, not {claim.outcome!r}"
        )
    for what, shown, said in (
        ("checks", evidence.checks, claim.checks),
        ("changes", evidence.changes, claim.changes),
    ):
        if shown != said:
            problems.append(f"{claim.file}: its {what} are not those of which {RUN} speaks")
    if evidence.error != claim.error:
        problems.append(f"{claim.file}: it ended with another error than the one of which {RUN} speaks")
    return evidence


def _plan(predicate: Predicate, contents: Mapping[str, bytes], evidence: Mapping[str, Evidence]) -> list[str]:
    """plan.json has the digest that is claimed, and says what the notebooks planned."""
    if predicate.plan is None:
        return [f"{PLAN}: {RUN} says nothing of a plan"] if PLAN in contents else []
    if predicate.plan.file != PLAN or PLAN not in contents:
        return [f"{PLAN}: it is missing; {RUN} gives its digest"]
    try:
        raw = json.loads(contents[PLAN])
        said, content = raw["digest"], raw["plan"]
        planned = {label: each["digest"] for label, each in content["notebooks"].items()}
        written = canonical({"digest": said, "plan": content}) + b"\n"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{PLAN}: it is no plan"]
    problems = []
    if written != contents[PLAN]:
        problems.append(f"{PLAN}: it is not written as consulfed writes it: it was edited")
    if not predicate.plan.digest == said == digest(content):
        problems.append(f"{PLAN}: its digest, that of its content and the one in {RUN} are not the same")
    shown = {}
    for claim in predicate.notebooks:
        plan = ((evidence[claim.file].result if claim.file in evidence else None) or {}).get("plan")
        if isinstance(plan, dict):
            shown[f"{claim.notebook} {claim.secondary}".strip()] = plan
    if predicate.approved_plan:
        return problems + _approved(predicate, content, shown)
    return problems + [
        f"{PLAN}: what it says of {label} is not what that notebook planned"
        for label in sorted(planned.keys() | shown.keys())
        if planned.get(label) != shown.get(label, {}).get("digest")
    ]


def _approved(
    predicate: Predicate, content: Mapping[str, Any], shown: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """plan.json is the approved plan, and no notebook planned anything beyond it."""
    assert predicate.plan is not None
    assert predicate.approved_plan is not None
    if predicate.plan.digest != predicate.approved_plan.digest:
        return [f"{PLAN}: it is not the approved plan of which {RUN} speaks"]
    problems = []
    for label, plan in sorted(shown.items()):
        try:
            now = Document.from_data(plan["document"])
            raw = content["notebooks"].get(label)
            approved = Document.from_data({k: v for k, v in raw.items() if k != "digest"}) if raw else None
        except (KeyError, TypeError, AttributeError):
            problems.append(f"{label}: its plan cannot be read")
            continue
        if approved is None:
            found = [f"{item.label} is in no approved plan" for item in now.pending]
        else:
            found = deviations(approved, now, begun=True)
        problems += [f"{label}: it was not approved: {each}" for each in found]
    return problems


def _pages(contents: Mapping[str, bytes]) -> list[str]:
    """Each notebook has its page, and no page loads anything from outside."""
    problems = []
    for name, content in contents.items():
        if name.endswith(".ipynb") and _page_of(name) not in contents:
            problems.append(f"{_page_of(name)}: it is missing: the page of {name}")
        if name.endswith(".html"):
            loads = page.outside(content.decode("utf-8", "replace"))
            problems += [f"{name}: it would load {each}" for each in loads]
    return problems


def _page_of(name: str) -> str:
    return f"{name.removesuffix('.ipynb')}.html"


# -- the chain ----------------------------------------------------------------------------------------------------


def _chain(folder: Path, predicate: Predicate, own: str, verdict: Verdict) -> None:
    """The record before this one and those after it, where they are in the same folder."""
    previous = predicate.previous
    if previous is None:
        verdict.notes.append("the first of its chain: no record before it")
    elif not (folder.parent / previous.run / RUN).exists():
        verdict.notes.append(f"the record before it, {previous.run}, is not here")
    elif sha256_of(folder.parent / previous.run / RUN) != previous.sha256:
        verdict.problems.append(
            f"{previous.run}/{RUN}: it is not the one that this record was chained to: one of the two was edited"
        )
    for later, link in links(folder.parent).items():
        if link.get("run") == predicate.run and link.get("sha256") != own:
            verdict.problems.append(
                f"{RUN}: it is not the one that the later record {later} was chained to: it was edited"
            )


def links(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Record of a federation's folder → what it says of the one before it; empty: it is the first, or cannot be read.

    In the order of their names, which is that in which the runs began.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob(f"[0-9]*/{RUN}")):
        try:
            previous = peek(read_file(path)).get("previous")
        except (OSError, RecordError):
            previous = None
        found[path.parent.name] = previous if isinstance(previous, dict) else {}
    return found
