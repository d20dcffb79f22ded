"""Facts about chart versions, and the names that the chart makes."""

from __future__ import annotations

import doctest

import pytest

from consulfed_lib import chart, cluster, gateway
from consulfed_lib.chart import (
    NEWEST_MAJOR,
    OLDEST,
    WINDOWS,
    ChartVersion,
    chart_mistakes,
    federation_secret_name,
    fullname,
    longest_fullname,
    supported_consul,
    supported_kubernetes,
)


@pytest.mark.parametrize("module", [chart, cluster, gateway], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module):
    """An example that no longer holds is worse than none."""
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_versions_are_ordered_by_number_and_not_by_text():
    """1.10 is newer than 1.9."""
    texts = ["0.49.8", "1.0.0", "1.9.11", "1.10.0", "2.0.3"]
    versions = [ChartVersion.parse(text) for text in texts]
    assert sorted(reversed(versions)) == versions


@pytest.mark.parametrize("text", ["1.9.11-sandbox", "v1.9.11", " 1.9.11 "])
def test_a_version_equals_its_other_spellings(text):
    """A pre-release counts as the release that it leads to; equal versions hash alike."""
    assert ChartVersion.parse(text) == ChartVersion.parse("1.9.11")
    assert len({ChartVersion.parse(text), ChartVersion.parse("1.9.11")}) == 1


def test_a_version_is_not_equal_to_a_text():
    """Comparing what was parsed with what was not is a mistake that must not pass."""
    assert ChartVersion.parse("1.9.11") != "1.9.11"


@pytest.mark.parametrize("text", ["", "latest", "1.9", "1.9.x", "^1.9.11", ">=1.9.11", "1.9.11.1"])
def test_what_is_no_exact_version_is_refused(text):
    """A federation must not change by itself: ranges and words are no pin."""
    with pytest.raises(ValueError, match="no chart version"):
        ChartVersion.parse(text)


def test_a_version_from_the_future_is_refused():
    """Values of a generation that is not known cannot be written right."""
    ChartVersion.parse(f"{NEWEST_MAJOR}.99.0")
    with pytest.raises(ValueError, match="unknown"):
        ChartVersion.parse(f"{NEWEST_MAJOR + 1}.0.0")


def test_the_oldest_version_is_supported_and_the_one_before_is_not():
    """0.21.0 is the first chart with `global.federation`."""
    assert ChartVersion.parse(OLDEST).is_supported
    assert not ChartVersion.parse("0.20.1").is_supported


@pytest.mark.parametrize(
    ("version", "has"), [("0.49.8", True), ("1.0.0-beta1", False), ("1.0.0", False), ("2.0.3", False)]
)
def test_the_controller_section_ends_with_one_point_nought(version, has):
    """`controller.enabled` was removed in 1.0.0; Helm would ignore it in silence."""
    assert ChartVersion.parse(version).has_controller_section is has


@pytest.mark.parametrize(
    ("release", "global_name", "expected"),
    [
        ("consul", "consul", "consul"),
        ("consul", "", "consul-consul"),
        ("mesh", "", "mesh-consul"),
        ("mesh", "x" * 70, "x" * 63),
        ("mesh", "x" * 62 + "--y", "x" * 62),
        ("r" * 62, "", "r" * 62),
    ],
)
def test_full_names_are_cut_as_the_chart_cuts_them(release, global_name, expected):
    """63 characters, then one hyphen off the end (`trunc 63 | trimSuffix "-"`)."""
    assert fullname(release, global_name) == expected


def test_the_secrets_suffix_comes_after_the_truncation():
    """The Secret's name may have more than 63 characters, a Service's may not."""
    assert federation_secret_name("consul", "consul") == "consul-federation"
    assert federation_secret_name("mesh", "x" * 70) == "x" * 63 + "-federation"


@pytest.mark.parametrize(("gossip", "longest"), [(True, 32), (False, 38)])
def test_the_longest_full_name_leaves_room_for_the_jobs_suffix(gossip, longest):
    """A Job's name becomes a label of its pod, and a label has at most 63 characters."""
    assert longest_fullname(gossip) == longest


# Generations


@pytest.mark.parametrize(
    ("switch", "last_without", "first_with"),
    [
        ("has_controller_section", "0.24.1", "0.25.0"),
        ("exports_generated_key", "0.36.0", "0.37.0"),
        ("finds_generated_key", "0.43.0", "0.44.0"),
        ("secret_waits_for_rollout", "0.48.0", "0.49.0"),
        ("mode_in_values", "0.30.0", "0.29.0"),
        ("has_client_agents", "1.0.0", "0.49.8"),
        ("needs_bootstrap_expect", "0.28.0", "0.27.0"),
    ],
)
def test_a_switch_turns_between_two_released_versions(switch, last_without, first_with):
    """Read in values.yaml and the templates of both."""
    assert not getattr(ChartVersion.parse(last_without), switch)
    assert getattr(ChartVersion.parse(first_with), switch)


@pytest.mark.parametrize("path", WINDOWS)
def test_a_key_is_known_from_its_first_version_until_its_last(path):
    """The version that no longer has it is not among them."""
    since, before = WINDOWS[path]
    assert since or before
    if since:
        assert ChartVersion.parse(since).knows(path)
        assert not ChartVersion.parse("0.21.0").knows(path)
    if before:
        assert not ChartVersion.parse(before).knows(path)


def test_a_chart_that_cannot_federate_is_a_mistake(raw):
    """So is what is no version; a chart that can is none."""
    assert chart_mistakes(raw) == []
    raw["chart"]["version"] = "0.20.1"
    assert chart_mistakes(raw) == ["chart.version: 0.20.1 cannot federate; expected 0.21.0 or newer"]
    raw["chart"]["version"] = "latest"
    (line,) = chart_mistakes(raw)
    assert line.startswith("chart.version: ")


@pytest.mark.parametrize(
    ("version", "changes", "words"),
    [
        ("0.36.0", {}, "0.37.0"),
        ("0.36.0", {"gossip_encryption": False}, ""),
        ("0.36.0", {"gossip_key": {"secret": "own"}}, ""),
        ("0.37.0", {}, ""),
        ("0.43.0", {"global_name": "mesh"}, "'mesh'"),
        ("0.43.0", {"global_name": ""}, "'consul-consul'"),
        ("0.43.0", {"global_name": "mesh", "fullname_override": "consul"}, ""),
        ("0.43.0", {"global_name": "mesh", "gossip_key": {"secret": "own"}}, ""),
        ("0.44.0", {"global_name": "mesh"}, ""),
    ],
)
def test_a_generated_gossip_key_needs_a_chart_that_hands_it_on(raw, version, changes, words):
    """Before 0.37.0 no secret had it; before 0.44.0 the Job looked for it under one name only (#1196)."""
    raw["chart"]["version"] = version
    found = chart_mistakes(raw | changes)
    assert len(found) == bool(words)
    assert all(words in line and line.startswith("gossip_encryption: ") for line in found)


@pytest.mark.parametrize(
    "changes",
    [{"chart": "x"}, {"chart": {}}, {"chart": {"version": 1.9}}, {"primary": "x", "chart": {"version": "0.43.0"}},
     {"global_name": 5, "chart": {"version": "0.43.0"}}],
)  # fmt: skip
def test_what_has_another_type_is_left_to_the_model(raw, changes):
    """Its mistake is told there, once."""
    assert chart_mistakes(raw | changes) == []


def test_each_minor_version_of_a_chart_has_its_consul():
    """The versions that go together, as the charts and HashiCorp's compatibility pages have them."""
    found = {
        text: supported_consul(ChartVersion.parse(text)) for text in ("0.21.0", "0.49.8", "1.0.11", "2.0.3")
    }
    assert found == {
        "0.21.0": ("1.7",),
        "0.49.8": ("1.11", "1.12", "1.13"),
        "1.0.11": ("1.14",),
        "2.0.3": ("2.0",),
    }
    minors = [f"0.{n}.0" for n in range(21, 50)] + [f"1.{n}.0" for n in range(10)]
    assert all(supported_consul(ChartVersion.parse(text)) for text in minors)
    assert supported_consul(ChartVersion.parse("2.9.0")) == ()


def test_kubernetes_is_compared_only_where_a_range_is_known():
    """1.4 to 1.9 are given; of 1.6 HashiCorp says nothing, so nothing is said."""
    assert supported_kubernetes(ChartVersion.parse("1.9.11")) == ((1, 30), (1, 34))
    assert supported_kubernetes(ChartVersion.parse("0.30.0")) == ((1, 13), (1, 21))
    assert supported_kubernetes(ChartVersion.parse("1.6.0")) is None
