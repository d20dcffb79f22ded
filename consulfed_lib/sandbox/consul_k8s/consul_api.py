"""A client of the HTTP API of one Consul datacenter, as consul-k8s uses it: reads and writes, any server or all.

`node.consul_http` is the reading client of a running gateway, with blocking queries; this one is for Jobs and
controllers, which change things and must be sure that every server has seen it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from ..node.consul_http import ConsulError
from ..node.workload import Container
from .options import Endpoint

Addresses = Callable[[], Awaitable[list[str]]]
"""Gives the addresses of the servers as they are now."""


class ConsulApi:
    """Requests to the servers of one datacenter, with one token; an async context manager.

    Args:
        addresses: gives the servers' addresses; they are looked up for each request, because pods move.
        port: HTTPS port, or HTTP port where `ca_pem` is None.
        ca_pem: CA of the servers' certificates; None for plain HTTP.
        server_name: a name in their certificates: a Service's name, or `localhost`, which each of them has.
        token: ACL token; empty for anonymous requests.
        timeout: seconds to wait for one answer.
    """

    def __init__(
        self,
        addresses: Addresses,
        port: int,
        ca_pem: str | None,
        server_name: str,
        token: str = "",
        timeout: float = 5.0,
    ):
        self._addresses = addresses
        self._port = port
        self._ca_pem = ca_pem
        self._tls = ssl.create_default_context(cadata=ca_pem) if ca_pem is not None else None
        self._server_name = server_name if ca_pem is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._timeout = timeout
        self.token = token

    async def __aenter__(self) -> ConsulApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def elsewhere(self, addresses: Addresses) -> ConsulApi:
        """A client of other servers with certificates of the same CA; the caller closes it."""
        return ConsulApi(
            addresses, self._port, self._ca_pem, server_name("127.0.0.1"), self.token, self._timeout
        )

    async def servers(self) -> list[str]:
        """Addresses of the servers; ConsulError while there is none."""
        addresses = await self._addresses()
        if not addresses:
            raise ConsulError("no address of a Consul server is known yet")
        return addresses

    async def get(self, path: str, *, dc: str = "", address: str = "", stale: bool = False) -> Any:
        """The JSON answer. `dc` forwards the request to another datacenter, `address` asks that server only."""
        return await self.request("GET", path, dc=dc, address=address, stale=stale)

    async def find(self, path: str, *, dc: str = "") -> Any:
        """The JSON answer, or None where Consul answers 404."""
        try:
            return await self.get(path, dc=dc)
        except ConsulError as error:
            if error.status == 404:
                return None
            raise

    async def put(
        self, path: str, body: Any = None, *, dc: str = "", address: str = "", timeout: float | None = None
    ) -> Any:
        """Write; the JSON answer, None for an empty one."""
        return await self.request("PUT", path, body, dc=dc, address=address, timeout=timeout)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        dc: str = "",
        address: str = "",
        stale: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """One request to `address`, or to the first server that answers. Raises ConsulError."""
        servers = [address] if address else await self.servers()
        for server in servers[:-1]:
            try:
                return await self._ask(server, method, path, body, dc, stale, timeout)
            except ConsulError as error:
                if error.status:
                    raise
        return await self._ask(servers[-1], method, path, body, dc, stale, timeout)

    async def _ask(
        self, address: str, method: str, path: str, body: Any, dc: str, stale: bool, timeout: float | None
    ) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        url = f"{'http' if self._tls is None else 'https'}://{address}:{self._port}{path}"
        query = {**({"dc": dc} if dc else {}), **({"stale": "1"} if stale else {})}
        try:
            async with self._session.request(
                method,
                url,
                params=query,
                data=None if body is None else json.dumps(body),
                headers={"X-Consul-Token": self.token} if self.token else {},
                timeout=aiohttp.ClientTimeout(total=timeout or self._timeout, sock_connect=2),
                ssl=self._tls if self._tls is not None else True,
                server_hostname=self._server_name,
            ) as response:
                text = (await response.text()).strip()
                if response.status != 200:
                    raise ConsulError(f"{method} {path}: {response.status} {text}", response.status)
                return json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ConsulError(f"{method} {url}: {_cause(error)}") from error

    async def wait_known(self, *, dc: str = "") -> None:
        """Return when the servers know this client's token; ConsulError for what waiting does not mend.

        A server that has not yet applied the write that made the token answers 403 for some milliseconds, and
        a server of another datacenter would keep that answer for half a minute.
        """
        servers = [""] * 3 if dc else await self.servers()
        for server in servers:
            await self.get("/v1/acl/token/self", dc=dc, address=server, stale=True)


def _cause(error: Exception) -> str:
    """The error without aiohttp's talk of context objects."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__


def consul_of(container: Container, place: Endpoint, token: str = "") -> ConsulApi:
    """A client for the servers that a container was told of."""
    ca_pem = None
    if place.ca_file:
        if place.ca_file not in container.files:
            raise ConsulError(f"there is no CA certificate at {place.ca_file}")
        ca_pem = container.files[place.ca_file].decode()
    hosts = [_beyond_client_agent(container, host) for host in place.hosts]

    async def addresses() -> list[str]:
        found = [address for host in hosts for address in await container.dns.resolve(host)]
        return list(dict.fromkeys(found))

    # In the place of an agent that has no name, servers are known by the one that each of them has.
    return ConsulApi(addresses, place.port, ca_pem, server_name(place.hosts[0]), token, place.timeout)


def server_name(host: str) -> str:
    """The name to look for in a server's certificate when it is reached as `host`."""
    return "localhost" if host.replace(".", "").isdigit() else host


def _beyond_client_agent(container: Container, host: str) -> str:
    """Up to chart 0.49 pods ask the client agent on their node. There is none here: ask the servers it would.

    Their Service is <fullname>-server, and the pod's service account is <fullname>-<component>.
    """
    if host not in container.cluster.node_addresses.values():
        return host
    account = container.pod["spec"].get("serviceAccountName", "")
    return f"{account.removesuffix(f'-{container.component}')}-server.{container.namespace}.svc"
