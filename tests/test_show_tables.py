"""The matrix, the expiries, the diagnosis and the latencies of a verification: nothing is called well unseen."""

from __future__ import annotations

import doctest
import itertools
import random
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from consulfed_lib.palette import STYLES
from consulfed_lib.record import page
from consulfed_lib.results import MARKS
from consulfed_lib.show import (
    Diagnosis,
    Expiry,
    Latencies,
    Latency,
    Matrix,
    Timeline,
    Trouble,
    Verdict,
    diagnosis,
    latencies,
)
from consulfed_lib.show.svg import Rect, text_width

NASTY = "<script>alert(1)</script> & \"quoted\" 'twice'"
SVG = "{http://www.w3.org/2000/svg}"
TODAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


def parsed(html: str) -> ElementTree.Element:
    """The fragment as XML; fails where it is not well-formed."""
    return ElementTree.fromstring(f"<div>{html}</div>")


# Matrix


def matrix(n: int = 3) -> Matrix:
    names = [f"dc{i + 1}" for i in range(n)]
    links = {pair: Verdict("ok", p50=3.14, p99=12.7) for pair in itertools.permutations(names, 2)}
    links["dc1", "dc2"] = Verdict("error", "gateway TLS")
    return Matrix(names, links, {name: "ok" for name in names})


def cells(table: Matrix) -> list[list[str]]:
    rows = parsed(table._repr_html_()).findall(".//tbody/tr")
    return [[" ".join(cell.itertext()).replace("\u00a0", " ") for cell in row.findall("td")] for row in rows]


@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_matrix_has_a_cell_for_every_direction_and_for_each_datacenter(n):
    """Rows from, columns to; headings say so to a screen reader."""
    table = parsed(Matrix([f"dc{i}" for i in range(n)], {}, {})._repr_html_())
    assert [h.text for h in table.findall(".//thead//th[@scope='col']")][1:] == [f"dc{i}" for i in range(n)]
    assert [h.text for h in table.findall(".//tbody//th[@scope='row']")] == [f"dc{i}" for i in range(n)]
    assert len(table.findall(".//td")) == n * n
    assert table.find("table/caption") is not None


def test_a_cell_says_mark_word_layer_and_latency():
    """From dc1 to dc2 is row one, column two, and not the other way round."""
    shown = cells(matrix())
    assert shown[0][1] == "✘ BROKEN gateway TLS"
    assert shown[1][0] == "✔ ok 3.1 / 13"
    assert shown[2][2] == "✔ ok"


def test_a_cell_needs_no_colour():
    """Each verdict has a sign, a word and a border of its own."""
    assert len({style.border for style in STYLES.values()}) == len({MARKS[s] for s in STYLES}) == len(STYLES)
    table = parsed(Matrix(["dc1", "dc2"], {("dc1", "dc2"): "warning"}, {})._repr_html_())
    styles = [cell.get("style") or "" for cell in table.findall(".//td")]
    assert "2px dashed" in styles[1]
    assert all("color:" in style and "background-color:" in style for style in styles)


def test_in_the_matrix_what_nobody_gave_a_verdict_is_not_proven():
    """A direction, or a datacenter, that was forgotten must not look well."""
    table = Matrix(["dc1", "dc2"], {("dc1", "dc2"): "ok"}, {"dc1": "ok"})
    assert cells(table) == [["✔ ok", "✔ ok"], ["– not proven", "– not proven"]]
    assert table.summary() == "2 directions: 1 not proven, 1 ok"


def test_the_matrix_as_text_has_its_columns_under_each_other():
    """A cell takes as many lines as it has things to say."""
    lines = repr(matrix()).splitlines()
    assert lines[0] == "Matrix: 6 directions: 1 broken, 5 ok; latency as p50 / p99 in ms"
    assert lines[1:4] == [
        "from \\ to  dc1       dc2          dc3",
        "dc1        ✔ ok      ✘ BROKEN     ✔ ok",
        "                     gateway TLS  3.1 / 13",
    ]
    assert all(line == line.rstrip() for line in lines)


def test_the_matrix_says_nothing_of_latency_that_was_not_measured():
    """Neither in a cell nor above the table."""
    assert "p50" not in repr(Matrix(["dc1", "dc2"], {}, {}))


# Expiries


def expiries(*days: float, warning: float | None = 90, error: float | None = 30) -> Timeline:
    rows = [
        Expiry(f"dc{i + 1}", f"certificate {i + 1}", TODAY + timedelta(days=d)) for i, d in enumerate(days)
    ]
    limits = [None if limit is None else timedelta(days=limit) for limit in (warning, error)]
    return Timeline(rows, warning=limits[0], error=limits[1], today=TODAY)


def lefts(line: Timeline) -> list[str]:
    return [row.left for row in line.rows]


@pytest.mark.parametrize(
    ("days", "severity", "left"),
    [
        (-2.5, "error", "expired 2 days ago"), (-0.1, "error", "expired less than a day ago"),
        (0, "error", "expired less than a day ago"), (0.9, "error", "less than a day"), (1.2, "error", "1 day"),
        (29.99, "error", "29 days"), (30, "warning", "30 days"), (89.99, "warning", "89 days"), (90, "ok", "90 days"),
        (3650, "ok", "3650 days"),
    ],
)  # fmt: skip
def test_a_threshold_makes_a_warning_or_an_error_of_what_is_left(days, severity, left):
    """Exactly the threshold is still enough; days are rounded down, for nobody is told of more than there is."""
    row = expiries(days).rows[0]
    assert (row.severity, row.left) == (severity, left)


def test_without_thresholds_only_what_has_expired_is_wrong():
    """A threshold that nobody set is not invented."""
    shown = expiries(-1, 0.5, warning=None, error=None)
    assert [row.severity for row in shown.rows] == ["error", "ok"]
    assert "below" not in repr(shown)


def test_a_date_that_could_not_be_read_is_never_well():
    """It is last, has no bar, and is called not proven."""
    shown = Timeline(
        [Expiry("dc1", "CA", None), Expiry("dc2", "CA", TODAY + timedelta(days=400))], today=TODAY
    )
    assert [row.severity for row in shown.rows] == ["ok", "skipped"]
    assert "– not proven" in repr(shown).splitlines()[-1]
    assert "not read" in repr(shown).splitlines()[-1]
    root = ElementTree.fromstring(shown.svg())
    assert len([each for each in root.iter() if each.get("class") == "marker"]) == 1


def test_expiries_are_sorted_whatever_order_they_come_in():
    """What expires next is first."""
    days = [400, 3, 90, 30, -5, 1000]
    random.Random(1).shuffle(days)
    assert lefts(expiries(*days)) == [
        "expired 5 days ago",
        "3 days",
        "30 days",
        "90 days",
        "400 days",
        "1000 days",
    ]


def test_a_shared_credential_is_one_line_with_all_its_datacenters():
    """The server CA is the same everywhere; certificates with dates of their own are not merged."""
    same, other = TODAY + timedelta(days=100), TODAY + timedelta(days=100, seconds=1)
    shown = Timeline(
        [Expiry("dc1", "CA", same), Expiry("dc2", "CA", same), Expiry("dc3", "CA", other)], today=TODAY
    )
    assert [row.datacenters for row in shown.rows] == [("dc1", "dc2"), ("dc3",)]


def test_the_bar_of_an_expiry_is_as_long_as_what_is_left():
    """In a log, one line for each, the bars under each other and none longer than the next."""
    lines = repr(expiries(-1, 3, 40, 100, 1000)).splitlines()
    assert lines[0] == "Expiries, from 2026-03-01 (UTC); error below 30 days; warning below 90 days"
    bars = [line.count("#") for line in lines[1:]]
    assert bars == sorted(bars)
    assert bars[0] == 0
    assert bars[-1] > bars[1] > 0
    assert len({line.count("#") + line.count(".") for line in lines[1:]}) == 1
    assert lines[1].endswith("✘ error")
    assert lines[-1].endswith("✔ ok")


@pytest.mark.parametrize(
    ("warning", "error"), [(90, 30), (31, 30), (2, 1), (2000, 1000), (90, None), (None, 30), (None, None)]
)
@pytest.mark.parametrize("days", [(), (5,), (1, 1, 1, 2), (-4, 29, 30, 31, 720, 730, 3650)])
def test_in_the_picture_of_expiries_no_words_lie_on_words(days, warning, error):
    """However near to each other the dates and the thresholds are; and all of them are inside the picture."""
    root = ElementTree.fromstring(expiries(*days, warning=warning, error=error).svg())
    boxes = []
    for each in root.iter(f"{SVG}text"):
        size = float(each.attrib["font-size"])
        wide = text_width(each.text or "", size, each.get("font-weight") == "bold")
        left = (
            float(each.attrib["x"])
            - {"start": 0, "middle": wide / 2, "end": wide}[each.attrib["text-anchor"]]
        )
        boxes.append(Rect(left, float(each.attrib["y"]) - size * 0.8, wide, size))
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(box.x >= 0 and box.y >= 0 and box.right <= width + 1 and box.bottom <= height for box in boxes)


def test_thresholds_are_areas_with_patterns_and_words_of_their_own():
    """The denser hatch is the worse; an expiry's marker has a form for each verdict."""
    root = ElementTree.fromstring(expiries(5, 40, 400).svg())
    areas = [each.get("fill") for each in root.iter(f"{SVG}rect") if each.get("class") == "threshold"]
    assert len(set(areas)) == 2
    words = [each.text for each in root.iter(f"{SVG}text")]
    assert {"error below 30 days", "warning below 90 days"} <= set(words)
    markers = [each for each in root.iter() if each.get("class") == "marker"]
    assert len({(m.tag, (m.get("d") or "")[-3:]) for m in markers}) == 3


def test_dates_stand_on_the_axis_in_their_order():
    """Its scale is not linear, but what is later is further right, and the last date has a place on it."""
    root = ElementTree.fromstring(expiries(1, 10, 100, 1000, 20000).svg())
    ends = [float(each.attrib["x2"]) for each in root.iter(f"{SVG}line") if each.get("class") == "expiry"]
    assert ends == sorted(ends)
    assert len(set(ends)) == 5


def test_no_expiries_are_not_called_well():
    """Nobody read any."""
    assert repr(Timeline([], today=TODAY)).endswith("nothing was read")
    assert "nothing was read" in Timeline([], today=TODAY).svg()


def test_a_credentials_name_is_escaped_in_the_picture():
    """An SVG in a notebook is markup like any other."""
    shown = Timeline([Expiry(NASTY, NASTY, TODAY)], today=TODAY)
    assert ElementTree.fromstring(shown.svg()).find(f".//{SVG}script") is None
    assert NASTY in (parsed(shown._repr_html_()).findtext("details/pre") or "")
    assert page.outside(shown._repr_html_()) == []


# Diagnosis

TROUBLE = Trouble(
    id="gateway-tls",
    subject="dc1 → dc2",
    found="192.0.2.7:443 answers with the certificate of somebody else",
    expected="a certificate for server.dc2.consul of the federation's CA",
    why="every RPC to dc2 fails",
    hint="take it off: kubectl --context two annotate service x y-; then run 03-secondary-setup again",
    link="03-secondary-setup.ipynb#Apply",
    consequences=[("node-health", "dc1 → dc2"), ("wan-members", "dc1"), ("wan-members", "dc2")],
)


def test_each_cause_has_a_block_with_everything_in_it():
    """In the log and in the notebook alike; what fails because of it takes one line."""
    shown = Diagnosis([TROUBLE])
    for text in (repr(shown), "".join(parsed(shown._repr_html_()).itertext())):
        for words in (
            "gateway-tls", "dc1 → dc2", TROUBLE.found, TROUBLE.expected, TROUBLE.why, "take it off:",
            "kubectl --context two annotate service x y-", "then run 03-secondary-setup again",
            "03-secondary-setup.ipynb#Apply", "node-health (dc1 → dc2), wan-members (dc1, dc2)",
        ):  # fmt: skip
            assert words in text
    assert shown.summary() == "1 cause, and 3 checks failing because of that"


def test_a_consequence_with_many_subjects_names_some_and_counts_the_rest():
    """It stays one line in a federation of ten."""
    pairs = [("node-health", f"dc1 → dc{i}") for i in range(2, 11)]
    assert Trouble("servers", "dc1", "no leader", consequences=pairs).after == (
        "node-health (dc1 → dc2, dc1 → dc3, dc1 → dc4, dc1 → dc5 and 5 more)"
    )


def test_commands_are_to_be_copied_and_the_notebook_is_a_link_beside_this_one():
    """Nothing else is in the command's block, and the link works wherever the notebooks lie."""
    html = parsed(Diagnosis([TROUBLE])._repr_html_())
    assert [pre.text for pre in html.iter("pre")] == ["kubectl --context two annotate service x y-"]
    assert [a.get("href") for a in html.iter("a")] == ["03-secondary-setup.ipynb#Apply"]


@pytest.mark.parametrize(
    ("hint", "steps"),
    [
        ("", []),
        ("wait for it", [("words", "wait for it")]),
        ("kubectl get pods", [("command", "kubectl get pods")]),
        ("see why (kubectl get crd -A); mend it", [
            ("words", "see why"), ("command", "kubectl get crd -A"), ("words", "mend it")]),
        ("look: kubectl get pods,services; then run 01 again", [
            ("words", "look:"), ("command", "kubectl get pods,services"), ("words", "then run 01 again")]),
        ("both: kubectl annotate a; kubectl label b", [
            ("words", "both:"), ("command", "kubectl annotate a"), ("command", "kubectl label b")]),
        ("roll back: helm rollback consul 3 --kube-context two, or wait", [
            ("words", "roll back:"), ("command", "helm rollback consul 3 --kube-context two"), ("words", "or wait")]),
        ("see that consul is there and that helm does not run", [
            ("words", "see that consul is there and that helm does not run")]),
    ],
)  # fmt: skip
def test_a_hint_is_taken_apart_into_words_and_commands(hint, steps):
    """A command begins a hint, or a sentence leads to it; the word alone is none."""
    assert Trouble("id", "dc1", "found", hint=hint).steps == steps


def test_what_is_not_known_of_a_cause_has_no_heading():
    """An empty line under "Expected" would be read as an answer."""
    text = repr(Diagnosis([Trouble("servers", "dc1", "no leader")]))
    assert text.splitlines()[2:] == ["1. ✘ servers (dc1)", "   Found:          no leader"]


def test_no_cause_is_said_to_be_none():
    """An empty output could also mean that it was not looked for."""
    assert repr(Diagnosis([])) == "Diagnosis: no check failed"
    assert "no check failed" in Diagnosis([])._repr_html_()


def test_what_a_check_found_is_escaped_in_the_matrix_and_in_the_diagnosis():
    """Names, messages of servers and commands hold what others wrote."""
    trouble = Trouble(*[NASTY] * 7, consequences=[(NASTY, NASTY)])
    verdicts = {NASTY: Verdict("error", NASTY)}
    for shown in (Diagnosis([trouble]), Matrix([NASTY, "dc2"], {}, verdicts)):
        html = parsed(shown._repr_html_())
        assert html.find(".//script") is None
        assert NASTY in "".join(html.itertext())
        assert page.outside(shown._repr_html_()) == []


# Latencies


def test_latencies_stand_beside_those_of_the_run_before():
    """In milliseconds, the slowest first, with what became of them."""
    shown = Latencies([
        Latency("dc1 → dc2", "gateway handshake", 50, 3.24, 12.0, 3.2, 9.0),
        Latency("dc1 → dc2", "RPC", 50, 13.0, 112.0, 15.0, 190.0),
    ])  # fmt: skip
    assert [row.what for row in shown] == ["RPC", "gateway handshake"]
    assert [row.change for row in shown] == [
        "p50 −2.0 ms (−13 %), p99 −78.0 ms (−41 %)",
        "p50 same, p99 +3.0 ms (+33 %)",
    ]
    assert "15.0" in repr(shown)
    for text in (repr(shown), shown._repr_html_()):
        assert "p50 before" in text
        assert "previous_p50" not in text


def test_without_a_run_before_nothing_is_compared():
    """And no empty columns are shown; where only some pairs were measured before, the others say so."""
    first = Latency("dc1 → dc2", "RPC", 50, 3.0, 4.0)
    assert "before" not in repr(Latencies([first]))
    both = Latencies([first, Latency("dc2 → dc1", "RPC", 50, 3.0, 5.0, 3.0, 5.0)])
    assert "not comparable" in repr(both)


def test_what_was_not_measured_is_said_and_counted():
    """A blank would be read as fast; a latency of 0.0 ms is a latency."""
    shown = Latencies([Latency("dc1 → dc2", "RPC", 0, None, None), Latency("dc2 → dc1", "RPC", 9, 0.0, 0.0)])
    assert shown.summary() == "1 of 2 measured"
    assert repr(shown).splitlines()[-1].split() == [
        "dc1",
        "→",
        "dc2",
        "RPC",
        "0",
        "not",
        "measured",
        "not",
        "measured",
    ]
    assert "0.0" in repr(shown)
    assert Latencies().summary() == "nothing was measured"


def test_latencies_are_data_for_the_next_run():
    """It reads them from the record of this one."""
    row = Latencies([Latency("dc1 → dc2", "RPC", 9, 1.0, 2.0)]).data()[0]
    assert (row["pair"], row["what"], row["n"], row["p50"], row["p99"]) == ("dc1 → dc2", "RPC", 9, 1.0, 2.0)
    assert {"previous_p50", "change"} <= set(
        Latencies([Latency("a → b", "RPC", 9, 1.0, 2.0)]).frame().columns
    )


@pytest.mark.parametrize("module", [diagnosis, latencies])
def test_the_examples_in_the_documentation_are_true(module):
    """They are what a reader goes by."""
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
