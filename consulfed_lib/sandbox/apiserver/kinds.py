"""Rules of single kinds: parts that the API server makes, fields that cannot change, values that are refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

from .cluster import Cluster
from .rbac import GROUP, aggregated_rules
from .resources import Resource
from .selectors import match_label_selector
from .status import (
    Cause,
    forbidden,
    forbidden_field,
    invalid_value,
    quoted,
    required,
    unsupported_value,
)
from .store import Object, generated_name
from .validation import check_labels

SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
_ACCOUNT_NAME = "kubernetes.io/service-account.name"
_ACCOUNT_UID = "kubernetes.io/service-account.uid"


def prepare_create(cluster: Cluster, resource: Resource, obj: Object) -> None:
    """Make, in place, what the API server itself puts into a new object."""
    preparer = _PREPARERS.get((resource.group, resource.kind))
    if preparer:
        preparer(cluster, obj, None)


def prepare_update(cluster: Cluster, resource: Resource, old: Object, new: Object) -> None:
    preparer = _PREPARERS.get((resource.group, resource.kind))
    if preparer:
        preparer(cluster, new, old)


def check(resource: Resource, new: Object, old: Object | None) -> Iterator[Cause]:
    """What is wrong with an object of a built-in kind, alone or as the successor of `old`."""
    checker = _CHECKERS.get((resource.group, resource.kind))
    if checker:
        yield from checker(new, old)


# --- parts that the API server makes -------------------------------------------------------------------


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
        ("", "serviceaccounts"), obj["metadata"]["namespace"], annotations.get(_ACCOUNT_NAME, "")
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


# --- refusals -------------------------------------------------------------------------------------------


def _immutable(path: str, value: Any) -> Cause:
    return invalid_value(path, value, "field is immutable")


def _check_config_map(new: Object, old: Object | None) -> Iterator[Cause]:
    for key in (new.get("data") or {}).keys() & (new.get("binaryData") or {}).keys():
        yield invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key, value in (new.get("data") or {}).items():
        if not isinstance(value, str):
            yield invalid_value(f"data[{key}]", value, "must be a string")
    yield from _check_base64(new.get("binaryData"), "binaryData")
    if old and old.get("immutable"):
        for name in ("data", "binaryData"):
            if new.get(name) != old.get(name):
                yield forbidden_field(name, "field is immutable when `immutable` is set")


def _check_base64(data: Any, path: str) -> Iterator[Cause]:
    for key, value in (data or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            yield invalid_value(f"{path}[{key}]", "", "illegal base64 data")


def _check_secret(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _check_base64(new.get("data"), "data")
    if new.get("type") == SERVICE_ACCOUNT_TOKEN:
        account = (new["metadata"].get("annotations") or {}).get(_ACCOUNT_NAME)
        if not account:
            yield required(f"metadata.annotations[{_ACCOUNT_NAME}]")
    for name in {"kubernetes.io/tls": ("tls.crt", "tls.key")}.get(new.get("type", ""), ()):
        if name not in (new.get("data") or {}):
            yield required(f"data[{name}]")
    if old is None:
        return
    if new.get("type") != old.get("type"):
        yield _immutable("type", new.get("type"))
    if old.get("immutable") and new.get("data") != old.get("data"):
        yield forbidden_field("data", "field is immutable when `immutable` is set")


def _check_service(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in kinds:
        yield unsupported_value("spec.type", spec["type"], kinds)
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    if spec["type"] in ("LoadBalancer", "NodePort") and spec.get("clusterIP") == "None":
        yield invalid_value(
            "spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services"
        )
    seen: set[Any] = set()
    for position, port in enumerate(ports):
        path = f"spec.ports[{position}]"
        number = port.get("port")
        if not isinstance(number, int) or not 1 <= number <= 65535:
            yield invalid_value(f"{path}.port", number, "must be between 1 and 65535, inclusive")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        if (number, port["protocol"]) in seen:
            yield Cause(path, "Duplicate value", reason="FieldValueDuplicate")
        seen.add((number, port["protocol"]))
    yield from check_labels(spec.get("selector") or {}, "spec.selector")
    if (
        old
        and old["spec"].get("clusterIP")
        and spec["type"] != "ExternalName"
        and spec.get("clusterIP") != old["spec"]["clusterIP"]
    ):
        held = quoted([old["spec"]["clusterIP"]]) and f'[]string{{"{spec.get("clusterIP")}"}}'
        yield Cause("spec.clusterIPs[0]", f"Invalid value: {held}: may not change once set")


def _check_selector(spec: dict[str, Any]) -> Iterator[Cause]:
    """The selector of a workload is there and matches its template."""
    selector = spec.get("selector")
    if not selector:
        yield required("spec.selector")
        return
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    yield from check_labels(labels, "spec.template.metadata.labels")
    if not match_label_selector(selector, labels):
        yield invalid_value(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )


def _check_pod_spec(
    spec: dict[str, Any], path: str, restart: tuple[str, ...], claims: tuple[str, ...] = ()
) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    if spec.get("restartPolicy") not in restart:
        yield unsupported_value(f"{path}.restartPolicy", spec.get("restartPolicy"), restart)
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()} | set(claims)
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for position, container in enumerate(spec.get(kind) or ()):
            here = f"{path}.{kind}[{position}]"
            name = container.get("name")
            if not name:
                yield required(f"{here}.name")
            elif name in names:
                yield Cause(f"{here}.name", f"Duplicate value: {quoted(name)}", reason="FieldValueDuplicate")
            names.add(name)
            if not container.get("image"):
                yield required(f"{here}.image")
            for number, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") not in volumes:
                    yield Cause(
                        f"{here}.volumeMounts[{number}].name",
                        f"Not found: {quoted(mount.get('name'))}",
                        reason="FieldValueNotFound",
                    )


_ANY_RESTART = ("Always", "OnFailure", "Never")


def _check_pod(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _check_pod_spec(new["spec"], "spec", _ANY_RESTART)
    if old is None:
        return
    allowed = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")

    def fixed(spec: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in spec.items() if key not in allowed}
        for kind in ("containers", "initContainers"):
            if kind in kept:
                kept[kind] = [{k: v for k, v in c.items() if k != "image"} for c in kept[kind]]
        return kept

    if fixed(new["spec"]) != fixed(old["spec"]):
        yield forbidden_field(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)",
        )


def _check_workload(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    yield from _check_selector(spec)
    yield from _check_pod_spec(spec["template"]["spec"], "spec.template.spec", ("Always",))
    if (spec.get("replicas") or 0) < 0:
        yield invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if old and old["spec"].get("selector") != spec.get("selector"):
        yield _immutable("spec.selector", (spec.get("selector") or {}).get("matchLabels"))


_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _check_stateful_set(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    yield from _check_selector(spec)
    claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ())
    yield from _check_pod_spec(spec["template"]["spec"], "spec.template.spec", ("Always",), claims)
    if old is None:
        return
    before = old["spec"]
    if any(
        before.get(key) != spec.get(key)
        for key in before.keys() | spec.keys()
        if key not in _STATEFUL_MUTABLE
    ):
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_MUTABLE[:-1])
        yield forbidden_field(
            "spec",
            f"updates to statefulset spec for fields other than {listed} and '{_STATEFUL_MUTABLE[-1]}' are forbidden",
        )


def _check_job(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    yield from _check_selector(spec)
    yield from _check_pod_spec(spec["template"]["spec"], "spec.template.spec", ("OnFailure", "Never"))
    if old is None:
        return
    before = old["spec"]
    if before.get("selector") != spec.get("selector"):
        yield _immutable("spec.selector", (spec.get("selector") or {}).get("matchLabels"))
    if before.get("template") != spec.get("template"):
        yield Cause("spec.template", "Invalid value: core.PodTemplateSpec{…}: field is immutable")
    for name in ("completions", "completionMode"):
        if before.get(name) != spec.get(name):
            yield _immutable(f"spec.{name}", spec.get(name))


def _check_claim(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        yield required("spec.resources[storage]")
    if old is None:
        return
    settable = {"resources", "volumeAttributesClassName"} | (
        set() if old["spec"].get("volumeName") else {"volumeName", "storageClassName"}
    )
    before = old["spec"]
    if any(before.get(key) != spec.get(key) for key in (before.keys() | spec.keys()) - settable):
        yield forbidden_field(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        )


def _check_role(new: Object, old: Object | None) -> Iterator[Cause]:
    for position, rule in enumerate(new.get("rules") or ()):
        path = f"rules[{position}]"
        if not rule.get("verbs"):
            yield required(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if new["kind"] == "Role":
                yield invalid_value(
                    f"{path}.nonResourceURLs", "", "namespaced rules cannot apply to non-resource URLs"
                )
            continue
        for name, text in (
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ):
            if not rule.get(name):
                yield required(f"{path}.{name}", text)


def _check_binding(new: Object, old: Object | None) -> Iterator[Cause]:
    role = new["roleRef"]
    kinds = ("ClusterRole",) if new["kind"] == "ClusterRoleBinding" else ("Role", "ClusterRole")
    if role.get("kind") not in kinds:
        yield unsupported_value("roleRef.kind", role.get("kind", ""), kinds)
    if not role.get("name"):
        yield required("roleRef.name")
    for position, subject in enumerate(new.get("subjects") or ()):
        path = f"subjects[{position}]"
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            yield unsupported_value(
                f"{path}.kind", subject.get("kind", ""), ("ServiceAccount", "User", "Group")
            )
        if not subject.get("name"):
            yield required(f"{path}.name")
        clusterwide = new["kind"] == "ClusterRoleBinding"
        if clusterwide and subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            yield required(f"{path}.namespace")
    if old and role != old["roleRef"]:
        shown = ", ".join(
            f"{go}:{quoted(role.get(key, ''))}"
            for go, key in (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
        )
        yield Cause("roleRef", f"Invalid value: rbac.RoleRef{{{shown}}}: cannot change roleRef")


def _check_definition(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    names = spec["names"]
    wanted = f"{names.get('plural', '')}.{spec.get('group', '')}"
    if new["metadata"].get("name") != wanted:
        yield invalid_value(
            "metadata.name", new["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group'
        )
    for path in ("plural", "kind"):
        if not names.get(path):
            yield required(f"spec.names.{path}")
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield unsupported_value("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced"))
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid_value("spec.versions", "", "must have exactly one version marked as storage version")
    for position, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            yield required(f"spec.versions[{position}].schema.openAPIV3Schema", "schemas are required")
    if old and old["spec"]["scope"] != spec.get("scope"):
        yield _immutable("spec.scope", spec.get("scope"))


_CHECKERS: dict[tuple[str, str], Callable[[Object, Object | None], Iterator[Cause]]] = {
    ("", "ConfigMap"): _check_config_map,
    ("", "Secret"): _check_secret,
    ("", "Service"): _check_service,
    ("", "Pod"): _check_pod,
    ("", "PersistentVolumeClaim"): _check_claim,
    ("apps", "Deployment"): _check_workload,
    ("apps", "DaemonSet"): _check_workload,
    ("apps", "ReplicaSet"): _check_workload,
    ("apps", "StatefulSet"): _check_stateful_set,
    ("batch", "Job"): _check_job,
    ("rbac.authorization.k8s.io", "Role"): _check_role,
    ("rbac.authorization.k8s.io", "ClusterRole"): _check_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): _check_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _check_binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _check_definition,
}
