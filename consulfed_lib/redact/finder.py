"""Looking for many texts in another one, at once: it takes about as long for thousands of them as for one.

Every message of a kernel is looked through for every form of every secret; one search after the other took
milliseconds a line. All of them are looked up by how they begin instead, at each place of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .forms import SHORTEST


class Finder:
    """Finds the texts that it was made for, of which none is shorter than SHORTEST."""

    def __init__(self, wanted: Iterable[str] = ()):
        self._by_head: dict[str, list[str]] = {}
        for each in sorted(wanted, key=len, reverse=True):
            self._by_head.setdefault(each[:SHORTEST], []).append(each)
        self._short_beginnings = {head[:size] for head in self._by_head for size in range(1, SHORTEST)}
        self._longest = max((len(first) for first, *_ in self._by_head.values()), default=0)

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._by_head)

    def matches(self, text: str) -> Iterator[tuple[int, str]]:
        """Each place where one stands, in order, and which it is; the longest first where several begin."""
        by_head = self._by_head
        if not by_head:
            return
        places = range(len(text) - SHORTEST + 1)
        for at in [at for at in places if text[at : at + SHORTEST] in by_head]:
            for each in by_head[text[at : at + SHORTEST]]:
                if text.startswith(each, at):
                    yield at, each

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(begin, end) of what they cover, in order; those that overlap are one."""
        spans: list[tuple[int, int]] = []
        for at, each in self.matches(text):
            end = at + len(each)
            if spans and at < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((at, end))
        return spans

    def replace(self, text: str, by: str) -> str:
        """The text with `by` in place of each; the same object where there is none."""
        spans = self.spans(text)
        if not spans:
            return text
        begins, ends = zip(*spans, strict=True)
        clean = (text[end:begin] for end, begin in zip((0, *ends), (*begins, len(text)), strict=True))
        return by.join(clean)

    def beginning(self, text: str) -> str:
        """The longest end of a text with which one of them begins without being whole; empty if there is none."""
        size = len(text)
        for at in range(max(0, size - self._longest + 1), size - SHORTEST + 1):
            end = text[at:]
            if any(each.startswith(end) and each != end for each in self._by_head.get(end[:SHORTEST], ())):
                return end
        for length in range(min(SHORTEST - 1, size), 0, -1):
            if text[-length:] in self._short_beginnings:
                return text[-length:]
        return ""
