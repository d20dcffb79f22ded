"""Can what must reach each other? Proven from the pods that will do it, not from this machine.

With ACLs the Consul servers of the primary and of a secondary call that secondary's Kubernetes API; and the servers
of each datacenter open TLS connections through the gateways of the others, end to end, to `server.<dc>.<domain>`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from ..cluster import Cluster
from ..errors import WaitTimeoutError
from ..gateway import join, listed, live_addresses, split
from ..params import Cluster as ClusterParams
from ..probe import Outcome, Place, Pod, dialable, probe_all, server_places
from ..results import Finding
from ..values import consul_domain, merged
from ..waiting import Seen, wait_for
from . import Check, check, run_together
from .network_words import API, GATEWAY, MAY_COME, REACHED
from .target import Target

Outcomes = Mapping[tuple[str, str], Outcome]
"""(pod, `host:port`) → how far that connection came."""

Look = Callable[[], Outcomes]
"""Tries the connections; called by the check, so that a pod in which no command runs is a finding, too."""

ROOT_CA = "kube-root-ca.crt"
"""ConfigMap of every namespace with the CA of the cluster's API servers (Kubernetes 1.20 and newer)."""


@dataclass(frozen=True)
class Route:
    """From one datacenter to the gateways of another.

    Attributes:
        addresses: `host:port` of each gateway, as the other side is told to dial it.
        domain: Consul's DNS domain (`global.domain`).
        ca_pem: the CA of the federation, `caCert` of the federation secret; None: the chain is not checked.
    """

    here: ClusterParams
    there: ClusterParams
    addresses: frozenset[str]
    ca_pem: str | None
    domain: str = "consul"

    @property
    def server_name(self) -> str:
        """What the servers' certificates are made out to, and what gateways route by."""
        return f"server.{self.there.datacenter}.{self.domain.strip('.')}"

    def probed(self, places: Iterable[Place]) -> Outcomes:
        """Every gateway, tried from every place."""
        return probe_all(places, filter(dialable, self.addresses), self.server_name, self.ca_pem)

    def probed_by(self, pod: Pod, deadline: float) -> Outcomes:
        """Every gateway, tried from a Pod made for that (`pod_for`), which may take `deadline` seconds."""
        found = pod.run(deadline)
        return {(f"a Pod in {pod.namespace}", address): outcome for address, outcome in found.items()}


# Gateways


def gateway_findings(self: Check, subject: str, route: Route, look: Look) -> Iterator[Finding]:
    """What connections to gateways came to, one finding for each way in which they went wrong."""
    here, there = route.here.datacenter, route.there.datacenter
    if not route.addresses:
        yield self.skipped(subject, f"the gateway of {there} has no address yet")
        return
    if wrong := [each for each in route.addresses if not dialable(each)]:
        hint = (
            f"let the Service of the gateway of {there} have an address, and make the federation secret again"
        )
        yield self.error(
            subject, f"{listed(wrong)}: no address that can be dialled; expected host:port", hint
        )
    outcomes = look()
    if not outcomes:
        if len(wrong) < len(route.addresses):
            yield self.skipped(
                subject, f"no Consul server pod runs in {here} yet from where it could be tried"
            )
        return
    for (outcome, address), pods in _grouped(outcomes).items():
        kind, detail, unsaid = outcome.kind, outcome.detail, _unsaid(outcome)
        host, port = split(address)
        words = {
            "at": f"from {_pods(pods)} of {here}: {address}",
            "name": route.server_name, "detail": detail,
            "host": host, "port": port, "here": here, "there": there,
            "context": route.there.context, "namespace": route.there.namespace,
        }  # fmt: skip
        if kind in REACHED:
            yield self.ok(subject, f"{address} {REACHED[kind].format(**words)}{unsaid}, from {_pods(pods)}")
        elif kind == "not-run":
            yield self.skipped(subject, f"{words['at']} could not be tried: {detail or 'nothing was said'}")
        else:
            found, hint = (text.format(**words) for text in GATEWAY[kind])
            yield self.error(subject, found, hint)


@check(
    "gateway-from-secondary", "the secondary reaches each gateway of the primary, and its servers behind it"
)
def gateway_from_secondary(self: Check, subject: str, route: Route, look: Look) -> Iterator[Finding]:
    yield from gateway_findings(self, subject, route, look)


@check("gateway-from-primary", "the primary reaches each gateway of the secondary, and its servers behind it")
def gateway_from_primary(self: Check, subject: str, route: Route, look: Look) -> Iterator[Finding]:
    yield from gateway_findings(self, subject, route, look)


# The secondary's Kubernetes API


def api_findings(
    self: Check, subject: str, url: str, of: ClusterParams, here: ClusterParams, look: Look
) -> Iterator[Finding]:
    """What connections to a secondary's API came to; an answer of 401, 403 or 404 is one of an API server."""
    give = f"give an api_url of {of.datacenter} that the servers of {here.datacenter} can reach"
    if endpoint(url) is None:
        yield self.error(subject, f"{url} has no host, or no port that is one", give)
        return
    outcomes = look()
    if not outcomes:
        yield self.skipped(
            subject, f"no Consul server pod runs in {here.datacenter} yet from where to try {url}"
        )
        return
    for (outcome, address), pods in _grouped(outcomes).items():
        kind, detail, unsaid = outcome.kind, outcome.detail, _unsaid(outcome)
        words = {
            "at": f"from {_pods(pods)} of {here.datacenter}: {url}", "detail": detail, "give": give,
            "host": split(address)[0], "here": here.datacenter, "of": of.datacenter,
        }  # fmt: skip
        if kind == "unchecked":
            yield self.ok(subject, f"{words['at']} answers in TLS{unsaid}")
        elif kind == "not-run":
            yield self.skipped(subject, f"{words['at']} could not be tried: {detail or 'nothing was said'}")
        elif kind == "http" and detail[:1] in "24":
            vouched = unsaid or f", its certificate is by the CA of {of.datacenter}"
            yield self.ok(subject, f"{words['at']} answers {detail}{vouched}")
        elif kind == "http":
            yield self.warning(
                subject, f"{words['at']} answers {detail}, which is not how an API server answers", give
            )
        else:
            found, hint = (text.format(**words) for text in API[kind])
            yield self.error(subject, found, hint)


@check("api-url-from-primary", "the primary's servers reach the secondary's Kubernetes API, and trust it")
def api_url_from_primary(
    self: Check, subject: str, url: str, of: ClusterParams, primary: ClusterParams, look: Look
) -> Iterator[Finding]:
    yield from api_findings(self, subject, url, of, primary, look)


@check("api-url-from-secondary", "the secondary's own servers reach its Kubernetes API by the same URL")
def api_url_from_secondary(
    self: Check, subject: str, url: str, of: ClusterParams, look: Look
) -> Iterator[Finding]:
    yield from api_findings(self, subject, url, of, of, look)


def probed_api(places: Iterable[Place], url: str, ca_pem: str | None) -> Outcomes:
    """A Kubernetes API, tried from every place. The URL's path plays no part in it."""
    found = endpoint(url)
    return probe_all(places, [join(*found)], found[0], ca_pem) if found else {}


def endpoint(url: str) -> tuple[str, int] | None:
    """Host and port of an https URL; None where it has none.

    >>> endpoint("https://[2001:db8::1]:6443/x"), endpoint("https://lab"), endpoint("https://:1")
    (('2001:db8::1', 6443), ('lab', 443), None)
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        return None
    return (host, port) if host and dialable(join(host, port)) else None


def cluster_ca(cluster: Cluster, namespace: str) -> str | None:
    """The CA of a cluster's API servers, in PEM, as its pods get it; None where the namespace is not there yet."""
    found = cluster.get("configmaps", namespace, ROOT_CA)
    return (found or {}).get("data", {}).get("ca.crt") or None


# All of it


def route(here: Target, there: Target, ca_pem: str | None) -> Route:
    """The route to another datacenter's gateways as they are now."""
    params, of = there.params, there.of
    addresses = live_addresses(there.cluster, of.namespace, there.fullname, params.gateway(of))
    domain = consul_domain(merged(params, of, there.api_url).values)
    return Route(here.of, of, frozenset(addresses), ca_pem, domain)


def pod_for(here: Target, way: Route, image: str = "") -> Pod:
    """The Pod that tries a route before any server runs here; `image` is the chart's own `global.image`."""
    name, gateways = here.params.secret_name, tuple(sorted(filter(dialable, way.addresses)))
    return Pod(here.cluster, here.of.namespace, name, gateways, way.server_name, here.values(), image)


def look_from_servers(primary: Target, secondary: Target, ca_pem: str | None) -> list[Finding]:
    """All four checks of a pair, from the server pods on both sides; what has none yet is skipped.

    Args:
        ca_pem: `caCert` of the federation secret.
    """
    ones, others = (server_places(t.cluster, t.of.namespace, t.of.release) for t in (primary, secondary))
    here, there = primary.of.datacenter, secondary.of.datacenter
    out, back = route(secondary, primary, ca_pem), route(primary, secondary, ca_pem)
    return run_together(
        [
            partial(gateway_from_secondary, f"{there} → {here}", out, partial(out.probed, others)),
            partial(gateway_from_primary, f"{here} → {there}", back, partial(back.probed, ones)),
            partial(look_at_api, primary, secondary),
        ]
    )


def look_at_api(primary: Target, secondary: Target) -> list[Finding]:
    """Whether servers of both reach the secondary's Kubernetes API; nobody needs to without ACLs."""
    if not secondary.params.acls:
        return []
    ones, others = (server_places(t.cluster, t.of.namespace, t.of.release) for t in (primary, secondary))
    url, of, there = secondary.api_url, secondary.of, secondary.of.datacenter
    ca = cluster_ca(secondary.cluster, of.namespace)
    from_primary, from_secondary = (partial(probed_api, places, url, ca) for places in (ones, others))
    return run_together(
        [
            partial(api_url_from_primary, there, url, of, primary.of, from_primary),
            partial(api_url_from_secondary, there, url, of, from_secondary),
        ]
    )


def look_before_install(
    primary: Target, secondary: Target, ca_pem: str | None, image: str = "", patience: float = 0
) -> list[Finding]:
    """The secondary's way to the primary's gateways, by a Pod that is made for that while no server is there.

    Args:
        patience: seconds for which what may still come is tried again.
    """
    way = route(secondary, primary, ca_pem)
    subject = f"{secondary.of.datacenter} → {primary.of.datacenter}"
    places = server_places(secondary.cluster, secondary.of.namespace, secondary.of.release)
    deadline = secondary.params.timeouts.ready
    outcomes: dict[tuple[str, str], Outcome] = {}

    def look() -> Seen:
        outcomes.clear()
        outcomes.update(
            way.probed(places) if places else way.probed_by(pod_for(secondary, way, image), deadline)
        )
        late = [f"{at}: {o.kind}" for (_, at), o in outcomes.items() if o.kind in MAY_COME]
        return Seen(not late, ", ".join(late) or "reached")

    def tried() -> Outcomes:
        with suppress(WaitTimeoutError):
            wait_for(f"{subject}: gateways", look, patience, until_changed=_pause)
        return outcomes

    return gateway_from_secondary(subject, way, tried)


def _pause(left: float) -> None:
    """Nobody tells when a network opens; a Pod every two seconds is not too much for a cluster."""
    time.sleep(min(left, 2.0))


# Words


def _grouped(outcomes: Outcomes) -> dict[tuple[Outcome, str], list[str]]:
    """(outcome, address) → pods, so that three servers that see the same are one finding."""
    groups: dict[tuple[Outcome, str], list[str]] = {}
    for (pod, address), outcome in outcomes.items():
        groups.setdefault((outcome, address), []).append(pod)
    return groups


def _pods(pods: list[str]) -> str:
    return pods[0] if len(pods) == 1 else f"{len(pods)} pods ({', '.join(pods)})"


def _unsaid(outcome: Outcome) -> str:
    """What a good outcome does not prove."""
    if outcome.chain:
        return ""
    why = f" ({outcome.detail})" if outcome.kind == "unchecked" and outcome.detail else ""
    return f"; whose CA signed its certificate was not checked{why}"
