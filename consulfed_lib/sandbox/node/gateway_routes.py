"""What a mesh gateway has to route, followed in Consul's own state, as Consul's xDS server would tell it.

*.server.<other>.<domain>                    the WAN addresses of the other datacenter's gateways
*.<other>.internal.<trust domain>            the same
server.<own>.<domain>                        any server of this datacenter: the first join of a secondary
<node>.server.<own>.<domain>                 that server
<service>.default.<own>.internal.<trust domain>   the instances' proxies
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from .consul_http import MISSING_INDEX, ConsulError, ConsulHttp
from .envoy import Address, Routes
from .resolver import is_address

_RETRY_SECONDS = 0.3
_NO_PROXIES = ("consul", "mesh-gateway")


class RouteFollower:
    """Keeps `routes` as Consul's state is, by blocking queries.

    Args:
        consul: a client with the gateway's token.
        changed: called after each change of the routes.
        refused: called when Consul no longer accepts the token; it is to get a new one.
        log: takes one line when asking Consul begins to fail, and when it fails in another way.
    """

    def __init__(
        self,
        consul: ConsulHttp,
        changed: Callable[[Routes], None],
        refused: Callable[[], Awaitable[None]],
        log: Callable[[str], None],
    ):
        self.routes: Routes = {}
        self.datacenter = ""
        self._consul = consul
        self._changed = changed
        self._refused = refused
        self._log = log
        self._complaint = ""
        self._domain = ""
        self._servers: dict[str, str] = {}
        self._port = 8300
        self._gateways: dict[str, tuple[Address, ...]] = {}
        self._trust_domain = ""
        self._proxies: dict[str, tuple[Address, ...]] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("/v1/catalog/service/consul", self._on_servers))
            group.create_task(self._follow("/v1/internal/federation-states/mesh-gateways", self._on_gateways))
            group.create_task(self._follow("/v1/connect/ca/roots", self._on_roots))
            group.create_task(self._follow("/v1/catalog/services", partial(self._on_services, group)))

    async def _follow(self, path: str, take: Callable[[Any], None]) -> None:
        index = MISSING_INDEX
        while True:
            try:
                if not self._domain:
                    self._domain = await self._ask_domain()
                # Stale reads are answered by any server, also while there is no leader.
                answer, index = await self._consul.get(path, index=index, query={"stale": "1"})
            except ConsulError as error:
                index = MISSING_INDEX
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    self._log(f"sandbox: {error}")
                if error.status == 403:
                    await self._refused()
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._complaint = ""
            take(answer)
            self._render()
            if index == MISSING_INDEX:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _ask_domain(self) -> str:
        answer, _ = await self._consul.get("/v1/agent/self")
        return str(answer["DebugConfig"]["DNSDomain"]).rstrip(".")

    def _on_servers(self, answer: Any) -> None:
        self._servers = {one["Node"]: one["Address"] for one in answer}
        for one in answer:
            self.datacenter, self._port = one["Datacenter"], one["ServicePort"]

    def _on_gateways(self, answer: Any) -> None:
        self._gateways = {
            datacenter: tuple(sorted({wan_address(one) for one in healthy(entries)}))
            for datacenter, entries in (answer or {}).items()
        }

    def _on_roots(self, answer: Any) -> None:
        self._trust_domain = answer.get("TrustDomain", "")

    def _on_services(self, group: asyncio.TaskGroup, answer: Any) -> None:
        names = {name for name in answer if name not in _NO_PROXIES and not name.endswith("-sidecar-proxy")}
        for name in names - self._followed.keys():
            path = f"/v1/health/connect/{name}"
            task = group.create_task(self._follow(path, partial(self._on_proxies, name)))
            self._followed[name] = task
        for name in self._followed.keys() - names:
            self._followed.pop(name).cancel()
            self._proxies.pop(name, None)

    def _on_proxies(self, name: str, answer: Any) -> None:
        self._proxies[name] = tuple(sorted({lan_address(one) for one in healthy(answer)}))

    def _render(self) -> None:
        """Put together what is known; nothing before this datacenter's servers are."""
        if not self._servers or not self._domain:
            return
        own, domain, trust = self.datacenter, self._domain, self._trust_domain
        routes: dict[str, tuple[Address, ...]] = {
            f"server.{own}.{domain}": tuple((address, self._port) for address in self._servers.values())
        }
        for node, address in self._servers.items():
            routes[f"{node}.server.{own}.{domain}"] = ((address, self._port),)
        for other, addresses in self._gateways.items():
            if other == own:
                continue
            routes[f"*.server.{other}.{domain}"] = addresses
            if trust:
                routes[f"*.{other}.internal.{trust}"] = addresses
        if trust:
            for name, addresses in self._proxies.items():
                routes[f"{name}.default.{own}.internal.{trust}"] = addresses
        if routes != self.routes:
            self.routes = routes
            self._changed(routes)


def resolved(
    routes: Routes, addresses: Callable[[str], tuple[str, ...]], unknown: Callable[[str], object]
) -> Routes:
    """The routes with addresses in place of names; `unknown` is told of each name that has none.

    A route all of whose names are unknown has nowhere to go, as with a real Envoy that cannot resolve them.
    """
    made: dict[str, tuple[Address, ...]] = {}
    for sni, targets in routes.items():
        found: list[Address] = []
        for host, port in targets:
            at = (host,) if is_address(host) else addresses(host)
            if not at:
                unknown(host)
            found += [(address, port) for address in at]
        made[sni] = tuple(found)
    return made


def healthy(entries: Any) -> list[Any]:
    """Those without a critical check; all of them when every one has: a guess is better than no route."""
    passing = [one for one in entries if all(check["Status"] != "critical" for check in one["Checks"] or [])]
    return passing or list(entries)


def lan_address(entry: Any) -> Address:
    """Where an instance is dialled within its datacenter."""
    service = entry["Service"]
    return service["Address"] or entry["Node"]["Address"], service["Port"]


def wan_address(entry: Any) -> Address:
    """Where a gateway is dialled from other datacenters."""
    wan = (entry["Service"].get("TaggedAddresses") or {}).get("wan")
    return (wan["Address"], wan["Port"]) if wan else lan_address(entry)
