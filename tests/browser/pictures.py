"""The README's pictures: taken by the test run, which also notices when one of them shows what is no longer so.

Pixels differ from machine to machine. What is compared is what a picture says: each carries, in a text chunk of its
PNG, the words that were visible and the styles that our own outputs set. Figures may differ, words may not.
`make screenshots` takes them anew.
"""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks" / "pictures"
TAKEN = Path(__file__).parent / "taken"
"""Where each run leaves what it took; not committed."""
WRITE = "CONSULFED_SCREENSHOTS"
"""Environment variable by which `make screenshots` says that the README's pictures are to be renewed."""
LARGEST, TALLEST = 150_000, 900
"""Bytes of a picture, and pixels that it is high: what is longer is shown by its beginning."""
CHUNK = "consulfed: shown"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_FIGURES = re.compile(
    r"(?P<colour>\#[0-9a-f]{6}\b)|"  # a colour is no figure
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|"
    r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,}\b|"
    r"(?<![A-Za-z\d])\d(?:[\d.,:]*\d)?"
)
_BOX = """(e, block) => {
  e.scrollIntoView({block})
  const {x, y, width, height} = e.getBoundingClientRect()
  return {x, y, width, height}
}"""
_WORDS = """root => [
  root.innerText,
  ...[...root.querySelectorAll('svg text')].filter(e => !root.innerText.includes(e.textContent)).map(e => e.textContent)
].join("\\n")"""
_STYLES = (
    "root => [...root.querySelectorAll('.jp-OutputArea-output [style]')].map(e => e.getAttribute('style'))"
)


def without_figures(text: str) -> str:
    """Words without what is another one in each run: times, addresses, digests, counts.

    >>> without_figures("dc1 at 127.0.0.1:8443 after 3.1 s, sha256:0f31ab77c0, #1a7f37")
    'dc1 at … after … s, sha256:…, #1a7f37'
    """
    found = _FIGURES.sub(lambda match: match["colour"] or "…", text)
    return re.sub(r"[ \t\xa0\u200b]+", " ", found)


def shown(element: Locator) -> str:
    """What a picture of the element says."""
    lines = [line.strip() for line in without_figures(element.evaluate(_WORDS)).splitlines()]
    styles = sorted({without_figures(style) for style in element.evaluate(_STYLES)})
    return "\n".join([*(line for line in lines if line), "--", *styles])


def said_by(picture: Path) -> str:
    """What it showed when it was taken."""
    with Image.open(picture) as image:
        image.load()
        return str(getattr(image, "text", {}).get(CHUNK, ""))


def small(png: bytes, says: str) -> bytes:
    """The same in a palette, with what it says inside."""
    with Image.open(io.BytesIO(png)) as image:
        reduced = image.convert("RGB").quantize(
            colors=128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt(CHUNK, says, zip=True)
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True, pnginfo=notes)
    return file.getvalue()


class Pictures:
    """The pictures of one run."""

    def __init__(self, page: Page):
        self.page = page
        self.writing = bool(os.environ.get(WRITE))
        self.stale: dict[str, str] = {}
        self.taken: set[str] = set()
        TAKEN.mkdir(exist_ok=True)

    def take(self, name: str, element: Locator, *, end: bool = False, of: Locator | None = None) -> None:
        """One picture in each theme, and the comparison with the README's.

        Args:
            end: of what is too tall the end is shown, and not the beginning.
            of: the part whose words are compared, where the rest may be another one in each run.
        """
        element.evaluate("e => e.scrollIntoView()")
        says, size = shown(of or element), self.page.viewport_size
        assert size is not None
        self.page.set_viewport_size({**size, "height": TALLEST + 200})
        self.page.mouse.move(0, 0)  # nothing is marked because it lies under the mouse
        for theme in THEMES:
            self.theme(theme)
            file = f"{name}-{theme}.png"
            self._keep(file, small(self._photograph(element, "end" if end else "start"), says), says)
        self.theme("light")
        self.page.set_viewport_size(size)

    def _photograph(self, element: Locator, block: str) -> bytes:
        """The element as it stands; taken again where it grew meanwhile, as what shows progress does."""
        before = None
        while before != (box := element.evaluate(_BOX, block)):
            before = dict(box)
            height = min(box["height"], TALLEST)
            box |= {"y": box["y"] + (box["height"] - height if block == "end" else 0), "height": height}
            png = self.page.screenshot(clip=box, animations="disabled")
        return png

    def stage(self, name: str) -> None:
        """The whole window as it is, for somebody to look at; not for the README."""
        (TAKEN / f"{name}.png").write_bytes(small(self.page.screenshot(), ""))

    def theme(self, theme: str) -> None:
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            THEMES[theme],
        )
        self.page.locator(f"body[data-jp-theme-name='{THEMES[theme]}']").wait_for(state="attached")

    def _keep(self, file: str, png: bytes, says: str) -> None:
        self.taken.add(file)
        (TAKEN / file).write_bytes(png)
        if self.writing:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / file).write_bytes(png)
        if difference := "\n".join(different(FOLDER / file, says)):
            self.stale[file] = difference


def different(picture: Path, says: str) -> Iterator[str]:
    """Lines of a diff from what a picture of the README says to what was seen now."""
    before = said_by(picture) if picture.exists() else ""
    yield from difflib.unified_diff(
        before.splitlines(), says.splitlines(), "README's picture", "now", "", "", 0, ""
    )
