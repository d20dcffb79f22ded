"""What an executed notebook proves: that every code cell of its source ran once, in order, without an error.

papermill's own word is not taken: it marks cells completed that never ran. What counts is what a kernel leaves behind:
execution counts, outputs, and the result in the last cell.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..results import Changes, Findings, Result, Table
from .executed import Cell, data_of, digest_of, misshapen, text_of

PARAMETERS, INJECTED, ERROR_MARK = "parameters", "injected-parameters", "papermill-error-cell-tag"
_PAPERMILLS_TAGS = {INJECTED, ERROR_MARK}

_STYLE = 'style="color:red; font-family:Helvetica Neue, Helvetica, Arial, sans-serif; font-size:2em;"'
_BANNER = (
    f"<span {_STYLE}>An Exception was encountered at '<a href=\"#papermill-error-cell\">In [%s]</a>'.</span>"
)
_ANCHOR = (
    f'<span id="papermill-error-cell" {_STYLE}>'
    "Execution using papermill encountered an exception here and stopped:</span>"
)
"""The two cells that papermill puts into a notebook that stopped, word for word."""

_NEVER = "~"
"""Comes after every time, as papermill writes times."""


@dataclass
class Evidence:
    """What was found in an executed notebook.

    Attributes:
        problems: what it claims and does not show, a sentence each; empty: it is what it claims to be.
        result: what the last code cell holds under `Result.MIME`.
        ended: `result`; `error` where a cell ended with one; `unfinished` where it was killed.
        ran: how many code cells ran.
        error: `{class, found}` of the error; None without.
        checks, changes: those of the result; of a notebook without one, those of the tables that it shows.
    """

    problems: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None
    ended: Literal["result", "error", "unfinished"] = "unfinished"
    ran: int = 0
    error: dict[str, str] | None = None
    checks: list[Any] = field(default_factory=list)
    changes: list[Any] = field(default_factory=list)


def source_digests(notebook: Mapping[str, Any]) -> list[str]:
    """SHA-256 of the source of each code cell, in order."""
    return [digest_of(text_of(cell)) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def examine(
    executed: Any, source: Sequence[str] | Mapping[str, Any], *, expect_result: bool, notebook: str = ""
) -> Evidence:
    """Hold an executed notebook against its source.

    Args:
        executed: the notebook as JSON gives it; whatever it is, it raises nothing.
        source: the source notebook, or the digests of its code cells (then Markdown is not compared).
        expect_result: it is said to have come to its end.
        notebook: the name that its result must have; empty: any.
    """
    if reason := misshapen(executed):
        return Evidence([reason])
    cells = [Cell(number, raw) for number, raw in enumerate(executed["cells"], 1)]
    evidence = _read(cells)
    if isinstance(source, Mapping):
        evidence.problems += _against_digests(cells, source_digests(source))
        evidence.problems += _against_source(cells, source["cells"])
    else:
        evidence.problems += _against_digests(cells, source)
    evidence.problems += _injected(cells)
    evidence.problems += _order(cells, evidence)
    evidence.problems += _times(cells, evidence)
    evidence.problems += _marks(cells, evidence)
    evidence.problems += _end(cells, evidence, expect_result, notebook)
    return evidence


def _read(cells: Sequence[Cell]) -> Evidence:
    """What is there, before anything is asked of it."""
    code = [cell for cell in cells if cell.is_code]
    evidence = Evidence(ran=sum(cell.count is not None for cell in code))
    failed = next((cell.errors[0] for cell in code if cell.errors), None)
    last = code[-1].results if code else []
    if failed is not None:
        evidence.ended = "error"
        evidence.error = {"class": str(failed.get("ename", "")), "found": str(failed.get("evalue", ""))}
    elif last and isinstance(last[-1], dict):
        evidence.ended, evidence.result = "result", last[-1]
    if evidence.result is not None:
        evidence.checks, evidence.changes = (_rows(evidence.result.get(key)) for key in ("checks", "changes"))
    else:
        outputs = [output for cell in code for output in cell.outputs]
        found = [data_of(output).get(Table.MIME) for output in outputs]
        tables = [table for table in found if isinstance(table, dict)]
        evidence.checks, evidence.changes = (
            [row for table in tables if table.get("kind") == kind for row in _rows(table.get("rows"))]
            for kind in (Findings.kind, Changes.kind)
        )
    return evidence


def _rows(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- the cells are those of the source ----------------------------------------------------------------------------


def _against_digests(cells: Sequence[Cell], digests: Sequence[str]) -> list[str]:
    code = [cell for cell in cells if cell.is_code and INJECTED not in cell.tags]
    problems = [
        f"{cell.name} is not the source's"
        for cell, digest in zip(code, digests, strict=False)
        if digest_of(cell.text) != digest
    ]
    if len(code) != len(digests):
        problems.append(f"it has {len(code)} code cells, the source has {len(digests)}")
    return problems


def _against_source(cells: Sequence[Cell], original: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every cell but papermill's own, in order: type, text and tags."""
    own = [cell for cell in cells if not _PAPERMILLS_TAGS.intersection(cell.tags)]
    problems = []
    for cell, raw in zip(own, original, strict=False):
        if cell.type != raw["cell_type"] or (not cell.is_code and cell.text != text_of(raw)):
            problems.append(f"{cell.name} is not the source's")
        elif set(cell.tags) != set(raw["metadata"].get("tags") or []):
            problems.append(f"{cell.name} has other tags than the source's")
    if len(own) != len(original):
        problems.append(f"it has {len(own)} cells of its source, which has {len(original)}")
    return problems


def _injected(cells: Sequence[Cell]) -> list[str]:
    """The injected cell gives values to parameters, and does nothing else."""
    code = [cell for cell in cells if cell.is_code]
    injected = [cell for cell in cells if INJECTED in cell.tags]
    if not injected:
        return []
    if len(injected) > 1:
        return [f"{cell.name} is injected, and so is another one" for cell in injected[1:]]
    (cell,) = injected
    if len(code) < 2 or code[1] is not cell or PARAMETERS not in code[0].tags:
        return [f"{cell.name} is injected, but not right after the parameters cell"]
    declared = {name for name, _ in _assignments(code[0].text) or []}
    assignments = _assignments(cell.text)
    if assignments is None:
        return [f"{cell.name} is injected, and does more than to give values to parameters"]
    problems = []
    for name, value in assignments:
        if name not in declared:
            problems.append(f"{cell.name} gives a value to {name}, which is no parameter")
        elif not _is_literal(value):
            problems.append(f"{cell.name} computes {name}; a parameter's value is a literal")
    return problems


def _assignments(text: str) -> list[tuple[str, ast.expr | None]] | None:
    """(name, value) of each assignment; None where there is anything else in it."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: list[tuple[str, ast.expr | None]] = []
    for each in statements:
        targets = each.targets if isinstance(each, ast.Assign) else []
        if isinstance(each, ast.AnnAssign):
            targets = [each.target]
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            return None
        found.append((targets[0].id, each.value))  # type: ignore[attr-defined]
    return found


def _is_literal(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


# -- each ran once, in order --------------------------------------------------------------------------------------


def _order(cells: Sequence[Cell], evidence: Evidence) -> list[str]:
    """Counts go 1, 2, 3 …; after the one that failed or was killed, nothing ran."""
    problems = []
    expected, over = 1, ""
    for cell in (cell for cell in cells if cell.is_code and not cell.blank):
        if over:
            problems += _ran_after(cell, over)
        elif cell.count is None:
            problems += _did_not_run(cell, evidence)
            over = "" if evidence.ended == "result" else f"{cell.name} did not run"
        else:
            if type(cell.count) is not int or cell.count != expected:
                problems.append(f"{cell.name} ran as number {cell.count}; in order it would be {expected}")
            expected += 1
            if len(cell.errors) > 1:
                problems.append(f"{cell.name} ended with {len(cell.errors)} errors")
            over = f"{cell.name} ended with an error" if cell.errors else ""
    problems += [f"{cell.name} is empty, but has an output" for cell in cells if cell.blank and cell.outputs]
    return problems


def _did_not_run(cell: Cell, evidence: Evidence) -> list[str]:
    problems = [f"{cell.name} did not run"] if evidence.ended == "result" else []
    return problems + ([f"{cell.name} has an output, but did not run"] if cell.outputs else [])


def _ran_after(cell: Cell, over: str) -> list[str]:
    if cell.count is not None:
        return [f"{cell.name} ran, although {over}"]
    return [f"{cell.name} has an output, but did not run"] if cell.outputs else []


def _times(cells: Sequence[Cell], evidence: Evidence) -> list[str]:
    """papermill's times, where it wrote any: one cell after the other, each to its end."""
    problems = []
    before = ""
    killed_early = evidence.ended == "unfinished"  # one may have begun without getting a number of the kernel
    for cell in (cell for cell in cells if cell.is_code and not cell.blank and cell.papermill):
        started, ended = (cell.papermill.get(key) for key in ("start_time", "end_time"))
        if cell.count is None:
            if started and not killed_early:
                problems.append(f"{cell.name} has a start time, but did not run")
            killed_early = killed_early and not started
            continue
        if not isinstance(started, str) or not (isinstance(ended, str) or evidence.ended == "unfinished"):
            problems.append(f"{cell.name} ran, but papermill knows no time of it")
            continue
        if started < before:
            problems.append(f"{cell.name} began before the one before it had ended")
        if isinstance(ended, str) and ended < started:
            problems.append(f"{cell.name} ended before it began")
        before = ended if isinstance(ended, str) else _NEVER
        if evidence.ended == "result" and cell.papermill.get("status") != "completed":
            problems.append(f"{cell.name} is not marked as completed")
    return problems


# -- how it ended -------------------------------------------------------------------------------------------------


def _marks(cells: Sequence[Cell], evidence: Evidence) -> list[str]:
    """papermill's cells about an error: word for word, at their places, and only where there is one."""
    marks = [cell for cell in cells if ERROR_MARK in cell.tags]
    if not marks:
        return []
    failed = next((cell for cell in cells if cell.is_code and cell.errors), None)
    failed = failed or next(
        (cell for cell in cells if cell.is_code and cell.papermill.get("exception") is True), None
    )
    if evidence.ended == "result" or failed is None:
        return [f"{cell.name} tells of an error, but there is none" for cell in marks]
    wanted = {1: _BANNER % failed.count, failed.number - 1: _ANCHOR}
    return [
        f"{cell.name} is not what papermill writes of the error in {failed.name}"
        for cell in marks
        if cell.type != "markdown" or cell.text != wanted.get(cell.number)
    ]


def _end(cells: Sequence[Cell], evidence: Evidence, expect_result: bool, notebook: str) -> list[str]:
    problems = []
    code = [cell for cell in cells if cell.is_code]
    for cell in code[:-1]:
        if cell.results:
            problems.append(f"{cell.name} holds a result, but is not the last code cell")
    if evidence.ended == "error":
        failed = next(cell for cell in code if cell.errors)
        if expect_result:
            problems.append(f"{failed.name} ended with an error: {_said(evidence)}")
        problems += [f"{failed.name} holds a result and an error"] if failed.results else []
        return problems
    if evidence.result is None:
        if expect_result:
            problems.append("it holds no result in its last code cell: it did not come to its end")
        return problems
    last = code[-1]
    if not expect_result:
        problems.append(f"{last.name} holds a result, but it is said to have stopped before")
    if len(last.results) > 1:
        problems.append(f"{last.name} holds {len(last.results)} results")
    if Result.MIME not in data_of(last.outputs[-1]):
        problems.append(f"{last.name} has an output after its result")
    if notebook and evidence.result.get("notebook") != notebook:
        problems.append(
            f"{last.name} holds the result of {evidence.result.get('notebook')!r}, not of {notebook!r}"
        )
    return problems


def _said(evidence: Evidence) -> str:
    error = evidence.error or {}
    return f"{error.get('class')}: {(error.get('found') or 'no message').splitlines()[0]}"
