"""A real Envoy as mesh gateway, told by a real Consul where connections go."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.names import Names
from consulfed_lib.sandbox.node.consul_http import ConsulError
from consulfed_lib.sandbox.node.consul_server import ConsulServer
from consulfed_lib.sandbox.node.envoy import write_routes
from consulfed_lib.sandbox.node.gateway_routes import RouteFollower, resolved
from consulfed_lib.sandbox.node.mesh_gateway import MeshGateway
from consulfed_lib.sandbox.node.workload import Container, Dns
from consulfed_lib.sandbox.tools import ensure

NETWORK = f"127.95.{os.getpid() % 250}"
SERVER, GATEWAY, PROXY = (f"{NETWORK}.{last}" for last in (10, 11, 12))


class OneService(Dns):
    async def resolve(self, host: str) -> list[str]:
        return [SERVER] if host == "consul-server.consul.svc" else []


@pytest.fixture(scope="module")
def tools() -> dict[str, Path]:
    return {name: tool.path for name, tool in ensure("consul", "envoy").items()}


@pytest.fixture(scope="module")
def tls(tools: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tls")
    names = ["-additional-dnsname", "consul-server.consul.svc", "-additional-dnsname", "*.server.dc1.consul"]
    for arguments in (["ca", "create"], ["cert", "create", "-server", "-dc", "dc1", *names]):
        subprocess.run([tools["consul"], "tls", *arguments], cwd=folder, check=True, capture_output=True)
    return {
        "/consul/tls/ca/tls.crt": (folder / "consul-agent-ca.pem").read_bytes(),
        "/consul/tls/server/tls.crt": (folder / "dc1-server-consul-0.pem").read_bytes(),
        "/consul/tls/server/tls.key": (folder / "dc1-server-consul-0-key.pem").read_bytes(),
    }


def container(folder: Path, name: str, address: str, tools: dict[str, Path], **more: Any) -> Container:
    home, data = folder / name, folder / f"{name}-data"
    for path in (home, data):
        path.mkdir(mode=0o700)
    lines: list[str] = []
    made = Container(
        cluster=ClusterLayout(folder, 95, 1, 1),
        client=cast(Any, None),
        token="",
        pod={
            "metadata": {"name": name, "namespace": "consul", "labels": {"component": name}},
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": name, "ports": [{"name": "gateway", "containerPort": 8443}]}],
            },
        },
        address=address,
        env={},
        folder=home,
        data=data,
        log=lines.append,
        tools=tools,
        dns=OneService(),
        **more,
    )
    made.lines = lines  # type: ignore[attr-defined]
    return made


@asynccontextmanager
async def consul_server(
    folder: Path, tools: dict[str, Path], tls: dict[str, bytes]
) -> AsyncIterator[ConsulServer]:
    config = {
        "server": True,
        "bootstrap_expect": 1,
        "datacenter": "dc1",
        "connect": {"enabled": True, "enable_mesh_gateway_wan_federation": True},
        "encrypt": base64.b64encode(bytes(32)).decode(),
        "ca_file": "/consul/tls/ca/tls.crt",
        "cert_file": "/consul/tls/server/tls.crt",
        "key_file": "/consul/tls/server/tls.key",
        "verify_incoming_rpc": True,
        "verify_outgoing": True,
        "verify_server_hostname": True,
        "ports": {"http": -1, "https": 8501},
    }
    files = {**tls, "/consul/config/server.json": json.dumps(config).encode()}
    arguments = ["consul", "agent", "-config-dir=/consul/config"]
    server = ConsulServer(container(folder, "server", SERVER, tools, files=files, arguments=arguments))
    try:
        await server.start()
        await until(server.ready)
        yield server
    finally:
        await server.stop()


async def until(holds: Callable[[], Any]) -> None:
    """Ask again and again: Consul and Envoy have no event to wait for."""
    async with asyncio.timeout(30):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def served(sni: str, tls: dict[str, bytes]) -> str:
    """Who answers a TLS connection through the gateway with that SNI; empty when nobody does."""
    context = ssl.create_default_context(cadata=tls["/consul/tls/ca/tls.crt"].decode())
    context.check_hostname = False
    try:
        _, writer = await asyncio.open_connection(GATEWAY, 8443, ssl=context, server_hostname=sni)
    except (OSError, ssl.SSLError):
        return ""
    subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
    writer.transport.abort()
    return str(subject["commonName"])


def test_gateway_routes_by_server_name_as_consul_knows_it(
    tmp_path: Path, tools: dict[str, Path], tls: dict[str, bytes]
) -> None:
    """Names of this datacenter's servers lead there, others nowhere; a new proxy is routed without a poll."""

    async def main() -> None:
        async with consul_server(tmp_path, tools, tls) as server:
            logins: list[str] = []

            async def login(given: Container) -> str:
                logins.append(given.name)
                if len(logins) == 1:
                    raise ConsulError("not yet")
                return ""

            arguments = ["consul-dataplane", "-addresses=consul-server.consul.svc", "-grpc-port=8502"]
            arguments.append("-ca-certs=/consul/tls/ca/tls.crt")
            given = container(tmp_path, "mesh-gateway", GATEWAY, tools, files=tls, arguments=arguments)
            gateway = MeshGateway(given, login)
            try:
                assert not await gateway.ready()
                await gateway.start()
                await until(gateway.ready)
                assert logins == ["mesh-gateway"] * 2
                assert any("not yet" in line for line in given.lines)  # type: ignore[attr-defined]
                assert await served("server.dc1.consul", tls) == "server.dc1.consul"
                assert await served("server.server.dc1.consul", tls) == "server.dc1.consul"
                assert await served("server.dc2.consul", tls) == ""
                assert gateway._follower is not None
                routes = gateway._follower.routes
                assert set(routes) == {"server.dc1.consul", "server.server.dc1.consul"}
                await _register_proxy(server)
                follower = gateway._follower

                async def routed() -> bool:
                    return len(follower.routes) > len(routes)

                await until(routed)
                (name,) = follower.routes.keys() - routes.keys()
                assert name.startswith("web.default.dc1.internal.")
                assert follower.routes[name] == ((PROXY, 21000),)
                envoy = gateway._envoy
                assert envoy is not None
                envoy.kill()
                assert await gateway.wait() == 137
                assert not await gateway.ready()
            finally:
                await gateway.stop()

    asyncio.run(main())


async def _register_proxy(server: ConsulServer) -> None:
    service = {
        "ID": "web-proxy",
        "Service": "web-sidecar-proxy",
        "Kind": "connect-proxy",
        "Address": PROXY,
        "Port": 21000,
        "Proxy": {"DestinationServiceName": "web"},
    }
    plain = {"ID": "web", "Service": "web", "Address": PROXY, "Port": 80}
    async with aiohttp.ClientSession() as session:
        for item in (service, plain):
            body = {"Node": "pod", "Address": PROXY, "Service": item}
            async with session.put(f"{server.url}/v1/catalog/register", json=body, ssl=False) as answer:
                assert answer.status == 200, await answer.text()


def test_route_without_address_is_none(tmp_path: Path) -> None:
    """Envoy is given what has somewhere to go; a connection for the rest is closed, as for an unknown SNI."""
    routes = {"*.server.dc2.consul": (("127.0.0.2", 443),), "a": (("127.0.0.1", 1),), "b": ()}
    write_routes(tmp_path, ("127.0.0.1", 8443), routes)
    clusters = json.loads((tmp_path / "clusters.json").read_text())["resources"]
    assert [one["name"] for one in clusters] == ["*.server.dc2.consul", "a"]
    (listener,) = json.loads((tmp_path / "listeners.json").read_text())["resources"]
    assert [chain["name"] for chain in listener["filter_chains"]] == ["*.server.dc2.consul", "a"]


def test_names_of_other_gateways_are_looked_up_and_the_unknown_are_told() -> None:
    """A gateway known by a DNS name is routed to its addresses; a name without address leaves its route empty."""
    routes = {"known": (("gw.test", 443), ("127.0.0.1", 1)), "unknown": (("none.test", 443),)}
    unknown: list[str] = []
    names = Names(fixed={"gw.test": "127.0.0.9"})
    assert resolved(routes, names.addresses, unknown.append) == {
        "known": (("127.0.0.9", 443), ("127.0.0.1", 1)),
        "unknown": (),
    }
    assert unknown == ["none.test"]


def test_change_of_a_name_changes_the_routes(
    tmp_path: Path, tools: dict[str, Path], tls: dict[str, bytes]
) -> None:
    """Another datacenter's gateway behind a name: the route comes, moves and goes as the name does."""
    names = Names()

    def targets() -> list[str]:
        clusters = json.loads((tmp_path / "mesh-gateway" / "envoy" / "clusters.json").read_text())[
            "resources"
        ]
        return [
            end["endpoint"]["address"]["socket_address"]["address"]
            for one in clusters
            for end in one["load_assignment"]["endpoints"][0]["lb_endpoints"]
        ]

    async def main() -> None:
        given = container(tmp_path, "mesh-gateway", GATEWAY, tools, files=tls, arguments=[], names=names)
        gateway = MeshGateway(given)
        gateway._folder.mkdir()
        follower = RouteFollower(cast(Any, None), gateway._on_routes, cast(Any, None), given.log)
        gateway._follower, gateway._forget_names = follower, names.subscribe(gateway._write_routes)
        follower.routes = {"*.server.dc2.consul": (("gw.test", 443),)}
        gateway._on_routes(follower.routes)
        assert targets() == []
        assert "sandbox: lookup gw.test: no such host" in given.lines  # type: ignore[attr-defined]
        for address in ("127.0.0.8", "127.0.0.9"):
            names.publish(("dc2", "consul", "gw"), {"gw.test": [address]})
            assert targets() == [address]
        names.publish(("dc2", "consul", "gw"), {})
        assert targets() == []
        await gateway.stop()
        names.publish(("dc2", "consul", "gw"), {"gw.test": ["127.0.0.7"]})
        assert targets() == []

    asyncio.run(main())


def test_same_routes_are_not_written_again(tmp_path: Path) -> None:
    """Envoy reads a file that was replaced; one that says the same is left alone."""
    routes = {"a": (("127.0.0.1", 1), ("127.0.0.1", 2))}
    write_routes(tmp_path, ("127.0.0.1", 8443), routes)
    before = (tmp_path / "clusters.json").stat().st_ino
    write_routes(tmp_path, ("127.0.0.1", 8443), {"a": tuple(reversed(routes["a"]))})
    assert (tmp_path / "clusters.json").stat().st_ino == before
