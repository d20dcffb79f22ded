"""The forms in which a secret turns up where it should not: what looks, pastes, logs and encodes make of it."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Iterator

SHORTEST = 8
"""What is shorter is no secret: an empty or tiny value would blot out whole records."""

_LARGE = 16_384
"""Bytes from which on only the plain encodings are looked for: nobody quotes so much by hand, and it costs."""

_WRAPS = (64, 76)
"""Columns at which base64 is broken into lines (PEM, MIME)."""

_SHAPES = re.compile(r"BEGIN (?:[A-Z]+ )?PRIVATE KEY|LS0tLS1CRUdJT")
"""A private key, or anything PEM in base64."""


def shaped(text: str) -> bool:
    """Whether a text has the shape of a secret: a private key, whoever's it is."""
    return _SHAPES.search(text) is not None


def forms(value: bytes) -> set[str]:
    """The encodings of a secret that are looked for.

    Raw, base64 once and twice, base64url (all of them with or without padding, broken into lines, or as part of
    something that was encoded as a whole), hex, URL-quoted, JSON-escaped once and twice, HTML-escaped, Python's repr,
    and each line of a PEM; all of them also without the white space around it, which a file has and its reader drops.
    """
    values = {value, value.strip()}
    return {form for each in values for form in _forms(each) if len(form) >= SHORTEST}


def _forms(value: bytes) -> Iterator[str]:
    text = value.decode("utf-8", "replace")
    once = base64.b64encode(value)
    yield text
    for encoded in (once, base64.b64encode(once), base64.urlsafe_b64encode(value)):
        yield encoded.decode().rstrip("=")
    if "-----BEGIN" in text:
        yield from (line for line in text.splitlines() if not line.startswith("-----"))
    for ascii_only in (True, False):
        quoted = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield quoted
        yield json.dumps(quoted, ensure_ascii=ascii_only)[1:-1]
    if len(value) > _LARGE:
        return
    yield from (value.hex(), value.hex().upper(), repr(value)[2:-1])
    escaped = html.escape(text)
    # Python's own, pandas', and Jinja's, which makes the page of a notebook.
    yield from (
        escaped,
        html.escape(text, quote=False),
        escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    )
    percent = urllib.parse.quote(text, safe="")
    yield from (
        percent,
        re.sub("%..", lambda found: found[0].lower(), percent),
        urllib.parse.quote_plus(text),
    )
    yield from _within(value)
    for width in _WRAPS:
        if len(once) > width:
            yield from (once[i : i + width].decode() for i in range(0, len(once), width))


def _within(value: bytes) -> Iterator[str]:
    """What base64 makes of the value where one or two bytes come before it, without what depends on its neighbours."""
    for before in (1, 2):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * before + value).decode().rstrip("=")
            # The first characters hold bits of what is before, the last ones of what comes after.
            whole = (before + len(value)) // 3 * 4
            yield encoded[before + 1 : whole]
