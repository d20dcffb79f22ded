"""Whether a person is there who looks on. It changes what is shown, never what is done."""

from __future__ import annotations

_there = False


def interactive(mode: str) -> bool:
    """What the parameter `mode` says; with `auto`, whether the front end takes input."""
    if mode != "auto":
        return mode == "interactive"
    try:
        from IPython import get_ipython

        return bool(get_ipython().get_parent()["content"]["allow_stdin"])
    except (ImportError, AttributeError, KeyError, TypeError):
        return False


def note(there: bool) -> None:
    """Remember it for everything that this process shows; a notebook's first step says it."""
    global _there
    _there = there


def somebody() -> bool:
    """Whether what is shown now is looked at while it happens."""
    return _there
