"""One way to write a value as JSON, and a digest over it: the same bytes on every machine for the same value."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, without white space, in UTF-8.

    Raises ValueError for a number that JSON has no word for (NaN, infinity), TypeError for what is no JSON at all.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    """`sha256:<64 hex digits>` of the value's canonical form.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"
