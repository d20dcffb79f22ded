"""How long the ways between datacenters take, beside what they took in the run before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..results import Table

_TELLING = 1.0
"""Milliseconds of which a share is one of something: 0.2 ms may be 0.4 ms the next time, and nothing has changed."""

What = Literal["gateway handshake", "RPC", "gossip round trip"]


@dataclass(frozen=True)
class Latency:
    """What one ordered pair took.

    Attributes:
        pair: `dc1 → dc2`.
        what: the TLS handshake through the gateway; a request that Consul forwards to the other datacenter; or the
            round trip that gossip's network coordinates estimate.
        n: how many were measured: handshakes are fewer where there are many ways.
        p50, p99: in milliseconds; None: not measured.
        previous_p50, previous_p99: those of the run before; None: there is none.
        change: what became of both, in words.
    """

    pair: str
    what: What
    n: int
    p50: float | None
    p99: float | None
    previous_p50: float | None = None
    previous_p99: float | None = None
    change: str = field(init=False)

    def __post_init__(self) -> None:
        both = (("p50", self.previous_p50, self.p50), ("p99", self.previous_p99, self.p99))
        said = [
            f"{name} {_change(before, now)}"
            for name, before, now in both
            if before is not None and now is not None
        ]
        object.__setattr__(self, "change", ", ".join(said))


def _change(before: float, now: float) -> str:
    """
    >>> _change(10.0, 12.5), _change(10.0, 10.2), _change(0.3, 0.6), _change(0.2, 9.1)
    ('+2.5 ms (+25 %)', 'same', '+0.3 ms', '+8.9 ms')
    """
    by = now - before
    if abs(by) < 0.05 or (before and abs(by) / before < 0.05):
        return "same"
    share = f" ({by / before:+.0%})".replace("%", " %") if before >= _TELLING else ""
    return f"{by:+.1f} ms{share}".replace("-", "−")


class Latencies(Table):
    """Latencies in milliseconds, the slowest at its p99 first. Less than 5 % of a change is called the same."""

    kind = "latencies"
    columns = ("pair", "what", "n", "p50", "p99", "previous_p50", "previous_p99", "change")
    headings: Mapping[str, str] = {"previous_p50": "p50 before", "previous_p99": "p99 before"}

    def __init__(self, rows: Iterable[Latency] = (), title: str = "Latencies in ms"):
        super().__init__(title, sorted(rows, key=lambda r: (r.p99 is None, -(r.p99 or 0.0), r.pair, r.what)))

    def summary(self) -> str:
        measured = sum(row.p50 is not None for row in self.rows)
        return f"{measured} of {len(self.rows)} measured" if self.rows else "nothing was measured"

    def _shown(self) -> list[str]:
        """Without those of a previous run where there was none."""
        before = any(row.previous_p50 is not None or row.previous_p99 is not None for row in self.rows)
        return [c for c in self.columns if before or not (c.startswith("previous") or c == "change")]

    def _cell(self, row: Any, column: str) -> str:
        value = getattr(row, column)
        if value is None:
            return "–" if column.startswith("previous") else "not measured"
        if column == "change":
            return value or "not comparable"
        return f"{value:.1f}" if isinstance(value, float) else str(value)
