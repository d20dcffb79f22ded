"""Before anything is written, a person who is there types the name of what it is written to.

The answer comes through the kernel's own input: the cell waits for it, so that "Run all" does, too; an interrupt ends
the wait; and what is confirmed then runs in the cell itself, where an interrupt reaches it.
"""

from __future__ import annotations

from ..errors import ApprovalError
from ..results import now


def ask(name: str) -> None:
    """Returns when the name was typed. Raises ApprovalError where something else was, or nobody can answer."""
    typed = answer(f"Type {name} and press Enter to apply this; anything else applies nothing: ")
    if typed != name:
        raise ApprovalError(
            f"{'What' if typed else 'Nothing'} was typed {'is not' if typed else 'instead of'} {name}; nothing was"
            " written.",
            "run this cell again, and type the name as it stands there",
        )
    print(f"{name} was typed at {now()}: applying.")


def answer(question: str) -> str:
    """What a person answers, without the spaces around it. Raises ApprovalError where nobody can be asked."""
    try:
        return input(question).strip()
    except (EOFError, NotImplementedError, OSError):  # no terminal; a front end that takes no input
        raise ApprovalError(
            "The parameters say that somebody is there (mode: interactive), but nobody can be asked to confirm what"
            " would be done; nothing was written.",
            "mode: auto asks where a person can answer; mode: headless never asks",
        ) from None
