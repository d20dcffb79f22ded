"""Job server-acl-init: ACLs from nothing to a token, or a way to get one, for every component.

The primary is bootstrapped. A secondary is not: its servers replicate the primary's ACLs, and the replication
token, which it got with the federation secret, is good for everything that is to be done (consul-facts.md §4).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..controllers.client import KubeError
from ..node.consul_http import ConsulError
from ..node.workload import Container
from . import acl_rules
from .acl_objects import (
    create_token,
    ensure_anonymous_policy,
    ensure_auth_method,
    ensure_binding_rule,
    ensure_policy,
    ensure_role,
    ensure_server_token,
)
from .consul_api import ConsulApi, consul_of
from .joblog import JobFailed, JobLog, until_succeeds
from .kube_secrets import create_secret, read_secret
from .options import Options, endpoint, options, seconds

TOKEN_KEY = "token"
ACLS_ENABLED = "1"
"""Value of the serf tag `acls` of a server whose ACLs work; `2` is what it says before that."""

_ALIVE = 1
"""Status of a serf member that is neither failed nor gone."""

_KUBERNETES_DNS_NAME = "https://kubernetes.default.svc"
_BOOTSTRAP_SECONDS = 300.0


@dataclass
class _Work:
    """One run of the Job."""

    container: Container
    given: Options
    log: JobLog
    consul: ConsulApi
    prefix: str
    namespace: str
    dc: str = ""
    primary: str = ""

    @property
    def in_primary(self) -> bool:
        return self.dc == self.primary

    @property
    def suffix(self) -> str:
        """Policies and roles are the same objects in every datacenter, so a secondary's carry its name."""
        return f"-{self.dc}" if self.given.is_on("federation") and not self.in_primary else ""


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
            await _run(_Work(container, given, log, consul, prefix, namespace))
    except TimeoutError:
        raise JobFailed(f"server-acl-init did not come to its end within {limit}") from None
    except ValueError as error:
        raise JobFailed(str(error)) from error
    log.info("server-acl-init completed successfully")


async def _run(work: _Work) -> None:
    given, log = work.given, work.log
    replication_token = _token_file(work, "acl-replication-token-file")
    creates_replication_token = given.is_on("create-acl-replication-token")
    if replication_token and not creates_replication_token:
        log.info("ACL replication is enabled so skipping Consul server ACL bootstrapping")
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
    local, shared = await _component_auth_methods(work)
    if given.is_on("client", default=True):
        await _component(work, "client", acl_rules.AGENT, local, is_global=False)
    anonymous = given.is_on("allow-dns") or (given.is_on("connect-inject") and given.is_on("federation"))
    if work.in_primary and anonymous:
        await _anonymous_token(work)
    if given.is_on("connect-inject"):
        # Up to chart 0.49, which gave servers by this flag, the injector logged in for a local token.
        is_old = "server-address" in given.flags
        await _connect_inject(work, local if is_old else shared, is_global=not is_old)
    if given.is_on("controller"):
        await _component(work, "controller", acl_rules.CONTROLLER, shared, is_global=True)
    if given.is_on("mesh-gateway"):
        await _component(work, "mesh-gateway", acl_rules.MESH_GATEWAY, shared, is_global=True)
    if creates_replication_token:
        await _replication_token(work, replication_token)


def _token_file(work: _Work, flag: str) -> str:
    path = work.given.flag(flag)
    if not path:
        return ""
    if path not in work.container.files:
        raise JobFailed(f"unable to read token from file {path!r}: no such file")
    token = work.container.files[path].decode().strip()
    if not token:
        raise JobFailed(f"token file {path!r} is empty")
    return token


async def _bootstrap_token(work: _Work) -> str:
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
        log.info("Found bootstrap token in secrets backend", secret=name)
        return token
    log.info("No bootstrap token found in secrets backend, continuing to ACL bootstrapping", secret=name)
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
                "ACLs already bootstrapped but unable to find the bootstrap token in the secrets backend. "
                f"Store a token with acl:write permission in the secret {secret_name}"
            ) from error
        raise


async def _set_server_tokens(work: _Work) -> None:
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


async def _legacy_mode_is_over(work: _Work) -> None:
    """A secondary that joins while a server of the primary still says `legacy` stays in legacy mode for long."""
    for address in await work.consul.servers():
        for query in ("", "?wan=1"):
            for member in await work.consul.get(f"/v1/agent/members{query}", address=address):
                tags = member["Tags"]
                ours = tags.get("role") == "consul" and tags.get("dc") == work.dc
                if ours and member["Status"] == _ALIVE and tags.get("acls", ACLS_ENABLED) != ACLS_ENABLED:
                    raise ConsulError(f"server {member['Name']} still works with legacy ACLs")


async def _component_auth_methods(work: _Work) -> tuple[str, str]:
    """(method for tokens of this datacenter, method for tokens of every datacenter); in the primary the same.

    The second one is made in the primary, which calls this cluster's API server at -auth-method-host: without
    that flag it is not made, and its name leads nowhere.
    """
    local = f"{work.prefix}-k8s-component-auth-method"
    config = await _auth_method_config(work)
    await until_succeeds(
        work.log, f"creating auth method {local}", lambda: ensure_auth_method(work.consul, "", local, config)
    )
    if work.in_primary:
        return local, local
    shared = f"{local}-{work.dc}"
    if work.given.flag("auth-method-host"):
        await until_succeeds(
            work.log,
            f"creating auth method {shared} in {work.primary}",
            lambda: ensure_auth_method(work.consul, work.primary, shared, config, is_global=True),
        )
    return local, shared


async def _auth_method_config(work: _Work) -> dict[str, str]:
    client, name = work.container.client, f"{work.prefix}-auth-method"

    async def reviewer() -> dict[str, bytes]:
        await client.get("v1", "serviceaccounts", name, work.namespace)
        data = await read_secret(client, work.namespace, name)
        if not data or not data.get("token"):
            raise KubeError(404, "NotFound", f"Secret {name} of type service-account-token has no token yet")
        return data

    data = await until_succeeds(work.log, f"getting {name} Secret", reviewer)
    host = work.given.flag("auth-method-host") or _KUBERNETES_DNS_NAME
    if host == _KUBERNETES_DNS_NAME:
        # Servers run as plain processes here: the name that pods know the API server by means nothing to them.
        host = work.container.cluster.api_url
    return {"Host": host, "CACert": data["ca.crt"].decode(), "ServiceAccountJWT": data["token"].decode()}


async def _component(work: _Work, component: str, rules: str, method: str, *, is_global: bool) -> None:
    """Let the service account of one component log in by `method` for a token with these rules."""
    account = {"connect-inject": "connect-injector"}.get(component, component)
    account = f"{work.prefix}-{account}"
    policy = f"{component}-policy{work.suffix}"
    role = f"{work.prefix}-{component}-acl-role{work.suffix}"
    dc = work.primary if is_global else ""
    valid_in = () if is_global else (work.dc,)
    await until_succeeds(
        work.log,
        f"creating {policy} policy",
        lambda: ensure_policy(work.consul, work.primary, policy, rules, datacenters=valid_in),
    )
    await until_succeeds(
        work.log,
        f"update or create acl role for {role}",
        lambda: ensure_role(work.consul, work.primary, role, f"ACL Role for {account}", [policy]),
    )
    await until_succeeds(
        work.log,
        f"creating acl binding rule for {method}",
        lambda: ensure_binding_rule(
            work.consul, dc, method, f"Binding Rule for {account}", "role", role,
            f'serviceaccount.name=="{account}"',
        ),
    )  # fmt: skip


async def _anonymous_token(work: _Work) -> None:
    name = "anonymous-token-policy"
    written = await until_succeeds(
        work.log,
        "giving the anonymous token its policy",
        lambda: ensure_anonymous_policy(work.consul, work.primary, name, acl_rules.ANONYMOUS),
        quiet=True,
    )
    work.log.info(
        "Success: updating anonymous token with policy"
        if written
        else "skipping creating anonymous token since it already exists"
    )


async def _connect_inject(work: _Work, login_method: str, *, is_global: bool) -> None:
    method = f"{work.prefix}-k8s-auth-method"
    config = await _auth_method_config(work)
    await until_succeeds(
        work.log,
        f"creating auth method {method}",
        lambda: ensure_auth_method(work.consul, "", method, config),
    )
    selector = work.given.flag("acl-binding-rule-selector")
    await until_succeeds(
        work.log,
        f"creating acl binding rule for {method}",
        lambda: ensure_binding_rule(
            work.consul, "", method, "Kubernetes binding rule", "service", "${serviceaccount.name}", selector
        ),
    )
    await _component(work, "connect-inject", acl_rules.CONNECT_INJECT, login_method, is_global=is_global)


async def _replication_token(work: _Work, given_token: str) -> None:
    policy, log = "acl-replication-token", work.log
    await until_succeeds(
        log,
        f"creating {policy} policy",
        lambda: ensure_policy(work.consul, work.primary, policy, acl_rules.ACL_REPLICATION),
    )
    description = f"{policy} Token"
    if given_token:
        await until_succeeds(
            log,
            f"creating token for policy {policy}",
            lambda: _given_token(work, description, policy, given_token),
        )
        return
    client, name = work.container.client, f"{work.prefix}-acl-replication-acl-token"
    if await until_succeeds(
        log, f"looking for Secret {name}", lambda: read_secret(client, work.namespace, name), quiet=True
    ):
        log.info("Secret already exists", secret=name)
        return
    token = await until_succeeds(
        log,
        f"creating token for policy {policy}",
        lambda: create_token(work.consul, description, policy, local=False),
    )
    await until_succeeds(
        log,
        f"writing Secret {name}",
        lambda: create_secret(client, work.namespace, name, {TOKEN_KEY: token.encode()}),
    )


async def _given_token(work: _Work, description: str, policy: str, secret: str) -> None:
    own, work.consul.token = work.consul.token, secret
    try:
        await work.consul.get("/v1/acl/token/self")
        return
    except ConsulError as error:
        if error.status != 403:
            raise
    finally:
        work.consul.token = own
    await create_token(work.consul, description, policy, local=False, secret=secret)
