"""Before a record is kept it is searched once more, for whatever the run met, in whatever it holds."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import pytest

from consulfed_lib.errors import LeakError
from consulfed_lib.record import page
from consulfed_lib.record.scan import scan
from consulfed_lib.redact import known, register

from . import recorded

SECRET = 'a "secret" with\nlines, ümlauts & <marks>'
WAYS = {
    "as it is": ("01-primary-setup.ipynb", SECRET),
    "in base64": ("plan.json", base64.b64encode(SECRET.encode()).decode()),
    "JSON in JSON": ("run.json", json.dumps({"found": json.dumps([SECRET])})),
    "JSON with every character escaped": (
        "run.json",
        '{"a": "' + "".join(f"\\u{ord(c):04x}" for c in SECRET) + '"}',
    ),
    "as a key of JSON": ("00-preflight.ipynb", json.dumps({"cells": [{SECRET: 1}]})),
    "HTML": ("00-preflight.html", f"<pre>{html.escape(SECRET)}</pre>"),
    "HTML with every character escaped": ("00-preflight.html", "".join(f"&#{ord(c)};" for c in SECRET)),
    "beside what is no JSON": ("run.json", f"{{ {SECRET}"),
    "beside what is no text": ("00-preflight.ipynb", f"\udcff{SECRET}"),
    "in another file": ("notes.txt", SECRET),
}
"""Where and how it stands: (name of the file, content)."""


def write(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A record before it is kept, with nothing secret in it."""
    notebook = recorded.executed().notebook("applied")
    write(tmp_path, "01-primary-setup.ipynb", json.dumps(notebook))
    write(tmp_path, "01-primary-setup.html", page.html(notebook, "01-primary-setup"))
    write(tmp_path, "run.json", json.dumps({"reason": "a test"}))
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_found_wherever_and_however_it_stands(folder, way):
    """And the file is named, never the value."""
    name, content = WAYS[way]
    register(SECRET.encode())
    write(folder, name, content)
    with pytest.raises(LeakError) as caught:
        scan(folder)
    assert f"in {name};" in caught.value.found
    assert "lines" not in str(caught.value)


def test_a_secret_is_found_in_the_page_of_a_notebook(folder):
    """As it is really made: what cells print is escaped there."""
    notebook = recorded.executed().notebook("applied")
    notebook["cells"][-1]["outputs"].append({"output_type": "stream", "name": "stdout", "text": [SECRET]})
    register(SECRET.encode())
    write(folder, "01-primary-setup.html", page.html(notebook, "01-primary-setup"))
    with pytest.raises(LeakError, match=r"in 01-primary-setup\.html;"):
        scan(folder)


def test_a_secret_is_found_in_the_name_of_a_file(folder):
    """Which is then not named by it."""
    register(b"name-that-is-secret")
    write(folder, "name-that-is-secret.txt", "")
    with pytest.raises(LeakError, match=r"in ‹redacted›\.txt;"):
        scan(folder)


@pytest.mark.parametrize("form", ["raw", "base64"])
def test_a_private_key_is_found_although_nobody_registered_it(folder, authority, form):
    """Whoever's it is."""
    key = authority.key_pem if form == "raw" else base64.b64encode(authority.key_pem.encode()).decode()
    write(folder, "plan.json", json.dumps({"key": key}))
    with pytest.raises(LeakError, match=r"in plan\.json;") as caught:
        scan(folder)
    assert authority.key_pem.splitlines()[1] not in str(caught.value)


def test_every_file_that_holds_one_is_named(folder):
    """A person looks for the fault of ours that let it through."""
    register(SECRET.encode())
    for name in ("01-primary-setup.ipynb", "run.json"):
        write(folder, name, json.dumps({"a": SECRET}))
    with pytest.raises(LeakError, match=r"in 01-primary-setup\.ipynb, run\.json;") as caught:
        scan(folder)
    assert caught.value.exit_code == 50


def test_a_record_without_any_is_well_and_it_is_counted_what_was_looked_for(folder):
    """The record says so: a search for nothing finds nothing."""
    assert scan(folder) == {"secrets": 0, "forms": 0, "files": 3, "hits": 0}
    register(SECRET.encode())
    register(b"another-secret-value")
    assert scan(folder) == {"secrets": 2, "forms": known()[1], "files": 3, "hits": 0}
    assert known()[1] > 20
