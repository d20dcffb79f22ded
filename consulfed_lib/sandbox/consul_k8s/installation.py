"""One installation of Consul in a cluster, as its connect-injector Deployment describes it.

The controllers of consul-k8s run inside that Deployment's pods; here they run in the supervisor, and take from
its pod template what they would have been told: datacenter, servers, CA, auth method, federation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..controllers.client import KubeClient, KubeError
from ..layout import ClusterLayout
from ..node.consul_http import ConsulError
from .consul_api import ConsulApi, server_name
from .joblog import RETRY_SECONDS
from .login import Login, init_login, login_of, sign_in
from .mounted import read_mounted
from .options import Endpoint, Options, endpoint, options_of

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Installation:
    """What one Deployment of controllers was told.

    Attributes:
        cluster, client: the cluster, and a client that may read everything in it.
        template: the Deployment's pod template.
        given: the options of its first container.
        component: label of the Deployment: `connect-injector`, or `controller` up to chart 0.49.
    """

    cluster: ClusterLayout
    client: KubeClient
    namespace: str
    name: str
    component: str
    template: dict[str, Any]
    given: Options
    place: Endpoint

    @property
    def service_account(self) -> str:
        return self.template["spec"].get("serviceAccountName", "default")

    @property
    def prefix(self) -> str:
        """What the names of the release's objects begin with."""
        return self.given.flag("resource-prefix") or self.name.removesuffix(f"-{self.component}")

    @property
    def is_federated(self) -> bool:
        return self.given.is_on("enable-federation")

    @property
    def login(self) -> Login | None:
        meta = {"component": self.component, "pod": f"{self.namespace}/{self.name}"}
        return login_of(self.given, meta) or init_login(self.template["spec"], self.given.env, meta)

    @property
    def container(self) -> dict[str, Any]:
        return self.template["spec"]["containers"][0]

    async def addresses(self) -> list[str]:
        """Addresses of the server pods, ready or not, by the selector of the servers' Service."""
        service = await self.client.find("v1", "services", f"{self.prefix}-server", self.namespace)
        if service is None:
            return []
        selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
        pods = await self.client.list("v1", "pods", self.namespace, label_selector=selector)
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return [pod["status"]["podIP"] for pod in alive if pod.get("status", {}).get("podIP")]


def read_installation(
    cluster: ClusterLayout, client: KubeClient, deployment: dict[str, Any]
) -> Installation | None:
    """The installation that a Deployment of controllers describes; None, and a log line, when it does not."""
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    container = template["spec"]["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
    given = options_of([*container.get("command", []), *container.get("args", [])], env)
    try:
        place = endpoint(given)
    except ValueError as error:
        logger.error("%s: Deployment %s: %s", cluster.name, metadata["name"], error)
        return None
    return Installation(
        cluster=cluster,
        client=client,
        namespace=metadata["namespace"],
        name=metadata["name"],
        component=metadata.get("labels", {}).get("component", ""),
        template=template,
        given=given,
        place=place,
    )


class Session:
    """An installation's connection to Consul, logged in with its service account where ACLs are on."""

    def __init__(self, installation: Installation):
        self.installation = installation
        self._consul: ConsulApi | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        if self._consul is not None:
            await self._consul.close()
            self._consul = None

    async def consul(self) -> ConsulApi:
        """The client, logged in. Raises ConsulError or KubeError; call it again later."""
        async with self._lock:
            if self._consul is None:
                consul = await self._connect()
                try:
                    await self._log_in(consul)
                except BaseException:
                    await consul.close()
                    raise
                self._consul = consul
            return self._consul

    async def call(self, action: Callable[[ConsulApi], Awaitable[Result]]) -> Result:
        """Do something with Consul; once more with a new login when the token is no longer known."""
        try:
            return await action(await self.consul())
        except ConsulError as error:
            if error.status != 403 or "ACL not found" not in str(error):
                raise
            await self.close()
            return await action(await self.consul())

    async def _connect(self) -> ConsulApi:
        installation = self.installation
        place = installation.place
        ca_pem = None
        if place.ca_file:
            spec = installation.template["spec"]
            found = await read_mounted(
                installation.client, installation.namespace, spec, installation.container, place.ca_file
            )
            if found is None:
                raise ConsulError(f"the CA certificate of {installation.name} is not there yet")
            ca_pem = found.decode()
        # Up to chart 0.49 it is told of a client agent by its address, `$(HOST_IP)`; servers have that name, too.
        host = place.hosts[0] if place.hosts[0][0].isalpha() else "127.0.0.1"
        port, timeout = place.port, max(place.timeout, 10)
        return ConsulApi(installation.addresses, port, ca_pem, server_name(host), timeout=timeout)

    async def _log_in(self, consul: ConsulApi) -> None:
        how = self.installation.login
        if how is None:
            return
        installation = self.installation
        bearer = await installation.client.create_token(installation.namespace, installation.service_account)
        await sign_in(consul, how, bearer)


async def keep_trying(what: str, attempt: Callable[[], Awaitable[None]], most: float = 2.0) -> None:
    """Attempt until it succeeds, with growing waits; each new error goes to the sandbox's log once."""
    told, wait = "", RETRY_SECONDS
    while True:
        try:
            await attempt()
            return
        except (ConsulError, KubeError, TimeoutError) as error:
            if str(error) != told:
                logger.info("%s: %s", what, error)
                told = str(error)
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, most)
