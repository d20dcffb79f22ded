"""Consul's servers: started again with what their Secrets and ConfigMaps say now, and seen to be so."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from cryptography import x509

from ..controllers.client import Object
from ..controllers.volumes import claim_folder
from .waiting import until_true
from .world import Datacenter, World

HTTPS = 8501


async def restart(dc: Datacenter, *, fails: bool = False) -> None:
    """Delete every server's pod at once; returns when each has a new one whose container runs, ready or not, or where
    that is what is meant (`fails`), ends with an error each time that it is started.

    By force, so that they end at once: servers that are given time leave raft one by one, and none would be left.
    """
    before = {pod["metadata"]["uid"] for pod in await dc.pods("server")}
    for pod in await dc.pods("server"):
        await dc.kube.delete("v1", "pods", pod["metadata"]["name"], dc.namespace, grace_seconds=0)

    async def are_new() -> bool:
        pods = await dc.pods("server")
        return len(pods) == dc.replicas and all(
            pod["metadata"]["uid"] not in before and (_fails(pod) if fails else _runs(pod)) for pod in pods
        )

    await until_true(f"the servers of {dc.layout.name} have been started again", are_new)


async def until_ready(dc: Datacenter) -> None:
    """Return when every server that the release wants is ready."""

    def all_ready(item: Object | None) -> bool:
        return item is not None and (item.get("status") or {}).get("readyReplicas", 0) >= dc.replicas

    async def are_ready() -> bool:
        # Of the pods themselves: for a moment after a deletion the StatefulSet still tells of the old ones.
        pods = await dc.pods("server")
        return len(pods) == dc.replicas and all(ready(pod) for pod in pods)

    await until_true(f"every server of {dc.layout.name} is ready", are_ready)
    await dc.until(f"every server of {dc.layout.name} is ready", dc.servers, all_ready)


async def until_healthy(world: World, dc: Datacenter) -> None:
    """Return when every server is ready, and raft's autopilot finds all of them healthy: what is seen from then on is
    the fault, and no longer the restart.
    """
    await until_ready(dc)
    consul = await world.consul(dc)

    async def are_healthy() -> bool:
        # Answers 429 as long as one of them is not.
        return bool((await consul.get("/v1/operator/autopilot/health"))["Healthy"])

    await until_true(f"every server of {dc.layout.name} is healthy", are_healthy)


def _runs(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return bool(statuses) and all("running" in one.get("state", {}) for one in statuses)


def _fails(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    waiting = [one.get("state", {}).get("waiting", {}).get("reason") for one in statuses]
    return "CrashLoopBackOff" in waiting


def ready(pod: Object) -> bool:
    """Whether a pod is ready, and not about to end."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    gone = pod["metadata"].get("deletionTimestamp")
    return not gone and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def shown(dc: Datacenter) -> list[x509.Certificate]:
    """The certificate that each server shows now, whoever signed it. Raises OSError where one does not answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = []
    for pod in await dc.pods("server"):
        _, writer = await asyncio.open_connection(pod["status"]["podIP"], HTTPS, ssl=context)
        found.append(x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True)))
        writer.close()
    return found


async def forget_gossip_keys(dc: Datacenter) -> None:
    """Have the servers take the gossip key of their configuration at the next start.

    Consul keeps the keys that it had in files beside its data, and these win: with them a changed key is no key.
    """
    for folder in await volumes(dc):
        for file in (folder / "serf").glob("*.keyring"):
            file.unlink(missing_ok=True)


async def volumes(dc: Datacenter) -> list[Path]:
    """Where the data of each server is on this machine."""
    return [
        claim_folder(dc.layout, dc.namespace, volume["persistentVolumeClaim"]["claimName"])
        for pod in await dc.pods("server")
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    ]
