"""A federation over time: whether verdicts hold, and how long the ways between datacenters take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median, quantiles
from typing import Any

from ..checks import Check, check
from ..checks.consul_state import round_trips
from ..checks.federation import Datacenter
from ..errors import ClusterError
from ..handshake import Entrance, entrance
from ..remembered import Remembered
from ..results import Finding, several
from ..show import Latencies, Latency
from ..show.latencies import What
from ..waiting import Seen, nap, wait_for
from .proof import Proof


@check("stability", "every verdict held over the time that was asked for")
def stability(self: Check, subject: str, proof: Proof, seconds: int) -> Iterator[Finding]:
    """Looks again and again for so many seconds; whatever was well and is not any more has flapped."""
    flaps: dict[tuple[str, str], int] = {}
    looks, begun = 0, time.monotonic()
    before = _well(proof.findings)

    def look() -> Seen:
        nonlocal looks, before
        try:
            now = _well(proof.look())
        except ClusterError:  # a look that does not come to its end finds nothing well
            now = set()
        for each in before - now:
            flaps[each] = flaps.get(each, 0) + 1
        looks, before = looks + 1, now
        return Seen(time.monotonic() - begun >= seconds, f"looked {looks} times, {sum(flaps.values())} flaps")

    wait_for(f"{subject}: verdicts hold", look, seconds + 60, until_changed=nap, report=_silent)
    if flaps:
        told = [f"{id} ({about}) {several(n, 'time')}" for (id, about), n in sorted(flaps.items())]
        yield self.error(
            subject,
            f"in {several(looks, 'look')} over {seconds} s these were well and then not: {', '.join(told)}",
            "look at the gateways' and load balancers' logs of that time; then verify again with a longer soak",
        )
    else:
        yield self.ok(subject, f"{several(looks, 'look')} over {seconds} s, and what was well stayed so")


def _well(findings: Sequence[Finding]) -> set[tuple[str, str]]:
    """(check, subject) of what was looked at and is not wrong."""
    bad = {(f.id, f.subject) for f in findings if f.severity in ("error", "skipped")}
    return {(f.id, f.subject) for f in findings} - bad


def _silent(line: str) -> None:
    """A soak is watched by its end; a line for each look would bury the log."""


_HANDSHAKES = 20
"""So many from each datacenter, shared by all ways that begin there: each takes a port-forward of its own."""


def measure(datacenters: Sequence[Datacenter], samples: int) -> Latencies:
    """How long the way to another datacenter takes, for each ordered pair: for a request that a server forwards, and
    for a TLS handshake through both gateways.

    Taken is the time of `/v1/health/node/<server>?dc=<other>`, and of a handshake with `<server>.server.<other>.
    <domain>`, through the port-forward; less the median of the same with the datacenter's own server: what is left is
    the way through the gateways and back.
    """
    if not samples:
        return Latencies()
    with ThreadPoolExecutor(len(datacenters)) as pool:
        rows = [
            row
            for of_one in pool.map(lambda dc: _of_one(dc, datacenters, samples), datacenters)
            for row in of_one
        ]
    remembered = Remembered("latencies", datacenters[0].params.federation)
    before = {name: row for name, row in remembered.read().items() if _is_row(row)}
    now = {f"{row.pair} {row.what}": {"p50": row.p50, "p99": row.p99} for row in rows if row.n}
    remembered.write(before | now)
    return Latencies(_beside(row, before.get(f"{row.pair} {row.what}")) for row in rows)


def _of_one(dc: Datacenter, datacenters: Sequence[Datacenter], samples: int) -> list[Latency]:
    """All pairs that begin here, one after another: what runs beside a measurement is measured with it."""
    others = [other for other in datacenters if other is not dc]
    fewer = max(1, min(samples, _HANDSHAKES // len(datacenters)))
    rows = [
        *_less_own("RPC", dc, others, partial(_requests, dc, samples=samples)),
        *_less_own("gateway handshake", dc, others, partial(_handshakes, _way_in(dc), samples=fewer)),
    ]
    for name, estimate in _by_gossip(dc).items():
        if estimate is not None:  # not measured yet, where it has only just joined
            rows.append(Latency(f"{dc.name} → {name}", "gossip round trip", 1, round(estimate, 2), None))
    return rows


def _less_own(
    what: What, dc: Datacenter, others: Sequence[Datacenter], take: Callable[[Datacenter], list[float]]
) -> Iterator[Latency]:
    """What the way to each of the others takes, without what it takes to ask the datacenter about itself."""
    own = take(dc)
    for other in others:
        pair, taken = f"{dc.name} → {other.name}", take(other) if own else []
        if taken:
            p50, p99 = _p50_p99([max(0.0, each - median(own)) for each in taken])
            yield Latency(pair, what, len(taken), p50, p99)
        else:
            yield Latency(pair, what, 0, None, None)


def _by_gossip(dc: Datacenter) -> dict[str, float | None]:
    """Other datacenters → milliseconds; empty where the datacenter does not answer."""
    try:
        return round_trips(dc)
    except ClusterError:
        return {}


def _way_in(dc: Datacenter) -> Entrance | None:
    """The gateway pod that a datacenter's handshakes go through; None where there is none."""
    try:
        return entrance(dc.cluster, dc.of.namespace, dc.of.release, dc.consul.ca_pem, dc.consul.domain)
    except ClusterError:
        return None


def _handshakes(through: Entrance | None, other: Datacenter, samples: int) -> list[float]:
    """Milliseconds of each handshake; none where one of them fails: the checks say why."""
    try:
        return through.handshakes(other.server_names()[0], other.name, samples) if through else []
    except ClusterError:
        return []


def _requests(dc: Datacenter, other: Datacenter, samples: int) -> list[float]:
    """Milliseconds of each request; none where one of them is not answered: the checks say why."""
    node, times = other.server_names()[0], []
    try:
        for _ in range(samples):
            start = time.perf_counter()
            dc.consul.node_checks(node, other.name)
            times.append((time.perf_counter() - start) * 1000)
    except ClusterError:
        return []
    return times


def _p50_p99(times: list[float]) -> tuple[float, float]:
    """Rounded to a hundredth of a millisecond.

    >>> _p50_p99([1.0])
    (1.0, 1.0)
    """
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return round(cuts[49], 2), round(cuts[98], 2)


def _beside(row: Latency, before: Mapping[str, Any] | None) -> Latency:
    if not before:
        return row
    return Latency(row.pair, row.what, row.n, row.p50, row.p99, before.get("p50"), before.get("p99"))


def _is_row(row: Any) -> bool:
    """Whether it is what `measure` writes."""
    return isinstance(row, dict) and all(
        isinstance(row.get(key, 0.0), float | None) for key in ("p50", "p99")
    )
