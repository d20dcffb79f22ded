"""A pytest plugin for test_every_row: runs the tests that $WITNESS_TESTS names and notes, in $WITNESS_FILE, what each
check reported in each of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.checks import Check
from consulfed_lib.results import Finding

_seen: dict[str, dict[str, list[str]]] = {}
_current: list[str] = []
_called = Check.__call__


def _call_and_note(self: Check, subject: str, *world: Any) -> list[Finding]:
    found = _called(self, subject, *world)
    if _current:
        _seen[_current[-1]].setdefault(self.id, []).extend(each.severity for each in found)
    return found


def pytest_configure() -> None:
    Check.__call__ = _call_and_note  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    named = set(json.loads(os.environ["WITNESS_TESTS"]))
    items[:] = [item for item in items if {item.nodeid, item.nodeid.partition("[")[0]} & named]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    _current.append(item.nodeid)
    _seen[item.nodeid] = {}
    try:
        return (yield)
    finally:
        _current.pop()


def pytest_sessionfinish() -> None:
    Path(os.environ["WITNESS_FILE"]).write_text(json.dumps(_seen))
