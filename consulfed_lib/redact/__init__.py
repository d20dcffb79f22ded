"""Nothing secret leaves: values are registered when they are read, and scrubbed from every channel.

`Secret` keeps a value from showing by accident (repr, format, tables). Under it lies a net: everything that a Jupyter
kernel sends passes through `kernel`, which is told by `register` what to hold back; `channel` tells the runner the
same, so that it can look once more, and look through what it keeps; `forms` are the encodings that are looked for.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from .finder import Finder
from .forms import SHORTEST, forms, shaped

__all__ = [
    "REDACTED", "SHORTEST", "Secret", "betrays", "finder", "forms", "install", "known", "leaks", "register", "scrub",
    "texts",
]  # fmt: skip

REDACTED = "‹redacted›"
_known: set[str] = set()
_values: set[bytes] = set()
_lock = threading.Lock()
_finder: tuple[set[str], int, Finder] = (_known, 0, Finder())


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


def finder() -> Finder:
    """What finds every form of every secret that is registered by now."""
    global _finder
    owner, size, found = _finder
    if owner is not _known or size != len(_known):
        with _lock:
            found = Finder(_known)
            _finder = (_known, len(_known), found)
    return found


def scrub(value: Any) -> Any:
    """The same data with every registered secret replaced, as lists and dictionaries where it is made of others."""
    find = finder()
    return _scrubbed(value, find) if find else value


def _scrubbed(value: Any, find: Finder) -> Any:
    if isinstance(value, str):
        return find.replace(value, REDACTED)
    if isinstance(value, bytes | bytearray):  # Jupyter would send it on as base64
        text = value.decode("utf-8", "replace")
        return find.replace(text, REDACTED) if find.spans(text) else value
    if isinstance(value, Mapping):
        return {_scrubbed(key, find): _scrubbed(item, find) for key, item in value.items()}
    if isinstance(value, Iterable):
        items = [_scrubbed(item, find) for item in value]
        return tuple(items) if type(value) is tuple else items
    return value


def leaks(text: str, secrets: Iterable[str] | None = None) -> int:
    """How many registered secrets (or the given forms) stand in a text."""
    if secrets is None:
        return len({form for _, form in finder().matches(text)})
    return sum(form in text for form in secrets)


def betrays(text: str) -> bool:
    """Whether a text may not be kept: it holds a registered secret, or what has the shape of a private key."""
    return shaped(text) or any(True for _ in finder().matches(text))


def texts(data: Any) -> Iterator[str]:
    """Each text in JSON data, as it is: in a file JSON's own escapes stand in it, and hide what is escaped already."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for key, item in data.items():
            yield key
            yield from texts(item)
    elif isinstance(data, list):
        for item in data:
            yield from texts(item)


def install() -> bool:
    """Guard what this process sends, if it is a Jupyter kernel; once. False where there is no kernel."""
    from . import kernel

    return kernel.install()
