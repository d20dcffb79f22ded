"""The beginning of a params file: what the clusters that it is about suggest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import places
from ..params import SANDBOX, kubeconfig_contexts, read_yaml
from .contexts import Context, proposed_datacenter

CHART = "1.9.11"
"""Proposed where no cluster has a Consul: HashiCorp's chart that the tests federate unmodified and README shows."""

PRACTICE = "practice"
"""What a new federation of the sandbox is called; params/sandbox.yaml is there already."""

_NOT_OF_A_RUN = ("-admin", "-read-only")
"""Ends of the sandbox's contexts that are the same clusters with other rights."""


def usual_kubeconfig() -> str:
    """The kubeconfig to begin with: the usual one, or the sandbox's where there is no other."""
    return SANDBOX if not kubeconfig_contexts("") and kubeconfig_contexts(SANDBOX) else ""


def beginning(kubeconfig: str, rows: Iterable[Context], federation: str = "") -> dict[str, Any]:
    """What a new file says before anybody has chosen anything; in the sandbox, a whole federation."""
    raw: dict[str, Any] = {"federation": federation}
    if kubeconfig:
        raw["kubeconfig"] = kubeconfig
    raw["chart"] = {"ref": "hashicorp/consul", "version": CHART}
    if kubeconfig != SANDBOX:
        return raw
    raw["federation"] = federation or PRACTICE
    raw["chart"] = {"ref": SANDBOX, "version": _sandbox_version()}
    raw["mesh_gateway"] = {"port": 8443}  # the chart's default, 443, is a privileged port on one machine
    raw["private_network"] = True  # all clusters are on this machine
    clusters = [cluster(each) for each in rows if not each.context.endswith(_NOT_OF_A_RUN)]
    if clusters:
        raw |= {"primary": clusters[0], "secondaries": clusters[1:]}
    return raw


def cluster(context: Context, datacenter: str = "", taken: Iterable[str] = ()) -> dict[str, Any]:
    """What is said of a cluster that takes part: names as they are there already, where a Consul is."""
    found = {"context": context.context, "datacenter": datacenter or proposed_datacenter(context, taken)}
    if len(context.installations) == 1:
        there = context.installations[0]
        names = {"namespace": there.namespace, "release": there.release}
        found |= {key: name for key, name in names.items() if name != "consul"}
    return found


def existing(primary: Context) -> dict[str, Any]:
    """What is said because a Consul is in the primary's cluster already: it is kept, and brought to federation."""
    if len(primary.installations) != 1 or primary.installations[0].federated:
        return {}
    there = primary.installations[0]
    return {"upgrade": {"existing": True}} | (
        {"chart": {"ref": "hashicorp/consul", "version": there.chart}} if there.chart else {}
    )


def of_contexts(
    kubeconfig: str,
    chosen: Mapping[str, str],
    known: Mapping[str, Context],
    primary: str = "",
    federation: str = "",
    chart_version: str = "",
) -> dict[str, Any]:
    """Raw parameters of a federation of these contexts.

    Args:
        chosen: context → its datacenter, empty for the proposed name; the first one is the primary unless said.
        known: what the clusters said.
    """
    primary = primary or next(iter(chosen))
    order = [primary, *(each for each in chosen if each != primary)]
    clusters: list[dict[str, Any]] = []
    for name in order:
        taken = [each["datacenter"] for each in clusters]
        clusters.append(cluster(known.get(name, Context(name, "")), chosen.get(name, ""), taken))
    raw = beginning(kubeconfig, (), federation)
    there = existing(known.get(primary, Context(primary, "")))
    if kubeconfig == SANDBOX:
        there.pop("chart", None)
    raw |= there | {"primary": clusters[0], "secondaries": clusters[1:]}
    if chart_version:
        raw["chart"] = raw["chart"] | {"version": chart_version}
    return raw


def _sandbox_version() -> str:
    """Version of the chart that the sandbox offers; of the one that it is copied from, while none is up."""
    folders = (places.sandbox_chart(), Path(__file__).parents[1] / "sandbox" / "chart" / "consul")
    file = next(each / "Chart.yaml" for each in folders if (each / "Chart.yaml").is_file())
    return str(read_yaml(file)["version"])
