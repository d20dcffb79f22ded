"""One JupyterLab, one browser and one sandbox, shared by the tests of a file, which stand in a person's order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.e2e.conftest import Sandbox

from . import chromium
from .lab import Lab, Outside
from .pictures import Pictures

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two clusters with one node each."""
    sandbox = Sandbox(tmp_path_factory.mktemp("browser"))
    try:
        sandbox.up()
        yield sandbox
    finally:
        sandbox.down()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Lab]:
    """JupyterLab at a copy of what people open, so that the committed notebooks stay stripped."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "README.md", folder)
    lab = Lab(folder, sandbox.folder / "sandbox", tmp_path_factory.mktemp("home"))
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """Chromium with a profile of its own that is empty."""
    program = chromium.ensure()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program.path, args=list(chromium.FLAGS), env={**os.environ, **program.environment}
        )
        yield started.new_context(viewport={"width": 1100, "height": 900}, color_scheme="light")
        started.close()


@pytest.fixture(scope="module")
def outside(browser: BrowserContext) -> Outside:
    return Outside(browser)


@pytest.fixture(scope="module")
def page(browser: BrowserContext, outside: Outside) -> Page:
    return browser.new_page()


@pytest.fixture(scope="module")
def pictures(page: Page) -> Pictures:
    return Pictures(page)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """What the page showed when a test failed is among what the run took."""
    report = yield
    pictures = getattr(item, "funcargs", {}).get("pictures")
    if report.failed and call.when == "call" and isinstance(pictures, Pictures):
        pictures.stage(f"failed-{item.name}")
    return report
