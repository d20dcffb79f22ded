"""A Consul server pod: the real `consul agent`, run from what the chart rendered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import BinaryIO

import aiohttp

from .consul_config import Config, ConfigError, fit, merge, on_this_machine, server_config
from .process import exit_code, spawn, stop
from .resolver import environment, names_among
from .workload import Container, Program, write_private

Send = Callable[[bytes], Awaitable[None]]

_SANDBOX: Config = {
    "disable_update_check": True,
    # A raft multiplier of 1 is Consul's own recommendation for production; the default suits slow machines.
    "performance": {"raft_multiplier": 1, "leave_drain_time": "200ms"},
    # The defaults are 30 s: one missed moment at start-up would cost half a minute.
    "retry_interval": "1s",
    "retry_interval_wan": "1s",
    "primary_gateways_interval": "1s",
    # News of a member is sent on a few times in half a second and then dropped. Of secondaries that join together it
    # is lost that way, while they cannot be reached through the gateways yet, until lists are exchanged each 60 s.
    "gossip_wan": {"retransmit_mult": 100},
}
"""Settings that make a federation on one machine come up in seconds; the pod's own configuration wins."""

_READY_SECONDS = 5

_DIALLED = ("primary_gateways", "retry_join_wan", "start_join_wan")
"""Settings with the addresses of other datacenters, which Consul itself resolves, each time that it dials."""

_REFUSED = {"agent", "debug", "exec", "lock", "watch"}
"""Subcommands that start programs, or write folders, on the machine that the CLI runs on: this one."""


class ConsulServer(Program):
    """`consul agent` on the pod's address with the standard ports; data in the pod's volume claim."""

    def __init__(self, container: Container):
        super().__init__(container)
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._config: Config = {}

    async def start(self) -> None:
        container = self.container
        if "consul" not in container.tools:
            raise ConfigError("there is no consul program on this machine")
        config, snippets = server_config(container)
        peers = await self._peers(config.pop("retry_join", []))
        for key in ("advertise", "advertise_addr", "advertise_addr_wan", "addresses", "serf_lan", "serf_wan"):
            config.pop(key, None)
        own: Config = {
            "server": True,
            "bind_addr": container.address,
            "client_addr": container.address,
            "data_dir": str(container.data),
            "retry_join": peers,
        }
        config = merge(merge(json.loads(json.dumps(_SANDBOX)), config), own)
        config.setdefault("node_name", container.name)
        folder = container.folder / "consul"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._config = await fit(on_this_machine(config, container), container, folder)
        # In files and not on the command line: there everyone on this machine could read the gossip key.
        agent = folder / "agent"
        agent.mkdir(mode=0o700, exist_ok=True)
        write_private(agent / "agent.json", json.dumps(self._config, indent=1).encode())
        for number, snippet in enumerate(snippets):
            write_private(agent / f"flag-{number}.hcl", snippet.encode())
        dialled = names_among([_host(one) for key in _DIALLED for one in config.get(key, [])])
        resolving = await environment(container, dialled, container.names.hosts_file)
        self._process = await spawn(
            [container.tools["consul"], "agent", "-config-dir", agent],
            env={"HOME": str(folder), **resolving},
            log=container.log,
            folder=folder,
        )

    async def _peers(self, names: list[str]) -> list[str]:
        """The addresses of the other servers that have one by now.

        Servers that get theirs later will find this one in the same way, so that together they are connected:
        of any two, the one that looks later sees the other.
        """
        peers: list[str] = []
        for name in names:
            host, _, port = name.partition(":")
            for address in await self.container.dns.resolve(host):
                if address != self.container.address:
                    peers.append(f"{address}:{port}" if port else address)
        return sorted(set(peers))

    @property
    def url(self) -> str:
        """Base URL of the HTTP API: HTTPS where the configuration has it."""
        ports = self._config.get("ports", {})
        https = ports.get("https", -1)
        scheme, port = ("https", https) if https > 0 else ("http", ports.get("http", 8500))
        return f"{scheme}://{self.container.address}:{port}"

    async def ready(self) -> bool:
        """As the chart's readiness probe: the server knows a leader; certificates are not looked at."""
        if self._process is None or self._process.returncode is not None:
            return False
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_READY_SECONDS))
        try:
            async with self._session.get(f"{self.url}/v1/status/leader", ssl=False) as response:
                return response.status == 200 and bool(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False

    async def wait(self) -> int:
        if self._process is None:
            return 0
        return exit_code(await self._process.wait())

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._process is not None:
            await stop(self._process, grace=self.container.grace)

    async def exec(
        self, command: list[str], stdin: asyncio.StreamReader | None, stdout: Send, stderr: Send
    ) -> int:
        """The real `consul` CLI, pointed at this server; nothing else, in particular no shell of this
        machine.
        """
        if PurePosixPath(command[0]).name != "consul":
            await stderr(
                f'exec failed: "{command[0]}": a sandbox pod executes only the consul command\n'.encode()
            )
            return 126
        subcommand = next((word for word in command[1:] if not word.startswith("-")), "")
        if subcommand in _REFUSED or (subcommand == "connect" and "ca" not in command):
            await stderr(f'exec failed: "consul {subcommand}" is not executed in a sandbox pod\n'.encode())
            return 126
        scratch = self.container.folder / "exec"
        scratch.mkdir(mode=0o700, exist_ok=True)
        # A pipe, as a container has it: asyncio's own is a socket, which nobody can open as /dev/stdin.
        reading, writing = os.pipe()
        sink = os.fdopen(writing, "wb", buffering=0)
        try:
            process = await spawn(
                [self.container.tools["consul"], *map(self._argument, command[1:])],
                env={**self._cli_environment(), "HOME": str(scratch)},
                folder=scratch,
                stdin=reading,
                stderr=asyncio.subprocess.PIPE,
            )
        finally:
            os.close(reading)
        assert process.stdout is not None
        assert process.stderr is not None
        feed = asyncio.create_task(_feed(stdin, sink))
        try:
            await asyncio.gather(_drain(process.stdout, stdout), _drain(process.stderr, stderr))
            return exit_code(await process.wait())
        finally:
            # Also when the client has gone away and this task is cancelled.
            feed.cancel()
            await stop(process, grace=0)

    def _cli_environment(self) -> dict[str, str]:
        """The pod's CONSUL_… variables, with what `localhost` and mounted files are on this machine."""
        env = {name: value for name, value in self.container.env.items() if name.startswith("CONSUL_")}
        env["CONSUL_HTTP_ADDR"] = self.url
        if self.url.startswith("https:"):
            # The certificate is for localhost and for the server's name, not for the pod's address.
            datacenter, domain = self._config.get("datacenter", "dc1"), self._config.get("domain", "consul")
            env.setdefault("CONSUL_TLS_SERVER_NAME", f"server.{datacenter}.{domain.rstrip('.')}")
        for name in ("CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY", "CONSUL_HTTP_TOKEN_FILE"):
            if name in env:
                with contextlib.suppress(KeyError):
                    env[name] = str(self.container.on_disk(env[name]))
        return env

    def _argument(self, word: str) -> str:
        """An argument with a path inside the container replaced by where that file is."""
        flag, equals, value = word.partition("=")
        path = value if equals else word
        if not path:
            return word
        try:
            return f"{flag}{equals}" * bool(equals) + str(self.container.on_disk(path))
        except KeyError:
            return word


def _host(address: str) -> str:
    """The host of `host`, `host:port` or `[address]:port`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


async def _feed(source: asyncio.StreamReader | None, pipe: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    sink = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        with contextlib.suppress(ConnectionError):  # the command ended without reading all of its input
            while source is not None and (data := await source.read(1 << 16)):
                sink.write(data)
                await sink.drain()
    finally:
        transport.close()


async def _drain(source: asyncio.StreamReader, send: Send) -> None:
    while data := await source.read(1 << 16):
        await send(data)
