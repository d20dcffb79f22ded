"""Which rooms of the library may use which: read from the imports themselves, wherever in a module they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import consulfed_lib

LIBRARY = Path(consulfed_lib.__file__).parent
NAME = LIBRARY.name

USERS_OF_THE_SANDBOX = {"cli", "drills", "rehearsal"}
"""It stands in for clusters: who runs the runbook on real ones must not be able to tell."""

USED_BY_THE_SANDBOX = {"errors", "places", "rbac"}
"""What it shares with the runbook: how errors are said, where things are, and the rights that it gives."""


def imported(text: str, module: tuple[str, ...]) -> Iterator[str]:
    """The rooms of the library that a module imports, itself in the room `module[0]`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            parts = [each.name.split(".") for each in node.names]
            yield from (part[1] for part in parts if part[0] == NAME and len(part) > 1)
        if isinstance(node, ast.ImportFrom):
            base = list(module[: len(module) - node.level]) if node.level else []
            path = [*base, *(node.module or "").split(".")] if node.module else base
            path = path if node.level else path[1:] if path[:1] == [NAME] else ["…elsewhere"]
            yield from [path[0]] if path else [each.name for each in node.names]


@cache
def rooms() -> dict[str, set[str]]:
    """Room → the rooms that it uses, itself not counted."""
    found: dict[str, set[str]] = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        room = parts[0]
        found.setdefault(room, set()).update(set(imported(path.read_text(), parts)) - {room, "…elsewhere"})
    return found


def test_nothing_of_the_runbook_knows_the_sandbox() -> None:
    """Only who brings one up imports it: the command line, drills and rehearsals."""
    users = {room for room, uses in rooms().items() if "sandbox" in uses}
    assert users <= USERS_OF_THE_SANDBOX


def test_the_sandbox_knows_nothing_of_the_runbook() -> None:
    """It imports none of the steps, nor what these use."""
    assert rooms()["sandbox"] <= USED_BY_THE_SANDBOX


def test_nothing_uses_drills_and_rehearsals() -> None:
    """But their commands; a rehearsal holds drills."""
    found = rooms()
    assert {room for room, uses in found.items() if "drills" in uses} <= {"cli", "rehearsal"}
    assert {room for room, uses in found.items() if "rehearsal" in uses} <= {"cli"}


def test_an_arrow_the_wrong_way_is_noticed() -> None:
    """In every form in which one can be written, also inside of a function."""
    for text in (
        "from ..sandbox import lifecycle",
        "from ..sandbox.state import Folder",
        "from .. import sandbox",
        "import consulfed_lib.sandbox.state",
        "def f():\n    from consulfed_lib.sandbox import state",
    ):
        assert set(imported(text, ("steps", "ready"))) == {"sandbox"}
    assert set(imported("from . import sandbox", ("helm",))) == {"sandbox"}
    assert set(imported("from .sandbox import x", ("helm",))) == {"sandbox"}
    assert set(imported("import os\nfrom pathlib import Path", ("helm",))) == {"…elsewhere"}
    assert "steps" in rooms()["drills"]
