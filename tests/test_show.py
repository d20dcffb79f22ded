"""Text that people look at: escaped, and the same in a log as in a notebook. The pictures have tests of their own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from consulfed_lib import palette, show
from consulfed_lib.redact import register
from consulfed_lib.show import Diff, Page, Text, Yaml, as_yaml, diff, display

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
    html = parsed(block._repr_html_())
    (removed,), (added,) = html.iter("del"), html.iter("ins")
    assert (removed.text, added.text) == ("-a: 1", "+a: 2")
    assert removed.get("style") != added.get("style")


def test_yamls_keys_and_values_are_told_apart_and_its_text_stays_as_it_is():
    """Colours are marks around the text; what has none of its own is in the theme's."""
    text = "a: true\nb: {c: 3, d: '3'}\ne: x on y, no 3\nf: |\n  one: two\n"
    html = parsed(Yaml("Values", text)._repr_html_())
    keys = {(mark.text or "").strip() for mark in html.iter("b")} - {"Values"}
    assert keys == {"a", "b", "c", "d", "e", "f"}
    assert [(mark.text or "").strip() for mark in html.iter("span")] == ["true"]
    assert "".join(html.find("pre").itertext()) == text.rstrip()


@pytest.mark.parametrize("kind", [Diff, Yaml])
def test_marks_hide_no_secret_from_the_guard(kind):
    """One that goes over a line or a colon would be in pieces in the HTML, where nobody would find it."""
    register(b"+first line: of a key\n-second: line of it")
    assert "second" not in kind("T", "x\n+first line: of a key\n-second: line of it\ny: 1")._repr_html_()


def test_a_block_that_is_wider_than_the_page_can_be_reached_without_a_mouse():
    """And a screen reader says what it is."""
    (block,) = parsed(Text("A & B", "x")._repr_html_()).iter("pre")
    assert (block.get("tabindex"), block.get("role"), block.get("aria-label")) == ("0", "region", "A & B")


# Colours


def theme(name: str) -> dict[str, str]:
    """The colours of JupyterLab's own theme, variables within variables resolved."""
    folder = Path(sys.prefix) / "share/jupyter/lab/themes/@jupyterlab"
    if not folder.is_dir():
        pytest.fail("JupyterLab is not installed beside this Python")
    css = (folder / f"theme-{name}-extension/index.css").read_text()
    return dict(re.findall(r"(--jp-[\w-]+):([^;}]+)", css))


def channels(colour: str, under: tuple[float, ...] = (255, 255, 255)) -> tuple[float, ...]:
    """Red, green and blue of a CSS colour, over what is under it."""
    colour = {"green": "#008000", "white": "#ffffff", "black": "#000000"}.get(colour, colour)
    if found := re.fullmatch(r"rgba\(([\d., ]+)\)", colour):
        *rgb, alpha = (float(each) for each in found[1].split(","))
        return tuple(alpha * a + (1 - alpha) * b for a, b in zip(rgb, under, strict=True))
    digits = colour.removeprefix("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    return tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """As WCAG defines it."""

    def luminance(rgb: tuple[float, ...]) -> float:
        parts = [c / 255 for c in rgb]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def resolved(colour: str, variables: dict[str, str]) -> str:
    """What a theme makes of it: its variable, or the colour for where there is none."""
    while found := re.match(r"var\((--[\w-]+),\s*(.+)\)$", colour.strip()):
        colour = variables.get(found[1], found[2])
    return colour.strip()


@pytest.mark.parametrize("name", ["light", "dark", ""])
def test_text_can_be_read_in_every_theme(name):
    """4.5 : 1 at least, as WCAG asks for text of this size; without a theme, too: the classic export, and print."""
    variables = theme(name) if name else {}
    ground = channels(resolved("var(--jp-layout-color0,#ffffff)", variables))
    ink = channels(resolved("var(--jp-content-font-color1,#1f2328)", variables), ground)
    assert contrast(channels(resolved(palette.LITERAL, variables)), ground) >= 4.5
    for tint in (palette.ADDED, palette.REMOVED):
        assert contrast(ink, channels(tint, ground)) >= 4.5, tint


def test_a_verdict_can_be_read_on_its_own_ground():
    """Whatever the theme is; printers leave grounds out, so on white, too."""
    for style in palette.STYLES.values():
        for ground in (style.ground, palette.PAPER):
            assert contrast(channels(style.colour), channels(ground)) >= 5
    for ink in (palette.INK, palette.FAINT):
        for ground in (palette.PAPER, palette.PANEL):
            assert contrast(channels(ink), channels(ground)) >= 4.5


def test_yaml_keeps_the_order_of_keys():
    """Values are read from the top: global first, as in the documentation."""
    assert as_yaml({"global": {"name": "consul"}, "a": [1]}) == "global:\n  name: consul\na:\n- 1\n"


# The whole


def test_every_name_can_be_imported_from_the_package():
    """`consulfed_lib.show` is what notebooks and steps know; the modules in it may move."""
    assert all(hasattr(show, name) for name in show.__all__)
    assert sorted(show.__all__) == show.__all__
    assert {"Diff", "Page", "Text", "Topology", "as_yaml", "diff", "display"} <= set(show.__all__)
