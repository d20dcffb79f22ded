"""SIGTERM ends what is going on as Ctrl-C does, for as long as that lasts, and where it is ours to say so."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from consulfed_lib.interrupts import terminate_as_interrupt


def test_a_signal_means_an_interrupt_for_a_while_only():
    """Afterwards it means again what it meant before: a program that executes notebooks has its own idea of it."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_signals_are_left_alone():
    """Python lets nobody else handle them; a run has its own way."""
    seen = []

    def work() -> None:
        with terminate_as_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
