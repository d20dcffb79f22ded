"""What a sidecar has to do with the servers, as consul-dataplane would: which it can speak with, and what it keeps.

It speaks TLS or does not, as the injector wrote down for the pod's whole life. Since chart 1.0 `global.tls.enabled`
turns the servers' gRPC port from one to the other, so that a sidecar from before TLS loses the servers one by one as
they are restarted. Its Envoy then goes on with what it has been told, but hears of nothing new.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from .consul_http import ConsulError, ConsulHttp

GRPC_PORT = 8502
"""Where a real sidecar asks the servers for its configuration; here it asks by HTTP."""

HTTPS_PORT = 8501

RELAY_PORT = 20500
"""On the pod's address; a real sidecar has such a port on its localhost."""

_AUTHORIZE = "/v1/agent/connect/authorize"
_PROBE_SECONDS = 1

Servers = Callable[[], Awaitable[list[str]]]


def understood(servers: Servers, tls: bool) -> Servers:
    """Those servers that a sidecar with or without TLS can speak with; also none, when all have changed."""

    async def addresses() -> list[str]:
        found = await servers()
        if tls:
            # Where there is no TLS nothing listens on the port that is asked.
            return found
        turned = await asyncio.gather(*(_speaks_tls(address) for address in found))
        return [address for address, has in zip(found, turned, strict=True) if not has]

    return addresses


async def _speaks_tls(address: str) -> bool:
    """Whether TLS is on there. The HTTPS port tells: it comes with it, and the Consul of charts since 1.0 may have a
    gRPC port for TLS that the one of this machine does not know."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, HTTPS_PORT), _PROBE_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class Relay:
    """What `consul connect proxy` takes for its agent: passes its requests on to a server that answers.

    That proxy asks at each connection whether it is allowed; Envoy was told beforehand, and needs nobody. So the last
    answer counts while no server gives another one.
    """

    def __init__(self, consul: ConsulHttp, address: str):
        self._consul, self._address = consul, address
        self._decisions: dict[tuple[str, str], bytes] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self._address}:{RELAY_PORT}"

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, RELAY_PORT).start()

    async def stop(self) -> None:
        if self._runner is not None:
            # A watch may be open for minutes.
            await self._runner.shutdown()
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        caller = _caller(body) if request.path == _AUTHORIZE else None
        try:
            status, text, index = await self._consul.forward(request.method, request.path_qs, body)
        except ConsulError as error:
            if caller in self._decisions:
                return web.Response(body=self._decisions[caller], content_type="application/json")
            return web.Response(status=error.status or 503, text=str(error))
        if caller is not None and status == 200:
            self._decisions[caller] = text
        headers = {"X-Consul-Index": index} if index else {}
        return web.Response(status=status, body=text, headers=headers, content_type="application/json")


def _caller(body: bytes) -> tuple[str, str] | None:
    """Who asks for whom; whatever the certificate, which is another one each few days."""
    asked = json.loads(body)
    return asked.get("Target", ""), asked.get("ClientCertURI", "")
