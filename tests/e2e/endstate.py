"""What a sandbox has come to, as data that can be compared with another sandbox's: no secret, no address, no name that
is another one each time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from consulfed_lib import helm
from consulfed_lib.checks.federation import ALIVE, Datacenter
from consulfed_lib.cluster import Cluster, is_ready
from consulfed_lib.params import Federation
from consulfed_lib.secret import find, read, same
from consulfed_lib.steps.connect import datacenter

from .conftest import Sandbox

_KINDS = (
    "namespaces,secrets,configmaps,services,serviceaccounts,persistentvolumeclaims,pods,statefulsets,deployments,"
    "daemonsets,jobs,roles,rolebindings,clusterroles,clusterrolebindings,customresourcedefinitions,"
    "mutatingwebhookconfigurations,proxydefaults,serviceintentions"
)
_RELEASE = "helm.sh/release.v1"
_ENTRIES = ("proxy-defaults", "service-defaults")


def state_of(sandbox: Sandbox, params: Federation) -> dict[str, Any]:
    """Everything that a run could have left otherwise than it should."""
    clusters = {of.datacenter: Cluster(of.context, params.kubeconfig_path) for of in params.clusters}
    secret = find(clusters[params.primary.datacenter], params)
    found: dict[str, Any] = {}
    for of in params.clusters:
        cluster = clusters[of.datacenter]
        release = helm.release(cluster, of.namespace, of.release)
        copy = read(cluster, of.namespace, params.secret_name)
        found[of.datacenter] = {
            "objects": sorted(_objects(sandbox, of.context)),
            "release": release
            and [release.status, release.chart, release.version, _plain(dict(release.values), sandbox)],
            "federation secret": copy and {"same": same(secret, copy), "labels": sorted(copy.labels.items())},
            "consul": _consul(datacenter(params, of, cluster, secret)) if release else None,
        }
    return found


def _objects(sandbox: Sandbox, context: str) -> Iterator[str]:
    """Each object in a line: what it is, and how it is."""
    listed = json.loads(sandbox.kubectl(context, "get", _KINDS, "-A", "-o", "json", "--ignore-not-found"))
    pods: Counter[str] = Counter()
    for each in listed["items"]:
        metadata, kind = each["metadata"], each["kind"]
        labels = metadata.get("labels") or {}
        if each.get("type") == _RELEASE:
            continue
        if kind == "Pod":
            of = labels.get("component") or labels.get("app") or metadata["name"]
            pods[f"{of} {each['status'].get('phase')} {'ready' if is_ready(each) else 'not ready'}"] += 1
            continue
        words = [kind, f"{metadata.get('namespace', '')}/{metadata['name']}", *_how(kind, each)]
        yield " ".join(str(word) for word in words)
    for what, number in pods.items():
        yield f"Pod {what}: {number}"


def _how(kind: str, each: dict[str, Any]) -> list[Any]:
    """What is compared of an object beside its name; of a Secret the names of its keys, and never a value."""
    spec, status = each.get("spec") or {}, each.get("status") or {}
    conditions = [f"{c['type']}={c['status']}" for c in status.get("conditions") or []]
    if kind == "Secret":
        return [each.get("type"), sorted(each.get("data") or {})]
    if kind == "ConfigMap":
        return [sorted(each.get("data") or {})]
    if kind in ("StatefulSet", "Deployment", "DaemonSet"):
        return [spec.get("replicas"), status.get("readyReplicas")]
    if kind == "Service":
        balancers = (status.get("loadBalancer") or {}).get("ingress") or []
        return [spec.get("type"), sorted(p["port"] for p in spec.get("ports") or []), len(balancers)]
    if kind == "PersistentVolumeClaim":
        return [status.get("phase")]
    if kind in ("ProxyDefaults", "ServiceIntentions"):
        return [json.dumps(spec, sort_keys=True), conditions]
    return sorted(conditions) if kind == "Job" else []


def _consul(dc: Datacenter) -> dict[str, Any]:
    consul = dc.consul
    announced = {
        f"{wan['Address']}:{wan['Port']}"
        for each in consul.service("mesh-gateway", dc.name)
        for wan in [each["ServiceTaggedAddresses"]["wan"]]
    }
    found = {
        # A server that died, one that left, and one of which nobody knows any more since a reboot are all gone.
        "members": sorted(m["Name"] for m in consul.wan_members() if m["Status"] == ALIVE),
        "datacenters": sorted(consul.datacenters()),
        "services": {name: len(consul.service(name, dc.name)) for name in sorted(consul.services(dc.name))},
        "gateways are those of now": announced == dc.gateway_addresses(),
        "config entries": {kind: _names(consul.get(f"config/{kind}")) for kind in _ENTRIES},
        "mode": ((consul.proxy_defaults() or {}).get("MeshGateway") or {}).get("Mode"),
        "intentions": len(consul.get("connect/intentions") or []),
        "policies": _names(consul.policies()),
        "roles": _names(consul.get("acl/roles")),
        "auth methods": _names(consul.get("acl/auth-methods")),
        "binding rules": sorted(f"{r['AuthMethod']} {r['BindName']}" for r in consul.binding_rules()),
    }
    # Tokens of a login come and go with their pods; how many there are says nothing.
    tokens = [(each.get("AuthMethod") or "", _names(each.get("Policies"))) for each in consul.tokens()]
    found["tokens"] = sorted(Counter(str(names) for method, names in tokens if not method).items())
    found["logins"] = sorted({method for method, _ in tokens if method})
    return found


def _names(found: list[dict[str, Any]] | None) -> list[str]:
    return sorted(each["Name"] for each in found or [])


def _plain(values: dict[str, Any], sandbox: Sandbox) -> Any:
    """Values without what is of this sandbox only: its folder and its block of addresses."""
    text = json.dumps(values, sort_keys=True).replace(str(sandbox.folder), "FOLDER")
    return json.loads(re.sub(r"127\.\d+\.", "127.N.", text))


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """What differs, each with its place: `where: one, other`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted({*one, *other}, key=str)
            for line in differences(one.get(key), other.get(key), f"{where}/{key}")
        ]
    if isinstance(one, list) and isinstance(other, list):
        gone = [each for each in one if each not in other]
        new = [each for each in other if each not in one]
        if gone or new or len(one) != len(other):
            return [f"{where}: gone {gone}, new {new}, {len(one)} before and {len(other)} now"]
        return []
    return [] if one == other else [f"{where}: {one!r}, now {other!r}"]
