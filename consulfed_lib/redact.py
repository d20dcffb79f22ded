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
from collections.abc import Iterable
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
    """The encodings of a secret that are looked for: raw, base64 once and twice, base64url, hex, URL-quoted,
    JSON-escaped, and each line of a PEM."""
    text = value.decode("utf-8", "replace")
    once = base64.b64encode(value)
    found = {
        text,
        text.strip(),
        once.decode(),
        base64.b64encode(once).decode(),
        base64.urlsafe_b64encode(value).decode(),
        value.hex(),
        urllib.parse.quote(text, safe=""),
        json.dumps(text)[1:-1],
    }
    if "-----BEGIN" in text:
        found |= {line for line in text.splitlines() if not line.startswith("-----")}
    return {form for form in found if len(form) >= _SHORTEST}


def scrub(value: Any) -> Any:
    """The same structure with every registered secret replaced; containers are copied, the rest is passed on."""
    if isinstance(value, str):
        for form in _known:
            if form in value:
                value = value.replace(form, REDACTED)
        return value
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(scrub(item) for item in value) if type(value) in (list, tuple) else value
    return value


def leaks(text: str, secrets: Iterable[str] | None = None) -> int:
    """How many registered secrets (or the given forms) stand in a text."""
    return sum(form in text for form in (_known if secrets is None else secrets))


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
