"""Killed anywhere: at each moment of each notebook, in each way, the same command goes on and comes to the same end.

The moments are those that an undisturbed run tells (`moments`), so that a new action is covered by itself. Runs are
killed one after another, each in the state that the one before it left, and the last one of each notebook comes to its
end; so every kill is also one of a run that goes on from a killed one.

A default run takes a sample, another one each time (CONSULFED_SEED, which is printed, gives it again);
CONSULFED_EVERY_MOMENT=1 takes every moment in every way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from consulfed_lib import params as parameters
from consulfed_lib.cluster import Cluster, is_ready
from consulfed_lib.errors import ConsulfedError, LeakError
from consulfed_lib.execution import read_result
from consulfed_lib.record.verify import verify, verify_notebook
from consulfed_lib.sandbox.disturbances import DOWN, Disturbance
from consulfed_lib.sandbox.faults.control import KIND, look
from consulfed_lib.sandbox.faults.memory import begin
from consulfed_lib.sandbox.state import Folder
from consulfed_lib.steps import NOTEBOOKS, ON_REQUEST, open_step
from consulfed_lib.steps.base import Step
from consulfed_lib.waiting import Seen, wait_for

from .conftest import ROOT, Sandbox, leaks
from .endstate import differences, state_of
from .moments import KERNEL as TELLING
from .moments import Ground, Moment, Run, Told, observed

SETUP = [name for name in NOTEBOOKS if name not in ON_REQUEST]
KERNEL, RUNNER, PAPERMILL, HELM, API, MACHINE = WAYS = (
    "kernel",
    "runner",
    "papermill",
    "helm",
    "api",
    "machine",
)
"""What is killed: the notebook's kernel, `consulfed run`, papermill that runs the notebook alone, a Helm, everything
that runs on the machine; or an API server is away for some seconds."""
SUCCESS = {"planned", "applied", "unchanged", "verified"}
EVERY = bool(os.environ.get("CONSULFED_EVERY_MOMENT"))
"""Whether every moment is tried in every way: hours."""
AWAY, AWAY_LONG = 3.0, 30.0
"""Seconds for which an API server is away; for the long ones in each notebook's longest part."""


def fits(moment: Moment, way: str) -> bool:
    """Whether a run can be hit in that way at that moment. What a Helm does is within its action."""
    return way == API or moment.is_helms == (way == HELM)


@dataclass
class Federation:
    """A sandbox, its parameters, and the runs that were killed in it."""

    sandbox: Sandbox
    ground: Ground
    chance: random.Random
    killed: list[str] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict, repr=False)
    pids: list[int] = field(default_factory=list)
    well: int = 0
    """Runs of `consulfed run` that came to their end."""

    def __post_init__(self) -> None:
        content = yaml.safe_load(self.sandbox.consulfed("sandbox", "params").stdout)
        here = self.sandbox.folder / "sandbox"
        content |= {"verification": {"latency": 0}, "leave": {"confirm": "dc2"}}
        content |= {"kubeconfig": str(here / "kubeconfig")}
        content["chart"]["ref"] = str(here / "chart" / "consul")
        for each in content["secondaries"]:
            # Consul's own: with the sandbox's number of repeats a server cannot tell in time that it leaves.
            each["values"] = {"server": {"extraConfig": json.dumps({"gossip_wan": {"retransmit_mult": 4}})}}
        self.file = self.sandbox.folder / "params.yaml"
        self.file.write_text(yaml.safe_dump(content))

    @property
    def params(self) -> parameters.Federation:
        return parameters.load(self.file)

    def start(self, notebook: str = "", way: str = RUNNER) -> Run:
        """A run that applies: the whole one, or one notebook, by `consulfed run` or by papermill alone."""
        if way == PAPERMILL:
            source = str(ROOT / "notebooks" / f"{notebook}.ipynb")
            command = [sys.executable, "-m", "papermill", source, "out.ipynb", "-f", str(self.file)]
            command += ["-y", "dry_run: false", "--log-output", "--no-progress-bar"]
        else:
            command = [sys.executable, "-m", "consulfed_lib.cli", "run", str(self.file), "--apply"]
            command += ["--records", str(self.sandbox.records), *(["--only", notebook] if notebook else [])]
        return Run(self.ground, self.sandbox.env, command)

    def complete(self, notebook: str = "") -> None:
        """The same command again, undisturbed: it comes to its end, and its record says so."""
        with self.start(notebook) as run:
            assert run.to_its_end() == 0, self.story(run)
        self.well += 1
        self.see_no_secret(run)
        if notebook in ("04-verification", "05-cross-datacenter-traffic"):
            assert self.sandbox.results()[notebook]["outcome"] == "verified"

    def story(self, run: Run) -> str:
        return "\n".join([*self.killed, run.said])

    # -- hit ----------------------------------------------------------------------------------------------------

    def hit(self, moment: Moment, way: str, away: float = AWAY) -> bool:
        """Run one notebook and hit it at that moment; whether it came to that, and did not end before."""
        with self.start(moment.notebook, way) as run:
            told = run.until(moment)
            if told is None:
                assert run.process.wait() == 0, self.story(run)
                self.well += way != PAPERMILL
                return False
            self.killed.append(f"{way}: {moment}")
            print(self.killed[-1], flush=True)
            family, held = run.family(), None
            if moment.at == "within":
                told.go()
                held = run.pass_time(self.chance.uniform(0.02, 0.9 * moment.seconds))
                family += [each for each in run.family() if each not in family]
            self.strike(run, told, held, way, family, away)
            code = run.process.wait(180)
            assert psutil.wait_procs(family, timeout=10)[1] == [], self.story(run)
        came = code != 0 or way in (API, HELM)
        assert came or moment.at == "within", f"it was not hit\n{self.story(run)}"
        self.look_at(run, way, code)
        return came

    def strike(
        self, run: Run, told: Told, held: Told | None, way: str, family: list[psutil.Process], away: float
    ) -> None:
        """Kill what the way says, or take it away; then let go on what can."""
        if way == API:
            self.take_away_an_api(run, told, held, away)
            return
        victim = run.process.pid if way in (RUNNER, PAPERMILL, MACHINE) else told.pid
        if psutil.pid_exists(victim):
            os.kill(victim, signal.SIGKILL)
        if way == MACHINE:
            run.process.wait()  # or psutil would take its exit code
            self.reboot([each for each in family if each.pid != victim])
        for each in (told, held):
            if each:
                each.go()
        for later in run:
            later.go()

    def take_away_an_api(self, run: Run, told: Told, held: Told | None, seconds: float) -> None:
        """Nobody listens at one of the API servers for so long. What rode it over is killed at the next part."""
        folder = Folder(self.sandbox.folder / "sandbox")
        number = 1 if told.notebook == "01-primary-setup" else self.chance.choice((1, 2))
        with folder.locked():
            memory = begin(folder, "api-server-down")
            memory.add({"kind": KIND, "subject": f"dc{number}", KIND: list(Disturbance(DOWN, number))})
            asyncio.run(look(folder))
        for each in (told, held):
            if each:
                each.go()
        held = run.pass_time(seconds)
        with folder.locked():
            memory.forget()
            asyncio.run(look(folder))
        if held:
            run.process.kill()
            held.go()
        for later in run:
            run.process.kill()
            later.go()

    def reboot(self, family: list[psutil.Process]) -> None:
        """Every process of the run and of the sandbox is killed, none in good order; then the sandbox starts again, and
        what was ready before is so again."""
        ready = self.ready_pods()
        process = Folder(self.sandbox.folder / "sandbox").process()
        assert process is not None
        supervisor = psutil.Process(process.pid)
        everything = [supervisor, *supervisor.children(recursive=True), *family]
        for each in everything:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        assert psutil.wait_procs(everything, timeout=10)[1] == []
        done = self.sandbox.consulfed("sandbox", "up")
        assert done.returncode == 0, done.stderr
        assert "was killed" in done.stderr
        what = "the pods that were ready before"
        wait_for(what, lambda: Seen(not ready - self.ready_pods(), str(ready - self.ready_pods())), 60)

    def ready_pods(self) -> set[str]:
        """Those of Consul that are meant to stay."""
        listed = [
            pod
            for of in self.params.clusters
            for pod in Cluster(f"{of.context}-admin", self.params.kubeconfig_path).list("pods", of.namespace)
        ]
        return {
            f"{pod['spec'].get('nodeName')}/{pod['metadata']['name']}"
            for pod in listed
            if is_ready(pod)
            and "deletionTimestamp" not in pod["metadata"]
            and "job-name" not in pod["metadata"]["labels"]
        }

    # -- look ---------------------------------------------------------------------------------------------------

    def look_at(self, run: Run, way: str, code: int) -> None:
        """What was killed says nowhere that it succeeded, and shows no secret and no traceback of ours."""
        assert code not in (ConsulfedError.exit_code, LeakError.exit_code), self.story(run)
        self.pids.append(run.process.pid)
        self.well += code == 0 and way != PAPERMILL
        if way != PAPERMILL:
            assert "Traceback" not in run.said, self.story(run)
        self.see_no_success(run, code)
        self.see_no_secret(run)

    def see_no_success(self, run: Run, code: int) -> None:
        alone = run.folder / "out.ipynb"
        with suppress(FileNotFoundError, ValueError):  # papermill had not begun, or had begun to write
            # Killed after its last cell, papermill alone leaves a notebook that did come to its end.
            assert code == 0 or read_result(alone) is None or not verify_notebook(alone).problems, self.story(
                run
            )
        records = [
            path
            for path in (self.sandbox.records / "sandbox").glob("[0-9]*")
            if path.stat().st_mtime >= run.began
        ]
        for record in records:
            verdict = verify(record)
            assert verdict.problems == [], self.story(run)
            assert code == 0 or verdict.facts["outcome"] not in SUCCESS, self.story(run)

    def see_no_secret(self, run: Run) -> None:
        """Neither in what it said, nor in any file that is there since it began."""
        self.values |= self.sandbox.secret_values()
        folders = [run.folder, self.ground.home, self.ground.tmp, self.sandbox.records]
        folders += Path("/dev/shm").glob(f"consulfed-run-{run.process.pid}-*")
        found = [each for folder in folders for each in leaks(folder, self.values, since=run.began)]
        assert found == [], self.story(run)

    def state(self) -> dict[str, Any]:
        return state_of(self.sandbox, self.params)


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nobody disturbs does: its moments, and what it leaves after the setup, after 05 and after 90."""

    moments: list[Moment]
    states: dict[str, Any]
    actions: dict[str, int]
    rows: dict[str, list[str]]

    def of(self, notebook: str) -> list[Moment]:
        return [moment for moment in self.moments if moment.notebook == notebook]


@pytest.fixture(scope="module")
def federation(
    new_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[random.Random], Federation]:
    """Makes a federation that is not set up yet, on a sandbox of its own."""
    return lambda chance: Federation(new_sandbox(), Ground(tmp_path_factory.mktemp("ground")), chance)


@pytest.fixture(scope="module")
def undisturbed(federation: Callable[[random.Random], Federation]) -> Undisturbed:
    one = federation(random.Random())
    moments: list[Moment] = []
    states: dict[str, Any] = {}
    actions: dict[str, int] = {}
    rows: dict[str, list[str]] = {}
    for notebooks in (SETUP, *([name] for name in ON_REQUEST)):
        if notebooks != SETUP:
            actions |= {name: number_of_actions(one, name) for name in notebooks}
        with one.start("" if notebooks == SETUP else notebooks[0]) as run:
            moments += observed(run)
            assert run.process.wait() == 0, run.said
        one.see_no_secret(run)
        for result in one.sandbox.results().values():
            rows[result["notebook"]] = [f"{row['subject']}: {row['id']}" for row in result["changes"]]
        if notebooks == SETUP:
            actions |= {name: number_of_actions(one, name) for name in notebooks}
        states[notebooks[-1]] = one.state()
    return Undisturbed(moments, states, actions, rows)


def number_of_actions(one: Federation, notebook: str) -> int:
    """How many `actions()` gives, of a step that a person opens and that writes nothing."""
    step = open_step(notebook, one.params.model_copy(update={"dry_run": True}))
    if type(step).actions is Step.actions:
        return 0
    step.plan()
    return len(step.actions())


# -- the enumeration ----------------------------------------------------------------------------------------------


def test_every_action_of_every_notebook_is_a_moment(undisturbed: Undisturbed) -> None:
    """Of each notebook that changes anything every action that `actions()` gives, and every row of its record; of
    each one its beginning and its end."""
    print(f"{len(undisturbed.moments)} moments")
    assert set(undisturbed.actions) == set(NOTEBOOKS)
    for notebook, number in undisturbed.actions.items():
        moments = [each for each in undisturbed.of(notebook) if each.at == "before"]
        actions = [each for each in moments if each.part.startswith("action ")]
        assert [each.part for each in actions] == [f"action {i} of {number}" for i in range(1, number + 1)]
        assert [each.what for each in actions] == (undisturbed.rows[notebook] if number else [])
        assert {"preflight", "verify", "result"} <= {each.part for each in moments}
    changing = {name for name, number in undisturbed.actions.items() if number}
    assert changing == set(NOTEBOOKS) - {"00-preflight", "04-verification"}
    assert {each.notebook for each in undisturbed.moments if each.part == "helm upgrade"} == {
        "01-primary-setup", "03-secondary-setup",
    }  # fmt: skip
    assert {each.notebook for each in undisturbed.moments if each.part == "helm uninstall"} == {
        "90-defederate"
    }


SMALL = """
from consulfed_lib import params
from consulfed_lib.results import Change, Changes
from consulfed_lib.steps.base import Step
from consulfed_lib.steps.plan import Plan

class Small(Step):
    subject = "dc1"
    look_before = look_after = lambda self: []

    def planned(self):
        return Plan(Changes("", [Change("one", "dc1", "would create", "x")]))

    def actions(self):
        return [lambda: Change("one", "dc1", "created", "x"), lambda: Change("new", "dc1", "created", "y")]

raw = {"federation": "test", "chart": {"version": "1.9.11"}, "primary": {"context": "one", "datacenter": "dc1"}}
raw |= {"secondaries": [{"context": "two", "datacenter": "dc2"}], "dry_run": False}
Small("small", params.check(raw, "the test")).result()
"""


def test_a_new_action_is_a_moment_by_itself(no_kubeconfig: None, tmp_path: Path) -> None:
    """Nobody has to remember it: what `actions()` gives is told, with what came of it."""
    command = [sys.executable, "-c", TELLING + SMALL]
    with Run(Ground(tmp_path), dict(os.environ), command) as run:
        told = [str(moment) for moment in observed(run) if moment.at != "within"]
        assert run.process.wait() == 0, run.said
    parts = ["result", "verify", "preflight", "action 1 of 2 (dc1: one)", "action 2 of 2 (dc1: new)"]
    assert told == [*(f"small: before {part}" for part in parts), "small: after action 2 of 2 (dc1: new)"]


def test_another_end_would_be_seen() -> None:
    """Whatever is missing, new or otherwise than in the undisturbed run is named with its place."""
    one = {"dc1": {"objects": ["Pod a: 1", "Pod b: 1"], "release": ["deployed"]}, "dc2": {"copy": True}}
    assert differences(one, json.loads(json.dumps(one))) == []
    other = {"dc1": {"objects": ["Pod a: 2", "Pod b: 1"], "release": None}, "dc2": {"copy": False}}
    assert differences(one, other) == [
        "/dc1/objects: gone ['Pod a: 1'], new ['Pod a: 2'], 2 before and 2 now",
        "/dc1/release: ['deployed'], now None",
        "/dc2/copy: True, now False",
    ]


# -- the kills ----------------------------------------------------------------------------------------------------

Hits = list[tuple[Moment, str]]


def sample(undisturbed: Undisturbed, chance: random.Random) -> Hits:
    """One moment for each way, either of the setup or of what comes after it."""
    notebooks = chance.choice((SETUP, list(ON_REQUEST)))
    chosen = []
    for way in WAYS:
        those = [each for name in notebooks for each in undisturbed.of(name) if fits(each, way)]
        # Which parts take long differs from time to time; the same chance is to find the same part all the same.
        moment, inside = chance.choice([each for each in those if each.at != "within"]), chance.random() < 0.5
        same = (moment.notebook, moment.part, moment.nth)
        within = [each for each in those if each.at == "within"]
        long = [each for each in within if (each.notebook, each.part, each.nth) == same]
        chosen.append((long[0] if long and inside and moment.at == "before" else moment, way))
    return sorted(chosen, key=lambda hit: undisturbed.moments.index(hit[0]))


def walk(one: Federation, undisturbed: Undisturbed, hits: Hits) -> int:
    """Every notebook in turn, hit at its moments and then brought to its end, up to the last that is to be hit; how
    many of the moments came. Where an undisturbed run leaves something, this one leaves the same."""
    to_hit = {moment.notebook for moment, _ in hits}
    came, last = 0, max(list(NOTEBOOKS).index(name) for name in to_hit)
    names = list(NOTEBOOKS)[: last + 1]
    if not to_hit & set(SETUP):
        one.complete()
        names = [name for name in names if name not in SETUP]
    for notebook in names:
        mine = [(moment, way) for moment, way in hits if moment.notebook == notebook]
        longest = max((moment.seconds for moment, _ in mine), default=0.0)
        for moment, way in mine:
            away = AWAY_LONG if EVERY and moment.at == "within" and moment.seconds == longest else AWAY
            came += one.hit(moment, way, away)
        if mine or notebook != names[-1]:
            one.complete(notebook)
        if notebook in undisturbed.states:
            found = differences(undisturbed.states[notebook], one.state())
            assert found == [], "\n".join([*one.killed, *found])
    return came


@pytest.mark.parametrize("way", WAYS if EVERY else ["each"])
def test_killed_anywhere_it_goes_on_to_the_same_end(
    federation: Callable[[random.Random], Federation], undisturbed: Undisturbed, way: str
) -> None:
    """No record says that it succeeded, no secret and no process is left; and the same command comes to its end."""
    seed = int(os.environ.get("CONSULFED_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"CONSULFED_SEED={seed}")  # to hit the same moments again
    chance = random.Random(seed)
    one = federation(chance)
    if EVERY:
        hits = [(moment, way) for moment in undisturbed.moments if fits(moment, way)]
    else:
        hits = sample(undisturbed, chance)
    began = time.monotonic()
    came = walk(one, undisturbed, hits)
    print(f"{came} of {len(hits)} moments came ({way}), {time.monotonic() - began:.0f} s")
    # What rides over, or is done already, has nothing left to be hit; a part may be over sooner than it was.
    assert came >= sum(way not in (API, HELM) and moment.at != "within" for moment, way in hits)
    assert claims(one.sandbox) == one.well
    assert [left for pid in one.pids for left in Path("/dev/shm").glob(f"consulfed-run-{pid}-*")] == []


def claims(sandbox: Sandbox) -> int:
    """How many records say that their run succeeded; each verifies."""
    verdicts = [verify(folder) for folder in (sandbox.records / "sandbox").glob("[0-9]*")]
    assert [problem for verdict in verdicts for problem in verdict.problems] == []
    return sum(verdict.facts["outcome"] in SUCCESS for verdict in verdicts)
