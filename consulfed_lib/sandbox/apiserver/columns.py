"""The columns that `kubectl get` prints of built-in kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from .store import Object

Column = tuple[str, str, int, Callable[[Object], Any]]
"""(name, type, priority, cell); kubectl prints columns of a priority above 0 only with `-o wide`."""


def get(obj: Any, path: str, default: Any = None) -> Any:
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


def _column(name: str, cell: Callable[[Object], Any], kind: str = "string", priority: int = 0) -> Column:
    return (name, kind, priority, cell)


def _field(name: str, path: str, default: Any = "<none>", kind: str = "string", priority: int = 0) -> Column:
    return _column(name, lambda obj: get(obj, path, default), kind, priority)


def _count(name: str, path: str) -> Column:
    return _column(name, lambda obj: len(get(obj, path, ())), "integer")


def _joined(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values) or "<none>"


def _containers(path: str) -> list[Column]:
    return [
        _column("Containers", lambda o: _joined([c["name"] for c in get(o, path, ())]), priority=1),
        _column("Images", lambda o: _joined([c.get("image", "") for c in get(o, path, ())]), priority=1),
    ]


def _selector(obj: Object) -> str:
    selector = get(obj, "spec.selector", {})
    labels = selector.get("matchLabels", {}) if "matchLabels" in selector else selector
    return _joined([f"{key}={value}" for key, value in labels.items() if isinstance(value, str)])


_TEMPLATE = "spec.template.spec.containers"
AGE = _column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))
_SELECTOR = _column("Selector", _selector, priority=1)


def _pod_ready(pod: Object) -> str:
    statuses = get(pod, "status.containerStatuses", ())
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(get(pod, 'spec.containers', ()))}"


def _pod_restarts(pod: Object) -> str:
    return str(sum(s.get("restartCount", 0) for s in get(pod, "status.containerStatuses", ())))


def _pod_status(pod: Object) -> str:
    """What is most worth knowing of a pod, in one word."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    reason = get(pod, "status.reason") or get(pod, "status.phase", "Unknown")
    starting = get(pod, "status.initContainerStatuses", ())
    for position, status in enumerate(starting):
        ended = get(status, "state.terminated")
        if ended is not None and not ended.get("exitCode"):
            continue
        if ended is not None:
            return "Init:" + (ended.get("reason") or f"ExitCode:{ended['exitCode']}")
        waiting = get(status, "state.waiting.reason")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{position}/{len(starting)}"
    for status in reversed(get(pod, "status.containerStatuses", ())):
        state = status.get("state") or {}
        if get(state, "waiting.reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
    return reason


def _external_ip(service: Object) -> str:
    kind = get(service, "spec.type", "ClusterIP")
    if kind == "ExternalName":
        return get(service, "spec.externalName", "<none>")
    addresses = [
        i.get("ip") or i.get("hostname", "") for i in get(service, "status.loadBalancer.ingress", ())
    ]
    addresses += get(service, "spec.externalIPs", [])
    if addresses:
        return ",".join(addresses)
    return "<pending>" if kind == "LoadBalancer" else "<none>"


def _service_ports(service: Object) -> str:
    return _joined(
        [
            f"{p['port']}:{p['nodePort']}/{p['protocol']}"
            if p.get("nodePort")
            else f"{p['port']}/{p['protocol']}"
            for p in get(service, "spec.ports", ())
        ]
    )


def _job_duration(job: Object) -> str:
    start, end = get(job, "status.startTime"), get(job, "status.completionTime")
    if not start:
        return ""
    if not end:
        return age(start)
    moments = [datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (start, end)]
    return duration(int((moments[1] - moments[0]).total_seconds()))


def _job_status(job: Object) -> str:
    true = [c["type"] for c in get(job, "status.conditions", ()) if c.get("status") == "True"]
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in true:
            return kind
    return "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"


def _node_status(node: Object) -> str:
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in get(node, "status.conditions", ())
    )
    return ("Ready" if ready else "NotReady") + (
        ",SchedulingDisabled" if get(node, "spec.unschedulable") else ""
    )


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return _joined(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))


def _node_address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        addresses = get(node, "status.addresses", ())
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
    AGE,
    *(
        _column(name, _subjects(kind), priority=1)
        for name, kind in (("Users", "User"), ("Groups", "Group"), ("ServiceAccounts", "ServiceAccount"))
    ),
]
_CREATED_AT = _column("Created At", lambda o: o["metadata"].get("creationTimestamp", ""))
COLUMNS: dict[tuple[str, str], list[Column]] = {
    ("", "pods"): [
        _column("Ready", _pod_ready),
        _column("Status", _pod_status),
        _column("Restarts", _pod_restarts),
        AGE,
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
        AGE,
        _SELECTOR,
    ],
    ("", "configmaps"): [
        _column("Data", lambda o: len(o.get("data") or ()) + len(o.get("binaryData") or ()), "integer"),
        AGE,
    ],
    ("", "secrets"): [_field("Type", "type"), _count("Data", "data"), AGE],
    ("", "serviceaccounts"): [_count("Secrets", "secrets"), AGE],
    ("", "namespaces"): [_field("Status", "status.phase"), AGE],
    ("", "nodes"): [
        _column("Status", _node_status),
        _column("Roles", _node_roles),
        AGE,
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
        _column("Access Modes", lambda o: _access_modes(get(o, "status.accessModes", ()))),
        _field("StorageClass", "spec.storageClassName", ""),
        _field("VolumeAttributesClass", "spec.volumeAttributesClassName", "<unset>"),
        AGE,
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
            lambda o: f"{get(o, 'involvedObject.kind', '').lower()}/{get(o, 'involvedObject.name', '')}",
        ),
        _field("Message", "message", ""),
    ],
    ("", "endpoints"): [
        _column("Endpoints", lambda o: _endpoints(o)),
        AGE,
    ],
    ("apps", "deployments"): [
        _column("Ready", lambda o: f"{get(o, 'status.readyReplicas', 0)}/{get(o, 'spec.replicas', 0)}"),
        _field("Up-to-date", "status.updatedReplicas", 0, "integer"),
        _field("Available", "status.availableReplicas", 0, "integer"),
        AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("apps", "statefulsets"): [
        _column("Ready", lambda o: f"{get(o, 'status.readyReplicas', 0)}/{get(o, 'spec.replicas', 0)}"),
        AGE,
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
            lambda o: _joined([f"{k}={v}" for k, v in get(o, "spec.template.spec.nodeSelector", {}).items()]),
        ),
        AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("apps", "replicasets"): [
        _field("Desired", "spec.replicas", 0, "integer"),
        _field("Current", "status.replicas", 0, "integer"),
        _field("Ready", "status.readyReplicas", 0, "integer"),
        AGE,
        *_containers(_TEMPLATE),
        _SELECTOR,
    ],
    ("batch", "jobs"): [
        _column("Status", _job_status),
        _column("Completions", lambda o: f"{get(o, 'status.succeeded', 0)}/{get(o, 'spec.completions', 1)}"),
        _column("Duration", _job_duration),
        AGE,
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
        AGE,
    ],
    ("coordination.k8s.io", "leases"): [_field("Holder", "spec.holderIdentity", ""), AGE],
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): [_count("Webhooks", "webhooks"), AGE],
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): [
        _count("Webhooks", "webhooks"),
        AGE,
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
