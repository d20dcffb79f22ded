"""A verdict as people see it: a colour, a pattern of line, a sign and a word, so that no one of them is needed."""

from __future__ import annotations

from dataclasses import dataclass

from ..palette import MARKS, STYLES, Severity, Style


@dataclass(frozen=True)
class Verdict:
    """What is known of a datacenter, or of the way from one to another.

    Attributes:
        severity: `ok`, `warning`, `error`, or `skipped` (not looked at: never counts as proven).
        layer: the first layer that is not well, for example `gateway TLS`; empty: none, or not known.
        p50, p99: latency in milliseconds; None: not measured.
    """

    severity: Severity
    layer: str = ""
    p50: float | None = None
    p99: float | None = None

    @property
    def style(self) -> Style:
        return STYLES[self.severity]

    @property
    def mark(self) -> str:
        return MARKS[self.severity]

    @property
    def words(self) -> str:
        """
        >>> Verdict("error", "gateway TLS").words, Verdict("ok").words
        ('BROKEN: gateway TLS', 'ok')
        """
        return f"{self.style.word}: {self.layer}" if self.layer else self.style.word

    @property
    def latency(self) -> str:
        """
        >>> Verdict("ok", p50=3.14, p99=12.7).latency
        'p50 3.1 ms, p99 13 ms'
        """
        both = (("p50", self.p50), ("p99", self.p99))
        return ", ".join(f"{name} {milliseconds(value)} ms" for name, value in both if value is not None)

    @property
    def short_latency(self) -> str:
        """
        >>> Verdict("ok", p50=3.14, p99=12.7).short_latency, Verdict("ok", p50=3.14).short_latency
        ('3.1 / 13', '3.1 / ?')
        """
        both = ["?" if value is None else milliseconds(value) for value in (self.p50, self.p99)]
        return " / ".join(both) if self.latency else ""

    @property
    def line(self) -> str:
        """All of it in one line.

        >>> Verdict("warning", "clock", 3.0, 4.0).line
        'warning: clock (p50 3.0 ms, p99 4.0 ms)'
        """
        return f"{self.words} ({self.latency})" if self.latency else self.words


def verdict(given: Verdict | Severity | None) -> Verdict:
    """A verdict from what a caller has; of what nobody gave a verdict nothing is known."""
    if given is None:
        return Verdict("skipped")
    return given if isinstance(given, Verdict) else Verdict(given)


def milliseconds(value: float) -> str:
    """Two digits that count, and no more than one behind the point.

    >>> milliseconds(0.04), milliseconds(3.14), milliseconds(212.6)
    ('0.0', '3.1', '213')
    """
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
