"""Nothing secret leaves: values are registered when they are read, and scrubbed from every channel.

`Secret` keeps a value from showing by accident (repr, format, tables). Under it lies a net: everything that a Jupyter
kernel sends passes through `kernel`, which is told by `register` what to hold back; `channel` tells the runner the
same, so that it can look once more, and look through what it keeps; `forms` are the encodings that are looked for.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from .forms import SHORTEST, forms, shaped

__all__ = [
    "REDACTED", "SHORTEST", "Secret", "betrays", "forms", "install", "known", "leaks", "longest_first", "register",
    "scrub",
]  # fmt: skip

REDACTED = "‹redacted›"
_known: set[str] = set()
_values: set[bytes] = set()
_lock = threading.Lock()
_ordered: tuple[set[str], int, tuple[str, ...]] = (_known, 0, ())


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
    """Remember a secret value, in every form in which it may turn up; the runner, where there is one, hears of it.

    Values shorter than SHORTEST are left alone.
    """
    if len(value) < SHORTEST:
        return
    with _lock:
        if value in _values:
            return
        _values.add(value)
        _known.update(forms(value))
    from . import channel

    channel.tell(value)


def known() -> tuple[int, int]:
    """(how many secret values are known here, in how many forms they are looked for)."""
    return len(_values), len(_known)


def longest_first() -> tuple[str, ...]:
    """Every form that is looked for; the longest first, so that no part of one is left standing."""
    global _ordered
    owner, size, ordered = _ordered
    if owner is not _known or size != len(_known):
        with _lock:
            ordered = tuple(sorted(_known, key=len, reverse=True))
            _ordered = (_known, len(_known), ordered)
    return ordered


def scrub(value: Any) -> Any:
    """The same data with every registered secret replaced, as lists and dictionaries where it is made of others."""
    ordered = longest_first()
    return value if _is_clean(value, ordered) else _scrubbed(value, ordered)


def _is_clean(value: Any, ordered: tuple[str, ...]) -> bool:
    """Whether one look is enough: plain JSON, as a text, without any of the forms (of which some are JSON's own)."""
    if isinstance(value, str):
        return not any(form in value for form in ordered)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return not any(form in text for form in ordered)


def _scrubbed(value: Any, ordered: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        for form in ordered:
            if form in value:
                value = value.replace(form, REDACTED)
        return value
    if isinstance(value, bytes | bytearray):  # Jupyter would send it on as base64
        text = value.decode("utf-8", "replace")
        return _scrubbed(text, ordered) if any(form in text for form in ordered) else value
    if isinstance(value, Mapping):
        return {_scrubbed(key, ordered): _scrubbed(item, ordered) for key, item in value.items()}
    if isinstance(value, Iterable):
        items = [_scrubbed(item, ordered) for item in value]
        return tuple(items) if type(value) is tuple else items
    return value


def leaks(text: str, secrets: Iterable[str] | None = None) -> int:
    """How many registered secrets (or the given forms) stand in a text."""
    return sum(form in text for form in (longest_first() if secrets is None else secrets))


def betrays(text: str) -> bool:
    """Whether a text may not be kept: it holds a registered secret, or what has the shape of a private key."""
    return shaped(text) or any(form in text for form in longest_first())


def install() -> bool:
    """Guard what this process sends, if it is a Jupyter kernel; once. False where there is no kernel."""
    from . import kernel

    return kernel.install()
