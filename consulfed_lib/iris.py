"""No checker of IRIs: jsonschema, which nbformat loads, would compile a grammar for it for more than a second."""

from __future__ import annotations

import sys
from typing import Any, cast


def leave_out() -> None:
    """Call it before nbformat, papermill or nbconvert are imported; what they look at holds no IRI."""
    sys.modules.setdefault("rfc3987_syntax", cast(Any, None))
