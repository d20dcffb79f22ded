"""What an executed notebook proves: each claim that it does not show is named by its cell."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from consulfed_lib.record import cells
from consulfed_lib.record.cells import Evidence, examine, source_digests
from consulfed_lib.results import Result

from . import recorded

PARAMETERS, INJECTED, WORK, LAST = 1, 2, 3, 6
"""Places of cells in an executed notebook; papermill's cell about an error moves those of one that failed by one."""


@pytest.fixture
def done() -> dict[str, Any]:
    """An executed notebook that came to its end."""
    return recorded.executed().notebook("verified")


@pytest.fixture
def stopped() -> dict[str, Any]:
    """An executed notebook that stopped with an error."""
    return recorded.executed().notebook("failed")


def look(notebook: Any, name: str = "00-preflight", *, expect_result: bool = True) -> Evidence:
    return examine(notebook, recorded.source(name), expect_result=expect_result, notebook=name)


def of_stopped(notebook: Any) -> Evidence:
    return look(notebook, "02-secret-transfer", expect_result=False)


def killed(notebook: dict[str, Any], at: int) -> dict[str, Any]:
    """The same notebook as the file would be, had everything been killed while this cell worked."""
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        times = cell["metadata"]["papermill"]
        if number >= at:
            times.update(end_time=None, duration=None, status="running" if number == at else "pending")
        if number > at:
            times["start_time"] = None
            cell.update(execution_count=None, outputs=[])
    return notebook


def test_a_notebook_that_ran_to_its_end_proves_its_result(done):
    """All that papermill does to a notebook is allowed, and the result is what its last cell holds."""
    found = look(done)
    assert found.problems == []
    assert found.ended == "result"
    assert found.ran == 5
    assert found.result is not None
    assert found.result["outcome"] == "verified"
    assert [check["id"] for check in found.checks] == ["api", "nodes"]


def test_digests_are_enough_to_recognise_the_code(done):
    """A record holds no source, only the digest of each of its cells."""
    digests = source_digests(recorded.source("00-preflight"))
    assert len(digests) == 4
    assert examine(done, digests, expect_result=True).problems == []
    assert examine(done, digests[::-1], expect_result=True).problems


def test_a_source_as_lines_and_as_one_text_is_the_same():
    """nbformat knows both."""
    split = recorded.source("00-preflight")
    joined = copy.deepcopy(split)
    for cell in joined["cells"]:
        cell["source"] = "".join(cell["source"])
    assert source_digests(joined) == source_digests(split)


def test_a_notebook_that_failed_proves_how_far_it_came(stopped):
    """The cells up to the one that failed ran, its error is there, the rest did not run."""
    found = of_stopped(stopped)
    assert found.problems == []
    assert found.ended == "error"
    assert found.result is None
    assert found.ran == 4
    assert found.error is not None
    assert found.error["class"] == "ApplyError"
    assert [check["id"] for check in found.checks] == ["api", "nodes"]


def test_a_notebook_that_failed_is_no_end(stopped):
    """Who expects a result is told which cell ended it, and with what."""
    (problem,) = look(stopped, "02-secret-transfer").problems
    assert re.match(
        r"cell 7 \(from consulfed_lib.errors.*ended with an error: ApplyError: The hook failed", problem
    )


def test_a_result_where_none_is_claimed_is_a_contradiction(done):
    """A record that says failed and shows success lies, too."""
    (problem,) = look(done, expect_result=False).problems
    assert "it is said to have stopped before" in problem


@pytest.mark.parametrize("at", [PARAMETERS, INJECTED, WORK, LAST - 2, LAST])
def test_a_killed_notebook_is_unfinished_and_nothing_worse(done, at):
    """What the last autosave left is evidence of an interruption."""
    notebook = killed(done, at)
    if at == LAST:
        notebook["cells"][LAST]["outputs"] = []
    found = look(notebook, expect_result=False)
    assert found.problems == []
    assert found.ended == "unfinished"
    assert "did not come to its end" in look(notebook).problems[-1]


def test_a_cell_that_began_without_a_number_of_the_kernel_is_where_it_was_killed(done):
    """papermill notes the start before the kernel answers; only one cell can be there."""
    notebook = killed(done, WORK)
    notebook["cells"][WORK].update(execution_count=None, outputs=[])
    assert look(notebook, expect_result=False).problems == []
    notebook["cells"][LAST - 2]["metadata"]["papermill"]["start_time"] = "2026-01-01T00:00:00"
    assert "has a start time, but did not run" in look(notebook, expect_result=False).problems[0]


def test_papermills_word_about_cells_that_never_ran_is_not_taken(done):
    """After the death of a kernel it marks them completed: nothing is proven by that."""
    notebook = killed(done, WORK)
    for cell in notebook["cells"][WORK:]:
        if cell["cell_type"] == "code":
            cell["metadata"]["papermill"]["status"] = "completed"
    assert look(notebook, expect_result=False).problems == []
    assert look(notebook).problems


def edit(cell: int, **changes: Any):
    def work(notebook: dict[str, Any]) -> None:
        notebook["cells"][cell].update(changes)

    return work


def times(cell: int, **changes: Any):
    def work(notebook: dict[str, Any]) -> None:
        notebook["cells"][cell]["metadata"]["papermill"].update(changes)

    return work


def add(cell: int, output: dict[str, Any]):
    def work(notebook: dict[str, Any]) -> None:
        notebook["cells"][cell]["outputs"].append(output)

    return work


def tag(cell: int, *tags: str):
    def work(notebook: dict[str, Any]) -> None:
        notebook["cells"][cell]["metadata"]["tags"] = list(tags)

    return work


def swap(first: int, second: int):
    def work(notebook: dict[str, Any]) -> None:
        every = notebook["cells"]
        every[first], every[second] = every[second], every[first]

    return work


def remove(cell: int):
    def work(notebook: dict[str, Any]) -> None:
        del notebook["cells"][cell]

    return work


def insert(cell: int, **changes: Any):
    def work(notebook: dict[str, Any]) -> None:
        new = {"cell_type": "code", "metadata": {}, "source": "x = 1", "execution_count": 3, "outputs": []}
        notebook["cells"].insert(cell, new | changes)

    return work


def result_elsewhere(notebook: dict[str, Any]) -> None:
    notebook["cells"][WORK]["outputs"].append(notebook["cells"][LAST]["outputs"][-1])


def result_twice(notebook: dict[str, Any]) -> None:
    notebook["cells"][LAST]["outputs"] *= 2


def other_result(notebook: dict[str, Any]) -> None:
    notebook["cells"][LAST]["outputs"][-1]["data"][Result.MIME]["notebook"] = "04-verification"


STREAM = {"output_type": "stream", "name": "stdout", "text": "x"}
ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
EDITS = {
    "code": (edit(WORK, source="1 + 1"), r"cell 4 \(1 \+ 1\) is not the source's"),
    "markdown": (edit(0, source="# Another"), r"cell 1 \(# Another\) is not the source's"),
    "tags": (tag(WORK, "skip-execution"), r"cell 4 .* has other tags"),
    "order": (swap(WORK, WORK + 1), r"cell 4 .* is not the source's"),
    "removed": (remove(WORK), r"it has 3 code cells, the source has 4"),
    "removed text": (remove(0), r"it has 5 cells of its source, which has 6"),
    "added": (insert(WORK), r"it has 5 code cells, the source has 4"),
    "count": (edit(WORK, execution_count=7), r"cell 4 .* ran as number 7; in order it would be 3"),
    "count again": (edit(WORK, execution_count=2), r"cell 4 .* ran as number 2"),
    "count of no number": (edit(WORK, execution_count="3"), r"cell 4 .* ran as number 3"),
    "not run": (edit(WORK, execution_count=None, outputs=[]), r"cell 4 .* did not run"),
    "output without run": (edit(WORK, execution_count=None), r"cell 4 .* has an output, but did not run"),
    "error": (add(WORK, ERROR), r"cell 5 .* ran, although cell 4 .* ended with an error"),
    "two errors": (lambda n: [add(LAST, ERROR)(n) for _ in "ab"], r"cell 7 .* ended with 2 errors"),
    "result and error": (add(LAST, ERROR), r"cell 7 .* holds a result and an error"),
    "no result": (edit(LAST, outputs=[]), r"it holds no result in its last code cell"),
    "result of no shape": (
        edit(LAST, outputs=[{"output_type": "display_data", "data": {Result.MIME: "well"}}]),
        r"it holds no result",
    ),
    "result elsewhere": (result_elsewhere, r"cell 4 .* holds a result, but is not the last"),
    "two results": (result_twice, r"cell 7 .* holds 2 results"),
    "after the result": (add(LAST, STREAM), r"cell 7 .* has an output after its result"),
    "another's result": (other_result, r"cell 7 .* of '04-verification', not of '00-preflight'"),
    "overlap": (times(WORK, start_time="2020-01-01T00:00:00"), r"cell 4 .* began before the one before it"),
    "backwards": (times(LAST, end_time="2020-01-01T00:00:00"), r"cell 7 .* ended before it began"),
    "no time": (times(WORK, start_time=None), r"cell 4 .* papermill knows no time of it"),
    "status": (times(WORK, status="failed"), r"cell 4 .* is not marked as completed"),
    "injected code": (edit(INJECTED, source="import os"), r"cell 3 .* does more than to give values"),
    "injected call": (edit(INJECTED, source="federation = open('x')"), r"cell 3 .* computes federation"),
    "injected name": (edit(INJECTED, source="step = 1"), r"cell 3 .* gives a value to step, which is no"),
    "injected attribute": (edit(INJECTED, source="a.b = 1"), r"cell 3 .* does more than"),
    "injected chain": (edit(INJECTED, source="federation = dry_run = 1"), r"cell 3 .* does more than"),
    "injected nonsense": (edit(INJECTED, source="federation ="), r"cell 3 .* does more than"),
    "injected elsewhere": (swap(INJECTED, WORK), r"cell 4 .* not right after the parameters cell"),
    "injected twice": (
        insert(3, source="federation = 1", metadata={"tags": ["injected-parameters"]}),
        r"cell 4 .* is injected, and so is another",
    ),
    "banner": (
        insert(0, cell_type="markdown", source=cells._BANNER % 1, metadata={"tags": [cells.ERROR_MARK]}),
        r"cell 1 .* tells of an error, but there is none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_whatever_is_not_as_it_ran_is_named_with_its_cell(done, name):
    """Each rule fires, and says where; untouched, none of them does (see the first test)."""
    change, expected = EDITS[name]
    change(done)
    problems = look(done).problems
    assert any(re.match(expected, each) for each in problems), problems


OF_STOPPED = {
    "ran on": (edit(8, execution_count=5), r"cell 9 .* ran, although cell 7 .* ended with an"),
    "output after": (edit(8, outputs=[STREAM]), r"cell 9 .* has an output, but did not run"),
    "banner": (edit(0, source="All went well."), r"cell 1 .* is not what papermill writes of the error"),
    "anchor": (swap(4, 5), r"cell 5 .* is not what papermill writes of the error"),
    "code as a mark": (edit(0, cell_type="code"), r"cell 1 .* is not what papermill writes"),
}


@pytest.mark.parametrize("name", OF_STOPPED)
def test_a_notebook_that_stopped_is_held_to_it(stopped, name):
    """Nothing ran after the error, and only papermill's own two cells tell of it."""
    change, expected = OF_STOPPED[name]
    change(stopped)
    problems = of_stopped(stopped).problems
    assert any(re.match(expected, each) for each in problems), problems


def test_a_blank_cell_is_passed_over(done):
    """nbclient does not execute it; with an output it is forged."""
    source = recorded.source("00-preflight")
    blank = {"cell_type": "code", "metadata": {}, "source": [], "execution_count": None, "outputs": []}
    source["cells"].insert(3, blank)
    done["cells"].insert(4, copy.deepcopy(blank))
    assert examine(done, source, expect_result=True).problems == []
    done["cells"][4]["outputs"] = [STREAM]
    assert examine(done, source, expect_result=True).problems == [
        "cell 5 (empty) is empty, but has an output"
    ]


def test_without_parameters_nothing_is_injected(done):
    """papermill adds no cell where it is given none; counts then begin one earlier."""
    del done["cells"][INJECTED]
    for number, cell in enumerate((c for c in done["cells"] if c["cell_type"] == "code"), 1):
        cell["execution_count"] = number
    assert look(done).problems == []


@pytest.mark.parametrize(
    "broken",
    [None, [], "text", {}, {"cells": []}, {"cells": {}, "metadata": {}}, {"cells": [1], "metadata": {}},
     {"cells": [{"cell_type": "code"}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": [1], "metadata": {}}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": "", "metadata": []}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 1}}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": "", "metadata": {"papermill": 1}}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": "", "metadata": {}, "outputs": [1]}], "metadata": {}},
     {"cells": [{"cell_type": "code", "source": "", "metadata": {}, "outputs": [{"data": 1}]}], "metadata": {}}],
)  # fmt: skip
def test_what_is_no_notebook_is_a_problem_and_no_traceback(broken):
    """A record may hold anything."""
    (problem,) = examine(broken, [], expect_result=True).problems
    assert "no notebook" in problem or "no cell" in problem


def test_papermill_as_it_is_relied_on():
    """The two cells that it writes about an error are these, word for word; an upgrade that changes them is noticed."""
    from papermill import execute

    assert execute.ERROR_MARKER_TAG == cells.ERROR_MARK
    assert execute.ERROR_MESSAGE_TEMPLATE == cells._BANNER
    assert execute.ERROR_ANCHOR_MSG == cells._ANCHOR


def test_evidence_is_read_from_json_as_it_is(done):
    """Nothing is changed in what is looked at."""
    before = json.dumps(done)
    look(done)
    assert json.dumps(done) == before
