"""The typed parameters of a federation: what each is, its default, and what it means."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .. import places
from ..chart import ChartVersion, federation_secret_name, fullname
from ..errors import ParamsError

SANDBOX = "sandbox"
"""As `kubeconfig` it means the running sandbox's, as `chart.ref` the chart that the sandbox offers."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Chart(_Model):
    """Which chart, from where. The version is pinned: a federation must not change by itself."""

    ref: str = Field("hashicorp/consul", description="chart: repo/name, an OCI reference, or a folder")
    repo: str = Field("", description="URL of the chart's repository; empty when ref says it all")
    version: str = Field(description="exact version of the chart")

    @property
    def parsed(self) -> ChartVersion:
        return ChartVersion.parse(self.version)

    @property
    def location(self) -> str:
        """What Helm is given: a folder for the sandbox's chart, else the reference as it stands."""
        return str(places.sandbox_chart()) if self.ref == SANDBOX else self.ref


class GossipKey(_Model):
    """Where a gossip key of the user's own is. The key itself is never a parameter."""

    secret: str = Field("", description="Secret in the primary's namespace; empty: a key is generated")
    key: str = Field("key", min_length=1, description="key in that Secret")


class MeshGateway(_Model):
    """How other datacenters reach a datacenter: the gateway's Service, and the address that is announced."""

    service: Literal["LoadBalancer", "NodePort", "ClusterIP"] = Field(
        "LoadBalancer", description="type of the gateway's Service"
    )
    port: int = Field(443, ge=1, le=65535, description="port of the gateway's Service")
    node_port: int = Field(0, ge=0, le=65535, description="with NodePort: the port on every node")
    replicas: int = Field(1, ge=1, description="gateway pods in each datacenter")
    wan_address: Literal["Service", "NodeIP", "NodeName", "Static"] = Field(
        "Service", description="where the address comes from that other datacenters dial"
    )
    wan_port: int = Field(443, ge=1, le=65535, description="port that they dial, unless it is the Service's")
    static: str = Field("", description="with Static: your own DNS name or address, one for each datacenter")

    def announces(self, host: str, port: int) -> bool:
        """Whether a gateway with these parameters may be dialled there; which address it gets is its cluster's."""
        if self.wan_address == "Service":
            return port == (self.node_port if self.service == "NodePort" else self.port)
        return port == self.wan_port and (self.wan_address != "Static" or host == self.static)


def _as(name: str, **limits: Any) -> Any:
    """A field of GatewayOverride: MeshGateway's own, which may be left out."""
    return Field(None, description=MeshGateway.model_fields[name].description, **limits)


class GatewayOverride(_Model):
    """What differs in one datacenter; what is left out is as in `mesh_gateway` of the federation."""

    service: Literal["LoadBalancer", "NodePort", "ClusterIP"] | None = _as("service")
    port: int | None = _as("port", ge=1, le=65535)
    node_port: int | None = _as("node_port", ge=0, le=65535)
    replicas: int | None = _as("replicas", ge=1)
    wan_address: Literal["Service", "NodeIP", "NodeName", "Static"] | None = _as("wan_address")
    wan_port: int | None = _as("wan_port", ge=1, le=65535)
    static: str | None = _as("static")


class Verification(_Model):
    """What 04 proves beside what it always does, and from when on an end that comes nearer is worth a word."""

    canary: bool = Field(False, description="prove ACL replication by a policy and a token, made and removed")
    soak: int = Field(0, ge=0, description="seconds for which every verdict must hold")
    latency: int = Field(10, ge=0, le=1000, description="requests a pair whose time is taken; 0: none")
    expiry_warning_days: int = Field(60, ge=0, description="a credential that ends sooner is a warning")
    expiry_error_days: int = Field(7, ge=0, description="a credential that ends sooner is an error")


class Traffic(_Model):
    """How 05 tries service traffic between datacenters."""

    namespace: str = Field(
        "consulfed-traffic", description="where 05 makes its test workloads, in each cluster"
    )
    echo_image: str = Field("hashicorp/http-echo:1.0", description="answers with the text of its flag -text")
    caller_image: str = Field("curlimages/curl:8.11.1", description="has sleep and curl")
    pairs: Literal["primary", "all"] = Field(
        "primary", description="the primary with each secondary, or every datacenter with every other one"
    )


class Upgrade(_Model):
    """What may be done to a Consul that is there already."""

    existing: bool = Field(
        False, description="the primary's Consul is there already: bring it to federation, keep its values"
    )
    chart: bool = Field(False, description="also move installed releases to chart.version")
    order: Literal["primary-first", "secondaries-first"] = Field(
        "primary-first", description="whose chart is moved first"
    )
    restart_workloads: bool = Field(
        False, description="restart workloads whose sidecars are from before TLS; false: list them"
    )
    clear_leftovers: bool = Field(
        False, description="remove what an older installation left: failed hook Jobs, secrets, stale gateways"
    )


class Leave(_Model):
    """How 90 takes a datacenter out of the federation."""

    confirm: str = Field("", description="name of the datacenter that leaves; 90 changes nothing without it")
    uninstall: bool = Field(True, description="uninstall Consul there; false: leave it as it is")
    unreachable: bool = Field(False, description="that cluster is gone: clean the primary only")


class Timeouts(_Model):
    """Deadlines in seconds. Every wait ends on the state of the world, or on one of these."""

    install: int = Field(600, ge=1, description="Helm, hooks included")
    ready: int = Field(300, ge=1, description="servers, gateway address, federation secret, ProxyDefaults")
    federation: int = Field(300, ge=1, description="until each datacenter reads every other one")


class Cluster(_Model):
    """One Kubernetes cluster, which is one Consul datacenter."""

    context: str = Field(min_length=1, description="kubeconfig context")
    datacenter: str = Field(min_length=1, description="Consul datacenter name, unique in the federation")
    namespace: str = Field("consul", description="namespace of the release")
    release: str = Field("consul", description="Helm release name")
    api_url: str = Field("", description="URL of this cluster's API as Consul servers reach it")
    mesh_gateway: GatewayOverride = Field(
        default=GatewayOverride(), description="what of `mesh_gateway` is different here"
    )
    values_files: list[str] = Field(
        default=[], description="more files of Helm values, for this cluster only"
    )
    values: dict[str, Any] = Field(default={}, description="more Helm values, for this cluster only")


class Federation(_Model):
    """All parameters of one federation."""

    federation: str = Field(min_length=1, description="name of the federation; its records are kept under it")
    reason: str = Field("", description="why this change is made; goes into the record")
    change_id: str = Field("", description="ticket or change number; goes into the record")
    dry_run: bool = Field(True, description="nothing is written anywhere unless this is false")
    approved_plan: str = Field("", description="apply only what this plan says: its file, or its digest")
    require_approval: bool = Field(False, description="nothing is applied without an approved plan")
    mode: Literal["auto", "interactive", "headless"] = Field("auto", description="changes what is shown only")
    kubeconfig: str = Field("", description="path; empty: the usual rules; sandbox: the running sandbox's")
    chart: Chart = Field(description="chart reference, repository and pinned version")
    global_name: str = Field("consul", description="prefix of all object names; empty: <release>-consul")
    fullname_override: str = Field("", description="the chart's fullnameOverride; beats global_name")
    acls: bool = Field(True, description="ACLs, in every datacenter alike")
    gossip_encryption: bool = Field(True, description="gossip encryption, in every datacenter alike")
    gossip_key: GossipKey = Field(
        default=GossipKey(), description="a gossip key of your own: Secret in the primary, and its key"
    )
    proxy_defaults_mode: Literal["local", "remote"] = Field(
        "local", description="mesh gateway mode of ProxyDefaults global"
    )
    servers: int = Field(1, ge=1, description="Consul servers in each datacenter: 1, 3 or 5")
    mesh_gateway: MeshGateway = Field(default=MeshGateway(), description="how other datacenters get in")
    private_network: bool = Field(
        False, description="the clusters share a private network: private addresses are meant"
    )
    values_files: list[str] = Field(default=[], description="files of more Helm values, for every cluster")
    values: dict[str, Any] = Field(default={}, description="more Helm values, for every cluster")
    parallel: int = Field(4, ge=1, le=16, description="how many secondaries are worked on at once")
    timeouts: Timeouts = Field(default=Timeouts(), description="deadlines in seconds")
    verification: Verification = Field(
        default=Verification(), description="what 04 proves, and when it warns"
    )
    traffic: Traffic = Field(default=Traffic(), description="how 05 tries service traffic")
    upgrade: Upgrade = Field(
        default=Upgrade(), description="what may be done to a Consul that is there already"
    )
    leave: Leave = Field(default=Leave(), description="how 90 takes a datacenter out")
    primary: Cluster = Field(description="the cluster whose datacenter holds the CA and the ACLs")
    secondaries: list[Cluster] = Field(min_length=1, description="every other cluster")
    secondary: str = Field("", description="datacenter that 02, 03 and 90 work on; empty: the only secondary")

    @property
    def clusters(self) -> list[Cluster]:
        return [self.primary, *self.secondaries]

    @property
    def kubeconfig_path(self) -> str | None:
        """The path for the Kubernetes client; None means its usual rules ($KUBECONFIG, ~/.kube/config)."""
        if self.kubeconfig == SANDBOX:
            return str(places.sandbox_kubeconfig())
        return os.path.expanduser(self.kubeconfig) if self.kubeconfig else None

    def fullname(self, cluster: Cluster) -> str:
        """The prefix of the names of all objects of Consul in that cluster."""
        return fullname(cluster.release, self.global_name, self.fullname_override)

    @property
    def secret_name(self) -> str:
        """The name of the federation secret in the primary, and of each copy."""
        return federation_secret_name(self.primary.release, self.global_name, self.fullname_override)

    def gateway(self, cluster: Cluster) -> MeshGateway:
        """How others reach that datacenter: the federation's way, with what is different there."""
        return self.mesh_gateway.model_copy(update=cluster.mesh_gateway.model_dump(exclude_none=True))

    def chosen_secondary(self) -> Cluster:
        """The secondary that 02 and 03 work on. Raises ParamsError when that is not clear."""
        names = [cluster.datacenter for cluster in self.secondaries]
        if not self.secondary:
            if len(names) == 1:
                return self.secondaries[0]
            raise ParamsError(
                f"There are {len(names)} secondaries and none was chosen.",
                f"give the parameter `secondary`, one of: {', '.join(names)}",
            )
        for cluster in self.secondaries:
            if cluster.datacenter == self.secondary:
                return cluster
        raise ParamsError(
            f"The parameter `secondary` is {self.secondary!r}, which is no secondary of this federation.",
            f"choose one of: {', '.join(names)}",
        )


NOTEBOOK_NAMES = tuple(Federation.model_fields)
"""Every name that the parameters cell of a notebook may hold; `secondary` only in 02, 03 and 90."""
