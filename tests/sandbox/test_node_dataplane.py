"""What a sidecar has to do with the servers: which it understands, and what it goes on with when none answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from consulfed_lib.sandbox.node.consul_http import ConsulHttp
from consulfed_lib.sandbox.node.dataplane import HTTPS_PORT, Relay, understood

FIRST, SECOND, POD = "127.9.0.2", "127.9.0.3", "127.9.0.4"
"""Of no sandbox: the blocks of those begin higher."""

AUTHORIZE = "/v1/agent/connect/authorize"


def body(serial: str = "01", uri: str = "spiffe://x/svc/storefront") -> dict[str, str]:
    return {"Target": "inventory", "ClientCertURI": uri, "ClientCertSerial": serial}


def asked(scene: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(scene(), 20))


# Which servers it can speak with


@pytest.mark.parametrize(("tls", "found"), [(False, [FIRST]), (True, [FIRST, SECOND])])
def test_a_sidecar_without_tls_does_not_understand_servers_that_have_it(tls, found):
    """One with TLS tries them all: where there is none, nothing listens."""

    async def servers() -> list[str]:
        return [FIRST, SECOND]

    with socket.create_server((SECOND, HTTPS_PORT)):
        assert asked(understood(servers, tls=tls)) == found


# What it passes on


class Server:
    """Consul's API as a test wants it; `requests` are what came."""

    def __init__(self) -> None:
        self.status, self.answer = 200, {"Authorized": True}
        self.requests: list[tuple[str, str, str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        token = request.headers.get("X-Consul-Token", "")
        self.requests.append((request.method, request.path_qs, text, token))
        index = {"X-Consul-Index": "7"}
        return web.json_response(self.answer, status=self.status, headers=index)


class Scene:
    """A relay before two servers of which the first is away; `call` is what the proxy does."""

    def __init__(self) -> None:
        self.server = Server()
        self.where = [FIRST, SECOND]

    async def __aenter__(self) -> Scene:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.server.handle)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        site = web.TCPSite(self.runner, SECOND, 0)
        await site.start()
        port = self.runner.addresses[0][1]

        async def servers() -> list[str]:
            return self.where

        self.consul = ConsulHttp(servers, port, None, "")
        self.consul.token = "the sidecar's own"
        self.relay = Relay(self.consul, POD)
        await self.relay.start()
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.relay.stop()
        await self.consul.close()
        await self.runner.cleanup()

    async def call(self, method: str, path: str, content: Any = None) -> tuple[int, str, str]:
        async with self.session.request(method, self.relay.url + path, json=content) as answer:
            return answer.status, await answer.text(), answer.headers.get("X-Consul-Index", "")


def test_requests_go_to_a_server_that_answers_with_the_sidecars_token():
    """The query too, and the index comes back: the proxy waits for changes by it."""

    async def scene() -> None:
        async with Scene() as at:
            status, text, index = await at.call("GET", "/v1/agent/connect/ca/roots?index=3")
            assert (status, json.loads(text), index) == (200, {"Authorized": True}, "7")
            assert at.server.requests == [
                ("GET", "/v1/agent/connect/ca/roots?index=3", "", "the sidecar's own")
            ]

    asked(scene)


@pytest.mark.parametrize("how", ["away", "ill"])
def test_a_decision_counts_until_a_server_gives_another_one(how):
    """Also for the caller's next certificate; for another caller there is none."""

    async def scene() -> None:
        async with Scene() as at:
            assert (await at.call("POST", AUTHORIZE, body()))[0] == 200
            at.where = [] if how == "away" else at.where
            at.server.status = 500
            if how == "away":
                at.consul._address = ""
            status, text, _ = await at.call("POST", AUTHORIZE, body(serial="02"))
            assert (status, json.loads(text)) == (200, {"Authorized": True})
            assert (await at.call("POST", AUTHORIZE, body(uri="spiffe://x/svc/other")))[0] in (500, 503)
            at.where, at.server.status, at.server.answer = [SECOND], 200, {"Authorized": False}
            assert json.loads((await at.call("POST", AUTHORIZE, body()))[1]) == {"Authorized": False}

    asked(scene)


def test_other_answers_are_not_kept():
    """A watch is told that there is nothing new to be had, and asks again."""

    async def scene() -> None:
        async with Scene() as at:
            await at.call("GET", "/v1/agent/connect/ca/roots")
            at.server.status = 500
            assert (await at.call("GET", "/v1/agent/connect/ca/roots"))[0] == 500

    asked(scene)
