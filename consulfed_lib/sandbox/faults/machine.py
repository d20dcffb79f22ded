"""Faults by the sandbox's own processes."""

from __future__ import annotations

from .fault import Fault

FAULTS: tuple[Fault, ...] = ()
