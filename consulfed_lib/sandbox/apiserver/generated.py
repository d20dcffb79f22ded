"""What the API server itself puts into objects: allocated addresses, tokens, a pod's service account, labels."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from .cluster import Cluster
from .rbac import GROUP, aggregated_rules
from .resources import Resource
from .status import forbidden
from .store import Object, generated_name

SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
_ACCOUNT_UID = "kubernetes.io/service-account.uid"


def prepare(cluster: Cluster, resource: Resource, obj: Object, old: Object | None) -> None:
    """Complete, in place, an object that is new or that follows `old`."""
    preparer = _PREPARERS.get((resource.group, resource.kind))
    if preparer:
        preparer(cluster, obj, old)


def _namespace(cluster: Cluster, obj: Object, old: Object | None) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
    elif "spec" in old:
        obj["spec"] = old["spec"]


def _secret(cluster: Cluster, obj: Object, old: Object | None) -> None:
    """Move stringData into data; fill in the token of a service account's Secret."""
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()
    if obj.get("type") != SERVICE_ACCOUNT_TOKEN:
        return
    annotations = obj["metadata"].get("annotations") or {}
    account = cluster.store.get(
        ("", "serviceaccounts"), obj["metadata"]["namespace"], annotations.get(ACCOUNT_NAME, "")
    )
    if account is None or (obj.get("data") or {}).get("token"):
        return
    uid = account["metadata"]["uid"]
    if annotations.get(_ACCOUNT_UID, uid) != uid:
        return
    obj["metadata"]["annotations"] = {**annotations, _ACCOUNT_UID: uid}
    parts = {
        "token": cluster.authenticator.sign_for_secret(account, obj["metadata"]["name"]),
        "ca.crt": cluster.ca_pem,
        "namespace": obj["metadata"]["namespace"],
    }
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in parts.items()}
    obj["data"] = {**(obj.get("data") or {}), **encoded}


def _service(cluster: Cluster, obj: Object, old: Object | None) -> None:
    """Allocate the cluster IP and node ports; what the old one had stays."""
    spec = obj["spec"]
    before = (old or {}).get("spec", {})
    if spec.get("type") == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    if not spec.get("clusterIP"):
        held = before.get("clusterIP") if before.get("type") != "ExternalName" else None
        spec["clusterIP"] = held or cluster.free_cluster_ip()
    spec["clusterIPs"] = spec.get("clusterIPs") or [spec["clusterIP"]]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] not in ("NodePort", "LoadBalancer"):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
        return
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        return
    earlier = {(p["port"], p["protocol"]): p.get("nodePort") for p in before.get("ports") or ()}
    mine: set[int] = set()
    for position, port in enumerate(spec.get("ports") or ()):
        wanted = port.get("nodePort") or earlier.get((port.get("port"), port["protocol"])) or 0
        port["nodePort"] = cluster.free_node_port(
            obj["metadata"]["name"], wanted, f"spec.ports[{position}].nodePort", mine
        )
        mine.add(port["nodePort"])


def _pod(cluster: Cluster, obj: Object, old: Object | None) -> None:
    """The service account with its token volume, tolerations and priority; a real one has admission plugins."""
    if old is not None:
        return
    spec, metadata = obj["spec"], obj["metadata"]
    spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or "default"
    account = cluster.store.get(("", "serviceaccounts"), metadata["namespace"], spec["serviceAccountName"])
    if account is None:
        where = f"{metadata['namespace']}/{spec['serviceAccountName']}"
        why = f'error looking up service account {where}: serviceaccount "{spec["serviceAccountName"]}" not found'
        raise forbidden("pods", "", metadata.get("name", ""), why)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        _mount_token(spec)
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            )
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    obj["status"]["qosClass"] = _quality_of_service(spec)


def _mount_token(spec: dict[str, Any]) -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    name = generated_name("kube-api-access-")
    used = False
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        mounts = container.setdefault("volumeMounts", [])
        if not any(mount.get("mountPath") == path for mount in mounts):
            mounts.append({"name": name, "readOnly": True, "mountPath": path})
            used = True
    if not used:
        return
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    ca = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}}
    sources = {"defaultMode": 420, "sources": [token, ca, namespace]}
    spec.setdefault("volumes", []).append({"name": name, "projected": sources})


def _quality_of_service(spec: dict[str, Any]) -> str:
    resources = [container.get("resources") or {} for container in spec.get("containers") or ()]
    if not any(r.get("limits") or r.get("requests") for r in resources):
        return "BestEffort"
    guaranteed = all(
        set(r.get("limits") or ()) >= {"cpu", "memory"} and r.get("requests", r["limits"]) == r["limits"]
        for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _aggregating(cluster: Cluster, obj: Object, old: Object | None) -> None:
    if obj.get("aggregationRule"):
        obj["rules"] = aggregated_rules(obj, cluster.store.list((GROUP, "clusterroles")))


_PREPARERS: dict[tuple[str, str], Callable[[Cluster, Object, Object | None], None]] = {
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("", "Pod"): _pod,
    ("rbac.authorization.k8s.io", "ClusterRole"): _aggregating,
}
