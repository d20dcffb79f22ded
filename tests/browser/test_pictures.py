"""The README's pictures are there, small, described, and what they say is kept inside them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from . import pictures

README = pictures.ROOT / "README.md"
IN_README = re.compile(
    r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">'
)


def test_the_readme_shows_every_picture_that_is_kept() -> None:
    """In both themes, each with a text for who cannot see it; none is kept that nobody sees."""
    found = IN_README.findall(README.read_text())
    assert found
    shown = {path for dark, _, light in found for path in (dark, light)}
    assert shown == {str(path.relative_to(pictures.ROOT)) for path in pictures.FOLDER.iterdir()}
    assert all(len(alt.split()) > 5 for _, alt, _ in found)
    assert all(dark == light.replace("-light", "-dark") for dark, _, light in found)


def test_pictures_are_small_and_say_what_they_show() -> None:
    """A clone stays quick, and the test run has something to compare with."""
    for path in pictures.FOLDER.iterdir():
        assert path.stat().st_size <= pictures.LARGEST, path.name
        assert pictures.said_by(path).strip(), path.name


def png(colour: str = "white") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def test_a_picture_that_shows_what_is_no_longer_so_is_noticed(tmp_path: Path) -> None:
    """Another word, another style, a picture that is not there; not another figure."""
    path = tmp_path / "plan.png"
    says = pictures.without_figures("3 checks ok after 1.5 s\n--\ncolor:#176f30")
    assert list(pictures.different(path, says))
    path.write_bytes(pictures.small(png(), says))
    assert pictures.said_by(path) == says
    for now in ("4 checks ok after 20.1 s\n--\ncolor:#176f30",):
        assert not list(pictures.different(path, pictures.without_figures(now)))
    for now in (
        "4 checks failed after 20.1 s\n--\ncolor:#176f30",
        "3 checks ok after 1.5 s\n--\ncolor:#b3151f",
    ):
        assert list(pictures.different(path, pictures.without_figures(now)))


@pytest.mark.parametrize("text", ["dc1 → dc2", "01-primary-setup", "#1a7f37", "x-dc2", "v1beta1"])
def test_names_are_no_figures(text: str) -> None:
    """A datacenter's number is part of its name: dc1 instead of dc2 is another picture."""
    said = pictures.without_figures(text)
    assert said == text or said == text.replace("01", "…")
