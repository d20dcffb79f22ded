"""The sidecar of a pod in the mesh: its callers come in by `consul connect proxy`, its own calls leave by Envoy.

The built-in proxy enforces intentions by itself, at each connection, as the Envoy of a real sidecar does with the
rules that Consul gives it. It knows nothing of mesh gateways, so that upstreams have an Envoy of their own.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ..consul_k8s import login as acl
from ..consul_k8s.consul_api import consul_of, server_name
from .consul_http import MISSING_INDEX, ConsulError, ConsulHttp
from .dataplane import Relay, understood
from .envoy import ADMIN_PORT, write_bootstrap
from .process import exit_code, spawn, stop
from .upstreams import UPSTREAMS, Mesh, MeshFollower, upstreams, write_upstreams
from .workload import Container, Program

SERVICE, PORT, LISTEN, CA_PEM, CA_FILE = (
    "PROXY_SERVICE",
    "PROXY_SERVICE_PORT",
    "PROXY_PORT",
    "CONSUL_CACERT_PEM",
    "CONSUL_CACERT_FILE",
)
"""Environment of the container, written by the injector: service, its port (0: nobody calls it), the proxy's port."""

_RETRY_SECONDS = 0.3
_KNOWN_SECONDS = 40.0
_PROBE_SECONDS = 2
_LOGOUT_SECONDS = 2


class Sidecar(Program):
    """Logs in as the pod's service account, waits until the pod is registered, and runs its two proxies."""

    def __init__(self, container: Container):
        super().__init__(container)
        self.service = container.env.get(SERVICE, "")
        annotations = container.pod["metadata"].get("annotations") or {}
        self._upstreams = annotations.get(UPSTREAMS, "")
        self._token = ""
        self._signed_in = 0.0
        self._signing = asyncio.Lock()
        self._consul: ConsulHttp | None = None
        self._relay: Relay | None = None
        self._following: asyncio.Task[None] | None = None
        self._processes: list[asyncio.subprocess.Process] = []
        self._folder = container.folder / "proxy"
        self._serving = False

    @property
    def _listens(self) -> int:
        """The port on which other services call this one; 0 where none does."""
        port = int(self.container.env.get(PORT, "0"))
        return int(self.container.env[LISTEN]) if port else 0

    async def start(self) -> None:
        """Returns once Consul knows this pod; until then it is initializing, as a real one is."""
        container = self.container
        if CA_PEM in container.env:
            # What a real pod's init container does with it.
            container.files[container.env[CA_FILE]] = container.env[CA_PEM].encode()
        wanted = upstreams(self._upstreams)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        place = acl.login_endpoint(container)
        ca_pem = container.files[place.ca_file].decode() if place.ca_file else None
        servers = understood(consul_of(container, place).servers, tls=ca_pem is not None)
        self._consul = consul = ConsulHttp(servers, place.port, ca_pem, server_name(place.hosts[0]))
        await self._sign_in()
        await self._registered(consul)
        if self._listens:
            self._processes.append(await self._start_inbound(consul))
        if wanted:
            write_upstreams(self._folder, container.address, wanted, Mesh())
            follower = MeshFollower(
                consul,
                self.service,
                wanted,
                lambda mesh: write_upstreams(self._folder, container.address, wanted, mesh),
                self._sign_in_again,
                container.log,
            )
            self._following = asyncio.create_task(follower.run())
            self._processes.append(await self._start_outbound())

    async def _sign_in(self) -> None:
        """Get a token, or another one; tries until Consul gives it, and says each new obstacle once."""
        assert self._consul is not None
        complaint = ""
        while True:
            try:
                self._token = self._consul.token = await acl.login(self.container)
                self._signed_in = time.monotonic()
                return
            except ConsulError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    self.container.log(f"sandbox: login: {complaint}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _sign_in_again(self) -> None:
        """Get another token after a 403, unless this one is so new that a server may not know it yet."""
        async with self._signing:
            if time.monotonic() - self._signed_in > _KNOWN_SECONDS:
                await self._sign_in()

    async def _registered(self, consul: ConsulHttp) -> None:
        """Wait until this pod is in the catalog; as a real one's init container does."""
        index, told = MISSING_INDEX, False
        while True:
            try:
                answer, index = await consul.get(f"/v1/catalog/service/{self.service}", index=index)
            except ConsulError:
                index = MISSING_INDEX
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if any((one.get("ServiceMeta") or {}).get("pod-name") == self.container.name for one in answer):
                return
            if not told:
                told = True
                self.container.log(f"sandbox: this pod is not registered as {self.service} yet")
            if index == MISSING_INDEX:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _start_inbound(self, consul: ConsulHttp) -> asyncio.subprocess.Process:
        container = self.container
        self._relay = relay = Relay(consul, container.address)
        await relay.start()
        env = {"HOME": str(self._folder), "CONSUL_HTTP_ADDR": relay.url}
        return await spawn(
            [
                container.tools["consul"],
                "connect",
                "proxy",
                "-service",
                self.service,
                "-service-addr",
                f"{container.address}:{container.env[PORT]}",
                "-listen",
                f"{container.address}:{self._listens}",
            ],
            env=env,
            log=container.log,
            folder=self._folder,
        )

    async def _start_outbound(self) -> asyncio.subprocess.Process:
        container = self.container
        admin = (container.address, ADMIN_PORT)
        bootstrap = write_bootstrap(self._folder, container.name, admin, self.service)
        return await spawn(
            [
                container.tools["envoy"],
                "--config-path",
                bootstrap,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ],
            env={"HOME": str(self._folder)},
            log=container.log,
            folder=self._folder,
        )

    async def ready(self) -> bool:
        """Both proxies take connections: the one for callers, and each listener for an upstream."""
        if any(process.returncode is not None for process in self._processes):
            return False
        if self._serving:
            # Once is enough: they listen for as long as they live, and each look is a connection to the other side.
            return True
        ports = [one.port for one in upstreams(self._upstreams)] + ([self._listens] if self._listens else [])
        try:
            for port in ports:
                opening = asyncio.open_connection(self.container.address, port)
                _, writer = await asyncio.wait_for(opening, _PROBE_SECONDS)
                writer.close()
        except (OSError, TimeoutError):
            return False
        self._serving = True
        return True

    async def wait(self) -> int:
        """Ends when a proxy does, or when following Consul fails in a way that is a mistake of ours."""
        ends: set[asyncio.Task[Any]] = {asyncio.create_task(one.wait()) for one in self._processes}
        watched = ends | ({self._following} if self._following is not None else set())
        if not watched:
            await asyncio.Event().wait()
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._following is not None and self._following.done():
                self.container.log(f"sandbox: following Consul failed: {self._following.exception()!r}")
                return 1
            return next(exit_code(task.result()) for task in ends if task.done())
        finally:
            for task in ends:
                task.cancel()

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await asyncio.gather(*(stop(one, grace=self.container.grace) for one in self._processes))
        if self._relay is not None:
            await self._relay.stop()
        if self._consul is not None:
            await self._consul.close()
        token, self._token = self._token, ""
        if token:
            try:
                await asyncio.wait_for(acl.logout(self.container, token), _LOGOUT_SECONDS)
            except (ConsulError, TimeoutError) as error:
                self.container.log(f"sandbox: logout: {error or 'no answer'}")
