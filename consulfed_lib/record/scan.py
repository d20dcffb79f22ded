"""The last look before a record is kept: does any secret that the run met stand in it, in any encoding?"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .. import redact
from ..errors import LeakError


def scan(folder: Path) -> dict[str, int]:
    """Look through every file of a record, names and contents, also for a private key that nobody registered.

    Returns `{secrets, forms, files, hits}` for the record: how many values were looked for, in how many encodings, in
    how many files; `hits` is 0.

    Raises LeakError with the names of the files that hold one; never with what they hold.
    """
    paths = sorted(folder.iterdir())
    betrays = cache(redact.betrays)  # the same styles stand in every page
    leaking = [redact.scrub(path.name) for path in paths if any(map(betrays, _texts(path)))]
    if leaking:
        raise LeakError(
            f"The record would have held a secret, in {', '.join(leaking)}; it was not kept.",
            "please report this: it is a fault of consulfed. What was done is not undone: run it again to see",
        )
    secrets, forms = redact.known()
    return {"secrets": secrets, "forms": forms, "files": len(paths), "hits": 0}


def _texts(path: Path) -> Iterator[str]:
    """A file's name, and the file as it is; of JSON and HTML also what is in it, without their own escapes."""
    text = path.read_text(encoding="utf-8", errors="replace")
    yield path.name
    if path.suffix == ".html":
        # In its three parts, of which the middle one, three quarters of a page, is the same in each.
        first, title, rest = text.partition("</title>")
        styles, body, shown = rest.partition("<body")
        for part in (first + title, styles, body + shown):
            yield part
            yield html.unescape(part)
        return
    yield text
    if path.suffix in {".ipynb", ".json"}:
        try:
            yield "\n".join(redact.texts(json.loads(text)))
        except ValueError:
            return
