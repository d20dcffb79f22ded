"""What is in use in a Consul that lives already: a shop in the mesh, and services of machines outside Kubernetes."""

from __future__ import annotations

from typing import Any

SHOP = "shop"
"""Namespace of the workloads."""

SERVED, CALLER = "inventory", "storefront"
"""Two Deployments: the second calls the first, on port UPSTREAM of its localhost."""

PORT, UPSTREAM = 5678, 1234
ANSWER = "in-stock"

_ANNOTATION = "consul.hashicorp.com"

_PLURALS = {
    "Namespace": "namespaces",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "Deployment": "deployments",
    "ServiceIntentions": "serviceintentions",
}


def plural(kind: str) -> str:
    """The resource of a kind that is made here."""
    return _PLURALS[kind]


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def secret(namespace: str, name: str, text: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": text}


def settings(kind: str, namespace: str, name: str, text: dict[str, str]) -> dict[str, Any]:
    """A ConfigMap or a Secret of settings."""
    if kind == "Secret":
        return secret(namespace, name, text)
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": text}


def registrations() -> list[dict[str, Any]]:
    """Bodies of PUT /v1/catalog/register: machines that no agent runs on, their checks written by hand.

    The addresses are of a block for documentation (RFC 5737): nobody is there.
    """
    return [
        {
            "Node": f"{service}-{number}",
            "Address": f"192.0.2.{base + number}",
            "NodeMeta": {"external-node": "true", "rack": f"r{number}"},
            "Service": {"ID": f"{service}-{number}", "Service": service, "Port": port, "Tags": ["v1"]},
            "Checks": [
                {
                    "Node": f"{service}-{number}",
                    "CheckID": f"{service}-{number}-up",
                    "Name": "seen by operations",
                    "ServiceID": f"{service}-{number}",
                    "Status": "passing",
                }
            ],
        }
        for service, base, port in (("web", 10, 80), ("api", 20, 8080))
        for number in (1, 2)
    ]


def shop() -> list[dict[str, Any]]:
    """All objects of the two workloads, in the order in which they are made."""
    serving = {
        "image": "hashicorp/http-echo:1.0",
        "args": [f"-listen=:{PORT}", f"-text={ANSWER}"],
        "ports": [{"containerPort": PORT}],
    }
    calling = {"image": "curlimages/curl:8.11.1", "command": ["sleep", "infinity"]}
    upstream = {f"{_ANNOTATION}/connect-service-upstreams": f"{SERVED}:{UPSTREAM}"}
    intention = {
        "apiVersion": f"{_ANNOTATION}/v1alpha1",
        "kind": "ServiceIntentions",
        "metadata": {"name": SERVED, "namespace": SHOP},
        "spec": {"destination": {"name": SERVED}, "sources": [{"name": CALLER, "action": "allow"}]},
    }
    return [
        namespace(SHOP),
        *_workload(SERVED, serving, {f"{_ANNOTATION}/connect-service-port": str(PORT)}),
        *_workload(CALLER, calling, upstream),
        intention,
    ]


def _workload(name: str, container: dict[str, Any], annotations: dict[str, str]) -> list[dict[str, Any]]:
    metadata = {"name": name, "namespace": SHOP, "labels": {"app": name}}
    template = {
        "metadata": {
            "labels": {"app": name},
            "annotations": {f"{_ANNOTATION}/connect-inject": "true", **annotations},
        },
        # With ACLs a workload signs in to Consul as the service account that has its name.
        "spec": {"serviceAccountName": name, "containers": [{"name": name, **container}]},
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
        },
    ]
