"""04, 05 and 90 where nothing is there yet: told in words to who looks on in a dry run, and a failure to all others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib import params, presence, steps
from consulfed_lib.errors import ClusterError, PreflightError
from consulfed_lib.results import Finding
from consulfed_lib.steps.base import Step

from .conftest import RAW

ROOT = Path(__file__).parents[1]
NEED_ONE = ["04-verification", "05-cross-datacenter-traffic", "90-defederate"]
VIEWS = ["topology", "matrix", "trust", "addresses", "diagnosis", "transcripts", "ui"]
MISSING = [
    Finding("api-reachable", "dc1", "ok", "answers"),
    Finding("secret-complete", "dc1", "error", "it is not there", "run 01-primary-setup"),
    Finding("server-pod", "dc1", "error", "no pod"),
]


class Holds:
    """A cluster with these pods and this secret."""

    def __init__(self, pods: list[dict[str, Any]] | None = None, secret: dict[str, Any] | None = None):
        self.pods, self.secret = pods or [], secret

    def list(self, *_: str) -> list[dict[str, Any]]:
        return self.pods

    def get(self, *_: str) -> dict[str, Any] | None:
        return self.secret


class Silent(Holds):
    """A cluster that does not answer."""

    def list(self, *_: str) -> list[dict[str, Any]]:
        raise ClusterError("It does not answer.", "look at it")


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Step]:
    """Opens a notebook that has found this, on clusters that are these (dc2's first), and somebody looks on."""

    def open_step(
        notebook: str = NEED_ONE[0], *clusters: Holds, found: list[Finding] = MISSING, **given: Any
    ) -> Step:
        made = steps.open_step(notebook, params.check(RAW | given, "the test"))
        monkeypatch.setattr(type(made), "look_before", lambda self: list(found))
        monkeypatch.setattr(made, "_identify", lambda: None)
        held = dict(zip(("dc2", "dc1"), clusters, strict=False))
        monkeypatch.setattr(made, "cluster", lambda of: held.get(of.datacenter, Holds()))
        return made

    monkeypatch.setattr(presence, "_there", True)
    return open_step


@pytest.mark.parametrize("notebook", NEED_ONE)
def test_every_notebook_that_needs_a_federation_comes_to_its_end(step, notebook, capsys):
    """As planned: nothing was verified, and nothing says so."""
    opened = step(notebook)
    assert "federation-there" in {f.id for f in opened.preflight() if f.severity == "skipped"}
    result = opened.result()
    assert result.outcome == "planned"
    assert [row["outcome"] for row in result.changes] == ["waits"]
    assert "error" not in {check["severity"] for check in result.checks}
    assert "verified" not in repr(result)
    assert "There is no federation yet" in capsys.readouterr().out


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_says_that_nothing_is_there(step, view):
    """Whichever cell is run first."""
    assert "Nothing is there yet: apply 01-primary-setup" in repr(getattr(step(), view)())


def test_no_view_is_forgotten():
    """Every cell of 04 is one of these, or a part that all steps have."""
    notebook = json.loads((ROOT / "notebooks" / "04-verification.ipynb").read_text())
    called = re.findall(
        r"^step\.(\w+)\(\)$", "\n".join("".join(c["source"]) for c in notebook["cells"]), re.M
    )
    assert set(called) - set(VIEWS) == {"preflight", "verify", "result"}


@pytest.mark.parametrize(
    ("clusters", "given", "found"),
    [
        ([], {"dry_run": False}, MISSING),
        ([Holds(pods=[{}])], {}, MISSING),
        ([Holds(), Holds(secret={"data": {}})], {}, MISSING),
        ([Silent()], {}, MISSING),
        ([], {}, [*MISSING, Finding("permissions", "dc2", "error", "may not list pods")]),
    ],
    ids=["applied", "a server", "the primary's secret", "no answer", "something else, too"],
)
def test_whatever_is_there_or_cannot_be_told_stays_a_failure(step, clusters, given, found):
    """Only a federation of which nothing exists is one that is yet to be made."""
    with pytest.raises(PreflightError):
        step(NEED_ONE[0], *clusters, found=found, **given).preflight()


def test_where_nobody_looks_on_it_is_a_failure(step, monkeypatch):
    """A pipeline that verifies clusters without Consul has verified nothing."""
    monkeypatch.setattr(presence, "_there", False)
    with pytest.raises(PreflightError):
        step().result()


def test_what_was_applied_meanwhile_is_seen(step, monkeypatch):
    """Any cell that is run again looks again."""
    opened = step()
    opened.topology()
    monkeypatch.setattr(opened, "cluster", lambda of: Holds(pods=[{}]))
    with pytest.raises(PreflightError):
        opened.matrix()
