"""What people look at: static, escaped, and readable without colour."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from consulfed_lib.show import Diff, Page, Text, Topology, as_yaml, diff, display

NASTY = "<script>alert(1)</script> & \"quoted\" 'twice'"
SVG = "{http://www.w3.org/2000/svg}"


def parsed(html: str) -> ElementTree.Element:
    """The fragment as XML; fails where it is not well-formed."""
    return ElementTree.fromstring(f"<div>{html}</div>")


# Text


def test_text_is_shown_as_it_is_under_its_title():
    """For the log and for the notebook alike."""
    shown = Text("Values", "a: 1\nb: 2\n")
    assert repr(shown) == "Values\na: 1\nb: 2"
    assert "".join(parsed(shown._repr_html_()).itertext()) == "Valuesa: 1\nb: 2"


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
    shown = Diff("x", diff("x", {"a": 1}, {"a": 2}))
    spans = parsed(shown._repr_html_()).iter("span")
    styles = {(span.text or "")[:2]: span.get("style") for span in spans}
    assert styles["-a"] != styles["+a"]


def test_yaml_keeps_the_order_of_keys():
    """Values are read from the top: global first, as in the documentation."""
    assert as_yaml({"global": {"name": "consul"}, "a": [1]}) == "global:\n  name: consul\na:\n- 1\n"


# The topology


def topology(
    n: int, verdicts: tuple[str, ...] = ("ok",), facts: tuple[str, ...] = ("10.0.0.1:443",)
) -> Topology:
    names = [f"dc{i + 1}" for i in range(n)]
    pairs = list(itertools.permutations(names, 2))
    links = dict(zip(pairs, itertools.cycle(verdicts)))
    return Topology({name: facts for name in names}, links)


def svg(picture: Topology) -> ElementTree.Element:
    return ElementTree.fromstring(picture._repr_html_())


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_every_datacenter_and_every_direction_is_drawn(n):
    """A box for each datacenter; a line, a head and a word for each ordered pair: none may be hidden."""
    picture = svg(topology(n, ("ok", "error", "skipped")))
    assert len(picture.findall(f"{SVG}rect")) == n
    assert len(picture.findall(f"{SVG}line")) == len(picture.findall(f"{SVG}polygon")) == n * (n - 1)
    titles = [text.text for text in picture.findall(f"{SVG}text")]
    assert {f"dc{i + 1} ({'secondary' if i else 'primary'})" for i in range(n)} <= set(titles)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_everything_is_inside_the_picture(n):
    """What is drawn outside of the view box is not seen."""
    picture = svg(topology(n))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for line in picture.iter(f"{SVG}line"):
        assert all(0 <= float(line.attrib[x]) <= width for x in ("x1", "x2"))
        assert all(0 <= float(line.attrib[y]) <= height for y in ("y1", "y2"))
    for box in picture.iter(f"{SVG}rect"):
        assert 0 <= float(box.attrib["x"]) <= width - float(box.attrib["width"])
        assert 0 <= float(box.attrib["y"]) <= height - float(box.attrib["height"])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_boxes_and_arrows_do_not_lie_on_each_other(n):
    """Both directions of a pair are two lines, and no box covers another."""
    picture = svg(topology(n))
    lines = [tuple(line.attrib[k] for k in ("x1", "y1", "x2", "y2")) for line in picture.iter(f"{SVG}line")]
    assert len(set(lines)) == n * (n - 1)
    assert all((x2, y2, x1, y1) not in lines for x1, y1, x2, y2 in lines)
    boxes = [
        tuple(float(box.attrib[k]) for k in ("x", "y", "width", "height"))
        for box in picture.iter(f"{SVG}rect")
    ]
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(boxes, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@pytest.mark.parametrize("verdict", ["ok", "error", "skipped"])
def test_a_verdict_is_a_word_a_pattern_and_a_colour(verdict):
    """Red and green are the same to many readers, and to a printer."""
    words = {v: word for v, (_, _, word) in Topology.WORDS.items()}
    dashes = {v: dashes for v, (_, dashes, _) in Topology.WORDS.items()}
    assert len(set(words.values())) == len(set(dashes.values())) == 3
    picture = svg(topology(2, (verdict,)))
    assert [t.text for t in picture.iter(f"{SVG}text")].count(words[verdict]) == 2
    assert {line.attrib["stroke-dasharray"] for line in picture.iter(f"{SVG}line")} == {dashes[verdict]}


def test_each_direction_has_its_own_verdict():
    """A gateway that can be reached one way only is a broken link, and one only."""
    picture = topology(2, ("ok", "error"))
    assert "dc1 → dc2: ok" in repr(picture)
    assert "dc2 → dc1: BROKEN" in repr(picture)
    colours = [line.attrib["stroke"] for line in svg(picture).iter(f"{SVG}line")]
    assert len(set(colours)) == 2


def test_the_picture_says_itself_in_words():
    """For a log, for a screen reader, and where pictures are off."""
    picture = topology(3, ("ok", "skipped"))
    title = svg(picture).findtext(f"{SVG}title") or ""
    for a, b in itertools.permutations(("dc1", "dc2", "dc3"), 2):
        assert re.search(f"{a} → {b}: (ok|not proven)", title)
    assert svg(picture).attrib["aria-label"] == title


def test_what_a_cluster_is_called_is_escaped_in_the_picture():
    """An SVG in a notebook is markup like any other."""
    picture = Topology({NASTY: [NASTY], "dc2": []}, {(NASTY, "dc2"): "ok"})
    root = svg(picture)
    assert root.find(f".//{SVG}script") is None
    assert any(text.text == NASTY for text in root.iter(f"{SVG}text"))
