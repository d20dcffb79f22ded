"""Faults by Consul's own API, and by the configuration that its servers were started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import SandboxError
from ..consul_k8s.consul_api import ConsulApi
from ..controllers.volumes import set_full
from ..node.consul_http import ConsulError
from .fault import fault
from .servers import restart, until_healthy, until_ready, volumes
from .waiting import until_true
from .world import Datacenter, World

_ACL_FILE, _SERVER_FILE = "acl-config.json", "server.json"
_GONE_NODE, _GONE_POD = "drained-node-virtual", "mesh-gateway-of-a-drained-node"
_NOBODY_LISTENS = 6444
_TOKEN_KEYS = ("AccessorID", "SecretID", "Description", "Policies", "Roles", "ServiceIdentities", "Local")


# -- The replication token -----------------------------------------------------------------------------------------


async def _token_revoked(world: World) -> None:
    """Delete the token that the copy of the federation secret has; in force when no server of the primary knows it."""
    dc = await world.secondary()
    secret = (await dc.data(dc.secret)).get("replicationToken", b"").decode().strip()
    if not secret:
        raise SandboxError(
            f"{dc.secret} of {dc.layout.name} has no replicationToken: ACLs are off.",
            "federate with acls: true.",
        )
    consul = await world.consul(await world.primary())
    found = next((one for one in await _tokens(consul) if one["SecretID"] == secret), None)
    if found is None:
        raise SandboxError(
            f"The primary does not know the replication token of {dc.layout.name}.",
            "run `consulfed verify`: it names what is wrong already.",
        )
    kept = {key: found[key] for key in _TOKEN_KEYS if found.get(key)}
    world.remember("token", f"dc1 ACL token {found['AccessorID']}", token=kept)
    await consul.request("DELETE", f"/v1/acl/token/{found['AccessorID']}")
    await until_true(
        "the replication token is revoked", lambda: _no_server_knows(consul, found["AccessorID"])
    )


async def _tokens(consul: ConsulApi) -> list[dict[str, Any]]:
    """Every token, whole: the list has no secrets in some versions."""
    return [
        await consul.get(f"/v1/acl/token/{one['AccessorID']}") for one in await consul.get("/v1/acl/tokens")
    ]


async def _no_server_knows(consul: ConsulApi, accessor: str) -> bool:
    return accessor not in {one["AccessorID"] for one in await consul.get("/v1/acl/tokens")}


async def _token_again(world: World) -> None:
    """The same token with the same policies, which Consul lets an administrator make by its two ids."""
    for entry in world.of_kind("token"):
        consul = await world.consul(await world.primary())
        accessor = entry["token"]["AccessorID"]
        if await _no_server_knows(consul, accessor):
            await consul.put("/v1/acl/token", entry["token"])


# -- ACLs off --------------------------------------------------------------------------------------------------------


async def _acls_off(world: World) -> None:
    """ACLs off in the configuration of the secondary's servers, and the servers started with it."""
    dc = await world.secondary()
    ref = dc.ref("configmaps", "{}-server-config")
    text = ((await dc.get(ref)).get("data") or {}).get(_ACL_FILE)
    if text is None:
        raise SandboxError(f"ACLs are off in {dc.layout.name} already.", "federate with acls: true.")
    config = json.loads(text)
    config["acl"]["enabled"] = False
    await world.change(dc, ref, {"data": {_ACL_FILE: json.dumps(config, indent=2)}})
    await restart(dc)
    await until_healthy(world, dc)
    consul = await world.consul(dc)

    async def are_off() -> bool:
        try:
            await consul.get("/v1/acl/tokens")
        except ConsulError as error:
            return "ACL support disabled" in str(error)
        return False

    await until_true(f"ACLs are off in {dc.layout.name}", are_off)
    primary, name = await world.consul(await world.primary()), await _datacenter(consul)

    async def is_read() -> bool:
        # The first request after a restart goes by the connection from before, and is lost with it.
        return bool(await primary.get("/v1/catalog/nodes", dc=name))

    await until_true(f"the primary reads the catalog of {dc.layout.name}", is_read)


async def _acls_on(world: World) -> None:
    if world.of_kind("object"):
        await world.put_back()
        dc = await world.secondary()
        await restart(dc)
        await until_ready(dc)
        consul = await world.consul(dc)

        async def are_on() -> bool:
            return bool(await consul.get("/v1/acl/tokens"))

        await until_true(f"ACLs are on in {dc.layout.name}", are_on)


# -- The datacenter's name -------------------------------------------------------------------------------------------


async def _same_name(world: World) -> None:
    """The secondary's servers are told that they are the primary's datacenter, which Consul refuses to start with."""
    dc = await world.secondary()
    name = await _datacenter(await world.consul(await world.primary()))
    ref = dc.ref("configmaps", "{}-server-config")
    config = json.loads((await dc.get(ref))["data"][_SERVER_FILE])
    await world.change(dc, ref, {"data": {_SERVER_FILE: json.dumps(config | {"datacenter": name}, indent=2)}})
    await restart(dc, fails=True)


async def _own_name(world: World) -> None:
    if world.of_kind("object"):
        await world.put_back()
        dc = await world.secondary()
        await restart(dc)
        await until_ready(dc)


# -- The disk --------------------------------------------------------------------------------------------------------


async def _disk_full(world: World) -> None:
    """Consul's database finds no room, and a server does not start without."""
    dc = await world.secondary()
    for folder in await volumes(dc):
        world.remember("volume", f"dc2 volume {folder.name}", folder=str(folder))
        set_full(folder, True)
    await restart(dc, fails=True)


async def _room_again(world: World) -> None:
    if full := world.of_kind("volume"):
        for entry in full:
            set_full(Path(entry["folder"]), False)
        dc = await world.secondary()
        await restart(dc)
        await until_ready(dc)


# -- The auth method -------------------------------------------------------------------------------------------------


async def _api_url_unreachable(world: World) -> None:
    """The primary is told that the secondary's Kubernetes API is where nobody listens."""
    dc = await world.secondary()
    consul, name = await world.consul(await world.primary()), await _auth_method(world, dc)
    listed = await consul.get("/v1/acl/auth-methods") if consul.token else []
    if name not in {one["Name"] for one in listed}:
        raise SandboxError(f"There is no auth method {name} in the primary.", "federate with acls: true.")
    found = await consul.get(f"/v1/acl/auth-method/{name}")
    world.remember("auth-method", f"dc1 auth method {name}", name=name, host=found["Config"]["Host"])
    await _point(consul, name, f"https://{dc.layout.api_address}:{_NOBODY_LISTENS}")


async def _auth_method(world: World, dc: Datacenter) -> str:
    """`<full name>-k8s-component-auth-method-<datacenter>`, as consul-k8s names those of secondaries."""
    return f"{dc.fullname}-k8s-component-auth-method-{await _datacenter(await world.consul(dc))}"


async def _datacenter(consul: ConsulApi) -> str:
    return str((await consul.get("/v1/agent/self"))["Config"]["Datacenter"])


async def _point(consul: ConsulApi, name: str, host: str) -> None:
    found = await consul.get(f"/v1/acl/auth-method/{name}")
    await consul.put(f"/v1/acl/auth-method/{name}", found | {"Config": found["Config"] | {"Host": host}})


async def _api_url_again(world: World) -> None:
    for entry in world.of_kind("auth-method"):
        await _point(await world.consul(await world.primary()), entry["name"], entry["host"])


# -- The catalog -----------------------------------------------------------------------------------------------------


async def _stale_gateway(world: World) -> None:
    """An entry of a gateway whose pod and node are gone, as a node leaves it that was taken away at once."""
    dc = await world.primary()
    consul = await world.consul(dc)
    world.remember("catalog", f"dc1 catalog {_GONE_NODE}", node=_GONE_NODE)
    service = (await dc.get(dc.gateway_service))["spec"]["ports"][0]
    address, wan = dc.layout.pod_addresses[-1], dc.layout.load_balancer_addresses[-1]
    await consul.put(
        "/v1/catalog/register",
        {
            "Node": _GONE_NODE,
            "Address": address,
            "Service": {
                "ID": _GONE_POD,
                "Service": "mesh-gateway",
                "Kind": "mesh-gateway",
                "Address": address,
                "Port": service["targetPort"],
                "Meta": {"consul-wan-federation": "1", "pod-name": _GONE_POD, "k8s-namespace": dc.namespace},
                "TaggedAddresses": {
                    "lan": {"Address": address, "Port": service["targetPort"]},
                    "wan": {"Address": wan, "Port": service["port"]},
                },
            },
        },
    )


async def _no_stale_gateway(world: World) -> None:
    for entry in world.of_kind("catalog"):
        consul = await world.consul(await world.primary())
        await consul.put("/v1/catalog/deregister", {"Node": entry["node"]})


FAULTS = (
    fault(
        "replication-token-revoked",
        "The replication token that dc2 has is deleted in dc1.",
        _token_revoked,
        _token_again,
    ),
    fault(
        "duplicate-datacenter",
        "dc2's servers are told that their datacenter is dc1's, and do not start.",
        _same_name,
        _own_name,
    ),
    fault(
        "disk-full",
        "No room is left on the disks of dc2's servers, which do not start without.",
        _disk_full,
        _room_again,
    ),
    fault("acls-off", "dc2's servers run with ACLs off.", _acls_off, _acls_on),
    fault(
        "api-url-unreachable",
        "The auth method of dc2 in dc1 names an address of dc2's API where nobody listens.",
        _api_url_unreachable,
        _api_url_again,
    ),
    fault(
        "stale-gateway-in-catalog",
        "Consul's catalog in dc1 has a mesh gateway whose pod and node are gone.",
        _stale_gateway,
        _no_stale_gateway,
    ),
)
