"""A params file in the making: fields from the models, what is said, mistakes with their places, secrets taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from consulfed_lib import redact
from consulfed_lib.errors import ParamsError
from consulfed_lib.form import fields
from consulfed_lib.form.draft import Draft
from consulfed_lib.form.shield import hidden, shielded
from consulfed_lib.offline import checked
from consulfed_lib.params import Federation
from consulfed_lib.params.secrets import HIDDEN, secrets_in

TOKEN = "2f0c1a9e-0000-4444-8888-123456789abc"


@pytest.fixture
def draft(raw: dict[str, Any], tmp_path: Path) -> Draft:
    """The shortest parameters that are well, as a new file."""
    return Draft(raw, tmp_path / "test.yaml")


def sentences(draft: Draft) -> list[str]:
    return [each.sentence for each in draft.mistakes()]


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every parameter of a model that is not a mapping of its own."""
    found = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


# Fields


def test_every_parameter_is_asked_for_with_its_meaning():
    """No parameter is reachable only by an editor."""
    asked = [field for group in fields.federation_groups() for field in group.fields]
    expected = [each for each in leaves(Federation) if not each.startswith(("primary", "secondaries"))]
    assert [each.place for each in asked] == [e for e in expected if "." not in e] + [
        e for e in expected if "." in e
    ]
    of_clusters = [field for group in fields.cluster_groups() for field in group.fields]
    assert {f"primary.{each.place}" for each in of_clusters} == {
        e for e in leaves(Federation) if "primary." in e
    }
    assert all(each.help for each in asked + of_clusters)


def test_a_type_that_the_form_cannot_ask_for_is_noticed():
    """A new kind of parameter is no field that is silently missing."""

    class Strange(BaseModel):
        numbers: list[int] = Field([], description="some")

    class Stranger(BaseModel):
        share: float = 0.5

    for model in (Strange, Stranger):
        with pytest.raises(TypeError, match="no way to ask"):
            list(fields._groups(model, "", "", ()))


# What is said


def test_a_default_is_left_out_and_what_differs_is_said(draft):
    """The file holds what somebody decided, and nothing else."""
    draft.say("servers", "3")
    draft.say("mesh_gateway.port", "8443")
    draft.say("acls", False)
    draft.say("values_files", [])
    assert (draft.raw["servers"], draft.raw["mesh_gateway"], draft.raw["acls"]) == (3, {"port": 8443}, False)
    assert "values_files" not in draft.raw
    draft.say("servers", "1")
    draft.say("mesh_gateway.port", "443")
    draft.say("acls", True)
    assert not {"servers", "mesh_gateway", "acls"} & set(draft.raw)
    assert (draft.value("servers"), draft.value("acls")) == (1, True)


def test_a_default_that_the_file_says_stays_said(raw, tmp_path):
    """Who wrote it down meant it."""
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(raw | {"servers": 3, "acls": True}))
    draft = Draft.of(tmp_path / "test.yaml")
    draft.say("servers", "1")
    draft.say("acls", False)
    draft.say("acls", True)
    assert (draft.raw["servers"], draft.raw["acls"]) == (1, True)


def test_what_is_said_of_a_cluster_is_said_of_that_one(draft):
    """An option that is left empty again means the federation's."""
    draft.say("secondaries[0].mesh_gateway.port", "9443")
    draft.say("primary.release", "hub")
    assert draft.raw["secondaries"][0]["mesh_gateway"] == {"port": 9443}
    assert draft.raw["primary"]["release"] == "hub"
    draft.say("secondaries[0].mesh_gateway.port", "")
    assert "mesh_gateway" not in draft.raw["secondaries"][0]
    assert draft.mistakes() == []


def test_roles_go_from_context_to_context_and_names_with_them(draft):
    """A primary that another one replaces becomes a secondary; who is left out is gone."""
    draft.say("secondaries[0].release", "second")
    draft.give_role("two", "primary")
    assert draft.clusters() == {"two": "primary", "one": "secondaries[0]"}
    assert draft.raw["primary"]["release"] == "second"
    draft.give_role("three", "secondary", datacenter="dc3")
    draft.give_role("one", "")
    assert draft.clusters() == {"two": "primary", "three": "secondaries[0]"}
    assert draft.mistakes() == []
    draft.give_role("two", "")
    assert sentences(draft) == ["primary: missing"]
    draft.give_role("three", "")
    assert sentences(draft) == ["primary: missing", "secondaries: empty; expected at least one cluster"]


def test_of_several_secondaries_one_keeps_its_place(draft):
    """Records and pictures list them in that order."""
    draft.give_role("three", "secondary", datacenter="dc3")
    draft.give_role("two", "secondary")
    assert list(draft.clusters()) == ["one", "two", "three"]


# Mistakes


def test_mistakes_are_those_of_params_check_word_for_word(draft, tmp_path):
    """Who corrects them in the form need not correct them again in a pipeline."""
    draft.say("servers", "2")
    draft.say("secondaries[0].datacenter", "dc1")
    draft.say("values", "global: {tls: {enabled: false}}")
    draft.raw["colour"] = "green"
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(draft.raw))
    with pytest.raises(ParamsError) as error:
        checked(tmp_path / "bad.yaml", tell=print)
    assert sentences(draft) == list(error.value.details)
    assert len(sentences(draft)) == 4


def test_helm_values_that_cannot_be_are_mistakes_too(draft, tmp_path):
    """Also where every parameter is well."""
    draft.say("primary.values", "global: {federation: {enabled: false}}")
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(draft.raw))
    with pytest.raises(ParamsError) as error:
        checked(tmp_path / "bad.yaml", tell=print)
    assert sentences(draft) == list(error.value.details) != []
    assert {each.place for each in draft.mistakes()} == {"primary"}


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        ("servers", "many", "servers"),
        ("mesh_gateway.port", "0", "mesh_gateway.port"),
        ("values_files", ["nowhere.yaml"], "values_files"),
        ("primary.datacenter", "DC1", "primary.datacenter"),
        ("secondaries[0].mesh_gateway.port", "x", "secondaries[0].mesh_gateway.port"),
        ("secondaries[0].mesh_gateway.wan_address", "Static", "secondaries[0]"),
        ("values", "a: [", "values"),
        ("values", "- a", "values"),
        ("fullname_override", "A", "fullname_override"),
    ],
)  # fmt: skip
def test_each_mistake_has_the_field_that_it_is_about(draft, place, value, found):
    """It is shown beside what has to be changed."""
    draft.say(place, value)
    assert {each.place for each in draft.mistakes()} == {found}
    assert draft.federation is None


def test_a_mistake_about_no_field_has_no_place(draft):
    """A key that does not exist is in no field."""
    draft.raw["colour"] = "green"
    assert [each.place for each in draft.mistakes()] == [""]


def test_yaml_that_cannot_be_read_leaves_what_was_there(draft):
    """While somebody types, most of it is no YAML."""
    draft.say("values", "server: {extraLabels: {a: b}}")
    draft.say("values", "server: {extraLabels: {a: b}")
    assert draft.raw["values"] == {"server": {"extraLabels": {"a": "b"}}}
    assert "is not YAML" in sentences(draft)[0]
    draft.say("values", "")
    assert draft.mistakes() == []
    assert "values" not in draft.raw


# Secrets


@pytest.mark.parametrize(
    "values",
    [
        f"server:\n  token: {TOKEN}\n",
        f"server:\n  annotations:\n    a.b/token: {TOKEN}\n",
        f'server: {{extraConfig: \'{{"acl": {{"tokens": {{"default": "{TOKEN}"}}}}}}\'}}',
        f"server:\n  token: {TOKEN}\n  x: [",
    ],
)
def test_a_secret_that_is_typed_is_taken_out_and_a_mistake_until_it_is_replaced(draft, values):
    """Nothing that shows or keeps the form has it; and no file is written with a gap where it stood."""
    draft.say("values", values)
    assert any("Secret" in each for each in sentences(draft))
    assert TOKEN not in repr(draft.raw) + draft.text() + repr(draft.mistakes())
    assert TOKEN not in draft.clean("values", values)
    assert redact.leaks(TOKEN)
    with pytest.raises(ParamsError):
        draft.save()
    assert not draft.file.exists()


def test_a_secret_of_a_few_letters_is_hidden_and_nothing_else(draft):
    """It stands in words that are none; what somebody types is left to them."""
    draft.say("reason", "a change of apples")
    draft.say("values", "server:\n  password: a")
    assert "looks like a password" in sentences(draft)[0]
    assert HIDDEN in draft.text()
    assert "apples" in draft.text()
    assert draft.clean("values", "server:\n  password: a") == "server:\n  password: a"


@pytest.mark.parametrize("raw", [
    {"values": {"a.b": {"token": TOKEN}, "c": 1}},
    {"values": {"x": [{"name": "CONSUL_HTTP_TOKEN", "value": TOKEN}]}},
    {f"https://user:{TOKEN}@host/": 1},
    {"values": {f"https://user:{TOKEN}@host/": 1}},
    {"values": {"server": {"extraConfig": f"token = '{TOKEN}'"}}},
])  # fmt: skip
def test_whatever_holds_a_secret_is_hidden_as_a_whole(raw):
    """Also where a key has dots in it, or is the secret itself."""
    found = secrets_in(raw)
    assert found
    assert TOKEN not in repr(shielded(raw, found))
    assert TOKEN in repr(raw)


def test_what_was_taken_out_is_found_again():
    """By the places that messages use."""
    assert list(hidden({"a": {"b": [1, HIDDEN]}, "c": "x"})) == ["a.b[1]"]
