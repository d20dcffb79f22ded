"""Consul's HTTP API as a pod uses it: any server of a list, TLS checked against the mounted CA."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

MISSING_INDEX = 0
"""The index with which a query answers at once instead of waiting for a change."""

_WAIT = "60s"
_ANSWER_SECONDS = 90
_FORWARD_SECONDS = 400
"""Others' queries may wait for a change as long as Consul lets them: 5 minutes and a sixteenth."""


class ConsulError(Exception):
    """No server answered, or one refused; `status` is 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class ConsulHttp:
    """A client of one datacenter's servers.

    Args:
        servers: gives the addresses to try, in order; asked again after a failure, as a resolver would be.
        port: the HTTPS port, or the HTTP port where `ca_pem` is None.
        ca_pem: CA of the servers' certificates; None for plain HTTP.
        server_name: the name that a server's certificate must have (`server.dc1.consul`, a Service's name).
    """

    def __init__(
        self,
        servers: Callable[[], Awaitable[list[str]]],
        port: int,
        ca_pem: str | None,
        server_name: str,
    ):
        self._servers = servers
        self._port = port
        self._tls = ssl.create_default_context(cadata=ca_pem) if ca_pem is not None else None
        self._server_name = server_name if ca_pem is not None else None
        self._address = ""
        self._session: aiohttp.ClientSession | None = None
        self.token = ""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, path: str, *, index: int = MISSING_INDEX, query: dict[str, str] | None = None
    ) -> tuple[Any, int]:
        """The JSON answer and its index; with the index of an earlier answer it waits for a change (60 s).

        Raises ConsulError. A server that did not answer is not asked first again.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=5)
            )
        address = await self.address()
        scheme = "http" if self._tls is None else "https"
        waiting = {"index": str(index), "wait": _WAIT} if index else {}
        try:
            async with self._session.get(
                f"{scheme}://{address}:{self._port}{path}",
                params={**(query or {}), **waiting},
                headers={"X-Consul-Token": self.token} if self.token else {},
                ssl=self._tls if self._tls is not None else True,
                server_hostname=self._server_name,
            ) as response:
                if response.status != 200:
                    text = (await response.text()).strip()
                    raise ConsulError(f"{path}: {response.status} {text}", response.status)
                seen = int(response.headers.get("X-Consul-Index", "0"))
                return await response.json(content_type=None), seen if seen >= index else MISSING_INDEX
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._address = ""
            raise ConsulError(
                f"{address}:{self._port}{path}: {str(error) or type(error).__name__}"
            ) from error

    async def forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str]:
        """Somebody else's request, with this client's token: (status, body, X-Consul-Index) of the answer.

        A server that does not answer is given up for another one, once. Raises ConsulError when that does not answer
        either, or when an answer is an error of the server's own (5xx).
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        scheme = "http" if self._tls is None else "https"
        for last in (False, True):
            address = await self.address()
            try:
                async with self._session.request(
                    method,
                    f"{scheme}://{address}:{self._port}{path}",
                    data=body or None,
                    headers={"X-Consul-Token": self.token} if self.token else {},
                    timeout=aiohttp.ClientTimeout(total=_FORWARD_SECONDS, sock_connect=5),
                    ssl=self._tls if self._tls is not None else True,
                    server_hostname=self._server_name,
                ) as response:
                    text = await response.read()
                    if response.status >= 500:
                        raise ConsulError(f"{path}: {response.status} {text.decode()}", response.status)
                    return response.status, text, response.headers.get("X-Consul-Index", "")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._address = ""
                if last:
                    raise ConsulError(
                        f"{address}:{self._port}{path}: {str(error) or type(error).__name__}"
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    async def address(self) -> str:
        """The server that is asked now, and again until it fails. Raises ConsulError."""
        if not self._address:
            addresses = await self._servers()
            if not addresses:
                raise ConsulError("no address of a Consul server is known yet")
            self._address = await _first_answering(addresses, self._port)
        return self._address


async def _first_answering(addresses: list[str], port: int) -> str:
    for address in addresses:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
        except (OSError, TimeoutError):
            continue
        writer.close()
        return address
    raise ConsulError(f"no Consul server answers on port {port} of {', '.join(addresses)}")
