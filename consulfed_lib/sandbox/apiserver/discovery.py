"""Discovery: which groups, versions and resources there are, in the aggregated and in the older form."""

from __future__ import annotations

from typing import Any

from .request import Wanted
from .resources import Registry, Resource

VERSION = {
    "major": "1",
    "minor": "33",
    "emulationMajor": "1",
    "emulationMinor": "33",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "32",
    "gitVersion": "v1.33.0+consulfed",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2025-04-23T13:00:00Z",
    "goVersion": "none: emulated",
    "compiler": "none",
    "platform": "linux/amd64",
}
"""The version whose behaviour is emulated; the `+consulfed` says that it is no real one."""


def answer(path: str, registry: Registry, wanted: Wanted, address: str) -> dict[str, Any] | None:
    """The document at a discovery path; None when there is none."""
    parts = [part for part in path.split("/") if part]
    aggregated = wanted.form == "APIGroupDiscoveryList" and wanted.version in ("v2", "v2beta1")
    if parts == ["api"]:
        if aggregated:
            return _aggregated(registry, core=True, version=wanted.version)
        servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}
    if parts == ["apis"]:
        if aggregated:
            return _aggregated(registry, core=False, version=wanted.version)
        groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if len(parts) == 2 and parts[0] == "apis":
        versions = registry.groups().get(parts[1])
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], versions)} if versions else None
    group, version = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else (parts[1], parts[-1])
    if len(parts) != (2 if parts[0] == "api" else 3) or not registry.has_group_version(group, version):
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [
            entry
            for resource in registry.all()
            if (resource.group, resource.version) == (group, version)
            for entry in _entries(resource)
        ],
    }


def is_discovery(path: str) -> bool:
    """Whether a path is one of discovery's, be there an answer or not."""
    parts = [part for part in path.split("/") if part]
    if not parts or parts[0] not in ("api", "apis"):
        return False
    return len(parts) <= (2 if parts[0] == "api" else 3)


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _entries(resource: Resource) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    found = [entry]
    for sub in resource.subresources:
        found.append(
            {
                "name": f"{resource.plural}/{sub.name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                **({"group": sub.group, "version": sub.version} if sub.version else {}),
                "kind": sub.kind,
                "verbs": list(sub.verbs),
            }
        )
    return found


def _aggregated(registry: Registry, core: bool, version: str) -> dict[str, Any]:
    items = []
    for group, versions in registry.groups().items():
        if (group == "") is not core:
            continue
        listed = [
            {
                "version": name,
                "resources": [
                    _aggregated_resource(r) for r in registry.all() if (r.group, r.version) == (group, name)
                ],
                "freshness": "Current",
            }
            for name in versions
        ]
        metadata = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
        items.append({"metadata": metadata, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(resource: Resource) -> dict[str, Any]:
    def kind(group: str, version: str, name: str) -> dict[str, str]:
        return {"group": group, "version": version, "kind": name}

    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": kind(
                    sub.group if sub.version else resource.group, sub.version or resource.version, sub.kind
                ),
                "verbs": list(sub.verbs),
            }
            for sub in resource.subresources
        ]
    return entry
