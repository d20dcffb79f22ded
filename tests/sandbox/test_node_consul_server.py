"""Real Consul servers, run from what a chart renders for newer ones."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from consulfed_lib.errors import ToolError
from consulfed_lib.sandbox import tools
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.names import Names
from consulfed_lib.sandbox.node.consul_config import ConfigError, server_config
from consulfed_lib.sandbox.node.consul_server import ConsulServer
from consulfed_lib.sandbox.node.resolver import ResolverError
from consulfed_lib.sandbox.node.workload import Container, Dns
from consulfed_lib.sandbox.tools import ensure

BLOCK = 96
GOSSIP_KEY = base64.b64encode(bytes(range(32))).decode()
TOKEN = "5f7b8c0e-3a3c-4d2b-9d6a-0f1e2d3c4b5a"

SCRIPT = """
cp /consul/tmp/extra-config/extra-from-values.json /consul/extra-config/extra-from-values.json
[ -n "${POD_IP}" ] && sed -Ei "s|POD_IP|${POD_IP?}|g" /consul/extra-config/extra-from-values.json

exec /usr/local/bin/docker-entrypoint.sh consul agent \\
  -advertise="${POD_IP}" \\
  -config-dir=/consul/config \\
  -encrypt="${GOSSIP_KEY}" \\
  -hcl="acl { tokens { agent = \\"${ACL_REPLICATION_TOKEN}\\" } }" \\
  -config-dir=/consul/userconfig/extra \\
  -config-dir=/consul/extra-config \\
"""


class Neighbours(Dns):
    """A DNS that knows the pods that have an address by now."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        return list(self.addresses) if host == "consul-server.consul.svc" else []


@pytest.fixture(scope="module")
def consul() -> Path:
    return ensure("consul")["consul"].path


@pytest.fixture(scope="module")
def tls(consul: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A CA and one server certificate for dc1, as the chart's tls-init makes them: no pod addresses in it."""
    folder = tmp_path_factory.mktemp("tls")
    for arguments in (["ca", "create"], ["cert", "create", "-server", "-dc", "dc1"]):
        subprocess.run([consul, "tls", *arguments], cwd=folder, check=True, capture_output=True)
    return {
        "/consul/tls/ca/tls.crt": (folder / "consul-agent-ca.pem").read_bytes(),
        "/consul/tls/server/tls.crt": (folder / "dc1-server-consul-0.pem").read_bytes(),
        "/consul/tls/server/tls.key": (folder / "dc1-server-consul-0-key.pem").read_bytes(),
    }


def rendered(servers: int, tls: dict[str, bytes], **more: Any) -> dict[str, bytes]:
    """The mounted files of a server pod, as a chart for Consul 1.16 or newer writes them."""
    config: dict[str, Any] = {
        "server.json": {
            "bind_addr": "0.0.0.0",
            "client_addr": "0.0.0.0",
            "bootstrap_expect": servers,
            "connect": {"enabled": True},
            "datacenter": "dc1",
            "data_dir": "/consul/data",
            "limits": {"request_limits": {"mode": "disabled", "read_rate": -1, "write_rate": -1}},
            "ports": {"grpc": -1, "grpc_tls": 8502, "serf_lan": 8301},
            "retry_join": ["consul-server.consul.svc:8301"],
            "server": True,
            "leave_on_terminate": False,
        },
        "acl-config.json": {"acl": {"enabled": True, "default_policy": "deny"}},
        "tls-config.json": {
            "tls": {
                "internal_rpc": {"verify_incoming": True, "verify_server_hostname": True},
                "defaults": {
                    "verify_outgoing": True,
                    "ca_file": "/consul/tls/ca/tls.crt",
                    "cert_file": "/consul/tls/server/tls.crt",
                    "key_file": "/consul/tls/server/tls.key",
                },
            },
            "ports": {"http": -1, "https": 8501},
        },
        "ui-config.json": {"ui_config": {"enabled": True}},
        **more,
    }
    files = {f"/consul/config/{name}": json.dumps(content).encode() for name, content in config.items()}
    files["/consul/userconfig/extra/config.json"] = b'{"log_level": "WARN"}'
    files["/consul/tmp/extra-config/extra-from-values.json"] = b'{"node_meta": {"at": "POD_IP"}}'
    return {**files, **tls}


def server(
    folder: Path, number: int, files: dict[str, bytes], consul: Path, dns: Neighbours
) -> tuple[ConsulServer, list[str]]:
    address = f"127.{BLOCK}.{os.getpid() % 250}.{10 + number}"
    log: list[str] = []
    home, data = folder / f"pod{number}", folder / f"data{number}"
    for path in (home, data):
        path.mkdir(mode=0o700)
    container = Container(
        cluster=ClusterLayout(folder, BLOCK, 1, 1),
        client=cast(Any, None),
        token="",
        pod={"metadata": {"name": f"consul-server-{number}", "namespace": "consul"}, "spec": {}},
        address=address,
        env={
            "POD_IP": address,
            "GOSSIP_KEY": GOSSIP_KEY,
            "ACL_REPLICATION_TOKEN": TOKEN,
            "CONSUL_HTTP_ADDR": "https://localhost:8501",
            "CONSUL_CACERT": "/consul/tls/ca/tls.crt",
        },
        files=files,
        arguments=["/bin/sh", "-ec", SCRIPT],
        folder=home,
        data=data,
        log=log.append,
        tools={"consul": consul},
        dns=dns,
    )
    dns.addresses.append(address)
    return ConsulServer(container), log


async def until_ready(servers: list[ConsulServer], logs: list[list[str]]) -> None:
    deadline = time.monotonic() + 30
    while not all([await each.ready() for each in servers]):
        if time.monotonic() > deadline:
            raise AssertionError(
                "no leader within 30 s:\n" + "\n".join(line for log in logs for line in log[-20:])
            )
        await asyncio.sleep(0.05)


async def run(program: ConsulServer, *command: str) -> tuple[int, str, str]:
    out, err = bytearray(), bytearray()

    async def take(data: bytes) -> None:
        out.extend(data)

    async def take_error(data: bytes) -> None:
        err.extend(data)

    code = await program.exec(list(command), None, take, take_error)
    return code, out.decode(), err.decode()


def test_three_servers_find_each_other_and_keep_secrets_out_of_sight(
    tmp_path: Path, consul: Path, tls: dict[str, bytes]
) -> None:
    """Servers started at once elect a leader; the CLI in the pod reaches it; argv holds no secret."""

    async def main() -> None:
        dns = Neighbours()
        made = [server(tmp_path, number, rendered(3, tls), consul, dns) for number in range(3)]
        servers, logs = [program for program, _ in made], [log for _, log in made]
        try:
            for program in servers:
                assert not await program.ready()
            await asyncio.gather(*(program.start() for program in servers))
            await until_ready(servers, logs)
            process = servers[0]._process
            assert process is not None
            argv = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
            environ = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
            assert GOSSIP_KEY not in argv + environ
            assert TOKEN not in argv + environ
            # The token of the -hcl flag is unknown to this Consul, so that being refused proves it was read.
            code, out, err = await run(servers[0], "consul", "operator", "raft", "list-peers")
            assert (code, out) == (1, ""), err
            assert "Permission denied" in err
            code, out, err = await run(servers[0], "/bin/consul", "info", "-ca-file=/consul/tls/ca/tls.crt")
            assert "Permission denied" in err, (code, out, err)
            code, out, err = await run(servers[0], "consul", "version")
            assert (code, out.split()[0], err) == (0, "Consul", "")
            left_out = [line for line in logs[0] if "left out" in line]
            assert all("request_limits" in line or "grpc_tls" in line for line in left_out)
            text = (servers[0].container.folder / "consul" / "agent" / "agent.json").read_text()
            assert json.loads(text)["node_meta"] == {"at": servers[0].container.address}
            assert json.loads(text)["log_level"] == "WARN"
        finally:
            codes = await asyncio.gather(*(program.stop() for program in servers))
        assert codes == [None] * 3
        assert [await program.wait() for program in servers] == [1, 1, 1]  # what consul says upon SIGTERM

    asyncio.run(main())


def test_only_the_consul_command_is_executed(tmp_path: Path, consul: Path, tls: dict[str, bytes]) -> None:
    """A shell, a program of this machine, or a subcommand that starts one, is refused with a clear line."""

    async def main() -> None:
        program, _ = server(tmp_path, 0, rendered(1, tls), consul, Neighbours())
        for command in (["/bin/sh", "-c", "consul members"], ["ls"], ["consul", "lock", "x", "touch", "y"]):
            code, out, err = await run(program, *command)
            assert (code, out) == (126, "")
            assert err.startswith("exec failed:")

    asyncio.run(main())


def test_unknown_setting_that_guards_something_stops_the_server(
    tmp_path: Path, consul: Path, tls: dict[str, bytes]
) -> None:
    """A tuning key that the Consul at hand does not know is left out; a security key never is."""

    async def main() -> None:
        files = rendered(1, tls, **{"more.json": {"verify_everything": True}})
        program, _ = server(tmp_path, 0, files, consul, Neighbours())
        with pytest.raises(ConfigError, match="verify_everything"):
            await program.start()
        assert await program.wait() == 0

    asyncio.run(main())


def test_file_that_is_not_json_is_named(tmp_path: Path, consul: Path, tls: dict[str, bytes]) -> None:
    """A broken file of the ConfigMap is named with its path."""
    files = rendered(1, tls)
    files["/consul/config/zz.json"] = b"{"
    program, _ = server(tmp_path, 0, files, consul, Neighbours())
    with pytest.raises(ConfigError, match=r"/consul/config/zz\.json is not JSON"):
        server_config(program.container)


def test_name_of_a_gateway_is_looked_up_anew_at_each_dial(
    tmp_path: Path, consul: Path, tls: dict[str, bytes]
) -> None:
    """Consul itself dials primary_gateways: by the sandbox's names, as they are at that moment, and by no others."""
    federation = {
        "primary_datacenter": "dc0",
        "primary_gateways": ["gw.example.test:8443"],
        "connect": {"enable_mesh_gateway_wan_federation": True},
    }
    names = Names(tmp_path / "hosts", {"sandbox-node1": "127.0.0.2"})

    async def main() -> None:
        program, log = server(tmp_path, 0, rendered(1, tls, **{"f.json": federation}), consul, Neighbours())
        program.container.names = names
        news = asyncio.Event()

        def hear(line: str) -> None:
            log.append(line)
            news.set()

        program.container.log = hear

        async def said(text: str) -> None:
            async with asyncio.timeout(30):
                while not any(text in line for line in log):
                    await news.wait()
                    news.clear()

        try:
            await program.start()
            await said("lookup gw.example.test: no such host")
            for address in ("127.0.0.8", "127.0.0.9"):
                names.publish(("dc0", "consul", "gw"), {"gw.example.test": [address]})
                await said(f"{address}:8443: connect: connection refused")
        finally:
            await program.stop()

    asyncio.run(main())


def test_server_whose_gateways_have_addresses_is_left_alone(
    tmp_path: Path, consul: Path, tls: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name to dial a server starts where nss_wrapper cannot be had; with one it says what is missing."""

    def refuse(*names: str, report: Callable[[str], None]) -> None:
        raise ToolError("nss_wrapper could not be found or fetched.", "install it.")

    monkeypatch.setattr(tools, "ensure", refuse)
    gateways = {"primary_datacenter": "dc0", "connect": {"enable_mesh_gateway_wan_federation": True}}

    async def main() -> None:
        for number, gateway in enumerate(("127.0.0.9:8443", "gw.example.test:8443")):
            files = rendered(1, tls, **{"f.json": {**gateways, "primary_gateways": [gateway]}})
            program, _ = server(tmp_path, number, files, consul, Neighbours())
            program.container.names = Names(tmp_path / "hosts")
            try:
                if number == 0:
                    await program.start()
                    process = program._process
                    assert process is not None
                    assert b"LD_PRELOAD" not in Path(f"/proc/{process.pid}/environ").read_bytes()
                else:
                    with pytest.raises(
                        ResolverError, match=r"Consul dials gw\.example\.test, and on this machine"
                    ):
                        await program.start()
            finally:
                await program.stop()

    asyncio.run(main())
