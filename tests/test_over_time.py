"""A federation over time: what flaps is counted and named; latencies are of the way only, and beside the last ones."""

from __future__ import annotations

import doctest
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.errors import ClusterError
from consulfed_lib.results import Finding, Severity
from consulfed_lib.show import Latency
from consulfed_lib.steps import over_time
from consulfed_lib.steps.over_time import measure, stability
from consulfed_lib.steps.proof import Proof

from .conftest import ConsulServer, Request


class Clock:
    """Time as a test wants it: a second passes in each pause, and nothing else takes any."""

    def __init__(self) -> None:
        self.now = 0.0

    def nap(self, seconds: float) -> None:
        self.now += 1


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    timer = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
    monkeypatch.setattr(over_time, "time", timer)
    monkeypatch.setattr(over_time, "nap", clock.nap)
    return clock


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this user's state is kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


# Stability


class Prepared:
    """A proof whose looks find what a test wrote down, the last of it for ever."""

    def __init__(self, *looks: list[Finding] | ClusterError):
        self.looks = list(looks)
        self.findings = cast(list[Finding], self.looks[0])

    def look(self) -> list[Finding]:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, ClusterError):
            raise found
        return found


def saw(**severities: Severity) -> list[Finding]:
    """`node_health="error"` → what that check found of dc2."""
    return [Finding(id.replace("_", "-"), "dc2", each, "") for id, each in severities.items()]


GOOD = saw(node_health="ok", wan_members="ok")
NOT = saw(node_health="error", wan_members="ok")


def soaked(*looks: list[Finding] | ClusterError, seconds: int = 3) -> Finding:
    (found,) = stability("federation test", cast(Proof, Prepared(*looks)), seconds)
    return found


def test_what_holds_is_stable():
    """For the whole time, and it says how often it looked."""
    found = soaked(GOOD)
    assert (found.severity, found.found) == ("ok", "4 looks over 3 s, and what was well stayed so")


def test_a_flap_is_counted_and_named():
    """Each time that it was well and then not; that all is well at the end does not make it good."""
    found = soaked(GOOD, NOT, GOOD, NOT, GOOD, seconds=4)
    assert found.severity == "error"
    assert found.found == "in 5 looks over 4 s these were well and then not: node-health (dc2) 2 times"


def test_what_stays_broken_has_flapped_once():
    """It is not counted again in every look."""
    assert soaked(GOOD, NOT).found.endswith("node-health (dc2) 1 time")


def test_what_was_broken_all_the_time_has_not_flapped():
    """Its own check says so; the soak is about what changes."""
    assert soaked(NOT).severity == "ok"


@pytest.mark.parametrize(
    "then",
    [saw(node_health="skipped", wan_members="ok"), saw(wan_members="ok")],
    ids=["skipped", "gone"],
)
def test_what_is_not_seen_any_more_has_not_held(then):
    """A check that cannot look, or that nobody ran, is no verdict."""
    assert soaked(GOOD, then).found.endswith("node-health (dc2) 1 time")


def test_a_warning_is_no_flap():
    """It breaks nothing."""
    assert soaked(GOOD, saw(node_health="warning", wan_members="ok")).severity == "ok"


def test_a_look_that_fails_is_a_flap_of_everything():
    """An API server that was away for a moment is what a soak is for."""
    found = soaked(GOOD, ClusterError("dc2 does not answer"), GOOD)
    assert found.severity == "error"
    assert found.found.endswith("node-health (dc2) 1 time, wan-members (dc2) 1 time")


# Latencies


def test_p50_and_p99_are_of_all_samples():
    """The doctest holds one sample; of a hundred, one that was slow is the p99's."""
    assert doctest.testmod(over_time).failed == 0
    assert over_time._p50_p99([1.0] * 99 + [101.0]) == (1.0, 2.0)
    assert over_time._p50_p99([float(n) for n in range(101)]) == (50.0, 99.0)


@pytest.fixture
def world(consul_server, federation) -> Callable[..., list[tuple[Datacenter, ConsulServer]]]:
    """Datacenters whose servers answer about everybody at once."""

    def make(n: int = 2) -> list[tuple[Datacenter, ConsulServer]]:
        clusters = [{"context": f"dc{i + 1}", "datacenter": f"dc{i + 1}"} for i in range(n)]
        params = federation(primary=clusters[0], secondaries=clusters[1:])
        found = []
        for of in params.clusters:
            server = consul_server(of.datacenter)
            server.answers("health/node/consul-server-0", [{"CheckID": "serfHealth", "Status": "passing"}])
            server.answers("coordinate/datacenters", [])
            found.append((Datacenter(params, of, server.cluster, server.client), server))
        return found

    return make


def rows(world: list[tuple[Datacenter, ConsulServer]], samples: int = 5) -> dict[str, Latency]:
    return {row.pair: row for row in measure([dc for dc, _ in world], samples) if row.what == "RPC"}


def slow(clock: Clock, server: ConsulServer, **milliseconds: float) -> None:
    """Lets requests take so long, by the datacenter that they are about."""

    def answer(request: Request) -> tuple[int, Any]:
        clock.now += milliseconds[request.query["dc"]] / 1000
        return 200, [{"CheckID": "serfHealth", "Status": "passing"}]

    server.consul.answers["GET /v1/health/node/consul-server-0"] = answer


def test_a_latency_is_that_of_the_way_only(world, clock):
    """The port-forward and the server's own work are in both requests, and are taken away."""
    pair = world()
    slow(clock, pair[0][1], dc1=2, dc2=12)
    row = rows(pair)["dc1 → dc2"]
    assert (row.n, row.p50, row.p99) == (5, 10.0, 10.0)


def test_no_latency_is_below_zero(world, clock):
    """Where the other one answers sooner than the own server, the way took nothing that could be measured."""
    pair = world()
    slow(clock, pair[0][1], dc1=12, dc2=2)
    assert rows(pair)["dc1 → dc2"].p50 == 0.0


def test_every_ordered_pair_is_measured(world):
    """Over the one connection of each datacenter."""
    three = world(3)
    names = ("dc1", "dc2", "dc3")
    assert set(rows(three)) == {f"{a} → {b}" for a in names for b in names if a != b}
    for _, server in three:
        assert len({request.connection for request in server.consul.requests}) == 1


def test_what_does_not_answer_has_no_latency(world):
    """The ways to others are measured all the same; what is not measured is no zero."""
    three = world(3)

    def answer(request: Request) -> tuple[int, Any]:
        return (500, b"No path to datacenter") if request.query["dc"] == "dc3" else (200, [])

    three[0][1].consul.answers["GET /v1/health/node/consul-server-0"] = answer
    found = rows(three)
    assert (found["dc1 → dc3"].n, found["dc1 → dc3"].p50, found["dc1 → dc3"].p99) == (0, None, None)
    assert all(row.p50 is not None for pair, row in found.items() if pair != "dc1 → dc3")


def test_a_datacenter_that_is_down_has_no_latencies(world):
    """Neither by requests nor by gossip, and it stops nobody else."""
    pair = world()
    pair[0][0].cluster.down = "no pod is there"
    found = rows(pair)
    assert found["dc1 → dc2"].p50 is None
    assert found["dc2 → dc1"].p50 is not None


def test_nothing_is_asked_where_no_samples_are_wanted(world):
    """`latency: 0` in the parameters."""
    pair = world()
    assert list(measure([dc for dc, _ in pair], 0)) == []
    assert not any(server.consul.requests for _, server in pair)


# Remembered


def test_the_last_ones_stand_beside_the_new_ones(world, clock):
    """The first time there is nothing to compare with."""
    pair = world()
    slow(clock, pair[0][1], dc1=2, dc2=12)
    first = rows(pair)["dc1 → dc2"]
    assert (first.previous_p50, first.change) == (None, "")
    slow(clock, pair[0][1], dc1=2, dc2=22)
    second = rows(pair)["dc1 → dc2"]
    assert (second.p50, second.previous_p50, second.previous_p99) == (20.0, 10.0, 10.0)
    assert second.change.startswith("p50 +10.0 ms (+100 %)")


def test_a_failure_does_not_forget_what_was_measured_before(world, clock):
    """The next measurement is compared with the last one that there was."""
    pair = world()
    slow(clock, pair[0][1], dc1=2, dc2=12)
    rows(pair)
    pair[0][1].answers("health/node/consul-server-0", {}, status=500)
    assert rows(pair)["dc1 → dc2"].p50 is None
    slow(clock, pair[0][1], dc1=2, dc2=12)
    assert rows(pair)["dc1 → dc2"].previous_p50 == 10.0


def test_federations_are_remembered_apart(world, home):
    """By their name, in the user's own state."""
    rows(world())
    (file,) = home.rglob("*.json")
    assert file.relative_to(home) == Path("consulfed/latencies/test.json")
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "[]", "{", '{"dc1 → dc2 RPC": 3}', '{"dc1 → dc2 RPC": {"p50": "x"}}'])
def test_a_memory_that_cannot_be_read_is_none(world, home, text):
    """Cut short, or of something else: it is measured all the same, and written anew."""
    place = home / "consulfed" / "latencies" / "test.json"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    pair = world()
    assert rows(pair)["dc1 → dc2"].previous_p50 is None
    assert rows(pair)["dc1 → dc2"].previous_p50 is not None


def test_a_state_that_cannot_be_written_stops_nothing(world, home):
    """Then the next time has nothing to compare with."""
    (home / "consulfed").write_text("a file where a folder should be")
    pair = world()
    for _ in range(2):
        assert rows(pair)["dc1 → dc2"].previous_p50 is None
