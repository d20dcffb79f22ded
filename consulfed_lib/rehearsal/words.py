"""What a rehearsal says of each parameter: imitated as it is, replaced by something else, or not imitated at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..results import Table

IMITATED, REPLACED, NOT_IMITATED = HOWS = ("imitated", "replaced", "not imitated")
"""As the user's file has it; something else stands for it; it has no part in the rehearsal."""


@dataclass(frozen=True)
class Row:
    """One parameter, or one thing of the real world."""

    parameter: str
    how: str
    what: str

    @classmethod
    def imitated(cls, parameter: str, what: str) -> Row:
        return cls(parameter, IMITATED, what)

    @classmethod
    def replaced(cls, parameter: str, what: str) -> Row:
        return cls(parameter, REPLACED, what)

    @classmethod
    def left_out(cls, parameter: str, what: str) -> Row:
        return cls(parameter, NOT_IMITATED, what)


class Imitated(Table):
    """What of the parameters is imitated, and what is not: in this order, each row once."""

    kind = "imitation"
    columns = ("parameter", "how", "what")

    def __init__(self, title: str, rows: Iterable[Row] = ()):
        super().__init__(title, sorted(dict.fromkeys(rows), key=lambda row: HOWS.index(row.how)))

    def summary(self) -> str:
        counts = Counter(row.how for row in self.rows)
        return ", ".join(f"{counts[how]} {how}" for how in HOWS if counts[how])

    def differs(self) -> Imitated:
        """Only what is not imitated as it is."""
        return Imitated("What was otherwise than with you", [row for row in self.rows if row.how != IMITATED])
