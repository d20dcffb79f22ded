"""Types of fields of built-in kinds: a string where a number belongs is refused before anything reads it.

A real API server decodes into typed structs. Here the fields whose names mean one thing wherever they stand
are checked; what charts get wrong most, an environment variable that is a number, is among them.
"""

from __future__ import annotations

from typing import Any

from .resources import Resource
from .status import bad_request
from .store import Object

_STRING_MAPS = "labels annotations matchLabels nodeSelector stringData"
_INTEGERS = (
    "replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds partition parallelism completions "
    "backoffLimit activeDeadlineSeconds ttlSecondsAfterFinished terminationGracePeriodSeconds containerPort "
    "hostPort nodePort initialDelaySeconds periodSeconds timeoutSeconds successThreshold failureThreshold "
    "defaultMode runAsUser runAsGroup fsGroup tolerationSeconds"
)
_BOOLEANS = (
    "hostNetwork hostPID hostIPC suspend paused readOnly privileged automountServiceAccountToken tty stdin "
    "publishNotReadyAddresses immutable runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation"
)
_OBJECTS = (
    "metadata spec template jobTemplate securityContext strategy updateStrategy rollingUpdate affinity roleRef "
    "secretKeyRef configMapKeyRef fieldRef valueFrom readinessProbe livenessProbe startupProbe lifecycle httpGet "
    "secret configMap projected downwardAPI emptyDir serviceAccountToken limits requests clientConfig selector "
    "podSelector namespaceSelector objectSelector persistentVolumeClaimRetentionPolicy sessionAffinityConfig "
    "clientIP volumeClaimTemplate aggregationRule"
)
_OBJECT_LISTS = (
    "containers initContainers volumes env envFrom volumeMounts subjects rules ownerReferences tolerations "
    "imagePullSecrets volumeClaimTemplates webhooks hostAliases ports sources items matchExpressions "
    "clusterRoleSelectors"
)
_STRING_LISTS = (
    "command args verbs apiGroups apiVersions resourceNames nonResourceURLs finalizers accessModes clusterIPs "
    "ipFamilies externalIPs values operations policyTypes"
)
_STRINGS = (
    "name namespace generateName image serviceAccountName restartPolicy clusterIP externalName mountPath "
    "subPath imagePullPolicy serviceName storageClassName podManagementPolicy kind apiVersion apiGroup protocol "
    "key operator type uid nodeName volumeName serviceAccount path sessionAffinity externalTrafficPolicy"
)
_KINDS = {
    **dict.fromkeys(_STRING_MAPS.split(), "map[string]string"),
    **dict.fromkeys(_INTEGERS.split(), "int32"),
    **dict.fromkeys(_BOOLEANS.split(), "bool"),
    **dict.fromkeys(_OBJECTS.split(), "object"),
    **dict.fromkeys(_OBJECT_LISTS.split(), "[]object"),
    **dict.fromkeys(_STRING_LISTS.split(), "[]string"),
    **dict.fromkeys(_STRINGS.split(), "string"),
}
_FREE = {
    ("", "LimitRange"): ("limits",),
    ("", "PersistentVolume"): ("volumeAttributes", "options"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("versions",),
    ("apps", "ControllerRevision"): ("data",),
    ("storage.k8s.io", "StorageClass"): ("parameters",),
}
"""Where an object holds names that are not its own kind's."""

_JSON_NAMES = {
    type(None): "null",
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    dict: "object",
    list: "array",
}


def check(resource: Resource, obj: Object) -> None:
    """Raises 400 at the first field that has a wrong type; custom resources have a schema instead."""
    kinds = _KINDS
    if resource.kind == "CustomResourceDefinition":
        kinds = _KINDS | {
            "strategy": "string",
            "names": "object",
            "conversion": "object",
            "versions": "[]object",
        }
    elif resource.storage_key == ("", "limitranges"):
        kinds = _KINDS | {"limits": "[]object"}
    elif resource.storage_key in (("", "configmaps"), ("", "secrets")):
        kinds = _KINDS | {"data": "map[string]string", "binaryData": "map[string]string"}
    elif resource.custom:
        obj = {"metadata": obj["metadata"]}
    elif resource.storage_key == ("", "services"):
        kinds = _KINDS | {"selector": "map[string]string", "port": "int32"}
    elif resource.group == "rbac.authorization.k8s.io":
        kinds = _KINDS | {"resources": "[]string"}
    elif resource.group == "admissionregistration.k8s.io":
        kinds = _KINDS | {"resources": "[]string", "service": "object"}
    else:
        kinds = _KINDS | {"resources": "object"}
    wrong = _find(obj, "", kinds, _FREE.get((resource.group, resource.kind), ()))
    if wrong:
        path, found, wanted = wrong
        name = resource.kind
        raise bad_request(
            f'{name} in version "{resource.version}" cannot be handled as a {name}: json: cannot unmarshal '
            f"{found} into Go struct field {name}.{path} of type {wanted}"
        )


def _find(value: Any, path: str, kinds: dict[str, str], free: tuple[str, ...]) -> tuple[str, str, str] | None:
    """(path, type found, type wanted) of the first misfit."""
    if isinstance(value, list):
        return next((wrong for part in value if (wrong := _find(part, path, kinds, free))), None)
    if not isinstance(value, dict):
        return None
    for key, part in value.items():
        here = f"{path}.{key}" if path else key
        wanted = kinds.get(key)
        if part is None:
            continue
        if wanted and (wrong := _misfit(part, wanted, here)):
            return wrong
        if wanted == "map[string]string" or key in free:
            continue
        if key == "value" and path.endswith(".env") and not isinstance(part, str):
            return here, _JSON_NAMES[type(part)], "string"
        below = _find(part, here, kinds, free)
        if below:
            return below
    return None


def _misfit(value: Any, wanted: str, path: str) -> tuple[str, str, str] | None:
    if wanted.startswith("[]"):
        if not isinstance(value, list):
            return path, _JSON_NAMES[type(value)], wanted
        parts, wanted = value, wanted[2:]
    elif wanted == "map[string]string":
        if not isinstance(value, dict):
            return path, _JSON_NAMES[type(value)], wanted
        parts, wanted = list(value.values()), "string"
    else:
        parts = [value]
    types = {"string": str, "int32": int, "bool": bool, "object": dict}
    for part in parts:
        good = isinstance(part, types[wanted])
        if not good or (wanted == "int32" and isinstance(part, bool)):
            return path, _JSON_NAMES[type(part)], wanted
    return None
