"""A Consul server pod: the real `consul agent`, run from what the chart rendered."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from ..controllers.volumes import is_full
from .cli import Send, command_of, environment_here, refuse_command, run_cli
from .consul_config import Config, ConfigError, fit, merge, on_this_machine, server_config
from .full_disk import refuse_room
from .process import exit_code, spawn, stop
from .resolver import environment, names_among
from .workload import Container, Program, write_private

_SANDBOX: Config = {
    "disable_update_check": True,
    # A raft multiplier of 1 is Consul's own recommendation for production; the default suits slow machines.
    "performance": {"raft_multiplier": 1, "leave_drain_time": "200ms"},
    # The default is 10 s: so long a server that came back has no vote, and the next one has to wait to be restarted.
    "autopilot": {"server_stabilization_time": "1s"},
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
            before_exec=refuse_room() if is_full(container.data) else None,
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
        words = command_of(command)
        if words is None:
            return await refuse_command(command, stderr)
        return await run_cli(self.container, words, self._cli_environment(), stdin, stdout, stderr)

    def _cli_environment(self) -> dict[str, str]:
        """The pod's CONSUL_… variables, with what `localhost` is on this machine."""
        env = environment_here(self.container)
        env["CONSUL_HTTP_ADDR"] = self.url
        if self.url.startswith("https:"):
            # The certificate is for localhost and for the server's name, not for the pod's address.
            datacenter, domain = self._config.get("datacenter", "dc1"), self._config.get("domain", "consul")
            env.setdefault("CONSUL_TLS_SERVER_NAME", f"server.{datacenter}.{domain.rstrip('.')}")
        return env


def _host(address: str) -> str:
    """The host of `host`, `host:port` or `[address]:port`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]
