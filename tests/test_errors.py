"""The error tree: what the docstring draws is what the classes are."""

from __future__ import annotations

import inspect
import re

import pytest

from consulfed_lib import errors
from consulfed_lib.errors import ApplyError, ClusterError, ConsulfedError, ParamsError, WaitTimeoutError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, ConsulfedError)
}
DRAWN = re.compile(
    r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)   ?(?P<text>\S.*)$", re.MULTILINE
)


def drawn() -> dict[str, tuple[int, int]]:
    """Class → (depth in the drawing, exit code)."""
    found = DRAWN.finditer(errors.__doc__ or "")
    return {match["name"]: (len(match["branch"]) // 4, int(match["code"])) for match in found}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    """A reader of the docstring sees every class, where it hangs, and its exit code."""
    assert {name: code for name, (_, code) in drawn().items()} == {
        name: each.exit_code for name, each in CLASSES.items()
    }
    depths = {name: len(each.__mro__) - len(ConsulfedError.__mro__) for name, each in CLASSES.items()}
    assert {name: depth for name, (depth, _) in drawn().items()} == depths


def test_a_child_is_drawn_under_its_parent():
    """Depth alone does not say whose child it is."""
    parents: list[str] = []
    for name, (depth, _) in drawn().items():
        parents[depth:] = [name]
        if depth:
            assert CLASSES[name].__base__ is CLASSES[parents[depth - 1]]


def test_exit_codes_are_unique_and_can_be_told_from_success_and_from_click():
    """A pipeline goes by the code alone; 0 is success and 2 is what click gives for a wrong command line."""
    codes = [each.exit_code for each in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 and code != 2 for code in codes)


def test_every_class_says_what_it_means():
    """The docstring is the documentation of the exit code."""
    assert all(
        each.__doc__ and each.__doc__ is not ConsulfedError.__doc__
        for name, each in CLASSES.items()
        if each is not ConsulfedError
    )


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_a_message_is_cause_then_details_then_remedy(kind):
    """One shape for all of them: a person finds the cause first and the remedy last."""
    text = str(kind("The door is shut.", "open it", ["the key is lost", "the lock is old"]))
    assert text.splitlines() == [
        "The door is shut.",
        "  - the key is lost",
        "  - the lock is old",
        "What to do: open it",
    ]


def test_a_message_without_remedy_has_no_empty_line_for_it():
    """What is not known is not said."""
    assert str(ParamsError("It is so.")) == "It is so."


def test_a_notebook_shows_the_message_instead_of_a_traceback():
    """IPython shows what `_render_traceback_` gives, and papermill logs it: class and message, no source line."""
    assert ApplyError("It stopped.", "go on")._render_traceback_() == [
        "ApplyError: It stopped.\nWhat to do: go on"
    ]


def test_a_deadline_that_passed_is_an_apply_error():
    """Who catches that a change did not end means this too."""
    assert issubclass(WaitTimeoutError, ApplyError)


def test_a_cluster_error_carries_the_status_of_the_answer():
    """None when there was no answer at all."""
    assert ClusterError("Refused.", status=403).status == 403
    assert ClusterError("No answer.").status is None
