"""Answers as metav1.Table: the columns that `kubectl get` prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .resources import Resource
from .store import Object

_Column = tuple[str, str, int, Callable[[Object], Any]]
"""(name, type, priority, cell)"""


def _get(obj: Any, path: str, default: Any = None) -> Any:
    for part in path.split("."):
        if not isinstance(obj, dict) or obj.get(part) is None:
            return default
        obj = obj[part]
    return obj


def age(timestamp: str | None) -> str:
    """How long ago, as kubectl writes it: 12s, 5m30s, 3h4m, 2d5h, 40d.

    >>> age(None)
    '<unknown>'
    """
    if not timestamp:
        return "<unknown>"
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    seconds = max(int((datetime.now(UTC) - moment).total_seconds()), 0)
    return duration(seconds)


def duration(seconds: int) -> str:
    """Seconds as apimachinery's HumanDuration.

    >>> [duration(n) for n in (5, 125, 4000, 40000, 180000, 900000)]
    ['5s', '2m5s', '66m', '11h', '2d2h', '10d']
    """
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y{days % 365}d"


def _column(name: str, cell: Callable[[Object], Any], kind: str = "string", priority: int = 0) -> _Column:
    return (name, kind, priority, cell)


def _field(name: str, path: str, default: Any = "<none>", kind: str = "string", priority: int = 0) -> _Column:
    return _column(name, lambda obj: _get(obj, path, default), kind, priority)


def _count(name: str, path: str) -> _Column:
    return _column(name, lambda obj: len(_get(obj, path, ())), "integer")


def _joined(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values) or "<none>"


def _containers(path: str) -> list[_Column]:
    return [
        _column("Containers", lambda o: _joined([c["name"] for c in _get(o, path, ())]), priority=1),
        _column("Images", lambda o: _joined([c.get("image", "") for c in _get(o, path, ())]), priority=1),
    ]


def _selector(obj: Object) -> str:
    selector = _get(obj, "spec.selector", {})
    labels = selector.get("matchLabels", {}) if "matchLabels" in selector else selector
    return _joined([f"{key}={value}" for key, value in labels.items() if isinstance(value, str)])


_TEMPLATE = "spec.template.spec.containers"
_AGE = _column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))
_SELECTOR = _column("Selector", _selector, priority=1)


def _pod_ready(pod: Object) -> str:
    statuses = _get(pod, "status.containerStatuses", ())
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(_get(pod, 'spec.containers', ()))}"


def _pod_restarts(pod: Object) -> str:
    return str(sum(s.get("restartCount", 0) for s in _get(pod, "status.containerStatuses", ())))


def _pod_status(pod: Object) -> str:
    """What is most worth knowing of a pod, in one word."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    reason = _get(pod, "status.reason") or _get(pod, "status.phase", "Unknown")
    starting = _get(pod, "status.initContainerStatuses", ())
    for position, status in enumerate(starting):
        ended = _get(status, "state.terminated")
        if ended is not None and not ended.get("exitCode"):
            continue
        if ended is not None:
            return "Init:" + (ended.get("reason") or f"ExitCode:{ended['exitCode']}")
        waiting = _get(status, "state.waiting.reason")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{position}/{len(starting)}"
    for status in reversed(_get(pod, "status.containerStatuses", ())):
        state = status.get("state") or {}
        if _get(state, "waiting.reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
    return reason


def _external_ip(service: Object) -> str:
    kind = _get(service, "spec.type", "ClusterIP")
    if kind == "ExternalName":
        return _get(service, "spec.externalName", "<none>")
    addresses = [
        i.get("ip") or i.get("hostname", "") for i in _get(service, "status.loadBalancer.ingress", ())
    ]
    addresses += _get(service, "spec.externalIPs", [])
    if addresses:
        return ",".join(addresses)
    return "<pending>" if kind == "LoadBalancer" else "<none>"


def _service_ports(service: Object) -> str:
    return _joined(
        [
            f"{p['port']}:{p['nodePort']}/{p['protocol']}"
            if p.get("nodePort")
            else f"{p['port']}/{p['protocol']}"
            for p in _get(service, "spec.ports", ())
        ]
    )


def _job_duration(job: Object) -> str:
    start, end = _get(job, "status.startTime"), _get(job, "status.completionTime")
    if not start:
        return ""
    if not end:
        return age(start)
    moments = [datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (start, end)]
    return duration(int((moments[1] - moments[0]).total_seconds()))


def _job_status(job: Object) -> str:
    true = [c["type"] for c in _get(job, "status.conditions", ()) if c.get("status") == "True"]
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in true:
            return kind
    return "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"


def _node_status(node: Object) -> str:
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in _get(node, "status.conditions", ())
    )
    return ("Ready" if ready else "NotReady") + (
        ",SchedulingDisabled" if _get(node, "spec.unschedulable") else ""
    )


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return _joined(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))


def _node_address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        addresses = _get(node, "status.addresses", ())
        return next((a["address"] for a in addresses if a.get("type") == kind), "<none>")

    return cell


def _subjects(kind: str) -> Callable[[Object], str]:
    def cell(binding: Object) -> str:
        held = [s for s in binding.get("subjects") or () if s.get("kind") == kind]
        if kind == "ServiceAccount":
            return ", ".join(f"{s.get('namespace', '')}/{s['name']}" for s in held)
        return ", ".join(s["name"] for s in held)

    return cell


_ROLE = _column("Role", lambda b: f"{b['roleRef']['kind']}/{b['roleRef']['name']}")
_BINDING = [
    _ROLE,
    _AGE,
    *(
        _column(name, _subjects(kind), priority=1)
        for name, kind in (("Users", "User"), ("Groups", "Group"), ("ServiceAccounts", "ServiceAccount"))
    ),
]
_CREATED_AT = _column("Created At", lambda o: o["metadata"].get("creationTimestamp", ""))
_COLUMNS: dict[tuple[str, str], list[_Column]] = {
    ("", "pods"): [
        _column("Ready", _pod_ready),
        _column("Status", _pod_status),
        _column("Restarts", _pod_restarts),
        _AGE,
        _field("IP", "status.podIP", priority=1),
        _field("Node", "spec.nodeName", priority=1),
        _field("Nominated Node", "status.nominatedNodeName", priority=1),
        _column("Readiness Gates", lambda pod: "<none>", priority=1),
    ],
    ("", "services"): [
        _field("Type", "spec.type"),
        _field("Cluster-IP", "spec.clusterIP"),
        _column("External-IP", _external_ip),
        _column("Port(s)", _service_ports),
        _AGE,
        _SELECTOR,
    ],
    ("", "configmaps"): [
        _column("Data", lambda o: len(o.get("data") or ()) + len(o.get("binaryData") or ()), "integer"),
        _AGE,
    ],
    ("", "secrets"): [_field("Type", "type"), _count("Data", "data"), _AGE],
    ("", "serviceaccounts"): [_count("Secrets", "secrets"), _AGE],
    ("", "namespaces"): [_field("Status", "status.phase"), _AGE],
    ("", "nodes"): [
        _column("Status", _node_status),
        _column("Roles", _node_roles),
        _AGE,
        _field("Version", "status.nodeInfo.kubeletVersion"),
        _column("Internal-IP", _node_address("InternalIP"), priority=1),
        _column("External-IP", _node_address("ExternalIP"), priority=1),
        _field("OS-Image", "status.nodeInfo.osImage", "<unknown>", priority=1),
        _field("Kernel-Version", "status.nodeInfo.kernelVersion", "<unknown>", priority=1),
        _field("Container-Runtime", "status.nodeInfo.containerRuntimeVersion", "<unknown>", priority=1),
    ],
    ("", "persistentvolumeclaims"): [
        _field("Status", "status.phase"),
        _field("Volume", "spec.volumeName", ""),
        _field("Capacity", "status.capacity.storage", ""),
        _column("Access Modes", lambda o: _access_modes(_get(o, "status.accessModes", ()))),
        _field("StorageClass", "spec.storageClassName", ""),
        _field("VolumeAttributesClass", "spec.volumeAttributesClassName", "<unset>"),
        _AGE,
        _field("VolumeMode", "spec.volumeMode", "Filesystem", priority=1),
    ],
    ("", "events"): [
        _column(
            "Last Seen",
            lambda o: age(
                o.get("lastTimestamp") or o.get("eventTime") or o["metadata"].get("creationTimestamp")
            ),
        ),
        _field("Type", "type"),
        _field("Reason", "reason"),
        _column(
            "Object",
            lambda o: f"{_get(o, 'involvedObject.kind', '').lower()}/{_get(o, 'involvedObject.name', '')}",
        ),
        _field("Message", "message", ""),
    ],
    ("", "endpoints"): [
        _column("Endpoints", lambda o: _endpoints(o)),
        _AGE,
    ],
    ("apps", "deployments"): [
        _column("Ready", lambda o: f"{_get(o, 'status.readyReplicas', 0)}/{_get(o, 'spec.replicas', 0)}"),
        _field("Up-to-date", "status.updatedReplicas", 0, "integer"),
        _field("Available", "status.availableReplicas", 0, "integer"),
        _AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("apps", "statefulsets"): [
        _column("Ready", lambda o: f"{_get(o, 'status.readyReplicas', 0)}/{_get(o, 'spec.replicas', 0)}"),
        _AGE,
        *_containers(_TEMPLATE),
    ],
    ("apps", "daemonsets"): [
        _field("Desired", "status.desiredNumberScheduled", 0, "integer"),
        _field("Current", "status.currentNumberScheduled", 0, "integer"),
        _field("Ready", "status.numberReady", 0, "integer"),
        _field("Up-to-date", "status.updatedNumberScheduled", 0, "integer"),
        _field("Available", "status.numberAvailable", 0, "integer"),
        _column(
            "Node Selector",
            lambda o: _joined(
                [f"{k}={v}" for k, v in _get(o, "spec.template.spec.nodeSelector", {}).items()]
            ),
        ),
        _AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("apps", "replicasets"): [
        _field("Desired", "spec.replicas", 0, "integer"),
        _field("Current", "status.replicas", 0, "integer"),
        _field("Ready", "status.readyReplicas", 0, "integer"),
        _AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("batch", "jobs"): [
        _column("Status", _job_status),
        _column(
            "Completions", lambda o: f"{_get(o, 'status.succeeded', 0)}/{_get(o, 'spec.completions', 1)}"
        ),
        _column("Duration", _job_duration),
        _AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("rbac.authorization.k8s.io", "roles"): [_CREATED_AT],
    ("rbac.authorization.k8s.io", "clusterroles"): [_CREATED_AT],
    ("rbac.authorization.k8s.io", "rolebindings"): _BINDING,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _BINDING,
    ("apiextensions.k8s.io", "customresourcedefinitions"): [_CREATED_AT],
    ("policy", "poddisruptionbudgets"): [
        _field("Min Available", "spec.minAvailable", "N/A"),
        _field("Max Unavailable", "spec.maxUnavailable", "N/A"),
        _field("Allowed Disruptions", "status.disruptionsAllowed", 0, "integer"),
        _AGE,
    ],
    ("coordination.k8s.io", "leases"): [_field("Holder", "spec.holderIdentity", ""), _AGE],
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): [_count("Webhooks", "webhooks"), _AGE],
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): [
        _count("Webhooks", "webhooks"),
        _AGE,
    ],
}


def _access_modes(modes: Sequence[str]) -> str:
    short = {
        "ReadWriteOnce": "RWO",
        "ReadOnlyMany": "ROX",
        "ReadWriteMany": "RWX",
        "ReadWriteOncePod": "RWOP",
    }
    return ",".join(short.get(mode, mode) for mode in modes)


def _endpoints(obj: Object) -> str:
    found = [
        f"{address.get('ip', '')}:{port.get('port', '')}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "<none>"


def _custom_column(declared: dict[str, Any]) -> _Column:
    path, kind = declared["jsonPath"], declared.get("type", "string")

    def cell(obj: Object) -> Any:
        value = json_path(obj, path)
        if kind == "date":
            return age(value) if value else "<unknown>"
        return value

    return (declared["name"], kind, declared.get("priority", 0), cell)


def json_path(obj: Any, path: str) -> Any:
    """The first value at a printer column's JSON path; None where there is none.

    >>> json_path({"c": [{"type": "A", "status": "x"}]}, '.c[?(@.type=="A")].status')
    'x'
    """
    steps = re.findall(
        r"""\.([\w-]+)|\.?\['([^']+)'\]|\[(\d+|\*)\]|\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]|\.((?:\\.|[^.\[\\])+)""",
        path,
    )
    for name, quoted, index, key, wanted, escaped in steps:
        if index or key:
            if not isinstance(obj, list):
                return None
            if key:
                obj = next((item for item in obj if _get(item, key) == wanted), None)
            else:
                position = 0 if index == "*" else int(index)
                obj = obj[position] if position < len(obj) else None
        else:
            field = name or quoted or escaped.replace("\\", "")
            obj = obj.get(field) if isinstance(obj, dict) else None
        if obj is None:
            return None
    return obj


def _columns_of(resource: Resource) -> list[_Column]:
    if resource.custom:
        return [_custom_column(column) for column in resource.columns] or [_AGE]
    return _COLUMNS.get(resource.storage_key, [_AGE])


def table(
    resource: Resource, objects: Sequence[Object], parameters: Mapping[str, str], revision: str
) -> dict[str, Any]:
    """Objects as a Table. A real one sends each row's metadata along, and so does this."""
    name = _column("Name", lambda obj: obj["metadata"]["name"])
    columns = [name, *_columns_of(resource)]
    definitions = [
        {
            "name": title,
            "type": kind,
            "format": "name" if title == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for title, kind, priority, _ in columns
    ]
    rows = [
        {
            "cells": [cell(obj) for _, _, _, cell in columns],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            },
        }
        for obj in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{parameters.get('v', 'v1')}",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": definitions,
        "rows": rows,
    }
