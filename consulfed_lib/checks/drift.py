"""Where a datacenter's gateways are, asked in every place that says so: which of them is behind, and what brings it on.

An address goes from hand to hand: the Service has it, the gateway registers with it (catalog), the primary's go into
the federation secret, from there into each copy, and from there into the servers that start; what the catalog has,
the federation state tells to all datacenters. Each hand-over can be missed (consul-k8s #366, #417, #2263; consul
#10132, #15032), and a place that is behind the one before it is where to mend. Addresses are sets: order is random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from ..cluster import is_ready
from ..errors import ConsulfedError
from ..gateway import catalog_addresses, difference, listed
from ..results import MARKS, Finding, Severity, Table, several
from ..secret import read
from . import Check, check
from .federation import Datacenter
from .holdings import Unseen

T = TypeVar("T")

Known = frozenset[str] | Unseen
"""Addresses as one place has them, or why that is not known."""

SERVICE = "Service"


@dataclass(frozen=True)
class Told:
    """What one datacenter says of gateways: its own, the primary's, and everybody's.

    Attributes:
        service, catalog: its own gateways, as the cluster has them, and as Consul does.
        secret: the primary's gateways in its federation secret, in a secondary its copy.
        running: pod → those that this server was started with; empty in the primary, which starts with none.
        states: datacenter → its gateways, as the federation states here have them.
    """

    dc: Datacenter
    service: Known
    catalog: Known
    secret: Known
    running: Mapping[str, Known]
    states: Mapping[str, Known]


@dataclass(frozen=True)
class Address:
    """The gateways of a datacenter in one place.

    Attributes:
        place: what says so, and where: `copy in dc2`.
        addresses: `host:port` of each, in order.
        verdict: `ok` where they are those of the Service; `skipped` where either could not be looked at.
    """

    datacenter: str
    place: str
    addresses: tuple[str, ...]
    verdict: Severity


class Addresses(Table):
    """Every place that knows a gateway's address, those of one datacenter together."""

    kind = "addresses"
    columns = ("datacenter", "place", "addresses", "verdict")

    def _cell(self, row: Address, column: str) -> str:
        if column == "verdict":
            return f"{MARKS[row.verdict]} {row.verdict}"
        if column == "addresses":
            return "not seen" if row.verdict == "skipped" and not row.addresses else listed(row.addresses)
        return super()._cell(row, column)

    def summary(self) -> str:
        behind = [
            f"{row.datacenter}: {row.place}" for row in self.rows if row.verdict in ("warning", "error")
        ]
        unseen = sum(row.verdict == "skipped" for row in self.rows)
        words = [
            several(len(self.rows), "place"),
            f"behind: {', '.join(behind)}" if behind else "none is behind",
        ]
        return "; ".join([*words, f"{unseen} not compared"] if unseen else words)


# Reading


def hear(dc: Datacenter) -> Told:
    """What a datacenter says: one look at each place. What cannot be seen is Unseen."""
    params, is_primary = dc.params, dc.of == dc.params.primary
    states = _seen(lambda: _states(dc))
    return Told(
        dc,
        _seen(lambda: frozenset(dc.gateway_addresses())),
        _seen(lambda: frozenset(catalog_addresses(dc.consul.service("mesh-gateway", dc.name)))),
        _seen(lambda: _in_secret(dc)),
        {} if is_primary else _running(dc),
        {
            each.datacenter: states
            if isinstance(states, Unseen)
            else states.get(each.datacenter, frozenset())
            for each in params.clusters
        },
    )


def hear_all(dcs: Sequence[Datacenter]) -> list[Told]:
    """All datacenters at the same time, in their order."""
    with ThreadPoolExecutor(max_workers=min(16, len(dcs))) as pool:
        return list(pool.map(hear, dcs))


def _running(dc: Datacenter) -> dict[str, Known]:
    """Each server that is ready was started by itself; the one that answers for all is asked anyway."""
    labels = f"component=server,release={dc.of.release}"
    pods = _seen(lambda: dc.cluster.list("pods", dc.of.namespace, labels) if dc.params.servers > 1 else [])
    if isinstance(pods, Unseen):
        return {f"{dc.fullname}-server-*": pods}
    names = {str(pod["metadata"]["name"]) for pod in pods if is_ready(pod)} | {dc.consul.pod}
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(pool.map(lambda name: (name, _seen(lambda: _started_with(dc, name))), sorted(names)))


def _started_with(dc: Datacenter, pod: str) -> frozenset[str]:
    if pod == dc.consul.pod:
        return frozenset(dc.consul.settings().get("PrimaryGateways") or [])
    with closing(dc.consul.beside(pod)) as server:
        return frozenset(server.settings().get("PrimaryGateways") or [])


def _seen(look: Callable[[], T]) -> T | Unseen:
    try:
        return look()
    except ConsulfedError as error:
        return Unseen(error.found)


def _in_secret(dc: Datacenter) -> Known:
    where = f"{dc.of.namespace}/{dc.params.secret_name}"
    secret = read(dc.cluster, dc.of.namespace, dc.params.secret_name)
    if secret is None:
        return Unseen(f"{where} is not there")
    try:
        return frozenset(secret.gateways())
    except (KeyError, ValueError, TypeError, AttributeError):  # whatever else serverConfigJSON may hold
        return Unseen(f"{where} holds no server config that can be read")


def _states(dc: Datacenter) -> dict[str, frozenset[str]]:
    return {
        each["Datacenter"]: frozenset(
            catalog_addresses(
                {"ServiceTaggedAddresses": gateway["Service"].get("TaggedAddresses")}
                for gateway in each.get("MeshGateways") or []
            )
        )
        for each in dc.consul.federation_states()
    }


# Judging


@dataclass(frozen=True)
class _Place:
    """One place with the gateways of a datacenter.

    Attributes:
        source: the place that its addresses come from; empty for the Service, where they begin.
        mend: what brings it on.
        worst: how bad it is when it is behind.
    """

    name: str
    known: Known
    source: str = ""
    mend: str = ""
    worst: Severity = "error"


def _places(of: Told, told: Sequence[Told]) -> Iterator[_Place]:
    """Every place with the gateways of one datacenter, each after its source; the first of `told` is the primary."""
    dc, primary = of.dc, told[0]
    yield _Place(SERVICE, of.service)
    register = f"restart the gateway: {_kubectl(dc)} rollout restart deployment/{dc.fullname}-mesh-gateway"
    if of.catalog == frozenset():
        register = f"see why no gateway is up: {_kubectl(dc)} describe deployment/{dc.fullname}-mesh-gateway"
    yield _Place("catalog", of.catalog, SERVICE, register)
    if of is primary:
        yield from _of_primary(told)
    first = f"federation state in {primary.dc.name}"
    yield _Place(first, primary.states[dc.name], "catalog", f"see why {dc.name} did not tell it: {_log(dc)}")
    for each in told:
        if each is not primary:
            here = each.dc
            mend = f"see why {here.name} did not replicate it: {_log(here)}"
            yield _Place(f"federation state in {here.name}", each.states[dc.name], first, mend)


def _of_primary(told: Sequence[Told]) -> Iterator[_Place]:
    """The secret, its copies and the servers that were started with them; only the primary's gateways are in them."""
    primary = told[0].dc.name
    yield _Place("federation secret", told[0].secret, "catalog", "run 01-primary-setup")
    for each in told[1:]:
        dc = each.dc
        copy = f"copy in {dc.name}"
        yield _Place(copy, each.secret, "federation secret", f"run 02-secret-transfer for {dc.name}")
        restart = f"{_kubectl(dc)} rollout restart statefulset/{dc.fullname}-server"
        # Consul dials by what it learnt through the federation for as long as that is right.
        learnt = each.states[primary] == told[0].service
        mend = f"restart the servers: {restart}; then run 03-secondary-setup for {dc.name}"
        for pod, running in each.running.items():
            name = f"running config of {pod} in {dc.name}"
            yield _Place(name, running, copy, mend, "warning" if learnt else "error")


def _kubectl(dc: Datacenter) -> str:
    return f"kubectl --context {dc.of.context} -n {dc.of.namespace}"


def _log(dc: Datacenter) -> str:
    return f"{_kubectl(dc)} logs {dc.consul.pod} | grep -i federation"


def _verdict(place: _Place, live: Known) -> Severity:
    if isinstance(place.known, Unseen) or isinstance(live, Unseen):
        return "skipped"
    if not live:
        return "error" if place.name == SERVICE else "skipped"
    return "ok" if place.known == live else place.worst


@check(
    "gateway-addresses", "every place that knows the datacenter's gateways has the addresses of its Service"
)
def gateway_addresses(self: Check, subject: str, of: Told, told: Sequence[Told]) -> Iterator[Finding]:
    places = {each.name: each for each in _places(of, told)}
    live, verdicts = of.service, {name: _verdict(each, of.service) for name, each in places.items()}
    if isinstance(live, Unseen):
        yield self.skipped(subject, f"{SERVICE}: {live.why}, so that nothing can be compared with it")
        return
    if not live:
        hint = f"{_kubectl(of.dc)} describe service/{of.dc.fullname}-mesh-gateway"
        yield self.error(subject, "the gateway's Service has no address, so that no place can be right", hint)
        return
    behind = {name: each for name, each in places.items() if verdicts[name] in ("warning", "error")}
    for place, followers in _by_cause(behind.values()):
        has = set() if isinstance(place.known, Unseen) else set(place.known)
        same = f"; so is what comes from it: {', '.join(followers)}" if followers else ""
        before = f"first mend the {place.source}; then " if place.source in behind else ""
        after = "; then verify again: what does not follow by itself is named then" if followers else ""
        severe = any(verdicts[name] == "error" for name in [place.name, *followers])
        say = self.error if severe else self.warning
        yield say(
            subject,
            f"the {place.name} is stale: it has {listed(has)}, the {SERVICE} has {listed(live)}"
            f" ({difference(has, set(live))}){same}",
            before + place.mend + after,
        )
    unseen = [(each.name, each.known.why) for each in places.values() if isinstance(each.known, Unseen)]
    for name, why in unseen:
        yield self.skipped(subject, f"{name}: {why}")
    if not behind and not unseen:
        yield self.ok(subject, f"{listed(live)}, in {several(len(places), 'place')}")


def _by_cause(behind: Iterable[_Place]) -> list[tuple[_Place, list[str]]]:
    """Each place that is stale by itself, with those that only repeat what it has. Sources stand before what they
    feed."""
    causes: dict[str, tuple[_Place, list[str]]] = {}
    for place in behind:
        cause = causes.get(place.source)
        if cause is not None and cause[0].known == place.known:
            cause[1].append(place.name)
            causes[place.name] = cause
        else:
            causes[place.name] = place, []
    return [causes[name] for name in causes if causes[name][0].name == name]


def look_at_addresses(told: Sequence[Told]) -> list[Finding]:
    """One check a datacenter, on what was heard; the first is the primary."""
    return [finding for each in told for finding in gateway_addresses(each.dc.name, each, told)]


def addresses(told: Sequence[Told]) -> Addresses:
    """A row for each datacenter and place; the first of `told` is the primary."""
    rows = [
        Address(
            of.dc.name,
            place.name,
            () if isinstance(place.known, Unseen) else tuple(sorted(place.known)),
            _verdict(place, of.service),
        )
        for of in told
        for place in _places(of, told)
    ]
    return Addresses("Gateway addresses", rows)
