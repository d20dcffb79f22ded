"""What a real cluster refuses of single kinds: values that are wrong, and fields that cannot change."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

from .generated import ACCOUNT_NAME, SERVICE_ACCOUNT_TOKEN
from .resources import Resource
from .selectors import match_label_selector
from .status import Cause, forbidden_field, invalid_value, quoted, required, unsupported_value
from .store import Object
from .validation import check_labels


def check(resource: Resource, new: Object, old: Object | None) -> Iterator[Cause]:
    """What is wrong with an object of a built-in kind, alone or as the successor of `old`."""
    checker = _CHECKERS.get((resource.group, resource.kind))
    if checker:
        yield from checker(new, old)


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
        account = (new["metadata"].get("annotations") or {}).get(ACCOUNT_NAME)
        if not account:
            yield required(f"metadata.annotations[{ACCOUNT_NAME}]")
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
    claims = tuple(
        (claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()
    )
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
        schema = version.get("schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("openAPIV3Schema"), dict):
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
