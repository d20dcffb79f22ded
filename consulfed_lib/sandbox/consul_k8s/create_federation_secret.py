"""Job create-federation-secret: what a secondary needs to know of its primary, in one Secret (consul-facts.md §1)."""

from __future__ import annotations

import json
from typing import Any

from ..controllers.client import KubeError
from ..node.consul_http import ConsulError
from ..node.workload import Container
from .acl_components import TOKEN_KEY
from .consul_api import ConsulApi, consul_of
from .joblog import JobFailed, JobLog, until_succeeds
from .kube_secrets import read_secret, write_secret
from .options import Options, endpoint, options

_REQUIRED = (
    "resource-prefix",
    "k8s-namespace",
    "server-ca-cert-file",
    "server-ca-key-file",
    "mesh-gateway-service-name",
)


async def create_federation_secret(container: Container, log: JobLog) -> None:
    """Write <prefix>-federation. Waits for ever for the replication token, Consul and a registered gateway.

    That is what the real Job does: Helm's own timeout ends it.
    """
    given = options(container)
    for name in _REQUIRED:
        if not given.flag(name):
            raise JobFailed(f"-{name} must be set")
    namespace, prefix = given.flag("k8s-namespace"), given.flag("resource-prefix")
    data: dict[str, bytes] = {}
    if given.flag("gossip-key-file"):
        data["gossipEncryptionKey"] = _gossip_key(container, given.flag("gossip-key-file"))
        log.info("The gossip key is read")
    data["caCert"] = _file(container, "server CA cert", given.flag("server-ca-cert-file"))
    log.info("The server CA's certificate is read")
    data["caKey"] = _file(container, "server CA key", given.flag("server-ca-key-file"))
    log.info("The server CA's key is read")
    token = b""
    if given.is_on("export-replication-token"):
        token = await _replication_token(container, namespace, prefix, log)
        data["replicationToken"] = token
    data["serverConfigJSON"] = await _server_config(container, given, token.decode(), log)
    name = f"{prefix}-federation"
    log.info("Writing the federation secret", name=name, ns=namespace)
    try:
        replaced = await write_secret(container.client, namespace, name, data)
    except KubeError as error:
        raise JobFailed(f"cannot write the federation secret: {error}") from error
    if replaced:
        log.info("It was there already: its contents are replaced")
    log.info("The federation secret is written", name=name, ns=namespace)


def _gossip_key(container: Container, path: str) -> bytes:
    key = _file(container, "gossip encryption key", path)
    if not key:
        raise JobFailed(f'gossip key file "{path}" was empty')
    return key


def _file(container: Container, what: str, path: str) -> bytes:
    try:
        return container.files[path]
    except KeyError:
        raise JobFailed(f"Error reading {what} file: open {path}: no such file or directory") from None


async def _replication_token(container: Container, namespace: str, prefix: str, log: JobLog) -> bytes:
    name = f"{prefix}-acl-replication-acl-token"
    log.info("Reading the replication token", secret=name, ns=namespace)

    async def read() -> dict[str, bytes]:
        try:
            data = await read_secret(container.client, namespace, name)
        except KubeError as error:
            raise JobFailed(f"cannot read the replication token: {error}") from error
        if data is None:
            raise KubeError(
                404, "NotFound", f"secret not yet created, retrying: secret={name} ns={namespace}"
            )
        return data

    data = await until_succeeds(log, "reading the replication token", read, quiet=True)
    if TOKEN_KEY not in data:
        raise JobFailed(f"expected key '{TOKEN_KEY}' in secret {name} not set")
    log.info("The replication token is read")
    return data[TOKEN_KEY]


async def _server_config(container: Container, given: Options, token: str, log: JobLog) -> bytes:
    """Compact JSON with exactly these two fields, as the servers of a secondary load it."""
    try:
        place = endpoint(given)
    except ValueError as error:
        raise JobFailed(str(error)) from error
    service = given.flag("mesh-gateway-service-name")
    async with consul_of(container, place, token) as consul:
        log.info("Asking Consul for the datacenter's name")
        datacenter = await until_succeeds(
            log, "retrieving current datacenter", lambda: _datacenter(consul), quiet=True
        )
        log.info("The datacenter is known", name=datacenter)
        log.info("Asking Consul for the mesh gateways' addresses")
        gateways = await until_succeeds(
            log, "looking up mesh gateways", lambda: _gateways(consul, service), quiet=True
        )
    addresses = wan_addresses(gateways)
    log.info("Found mesh gateway addresses", addrs=",".join(addresses))
    config = {"primary_datacenter": datacenter, "primary_gateways": addresses}
    return json.dumps(config, separators=(",", ":")).encode()


async def _datacenter(consul: ConsulApi) -> str:
    return (await consul.get("/v1/agent/self"))["Config"]["Datacenter"]


async def _gateways(consul: ConsulApi, service: str) -> list[dict[str, Any]]:
    instances = await consul.get(f"/v1/catalog/service/{service}")
    if not instances:
        raise ConsulError(f"No instances of mesh gateway service found, retrying: service-name={service}")
    return instances


def wan_addresses(instances: list[dict[str, Any]]) -> list[str]:
    """host:port of the instances' WAN addresses, each once, healthy or not.

    >>> wan_addresses([{"ServiceTaggedAddresses": {"wan": {"Address": "10.0.0.1", "Port": 443}}}])
    ['10.0.0.1:443']
    """
    found: dict[str, None] = {}
    for instance in instances:
        wan = (instance.get("ServiceTaggedAddresses") or {}).get("wan")
        if wan is None:
            raise JobFailed(
                f"no 'wan' key found in tagged addresses for service instance \"{instance['ServiceID']}\""
            )
        host = f"[{wan['Address']}]" if ":" in wan["Address"] else wan["Address"]
        found[f"{host}:{wan['Port']}"] = None
    return list(found)
