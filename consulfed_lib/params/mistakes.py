"""What no single field of the parameters shows: said all at once, each with its place and what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ..chart import chart_mistakes, fullname, longest_fullname
from .files import kubeconfig_contexts, read_yaml
from .models import MeshGateway

_DATACENTER = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


def cross_checks(raw: Mapping[Any, Any]) -> list[str]:
    """What no single field shows. Works on raw input, so that it is said together with wrong types."""
    mistakes: list[str] = []
    mistakes += _cluster_mistakes(_clusters(raw))
    mistakes += _fullname_mistakes(raw)
    mistakes += _gateway_mistakes(raw)
    mistakes += _values_file_mistakes(raw)
    for key in ("global_name", "fullname_override"):
        name = raw.get(key)
        if isinstance(name, str) and name and not _NAME.fullmatch(name):
            mistakes.append(f"{key}: {name!r}; expected lower-case letters, digits and hyphens")
    given = raw.get("gossip_key")
    if isinstance(given, Mapping) and given.get("secret") and raw.get("gossip_encryption", True) is False:
        mistakes.append("gossip_key: names a Secret, but gossip_encryption is false; leave one of them out")
    federation = raw.get("federation")
    if isinstance(federation, str) and federation and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", federation):
        mistakes.append(f"federation: {federation!r}; expected letters, digits, dots, hyphens, underscores")
    upgrade = raw.get("upgrade")
    if (
        isinstance(upgrade, Mapping)
        and upgrade.get("order") == "secondaries-first"
        and not upgrade.get("chart")
    ):
        mistakes.append(
            "upgrade.order: says whose chart is moved first, and upgrade.chart moves none; set it to true"
        )
    mistakes += chart_mistakes(raw)
    servers = raw.get("servers")
    if isinstance(servers, int) and not isinstance(servers, bool) and servers > 0 and servers % 2 == 0:
        mistakes.append(f"servers: {servers} is even, which makes a quorum no safer; expected 1, 3 or 5")
    return mistakes


def _cluster_mistakes(clusters: list[tuple[str, Mapping[Any, Any]]]) -> list[str]:
    mistakes: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for place, cluster in clusters:
        datacenter = cluster.get("datacenter")
        if isinstance(datacenter, str) and datacenter and not _DATACENTER.fullmatch(datacenter):
            why = "has upper-case letters" if datacenter.lower() != datacenter else "is no datacenter name"
            mistakes.append(
                f"{place}.datacenter: {datacenter!r} {why}; expected lower-case letters, digits and hyphens"
            )
        for key in ("datacenter", "context"):
            value = cluster.get(key)
            if not isinstance(value, str) or not value:
                continue
            other = seen.setdefault((key, value.lower()), place)
            if other != place:
                mistakes.append(
                    f"{place}.{key}: {value!r} is the {key} of {other} already; it must be unique"
                )
        for key in ("namespace", "release"):
            value = cluster.get(key)
            if isinstance(value, str) and not _NAME.fullmatch(value):
                mistakes.append(f"{place}.{key}: {value!r}; expected lower-case letters, digits and hyphens")
        url = cluster.get("api_url")
        if isinstance(url, str) and url and not url.startswith("https://"):
            mistakes.append(f"{place}.api_url: {url!r}; expected a full URL that starts with https://")
    return mistakes


def _fullname_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """Names of the chart's objects that would be too long: found here, and not by a Helm hook that fails."""
    mistakes: list[str] = []
    given = raw.get("gossip_key")
    generated = bool(raw.get("gossip_encryption", True)) and not (
        isinstance(given, Mapping) and given.get("secret")
    )
    prefixes = [raw.get("global_name", "consul"), raw.get("fullname_override", "")]
    for place, cluster in _clusters(raw):
        release = cluster.get("release", "consul")
        if not all(isinstance(each, str) for each in (release, *prefixes)):
            continue
        name, limit = fullname(release, *prefixes), longest_fullname(generated)
        if len(name) > limit:
            mistakes.append(
                f"{place}: the chart's full name {name!r} has {len(name)} characters; at most {limit} fit,"
                " because the names of its Jobs become labels"
            )
    return mistakes


def _gateway_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """Gateways that the chart would refuse, or that nobody could reach; judged for each cluster as it will be."""
    mistakes: list[str] = []
    shared = raw.get("mesh_gateway", {})
    static: dict[str, str] = {}
    for place, cluster in _clusters(raw):
        own = cluster.get("mesh_gateway", {})
        if not isinstance(shared, Mapping) or not isinstance(own, Mapping):
            continue
        try:
            gateway = MeshGateway.model_validate({**shared, **own})
        except ValidationError:  # said by the model itself, field by field
            continue
        mistakes += [f"{place}: mesh_gateway: {wrong}" for wrong in _wrong_with(gateway)]
        if gateway.wan_address == "Static" and gateway.static:
            other = static.setdefault(gateway.static.lower(), place)
            if other != place:
                mistakes.append(
                    f"{place}.mesh_gateway.static: {gateway.static!r} is {other}'s already; each datacenter has its own"
                )
    return mistakes


def _wrong_with(gateway: MeshGateway) -> Iterator[str]:
    if gateway.wan_address == "Static" and not _HOST.fullmatch(gateway.static):
        found = f"{gateway.static!r} is no DNS name or address" if gateway.static else "it is empty"
        yield f"wan_address is Static, and static: {found}; expected a host without port (that is wan_port)"
    if gateway.wan_address != "Static" and gateway.static:
        yield f"static is given, but wan_address is {gateway.wan_address}; expected Static"
    if gateway.wan_address == "Service" and gateway.service == "ClusterIP":
        yield "a ClusterIP cannot be reached from another cluster; expected LoadBalancer or NodePort"
    if gateway.service == "NodePort" and not gateway.node_port:
        yield "service is NodePort, and node_port is not given; expected 30000 to 32767"
    if gateway.node_port and not 30000 <= gateway.node_port <= 32767:
        yield f"node_port {gateway.node_port}; expected 30000 to 32767"
    if gateway.node_port and gateway.service == "ClusterIP":
        yield "node_port is given, but service is ClusterIP; expected NodePort"


def _values_file_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """Files of Helm values that cannot be read, or hold no mapping."""
    mistakes: list[str] = []
    places = [
        ("values_files", raw),
        *((f"{place}.values_files", cluster) for place, cluster in _clusters(raw)),
    ]
    for place, holder in places:
        files = holder.get("values_files")
        for i, file in enumerate(files if isinstance(files, list) else []):
            if not isinstance(file, str):
                continue
            try:
                read_yaml(file)
            except ValueError as error:
                mistakes.append(f"{place}[{i}]: {error}")
    return mistakes


def context_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """Contexts that the kubeconfig does not have; without one to read (a reviewer's) preflight tells."""
    kubeconfig = raw.get("kubeconfig", "")
    if not isinstance(kubeconfig, str):
        return []
    known = kubeconfig_contexts(kubeconfig)
    if not known:
        return []
    mistakes = []
    for place, cluster in _clusters(raw):
        context = cluster.get("context")
        if isinstance(context, str) and context and context not in known:
            mistakes.append(
                f"{place}.context: {context!r} is not in the kubeconfig; it has {', '.join(sorted(known))}"
            )
    return mistakes


def _clusters(raw: Mapping[Any, Any]) -> list[tuple[str, Mapping[Any, Any]]]:
    """(place, raw cluster) of the primary and each secondary, as far as they are mappings."""
    clusters: list[tuple[str, Mapping[Any, Any]]] = []
    if isinstance(raw.get("primary"), Mapping):
        clusters.append(("primary", raw["primary"]))
    if isinstance(raw.get("secondaries"), list):
        clusters += [
            (f"secondaries[{i}]", c) for i, c in enumerate(raw["secondaries"]) if isinstance(c, Mapping)
        ]
    return clusters
