"""Policies, roles, binding rules, auth methods and tokens, each made so that doing it again changes nothing."""

from __future__ import annotations

from typing import Any

from ..node.consul_http import ConsulError
from .consul_api import ConsulApi

ANONYMOUS_ACCESSOR = "00000000-0000-0000-0000-000000000002"

Document = dict[str, Any]


async def ensure_policy(
    consul: ConsulApi, dc: str, name: str, rules: str, *, datacenters: tuple[str, ...] = ()
) -> None:
    """The policy with these rules, valid in `datacenters` (all, if empty).

    A policy of that name that someone else made is left alone: ConsulError.

    Args:
        dc: the primary, where policies and roles are written; a secondary's own copy lags behind.
    """
    description = f"{name} Token Policy"
    wanted: Document = {"Name": name, "Description": description, "Rules": rules}
    if datacenters:
        wanted["Datacenters"] = list(datacenters)
    for policy in await consul.get("/v1/acl/policies", dc=dc) or []:
        if policy["Name"] != name:
            continue
        if policy.get("Description") != description:
            raise ConsulError(
                f"a policy named {name} exists that consul-k8s did not make (its description is "
                f"{policy.get('Description', '')!r}): rename it"
            )
        await consul.put(f"/v1/acl/policy/{policy['ID']}", {**wanted, "ID": policy["ID"]}, dc=dc)
        return
    await consul.put("/v1/acl/policy", wanted, dc=dc)


async def ensure_role(consul: ConsulApi, dc: str, name: str, description: str, policies: list[str]) -> None:
    """The role with exactly these policies."""
    wanted: Document = {
        "Name": name,
        "Description": description,
        "Policies": [{"Name": policy} for policy in policies],
    }
    existing = await consul.find(f"/v1/acl/role/name/{name}", dc=dc)
    if existing:
        await consul.put(f"/v1/acl/role/{existing['ID']}", {**wanted, "ID": existing["ID"]}, dc=dc)
    else:
        await consul.put("/v1/acl/role", wanted, dc=dc)


async def ensure_binding_rule(
    consul: ConsulApi, method: str, description: str, bind_type: str, bind_name: str, selector: str
) -> None:
    """The rule that gives who logs in by `method` and matches `selector` a role or a service identity.

    It is looked for where it is written. (consul-k8s looks for it in the local datacenter, so that upgrades of a
    secondary may leave duplicates in the primary; that is not imitated.)
    """
    wanted: Document = {
        "AuthMethod": method,
        "Description": description,
        "BindType": bind_type,
        "BindName": bind_name,
        "Selector": selector,
    }
    for rule in await consul.get(f"/v1/acl/binding-rules?authmethod={method}") or []:
        if rule["BindName"] == bind_name and rule.get("Description") == description:
            if any(rule.get(key, "") != value for key, value in wanted.items()):
                await consul.put(f"/v1/acl/binding-rule/{rule['ID']}", {**wanted, "ID": rule["ID"]})
            return
    await consul.put("/v1/acl/binding-rule", wanted)


async def ensure_auth_method(
    consul: ConsulApi, name: str, config: Document, *, is_global: bool = False
) -> None:
    """The auth method of type kubernetes; its tokens are valid everywhere if `is_global`, which only the primary
    offers, else in the datacenter of `consul`.
    """
    wanted: Document = {
        "Name": name,
        "Type": "kubernetes",
        "Description": "Kubernetes Auth Method",
        "Config": config,
    }
    if is_global:
        wanted["TokenLocality"] = "global"
    await consul.put("/v1/acl/auth-method", wanted)


async def create_token(
    consul: ConsulApi, description: str, policy: str, *, local: bool, secret: str = ""
) -> str:
    """A new token with one policy; its secret. `secret` gives it instead of letting Consul choose."""
    wanted: Document = {"Description": description, "Policies": [{"Name": policy}], "Local": local}
    if secret:
        wanted["SecretID"] = secret
    return (await consul.put("/v1/acl/token", wanted))["SecretID"]


async def ensure_anonymous_policy(consul: ConsulApi, dc: str, policy: str, rules: str) -> bool:
    """Give requests without a token this policy; False when they have it already, and then nothing is written."""
    token = await consul.get(f"/v1/acl/token/{ANONYMOUS_ACCESSOR}")
    linked = token.get("Policies") or []
    if any(link["Name"] == policy for link in linked):
        return False
    await ensure_policy(consul, dc, policy, rules)
    policies = [{"Name": link["Name"]} for link in linked] + [{"Name": policy}]
    await consul.put(
        f"/v1/acl/token/{ANONYMOUS_ACCESSOR}",
        {"AccessorID": ANONYMOUS_ACCESSOR, "Description": token.get("Description", ""), "Policies": policies},
    )
    return True


async def ensure_server_token(consul: ConsulApi, address: str, policy: str) -> None:
    """Give the agent of one server a token of its own, known by its description, and make it use it."""
    description = f"Server Token for {address}"
    secret = ""
    for token in await consul.get("/v1/acl/tokens", address=address) or []:
        links = token.get("Policies") or []
        if token.get("Description") == description and [link["Name"] for link in links] == [policy]:
            # The list of Consul 1.8 and later does not say the secret.
            found = await consul.get(f"/v1/acl/token/{token['AccessorID']}", address=address)
            secret = found["SecretID"]
            break
    if not secret:
        secret = await create_token(consul, description, policy, local=True)
    await consul.put("/v1/agent/token/agent", {"Token": secret}, address=address)
