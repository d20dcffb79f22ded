"""Faults by the clusters' own APIs: what an administrator, a drained node or a Helm that was killed leaves behind."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
from contextlib import suppress

from ...errors import SandboxError
from ..consul_k8s.config_entries import API_VERSION
from ..controllers.client import Object
from ..state import ProcessId
from .fault import fault
from .servers import ready, until_ready
from .waiting import until_true
from .world import Datacenter, Ref, World

_GLOBAL = "global"
_RELEASE_TYPE = "helm.sh/release.v1"


# -- Gateways ----------------------------------------------------------------------------------------------------


async def _no_gateway(world: World, dc: Datacenter) -> None:
    """Scale the mesh gateways of a datacenter to nothing; in force when no pod of them is left."""
    await world.change(dc, dc.gateway, {"spec": {"replicas": 0}})
    await until_true(f"no mesh gateway is left in {dc.layout.name}", lambda: _has_none(dc))


async def _has_none(dc: Datacenter) -> bool:
    return not await dc.pods("mesh-gateway")


async def _gateways_again(world: World, dc: Datacenter) -> None:
    """Taken back when as many gateways are ready as there were."""
    if not world.of_kind("object"):
        return
    await world.put_back()
    wanted = (await dc.get(dc.gateway))["spec"].get("replicas", 1)

    def is_there(item: Object | None) -> bool:
        return item is not None and (item.get("status") or {}).get("availableReplicas", 0) >= wanted

    await dc.until(f"the mesh gateways of {dc.layout.name} are ready", dc.gateway, is_there)


async def _gateway_down(world: World) -> None:
    await _no_gateway(world, await world.secondary())


async def _gateway_up(world: World) -> None:
    await _gateways_again(world, await world.secondary())


async def _primary_gateway_down(world: World) -> None:
    await _no_gateway(world, await world.primary())


async def _primary_gateway_up(world: World) -> None:
    await _gateways_again(world, await world.primary())


async def _another_address(world: World) -> None:
    """Have the load balancer of the primary's gateway get another address, as a cloud gives one when asked for it."""
    dc = await world.primary()
    service = await dc.get(dc.gateway_service)
    before = _addresses(service)
    if service["spec"].get("type") != "LoadBalancer" or not before:
        raise SandboxError(
            f"The mesh gateway of {dc.layout.name} has no load balancer whose address could change.",
            "federate with mesh_gateway.service LoadBalancer.",
        )
    services = await dc.kube.list("v1", "services")
    taken = {address for each in services for address in _addresses(each)}
    names = {dc.layout.load_balancer_name(each): each for each in dc.layout.load_balancer_addresses}
    free = [at for name, at in names.items() if at not in taken and name not in taken]
    world.remember(
        "address", f"{dc.layout.name} address of {dc.gateway_service}", before=names.get(before[0], before[0])
    )
    await _move(world, dc, free[-1])


async def _same_address(world: World) -> None:
    for entry in world.of_kind("address"):
        dc = await world.primary()
        await _move(world, dc, entry["before"])
        # Which address it has is the balancer's to say again; it stays where it is.
        await dc.kube.merge_patch("v1", "services", dc.gateway_service.name, _asked(None), dc.namespace)


async def _move(world: World, dc: Datacenter, address: str) -> None:
    await dc.kube.merge_patch("v1", "services", dc.gateway_service.name, _asked(address), dc.namespace)
    told = (address, dc.layout.load_balancer_name(address))

    def has_moved(service: Object | None) -> bool:
        return service is not None and any(one in told for one in _addresses(service))

    await dc.until(f"the mesh gateway of {dc.layout.name} is at {address}", dc.gateway_service, has_moved)


def _asked(address: str | None) -> Object:
    return {"spec": {"loadBalancerIP": address}}


def _addresses(service: Object) -> list[str]:
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [one.get("ip") or one.get("hostname", "") for one in balancer.get("ingress") or []]


# -- ProxyDefaults -----------------------------------------------------------------------------------------------


async def _no_proxy_defaults(world: World) -> None:
    """Delete ProxyDefaults global; in force when the config entry is gone from Consul too."""
    dc = await world.primary()
    ref = dc.ref("proxydefaults", _GLOBAL, API_VERSION)
    await world.delete(dc, ref)
    await dc.until(f"{ref} is gone", ref, lambda item: item is None)
    consul = await world.consul(dc)

    async def is_gone() -> bool:
        return await consul.find(f"/v1/config/proxy-defaults/{_GLOBAL}") is None

    await until_true("Consul has no proxy-defaults any more", is_gone)


async def _proxy_defaults_again(world: World) -> None:
    if not world.of_kind("object"):
        return
    dc = await world.primary()
    ref = dc.ref("proxydefaults", _GLOBAL, API_VERSION)
    await world.put_back()
    await dc.until(f"{ref} is synced", ref, _is_synced)


def _is_synced(item: Object | None) -> bool:
    conditions = ((item or {}).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Synced" and one["status"] == "True" for one in conditions)


# -- Servers -----------------------------------------------------------------------------------------------------


async def _server_down(world: World) -> None:
    dc = await world.secondary()
    await _lose(world, dc, 1)


async def _quorum_lost(world: World) -> None:
    """In force when no server is ready: the one that is left knows no leader any more, as its probe found.

    A leader that lost its followers goes on for seconds, in which some requests are answered and others are not.
    """
    dc = await world.secondary()
    if dc.replicas < 3:
        raise SandboxError(
            f"{dc.layout.name} has {dc.replicas} server(s); a quorum can be lost where there are three.",
            "bring a sandbox up with --servers 3.",
        )
    await _lose(world, dc, dc.replicas // 2 + 1)

    async def none_is_ready() -> bool:
        return not any(ready(pod) for pod in await dc.pods("server"))

    await until_true(f"no server of {dc.layout.name} knows a leader", none_is_ready)


async def _lose(world: World, dc: Datacenter, count: int) -> None:
    """As many servers die at once without a word, and no node takes them; in force when their pods find no place.

    A server that is stopped leaves raft in good order, and a quorum is never lost that way.
    """
    for node in await dc.kube.list("v1", "nodes"):
        ref = Ref("v1", "nodes", node["metadata"]["name"], None)
        await world.change_of(dc.layout, ref, {"spec": {"unschedulable": True}})
    pods = (await dc.pods("server"))[-count:]
    for pod in pods:
        _kill(world, pod["status"]["podIP"])
        name = pod["metadata"]["name"]
        await dc.kube.delete("v1", "pods", name, dc.namespace, grace_seconds=0)
    lost = {pod["metadata"]["name"] for pod in pods}

    async def find_no_place() -> bool:
        there = {pod["metadata"]["name"]: pod for pod in await dc.pods("server")}
        return all(name in there and _has_no_place(there[name]) for name in lost)

    await until_true(f"{', '.join(sorted(lost))} of {dc.layout.name} cannot come back", find_no_place)


def _has_no_place(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable" for one in conditions)


def _kill(world: World, address: str) -> None:
    """End the program that listens at a pod's address, as a machine does that loses its power."""
    import psutil

    supervisor = world.folder.process()
    if supervisor is None:
        return
    for child in psutil.Process(supervisor.pid).children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if address in {
                at.laddr.ip for at in child.net_connections("tcp") if at.status == psutil.CONN_LISTEN
            }:
                # By a descriptor: an id may be another process' by the time that the signal is sent.
                descriptor = ProcessId.of(child.pid).open()
                if descriptor is not None:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    os.close(descriptor)


async def _servers_again(world: World) -> None:
    if world.of_kind("object"):
        await world.put_back()
        await until_ready(await world.secondary())


# -- What Helm left ----------------------------------------------------------------------------------------------


async def _failed_job(world: World) -> None:
    """A hook Job that fails and stays, as the chart's does: its policy deletes only one that succeeded."""
    dc = await world.primary()
    ref = dc.ref("jobs", "{}-create-federation-secret", "batch/v1")
    labels = {"app": "consul", "release": dc.release, "component": "create-federation-secret"}
    # Without its flags the Job's program ends with an error at once, as with a chart of another generation.
    container = {
        "name": "create-federation-secret",
        "image": "consul-k8s",
        "command": ["consul-k8s-control-plane"],
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{**container, "args": ["create-federation-secret"]}],
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels},
        "spec": {"backoffLimit": 0, "template": template},
    }
    await world.create(dc, ref, job)
    await dc.until(f"{ref} has failed", ref, _has_failed)


def _has_failed(job: Object | None) -> bool:
    conditions = ((job or {}).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Failed" and one["status"] == "True" for one in conditions)


async def _release_pending(world: World) -> None:
    """The record of an upgrade that somebody else began and that never ended."""
    dc = await world.primary()
    selector = f"owner=helm,name={dc.release}"
    records = await dc.kube.list("v1", "secrets", dc.namespace, label_selector=selector)
    newest = max(records, key=lambda one: int(one["metadata"]["labels"]["version"]))
    revision = int(newest["metadata"]["labels"]["version"]) + 1
    record = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(newest["data"]["release"]))))
    record["version"] = revision
    record["info"] |= {"status": "pending-upgrade", "description": "Preparing upgrade"}
    packed = base64.b64encode(gzip.compress(json.dumps(record).encode()))
    ref = dc.ref("secrets", f"sh.helm.release.v1.{dc.release}.v{revision}")
    labels = {"name": dc.release, "owner": "helm", "status": "pending-upgrade", "version": str(revision)}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels},
        "type": _RELEASE_TYPE,
        "data": {"release": base64.b64encode(packed).decode()},
    }
    await world.create(dc, ref, secret)


async def _put_back(world: World) -> None:
    """Taken back when what was created is gone."""
    await world.put_back()
    for entry in world.of_kind("object"):
        dc = await world.datacenter(world.clusters[entry["cluster"] - 1])
        await dc.until("it is taken back", Ref(*entry["ref"]), lambda item: item is None)


FAULTS = (
    fault("gateway-down", "No mesh gateway runs in dc2.", _gateway_down, _gateway_up),
    fault(
        "primary-gateway-down",
        "No mesh gateway runs in dc1, the primary.",
        _primary_gateway_down,
        _primary_gateway_up,
    ),
    fault(
        "gateway-address-changed",
        "The load balancer of dc1's mesh gateway gets another address; the old one answers no more.",
        _another_address,
        _same_address,
    ),
    fault(
        "proxy-defaults-missing",
        "ProxyDefaults global is deleted in dc1, in the cluster and in Consul.",
        _no_proxy_defaults,
        _proxy_defaults_again,
    ),
    fault(
        "server-down",
        "A Consul server of dc2 dies, and no node takes it back: all of them are cordoned.",
        _server_down,
        _servers_again,
    ),
    fault(
        "quorum-lost",
        "Most of dc2's three Consul servers die at once, and no node takes them back.",
        _quorum_lost,
        _servers_again,
    ),
    fault("failed-job", "A failed Job create-federation-secret is left over in dc1.", _failed_job, _put_back),
    fault(
        "release-pending",
        "The Helm release of dc1 is in pending-upgrade, by a Helm that is not ours and never ended.",
        _release_pending,
        _put_back,
    ),
)
