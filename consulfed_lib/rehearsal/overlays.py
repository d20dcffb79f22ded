"""The user's own Helm values in a rehearsal: all that can be had here, and what cannot is taken out and said."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..chart import WINDOWS, ChartVersion
from ..params import Cluster, Federation
from ..sandbox.state import write_private
from ..values.facts import ABSENT, get
from ..values.layers import Layer, file_layer
from ..values.lint import unknown
from .charts import Found
from .gateways import places
from .words import Row

ENTERPRISE = "Consul Enterprise: the sandbox has the free one"
_TAKEN_OUT = {
    "global.enterpriseLicense": ENTERPRISE,
    "global.enableConsulNamespaces": ENTERPRISE,
    "server.snapshotAgent": ENTERPRISE,
    "server.serverCert": "a certificate of your own: the chart makes one",
}
"""Key → why it has no part."""

_ANYWHERE = {
    "nodeSelector": "the sandbox has no such nodes",
    "storageClass": "your storage: volumes are folders of this machine",
}
"""Key at any place → why it has no part."""

_COMPONENTS = frozenset({
    "global", "server", "externalServers", "client", "dns", "ui", "connectInject", "controller", "meshGateway",
    "webhookCertManager", "tests",
})  # fmt: skip
"""What of the chart the sandbox can run, or needs not run."""

_CA = ("global.tls.caCert", "global.tls.caKey")


@dataclass(frozen=True)
class Volume:
    """A ConfigMap or Secret that the values name, and which the user has made in their cluster: a stand-in for it."""

    cluster: int
    kind: str
    name: str
    keys: tuple[str, ...]


@dataclass
class Overlays:
    """The values that are rehearsed.

    Attributes:
        params: the same parameters with these values.
        volumes: what has to be there for them.
    """

    params: Federation
    rows: list[Row] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)


def overlay(params: Federation, chart: Found, folder: Path) -> Overlays:
    """Take out of the user's values what cannot be had.

    Args:
        folder: where a changed copy of a file goes; files that stay as they are are read where they are.
    """
    found = Overlays(params)
    found.params = params.model_copy(update=_one_place(params, "", False, chart, folder, found.rows))
    clusters = []
    for number, (place, cluster) in enumerate(places(params)):
        changes = _one_place(cluster, f"{place}.", number == 0, chart, folder, found.rows)
        clusters.append(cluster.model_copy(update=changes))
    found.params = found.params.model_copy(update={"primary": clusters[0], "secondaries": clusters[1:]})
    found.volumes = list(dict.fromkeys(_volumes(found.params, params.secret_name)))
    found.rows += [
        Row.replaced(f"{each.kind} {each.name}", "by one whose keys hold no settings: yours is not read")
        for each in found.volumes
    ]
    return found


def _one_place(
    holder: Federation | Cluster, prefix: str, primary: bool, chart: Found, folder: Path, rows: list[Row]
) -> dict[str, Any]:
    """`values_files` and `values` of one place of the parameters, as they are rehearsed."""
    files = []
    for i, file in enumerate(holder.values_files):
        layer = file_layer(prefix, i, file)
        left = _without(layer, primary, chart, rows)
        if left == layer.values:
            files.append(file)
            continue
        copied = folder / f"{prefix.replace('.', '-')}{i}-{Path(file).name}"
        write_private(copied, yaml.safe_dump(left).encode())
        files.append(str(copied))
    source = f"{prefix}values"
    return {"values_files": files, "values": _without(Layer(source, holder.values), primary, chart, rows)}


def _without(layer: Layer, primary: bool, chart: Found, rows: list[Row]) -> dict[str, Any]:
    left = copy.deepcopy(dict(layer.values))
    source = layer.source.split(" ")[0]
    for path, why in _taken_out(layer.values, primary, chart):
        if _take(left, path):
            rows.append(Row.left_out(f"{source}: {path}", why))
    if any(key.startswith("image") for key, _ in _keys(layer.values)):
        rows.append(
            Row.left_out(f"{source}: images", "no image is fetched: the sandbox runs its own programs")
        )
    return left


def _taken_out(values: Mapping[str, Any], primary: bool, chart: Found) -> Iterator[tuple[str, str]]:
    """(path, why) of what cannot be had."""
    yield from _TAKEN_OUT.items()
    for key, path in _keys(values):
        if key in _ANYWHERE:
            yield path, _ANYWHERE[key]
    for path in _CA if primary else ():
        yield path, "a CA of your own: the chart makes one"
    for name, section in values.items():
        if name not in _COMPONENTS and isinstance(section, Mapping) and section.get("enabled") is True:
            yield name, "the sandbox does not run it"
    if chart.own:
        version = ChartVersion.parse(chart.chart.version)
        for path in WINDOWS:
            if get(values, path) is not ABSENT and not version.knows(path):
                yield path, f"the sandbox's chart is of another generation, {version}"
        for path, _ in unknown(values, chart.values):
            yield path, "the sandbox's chart has no such key"


def _keys(values: Any, parent: str = "") -> Iterator[tuple[str, str]]:
    """(key, its path) of every key of a mapping, and of the mappings in it."""
    for key, value in values.items() if isinstance(values, Mapping) else ():
        path = f"{parent}.{key}" if parent else key
        yield key, path
        yield from _keys(value, path)


def _take(values: dict[str, Any], path: str) -> bool:
    """Delete what is at a path; whether there was something that is said."""
    *parents, last = path.split(".")
    for key in parents:
        inner = values.get(key)
        if not isinstance(inner, dict):
            return False
        values = inner
    return values.pop(last, None) not in (None, "", {}, False)


def _volumes(params: Federation, federation_secret: str) -> Iterator[Volume]:
    for number, (_, cluster) in enumerate(places(params)):
        layers = [file_layer("", i, file) for i, file in enumerate(params.values_files)]
        layers += [Layer("", params.values)]
        layers += [file_layer("", i, file) for i, file in enumerate(cluster.values_files)]
        for layer in [*layers, Layer("", cluster.values)]:
            volumes = get(layer.values, "server.extraVolumes")
            for volume in volumes if isinstance(volumes, list) else []:
                if isinstance(volume, Mapping) and volume.get("name") != federation_secret:
                    yield _volume(number, volume)


def _volume(cluster: int, volume: Mapping[str, Any]) -> Volume:
    kind = "Secret" if volume.get("type") == "secret" else "ConfigMap"
    items = volume.get("items")
    keys = [str(item["key"]) for item in items] if isinstance(items, list) else []
    return Volume(cluster, kind, str(volume.get("name")), tuple(keys))
