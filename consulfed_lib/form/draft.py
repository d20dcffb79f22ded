"""A params file in the making: what is said, what is wrong with it, and the text that it becomes.

Everything that the form does is done here, without a widget; `consulfed params new` uses the same.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from .. import redact
from ..errors import ParamsError
from ..offline import Judgement, folder_values, judge
from ..params import Chart, Federation, read
from ..params.files import UniqueKeys
from ..params.secrets import Found, masked, secrets_in
from .document import written
from .fields import CLUSTERS, Field, known
from .places import at, step_down, steps_of
from .saving import Seen, save, seen
from .shield import hidden, shielded


@dataclass(frozen=True)
class Mistake:
    """One line of what `consulfed params check` says, and the place of the field that it is about.

    Attributes:
        place: empty where it is about no field.
    """

    sentence: str
    place: str


class Draft:
    """What is said so far.

    Args:
        raw: what is said already, as a params file has it.
        file: where it is to be written.
        base: the file as it was when it was read; its text is kept where nothing changed.
    """

    def __init__(self, raw: Mapping[str, Any], file: Path, base: Seen | None = None):
        self.raw: dict[str, Any] = copy.deepcopy(dict(raw))
        self.file = file
        self._base = base or Seen(file, None)
        self._given = copy.deepcopy(self.raw)
        self._unread: dict[str, list[str]] = {}
        self._taken: list[tuple[str, Found]] = []
        self._judged: tuple[Any, Judgement] | None = None

    @classmethod
    def of(cls, file: Path) -> Draft:
        """A params file that is there, to be changed. Raises ParamsError where it holds no parameters."""
        base = seen(file)
        return cls(read(file), file, base)

    # -- what is said -------------------------------------------------------------------------------------------

    def said(self, place: str) -> Any:
        """What stands at a place, None where nothing does."""
        return at(self.raw, place)

    def value(self, place: str) -> Any:
        """What is in force there: said, or the default; None where it has to be said."""
        found = self.said(place)
        return known(place).default if found is None else found

    def say(self, place: str, value: Any) -> None:
        """Say something; what is the default is left out, unless the file said it before.

        Text for a `mapping` or a `number` is read as YAML or as a number; what cannot be read is a mistake.
        """
        field = known(place)
        self._unread.pop(place, None)
        if field.kind == "mapping" and isinstance(value, str):
            value = self._read(place, value)
        if field.kind == "number" and isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
            value = int(value)
        if _left_out(field, value) and at(self._given, place) is None:
            self._forget(place)
        else:
            self._put(place, "" if value is None else value)

    def clusters(self) -> dict[str, str]:
        """Context → place of the cluster that it is: `primary`, `secondaries[0]`."""
        found = {}
        for place in self._cluster_places():
            context = self.said(f"{place}.context")
            if isinstance(context, str) and context:
                found[context] = place
        return found

    def give_role(self, context: str, role: str, **names: str) -> None:
        """Make a context's cluster the primary, a secondary, or ("") no part of the federation.

        What is said of it stays with it; `names` are said of one that is new. A primary before it becomes a secondary.
        """
        place = self.clusters().get(context, "")
        cluster = self.said(place) if place else {"context": context, **names}
        others = self.raw.get("secondaries")
        secondaries = [each for each in others if each is not cluster] if isinstance(others, list) else []
        primary = self.raw.pop("primary", None)
        primary = None if primary is cluster else primary
        if role == "secondary":
            secondaries.insert(int(place[12:-1]) if place.startswith("secondaries") else 99, cluster)
        if role == "primary":
            secondaries = [primary, *secondaries] if primary else secondaries
            primary = cluster
        for place in [place for place in self._unread if place.startswith(CLUSTERS)]:
            del self._unread[place]  # places of clusters mean others now
        self.raw |= ({"primary": primary} if primary is not None else {}) | {"secondaries": secondaries}

    def _cluster_places(self) -> Iterator[str]:
        if isinstance(self.raw.get("primary"), Mapping):
            yield "primary"
        secondaries = self.raw.get("secondaries")
        for i, each in enumerate(secondaries if isinstance(secondaries, list) else []):
            if isinstance(each, Mapping):
                yield f"secondaries[{i}]"

    def _read(self, place: str, text: str) -> Any:
        """The mapping that a text of YAML is; what is there stays where it is none."""
        found = secrets_in({"values": text})  # also where it is no YAML yet
        try:
            value = yaml.load(text, UniqueKeys)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"line {mark.line + 1} " if mark else ""
            wrong = f"{place}: {line}is not YAML: {getattr(error, 'problem', '') or 'it cannot be parsed'}"
            secrets = [f"{place}: looks like {each.looks}; {each.remedy}" for each in found]
            self._unread[place] = [wrong, *secrets]
            self._note(found, place)
            return self.said(place)
        return {} if value is None else value

    def _put(self, place: str, value: Any) -> None:
        *steps, last = steps_of(place)
        holder: Any = self.raw
        for step in steps:
            inner = holder[step] if isinstance(step, int) else holder.get(step)
            if not isinstance(inner, dict | list):
                inner = holder[step] = {}
            holder = inner
        holder[last] = value

    def _forget(self, place: str) -> None:
        """Take out a key, and the mapping that it leaves empty."""
        *steps, last = steps_of(place)
        holders: list[Any] = [self.raw]
        for step in steps:
            inner = step_down(holders[-1], step)
            if not isinstance(inner, dict | list):
                return
            holders.append(inner)
        holders[-1].pop(last, None)
        if not holders[-1] and steps and isinstance(steps[-1], str) and steps[-1] not in CLUSTERS:
            holders[-2].pop(steps[-1], None)

    # -- what is wrong ------------------------------------------------------------------------------------------

    def judgement(self) -> Judgement:
        """What `consulfed params check` says without asking Helm for a chart.

        A secret is taken out of what is said as soon as it is seen, so that nothing shows it or keeps it. (One of a few
        letters stays, so that nobody's typing is disturbed; it is hidden and a mistake all the same.)
        """
        found = [each for each in secrets_in(self.raw) if len(each.value) >= redact.SHORTEST]
        self._note(found)
        self.raw = shielded(self.raw, found)
        state = copy.deepcopy(self.raw), self.file, dict(self._unread)
        if self._judged is None or self._judged[0] != state:
            self._judged = state, judge(self.raw, self.file, _folder_values_only)
        return self._judged[1]

    def _note(self, found: list[Found], place: str = "") -> None:
        for each in found:
            if len(each.value) >= redact.SHORTEST:
                redact.register(each.value.encode())
                self._taken.append((place or each.place, each))

    def clean(self, place: str, text: str) -> str:
        """A text that was typed at a place, without the secrets that were taken out there."""
        return masked(text, [found for where, found in self._taken if where.startswith(place)])

    def mistakes(self) -> list[Mistake]:
        """Every mistake with its place; none when the file may be written."""
        error = self.judgement().error
        lines = [
            *(each for unread in self._unread.values() for each in unread),
            *(error.details or (error.found,) if error else ()),
        ]
        gone = "a secret stood here and was taken out; put it into a Kubernetes Secret and name that"
        named = [line.partition(": ")[0] for line in lines]
        lines += [f"{place}: {gone}" for place in hidden(self.raw) if place not in named]
        return [Mistake(line, self._place(line)) for line in lines]

    def _place(self, line: str) -> str:
        """The place that a sentence begins with, as far down as there is a field; a cluster's, where it names that."""
        place = re.split(r":? ", line, maxsplit=1)[0].rstrip(":")
        clusters = list(self._cluster_places())
        named = {str(self.said(f"{each}.datacenter")): each for each in clusters}
        place = named.get(place, place)
        while place and place not in clusters:
            try:
                known(place)
            except KeyError:
                place = place.rpartition("[" if place.endswith("]") else ".")[0]
            else:
                break
        return place

    @property
    def federation(self) -> Federation | None:
        """The parameters, where nothing is wrong with them."""
        judged = self.judgement()
        return None if self.mistakes() else judged.params

    # -- what becomes of it -------------------------------------------------------------------------------------

    def text(self) -> str:
        """The text of the params file, without any secret. Raises ParamsError where the form cannot write it."""
        self.judgement()
        return written(shielded(self.raw, secrets_in(self.raw)), self._base.text)

    @property
    def is_new(self) -> bool:
        """Whether nothing is replaced where the file is written now."""
        return self._base.content is None or self._base.file != self.file

    def hold(self) -> None:
        """Raises ParamsError that lists every mistake."""
        mistakes = self.mistakes()
        if mistakes:
            raise ParamsError(
                f"{self.file} was not written: {_count(len(mistakes))}.",
                "mend them first",
                [each.sentence for each in mistakes],
            )

    def save(self) -> Path:
        """Write the file. Raises ParamsError where something is wrong, or where the file changed meanwhile."""
        self.hold()
        base = self._base if self._base.file == self.file else Seen(self.file, None)
        self._base = save(self.text(), base)
        self._given = copy.deepcopy(self.raw)
        return self.file


def _count(number: int) -> str:
    return "1 mistake" if number == 1 else f"{number} mistakes"


def _left_out(field: Field, value: Any) -> bool:
    """Whether a value need not be said: the default is the same, or nothing was given where something else counts."""
    if value is None or (field.optional and value == ""):
        return True
    return field.default is not None and field.default == value and type(field.default) is type(value)


def _folder_values_only(chart: Chart) -> tuple[Mapping[str, Any] | None, str]:
    """The own values of a chart that is at hand; to fetch another one takes too long while somebody types."""
    location = Path(chart.location) / "values.yaml"
    try:
        stamp = location.stat().st_mtime if location.is_file() else 0.0
        found = _values_of(chart, stamp)
    except ValueError as error:
        return None, str(error)
    return (
        found,
        "" if found is not None else "the chart was not fetched here; `consulfed params check` does it",
    )


@lru_cache(maxsize=4)
def _values_of(chart: Chart, stamp: float) -> dict[str, Any] | None:
    return folder_values(chart)
