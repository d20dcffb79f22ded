"""Text that people look at: escaped, and the same in a log as in a notebook. The pictures have tests of their own."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from consulfed_lib import show
from consulfed_lib.show import Diff, Page, Text, as_yaml, diff, display

NASTY = "<script>alert(1)</script> & \"quoted\" 'twice'"


def parsed(html: str) -> ElementTree.Element:
    """The fragment as XML; fails where it is not well-formed."""
    return ElementTree.fromstring(f"<div>{html}</div>")


# Text


def test_text_is_shown_as_it_is_under_its_title():
    """For the log and for the notebook alike."""
    block = Text("Values", "a: 1\nb: 2\n")
    assert repr(block) == "Values\na: 1\nb: 2"
    assert "".join(parsed(block._repr_html_()).itertext()) == "Valuesa: 1\nb: 2"


@pytest.mark.parametrize("kind", [Text, Diff])
def test_text_from_a_cluster_is_escaped(kind):
    """Helm values, transcripts and diffs hold what others wrote."""
    html = kind(NASTY, NASTY)._repr_html_()
    assert "<script" not in html
    assert "".join(parsed(html).itertext()).count(NASTY) == 2


def test_a_page_is_its_parts_and_leaves_none_out():
    """Except those that are not there."""
    page = Page(Text("A", "1"), None, Text("B", "2"))
    assert repr(page) == "A\n1\n\nB\n2"
    assert parsed(page._repr_html_()).findall("pre") != []


def test_outside_a_notebook_an_object_is_printed(capsys):
    """`display` works in a script and in a test, too."""
    display(Text("A", "1"))
    assert capsys.readouterr().out == "A\n1\n"


# Differences


def test_equal_values_make_no_difference():
    """An empty diff is what `unchanged` stands on."""
    assert diff("x", {"a": [1, 2]}, {"a": [1, 2]}) == ""


def test_a_difference_shows_the_lines_that_change_with_their_surroundings():
    """As YAML, because that is what people know of these objects."""
    lines = diff("Service gateway", {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "c": 3}).splitlines()
    assert lines[0] == "--- Service gateway (now)"
    assert lines[1] == "+++ Service gateway (planned)"
    assert lines[3:] == [" a: 1", "-b: 2", "+b: 5", " c: 3"]


def test_what_is_new_or_gone_has_only_lines_of_one_sign():
    """Nothing of an object that is not there."""
    new = diff("x", None, {"a": 1}).splitlines()
    assert [line[0] for line in new[3:]] == ["+"]
    gone = diff("x", {"a": 1}, None).splitlines()
    assert [line[0] for line in gone[3:]] == ["-"]


def test_a_diffs_lines_are_coloured_by_their_sign_and_keep_it():
    """The sign tells as much as the colour."""
    block = Diff("x", diff("x", {"a": 1}, {"a": 2}))
    spans = parsed(block._repr_html_()).iter("span")
    styles = {(span.text or "")[:2]: span.get("style") for span in spans}
    assert styles["-a"] != styles["+a"]


def test_yaml_keeps_the_order_of_keys():
    """Values are read from the top: global first, as in the documentation."""
    assert as_yaml({"global": {"name": "consul"}, "a": [1]}) == "global:\n  name: consul\na:\n- 1\n"


# The whole


def test_every_name_can_be_imported_from_the_package():
    """`consulfed_lib.show` is what notebooks and steps know; the modules in it may move."""
    assert all(hasattr(show, name) for name in show.__all__)
    assert sorted(show.__all__) == show.__all__
    assert {"Diff", "Page", "Text", "Topology", "as_yaml", "diff", "display"} <= set(show.__all__)
