"""The widgets, driven without a browser; and the page, which says the same as text."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
import yaml

from consulfed_lib import form
from consulfed_lib.form import panel as panels
from consulfed_lib.form.contexts import Context, Contexts, Installation
from consulfed_lib.form.draft import Draft
from consulfed_lib.form.page import FormPage
from consulfed_lib.form.panel import Panel
from consulfed_lib.params import load

CONTEXTS = Contexts("Contexts of a test", [
    Context("one", "https://one", "v1.34.0", "no Consul"),
    Context("two", "https://two", note="does not answer <b>"),
    Context("three", "https://3", "v1.34.0", "…", installations=(Installation("hub", "mesh", "1.4.2", "eu"),)),
])  # fmt: skip
TOKEN = "2f0c1a9e-0000-4444-8888-123456789abc"


class Form:
    """A form on somebody's screen."""

    def __init__(self, draft: Draft, given: bool = False, contexts: Contexts = CONTEXTS):
        self.draft = draft
        self.panel = Panel(draft, contexts, given)

    def widgets(self) -> Iterator[Any]:
        waiting = [self.panel.box]
        while waiting:
            widget = waiting.pop()
            yield widget
            waiting += getattr(widget, "children", ())

    def open(self) -> None:
        """Open every section, as somebody does who looks for a field."""
        for each in list(self.widgets()):
            if isinstance(each, ipywidgets.Accordion):
                for i in range(len(each.children)):
                    each.selected_index = i

    def __getitem__(self, label: str) -> Any:
        found = [each for each in self.widgets() if getattr(each, "description", "") == label]
        if not found:
            self.open()
            found = [each for each in self.widgets() if getattr(each, "description", "") == label]
        (only,) = found
        return only

    def of_class(self, name: str) -> list[Any]:
        return [each for each in self.widgets() if f"consulfed-{name}" in getattr(each, "_dom_classes", ())]

    def html(self, name: str) -> str:
        return html.unescape("".join(each.value for each in self.of_class(name)))

    def state(self) -> str:
        """All that a notebook could keep of the widgets."""
        return json.dumps([each.get_state() for each in self.widgets()], default=str)


@pytest.fixture
def fresh(no_kubeconfig: None, tmp_path: Path) -> Form:
    """A new file of which nothing is said."""
    raw = {"federation": "", "chart": {"ref": "hashicorp/consul", "version": "1.9.11"}}
    return Form(Draft(raw, tmp_path / "new.yaml"))


@pytest.fixture
def filled(fresh: Form) -> Form:
    """The same with what is needed."""
    fresh["federation"].value = "shop"
    fresh["Role of one"].value = "primary"
    fresh["Role of two"].value = "secondary"
    return fresh


def test_from_nothing_to_a_params_file(filled, tmp_path):
    """Choose, correct, save: the file is what was shown, and passes the check."""
    filled["Datacenter of two"].value = "dc2"
    filled["servers"].value = "3"
    filled["mesh_gateway.port of two"].value = "9443"
    shown = html.unescape(filled.panel._preview.children[0].value)
    filled["Save"].click()
    file = tmp_path / "shop.yaml"
    assert "Written" in filled.html("form-reason")
    assert file.read_text().splitlines()[-1].strip() in shown
    found = load(file)
    assert (found.primary.datacenter, found.secondaries[0].datacenter, found.servers) == ("one", "dc2", 3)
    assert found.gateway(found.secondaries[0]).port == 9443


def test_facts_of_a_cluster_stand_beside_its_role(fresh):
    """Also that it did not answer; and nothing of it is HTML."""
    facts = "".join(each.children[0].value for each in fresh.of_class("cluster"))
    assert "Kubernetes v1.34.0; no Consul" in facts
    assert "does not answer &lt;b&gt;" in facts


def test_save_is_off_while_something_is_wrong_and_says_why(fresh):
    """In words, beside the button; each mistake also stands at its field."""
    assert fresh["Save"].disabled
    assert "there are 3 mistakes" in fresh.html("form-reason")
    assert "federation: empty" in fresh.html("form-messages")
    assert "federation: empty" in fresh.of_class("field-federation")[0].children[1].value
    fresh["federation"].value = "shop"
    assert fresh.of_class("field-federation")[0].children[1].value == ""
    fresh["Role of one"].value = "primary"
    fresh["Role of two"].value = "secondary"
    assert not fresh["Save"].disabled
    fresh["Datacenter of two"].value = "Two"
    assert "there is a mistake" in fresh.html("form-reason")
    assert "upper-case" in fresh.of_class("field-datacenter-of-two")[0].children[1].value


def test_what_was_not_looked_at_is_told(filled):
    """That nothing is wrong is said of what was checked; a chart is not fetched while somebody types."""
    assert "skipped: the chart was not fetched here" in filled.html("form-messages")
    filled["values"].value = "global: {image: hashicorp/consul}"
    assert "warning: " in filled.html("form-messages")
    assert not filled["Save"].disabled


def test_a_second_primary_makes_the_first_a_secondary(filled):
    """Both roles are shown as they are, and names go with the clusters."""
    filled["Datacenter of two"].value = "dc2"
    filled["Role of two"].value = "primary"
    assert (filled["Role of one"].value, filled["Role of two"].value) == ("secondary", "primary")
    filled["release of one"].value = "second"
    assert filled.draft.raw["secondaries"] == [{"context": "one", "datacenter": "one", "release": "second"}]
    filled["Role of one"].value = ""
    assert not any(getattr(each, "description", "") == "Datacenter of one" for each in filled.widgets())


def test_a_consul_that_is_there_is_kept(filled):
    """As the primary its names are proposed, and that it is brought to federation."""
    assert filled["upgrade.existing"].value is False
    filled["Role of three"].value = "primary"
    primary = {"datacenter": "eu", "namespace": "mesh", "release": "hub", "context": "three"}
    assert filled.draft.raw["primary"] == primary
    assert filled.draft.raw["upgrade"] == {"existing": True}
    assert filled["upgrade.existing"].value is True


def test_the_preview_has_the_values_of_each_datacenter(filled):
    """As `consulfed params values` prints them, and none while there are mistakes."""
    tabs = filled.panel._preview
    assert tabs.titles == (
        "Params file",
        "Helm values of one (primary)",
        "Helm values of two (secondary)",
        "Parameters cell",
    )
    assert "primaryDatacenter: one" in tabs.children[2].value
    assert "consulfed run" in filled.html("form-commands")
    filled["servers"].value = "2"
    assert tabs.titles == ("Params file", "Helm values", "Parameters cell")


def test_a_secret_that_is_typed_stays_nowhere(filled):
    """Not in the draft, not in any widget, not in what is shown."""
    filled["values"].value = f"server:\n  token: {TOKEN}\n"
    assert TOKEN not in filled.state()
    assert "redacted" in filled["values"].value
    assert filled["Save"].disabled
    filled["values of two"].value = f"x: [\ntoken: {TOKEN}"
    assert TOKEN not in filled.state()
    filled["values"].value = filled["values of two"].value = ""
    assert not filled["Save"].disabled


def test_a_file_that_is_there_is_not_overwritten(filled, tmp_path):
    """It is said before Save is pressed; and what came afterwards is found then."""
    (tmp_path / "there.yaml").write_text("theirs")
    filled["File to write"].value = str(tmp_path / "there.yaml")
    assert filled["Save"].disabled
    assert "is there already" in filled.html("form-reason")
    filled["File to write"].value = str(tmp_path / "later.yaml")
    (tmp_path / "later.yaml").write_text("theirs")
    filled["Save"].click()
    assert "is there already" in filled.html("form-reason")
    assert (tmp_path / "later.yaml").read_text() == "theirs"


def test_a_file_is_called_as_its_federation_until_somebody_names_it(fresh, tmp_path):
    """What somebody chose is not changed any more."""
    fresh["federation"].value = "shop"
    assert fresh["File to write"].value == str(tmp_path / "shop.yaml")
    fresh["File to write"].value = str(tmp_path / "mine.yaml")
    fresh["federation"].value = "other"
    assert fresh.draft.file == tmp_path / "mine.yaml"


def test_an_existing_file_is_shown_as_it_is(no_kubeconfig, tmp_path):
    """Also what is wrong in it, and contexts that no kubeconfig has."""
    raw = {
        "federation": "x", "servers": "three", "mode": "loud", "acls": "yes", "chart": 3, "values_files": ["a"],
        "primary": {"context": "gone", "datacenter": "dc1"}, "secondaries": "none",
    }  # fmt: skip
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw))
    shown = Form(Draft.of(tmp_path / "x.yaml"), given=True)
    assert shown["servers"].value == "three"
    assert shown["mode"].value == "loud"
    assert shown["Role of gone"].value == "primary"
    assert "not in the kubeconfig" in "".join(each.children[0].value for each in shown.of_class("cluster"))
    assert shown["Save"].disabled
    shown["chart.version"].value = "1.9.11"
    assert shown.draft.raw["chart"] == {"version": "1.9.11"}


def test_another_kubeconfig_is_asked(fresh, monkeypatch, kubeconfig):
    """Once it is one; while its path is typed nobody is."""
    asked: list[str] = []
    monkeypatch.setattr(
        panels, "look", lambda given: asked.append(given) or Contexts("", [Context("lab", "")])
    )
    path = kubeconfig(lab="https://127.0.0.1:1")
    fresh["kubeconfig"].value = path[:-1]
    fresh["kubeconfig"].value = path
    assert asked[-1] == path
    assert fresh["Role of lab"].value == ""
    fresh["Ask the clusters again"].click()
    assert asked[-2:] == [path, path]


def test_what_is_typed_is_checked_once_it_rests(fresh, monkeypatch):
    """With a kernel's event loop, some letters are one check."""
    monkeypatch.setattr(panels, "_PAUSE", 0.01)
    checks: list[None] = []
    real = fresh.panel.refresh
    checked = asyncio.Event()
    fresh.panel.refresh = lambda: (checks.append(None), real(), checked.set())

    async def types() -> None:
        for length in range(1, 5):
            fresh["federation"].value = "shop"[:length]
        await asyncio.wait_for(checked.wait(), 10)

    asyncio.run(types())
    assert len(checks) == 1
    assert "federation" not in fresh.html("form-messages")


def test_a_section_that_is_closed_says_that_something_in_it_is_wrong(filled):
    """Fields in it are made when it is opened, with what is wrong below them."""
    sections = filled.of_class("form-options")[0]
    assert sections.children[1].children == ()
    filled.draft.say("chart.version", "1.9")
    filled.panel.refresh()
    assert sections.titles[1].endswith("✘ 1 wrong")
    sections.selected_index = 1
    assert "is no chart version" in filled.of_class("field-chart-version")[0].children[1].value


def test_every_widget_that_takes_something_has_a_name_of_its_own(filled):
    """For who does not see the form, and for tests in a browser."""
    filled.open()
    kinds = (
        ipywidgets.Text,
        ipywidgets.Textarea,
        ipywidgets.Dropdown,
        ipywidgets.Checkbox,
        ipywidgets.Combobox,
    )
    labels = [each.description for each in filled.widgets() if isinstance(each, (*kinds, ipywidgets.Button))]
    assert all(labels)
    assert len(labels) == len(set(labels))


# The page


def test_the_page_says_as_text_what_the_form_says(no_kubeconfig, tmp_path, monkeypatch):
    """Where nobody is there to use widgets, there are none."""
    monkeypatch.chdir(tmp_path)
    page = form.open()
    assert "new file" in repr(page)
    assert "federation: empty" in repr(page.form()) == repr(page.check())
    assert "none while there are mistakes" in repr(page.values())
    page.draft.raw |= {"federation": "shop", "primary": {"context": "a", "datacenter": "dc1"},
                       "secondaries": [{"context": "b", "datacenter": "dc2"}]}  # fmt: skip
    assert "Helm values of dc2" in repr(page.values())
    assert 'federation: "shop"' in repr(page.text())
    assert "papermill notebooks/00-preflight.ipynb" in repr(page.commands())
    assert "federation: str = 'shop'  #" in repr(page.commands())


def test_a_file_is_opened_or_begun_by_its_name(no_kubeconfig, tmp_path, monkeypatch):
    """In the folder params of the repository, where there is one."""
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    assert FormPage().draft.file == Path("params/new.yaml")
    begun = FormPage(str(tmp_path / "shop.yaml"))
    assert begun.draft.raw["federation"] == "shop"
    begun.draft.raw |= {
        "primary": {"context": "a", "datacenter": "dc1"},
        "secondaries": [{"context": "b", "datacenter": "b"}],
    }
    begun.draft.save()
    assert "a file that is there" in repr(FormPage(str(tmp_path / "shop.yaml")))


def test_in_jupyterlab_it_is_widgets(no_kubeconfig, tmp_path, monkeypatch):
    """Where a front end takes input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("consulfed_lib.steps.base.interactive", lambda mode: True)
    assert isinstance(FormPage().form(), ipywidgets.VBox)


def test_nothing_that_is_typed_ends_in_a_traceback(filled):
    """Half a path, half a name, a home folder of nobody, an API without TLS."""
    filled["federation"].value = "a/b"
    assert filled["File to write"].value.endswith("a-b.yaml")
    filled["values_files"].value = "~nobody-of-this-name/x"
    filled["kubeconfig"].value = "~nobody-of-this-name/x"
    filled["File to write"].value = "~nobody-of-this-name/x" + "y" * 300
    assert filled["Save"].disabled
    filled["File to write"].value = ""
    assert "values_files[0]" in filled.html("form-messages")
