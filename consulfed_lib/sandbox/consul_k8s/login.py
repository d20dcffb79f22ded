"""How a pod gets a Consul token: it shows its service account's token to an auth method.

Consul asks the Kubernetes API server whether that is valid, at the address in the auth method. With federation
the auth method of a secondary's components is in the primary, because only tokens of the primary are valid
everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..node.consul_http import ConsulError
from ..node.workload import Container
from .consul_api import ConsulApi, consul_of
from .options import Endpoint, Options, endpoint, options, options_of

_KNOWN_SECONDS = 10


@dataclass(frozen=True)
class Login:
    """Which auth method to use, in which datacenter (empty: this one), and what to write into the token."""

    method: str
    datacenter: str
    meta: Mapping[str, str] = field(default_factory=dict)


def login_of(given: Options, meta: Mapping[str, str], *, acl_init: bool = False) -> Login | None:
    """How a container was told to log in; None when it was not, as when ACLs are off.

    `acl_init` is for the init containers of charts up to 0.49; elsewhere -acl-auth-method is not one's own.
    """
    method = (
        given.flag("login-auth-method")
        or given.flag("auth-method-name")
        or given.env.get("CONSUL_LOGIN_AUTH_METHOD", "")
    )
    if acl_init:
        method = method or given.flag("acl-auth-method")
    datacenter = (
        given.flag("login-datacenter")
        or given.env.get("CONSUL_LOGIN_DATACENTER", "")
        or given.flag("primary-datacenter")
    )
    return Login(method, datacenter, meta) if method else None


async def sign_in(consul: ConsulApi, how: Login, bearer: str) -> str:
    """Log in; the token, once the servers know it. `consul` uses it from then on. Raises ConsulError.

    A refused login is the API server's or Consul's verdict in words: no such method, invalid token, no rule.
    """
    consul.token = ""
    answer = await consul.request(
        "POST",
        "/v1/acl/login",
        {"AuthMethod": how.method, "BearerToken": bearer, "Meta": dict(how.meta)},
        dc=how.datacenter,
        timeout=30,
    )
    consul.token = answer["SecretID"]
    async with asyncio.timeout(_KNOWN_SECONDS):
        while True:
            if await _is_known(consul, how.datacenter):
                return consul.token
            await asyncio.sleep(0.05)


async def _is_known(consul: ConsulApi, datacenter: str) -> bool:
    try:
        await consul.wait_known(dc=datacenter)
    except ConsulError as error:
        if error.status == 403:
            return False
        raise
    return True


async def sign_out(consul: ConsulApi, datacenter: str) -> None:
    """Destroy the token that `consul` has; it has none from then on."""
    await consul.request("POST", "/v1/acl/logout", dc=datacenter)
    consul.token = ""


async def login(container: Container) -> str:
    """The ACL token of a container that runs here; empty when ACLs are off.

    The flags of charts since 1.0 are the container's own; before that its acl-init init container had them.
    Raises ConsulError when Consul refuses or does not answer: the caller tries again.
    """
    how = _how(container)
    if how is None:
        return ""
    async with consul_of(container, login_endpoint(container)) as consul:
        return await sign_in(consul, how, container.token)


async def logout(container: Container, token: str) -> None:
    """Destroy a token that `login` returned; nothing for an empty one. Raises ConsulError."""
    how = _how(container)
    if how is None or not token:
        return
    async with consul_of(container, login_endpoint(container), token) as consul:
        await sign_out(consul, how.datacenter)


def _how(container: Container) -> Login | None:
    meta = {"component": container.component, "pod": f"{container.namespace}/{container.name}"}
    own = login_of(dataplane_options(options(container)), meta)
    return own or init_login(container.pod["spec"], container.env, meta)


def login_endpoint(container: Container) -> Endpoint:
    candidates = [dataplane_options(options(container)), *_init_options(container.pod["spec"], container.env)]
    for given in candidates:
        try:
            return endpoint(given)
        except ValueError:
            continue
    raise ConsulError("the pod does not say where Consul is")


def dataplane_options(given: Options) -> Options:
    """Options as they are, or with what consul-dataplane leaves out: it is told only the port of gRPC."""
    if "addresses" not in given.flags or "http-port" in given.flags or "CONSUL_HTTP_PORT" in given.env:
        return given
    ca_file = given.flag("ca-certs")
    tls = {"CONSUL_USE_TLS": "true", "CONSUL_CACERT_FILE": ca_file} if ca_file else {}
    return Options(given.flags, {**tls, **given.env})


def init_login(spec: dict[str, Any], env: Mapping[str, str], meta: Mapping[str, str]) -> Login | None:
    """How an acl-init init container of a pod was told to log in."""
    for given in _init_options(spec, env):
        how = login_of(given, meta, acl_init=True)
        if how is not None:
            return how
    return None


def _init_options(spec: dict[str, Any], env: Mapping[str, str]) -> Iterator[Options]:
    for init in spec.get("initContainers", []):
        plain = {entry["name"]: entry["value"] for entry in init.get("env", []) if "value" in entry}
        yield options_of([*init.get("command", []), *init.get("args", [])], {**env, **plain})
