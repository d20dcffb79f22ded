"""A field, and a button that applies: what a person confirms with in JupyterLab, while the cell waits for it.

A kernel handles one message after another, so that a button's click would wait for the end of the cell that waits for
the click. JupyterLab (from 4.4 on) therefore sends the messages of widgets to a subshell, a thread of the kernel
(ipykernel from 7 on). Whether it does is tried before anybody is asked: a widget that sends by itself must be heard.
"""

from __future__ import annotations

import html
import threading
from typing import Any
from uuid import uuid4

from ..palette import PAPER, STYLES, badge
from ..results import now

_TRIES = (0.4, 0.8, 1.2)
"""Seconds that a front end has to draw a widget, in each try to be heard; after that, the kernel's input asks."""
_ANSWER = 0.4
"""Seconds that its message then has."""


def possible() -> bool:
    """Whether this kernel has subshells at all."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_supports_kernel_subshells", False))


class Panel:
    """Asks once. What a front end sends is handled by a thread of its own; the cell's own thread only waits.

    Args:
        name: what has to be typed.
    """

    def __init__(self, name: str):
        self._name = name
        self._heard, self._decided = threading.Event(), threading.Event()
        self._confirmed = False
        self._widgets: list[Any] = []
        self._shown_as = f"consulfed-confirm-{uuid4().hex[:8]}"

    def ask(self) -> bool | None:
        """Whether the name was typed and applying confirmed; None where the front end is not heard while a cell runs.
        An interrupt ends it, and nothing is confirmed by that."""
        said = ""
        try:
            if not self._is_heard():
                return None
            said = "Apply: not answered; nothing was written."
            self._show(self._form(), again=True)
            self._decided.wait()
            words = f"{self._name} was typed" if self._confirmed else "cancelled; nothing was written"
            said = f"Apply: {words} ({now()})."
            return self._confirmed
        finally:
            # Saved is what came of it, and no widget, which nobody could use in a file.
            page = f'<p class="consulfed-confirmed">{html.escape(said)}</p>' if said else ""
            self._show({"text/plain": said, "text/html": page}, again=True, raw=True)
            for widget in self._widgets:
                widget.close()

    def _is_heard(self) -> bool:
        """Whether a widget that nobody sees, and that sends by itself when it is told to play, is heard. Each try has
        one of its own: a message that went astray keeps a widget from sending another."""
        import ipywidgets

        for drawn in _TRIES:
            pulse = ipywidgets.Play(interval=50, layout={"display": "none"})
            pulse.observe(self._hear, "value")
            self._open(pulse)
            self._show(pulse, again=len(self._widgets) > 1)
            if not self._heard.wait(drawn):  # until it is drawn, and the front end has its subshell
                pulse.playing = True
                _answered_where_it_comes_from(pulse)
            if self._heard.wait(_ANSWER):
                return True
        return False

    def _form(self) -> Any:
        import ipywidgets

        label = {"description": f"Type {self._name} to apply:", "style": {"description_width": "initial"}}
        self._field = ipywidgets.Text(**label)
        self._said = ipywidgets.HTML()
        # Not `button_style="danger"`: in JupyterLab's dark theme, that is dark text on red.
        red = {"button_color": STYLES["error"].colour, "text_color": PAPER}
        apply = ipywidgets.Button(description="Apply", style=red, tooltip=f"Apply to {self._name}")
        cancel = ipywidgets.Button(description="Cancel", tooltip="Write nothing")
        apply.on_click(self._try)
        cancel.on_click(self._give_up)
        row = ipywidgets.HBox([self._field, apply, cancel])
        form = ipywidgets.VBox([row, self._said])
        for widget, kind in ((self._field, "name"), (apply, "apply"), (cancel, "cancel"), (form, "confirm")):
            widget.add_class(f"consulfed-{kind}")
        self._open(self._field, apply, cancel, self._said, row, form)
        return form

    def _open(self, *widgets: Any) -> None:
        self._widgets += widgets
        for widget in widgets:
            _answered_where_it_comes_from(widget)

    def _show(self, value: Any, again: bool = False, raw: bool = False) -> None:
        from IPython.display import display

        display(value, display_id=self._shown_as, update=again, raw=raw)

    # -- in the thread of the front end's messages --------------------------------------------------------------

    def _hear(self, change: Any) -> None:
        self._heard.set()

    def _try(self, button: Any) -> None:
        if self._field.value.strip() == self._name:
            self._confirmed = True
            self._decided.set()
        else:
            words = f"What was typed is not {html.escape(self._name)}: nothing was written."
            self._said.value = f'<span role="alert">{badge("error", f"✘ {words}")}</span>'

    def _give_up(self, button: Any) -> None:
        self._decided.set()


def _answered_where_it_comes_from(widget: Any) -> None:
    """ipykernel 7.4 sends what a front end says of a widget to the thread that said something of it last: to this one,
    which waits. Without a note of that, it goes to where the front end sends it."""
    vars(widget.comm).pop("_reply_subshell_id", None)
