"""Being told to end: every way of it ends what is going on in good order, with finished files and nothing left up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a cancelled pipeline, an evicted pod) is a KeyboardInterrupt here, as Ctrl-C is.

    Only the main thread may say what a signal does: in another one that is its caller's to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
