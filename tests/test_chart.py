"""Facts about chart versions, and the names that the chart makes."""

from __future__ import annotations

import doctest

import pytest

from consulfed_lib import chart, cluster, gateway
from consulfed_lib.chart import (
    NEWEST_MAJOR,
    OLDEST,
    ChartVersion,
    federation_secret_name,
    fullname,
    longest_fullname,
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
