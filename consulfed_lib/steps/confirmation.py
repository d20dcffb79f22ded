"""Before anything is written, a person who is there types the name of what it is written to.

The cell waits for the answer, so that "Run all" does, too; an interrupt ends the wait; and what is confirmed then runs
in the cell itself, where an interrupt reaches it. Callbacks of widgets run elsewhere: they only bring the answer.
"""

from __future__ import annotations

from ..errors import ApprovalError
from ..presence import interactive
from ..results import now
from . import panel

AGAIN = "run this cell again, and type the name as it stands there"
NOBODY = (
    "The parameters say that somebody is there (mode: interactive), but nobody can be asked to confirm what would be"
    " done; nothing was written."
)


def ask(name: str) -> None:
    """Returns when the name was typed. Raises ApprovalError where something else was, or nobody can answer."""
    confirmed = panel.Panel(name).ask() if panel.possible() and _takes_input() else None
    if confirmed is None:
        _ask_in_a_line(name)
    elif not confirmed:
        raise ApprovalError(f"It was not confirmed for {name}; nothing was written.", AGAIN)


def _ask_in_a_line(name: str) -> None:
    """By the kernel's own input, which every front end has that takes any."""
    try:
        typed = input(f"Type {name} and press Enter to apply this; anything else applies nothing: ").strip()
    except (EOFError, NotImplementedError, OSError):  # no terminal; a front end that takes no input
        raise ApprovalError(
            NOBODY, "mode: auto asks where a person can answer; mode: headless never"
        ) from None
    if typed != name:
        said = f"What was typed is not {name}" if typed else f"Nothing was typed instead of {name}"
        raise ApprovalError(f"{said}; nothing was written.", AGAIN)
    print(f"{name} was typed at {now()}: applying.")


def _takes_input() -> bool:
    """A front end without input is nobody: papermill, which would keep the panel in the record."""
    return interactive("auto")
