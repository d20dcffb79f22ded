"""The topology picture: nothing hidden, nothing on top of another, and every verdict readable without colour."""

from __future__ import annotations

import doctest
import itertools
import math
import re
from collections import Counter
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from consulfed_lib.palette import STYLES
from consulfed_lib.record import page
from consulfed_lib.show import Topology, Verdict, svg, verdict
from consulfed_lib.show.svg import Rect, shortened, text_width

NASTY = "<script>alert(1)</script> & \"quoted\" 'twice' %22 #1"
SVG = "{http://www.w3.org/2000/svg}"
MANY = [1, 2, 3, 4, 5, 6, 7, 8]
OK, WARNING, SKIPPED = Verdict("ok", p50=3, p99=12), Verdict("warning", "clock"), Verdict("skipped")
BROKEN = Verdict("error", "RPC through the gateway", 20, 3000)
MIXES = {"ok": [OK], "broken": [BROKEN], "mixed": [OK, BROKEN, OK, WARNING, SKIPPED]}


def topology(
    n: int, verdicts=(OK,), gateways: int = 1, name: str = "dc", own: Verdict | None = OK
) -> Topology:
    names = [f"{name}{i + 1}" for i in range(n)]
    links = dict(zip(itertools.permutations(names, 2), itertools.cycle(verdicts)))
    return Topology(
        {each: [f"context prod-{each}", "3 servers"] for each in names},
        links,
        gateways={
            each: [f"203.0.113.{10 * i + k}:8443" for k in range(gateways)] for i, each in enumerate(names)
        },
        verdicts={each: own for each in names} if own else None,
    )


def drawn(picture: Topology) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg())


def rects(root: ElementTree.Element, kind: str) -> list[Rect]:
    return [
        Rect(*(float(each.attrib[k]) for k in ("x", "y", "width", "height")))
        for each in root.iter(f"{SVG}rect")
        if each.get("class") == kind
    ]


def links(root: ElementTree.Element) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Each link as (begin, end)."""
    ends = [
        [float(each.attrib[k]) for k in ("x1", "y1", "x2", "y2")]
        for each in root.iter(f"{SVG}line")
        if each.get("class") == "link"
    ]
    return [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in ends]


def texts(root: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


every_picture = pytest.mark.parametrize(
    ("n", "mix", "gateways", "name"),
    [
        (n, mix, gateways, name)
        for n in MANY
        for mix, gateways, name in (
            ("ok", 1, "dc"), ("broken", 1, "dc"), ("mixed", 2, "dc"), ("mixed", 0, "dc"),
            ("broken", 6, "eu-central-production-"), ("mixed", 4, "eu-central-production-"),
        )
    ],
)  # fmt: skip


# Geometry


@every_picture
def test_every_datacenter_and_every_direction_is_drawn(n, mix, gateways, name):
    """A box for each datacenter; a line and a head for each ordered pair: none may be hidden."""
    root = drawn(topology(n, MIXES[mix], gateways, name))
    assert len(rects(root, "datacenter")) == n
    assert len(links(root)) == len(root.findall(f"{SVG}polygon")) == n * (n - 1)
    assert {f"{name}{i + 1}" for i in range(n)} <= set(texts(root))
    assert len(rects(root, "gateway")) == n * (min(gateways, 4) or 1)


@every_picture
def test_nothing_lies_on_another(n, mix, gateways, name):
    """Boxes of datacenters, those of other datacenters' gateways, and the labels of links keep apart."""
    root = drawn(topology(n, MIXES[mix], gateways, name))
    cards, gates, labels = (rects(root, kind) for kind in ("datacenter", "gateway", "label"))
    for kind in (cards, gates, labels):
        assert not any(a.overlaps(b) for a, b in itertools.combinations(kind, 2))
    assert not any(label.overlaps(other) for label in labels for other in (*cards, *gates))
    # At its own datacenter, and at no other, a gateway's box touches the edge.
    touched = Counter(sum(gate.overlaps(card) for card in cards) for gate in gates)
    assert set(touched) <= {0, 1}
    assert touched[1] >= n


@every_picture
def test_links_run_from_gateway_to_gateway_and_through_no_box(n, mix, gateways, name):
    """Both directions of a pair are two lines, and what a line runs through would look like its end."""
    root = drawn(topology(n, MIXES[mix], gateways, name))
    cards, gates, ways = rects(root, "datacenter"), rects(root, "gateway"), links(root)
    assert len(set(ways)) == n * (n - 1)
    for start, end in ways:
        assert not any(box.crossed(start, end) for box in (*cards, *gates))
        for x, y in (start, end):
            near = min(math.hypot(max(g.x - x, 0, x - g.right), max(g.y - y, 0, y - g.bottom)) for g in gates)
            assert near < 40


@every_picture
def test_everything_is_inside_the_picture(n, mix, gateways, name):
    """What is drawn outside of the view box is not seen; the text of a box stays within it."""
    root = drawn(topology(n, MIXES[mix], gateways, name))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [rect for kind in ("datacenter", "gateway", "label", "legend") for rect in rects(root, kind)]
    boxes += [Rect(min(a, c), min(b, d), abs(a - c), abs(b - d)) for (a, b), (c, d) in links(root)]
    for each in root.iter(f"{SVG}text"):
        bold = each.get("font-weight") == "bold"
        wide, size = (
            text_width(each.text or "", float(each.attrib["font-size"]), bold),
            float(each.attrib["font-size"]),
        )
        left = (
            float(each.attrib["x"])
            - {"start": 0, "middle": wide / 2, "end": wide}[each.attrib["text-anchor"]]
        )
        boxes.append(Rect(left, float(each.attrib["y"]) - size, wide, size))
    for box in boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= width + 1
        assert box.bottom <= height + 1


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_eight_datacenters_stay_legible_on_a_page(n):
    """At the width of a notebook's output (1000) the smallest letters are no smaller than 8."""
    root = drawn(topology(n, MIXES["mixed"], 2))
    width = float(root.attrib["viewBox"].split()[2])
    sizes = [float(each.attrib["font-size"]) for each in root.iter(f"{SVG}text")]
    assert min(sizes) * min(1.0, 1000 / width) >= 8


# What is said


@pytest.mark.parametrize("severity", list(STYLES))
def test_a_verdict_is_a_word_a_pattern_and_a_colour(severity):
    """Red and green are the same to many readers, and to a printer."""
    for different in zip(*STYLES.values(), strict=True):
        assert len(set(different)) == len(STYLES)
    root = drawn(topology(2, [Verdict(severity)], own=None))
    style = STYLES[severity]
    assert texts(root).count(style.word) >= 2
    lines = [line for line in root.iter(f"{SVG}line") if line.get("class") == "link"]
    assert {(line.get("stroke"), line.get("stroke-dasharray")) for line in lines} == {
        (style.colour, style.dashes)
    }


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("severity", list(STYLES))
@pytest.mark.parametrize("ground", ["its own", "#ffffff"])
def test_words_stand_out_from_their_ground(severity, ground):
    """Five to one: more than WCAG asks for small text (4.5). Grounds are the picture's own, whatever the theme."""
    style = STYLES[severity]
    behind = _luminance(style.ground if ground == "its own" else ground)
    assert (behind + 0.05) / (_luminance(style.colour) + 0.05) >= 5


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_few_datacenters_have_everything_at_their_links(n):
    """The first broken layer and the latency stand where one looks."""
    said = texts(drawn(topology(n, [BROKEN], own=None)))
    assert (
        said.count("BROKEN: RPC through the gateway") == said.count("p50 20 ms, p99 3000 ms") == n * (n - 1)
    )


@pytest.mark.parametrize("n", [5, 8])
def test_of_many_datacenters_what_is_not_well_is_listed_below(n):
    """Where there is no room for layers at the links, no broken link is without its layer all the same."""
    picture = topology(n, MIXES["mixed"], own=None)
    said = " ".join(texts(drawn(picture)))
    for words in ("BROKEN: RPC through the gateway:", "warning: clock:"):
        listed = said.partition(words)[2]
        expected = [f"{a} → {b}" for (a, b), way in picture.links.items() if f"{way.words}:" == words]
        assert expected
        assert all(pair in listed for pair in expected)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_every_link_that_is_not_well_has_its_word(n):
    """Beside it or in the list below; only the word of one that is ok may be left out."""
    picture = topology(n, MIXES["mixed"], own=None)
    root = drawn(picture)
    said = [f"{each.findtext(f'{SVG}title')}: {each.text}" for each in root.iter(f"{SVG}text")]
    below = " ".join(texts(root))
    for (a, b), way in picture.links.items():
        if way.severity != "ok":
            labelled = any(each.startswith(f"{a} → {b}: {way.line}: {way.style.word}") for each in said)
            assert labelled or f"{a} → {b}" in below


def test_each_direction_has_its_own_verdict():
    """A gateway that can be reached one way only is a broken link, and one only."""
    picture = topology(2, [OK, BROKEN])
    assert "dc1 → dc2: ok (p50 3.0 ms, p99 12 ms)" in repr(picture)
    assert "dc2 → dc1: BROKEN: RPC through the gateway" in repr(picture)
    lines = [line for line in drawn(picture).iter(f"{SVG}line") if line.get("class") == "link"]
    assert len({line.get("stroke") for line in lines}) == 2


def test_what_nobody_gave_a_verdict_is_not_proven():
    """A link or a datacenter that was forgotten must not look well."""
    picture = Topology({"dc1": [], "dc2": []}, {("dc1", "dc2"): "ok"}, verdicts={"dc1": "ok"})
    assert "dc2 → dc1: not proven" in repr(picture)
    assert "dc2 (secondary): not proven" in repr(picture)
    assert {"primary: ✔ ok", "secondary: – not proven"} <= set(texts(drawn(picture)))


def test_words_alone_are_verdicts_as_well():
    """As the verification step gives them, without layers, gateways or verdicts of datacenters."""
    picture = Topology({"dc1": ["prod-dc1"], "dc2": []}, {("dc1", "dc2"): "error", ("dc2", "dc1"): "skipped"})
    root = drawn(picture)
    assert {"BROKEN", "not proven", "primary", "secondary", "prod-dc1"} <= set(texts(root))
    assert rects(root, "gateway") == []


def test_a_datacenter_without_a_gateway_is_seen_to_have_none():
    """Nothing at the edge could also mean that nobody looked."""
    picture = Topology({"dc1": [], "dc2": []}, {}, gateways={"dc1": ["192.0.2.1:443"]})
    assert {"192.0.2.1:443", "no mesh gateway"} <= set(texts(drawn(picture)))
    assert "dc2 (secondary): no mesh gateway" in repr(picture)


def test_gateways_beyond_the_fourth_are_counted_and_named_in_the_words():
    """A picture with forty of them shows none."""
    picture = topology(2, gateways=6)
    assert texts(drawn(picture)).count("and 3 more") == 2
    assert "203.0.113.5:8443" in repr(picture)


def test_the_picture_says_itself_in_words():
    """For a log, for a screen reader, and where pictures are off."""
    picture = topology(3, [OK, SKIPPED])
    root = drawn(picture)
    title = root.findtext(f"{SVG}title") or ""
    for a, b in itertools.permutations(("dc1", "dc2", "dc3"), 2):
        assert re.search(f"{a} → {b}: (ok|not proven)", title)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == title
    image = ElementTree.fromstring(f"<div>{picture._repr_html_()}</div>").find("img")
    assert image is not None
    assert " ".join((image.get("alt") or "").split()) == " ".join(repr(picture).split())


# In a notebook


def test_a_notebook_that_is_not_trusted_keeps_the_picture():
    """JupyterLab takes `<svg>` out of its outputs and leaves the words of it; an image with its source stays."""
    html = topology(2)._repr_html_()
    assert "<svg" not in html
    source = ElementTree.fromstring(f"<div>{html}</div>").find("img").get("src")
    kind, _, data = source.partition(",")
    assert kind == "data:image/svg+xml;charset=utf-8"
    assert unquote(data) == topology(2).svg()


def test_the_source_of_the_picture_hides_no_text():
    """Whoever looks for a secret in an output reads letters, digits and base64 as they are."""
    odd = "hvs.CAESIJ/abc+DEF=="
    assert Topology({"dc1": [odd]}, {})._repr_html_().count(odd) >= 4


def test_a_picture_loads_nothing():
    """Neither in the notebook nor in its page."""
    assert page.outside(topology(3)._repr_html_()) == []
    assert page.outside(topology(3).svg()) == []


def test_what_a_cluster_is_called_is_escaped_in_the_picture():
    """An SVG in a notebook is markup like any other."""
    picture = Topology(
        {NASTY: [NASTY], "dc2": []}, {(NASTY, "dc2"): Verdict("error", NASTY)}, gateways={NASTY: [NASTY]}
    )
    root = drawn(picture)
    assert root.find(f".//{SVG}script") is None
    assert NASTY in (root.findtext(f"{SVG}title") or "")
    fragment = ElementTree.fromstring(f"<div>{picture._repr_html_()}</div>")
    assert fragment.find(".//script") is None
    assert NASTY in (fragment.findtext("details/pre") or "")


def test_a_shortened_text_keeps_both_ends_and_is_said_in_full_when_pointed_at():
    """An address is told by its begin, a port by its end."""
    long = "a1b2c3d4-a-very-long-name-of-a-balancer.elb.eu-central-1.amazonaws.com:8443"
    assert shortened("short", 100, 10) == "short"
    short = shortened(long, 100, 10)
    assert short.startswith("a1b2")
    assert short.endswith("8443")
    assert text_width(short, 10) <= 100
    root = drawn(Topology({"dc1": []}, {}, gateways={"dc1": [long]}))
    assert long in [each.text for each in root.iter(f"{SVG}title")]


@pytest.mark.parametrize("module", [svg, verdict])
def test_the_examples_in_the_documentation_are_true(module):
    """They are what a reader goes by."""
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
