"""What a fault works on: the datacenters as their administrator sees them, and what is remembered of each change.

Whatever a fault changes is remembered before it is changed (`memory`), with what was there before. It is put back
only where it still is as the fault made it: what a runbook or a person mended meanwhile stays.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import yaml

from ...errors import SandboxError
from ..consul_k8s.consul_api import ConsulApi
from ..consul_k8s.kube_secrets import read_secret
from ..controllers.client import DELETED, KubeClient, Object
from ..layout import ClusterLayout
from ..state import Folder
from .memory import Memory
from .waiting import until

_FEDERATION = "-federation"
"""What the name of every federation secret ends in."""

_OWN = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "finalizers",
    "selfLink",
)
"""Metadata that the API server or a controller gives: an object is created again without them."""


@dataclass(frozen=True)
class Ref:
    """One object of a cluster."""

    api_version: str
    plural: str
    name: str
    namespace: str | None

    def __str__(self) -> str:
        return f"{self.plural} {self.namespace}/{self.name}"


class Datacenter:
    """The Consul of one cluster: its release, its servers, its gateway.

    Attributes:
        kube: a client of the cluster with all rights.
        namespace, release, fullname: where it is installed and what its objects are called.
        name: of the datacenter, as Consul says it.
    """

    def __init__(self, layout: ClusterLayout, kube: KubeClient, servers: Object):
        self.layout = layout
        self.kube = kube
        self.namespace: str = servers["metadata"]["namespace"]
        self.fullname: str = servers["metadata"]["name"].removesuffix("-server")
        self.release: str = servers["spec"]["template"]["metadata"]["labels"].get("release", "consul")
        self.replicas: int = servers["spec"].get("replicas", 1)
        self._volumes: list[Object] = servers["spec"]["template"]["spec"].get("volumes") or []

    def ref(self, plural: str, name: str = "", api_version: str = "v1") -> Ref:
        """An object in its namespace; `{}` in the name stands for the release's full name."""
        return Ref(api_version, plural, name.format(self.fullname), self.namespace)

    @property
    def servers(self) -> Ref:
        return self.ref("statefulsets", "{}-server", "apps/v1")

    @property
    def gateway(self) -> Ref:
        return self.ref("deployments", "{}-mesh-gateway", "apps/v1")

    @property
    def gateway_service(self) -> Ref:
        return self.ref("services", "{}-mesh-gateway")

    @property
    def secret(self) -> Ref:
        """The federation secret: in a secondary the copy whose server config its servers load."""
        volumes = [one for one in self._volumes if one["name"].startswith("userconfig-")]
        names = [one["secret"]["secretName"] for one in volumes if "secret" in one]
        # ConfigMaps and Secrets of the user's own may be mounted beside it.
        mounted = [name for name in names if name.endswith(_FEDERATION)]
        return self.ref("secrets", mounted[-1] if mounted else "{}" + _FEDERATION)

    @property
    def server_certificate(self) -> Ref:
        found = [one["secret"]["secretName"] for one in self._volumes if one["name"] == "consul-server-cert"]
        return self.ref("secrets", found[0] if found else "{}-server-cert")

    async def get(self, ref: Ref) -> Object:
        return await self.kube.get(ref.api_version, ref.plural, ref.name, ref.namespace)

    async def find(self, ref: Ref) -> Object | None:
        return await self.kube.find(ref.api_version, ref.plural, ref.name, ref.namespace)

    async def data(self, ref: Ref) -> dict[str, bytes]:
        """What is in a Secret, decoded; empty where it is not there."""
        return await read_secret(self.kube, self.namespace, ref.name) or {}

    async def pods(self, component: str) -> list[Object]:
        """The pods of a component of the release, by name."""
        selector = f"component={component},release={self.release}"
        found = await self.kube.list("v1", "pods", self.namespace, label_selector=selector)
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    async def until(self, what: str, ref: Ref, holds: Callable[[Object | None], bool]) -> None:
        """Return once it holds of that object, None while it is not there. Raises SandboxError that says `what`."""
        await until(what, _follow(self.kube, ref, holds))


async def _follow(kube: KubeClient, ref: Ref, holds: Callable[[Object | None], bool]) -> None:
    selector = f"metadata.name={ref.name}"
    changes = kube.watch(ref.api_version, ref.plural, ref.namespace, field_selector=selector, marks=True)
    current: Object | None = None
    listed = False
    async with aclosing(changes) as following:
        async for kind, item in following:
            listed = listed or not item
            if item:
                current = None if kind == DELETED else item
            if listed and holds(current):
                return


class World:
    """The sandbox, while a fault is injected or cleared.

    Args:
        memory: what this fault has changed so far.
    """

    def __init__(self, folder: Folder, memory: Memory):
        self.folder = folder
        self.memory = memory
        shape = folder.shape()
        if folder.process() is None or shape is None or not folder.kubeconfig.exists():
            raise SandboxError(f"No sandbox is up in {folder.path}.", "run `consulfed sandbox up`.")
        self.shape = shape
        self.clusters = shape.layout(folder.path).clusters
        self._kube: dict[str, KubeClient] = {}
        self._datacenters: dict[str, Datacenter] = {}
        self._consul: dict[str, ConsulApi] = {}

    async def close(self) -> None:
        """Close every connection."""
        for kube in self._kube.values():
            await kube.close()
        for consul in self._consul.values():
            await consul.close()
        self._kube, self._consul, self._datacenters = {}, {}, {}

    # -- the datacenters ----------------------------------------------------------------------------------------

    @property
    def first(self) -> ClusterLayout:
        """The cluster of the primary."""
        return self.clusters[0]

    @property
    def second(self) -> ClusterLayout:
        """The cluster of the secondary that faults are about. Raises SandboxError where there is one cluster only."""
        if len(self.clusters) < 2:
            raise SandboxError(
                "This sandbox has one cluster; the fault is about a secondary.",
                "bring one up with `consulfed sandbox up --datacenters 2`.",
            )
        return self.clusters[1]

    async def primary(self) -> Datacenter:
        return await self.datacenter(self.first)

    async def secondary(self) -> Datacenter:
        return await self.datacenter(self.second)

    def kube(self, cluster: ClusterLayout) -> KubeClient:
        """A client of that cluster, as the kubeconfig's administrator."""
        if cluster.name not in self._kube:
            config = yaml.safe_load(self.folder.kubeconfig.read_text())
            tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
            authorities = {
                one["name"]: one["cluster"]["certificate-authority-data"] for one in config["clusters"]
            }
            ca_pem = base64.b64decode(authorities[cluster.context]).decode()
            self._kube[cluster.name] = KubeClient(
                cluster.api_url, ca_pem, tokens[f"{cluster.context}-admin"], "kubectl"
            )
        return self._kube[cluster.name]

    async def datacenter(self, cluster: ClusterLayout) -> Datacenter:
        """The Consul in that cluster. Raises SandboxError where none is installed."""
        if cluster.name not in self._datacenters:
            found = await self.kube(cluster).list(
                "apps/v1", "statefulsets", label_selector="component=server"
            )
            if not found:
                raise SandboxError(
                    f"There is no Consul in {cluster.context} that could be broken.",
                    "federate the sandbox first: `consulfed run params/sandbox.yaml --apply`.",
                )
            self._datacenters[cluster.name] = Datacenter(cluster, self.kube(cluster), found[0])
        return self._datacenters[cluster.name]

    async def consul(self, dc: Datacenter) -> ConsulApi:
        """Consul's API in that datacenter, with a token that may do everything where ACLs are on."""
        if dc.layout.name not in self._consul:
            first = await self.primary()
            authority = await first.data(first.ref("secrets", "{}-ca-cert"))
            bootstrap = await first.data(first.ref("secrets", "{}-bootstrap-acl-token"))

            async def addresses() -> list[str]:
                found = [pod.get("status", {}).get("podIP", "") for pod in await dc.pods("server")]
                return [address for address in found if address]

            self._consul[dc.layout.name] = ConsulApi(
                addresses,
                8501,
                authority.get("tls.crt", b"").decode() or None,
                "localhost",
                bootstrap.get("token", b"").decode(),
            )
        return self._consul[dc.layout.name]

    # -- changes that are taken back -----------------------------------------------------------------------------

    def remember(self, kind: str, subject: str, **more: Any) -> None:
        """Remember a change that the fault itself takes back (`of_kind`), before it is made."""
        self.memory.add({"kind": kind, "subject": subject, **more})

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """What was remembered with that word."""
        return [entry for entry in self.memory.entries if entry["kind"] == kind]

    async def change(self, dc: Datacenter, ref: Ref, patch: Object) -> None:
        """Merge a patch into an object."""
        await self.change_of(dc.layout, ref, patch)

    async def change_of(self, cluster: ClusterLayout, ref: Ref, patch: Object) -> None:
        """Merge a patch into an object of a cluster, also where no Consul is."""
        kube = self.kube(cluster)
        before = await kube.get(ref.api_version, ref.plural, ref.name, ref.namespace)
        self._remember(cluster, ref, "changed", patch=patch, before=_leaves(before, patch))
        await kube.merge_patch(ref.api_version, ref.plural, ref.name, patch, ref.namespace)

    async def write(self, dc: Datacenter, ref: Ref, data: dict[str, bytes | None]) -> None:
        """Put values into a Secret; None takes a key out."""
        encoded = {
            key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()
        }
        await self.change(dc, ref, {"data": encoded})

    async def delete(self, dc: Datacenter, ref: Ref) -> None:
        """Delete an object."""
        item = await dc.get(ref)
        self._remember(dc.layout, ref, "deleted", item=item)
        await dc.kube.delete(ref.api_version, ref.plural, ref.name, ref.namespace)

    async def create(self, dc: Datacenter, ref: Ref, item: Object) -> Object:
        """Create an object that is not there."""
        self._remember(dc.layout, ref, "created")
        return await dc.kube.create(ref.api_version, ref.plural, item, ref.namespace)

    def _remember(self, cluster: ClusterLayout, ref: Ref, done: str, **more: Any) -> None:
        where = [ref.api_version, ref.plural, ref.name, ref.namespace]
        self.remember("object", f"{cluster.name} {ref}", cluster=cluster.index, ref=where, done=done, **more)

    async def put_back(self) -> None:
        """Take back every such change, the newest first."""
        for entry in reversed(self.of_kind("object")):
            kube, ref = self.kube(self.clusters[entry["cluster"] - 1]), Ref(*entry["ref"])
            where = (ref.api_version, ref.plural, ref.name, ref.namespace)
            current = await kube.find(*where)
            if entry["done"] == "created":
                await kube.delete(*where, propagation="Background")
            elif entry["done"] == "deleted" and current is None:
                await kube.create(ref.api_version, ref.plural, _anew(entry["item"]), ref.namespace)
            elif entry["done"] == "changed" and current is not None:
                patch = _back(current, entry["patch"], entry["before"])
                if patch:
                    await kube.merge_patch(ref.api_version, ref.plural, ref.name, patch, ref.namespace)


def _leaves(item: Object, patch: Object) -> Object:
    """The values that a merge patch is about to change; None for a key that is not there.

    >>> _leaves({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4, "e": 5}})
    {'b': {'c': 2, 'e': None}}
    """
    return {
        key: _leaves(item.get(key) or {}, value) if isinstance(value, dict) else item.get(key)
        for key, value in patch.items()
    }


def _back(current: Object, patch: Object, before: Object) -> Object:
    """The merge patch that gives those keys their old values which still have the patch's.

    >>> _back({"a": 9, "b": 1}, {"a": 9, "b": 8}, {"a": None, "b": 2})
    {'a': None}
    """
    found: Object = {}
    for key, value in patch.items():
        if isinstance(value, dict):
            inner = _back(current.get(key) or {}, value, before[key])
            if inner:
                found[key] = inner
        elif current.get(key) == value:
            found[key] = before[key]
    return found


def _anew(item: Object) -> Object:
    """The object as it can be created again."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _OWN}
    return {key: value for key, value in item.items() if key != "status"} | {"metadata": metadata}
