"""What the connect-inject webhook does to a pod that asks for it: one more container, its sidecar.

A real one adds an init container, too, and consul-dataplane as the sidecar (Envoy up to chart 0.49). Here the sidecar
does both their work (`node.sidecar`), and is told by its environment most of what a real one is told by its arguments;
of those it has the ones that say where the servers are, and whether they speak TLS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..node.consul_http import ConsulError
from ..node.dataplane import GRPC_PORT
from ..node.sidecar import CA_FILE, CA_PEM, LISTEN, PORT, SERVICE
from .installation import Installation, keep_trying
from .mounted import read_mounted

INJECT = "consul.hashicorp.com/connect-inject"
STATUS = "consul.hashicorp.com/connect-inject-status"
SERVICE_NAME = "consul.hashicorp.com/connect-service"
SERVICE_PORT = "consul.hashicorp.com/connect-service-port"
WEBHOOK = "-connect-injector.consul.hashicorp.com"
"""What the name of the webhook for pods ends with, in HashiCorp's charts and in the sandbox's own."""

PROXY_PORT = 20000
CONTAINER = "consul-dataplane"

_CA_PATH = "/consul/connect-inject/consul-ca.pem"
_INJECTED = "injected"


class Injector:
    """The webhook of one cluster: at work while a connect-injector is installed there."""

    def __init__(self) -> None:
        self._environments: dict[str, tuple[Installation, dict[str, str]]] = {}

    @asynccontextmanager
    async def serving(self, installation: Installation) -> AsyncIterator[None]:
        """Answer for an installation, once what its sidecars have to be told is known."""
        found: dict[str, str] = {}

        async def learn() -> None:
            found.update(await _environment(installation))

        await keep_trying(f"{installation.cluster.name}: connect-inject webhook", learn)
        key = f"{installation.namespace}/{installation.name}"
        self._environments[key] = (installation, found)
        try:
            yield
        finally:
            del self._environments[key]

    def admit(self, webhook: str, pod: dict[str, Any]) -> str | None:
        """Inject the sidecar into a new pod, in place, if it asks for one; why it must not be created, or None."""
        annotations = pod["metadata"].get("annotations") or {}
        asks = annotations.get(INJECT, "false").lower() in ("1", "t", "true")
        if not webhook.endswith(WEBHOOK) or not asks or annotations.get(STATUS) == _INJECTED:
            return None
        if not self._environments:
            return "no endpoints available for service of the connect-injector"
        installation, environment = next(iter(self._environments.values()))
        service = service_of(pod)
        account = pod["spec"].get("serviceAccountName", "default")
        if installation.given.flag("acl-auth-method") and account != service:
            return f'service account name "{account}" does not match the service name "{service}"'
        env = environment | {SERVICE: service, PORT: str(port_of(pod)), LISTEN: str(PROXY_PORT)}
        pod["metadata"]["annotations"] = annotations | {STATUS: _INJECTED}
        pod["metadata"]["labels"] = (pod["metadata"].get("labels") or {}) | {STATUS: _INJECTED}
        pod["spec"]["containers"].append(_container(installation, env))
        return None


def service_of(pod: dict[str, Any]) -> str:
    """The name that a pod has in the mesh: its annotation, else its service account, else its first container."""
    annotations = pod["metadata"].get("annotations") or {}
    account = pod["spec"].get("serviceAccountName", "default")
    given = annotations.get(SERVICE_NAME) or (account if account != "default" else "")
    return str(given or pod["spec"]["containers"][0]["name"])


def port_of(pod: dict[str, Any]) -> int:
    """The port on which a pod serves: its annotation's number or name, else its first port; 0 where it has none."""
    ports = [port for one in pod["spec"]["containers"] for port in one.get("ports") or []]
    given = (pod["metadata"].get("annotations") or {}).get(SERVICE_PORT, "")
    if given.isdigit():
        return int(given)
    named = [port["containerPort"] for port in ports if not given or port.get("name") == given]
    return int(named[0]) if named else 0


async def _environment(installation: Installation) -> dict[str, str]:
    """Where Consul is, and how to log in. Raises ConsulError while the CA certificate is not there."""
    place, given = installation.place, installation.given
    env = {
        "CONSUL_ADDRESSES": f"{installation.prefix}-server.{installation.namespace}.svc",
        "CONSUL_HTTP_PORT": str(place.port),
        "CONSUL_API_TIMEOUT": f"{place.timeout:g}s",
        "CONSUL_LOGIN_AUTH_METHOD": given.flag("acl-auth-method"),
    }
    if place.ca_file:
        spec = installation.template["spec"]
        found = await read_mounted(
            installation.client, installation.namespace, spec, installation.container, place.ca_file
        )
        if found is None:
            raise ConsulError(f"the CA certificate of {installation.name} is not there yet")
        env |= {"CONSUL_USE_TLS": "true", CA_FILE: _CA_PATH, CA_PEM: found.decode()}
    return env


def _container(installation: Installation, env: dict[str, str]) -> dict[str, Any]:
    given = installation.given
    # Written down at the injection, for the pod's whole life: a sidecar from before TLS never speaks it.
    tls = f"-ca-certs={env[CA_FILE]}" if CA_FILE in env else "-tls-disabled"
    return {
        "name": CONTAINER,
        "image": given.flag("consul-dataplane-image") or f"hashicorp/{CONTAINER}",
        "imagePullPolicy": "IfNotPresent",
        "args": [f"-addresses={env['CONSUL_ADDRESSES']}", f"-grpc-port={GRPC_PORT}", tls],
        "env": [{"name": name, "value": value} for name, value in env.items() if value],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
