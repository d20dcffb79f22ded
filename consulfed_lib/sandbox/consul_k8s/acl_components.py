"""What server-acl-init makes for the components: auth methods, policies, roles, binding rules and tokens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
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
)
from .consul_api import ConsulApi
from .joblog import JobLog, until_succeeds
from .kube_secrets import create_secret, read_secret
from .options import Options

TOKEN_KEY = "token"
"""Key of the token in a Secret."""

_KUBERNETES_DNS_NAME = "https://kubernetes.default.svc"


@dataclass
class AclWork:
    """One run of server-acl-init, and what it has found out so far.

    Attributes:
        consul: a client of this datacenter's servers, with the token that the Job works with.
        prefix, namespace: of the release's objects.
        dc, primary: this datacenter and the primary; empty until Consul has said them.
    """

    container: Container
    given: Options
    log: JobLog
    consul: ConsulApi
    prefix: str
    namespace: str
    dc: str = ""
    primary: str = ""

    @contextlib.asynccontextmanager
    async def at_primary(self) -> AsyncIterator[ConsulApi]:
        """A client of the primary's servers, for what Consul 1.8 does not forward: auth methods, binding rules.

        Where they are is asked through the gateways, so that a primary that cannot be reached is noticed; then
        they are reached directly, which only one machine allows. In a real cluster a newer Consul forwards.
        """
        if self.in_primary:
            yield self.consul
            return
        async with self.consul.elsewhere(self._primary_servers) as consul:
            yield consul

    async def _primary_servers(self) -> list[str]:
        servers = await self.consul.get("/v1/catalog/service/consul", dc=self.primary)
        return [server["Address"] for server in servers or []]

    @property
    def in_primary(self) -> bool:
        return self.dc == self.primary

    @property
    def suffix(self) -> str:
        """Policies and roles are the same objects in every datacenter, so a secondary's carry its name."""
        return f"-{self.dc}" if self.given.is_on("federation") and not self.in_primary else ""


async def component_auth_methods(work: AclWork) -> tuple[str, str]:
    """(method for tokens of this datacenter, method for tokens of every datacenter); in the primary the same.

    The second one is made in the primary, which calls this cluster's API server at -auth-method-host: without
    that flag it is not made, and its name leads nowhere.
    """
    local = f"{work.prefix}-k8s-component-auth-method"
    config = await _auth_method_config(work)
    await until_succeeds(
        work.log, f"creating auth method {local}", lambda: ensure_auth_method(work.consul, local, config)
    )
    if work.in_primary:
        return local, local
    shared = f"{local}-{work.dc}"
    if work.given.flag("auth-method-host"):
        async with work.at_primary() as consul:
            await until_succeeds(
                work.log,
                f"creating auth method {shared} in {work.primary}",
                lambda: ensure_auth_method(consul, shared, config, is_global=True),
            )
    return local, shared


async def _auth_method_config(work: AclWork) -> dict[str, str]:
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


async def component(work: AclWork, name: str, rules: str, method: str, *, is_global: bool) -> None:
    """Let the service account of one component log in by `method` for a token with these rules."""
    account = f"{work.prefix}-{'connect-injector' if name == 'connect-inject' else name}"
    policy = f"{name}-policy{work.suffix}"
    role = f"{work.prefix}-{name}-acl-role{work.suffix}"
    valid_in = () if is_global else (work.dc,)
    await until_succeeds(
        work.log,
        f"creating {policy} policy",
        lambda: ensure_policy(work.consul, work.primary, policy, rules, datacenters=valid_in),
    )
    await until_succeeds(
        work.log,
        f"writing role {role}",
        lambda: ensure_role(work.consul, work.primary, role, f"ACL Role for {account}", [policy]),
    )
    async with work.at_primary() if is_global else contextlib.nullcontext(work.consul) as consul:
        await until_succeeds(
            work.log,
            f"creating acl binding rule for {method}",
            lambda: ensure_binding_rule(
                consul,
                method,
                f"Binding Rule for {account}",
                "role",
                role,
                f'serviceaccount.name=="{account}"',
            ),
        )


async def anonymous_token(work: AclWork) -> None:
    """Let requests without a token read services and nodes; in the primary only, for it is one for all."""
    name = "anonymous-token-policy"
    written = await until_succeeds(
        work.log,
        "giving the anonymous token its policy",
        lambda: ensure_anonymous_policy(work.consul, work.primary, name, acl_rules.ANONYMOUS),
        quiet=True,
    )
    work.log.info(
        "Success: giving the anonymous token its policy"
        if written
        else "The anonymous token has its policy already"
    )


async def connect_inject(work: AclWork, login_method: str, *, is_global: bool) -> None:
    """The auth method of injected pods, and the controllers' own way to a token."""
    method = f"{work.prefix}-k8s-auth-method"
    config = await _auth_method_config(work)
    await until_succeeds(
        work.log,
        f"creating auth method {method}",
        lambda: ensure_auth_method(work.consul, method, config),
    )
    selector = work.given.flag("acl-binding-rule-selector")
    await until_succeeds(
        work.log,
        f"creating acl binding rule for {method}",
        lambda: ensure_binding_rule(
            work.consul, method, "Kubernetes binding rule", "service", "${serviceaccount.name}", selector
        ),
    )
    await component(work, "connect-inject", acl_rules.CONNECT_INJECT, login_method, is_global=is_global)


async def make_replication_token(work: AclWork, given_token: str) -> None:
    """The token that secondaries replicate with, and the Secret that the federation secret takes it from."""
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


async def _given_token(work: AclWork, description: str, policy: str, secret: str) -> None:
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
