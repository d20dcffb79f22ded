"""What of the parameters a sandbox can imitate: the federation that is rehearsed, and a row for each thing said of it.

Nothing is replaced in silence: who rehearses reads at the beginning, and again at the end, what the rehearsal is no
proof of.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..drills.catalogue import ACLS, GOSSIP, PRIMARY_BALANCER, SECONDARY_BALANCER
from ..params import Federation
from ..sandbox.existing import GENERATED, OWN, Installation
from ..sandbox.layout import MAX_DATACENTERS, MAX_NODES
from ..values import consul_domain
from ..values.layers import merge, read_layers
from .charts import Found
from .gateways import Gateway, balanced, described, places
from .overlays import Volume, overlay
from .words import Imitated, Row

SUFFIX = "-rehearsal"
"""What the name of the federation ends in, and so the folder of its records."""

AS_THEY_ARE = (
    "change_id", "global_name", "fullname_override", "acls", "gossip_encryption", "proxy_defaults_mode", "parallel",
    "timeouts", "mode",
)  # fmt: skip
"""Parameters with nothing more to be said of them than their value."""

_PRIVILEGED = 1024
_MOST_SERVERS = MAX_NODES - 1 + MAX_NODES % 2
"""The largest odd number of servers that has a node each."""


@dataclass(frozen=True)
class Imitation:
    """What is rehearsed.

    Attributes:
        params: its parameters, but for the kubeconfig, which is there once the sandbox is.
        rows: what is said of it.
        nodes: of each cluster.
        before: the Consul that the primary's cluster comes with, where it comes with one.
        volumes: ConfigMaps and Secrets that the values name.
    """

    params: Federation
    rows: Imitated
    nodes: int
    before: Installation | None = None
    volumes: list[Volume] = field(default_factory=list)

    @property
    def has(self) -> frozenset[str]:
        """What of `drills.catalogue.NEEDS` the federation has."""
        params = self.params
        first = params.secondaries[0]
        found = {
            ACLS: params.acls,
            GOSSIP: params.gossip_encryption,
            PRIMARY_BALANCER: balanced(params, params.primary),
            SECONDARY_BALANCER: params.gateway(first).service == "LoadBalancer",
        }
        return frozenset(need for need, there in found.items() if there)


def lowest_port() -> int:
    """The lowest port that this user may listen on: 1, or the first that is not privileged."""
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", 1))
        except OSError as error:
            if error.errno == errno.EACCES:
                return _first_unprivileged()
    return 1


def _first_unprivileged() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return _PRIVILEGED


def imitate(params: Federation, chart: Found, folder: Path, lowest_port: int) -> Imitation:
    """The federation that a sandbox can have of these parameters.

    Args:
        chart: the one that is rehearsed.
        folder: where changed copies of files of values go.
        lowest_port: the lowest port that this user may listen on.
    """
    overlays = overlay(params, chart, folder)
    made, rows = overlays.params, [chart.row]
    clusters = []
    for place, cluster in places(made):
        gateway = Gateway(made, cluster, place, lowest_port)
        rows += gateway.rows
        values = _over(cluster.values, gateway.values)
        changes: dict[str, Any] = {"mesh_gateway": gateway.override, "values": values, "api_url": ""}
        clusters.append(cluster.model_copy(update=changes))
        if cluster.api_url:
            rows.append(Row.replaced(f"{place}.api_url", f"{cluster.api_url} by the sandbox's API server"))
    servers = min(params.servers, _MOST_SERVERS)
    made = made.model_copy(
        update={
            "federation": params.federation + SUFFIX,
            "reason": f"rehearsal: {params.reason}".removesuffix(": "),
            "chart": chart.chart,
            "dry_run": True,
            "approved_plan": "",
            "require_approval": True,
            "private_network": True,
            "servers": servers,
            "verification": params.verification.model_copy(update={"soak": 0}),
            "primary": clusters[0],
            "secondaries": clusters[1:],
            "secondary": "",
        }
    )
    replicas = [made.gateway(cluster).replicas for cluster in made.clusters]
    rows += [*_clusters(params), *(described(made, cluster, place) for place, cluster in places(made))]
    rows += [*_options(params, made), *overlays.rows, *_before(params, chart), *_world(params)]
    before = _installation(made, chart) if params.upgrade.existing else None
    nodes = min(MAX_NODES, max(servers, *replicas))
    return Imitation(made, Imitated("Rehearsal", rows), nodes, before, overlays.volumes)


def too_large(params: Federation) -> str:
    """Why no sandbox has room for it; empty where one has."""
    count = len(params.clusters)
    return (
        f"it has {count} datacenters; a sandbox has at most {MAX_DATACENTERS}"
        if count > MAX_DATACENTERS
        else ""
    )


def _over(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    merge(merged, values)
    merge(merged, more)
    return merged


def _clusters(params: Federation) -> Iterator[Row]:
    for place, of in places(params):
        yield Row.imitated(
            f"{place}.context",
            f"{of.context}: datacenter {of.datacenter}, namespace {of.namespace}, release {of.release}",
        )


def _options(params: Federation, made: Federation) -> Iterator[Row]:
    """What is said of the parameters that are the federation's: of those that the user's file has."""
    for name in AS_THEY_ARE:
        if name in params.model_fields_set:
            yield Row.imitated(name, _value(getattr(params, name)))
    if made.servers == params.servers:
        yield Row.imitated("servers", f"{params.servers} in each datacenter")
    else:
        yield Row.replaced(
            "servers", f"{params.servers} by {made.servers}: a sandbox has {MAX_NODES} nodes at most"
        )
    yield Row.replaced(
        "federation", f"{params.federation} by {made.federation}: the name of its records, too"
    )
    yield Row.replaced("reason", f"it begins with the word rehearsal: {made.reason}")
    yield Row.replaced("kubeconfig", "yours is not read: the rehearsal's own has contexts of the same names")
    if not params.private_network:
        yield Row.replaced("private_network", "false by true: all addresses are of this machine")
    if params.verification.soak:
        yield Row.replaced(
            "verification.soak", f"{params.verification.soak} by 0: a rehearsal waits for nothing"
        )
    if "verification" in params.model_fields_set:
        yield Row.imitated("verification", _value(made.verification))
    if params.gossip_key.secret:
        what = f"the Secret {params.gossip_key.secret} has a fresh key: yours is not read"
        yield Row.replaced("gossip_key", what)
    if params.approved_plan or params.require_approval:
        yield Row.replaced("approved_plan", "by the rehearsal's own plan, which is approved by itself")
    for name, why in (
        ("values_files", "files of values are read where they are"),
        ("values", "in force, but for what is named here"),
    ):
        if getattr(params, name) or any(getattr(of, name) for of in params.clusters):
            yield Row.imitated(name, why)
    if "dry_run" in params.model_fields_set:
        yield Row.replaced(
            "dry_run", "first true, for the plan, then false, for what is applied to the sandbox"
        )
    if params.secondary:
        yield Row.left_out("secondary", "a rehearsal works on every secondary")
    if "traffic" in params.model_fields_set:
        yield Row.left_out("traffic", "05 has no part: run it on a sandbox that is kept")
    if "leave" in params.model_fields_set:
        yield Row.left_out("leave", "90 has no part: run it on a sandbox that is kept")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "model_dump"):
        return ", ".join(
            f"{key} {_value(each)}" for key, each in value.model_dump(exclude_unset=True).items()
        )
    return str(value) or "empty"


# -- A Consul that is there already -----------------------------------------------------------------------------------


def _installation(params: Federation, chart: Found) -> Installation:
    """The Consul that stands for the one that the primary's cluster has."""
    values: dict[str, Any] = {}
    for layer in read_layers("", params.values_files, params.values):
        merge(values, layer.values)
    for layer in read_layers("", params.primary.values_files, params.primary.values):
        merge(values, layer.values)
    of, own = params.primary, params.gossip_key.secret
    gossip = (OWN if own else GENERATED) if params.gossip_encryption else ""
    return Installation(
        tls=params.acls or gossip == OWN,
        acls=params.acls,
        gossip=gossip,
        old=params.upgrade.chart and chart.own,
        servers=params.servers,
        datacenter=of.datacenter,
        domain=consul_domain(values),
        namespace=of.namespace,
        release=of.release,
        name=params.global_name,
        fullname=params.fullname(of),
        fullname_override=params.fullname_override,
        secret=own or "unused",
        key=params.gossip_key.key,
    )


def _before(params: Federation, chart: Found) -> Iterator[Row]:
    if "upgrade" not in params.model_fields_set:
        return
    if not params.upgrade.existing:
        yield Row.imitated("upgrade", "no Consul is there before")
        return
    tls = "on" if params.acls or params.gossip_key.secret else "off"
    yield Row.replaced(
        "upgrade.existing",
        f"your Consul by one of the sandbox's, in use, with TLS {tls}: your release, data and workloads are not read",
    )
    if params.upgrade.chart and not chart.own:
        yield Row.left_out(
            "upgrade.chart", "the older chart that your release is of: it is installed from the pinned one"
        )
    elif params.upgrade.chart:
        yield Row.imitated(
            "upgrade.chart", "the Consul that is there is of an older version of the sandbox's chart"
        )


def _world(params: Federation) -> Iterator[Row]:
    """What no parameter says, and no sandbox has."""
    yield Row.replaced(
        "Consul", "the version of your images by the sandbox's, which `consulfed sandbox tools` names"
    )
    yield Row.replaced("Kubernetes", "your API servers, nodes and rights by the sandbox's, on this machine")
    yield Row.left_out(
        "your network", "routes, firewalls, latencies, load balancers, DNS, and what listens there already"
    )
    yield Row.left_out("your clusters", "what runs in them, their policies, admission, quotas and storage")
