"""What the workload controllers ask of pods and how they make them."""

from __future__ import annotations

import copy

from .client import Object
from .controller import owner_reference


def condition(item: Object, kind: str) -> Object | None:
    """A condition of an object's status."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), None)


def is_true(item: Object, kind: str) -> bool:
    found = condition(item, kind)
    return found is not None and found["status"] == "True"


def phase(pod: Object) -> str:
    return (pod.get("status") or {}).get("phase", "Pending")


def is_terminating(item: Object) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether it runs or will run."""
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready")


def is_healthy(pod: Object) -> bool:
    """Running, ready and to stay: what a StatefulSet waits for before it goes on."""
    return phase(pod) == "Running" and is_ready(pod) and not is_terminating(pod)


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether labels satisfy a label selector (matchLabels and matchExpressions); an empty one takes all."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        value, values = labels.get(rule["key"]), rule.get("values") or []
        satisfied = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[rule["operator"]]
        if not satisfied:
            return False
    return True


def pod_from_template(owner: Object, template: Object, *, name: str = "", labels: dict[str, str]) -> Object:
    """A pod as its owner's template describes it; without a name the API server gives one."""
    metadata = copy.deepcopy(template.get("metadata") or {})
    made: Object = {
        "namespace": owner["metadata"]["namespace"],
        "labels": {**(metadata.get("labels") or {}), **labels},
        "annotations": metadata.get("annotations") or {},
        "ownerReferences": [owner_reference(owner)],
    }
    if name:
        made["name"] = name
    else:
        made["generateName"] = f"{owner['metadata']['name'][:57]}-"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": copy.deepcopy(template["spec"])}
