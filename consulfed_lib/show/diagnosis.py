"""What is wrong, a block for each cause: found, expected, why it matters, what to do, and what fails because of it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..palette import INK, PANEL, STYLES
from ..results import several

_COMMAND = re.compile(
    r"(?:^|(?<=: )|(?<=\()|(?<=; ))"
    r"(?:kubectl|helm|consul|consulfed|papermill) [^;,)\n]*(?:[,;](?=\S)[^;,)\n]*)*"
)
"""A command in a hint: at its begin or where a sentence leads to it, up to the end of that part of the sentence."""
_NAMED = 4
"""Subjects of one check that are named where it is a consequence: a federation of ten has ninety ordered pairs."""
_PRE = (
    f"margin:2px 0;padding:4px 8px;white-space:pre-wrap;overflow-wrap:anywhere;color:{INK};background-color:{PANEL};"
    "border:1px solid #8c959f;font-size:12px;text-align:left"
)


@dataclass(frozen=True)
class Trouble:
    """A check that failed, as a cause.

    Attributes:
        id: the check's id.
        subject: the datacenter or ordered pair.
        found, expected: what was seen, and what should have been; never a secret.
        why: why it matters.
        hint: what to do next. Commands in it (`kubectl …`, `helm …`, `consul …`) are shown on lines of their own.
        link: the notebook that mends it, relative: `01-primary-setup.ipynb`, with `#Section` if one is meant.
        consequences: (id, subject) of each check that fails because of it.
    """

    id: str
    subject: str
    found: str
    expected: str = ""
    why: str = ""
    hint: str = ""
    link: str = ""
    consequences: Sequence[tuple[str, str]] = ()

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The hint taken apart, in its order: (`words` or `command`, text).

        >>> Trouble("a", "dc1", "down", hint="restart it: kubectl get pods; then run 01 again").steps
        [('words', 'restart it:'), ('command', 'kubectl get pods'), ('words', 'then run 01 again')]
        """
        parts, at = [], 0
        for match in _COMMAND.finditer(self.hint):
            parts += [("words", self.hint[at : match.start()]), ("command", match[0])]
            at = match.end()
        parts.append(("words", self.hint[at:]))
        # A command on a line of its own needs no bracket around it, and no comma behind it.
        bare = [
            (kind, text.strip() if kind == "command" else text.lstrip("),; ").rstrip("( "))
            for kind, text in parts
        ]
        return [(kind, text) for kind, text in bare if text]

    def rows(self) -> list[tuple[str, str]]:
        """What is known of it, under its headings; the hint, the link and the consequences come after these."""
        rows = (("Found", self.found), ("Expected", self.expected), ("Why it matters", self.why))
        return [(heading, words) for heading, words in rows if words]

    @property
    def after(self) -> str:
        """The consequences in one line, each id once with its subjects; of many, the first ones and how many more.

        >>> Trouble("a", "dc1", "down", consequences=[("b", "dc1"), ("c", "dc1"), ("b", "dc2")]).after
        'b (dc1, dc2), c (dc1)'
        """
        subjects: dict[str, list[str]] = {}
        for id, subject in dict.fromkeys(self.consequences):
            subjects.setdefault(id, []).append(subject)
        return ", ".join(f"{id} ({_listed(of)})" for id, of in subjects.items())


def _listed(subjects: Sequence[str]) -> str:
    more = len(subjects) - _NAMED
    return ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class Diagnosis:
    """Every cause, with what to do about it, in the order given: what is to be mended first comes first."""

    title = "Diagnosis"

    def __init__(self, troubles: Iterable[Trouble]):
        self.troubles = list(troubles)

    def summary(self) -> str:
        if not self.troubles:
            return "no check failed"
        more = sum(len(trouble.consequences) for trouble in self.troubles)
        causes = several(len(self.troubles), "cause")
        return f"{causes}, and {several(more, 'check')} failing because of that" if more else causes

    def __repr__(self) -> str:
        blocks = [self._block(i, trouble) for i, trouble in enumerate(self.troubles, 1)]
        return "\n\n".join([f"{self.title}: {self.summary()}", *blocks])

    @staticmethod
    def _block(number: int, trouble: Trouble) -> str:
        rows = trouble.rows()
        for i, (kind, words) in enumerate(trouble.steps):
            rows.append(("" if i else "Do next", f"    {words}" if kind == "command" else words))
        if trouble.link:
            rows.append(("Mended by", trouble.link))
        if trouble.consequences:
            rows.append(("Consequences", trouble.after))
        head = f"{number}. ✘ {trouble.id} ({trouble.subject})"
        return "\n".join(
            [head, *(f"   {f'{heading}:' if heading else '':<16}{words}" for heading, words in rows)]
        )

    def _repr_html_(self) -> str:
        head = f"<p><b>{self.title}</b>: {html.escape(self.summary())}</p>"
        return head + "".join(self._section(i, trouble) for i, trouble in enumerate(self.troubles, 1))

    @staticmethod
    def _section(number: int, trouble: Trouble) -> str:
        style = STYLES["error"]
        rows = [(heading, html.escape(words)) for heading, words in trouble.rows()]
        if trouble.hint:
            rows.append(("Do next", "".join(_step(kind, words) for kind, words in trouble.steps)))
        if trouble.link:
            link = html.escape(trouble.link)
            rows.append(("Mended by", f'<a href="{link}">{link}</a>'))
        if trouble.consequences:
            rows.append(("Consequences", html.escape(trouble.after)))
        body = "".join(
            f'<tr><th scope="row" style="text-align:left;vertical-align:top;white-space:nowrap">{heading}</th>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{words}</td></tr>'
            for heading, words in rows
        )
        return (
            f'<section class="consulfed-trouble" style="border-left:6px solid {style.colour};padding-left:10px;'
            'margin:0 0 14px 0">'
            f"<p><b>{number}. ✘ {html.escape(trouble.id)}</b> ({html.escape(trouble.subject)})</p>"
            f"<table>{body}</table></section>"
        )


def _step(kind: str, words: str) -> str:
    said = html.escape(words)
    return f'<pre style="{_PRE}">{said}</pre>' if kind == "command" else f"<div>{said}</div>"
