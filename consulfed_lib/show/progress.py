"""What a cell waits for, shown while it waits: one display that is written anew, and stays as it was in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Literal
from uuid import uuid4

from ..durations import Durations
from ..palette import MARKS
from ..tables import Table
from .svg import Picture

_TICK = 1.0
"""Seconds between two times that people read off it."""

_SIGNS = {"waiting": "…", "ready": MARKS["ok"], "stopped": MARKS["error"]}


class Waiting:
    """One wait, as it is seen now; it stands in a row of its own. What it knows it was told: it looks at nothing."""

    def __init__(self, what: str, timeout: float, usual: float | None, told: Callable[[Waiting, bool], None],
                 clock: Callable[[], float]):  # fmt: skip
        self.what = what
        self.state = ""
        self.progress: Literal["waiting", "ready", "stopped"] = "waiting"
        self._timeout, self._usual, self._told, self._clock = timeout, usual, told, clock
        self.took = 0.0
        self._began = clock()

    def saw(self, state: str, elapsed: float) -> None:
        if state != self.state:
            self.state = state
            self._told(self, False)

    def done(self, state: str, elapsed: float) -> None:
        self._end("ready", state, elapsed)

    def gave_up(self) -> None:
        self._end("stopped", self.state, self._clock() - self._began)

    def _end(self, how: Literal["ready", "stopped"], state: str, took: float) -> None:
        waited = bool(self.state)
        self.progress, self.state, self.took = how, state, took
        if waited:  # what was so at the first look needs no row
            self._told(self, True)

    # The columns

    @property
    def now(self) -> str:
        return f"{_SIGNS[self.progress]} {self.progress}"

    @property
    def seen(self) -> str:
        return self.state

    @property
    def time(self) -> str:
        if self.progress == "waiting":
            elapsed = self._clock() - self._began
            return f"{elapsed:.0f} s so far, deadline in {max(0.0, self._timeout - elapsed):.0f} s"
        return f"{self.took:.1f} s"

    @property
    def usually(self) -> str:
        return "not known yet" if self._usual is None else f"{self._usual:.1f} s"


class _Rows(Table):
    kind = "progress"
    columns = ("what", "now", "seen", "time", "usually")

    def summary(self) -> str:
        waiting = sum(row.progress == "waiting" for row in self.rows)
        stopped = ", ".join(dict.fromkeys(row.what for row in self.rows if row.progress == "stopped"))
        said = [f"{waiting} of {len(self.rows)} still waited for"] if waiting else []
        said += [f"stopped waiting for {stopped}"] if stopped else []
        return "; ".join(said) or "nothing is waited for"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For people only: what a machine should know of it is in the changes."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Progress:
    """Tells of the waits of a cell (a `waiting.Teller`) where somebody is there.

    Args:
        durations: what the waits took before; hears what they take.
        picture: draws what the waits have seen so far (what is waited for → the state seen last); None where
            there is nothing to draw.
        update: shows an object under a name, in place of what was shown under it before.
    """

    def __init__(
        self,
        durations: Durations,
        picture: Callable[[Mapping[str, str]], Picture | None] = lambda seen: None,
        update: Callable[[Any, str, bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._durations, self._picture, self._clock = durations, picture, clock
        self._update = update or _update
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._begin("")

    def _begin(self, title: str) -> None:
        self._title, self._rows = title, list[Waiting]()
        # A thread knows no cell; the kernel would show what it displays under the message that came last.
        self._cell = copy_context()
        self._shown: dict[str, str] = {}
        self._drawn = ""

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """While one part of a step runs: its waits are shown together, below what the cell has shown before."""
        self._begin(title)
        self._over.clear()
        ticking = threading.Thread(target=self._tick, name="progress", daemon=True)
        ticking.start()
        try:
            yield
        finally:
            self._over.set()
            ticking.join()
            with self._lock:
                if self._rows:
                    self._show_rows()

    def begin(self, what: str, timeout: float) -> Waiting:
        return Waiting(what, timeout, self._durations.usual(what), self._told, self._clock)

    def _told(self, row: Waiting, ended: bool) -> None:
        with self._lock:
            if row not in self._rows:
                self._rows.append(row)
            if row.progress == "ready":
                self._durations.note(row.what, row.took)
            self._show_rows()
            self._draw()

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock:
                if any(row.progress == "waiting" for row in self._rows):
                    self._show_rows()

    def _show_rows(self) -> None:
        self._show(_Rows(self._title, self._rows), "rows")

    def _draw(self) -> None:
        """At changes only."""
        drawing = self._picture({row.what: row.state for row in self._rows})
        if drawing is not None and repr(drawing) != self._drawn:
            self._drawn = repr(drawing)
            self._show(drawing, "picture")

    def settle(self, value: Any) -> bool:
        with self._lock:
            drawn = "picture" in self._shown and isinstance(value, Picture)
            if drawn:
                self._drawn = repr(value)
                self._show(value, "picture")
            return drawn

    def _show(self, value: Any, kind: str) -> None:
        again = kind in self._shown
        name = self._shown.setdefault(kind, f"consulfed-{kind}-{uuid4().hex[:8]}")
        self._cell.copy().run(self._update, value, name, again)


def _update(value: Any, name: str, again: bool) -> None:
    from IPython.display import display

    display(value, display_id=name, update=again)
