"""In which order a run's notebooks are executed, which of them at the same time, and what becomes of each secondary.

00 and 01 first; then for each secondary 02 and then 03, several secondaries at once; 04 last. A secondary that fails
stops no other one: the rest goes on, and is verified without it. 05 makes test workloads, and 90 takes one
secondary out: each runs only by itself.

Nothing here keeps secondaries from joining in the same moment, and nothing needs to: each joins the primary by itself,
and Consul tells the secondaries of each other. Where it could not at once (its gossip is lost while a new datacenter
cannot be reached through the gateways yet), servers exchange their whole lists of members every 60 seconds; 04 waits
for that. Waiting for each other before Helm would take one installation's minutes for each secondary instead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from .errors import ConsulfedError, Interrupted, LeakError, ParamsError, PreflightError
from .execution import Done, Task, Tell
from .params import Federation
from .results import Table
from .steps import NOTEBOOKS, ON_REQUEST, ONE_AT_A_TIME, PER_SECONDARY

PREFLIGHT, PRIMARY, VERIFICATION = "00-preflight", "01-primary-setup", "04-verification"

_FINDING = re.compile(r"[\w-]+ \((.+?)\): ")
"""How a step's error names what it found: `id (subject): found`."""

Work = Callable[[Task], Done]
"""Executes one notebook. Raises ConsulfedError."""


@dataclass(frozen=True)
class Plan:
    """The notebooks of a run: one after another, then a chain for each secondary, then one after another again."""

    before: tuple[Task, ...]
    chains: tuple[tuple[Task, ...], ...]
    after: tuple[Task, ...]
    width: int
    """How many chains are worked on at the same time."""
    known: tuple[str, ...]
    """Every secondary of the federation, those included that are not worked on."""
    one_by_one: bool = False
    """Whether a datacenter is begun only when the one before it came to its end: while charts are moved."""

    @property
    def secondaries(self) -> tuple[str, ...]:
        return tuple(chain[0].secondary for chain in self.chains)

    def order(self) -> list[str]:
        """The notebooks in the order in which they are expected to begin, as kernels are started for them."""
        waves = [self.chains[i : i + self.width] for i in range(0, len(self.chains), self.width)]
        chained = [task for wave in waves for step in zip(*wave, strict=True) for task in step]
        return [task.notebook for task in (*self.before, *chained, *self.after)]


def plan(params: Federation, only: str = "", secondaries: Sequence[str] = ()) -> Plan:
    """What to run: all notebooks, or those whose name begins with `only`; all secondaries, or those given.

    Notebooks that run on request only are among all of them where `only` gives their number.

    Raises ParamsError when `only` names no notebook, a secondary is not one, or one has to be chosen and is not.
    """
    chosen = [
        name
        for name in NOTEBOOKS
        if name.startswith(only) and (name not in ON_REQUEST or only.startswith(name[:2]))
    ]
    if not chosen:
        raise ParamsError(
            f"--only {only} names no notebook.", f"one of: {', '.join(NOTEBOOKS)}, or its number"
        )
    known = [cluster.datacenter for cluster in params.secondaries]
    wanted = secondaries or ([params.secondary] if params.secondary else known)
    if strange := [name for name in wanted if name not in known]:
        raise ParamsError(
            f"Not a secondary of this federation: {', '.join(strange)}.", f"choose of: {', '.join(known)}"
        )
    steps = [name for name in chosen if name in PER_SECONDARY]
    if len(wanted) > 1 and (lonely := [name for name in steps if name in ONE_AT_A_TIME]):
        raise ParamsError(
            f"{lonely[0]} works on one secondary, and {len(wanted)} are chosen: {', '.join(wanted)}.",
            "choose it with --secondary, or with `secondary` in the parameters",
        )
    chains = [tuple(Task(step, name) for step in steps) for name in known if name in wanted] if steps else []
    before = [name for name in chosen if name not in PER_SECONDARY and name < PER_SECONDARY[0]]
    after = [name for name in chosen if name not in PER_SECONDARY and name > PER_SECONDARY[0]]
    moving = params.upgrade.chart
    if moving and params.upgrade.order == "secondaries-first" and chains and PRIMARY in before:
        before.remove(PRIMARY)
        after.insert(0, PRIMARY)
    return Plan(
        tuple(map(Task, before)),
        tuple(chains),
        tuple(map(Task, after)),
        1 if moving else max(1, min(params.parallel, len(chains))),
        tuple(known),
        moving,
    )


@dataclass(frozen=True)
class Row:
    """What became of one secondary."""

    secondary: str
    verdict: str
    seconds: float
    found: str


class Verdict(Table):
    """The end of a run: each secondary with what became of it."""

    columns = ("secondary", "verdict", "seconds", "found")

    def summary(self) -> str:
        failed = sum(row.verdict == _FAILED for row in self.rows)
        return (
            f"{failed} of {len(self.rows)} secondaries failed" if failed else f"{len(self.rows)} secondaries"
        )


_FAILED = "✘ failed"


@dataclass
class Story:
    """What happened in a run so far; every thread of it writes only its own secondary's entry."""

    done: list[Done] = field(default_factory=list)
    failed: dict[str, tuple[str, ConsulfedError]] = field(default_factory=dict)
    """Secondary → (label of the notebook that failed, its error)."""
    seconds: dict[str, float] = field(default_factory=dict)

    def verdict(self, title: str, secondaries: Sequence[str]) -> Verdict:
        """A row for each of these, and for each other one that was found unfit."""
        names = [*secondaries, *(name for name in self.failed if name not in secondaries)]
        return Verdict(title, [self._row(name) for name in names])

    def _row(self, name: str) -> Row:
        seconds = self.seconds.get(name, 0.0)
        if name in self.failed:
            where, error = self.failed[name]
            verdict = "– interrupted" if isinstance(error, Interrupted) else _FAILED
            return Row(name, verdict, seconds, f"{where}: {'; '.join(causes(error))}")
        outcomes = {done.task.notebook: done.outcome for done in self.done if done.task.secondary == name}
        if not outcomes:
            return Row(name, "– not begun", seconds, "")
        worst = next((word for word in ("planned", "applied") if word in outcomes.values()), "unchanged")
        found = ", ".join(f"{notebook[:2]} {outcome}" for notebook, outcome in outcomes.items())
        return Row(name, f"✔ {worst}", seconds, found)

    def leak(self) -> LeakError | None:
        """The leak that a secondary's notebook ended with; it outweighs whatever else happened."""
        return next((error for _, error in self.failed.values() if isinstance(error, LeakError)), None)

    def failure(self, todo: Plan, last: ConsulfedError | None) -> ConsulfedError | None:
        """The one error that a run ends with: of the class of the first secondary that failed, naming each of them.

        Args:
            last: what ended the run, or what 04 said of the rest.
        """
        if not self.failed:
            return last
        names = sorted(self.failed, key=todo.known.index)
        first = self.failed[names[0]][1]
        if len(todo.known) == 1:
            return first
        verified = any(done.task.notebook == VERIFICATION for done in self.done)
        details = [f"{n}: {self.failed[n][0]}: {cause}" for n in names for cause in causes(self.failed[n][1])]
        return type(first)(
            f"{len(names)} of {len(todo.known)} secondaries failed: {', '.join(names)}."
            + (
                f" The federation is verified without {'it' if len(names) == 1 else 'them'}."
                if verified
                else ""
            ),
            first.hint,
            details + (causes(last) if last else []),
        )


def causes(error: ConsulfedError) -> list[str]:
    """The sentences that name the cause: the details where an error has some, which say more than its heading."""
    return list(error.details) or [error.found]


def conduct(todo: Plan, work: Work, tell: Tell, story: Story) -> None:
    """Execute the notebooks of a plan; what happens is written into the story as it happens.

    Raises ConsulfedError when nothing can go on: a failure of the primary, of the whole, or of every secondary in 00,
    and Interrupted.
    The failures of single secondaries are in the story.
    """
    for task in todo.before:
        if task.notebook == PREFLIGHT and todo.chains:
            _preflight(task, todo, work, tell, story)
        else:
            story.done.append(work(task))
    chains = [chain for chain in todo.chains if chain[0].secondary not in story.failed]
    with ThreadPoolExecutor(todo.width, "secondary") as pool:
        ended = [pool.submit(_chain, chain, todo, work, story) for chain in chains]
    for each in ended:
        each.result()  # raises what is no ConsulfedError, after all have come to their end
    for _, error in story.failed.values():
        if isinstance(error, Interrupted):
            raise error
    for task in todo.after:
        if why := _left_out(task, todo, story):
            tell(f"{task.label}: left out: {why}")
        else:
            story.done.append(work(replace(task, without=tuple(sorted(story.failed)))))


def _chain(chain: Sequence[Task], todo: Plan, work: Work, story: Story) -> None:
    """One secondary, notebook by notebook; its failure ends this chain, and no other one unless they go one by one."""
    if todo.one_by_one and story.failed:
        return
    name, start = chain[0].secondary, time.monotonic()
    for task in chain:
        try:
            story.done.append(work(task))
        except ConsulfedError as error:
            story.failed[name] = (task.label, error)
            break
        finally:
            story.seconds[name] = time.monotonic() - start


def _left_out(task: Task, todo: Plan, story: Story) -> str:
    """Why a notebook after the secondaries is not executed; empty when it is."""
    if task.notebook == PRIMARY:
        return "its chart is moved only after that of every secondary" if story.failed else ""
    if any(done.outcome == "planned" for done in story.done):
        return "there is nothing to verify until the plan is applied"
    if todo.chains and story.failed.keys() >= set(todo.secondaries):
        return "no secondary came to its end"
    return ""


def _preflight(task: Task, todo: Plan, work: Work, tell: Tell, story: Story) -> None:
    """00; then again without the secondaries that it found unfit, until the rest passes as a whole.

    Raises PreflightError when the cause is not a single secondary's, or when none would be left.
    """
    while True:
        try:
            story.done.append(work(task))
            return
        except PreflightError as error:
            found = _by_subject(error)
            left = set(todo.secondaries) - found.keys() - set(task.without)
            if not found or not left or not found.keys() <= set(todo.known):
                raise
            for name, details in found.items():
                cause = PreflightError(f"{name} is not ready.", error.hint, details)
                story.failed[name] = (task.label, cause)
            tell(f"{task.label}: going on without {', '.join(sorted(found))}; looking at the rest again")
            task = replace(task, without=tuple(sorted({*task.without, *found})))


def _by_subject(error: PreflightError) -> dict[str, list[str]]:
    """Subject → the findings about it; empty when a finding names none."""
    found: dict[str, list[str]] = {}
    for detail in error.details:
        match = _FINDING.match(detail)
        if not match:
            return {}
        found.setdefault(match[1], []).append(detail)
    return found
