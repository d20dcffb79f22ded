"""The five notebooks in JupyterLab, by hand, from an empty sandbox to a verified federation; in a person's order.

Each test goes on where the one before stopped: one server, one browser, one sandbox.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Sandbox, leaks

from .lab import LONG, Lab, Notebook, Outside
from .pictures import Pictures
from .readable import unreadable

PARAMETERS, SETUP = "federation: str", "from consulfed_lib import steps"
PREFLIGHT, PLAN, APPLY, VERIFY = "step.preflight()", "step.plan()", "step.apply()", "step.verify()"
RESULT, TOPOLOGY, MATRIX, DIAGNOSIS = "step.result()", "step.topology()", "step.matrix()", "step.diagnosis()"


@pytest.fixture(scope="module")
def first(lab: Lab, page: Page) -> Notebook:
    """JupyterLab as it opens, with the first notebook."""
    return lab.open(page, "notebooks/00-preflight.ipynb")


def test_run_all_with_the_defaults_finds_the_clusters_ready(first: Notebook, pictures: Pictures) -> None:
    """00, as it comes, on clusters that are empty."""
    first.run_all()
    assert "error" not in first.output(PREFLIGHT)
    assert "outcome" in first.output(RESULT)
    pictures.stage("00-preflight")
