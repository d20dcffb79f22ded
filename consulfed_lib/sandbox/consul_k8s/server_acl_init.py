"""Job server-acl-init: ACLs from nothing to a token, or a way to get one, for every component.

The primary is bootstrapped. A secondary is not: its servers replicate the primary's ACLs, and the replication
token, which it got with the federation secret, is good for everything that is to be done (consul-facts.md §4).
"""

from __future__ import annotations

import asyncio

from ..node.consul_http import ConsulError
from ..node.workload import Container
from . import acl_rules
from .acl_components import (
    TOKEN_KEY,
    AclWork,
    anonymous_token,
    component,
    component_auth_methods,
    connect_inject,
    make_replication_token,
)
from .acl_objects import ensure_policy, ensure_server_token
from .consul_api import ConsulApi, consul_of
from .joblog import JobFailed, JobLog, until_succeeds
from .kube_secrets import create_secret, read_secret
from .options import endpoint, options, seconds

ACLS_ENABLED = "1"
"""Value of the serf tag `acls` of a server whose ACLs work; `2` is what it says before that."""

_ALIVE = 1
"""Status of a serf member that is neither failed nor gone."""

_BOOTSTRAP_SECONDS = 300.0


async def server_acl_init(container: Container, log: JobLog) -> None:
    """Do all that the flags ask for; running it again changes nothing that is right. Raises JobFailed."""
    given = options(container)
    prefix, namespace = given.flag("resource-prefix"), given.flag("k8s-namespace")
    if not prefix:
        raise JobFailed("-resource-prefix must be set")
    if not namespace:
        raise JobFailed("-k8s-namespace must be set")
    if given.flag("secrets-backend", "kubernetes") != "kubernetes":
        raise JobFailed("the sandbox has no Vault: -secrets-backend must be kubernetes")
    limit = given.flag("timeout", "10m")
    try:
        place = endpoint(given)
        async with asyncio.timeout(seconds(limit)), consul_of(container, place) as consul:
            await _run(AclWork(container, given, log, consul, prefix, namespace))
    except TimeoutError:
        raise JobFailed(f"server-acl-init did not come to its end within {limit}") from None
    except ValueError as error:
        raise JobFailed(str(error)) from error
    log.info("ACLs are set up")


async def _run(work: AclWork) -> None:
    given, log = work.given, work.log
    replication_token = _token_file(work, "acl-replication-token-file")
    creates_replication_token = given.is_on("create-acl-replication-token")
    if replication_token and not creates_replication_token:
        log.info("This datacenter replicates ACLs: not bootstrapped, the replication token does everything")
        work.consul.token = replication_token
    else:
        work.consul.token = await _bootstrap_token(work)
        if given.is_on("set-server-tokens", default=True):
            await _set_server_tokens(work)
    work.dc, work.primary = await until_succeeds(
        log, "calling /agent/self to get datacenter", lambda: _datacenters(work.consul)
    )
    log.info("Current datacenter", datacenter=work.dc, primaryDC=work.primary)
    if work.in_primary:
        await until_succeeds(
            log, "every server works with new ACLs", lambda: _legacy_mode_is_over(work), quiet=True
        )
    local, shared = await component_auth_methods(work)
    if given.is_on("client", default=True):
        await component(work, "client", acl_rules.AGENT, local, is_global=False)
    anonymous = given.is_on("allow-dns") or (given.is_on("connect-inject") and given.is_on("federation"))
    if work.in_primary and anonymous:
        await anonymous_token(work)
    if given.is_on("connect-inject"):
        # Up to chart 0.49, which gave servers by this flag, the injector logged in for a local token.
        is_old = "server-address" in given.flags
        await connect_inject(work, local if is_old else shared, is_global=not is_old)
    if given.is_on("controller"):
        await component(work, "controller", acl_rules.CONTROLLER, shared, is_global=True)
    if given.is_on("mesh-gateway"):
        await component(work, "mesh-gateway", acl_rules.MESH_GATEWAY, shared, is_global=True)
    if creates_replication_token:
        await make_replication_token(work, replication_token)


def _token_file(work: AclWork, flag: str) -> str:
    path = work.given.flag(flag)
    if not path:
        return ""
    if path not in work.container.files:
        raise JobFailed(f"unable to read token from file {path!r}: no such file")
    token = work.container.files[path].decode().strip()
    if not token:
        raise JobFailed(f"token file {path!r} is empty")
    return token


async def _bootstrap_token(work: AclWork) -> str:
    given, log = work.given, work.log
    name = given.flag("bootstrap-token-secret-name") or f"{work.prefix}-bootstrap-acl-token"
    key = given.flag("bootstrap-token-secret-key") or TOKEN_KEY
    secret = await until_succeeds(
        log,
        f"looking for Secret {name}",
        lambda: read_secret(work.container.client, work.namespace, name),
        quiet=True,
    )
    token = (secret or {}).get(key, b"").decode().strip()
    if token:
        log.info("ACLs were bootstrapped before, the token is there", secret=name)
        return token
    log.info("There is no bootstrap token yet: bootstrapping ACLs", secret=name)
    token = await until_succeeds(
        log, "bootstrapping ACLs - PUT /v1/acl/bootstrap", lambda: _bootstrap(work.consul, name)
    )
    await until_succeeds(
        log,
        f"writing bootstrap Secret {name}",
        lambda: create_secret(work.container.client, work.namespace, name, {key: token.encode()}),
    )
    return token


async def _bootstrap(consul: ConsulApi, secret_name: str) -> str:
    try:
        # Longer than other calls: a bootstrap whose answer is lost cannot be done again.
        return (await consul.put("/v1/acl/bootstrap", timeout=_BOOTSTRAP_SECONDS))["SecretID"]
    except ConsulError as error:
        if error.status == 403:
            raise JobFailed(
                "ACLs already bootstrapped but unable to find the bootstrap token: "
                f"put a token that has acl:write into Secret {secret_name}"
            ) from error
        raise


async def _set_server_tokens(work: AclWork) -> None:
    policy = "agent-token"
    await until_succeeds(
        work.log, f"creating {policy} policy", lambda: ensure_policy(work.consul, "", policy, acl_rules.AGENT)
    )
    for address in await until_succeeds(work.log, "finding servers", work.consul.servers, quiet=True):
        await until_succeeds(
            work.log,
            f"setting the agent token of server {address}",
            lambda address=address: ensure_server_token(work.consul, address, policy),  # type: ignore[misc]
        )


async def _datacenters(consul: ConsulApi) -> tuple[str, str]:
    """(this datacenter, the primary). In a secondary it fails until ACLs reach it from the primary."""
    agent = await consul.get("/v1/agent/self")
    primary = agent["Config"].get("PrimaryDatacenter") or agent["DebugConfig"].get("PrimaryDatacenter")
    if not primary:
        raise ConsulError("/v1/agent/self does not say the primary datacenter yet")
    return agent["Config"]["Datacenter"], primary


async def _legacy_mode_is_over(work: AclWork) -> None:
    """A secondary that joins while a server of the primary still says `legacy` stays in legacy mode for long."""
    for address in await work.consul.servers():
        for query in ("", "?wan=1"):
            for member in await work.consul.get(f"/v1/agent/members{query}", address=address):
                tags = member["Tags"]
                ours = tags.get("role") == "consul" and tags.get("dc") == work.dc
                if ours and member["Status"] == _ALIVE and tags.get("acls", ACLS_ENABLED) != ACLS_ENABLED:
                    raise ConsulError(f"server {member['Name']} still works with legacy ACLs")
