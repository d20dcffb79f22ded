"""Helm values of a primary and of a secondary, right for the generation of the chart, merged over the user's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..chart import AUTOGENERATE
from ..errors import ParamsError
from ..params import Cluster, Federation
from .facts import ABSENT, FACTS, Datacenter, Role, get, server_config, shown, why
from .layers import Layer, merge, put, read_layers

VOLUMES = "server.extraVolumes"
PARTITION = "server.updatePartition"
_CERTIFICATE_KEYS = ("caCert", "caKey")


@dataclass(frozen=True)
class Leaf:
    """One value of ours: what it must be, because of what, and whether it must be said or the chart knows it.

    Attributes:
        parameter: the parameter that it follows from; empty where it is what federation needs.
    """

    path: str
    value: Any
    reason: str
    said: bool = True
    parameter: str = ""


@dataclass(frozen=True)
class Conflict:
    """A value of the user's own that cannot be: the id of the check that it belongs to, the key, both sides."""

    check: str
    path: str
    sentence: str


@dataclass(frozen=True)
class Installed:
    """A release that somebody else made, and whose values are kept.

    Attributes:
        values: those that it was given, before anything of ours.
        defaults: the chart's own.
        adopted: whether the parameters were held against it before: what differs since was changed in them.
    """

    name: str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    adopted: bool = False

    def effective(self, path: str) -> Any:
        """What the release has at that path, said or not; ABSENT where it has nothing."""
        return effective(self.values, self.defaults, path)


def effective(values: Mapping[str, Any], defaults: Mapping[str, Any], path: str) -> Any:
    """The value at a path as the chart sees it: what is said, else the chart's own."""
    said = get(values, path)
    return get(defaults, path) if said is ABSENT else said


@dataclass
class Merged:
    """Final values, and what is wrong with what the user added to them."""

    values: dict[str, Any]
    layers: list[Layer]
    conflicts: list[Conflict] = field(default_factory=list)

    def source(self, path: str) -> str:
        """Where the user's value at that path stands; empty when it is ours."""
        said = (layer.source for layer in reversed(self.layers) if get(layer.values, path) is not ABSENT)
        return next(said, "")


def primary_values(params: Federation, installed: Installed | None = None) -> dict[str, Any]:
    """The values that make a datacenter the primary of a federation; of one that is installed, those that it has, with
    as few changes as that takes.

    `federation.primaryDatacenter` is left out on purpose: with ACLs it breaks every login of a primary
    (consul-k8s #1873, #1309). Raises ParamsError that lists every conflict with the user's own values.
    """
    return _without_conflicts(params.primary, merged(params, params.primary, installed=installed))


def secondary_values(params: Federation, secondary: Cluster, api_url: str) -> dict[str, Any]:
    """The values that join a datacenter to the primary; what is secret is named, never held.

    Raises ParamsError that lists every conflict with the user's own values.

    Args:
        api_url: the URL of this secondary's own Kubernetes API, as the primary's servers reach it. (The page says
            "of the primary" in one sentence, which is wrong: consul PR #18280.)
    """
    return _without_conflicts(secondary, merged(params, secondary, api_url))


def _without_conflicts(cluster: Cluster, found: Merged) -> dict[str, Any]:
    if found.conflicts:
        count = "1 conflict" if len(found.conflicts) == 1 else f"{len(found.conflicts)} conflicts"
        raise ParamsError(
            f"The values for {cluster.datacenter} have {count} with what federation needs; nothing was written.",
            "take them out of your values, or change the parameter that is named",
            [conflict.sentence for conflict in found.conflicts],
        )
    return found.values


def merged(
    params: Federation, cluster: Cluster, api_url: str = "", installed: Installed | None = None
) -> Merged:
    """Final values of one datacenter: the user's layers, ours over them; conflicts are listed, not raised.

    Args:
        installed: the release whose values lie under all of them. Of ours only those are said then that are not so
            already; and what it has at our keys is changed, and no conflict.

    Raises ParamsError when one of the user's files cannot be read any more.
    """
    leaves = list(_leaves(params, cluster, api_url))
    found = Merged({}, _layers(params, cluster))
    theirs: dict[str, Any] = {}
    for layer in found.layers:
        merge(theirs, layer.values)
    if installed:
        found.layers.insert(0, Layer(f"the installed release {installed.name}", installed.values))
        leaves.append(Leaf(PARTITION, 0, "all servers are to be of the newest template"))
    for layer in found.layers:
        merge(found.values, layer.values)
    for leaf in leaves:
        if _to_be_said(leaf, found.values, installed):
            put(found.values, leaf.path, copy.deepcopy(leaf.value))
    volumes = get(theirs, VOLUMES)
    of = datacenter(params, cluster, found.values)
    if isinstance(volumes, list) and of.role == "secondary":
        ours = get(found.values, VOLUMES)
        found.values["server"]["extraVolumes"] = [v for v in volumes if v not in ours] + ours
    found.conflicts += _contradictions(leaves, theirs, found)
    if installed and not installed.adopted:
        found.conflicts += _otherwise(leaves, installed)
    found.conflicts += _unlivable(leaves, found.values if installed else theirs, of, found)
    found.conflicts += _volume_conflicts(theirs, of, found)
    return found


def datacenter(params: Federation, cluster: Cluster, values: Mapping[str, Any]) -> Datacenter:
    """A cluster of the parameters with its values, to be judged."""
    return Datacenter(
        cluster.datacenter, _role(params, cluster), values, params.chart.parsed,
        params.primary.datacenter, params.secret_name,
    )  # fmt: skip


def consul_domain(values: Mapping[str, Any]) -> str:
    """The DNS domain of Consul; server certificates are made out to `server.<datacenter>.<domain>`."""
    return get(values, "global.domain") or "consul"


def _leaves(params: Federation, cluster: Cluster, api_url: str) -> Iterator[Leaf]:
    """Everything that is ours to say, in both roles."""
    chart, role = params.chart.parsed, _role(params, cluster)
    primary = role == "primary"

    def needed(path: str, value: Any) -> Leaf:
        return Leaf(path, value, f"federation needs {shown(value)}: {why(path, role, chart)}")

    def parameter(path: str, value: Any, name: str, said: bool = True) -> Leaf:
        return Leaf(path, value, f"the parameter `{name}` makes it {shown(value)}", said, name)

    def unsaid(path: str, name: str) -> Leaf:
        return Leaf(path, None, f"the parameter `{name}` leaves it out", False, name)

    place = _place(params, cluster)
    if params.global_name:
        yield parameter("global.name", params.global_name, "global_name")
    else:
        yield unsaid("global.name", "global_name")
    if params.fullname_override:
        yield parameter("fullnameOverride", params.fullname_override, "fullname_override")
    else:
        yield unsaid("fullnameOverride", "fullname_override")
        if not params.global_name:
            yield unsaid("nameOverride", "fullname_override")
    yield parameter("global.datacenter", cluster.datacenter, f"{place}.datacenter")
    yield needed("global.tls.enabled", True)
    yield needed("global.federation.enabled", True)
    yield from _secret_leaves(params, primary, needed, parameter)
    if not primary:
        if chart.knows("global.federation.primaryDatacenter"):
            yield needed("global.federation.primaryDatacenter", params.primary.datacenter)
        if params.acls and chart.knows("global.federation.k8sAuthMethodHost"):
            yield parameter("global.federation.k8sAuthMethodHost", api_url, f"{place}.api_url")
    yield needed("connectInject.enabled", True)
    if chart.has_controller_section:
        yield needed("controller.enabled", True)
    yield from _gateway_leaves(params, cluster, needed, parameter)
    # Said outright, because the chart's default went from 3 to 1 in 1.0.0.
    yield parameter("server.replicas", params.servers, "servers")
    if chart.needs_bootstrap_expect:
        yield parameter("server.bootstrapExpect", params.servers, "servers")


def _secret_leaves(params: Federation, primary: bool, needed: Any, parameter: Any) -> Iterator[Leaf]:
    """What is shared by all datacenters: the primary makes it, a secondary takes it from the federation secret.

    Without ACLs the primary exports no replication token, and a reference to a key that is not there keeps the servers
    from starting: the whole block must go, which the page's own example does not do. So for the gossip key.
    """
    secret, generated = params.secret_name, params.gossip_encryption and not params.gossip_key.secret
    acls, gossip = "global.acls", "global.gossipEncryption"
    yield parameter(f"{acls}.manageSystemACLs", params.acls, "acls", params.acls)
    if primary:
        yield needed("global.federation.createFederationSecret", True)
        if params.acls:
            yield needed(f"{acls}.createReplicationToken", True)
        yield parameter(AUTOGENERATE, generated, "gossip_encryption", generated)
        given = params.gossip_key if params.gossip_encryption and params.gossip_key.secret else None
        yield parameter(f"{gossip}.secretName", given and given.secret, "gossip_key.secret", bool(given))
        yield parameter(f"{gossip}.secretKey", given and given.key, "gossip_key.key", bool(given))
        return
    for part in _CERTIFICATE_KEYS:
        yield needed(f"global.tls.{part}.secretName", secret)
        yield needed(f"global.tls.{part}.secretKey", part)
    if params.acls:
        yield needed(f"{acls}.replicationToken.secretName", secret)
        yield needed(f"{acls}.replicationToken.secretKey", "replicationToken")
    if params.gossip_encryption:
        yield needed(f"{gossip}.secretName", secret)
        yield needed(f"{gossip}.secretKey", "gossipEncryptionKey")
    else:
        yield parameter(f"{gossip}.secretName", None, "gossip_encryption", False)
        yield parameter(f"{gossip}.secretKey", None, "gossip_encryption", False)
    yield Leaf(VOLUMES, [secret_volume(secret)], "the servers load the primary's address from it")


def secret_volume(secret: str) -> dict[str, Any]:
    """The entry of `server.extraVolumes` through which a secondary's servers find the primary."""
    config = {"key": "serverConfigJSON", "path": "config.json"}
    return {"type": "secret", "name": secret, "items": [config], "load": True}


def _gateway_leaves(params: Federation, cluster: Cluster, needed: Any, parameter: Any) -> Iterator[Leaf]:
    gateway, own = params.gateway(cluster), _place(params, cluster)

    def option(path: str, value: Any, key: str, said: bool = True) -> Leaf:
        overridden = getattr(cluster.mesh_gateway, key) is not None
        name = f"{own}.mesh_gateway.{key}" if overridden else f"mesh_gateway.{key}"
        return parameter(f"meshGateway.{path}", value, name, said)

    elsewhere = gateway.wan_address != "Service"
    yield needed("meshGateway.enabled", True)
    if params.chart.parsed.mode_in_values:
        mode = params.proxy_defaults_mode
        yield parameter("meshGateway.globalMode", mode, "proxy_defaults_mode")
    yield option("replicas", gateway.replicas, "replicas")
    yield option("service.type", gateway.service, "service", gateway.service != "LoadBalancer")
    yield option("service.port", gateway.port, "port")
    yield option("service.nodePort", gateway.node_port or None, "node_port", bool(gateway.node_port))
    yield option("wanAddress.source", gateway.wan_address, "wan_address", elsewhere)
    if elsewhere:
        yield option("wanAddress.port", gateway.wan_port, "wan_port")
    yield option("wanAddress.static", gateway.static, "static", bool(gateway.static))


def _role(params: Federation, cluster: Cluster) -> Role:
    return "primary" if cluster.datacenter == params.primary.datacenter else "secondary"


def _place(params: Federation, cluster: Cluster) -> str:
    """Where a cluster stands in the parameters, as its mistakes name it."""
    if _role(params, cluster) == "primary":
        return "primary"
    names = [each.datacenter for each in params.secondaries]
    return f"secondaries[{names.index(cluster.datacenter)}]"


def _layers(params: Federation, cluster: Cluster) -> list[Layer]:
    """The user's own values, weakest first: the federation's files and values, then the cluster's."""
    own = f"{_place(params, cluster)}."
    return [
        *read_layers("", params.values_files, params.values),
        *read_layers(own, cluster.values_files, cluster.values),
    ]


def _contradictions(leaves: list[Leaf], theirs: Mapping[str, Any], found: Merged) -> Iterator[Conflict]:
    """Values of the user's own at a key of ours, or at a mapping that ours is in."""
    blocked: set[str] = set()
    for leaf in leaves:
        if leaf.path == VOLUMES:
            continue
        parts = leaf.path.split(".")
        for n in range(1, len(parts)):
            parent = ".".join(parts[:n])
            value = get(theirs, parent)
            if value is not ABSENT and not isinstance(value, Mapping) and parent not in blocked:
                blocked.add(parent)
                yield Conflict(
                    "values-conflict", parent,
                    f"{found.source(parent)} says {parent}: {shown(value)}; federation needs a mapping there,"
                    f" with {leaf.path}",
                )  # fmt: skip
        value = get(theirs, leaf.path)
        if value is not ABSENT and not _same(value, leaf.value):
            yield Conflict(
                "values-conflict", leaf.path,
                f"{found.source(leaf.path)} says {leaf.path}: {shown(value)}; {leaf.reason}",
            )  # fmt: skip


def _to_be_said(leaf: Leaf, values: Mapping[str, Any], installed: Installed | None) -> bool:
    """Of what is installed only what is not so already; and what the chart would do by itself, but was told not to."""
    if installed is None:
        return leaf.said
    there = effective(values, installed.defaults, leaf.path)
    asked = leaf.said or (installed.adopted and there is not ABSENT)
    return asked and not _same(there, leaf.value)


def _otherwise(leaves: list[Leaf], installed: Installed) -> Iterator[Conflict]:
    """What the installed release has otherwise than the parameters say. What federation needs is changed there; what
    is a choice was made by its user, and is not undone by a default of ours."""
    for leaf in leaves:
        said = get(installed.values, leaf.path)
        if said is ABSENT and leaf.path.startswith("meshGateway."):
            continue  # there is no gateway yet, or it is as the chart has it
        there = installed.effective(leaf.path)
        if leaf.parameter and there is not ABSENT and not _same(there, leaf.value):
            yield Conflict(
                "values-conflict", leaf.path,
                f"the installed release {installed.name} has {leaf.path}: {shown(there)}; {leaf.reason}",
            )  # fmt: skip


def _same(one: Any, other: Any) -> bool:
    if one in (None, "", False) and other in (None, "", False):
        return True
    return type(one) is type(other) and one == other


def _unlivable(
    leaves: list[Leaf], theirs: Mapping[str, Any], of: Datacenter, found: Merged
) -> Iterator[Conflict]:
    """Values of the user's own that federation cannot live with, at keys that are not ours."""
    ours = {leaf.path for leaf in leaves}
    for fact in FACTS:
        value = get(theirs, fact.path)
        if value is ABSENT or fact.path in ours or not fact.applies(of) or not fact.wrong(value, of):
            continue
        yield Conflict(
            fact.check, fact.path,
            f"{found.source(fact.path)} says {fact.path}: {shown(value)}; federation needs {fact.needs}: {fact.why}",
        )  # fmt: skip
    for key, reason in server_config(theirs):
        source = found.source("server.extraConfig")
        yield Conflict(
            "values-server-config", "server.extraConfig",
            f"{source} sets {key} in server.extraConfig; federation needs it left out: {reason}",
        )  # fmt: skip


def _volume_conflicts(theirs: Mapping[str, Any], of: Datacenter, found: Merged) -> Iterator[Conflict]:
    """Volumes of the user's own that are in the way of ours."""
    volumes = get(theirs, VOLUMES)
    if volumes is ABSENT or volumes is None:
        return
    source = found.source(VOLUMES)
    if not isinstance(volumes, list):
        yield Conflict(
            "values-conflict", VOLUMES,
            f"{source} says {VOLUMES}: {shown(volumes)}; federation needs a list there, to add its own to",
        )  # fmt: skip
        return
    ours = secret_volume(of.secret)
    for i, volume in enumerate(volumes):
        named = isinstance(volume, Mapping) and volume.get("name") == of.secret
        if of.role == "secondary" and named and volume != ours:
            yield Conflict(
                "values-secret-volume", VOLUMES,
                f"{source} has {of.secret} as {VOLUMES}[{i}]: {shown(volume)}; federation adds that volume itself,"
                f" as {shown(ours)}",
            )  # fmt: skip
