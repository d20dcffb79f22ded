"""Results: a table for a person, data for a machine, and no green that was not seen."""

from __future__ import annotations

import itertools
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from consulfed_lib import presence
from consulfed_lib.results import MARKS, Change, Changes, Finding, Findings, Result, Table

SEVERITIES = ("ok", "warning", "error", "skipped")
NASTY = "<script>alert(\"x\")</script> & 'quoted'"


def findings(*severities: str) -> Findings:
    return Findings("Checks", [Finding("id", "dc1", severity, "found") for severity in severities])  # type: ignore[arg-type]


def changes(*outcomes: str) -> Changes:
    return Changes("Changes", [Change("id", "dc1", outcome, "what") for outcome in outcomes])


class Texts(HTMLParser):
    """The texts and the tags of an HTML fragment."""

    def __init__(self, html: str):
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


# Findings


@pytest.mark.parametrize("severities", [(), *itertools.product(SEVERITIES, repeat=2)])
def test_proven_needs_everything_looked_at_and_nothing_wrong(severities):
    """Empty is not proven, skipped is not proven; a warning is no error."""
    found = findings(*severities)
    assert found.proven is (bool(severities) and {"error", "skipped"}.isdisjoint(severities))
    assert found.passed is ("error" not in severities)


def test_errors_are_the_rows_that_stop_a_run():
    """In their order, and no others."""
    found = findings("ok", "error", "warning", "error", "skipped")
    assert found.errors == [found.rows[1], found.rows[3]]


def test_a_summary_counts_each_severity_and_never_calls_nothing_a_success():
    """ "4 ok" over nothing at all would be read as a success."""
    assert findings("ok", "ok", "skipped").summary() == "2 ok, 1 skipped"
    assert "ok" not in findings().summary()


# Changes


@pytest.mark.parametrize(
    ("outcome", "wrote", "pending"),
    [
        ("unchanged", False, False),
        ("created", True, True),
        ("changed", True, True),
        ("deleted", True, True),
        ("would create", False, True),
        ("would change", False, True),
        ("would delete", False, True),
        ("waits", False, True),
    ],
)
def test_only_what_was_written_counts_as_written(outcome, wrote, pending):
    """A plan writes nothing, and is pending as long as one row is not `unchanged`."""
    found = changes("unchanged", outcome)
    assert found.wrote is wrote
    assert found.pending is pending
    assert found.rows[1].wrote is wrote


def test_no_changes_are_nothing_to_do():
    """An empty plan is neither pending nor written."""
    assert not changes().wrote
    assert not changes().pending
    assert changes().summary() == "nothing to do"
    assert changes("unchanged", "unchanged", "created").summary() == "2 unchanged, 1 created"


# Tables


def test_a_table_as_text_has_a_line_for_the_title_one_for_the_columns_and_one_for_each_row():
    """Columns are aligned, so that a log can be read; nothing hangs over at the line's end."""
    rows = [Finding("a", "dc1", "ok", "well"), Finding("longer-id", "dc1 → dc2", "error", "bad", "mend it")]
    title, head, first, second = repr(Findings("Checks", rows)).splitlines()
    assert title == "Checks: 1 ok, 1 error"
    assert head.split() == ["id", "subject", "severity", "found", "hint"]
    for column, value, other in (("subject", "dc1", "dc1 → dc2"), ("found", "well", "bad")):
        at = head.index(column)
        assert first[at:].startswith(value)
        assert second[at:].startswith(other)
    assert first == first.rstrip()


def test_an_empty_table_is_its_title_alone():
    """No headings over nothing."""
    assert repr(findings()) == "Checks: nothing to check"
    assert "<table" not in findings()._repr_html_()


def test_a_sign_stands_beside_every_severity_and_outcome():
    """Colour alone is lost in print and for many readers."""
    assert set(SEVERITIES) <= MARKS.keys()
    for severity in SEVERITIES:
        assert f"{MARKS[severity]} {severity}" in repr(findings(severity))
        assert f"{MARKS[severity]} {severity}" in findings(severity)._repr_html_()
    assert len({MARKS[severity] for severity in SEVERITIES}) == 4
    assert f"{MARKS['created']} created" in repr(changes("created"))


def test_a_table_is_one_to_a_screen_reader_and_to_a_printer():
    """A caption, a scope for each heading, one heading a row, and nothing that a click is needed for."""
    html = findings("ok", "error")._repr_html_()
    table = ElementTree.fromstring(html)
    assert "".join(table.find("caption").itertext()) == "Checks: 1 ok, 1 error"
    assert [cell.get("scope") for cell in table.findall("thead/tr/th")] == ["col"] * 4
    assert [[cell.get("scope") for cell in row] for row in table.findall("tbody/tr")] == [
        ["row", *[None] * 3]
    ] * 2
    assert "consulfed-findings" in table.get("class")
    assert "onclick" not in html


@pytest.mark.parametrize(
    ("rows", "there", "sortable"), [(16, True, True), (15, True, False), (16, False, False)]
)
def test_a_long_table_is_sorted_by_its_headings_where_somebody_is(monkeypatch, rows, there, sortable):
    """By buttons, which a keyboard reaches; the worst verdict comes first, not the first in the alphabet."""
    monkeypatch.setattr(presence, "_there", there)
    table = Findings("T", [Finding(f"x{i}", "dc1", SEVERITIES[i % 4], str(i)) for i in range(rows)])
    html = ElementTree.fromstring(table._repr_html_())
    assert [cell.find("button") is not None for cell in html.findall("thead/tr/th")] == [sortable] * 4
    assert all("white-space:nowrap" in button.get("style") for button in html.iter("button"))
    assert ("aria-sort" in html.find("thead").get("onclick", "")) is sortable
    keys = {cell.get("data-key"): "".join(cell.itertext()) for cell in html.iter() if cell.get("data-key")}
    assert [keys[key] for key in sorted(keys)] == ["✘ error", "! warning", "– skipped", "✔ ok"]


def test_what_clusters_say_is_escaped_in_html():
    """Names and messages come from outside: none of it may become markup in a reader's browser."""
    found = Findings(NASTY, [Finding(NASTY, NASTY, "error", NASTY, NASTY)])
    html = found._repr_html_()
    assert "<script" not in html
    parsed = Texts(html)
    assert "script" not in parsed.tags
    assert parsed.texts.count(NASTY) == 5
    ElementTree.fromstring(f"<div>{html}</div>")


def test_seconds_are_shown_with_one_digit_and_nothing_for_none():
    """A row of zeros says nothing."""
    rows = [Change("a", "dc1", "created", "x", seconds=1.26), Change("b", "dc1", "unchanged", "y")]
    text = repr(Changes("Changes", rows))
    assert "1.3" in text
    assert "0.0" not in text


def test_a_tables_data_is_its_rows_for_a_machine():
    """Every field, also those that no column shows, and nothing that JSON cannot hold."""
    data = findings("ok").data()
    (row,) = data
    assert row == {
        "id": "id", "subject": "dc1", "severity": "ok", "found": "found", "hint": "", "at": "", "seconds": 0.0
    }  # fmt: skip
    assert json.loads(json.dumps(data)) == data


def test_a_table_is_a_sequence_of_its_rows():
    """Notebooks and steps count and walk them."""
    table = Table("Rows", iter(["a", "b"]))
    assert len(table) == 2
    assert list(table) == ["a", "b"]


# Result


def result(**changes) -> Result:
    values = {"notebook": "00-preflight", "federation": "test", "subject": "dc1", "outcome": "verified"}
    return Result(**(values | changes))


def test_a_result_is_text_html_and_json_at_once():
    """The JSON is the end mark of a record, whole and of its own type."""
    bundle = result(facts={"gateway": "10.0.0.1:443"}, checks=findings("ok").data())._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "application/vnd.consulfed.result+json"}
    assert json.loads(json.dumps(bundle[Result.MIME]))["facts"] == {"gateway": "10.0.0.1:443"}
    assert bundle[Result.MIME]["checks"][0]["severity"] == "ok"
    assert "00-preflight" in bundle["text/plain"]
    assert "verified" in bundle["text/plain"]
    ElementTree.fromstring(f"<div>{bundle['text/html']}</div>")


def test_a_results_facts_are_escaped_in_html():
    """A fact is what a cluster said."""
    html = result(notebook=NASTY, subject=NASTY, facts={NASTY: NASTY})._repr_mimebundle_()["text/html"]
    assert "script" not in Texts(html).tags
    assert Texts(html).texts.count(NASTY) == 4


def test_rows_are_a_frame_for_who_wants_to_filter_them() -> None:
    """A table gives a DataFrame with its own columns, empty or not."""
    table = Findings("Checks", [Finding("a", "dc1", "ok", "x"), Finding("b", "dc2", "error", "y", "z")])
    assert list(table.frame().query("severity == 'error'").id) == ["b"]
    assert list(Findings("Checks").frame().columns) == list(Findings.columns)


def test_a_family_of_checks_that_say_the_same_is_one_row() -> None:
    """People read one row; machines get every check, and what is not alike stays apart."""
    alike = [Finding(f"values-{i}", "all", "ok", "so it is") for i in range(5)]
    findings = Findings("T", [*alike, Finding("values-x", "all", "error", "it is not", "mend it")])
    assert "values-… (5 checks)" in repr(findings)
    assert "values-… (5 checks)" in findings._repr_html_()
    assert "values-x" in repr(findings)
    assert len(findings.data()) == 6
    assert "values-2" in repr(Findings("T", alike[:3]))
