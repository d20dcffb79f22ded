"""The page of a notebook loads nothing from outside, and whatever would is found."""

from __future__ import annotations

import base64
from typing import Any

import nbformat
import pytest

from consulfed_lib.record import page

from . import recorded


@pytest.fixture(scope="module")
def made() -> str:
    return page.html(recorded.executed().notebook("applied"), "01-primary-setup")


def of_output(data: dict[str, str]) -> str:
    """The page of a notebook with one output."""
    output = nbformat.v4.new_output("display_data", data)
    cell: Any = nbformat.v4.new_code_cell("x", outputs=[output], execution_count=1)
    return page.html(nbformat.v4.new_notebook(cells=[cell]), "x")


def test_a_page_holds_what_the_notebook_shows(made):
    """Text, code, tables and the result."""
    assert "<title>01-primary-setup</title>" in made
    for text in ("What it does.", "release consul", "helm uninstall consul", "applied"):
        assert text in made


def test_a_page_loads_nothing_and_runs_nothing(made):
    """Neither by its tags, nor would the browser let it."""
    assert page.outside(made) == []
    assert "<script" not in made
    assert "default-src 'none'" in made
    assert made.index("Content-Security-Policy") < made.index("<style")


def test_a_page_can_be_printed(made):
    """Long lines wrap, and nothing is cut off at the end of a scrolled box."""
    assert "@media print" in made


def test_an_image_is_in_the_page_itself():
    """As data, wherever it came from."""
    picture = base64.b64encode(b"\x89PNG").decode()
    found = of_output({"image/png": picture})
    assert f"data:image/png;base64,{picture}" in found
    assert page.outside(found) == []


def test_a_drawing_and_a_link_stay():
    """The topology is an SVG; a link loads nothing until somebody follows it."""
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg"><a href="https://example.com"><path d="M0 0"/></a></svg>'
    )
    found = of_output({"image/svg+xml": drawing, "text/html": '<a href="https://example.com/x">more</a>'})
    assert "https://example.com" in found
    assert page.outside(found) == []


def test_a_script_in_an_output_is_not_in_the_page():
    """A record is read, not run."""
    found = of_output(
        {"text/html": "<p>before</p><SCRIPT src='https://example.com/x.js'></SCRIPT ><p>after</p>"}
    )
    assert "example.com" not in found
    assert "<p>before</p><p>after</p>" in found
    assert page.outside(found) == []


def test_what_an_output_would_load_is_found_in_its_page():
    """The page is not kept silently without it: the record is refused."""
    assert page.outside(of_output({"text/html": '<img src="https://example.com/x.png">'})) == [
        "https://example.com/x.png"
    ]


URL = "https://example.com/x"
LOADS = [
    f"<script src='{URL}'></script>", "<script>fetch('x')</script>", f"<link rel=stylesheet href={URL}>",
    f"<LINK REL=icon HREF={URL}>", f"<img src={URL}>", f"<img src='\n {URL}'>", "<img src=//example.com/x>",
    "<img src=x.png>", "<img src='/x.png'>", f"<img srcset='data:image/png;base64,AA 1x, {URL} 2x'>",
    f"<source srcset='{URL}'>", f"<video poster={URL}>", f"<audio src={URL}>", f"<iframe src={URL}></iframe>",
    "<iframe srcdoc='hello'></iframe>", "<iframe src='data:text/html,x'></iframe>", f"<object data={URL}></object>",
    f"<embed src={URL}>", f"<input type=image src={URL}>", f"<body background={URL}>", f"<base href={URL}>",
    f"<meta http-equiv=refresh content='0; url={URL}'>", f"<meta http-equiv=' REFRESH ' content='0; url={URL}'>",
    f"<style>@import '{URL}';</style>", f"<style>@import url({URL});</style>",
    f"<style>a {{ background: url( '{URL}' ) }}</style>", f"<style>a {{ background: u\\72l({URL}) }}</style>",
    f"<style>a {{ background: url(/* */{URL}) }}</style>", f"<style>@font-face {{ src: url({URL}) }}</style>",
    f"<style>a {{ background: image-set('{URL}' 1x) }}</style>", f"<p style='background: url({URL})'>",
    f"<p style='background: url(&quot;{URL}&quot;)'>", f"<svg><image href='{URL}'/></svg>",
    f"<svg><image xlink:href='{URL}'/></svg>", f"<svg><use href='{URL}#a'/></svg>",
    "<img src=x onerror=alert(1)>", "<p onclick='x()'>", "<a href='javascript:x()'>x</a>",
    "<a href=' JavaScript:x()'>x</a>",
]  # fmt: skip
"""Each loads, or runs, something."""


@pytest.mark.parametrize("html", LOADS)
def test_whatever_a_page_would_load_is_found(html):
    """Tags, attributes, styles and their disguises."""
    assert page.outside(f"<html><body>{html}</body></html>")


@pytest.mark.parametrize(
    "html",
    ["<p>https://example.com</p>", f"<a href='{URL}'>x</a>", f"<map><area href='{URL}'></map>", "<img src=''>",
     "<img src='data:image/png;base64,AAAA'>", "<img srcset='data:image/png;base64,AAAA 1x'>",
     "<style>a { background: url(data:image/png;base64,AA) }</style>", f"<style>/* {URL} url({URL}) */</style>",
     "<svg xmlns='http://www.w3.org/2000/svg'><use href='#a'/></svg>", "<p style='color: red'>url(x)</p>",
     f"<pre>&lt;script src={URL}&gt;</pre>", f"<!-- <img src={URL}> -->", "<meta charset=utf-8>",
     "<style>a { fill: url(#shadow) }</style>", "", "<", "<a", "\x00"],
)  # fmt: skip
def test_what_loads_nothing_is_no_alarm(html):
    """Text, links, comments, data, and places in the page itself."""
    assert page.outside(html) == []


def test_the_exporter_is_kept():
    """Its templates are compiled once: the second page takes a tenth of the first one's time."""
    assert page._exporter() is page._exporter()
