"""May the runbook do what it has to? Each right that is missing is found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..results import Finding
from . import Check, check, run_together

if TYPE_CHECKING:
    from .preflight import Target

RBAC, HOOKS = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
READ_AND_WRITE = ("get", "create", "patch")
PERMISSIONS: tuple[tuple[str, str, str, bool], ...] = (
    # verb, resource, group, in the namespace of the release (else cluster-wide)
    ("get", "namespaces", "", False),
    ("create", "namespaces", "", False),
    ("list", "nodes", "", False),
    *(
        (verb, "secrets", "", True)
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete")
    ),
    *((verb, "services", "", True) for verb in (*READ_AND_WRITE, "list", "watch")),
    *((verb, "pods", "", True) for verb in ("get", "list", "watch")),
    *((verb, "serviceaccounts", "", True) for verb in READ_AND_WRITE),
    *((verb, "configmaps", "", True) for verb in READ_AND_WRITE),
    ("list", "persistentvolumeclaims", "", True),
    *((verb, "statefulsets", "apps", True) for verb in (*READ_AND_WRITE, "list", "watch")),
    *((verb, "deployments", "apps", True) for verb in (*READ_AND_WRITE, "list", "watch")),
    *((verb, "poddisruptionbudgets", "policy", True) for verb in READ_AND_WRITE),
    *((verb, "jobs", "batch", True) for verb in (*READ_AND_WRITE, "list", "watch", "delete")),
    *((verb, "roles", RBAC, True) for verb in READ_AND_WRITE),
    *((verb, "rolebindings", RBAC, True) for verb in READ_AND_WRITE),
    *((verb, "clusterroles", RBAC, False) for verb in READ_AND_WRITE),
    *((verb, "clusterrolebindings", RBAC, False) for verb in READ_AND_WRITE),
    *((verb, "mutatingwebhookconfigurations", HOOKS, False) for verb in READ_AND_WRITE),
    *((verb, "customresourcedefinitions", "apiextensions.k8s.io", False) for verb in READ_AND_WRITE),
    *((verb, "proxydefaults", "consul.hashicorp.com", True) for verb in (*READ_AND_WRITE, "list", "watch")),
)
SUBRESOURCES = (
    # A WebSocket begins with a GET, which older API servers take for the verb; newer ones want create as well.
    *((verb, "pods", sub) for verb in ("get", "create") for sub in ("exec", "portforward")),
    ("get", "pods", "log"),
)


@check("permissions", "every verb that the run will need is allowed")
def permissions(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    namespace = target.of.namespace
    asked = [(v, r, g, namespace if inside else "", "") for v, r, g, inside in PERMISSIONS]
    asked += [(verb, resource, "", namespace, sub) for verb, resource, sub in SUBRESOURCES]

    def denied(row: tuple[str, str, str, str, str]) -> list[Finding]:
        verb, resource, group, where, sub = row
        if target.cluster.may(verb, resource, where, group, sub):
            return []
        name = f"{resource}/{sub}" if sub else f"{resource}.{group}" if group else resource
        scope = f"in namespace {where}" if where else "cluster-wide"
        return [
            self.error(
                subject, f"may not {verb} {name} {scope}", "ask for this right, or use another context"
            )
        ]

    missing = run_together(partial(denied, row) for row in asked)
    yield from missing or [self.ok(subject, f"all {len(asked)} rights are there")]
