"""A part of a step is what one cell runs. Each may be run again, in any order, after whatever ended it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from .. import waiting
from ..errors import Interrupted
from ..results import Change, count
from ..show import display

if TYPE_CHECKING:
    from .base import Step

Made = TypeVar("Made")
Of = TypeVar("Of", bound="Step")


def part(method: Callable[[Of], Made]) -> Callable[[Of], Made]:
    """Declare a method that a cell calls: its waits are shown together, and an interrupt ends it in three lines."""

    @wraps(method)
    def run(step: Of) -> Made:
        with _running(step, method.__name__):
            return method(step)

    return run


@contextmanager
def _running(step: Step, name: str) -> Iterator[None]:
    """One that another one runs is a part of that."""
    if step.running:
        yield
        return
    step.running, step.doing = name, ""
    step.done.clear()
    try:
        with waiting.teller().part(f"{name.capitalize()} of {step.subject}"):
            yield
    except KeyboardInterrupt:
        if not step.in_notebook:
            raise
        raise interrupted(step) from None
    finally:
        step.running = ""


def settle(value: Any) -> None:
    """Show what came of a part; a picture takes the place of the one drawn meanwhile, which says less by now."""
    if not waiting.teller().settle(value):
        display(value)


def interrupted(step: Step) -> Interrupted:
    """What was done when a person stopped it, and how it goes on."""
    if not step.done:
        so_far = "nothing was changed by this cell"
    else:
        so_far = f"done so far: {count({'outcome': row.outcome} for row in step.done)} ({_names(step.done)})"
    return Interrupted(
        f"{step.running.capitalize()} of {step.notebook} ({step.subject}) was interrupted.",
        "run the same again: it looks at the world anew, leaves alone what is done, and goes on",
        [f"{so_far}{'; ' + step.doing + ' was begun and is not finished' if step.doing else ''}"],
    )


def _names(rows: list[Change]) -> str:
    return ", ".join(row.id for row in rows)


def forget(step: Step) -> None:
    """What a step has computed from the world as it was; it is looked at again."""
    for kind in type(step).__mro__:
        for name, value in vars(kind).items():
            if isinstance(value, cached_property):
                vars(step).pop(name, None)
