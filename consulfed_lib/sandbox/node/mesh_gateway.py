"""A mesh gateway pod: a real Envoy, told by Consul's state where connections go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from ..consul_k8s import login as acl
from ..consul_k8s.consul_api import consul_of, server_name
from .consul_http import ConsulError, ConsulHttp
from .envoy import ADMIN_PORT, Address, Routes, write_bootstrap, write_routes
from .gateway_routes import RouteFollower, resolved
from .process import exit_code, spawn, stop
from .workload import Container, Program

_RETRY_SECONDS = 0.3
_KNOWN_SECONDS = (
    40.0  # Consul's acl.token_ttl, for which a server remembers that it does not know a token, is 30
)
_PROBE_SECONDS = 2
_LOGOUT_SECONDS = 2
_DEFAULT_PORT = 8443

Login = Callable[[Container], Awaitable[str]]


class MeshGateway(Program):
    """Logs in to Consul as the pod was told to, follows its state, and runs Envoy with the routes from it."""

    def __init__(self, container: Container, login: Login = acl.login):
        super().__init__(container)
        self._login = login
        self._token = ""
        self._signed_in = 0.0
        self._signing = asyncio.Lock()
        self._consul: ConsulHttp | None = None
        self._follower: RouteFollower | None = None
        self._following: asyncio.Task[None] | None = None
        self._envoy: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._folder = container.folder / "envoy"
        self._serving = False
        self._unknown: set[str] = set()
        self._forget_names: Callable[[], None] | None = None

    @property
    def listen(self) -> Address:
        """The pod's address and the container port that the gateway listens on."""
        ports = self.container.pod["spec"]["containers"][0].get("ports") or []
        named = [one["containerPort"] for one in ports if one.get("name") == "gateway"]
        return self.container.address, (named or [one["containerPort"] for one in ports] or [_DEFAULT_PORT])[
            0
        ]

    async def start(self) -> None:
        """Returns once Consul has let the gateway in; until then the pod is initializing, as a real one is."""
        container = self.container
        if "envoy" not in container.tools:
            raise ConsulError("there is no envoy program on this machine")
        self._consul = consul = self._client()
        await self._sign_in()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_routes(self._folder, self.listen, {})
        bootstrap = write_bootstrap(self._folder, container.name, (container.address, ADMIN_PORT))
        self._follower = RouteFollower(consul, self._on_routes, self._sign_in_again, container.log)
        self._forget_names = container.names.subscribe(self._write_routes)
        self._following = asyncio.create_task(self._follower.run())
        self._envoy = await self._start_envoy(bootstrap)

    def _client(self) -> ConsulHttp:
        """A client for the servers that the pod's flags and environment name."""
        container = self.container
        place = acl.login_endpoint(container)
        servers = consul_of(container, place).servers
        ca_pem = container.files[place.ca_file].decode() if place.ca_file else None
        return ConsulHttp(servers, place.port, ca_pem, server_name(place.hosts[0]))

    async def _sign_in(self) -> None:
        """Get a token, or another one; tries until Consul gives it, and says each new obstacle once."""
        assert self._consul is not None
        complaint = ""
        while True:
            try:
                self._token = self._consul.token = await self._login(self.container)
                self._signed_in = time.monotonic()
                return
            except ConsulError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    self.container.log(f"sandbox: login: {complaint}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _sign_in_again(self) -> None:
        """Get another token after a 403, unless this one is new.

        A server that has not heard of a new token yet says "ACL not found", and remembers that for half a minute:
        a newer token would be known even less, and the gateway would never come to its routes.
        """
        async with self._signing:
            if time.monotonic() - self._signed_in > _KNOWN_SECONDS:
                await self._sign_in()

    async def _start_envoy(self, bootstrap: Path) -> asyncio.subprocess.Process:
        return await spawn(
            [
                self.container.tools["envoy"],
                "--config-path",
                bootstrap,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ],
            env={"HOME": str(self._folder)},
            log=self.container.log,
            folder=self._folder,
        )

    def _on_routes(self, routes: Routes) -> None:
        self._write_routes()
        self.container.log("sandbox: routes " + ", ".join(sorted(routes)))

    def _write_routes(self) -> None:
        """Have Envoy take the routes, with the addresses that names have now; called again when names change."""
        if self._follower is None:
            return
        unknown: set[str] = set()
        routes = resolved(self._follower.routes, self.container.names.addresses, unknown.add)
        write_routes(self._folder, self.listen, routes)
        for name in sorted(unknown - self._unknown):
            self.container.log(f"sandbox: lookup {name}: no such host")
        self._unknown = unknown

    async def ready(self) -> bool:
        """Envoy is live, and takes connections for its own datacenter's servers."""
        if self._envoy is None or self._envoy.returncode is not None:
            return False
        if self._follower is None or not self._follower.routes:
            return False
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_SECONDS))
        try:
            url = f"http://{self.container.address}:{ADMIN_PORT}/ready"
            async with self._session.get(url) as response:
                live = response.status == 200
            if live and not self._serving:
                # Once is enough: the listener stays for as long as Envoy does.
                _, writer = await asyncio.wait_for(asyncio.open_connection(*self.listen), _PROBE_SECONDS)
                writer.close()
                self._serving = True
            return live
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def wait(self) -> int:
        """Ends when Envoy does, or when following Consul fails in a way that is a mistake of ours."""
        if self._envoy is None or self._following is None:
            return 0
        ended = asyncio.create_task(self._envoy.wait())
        both: set[asyncio.Task[Any]] = {ended, self._following}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._following.done() and not ended.done():
                self.container.log(f"sandbox: following Consul failed: {self._following.exception()!r}")
                return 1
            return exit_code(ended.result())
        finally:
            ended.cancel()

    async def stop(self) -> None:
        if self._forget_names is not None:
            self._forget_names()
            self._forget_names = None
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._envoy is not None:
            await stop(self._envoy, grace=self.container.grace)
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._consul is not None:
            await self._consul.close()
        token, self._token = self._token, ""
        if token:
            try:
                await asyncio.wait_for(acl.logout(self.container, token), _LOGOUT_SECONDS)
            except (ConsulError, TimeoutError) as error:
                self.container.log(f"sandbox: logout: {error or 'no answer'}")
