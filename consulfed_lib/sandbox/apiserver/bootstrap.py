"""What is in a cluster before anyone writes to it: namespaces, built-in roles, a storage class, a Service."""

from __future__ import annotations

from typing import Any

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_AUTHENTICATED = "system:authenticated"
_UNAUTHENTICATED = "system:unauthenticated"
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
"""kube-system's uid is the identity of the cluster: clients compare it to tell two clusters apart."""


def _rule(groups: str, resources: str, verbs: list[str]) -> dict[str, Any]:
    return {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
        "verbs": verbs,
    }


_PUBLIC = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY = [*_PUBLIC, "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]

_VIEW = [
    _rule(
        "core",
        "bindings configmaps endpoints events limitranges namespaces namespaces/status "
        "persistentvolumeclaims persistentvolumeclaims/status pods pods/log pods/status "
        "replicationcontrollers replicationcontrollers/scale replicationcontrollers/status resourcequotas "
        "resourcequotas/status serviceaccounts services services/status",
        _READ,
    ),
    _rule(
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "
        "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
        _READ,
    ),
    _rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", _READ),
    _rule("batch", "cronjobs cronjobs/status jobs jobs/status", _READ),
    _rule("discovery.k8s.io", "endpointslices", _READ),
    _rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", _READ),
    _rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", _READ),
]
_EDIT = [
    _rule("core", "pods/attach pods/exec pods/portforward secrets services/proxy", _READ),
    _rule("core", "serviceaccounts", ["impersonate"]),
    _rule(
        "core",
        "configmaps events persistentvolumeclaims pods pods/attach pods/exec pods/portforward "
        "replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services",
        _WRITE,
    ),
    _rule("core", "pods/eviction serviceaccounts/token", ["create"]),
    _rule(
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "
        "statefulsets statefulsets/scale",
        _WRITE,
    ),
    _rule("autoscaling", "horizontalpodautoscalers", _WRITE),
    _rule("batch", "cronjobs jobs", _WRITE),
    _rule("networking.k8s.io", "ingresses networkpolicies", _WRITE),
    _rule("policy", "poddisruptionbudgets", _WRITE),
    _rule("coordination.k8s.io", "leases", _READ + _WRITE),
]
_ADMIN = [
    _rule("authorization.k8s.io", "localsubjectaccessreviews", ["create"]),
    _rule("rbac.authorization.k8s.io", "rolebindings roles", _READ + _WRITE),
]


def _role(name: str, rules: list[dict[str, Any]], **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **labels},
        },
        "rules": rules,
    }


def _aggregate(name: str, source: str, **labels: str) -> dict[str, Any]:
    role = _role(name, [], **labels)
    role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + source: "true"}}]}
    return role


def _binding(name: str, role: str, *groups: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group} for group in groups
        ],
    }


def objects() -> list[dict[str, Any]]:
    """Objects to create in an empty cluster, in this order; the caller's rules fill in the rest."""
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]
    reviews = [
        _rule("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", ["create"]),
        _rule("authentication.k8s.io", "selfsubjectreviews", ["create"]),
    ]
    delegator = [
        _rule("authentication.k8s.io", "tokenreviews", ["create"]),
        _rule("authorization.k8s.io", "subjectaccessreviews", ["create"]),
    ]
    everything = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    roles = [
        _role("cluster-admin", everything),
        _role("system:discovery", [{"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}]),
        _role("system:public-info-viewer", [{"nonResourceURLs": _PUBLIC, "verbs": ["get"]}]),
        _role("system:basic-user", reviews),
        _role("system:auth-delegator", delegator),
        _role("system:aggregate-to-view", _VIEW, **{_AGGREGATE + "view": "true"}),
        _role("system:aggregate-to-edit", _EDIT, **{_AGGREGATE + "edit": "true"}),
        _role("system:aggregate-to-admin", _ADMIN, **{_AGGREGATE + "admin": "true"}),
        _aggregate("view", "view", **{_AGGREGATE + "edit": "true"}),
        _aggregate("edit", "edit", **{_AGGREGATE + "admin": "true"}),
        _aggregate("admin", "admin"),
    ]
    bindings = [
        _binding("cluster-admin", "cluster-admin", "system:masters"),
        _binding("system:discovery", "system:discovery", _AUTHENTICATED),
        _binding("system:basic-user", "system:basic-user", _AUTHENTICATED),
        _binding("system:public-info-viewer", "system:public-info-viewer", _AUTHENTICATED, _UNAUTHENTICATED),
    ]
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "sandbox.consulfed/folder",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    return [*namespaces, *roles, *bindings, storage_class]


def kubernetes_service(port: int, target_port: int) -> dict[str, Any]:
    """The Service through which pods reach the API server."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {"ports": [{"name": "https", "port": port, "protocol": "TCP", "targetPort": target_port}]},
    }
