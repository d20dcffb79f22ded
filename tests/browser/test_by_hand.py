"""The notebooks in JupyterLab, by hand, from an empty sandbox to a verified federation; in a person's order.

Each test goes on where the one before stopped: one server, one browser, one sandbox.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Sandbox, leaks

from .lab import LONG, Lab, Notebook, Outside
from .pictures import WRITE, Pictures
from .readable import unreadable

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PARAMETERS = "federation: str"
PREFLIGHT, PLAN, APPLY, VERIFY = "step.preflight()", "step.plan()", "step.apply()", "step.verify()"
RESULT, TOPOLOGY, MATRIX, DIAGNOSIS = "step.result()", "step.topology()", "step.matrix()", "step.diagnosis()"
FORM, COMMANDS = "page.form()", "page.commands()"
OPENED = ("params-file.ipynb", "01-primary-setup.ipynb", "03-secondary-setup.ipynb", "04-verification.ipynb")


@pytest.fixture(scope="module")
def book(lab: Lab, page: Page) -> Notebook:
    """The notebook that is in front: JupyterLab as a bookmark opens it, and then whatever is clicked."""
    return lab.open(page, "notebooks/params-file.ipynb")


def test_the_form_makes_a_params_file(book: Notebook, lab: Lab, sandbox: Sandbox, pictures: Pictures) -> None:
    """Each context gets its role; what is wrong is said at once; Save writes what `consulfed params check` likes."""
    book.run_all()
    form = book.panel.locator(".consulfed-form")
    expect(form).to_be_visible()
    pictures.stage("form")
    pictures.take("form", form)
    datacenter = form.locator(".consulfed-field-datacenter-of-sandbox-dc2 input")
    datacenter.fill("dc1")
    expect(form.locator(".consulfed-form-messages")).to_contain_text("✘")
    expect(form.locator("button.consulfed-form-save")).to_be_disabled()
    pictures.stage("form-mistake")
    datacenter.fill("dc2")
    form.locator("button.consulfed-form-save").click()
    expect(form.locator(".consulfed-form-reason")).to_contain_text("✔ Written")
    done = sandbox.consulfed("params", "check", str(lab.folder / "params" / "practice.yaml"))
    assert done.returncode == 0, done.stderr


def test_run_all_with_the_defaults_finds_the_clusters_ready(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """00, as it comes, on clusters that are empty."""
    book.follow("00-preflight.ipynb")
    book.run_all()
    assert "outcome" in book.output(RESULT)
    assert sandbox.writes() == []
    pictures.stage("00-preflight")


def test_a_dry_run_shows_what_would_change_and_writes_nothing(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """01 with its defaults, Run All."""
    book.follow("01-primary-setup.ipynb")
    book.run_all()
    assert "Dry run: nothing was written" in book.output(APPLY)
    assert "planned" in book.output(RESULT)
    assert sandbox.writes() == []
    pictures.stage("01-plan")
    pictures.take("plan", book.cell(PLAN))


def test_run_all_in_order_comes_to_its_end_everywhere(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """Every other notebook with its defaults, while nothing is applied: each plans, or says that nothing is there."""
    for name in sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb"))[2:]:
        book.follow(name)
        book.run_all()
        assert re.search(r"outcome\s+planned", book.output(RESULT)), name
        pictures.stage(f"{name[:2]}-defaults")
    assert sandbox.writes() == []
    book.open("01-primary-setup.ipynb")


def test_another_name_than_the_datacenters_applies_nothing(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """Who types dc2 where dc1 would be installed is told so, and may try again."""
    book.replace(PARAMETERS, "dry_run: bool", "True", "False")
    for source in (PARAMETERS, "steps.open", PREFLIGHT, PLAN):
        book.run(source)
    cell = book.start(APPLY)
    book.confirm("dc2")
    expect(cell.get_by_role("alert")).to_contain_text("What was typed is not dc1: nothing was written.")
    pictures.stage("01-wrong-name")
    pictures.take("confirm", cell.locator(".jp-Cell-outputWrapper"), end=True)
    for theme in ("dark", "light"):
        pictures.theme(theme)
        expect(cell.locator(".consulfed-confirm button").first).to_be_visible()
        assert not unreadable(cell.locator(".consulfed-confirm")), theme
    cell.locator(".consulfed-cancel").click()
    assert "not confirmed for dc1; nothing was written" in book.ended(cell)
    assert sandbox.writes() == []


def test_an_interrupt_while_the_gateway_is_waited_for(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """The load balancer gives no address; the square in the toolbar ends the wait, in three lines."""
    done = sandbox.consulfed("sandbox", "fault", "load-balancer-pending")
    assert done.returncode == 0, done.stderr
    cell = book.start(APPLY)
    book.confirm("dc1")
    progress = cell.locator(".consulfed-progress")
    gateway = progress.locator("tbody tr", has_text="gateway address none yet")
    expect(gateway).to_be_visible(timeout=LONG)
    pictures.stage("01-waiting")
    book.interrupt()
    shown = book.ended(cell)
    assert "was interrupted" in shown
    assert "What to do: run the same again" in shown
    assert "Traceback" not in shown
    pictures.stage("01-interrupted")
    pictures.take("progress", progress, of=progress.locator("thead"))  # how far it came differs


def test_the_same_cell_goes_on(book: Notebook, sandbox: Sandbox, pictures: Pictures) -> None:
    """Once the load balancer gives addresses, the cell is run again, and the notebook comes to its end."""
    done = sandbox.consulfed("sandbox", "fault", "--clear", "load-balancer-pending")
    assert done.returncode == 0, done.stderr
    cell = book.start(APPLY)
    book.confirm("dc1")
    assert "dc1" in book.ended(cell)
    pictures.stage("01-applied")
    assert "error" not in book.run(VERIFY)
    assert re.search(r"outcome\s+applied", book.run(RESULT))
    # Going on was a helm upgrade, which renews the servers' certificate: one that ran by then shows the old one.
    servers = ("-n", "consul", "rollout")
    sandbox.kubectl("sandbox-dc1", *servers, "restart", "statefulset/consul-server")
    sandbox.kubectl("sandbox-dc1", *servers, "status", "statefulset/consul-server", "--timeout=50s")


@pytest.mark.parametrize("name", ["02-secret-transfer", "03-secondary-setup"])
def test_the_secondary_joins(book: Notebook, pictures: Pictures, name: str) -> None:
    """Each notebook by the link at the end of the one before; Run All asks once, for the secondary's name."""
    book.follow(f"{name}.ipynb")
    book.replace(PARAMETERS, "dry_run: bool", "True", "False")
    book.run_all_starts()
    book.confirm("dc2")
    book.run_all_ends()
    assert re.search(r"outcome\s+applied", book.output(RESULT))
    pictures.stage(name)


def test_the_federation_is_verified(book: Notebook, pictures: Pictures) -> None:
    """04, Run All: every datacenter reads every other one."""
    book.follow("04-verification.ipynb")
    book.run_all()
    assert re.search(r"outcome\s+verified", book.output(RESULT))
    pictures.stage("04-verification")
    pictures.take("topology", book.cell(TOPOLOGY))
    matrix = book.cell(MATRIX)
    pictures.take(
        "matrix", matrix, of=matrix.locator("table").first
    )  # what gossip has measured by now differs


def test_a_page_that_is_loaded_again_shows_what_it_showed(book: Notebook, page: Page) -> None:
    """Saved, loaded again: the same outputs, and the kernel still knows the step."""
    sources = (VERIFY, TOPOLOGY, MATRIX, RESULT)
    before = {source: book.output(source) for source in sources}
    book.save()
    page.reload()
    book.ready()
    for source, words in before.items():
        book.shows(source, words)
    assert "dc1" in book.run(MATRIX)


def test_a_failed_check_says_what_to_do_and_its_link_works(
    book: Notebook, sandbox: Sandbox, pictures: Pictures
) -> None:
    """ProxyDefaults is gone: verify names it, why it matters and what mends it, and a click opens that notebook."""
    sandbox.kubectl("sandbox-dc1", "-n", "consul", "delete", "proxydefaults", "global")
    book.replace(PARAMETERS, "timeouts: dict", "180", "5")
    for source in (PARAMETERS, "steps.open", PREFLIGHT):
        book.run(source)
    cell = book.start(VERIFY)
    shown = book.ended(cell)
    assert "proxy-defaults" in shown
    assert "Do next" in shown
    expect(cell.locator("img")).to_have_count(1)  # the topology as it is now, and none of while it waited
    pictures.stage("04-failed")
    pictures.take("diagnosis", cell.locator("section").first)
    book.follow("01-primary-setup.ipynb", within=cell)


def test_both_themes_can_be_read(book: Notebook, pictures: Pictures) -> None:
    """Every text of every output has enough contrast with what is behind it."""
    found = []
    for name in OPENED:
        book.open(name)
        for theme in ("light", "dark"):
            pictures.theme(theme)
            found += [f"{name}, {theme}: {each}" for each in unreadable(book.outputs)]
            pictures.stage(f"{name.removesuffix('.ipynb')}-{theme}")
    pictures.theme("light")
    assert not found


def test_text_that_cannot_be_read_is_noticed(book: Notebook) -> None:
    """Grey on grey, put into an output on purpose."""
    book.outputs.first.evaluate("e => e.innerHTML = '<p style=\"color:#777;background-color:#888\">grey</p>'")
    assert "grey" in "".join(unreadable(book.outputs))


def test_no_page_asks_anything_outside(outside: Outside, page: Page) -> None:
    """All that was loaded came from this machine; an image from elsewhere is noticed, and does not come."""
    assert outside.asked == []
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://outside.example/x.png'}))")
    page.wait_for_function("document.body.lastChild.complete")
    assert outside.asked == ["http://outside.example/x.png"]
    assert page.evaluate("document.body.lastChild.naturalWidth") == 0


def test_no_secret_is_in_what_was_saved(lab: Lab, sandbox: Sandbox) -> None:
    """Notebooks, checkpoints, settings, workspaces, the server's own log."""
    values = sandbox.secret_values()
    assert values
    assert leaks(lab.folder, values) == leaks(lab.home, values) == []


def test_the_readmes_pictures_show_what_is_so(pictures: Pictures) -> None:
    """What each of them says was seen in this run, too; `make screenshots` takes them anew."""
    assert not pictures.stale, f"make screenshots ({WRITE})"
