"""Nothing secret leaves: values are registered when they are read, and scrubbed from every channel of the kernel.

`Secret` keeps a value from showing by accident (repr, format, tables); `install` is the net under it: everything
that a Jupyter kernel sends (streams, displays, tracebacks, widgets) passes through `Session.send`, which is
wrapped. ipykernel's own hooks do not cover stdout and stderr (they are thread-local).
"""

from __future__ import annotations

import base64
import hmac
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

REDACTED = "‹redacted›"
_known: set[str] = set()
_SHORTEST = 8


class Secret:
    """A secret value. It shows its name and size, never itself; `reveal()` gives the bytes to who sends them on."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: bytes):
        self.name = name
        self._value = value
        register(value)

    def reveal(self) -> bytes:
        return self._value

    def text(self) -> str:
        return self._value.decode("utf-8", "replace").strip()

    def fingerprint(self, key: bytes) -> str:
        """Twelve hex digits of an HMAC: equal for equal values, useless to who lacks the key."""
        return hmac.new(key, self._value, sha256).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self._value)} bytes, redacted>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self.name} is secret and cannot be pickled")


def register(value: bytes) -> None:
    """Remember a secret value, in every form in which it may turn up."""
    _known.update(forms(value))


def forms(value: bytes) -> set[str]:
    """The encodings of a secret that are looked for: raw, base64 once and twice, base64url (all of them with or
    without padding), hex, URL-quoted, JSON-escaped, and each line of a PEM."""
    text = value.decode("utf-8", "replace")
    once = base64.b64encode(value)
    encoded = (once, base64.b64encode(once), base64.urlsafe_b64encode(value))
    found = {
        text,
        text.strip(),
        *(each.decode().rstrip("=") for each in encoded),
        value.hex(),
        urllib.parse.quote(text, safe=""),
        *(json.dumps(text, ensure_ascii=escaped)[1:-1] for escaped in (True, False)),
    }
    if "-----BEGIN" in text:
        found |= {line for line in text.splitlines() if not line.startswith("-----")}
    return {form for form in found if len(form) >= _SHORTEST}


def scrub(value: Any) -> Any:
    """The same data with every registered secret replaced, as lists and dictionaries where it is made of others.

    The longest forms go first, so that no part of one is left standing; the copy is for other threads, which may
    register a secret meanwhile.
    """
    return _scrubbed(value, sorted(_known, key=len, reverse=True))


def _scrubbed(value: Any, known: list[str]) -> Any:
    if isinstance(value, str):
        for form in known:
            if form in value:
                value = value.replace(form, REDACTED)
        return value
    if isinstance(value, bytes | bytearray):  # Jupyter would send it on as base64
        text = value.decode("utf-8", "replace")
        return _scrubbed(text, known) if any(form in text for form in known) else value
    if isinstance(value, Mapping):
        return {_scrubbed(key, known): _scrubbed(item, known) for key, item in value.items()}
    if isinstance(value, Iterable):
        items = [_scrubbed(item, known) for item in value]
        return tuple(items) if type(value) is tuple else items
    return value


def leaks(text: str, secrets: Iterable[str] | None = None) -> int:
    """How many registered secrets (or the given forms) stand in a text."""
    return sum(form in text for form in (tuple(_known) if secrets is None else secrets))


def install() -> bool:
    """Wrap the kernel's outgoing messages; once. False where there is no kernel (a script, a test)."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    session = getattr(getattr(get_ipython(), "kernel", None), "session", None)
    if session is None:
        return False
    if getattr(session.send, "scrubs", False):
        return True
    send = session.send

    def scrubbing(stream: Any, message: Any, content: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(message, dict) and "content" in message:
            message = {**message, "content": scrub(message["content"])}
        return send(stream, message, scrub(content), *args, **kwargs)

    scrubbing.__dict__["scrubs"] = True
    session.send = scrubbing
    return True
