"""Subresources that are no part of their object: scale, token, eviction, binding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from .auth import AUDIENCE
from .cluster import Cluster
from .deletion import Deleter, delete_options
from .resources import Resource
from .rest import Rest, WriteOptions
from .selectors import match_label_selector
from .status import ApiError, bad_request, conflict, invalid, invalid_value, not_found
from .store import Object, now

_SHORTEST_TOKEN = 600


def scale_of(obj: Object) -> Object:
    """The autoscaling/v1 Scale of a workload."""
    selector = obj["spec"].get("selector") or {}
    labels = selector.get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: obj["metadata"][key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        },
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": (obj.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def set_scale(rest: Rest, resource: Resource, obj: Object, scale: Any, options: WriteOptions) -> Object:
    """Write a changed Scale back to its workload."""
    replicas = (scale.get("spec") or {}).get("replicas", 0) if isinstance(scale, dict) else None
    name = obj["metadata"]["name"]
    if not isinstance(replicas, int) or replicas < 0:
        why = "must be greater than or equal to 0"
        raise invalid("Scale", "autoscaling", name, [invalid_value("spec.replicas", replicas, why)])
    wanted = (scale.get("metadata") or {}).get("resourceVersion")
    if wanted not in (None, "", obj["metadata"]["resourceVersion"]):
        raise conflict(resource.plural, resource.group, name)
    return scale_of(rest.modify(resource, obj, lambda new: new["spec"].update(replicas=replicas), options))


def create_token(cluster: Cluster, account: Object, body: Any) -> Object:
    """Answer a TokenRequest for a service account."""
    if not isinstance(body, dict) or body.get("kind", "TokenRequest") != "TokenRequest":
        raise bad_request("a TokenRequest is expected")
    spec = body.get("spec") or {}
    name, namespace = account["metadata"]["name"], account["metadata"]["namespace"]
    seconds = spec.get("expirationSeconds") or 3600
    if seconds < _SHORTEST_TOKEN:
        why = "may not specify a duration less than 10 minutes"
        raise invalid(
            "TokenRequest",
            "authentication.k8s.io",
            name,
            [invalid_value("spec.expirationSeconds", seconds, why)],
        )
    bound = None
    reference = spec.get("boundObjectRef")
    if reference:
        plural = {"Pod": "pods", "Secret": "secrets"}.get(reference.get("kind", ""))
        if plural is None:
            raise bad_request(f"cannot bind token for serviceaccount to {reference.get('kind')!r}")
        held = cluster.store.get(("", plural), namespace, reference.get("name", ""))
        if held is None:
            raise not_found(plural, "", reference.get("name", ""))
        if reference.get("uid") not in (None, "", held["metadata"]["uid"]):
            why = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record"
            )
            raise conflict(plural, "", reference["name"], why)
        if plural == "pods" and held["spec"].get("serviceAccountName") != name:
            raise bad_request(
                f"cannot bind token for serviceaccount {name!r} to pod running with different serviceaccount name."
            )
        bound = (plural[:-1], held)
    audiences = spec.get("audiences") or [AUDIENCE]
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now()},
        "spec": {
            "audiences": list(audiences),
            "expirationSeconds": seconds,
            "boundObjectRef": reference or None,
        },
        "status": {
            "token": cluster.authenticator.sign(account, audiences, seconds, bound),
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }


def evict(cluster: Cluster, deleter: Deleter, resource: Resource, pod: Object, body: Any) -> None:
    """Delete a pod as an Eviction asks for it; 429 when a disruption budget forbids it."""
    labels = pod["metadata"].get("labels") or {}
    namespace = pod["metadata"]["namespace"]
    for budget in cluster.store.list(("policy", "poddisruptionbudgets"), namespace):
        selector = budget["spec"].get("selector")
        if selector is None or not match_label_selector(selector, labels):
            continue
        allowed = (budget.get("status") or {}).get("disruptionsAllowed", 0)
        if allowed <= 0 and (pod.get("status") or {}).get("phase") == "Running":
            raise ApiError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                {
                    "causes": [
                        {
                            "reason": "DisruptionBudget",
                            "message": f"The disruption budget {budget['metadata']['name']} does not allow it now",
                        }
                    ]
                },
                {"Retry-After": "10"},
            )
    options = (body.get("deleteOptions") if isinstance(body, dict) else None) or {}
    deleter.delete(resource, pod, delete_options(options, {}))


def bind(rest: Rest, resource: Resource, pod: Object, body: Any, options: WriteOptions) -> None:
    """Put a pod on a node, as a scheduler does."""
    target = (body.get("target") or {}).get("name") if isinstance(body, dict) else None
    name = pod["metadata"]["name"]
    if not target:
        raise invalid("Binding", "", name, [invalid_value("target.name", "", "a node is required")])
    if pod["spec"].get("nodeName"):
        raise conflict(
            "pods/binding", "", name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        )
    stored = {**pod, "spec": {**pod["spec"], "nodeName": target}}
    if not options.dry_run:
        rest.store.put(resource.storage_key, stored)
