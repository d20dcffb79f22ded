"""Field validation: fields that an object's kind does not have, as `fieldValidation=Strict` finds them.

For built-in kinds only the top level and the metadata are known here; for custom resources the whole schema.
"""

from __future__ import annotations

from typing import Any

from .resources import Resource
from .status import ApiError, invalid, unsupported_value
from .structural import unknown_fields

_ENVELOPE = ("apiVersion", "kind", "metadata")
_BEYOND_SPEC: dict[tuple[str, str], str] = {
    ("", "ConfigMap"): "data binaryData immutable",
    ("", "Secret"): "data stringData immutable type",
    ("", "ServiceAccount"): "secrets imagePullSecrets automountServiceAccountToken",
    ("", "Endpoints"): "subsets",
    ("", "Event"): "involvedObject reason message source firstTimestamp lastTimestamp count type eventTime "
    "series action related reportingComponent reportingInstance",
    ("", "PodTemplate"): "template",
    ("", "Binding"): "target",
    ("", "LimitRange"): "spec",
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): "webhooks",
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): "webhooks",
    ("apps", "ControllerRevision"): "data revision",
    ("discovery.k8s.io", "EndpointSlice"): "addressType endpoints ports",
    ("rbac.authorization.k8s.io", "Role"): "rules",
    ("rbac.authorization.k8s.io", "ClusterRole"): "rules aggregationRule",
    ("rbac.authorization.k8s.io", "RoleBinding"): "subjects roleRef",
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): "subjects roleRef",
    ("scheduling.k8s.io", "PriorityClass"): "value globalDefault description preemptionPolicy",
    ("storage.k8s.io", "StorageClass"): "provisioner parameters reclaimPolicy mountOptions "
    "allowVolumeExpansion volumeBindingMode allowedTopologies",
}
_METADATA_TEXT = (
    "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp "
    "deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields"
)
_METADATA = frozenset(_METADATA_TEXT.split())


def top_level_fields(resource: Resource) -> tuple[str, ...] | None:
    """The fields of an object of that kind; None where the schema alone says it."""
    if resource.custom:
        return None
    listed = _BEYOND_SPEC.get((resource.group, resource.kind), "spec status")
    return (*_ENVELOPE, *listed.split())


def unknown(resource: Resource, obj: dict[str, Any]) -> list[str]:
    """Paths of fields that the kind does not have."""
    known = top_level_fields(resource)
    found = [name for name in obj if known is not None and name not in known]
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        found += [f"metadata.{name}" for name in metadata if name not in _METADATA]
    if resource.custom and resource.schema:
        found += unknown_fields(resource.schema, obj)
    return found


def check(resource: Resource, obj: Any, mode: str) -> list[str]:
    """Warnings for a body under a fieldValidation mode (``Warn`` when it is empty).

    Raises:
        ApiError: 400 in mode ``Strict`` when there are unknown fields, 422 for an unknown mode.
    """
    if mode not in ("", "Ignore", "Warn", "Strict"):
        cause = unsupported_value("fieldValidation", mode, ("", "Ignore", "Strict", "Warn"))
        raise invalid("CreateOptions", "meta.k8s.io", "", [cause])
    if mode == "Ignore" or not isinstance(obj, dict):
        return []
    problems = [f'unknown field "{path}"' for path in unknown(resource, obj)]
    if problems and mode == "Strict":
        message = "strict decoding error: " + ", ".join(problems)
        if not resource.custom:
            kind = resource.kind
            message = f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {message}'
        raise ApiError(400, "BadRequest", message)
    return problems
