"""Lint of Helm values: keys that the pinned chart does not have, and what the chart does not check of a federation.

Helm ignores a key that is not the chart's in silence, and no tag of the chart has a schema: one word in the wrong place
(consul-k8s #3796) and a federation comes up without what it says.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..chart import WINDOWS, supported_consul
from .facts import ABSENT, FACTS, Datacenter, server_config, shown

READ_BY_TEMPLATES = (
    "fullnameOverride", "nameOverride",  # all versions
    "client.logLevel",  # 0.42.0 to 1.2.0
    "apiGateway.nodeSelector", "apiGateway.managedGatewayClass.logLevel",  # 0.40.0 to 1.4
    "global.imagePullPolicy",  # 1.3.0 to 1.4
    "connectInject.apiGateway.managedGatewayClass.service",  # 1.5
    "connectInject.apiGateway.managedGatewayClass.serviceAccount",  # 1.5
    "dns.proxy.logLevel",  # since 1.6.0
)  # fmt: skip
"""Keys that have an effect although values.yaml of (some of) these versions does not list them: found by comparing
every `.Values.…` in the templates of all tags with their values.yaml. Keys that templates read only to refuse them are
not among them."""

FREE_FORM = frozenset({
    "additionalSpec", "affinity", "agentAnnotations", "annotations", "containerSecurityContext",
    "extraEnvironmentVars", "extraLabels", "labels", "meta", "nodeMeta", "nodeSelector", "resources",
    "securityContext", "tolerations", "topologySpreadConstraints", "updateStrategy",
})  # fmt: skip
"""Keys whose contents are Kubernetes' own or the user's, also where values.yaml has a default for them."""

_ONLY_IN = {
    "federation": "global", "acls": "global", "gossipEncryption": "global", "adminPartitions": "global",
    "createFederationSecret": "global.federation", "primaryDatacenter": "global.federation",
    "primaryGateways": "global.federation", "k8sAuthMethodHost": "global.federation",
    "manageSystemACLs": "global.acls", "createReplicationToken": "global.acls",
    "replicationToken": "global.acls", "autoGenerate": "global.gossipEncryption",
    "enableAutoEncrypt": "global.tls", "httpsOnly": "global.tls", "wanAddress": "meshGateway",
}  # fmt: skip
"""Keys of federation that have one place in every chart, and it."""

_ALSO_AT = ("externalServers.k8sAuthMethodHost",)
_NOT_AT_THE_TOP = {"tls": "global", "datacenter": "global", "domain": "global", "name": "global"}
_NOT_IN_GLOBAL = ("meshGateway", "connectInject", "server", "client", "controller", "externalServers")


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: the check that it belongs to, the datacenter, the key, and a sentence."""

    check: str
    datacenter: str
    path: str
    sentence: str
    warning: bool = False


def unknown_keys(values: Mapping[str, Any], chart_values: Mapping[str, Any]) -> list[str]:
    """A sentence, with a suggestion, for each key of `values` that the chart's own values.yaml does not have.

    The walk ends where values.yaml has null, `{}`, a list or a text (they may be anything), and at what is
    Kubernetes' own.
    """
    return [sentence for _, sentence in unknown(values, chart_values)]


def unknown(
    values: Mapping[str, Any], chart_values: Mapping[str, Any], skip: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """(key, sentence) of `unknown_keys`; what stands in `skip` is somebody else's to report."""
    places = _places(chart_values)
    yield from _walk(values, chart_values, "", places, frozenset(skip))


def _walk(
    values: Mapping[str, Any],
    known: Mapping[str, Any],
    parent: str,
    places: Mapping[str, list[str]],
    skip: frozenset[str],
) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        path = f"{parent}.{key}" if parent else str(key)
        if path in skip or path in READ_BY_TEMPLATES:
            continue
        if key not in known:
            yield (
                path,
                f"{path}: the chart has no such key{_suggestion(str(key), parent, value, known, places)}",
            )
            continue
        there = known[key]
        if isinstance(there, Mapping) and there and key not in FREE_FORM:
            if isinstance(value, Mapping):
                yield from _walk(value, there, path, places, skip)
            elif value is not None:
                yield path, f"{path}: {shown(value)}; the chart has a mapping there"
        elif isinstance(there, (bool, int, float)) and isinstance(value, (Mapping, list)):
            yield path, f"{path}: {shown(value)}; the chart has a single value there, {shown(there)}"


def _places(chart_values: Mapping[str, Any], parent: str = "") -> dict[str, list[str]]:
    """Key → the mappings of the chart that have it (the top is an empty text)."""
    found: dict[str, list[str]] = {}
    for key, value in chart_values.items():
        found.setdefault(str(key), []).append(parent)
        if isinstance(value, Mapping) and key not in FREE_FORM:
            for inner, where in _places(value, f"{parent}.{key}" if parent else str(key)).items():
                found.setdefault(inner, []).extend(where)
    return found


def _suggestion(
    key: str, parent: str, value: Any, known: Mapping[str, Any], places: Mapping[str, list[str]]
) -> str:
    elsewhere = _home(key, places.get(key, []))
    if elsewhere is not None:
        return f"; it belongs {'under ' + elsewhere if elsewhere else 'to the top'}"
    near = difflib.get_close_matches(key, map(str, known), 1)
    if near:
        return f"; did you mean `{parent + '.' if parent else ''}{near[0]}`?"
    if parent == "" and isinstance(value, Mapping) and all(k in places for k in value) and value:
        homes = [_home(str(k), places[str(k)]) for k in value]
        if homes[0] and len(set(homes)) == 1:
            return f"; what is in it belongs under {homes[0]}"
    return ""


def _home(key: str, places: list[str]) -> str | None:
    """Where a key belongs, if that is clear: its only place, or the only one near the top."""
    if key in _ONLY_IN and _ONLY_IN[key] in places:
        return _ONLY_IN[key]
    if len(places) == 1:
        return places[0]
    near = [place for place in places if place in {"", "global"}]
    return near[0] if len(near) == 1 else None


def misplaced(values: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, str]]:
    """(key, sentence) of federation's own keys that stand in the wrong mapping; needs no chart (#3796)."""
    for key, value in values.items():
        path = f"{parent}.{key}" if parent else str(key)
        home = _ONLY_IN.get(key)
        if not parent:
            home = _NOT_AT_THE_TOP.get(key, home)
        if parent == "global" and key in _NOT_IN_GLOBAL:
            yield path, f"{path}: it belongs to the top, not under global; Helm would ignore it in silence"
        elif home is not None and home != parent and path not in _ALSO_AT:
            yield path, f"{path}: it belongs under {home}; Helm would ignore it in silence"
        elif isinstance(value, Mapping) and key not in FREE_FORM and path != "global.secretsBackend":
            yield from misplaced(value, path)


def role_mistakes(datacenters: Sequence[Datacenter]) -> list[Mistake]:
    """What the chart does not check of a federation, over final values or those of existing releases.

    Args:
        datacenters: the primary first, then any secondaries.
    """
    found = [mistake for each in datacenters for mistake in datacenter_mistakes(each)]
    found += _names(datacenters)
    for each in datacenters[1:]:
        found += _differences(datacenters[0], each)
    return found


def datacenter_mistakes(of: Datacenter) -> Iterator[Mistake]:
    """What is wrong with one datacenter's values by themselves."""

    def mistake(check: str, path: str, sentence: str, warning: bool = False) -> Mistake:
        return Mistake(check, of.name, path, sentence, warning)

    for fact in FACTS:
        value = of.get(fact.path)
        if fact.applies(of) and fact.wrong(value, of):
            sentence = f"{fact.path} is {shown(value)}; federation needs {fact.needs}: {fact.why}"
            yield mistake(fact.check, fact.path, sentence)
    for key, reason in server_config(of.values):
        sentence = f"server.extraConfig sets {key}; federation needs it left out: {reason}"
        yield mistake("values-server-config", "server.extraConfig", sentence)
    for path, sentence in misplaced(of.values):
        yield mistake("values-misplaced", path, sentence)
    for path in WINDOWS:
        if of.get(path) is not ABSENT and not of.chart.knows(path):
            yield mistake(
                "values-generation", path, f"{path} is set, and {_window(path)}; this is {of.chart}"
            )
    yield from (mistake("values-secret-volume", "server.extraVolumes", text) for text in _volume(of))
    if of.get("server.replicas") in (ABSENT, None):
        yield mistake(
            "values-replicas", "server.replicas",
            "server.replicas is not said; the chart's default was 3 and is 1 since 1.0.0", warning=True,
        )  # fmt: skip
    for path, image in _images(of.values):
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@" not in image and tag in ("", "latest"):
            yield mistake("values-pinned", path, f"{path} is {image}, which names no version", warning=True)
    image = of.get("global.image")
    series = supported_consul(of.chart)
    version = str(image).rpartition(":")[2].split(".") if isinstance(image, str) else []
    if len(version) > 1 and version[0].isdigit() and series and ".".join(version[:2]) not in series:
        sentence = f"global.image is {image}; chart {of.chart} goes with Consul {' or '.join(series)}"
        yield mistake("values-consul-version", "global.image", sentence, warning=True)


def _window(path: str) -> str:
    since, before = WINDOWS[path]
    if since and before:
        return f"the chart has it from {since} until {before} only"
    return f"the chart has it since {since} only" if since else f"the chart has it no more since {before}"


_IMAGES = {"image", "imageK8S", "imageEnvoy", "imageConsulDataplane"}


def _images(values: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        path = f"{parent}.{key}" if parent else str(key)
        if isinstance(value, Mapping) and key not in FREE_FORM:
            yield from _images(value, path)
        elif key in _IMAGES and isinstance(value, str) and value:
            yield path, value


def _volume(of: Datacenter) -> Iterator[str]:
    """What is wrong with the volume through which a secondary's servers find the primary."""
    if of.role != "secondary":
        return
    volumes = of.get("server.extraVolumes")
    entries = [each for each in volumes if isinstance(each, Mapping)] if isinstance(volumes, list) else []
    ours = [
        each for each in entries
        if each.get("name") == of.secret or any(i.get("key") == "serverConfigJSON" for i in _items(each))
    ]  # fmt: skip
    if not ours:
        yield "server.extraVolumes does not have the federation secret; servers would not know the primary's gateways"
    for volume in ours:
        name = volume.get("name")
        if of.secret and name != of.secret:
            yield f"server.extraVolumes has {name}; the federation secret is {of.secret}"
        if volume.get("type") != "secret":
            yield f"type of server.extraVolumes {name} is {shown(volume.get('type'))}; expected secret"
        if volume.get("load") is not True:
            yield f"load of server.extraVolumes {name} is {shown(volume.get('load'))}; servers read it only with true"
        keys = [item.get("key") for item in _items(volume)]
        if keys != ["serverConfigJSON"]:
            yield (
                f"server.extraVolumes {name} brings {shown(keys)}; expected serverConfigJSON alone,"
                " because servers load every file of it"
            )
        for item in _items(volume):
            path = str(item.get("path", ""))
            if not path.endswith((".json", ".hcl")):
                yield f"server.extraVolumes {name} has the path {path!r}; servers load *.json and *.hcl only"


def _items(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = volume.get("items")
    return [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []


def _names(datacenters: Sequence[Datacenter]) -> Iterator[Mistake]:
    """Two datacenters of one name: Consul lower-cases names, and so they are compared."""
    seen: dict[str, Datacenter] = {}
    for each in datacenters:
        name = str(each.get("global.datacenter") or "dc1").lower()
        other = seen.setdefault(name, each)
        if other is not each:
            yield Mistake(
                "values-datacenter", each.name, "global.datacenter",
                f"global.datacenter is {name}, as in {other.name}; each datacenter needs a name of its own",
            )  # fmt: skip


def _differences(primary: Datacenter, secondary: Datacenter) -> Iterator[Mistake]:
    """What must be the same in every datacenter."""
    rows = (
        ("values-acls-alike", "global.acls.manageSystemACLs", "ACLs are", primary.acls, secondary.acls),
        ("values-gossip-alike", "global.gossipEncryption", "gossip encryption is", primary.gossip, secondary.gossip),
        ("values-tls-alike", "global.tls.enabled", "TLS is",
         primary.get("global.tls.enabled") is True, secondary.get("global.tls.enabled") is True),
    )  # fmt: skip
    for check, path, what, there, here in rows:
        if there != here:
            states = f"{_on(here)} here and {_on(there)} in {primary.name}"
            yield Mistake(check, secondary.name, path, f"{what} {states}; it must be the same everywhere")
    mine, theirs = ((each.get("global.domain") or "consul") for each in (secondary, primary))
    if mine != theirs:
        yield Mistake(
            "values-domain-alike", secondary.name, "global.domain",
            f"global.domain is {mine} here and {theirs} in {primary.name}; gateways route by it",
        )  # fmt: skip


def _on(state: bool) -> str:
    return "on" if state else "off"
