"""Objects of a trial in one cluster: made, found again by their label, deleted, and looked for until they are gone.

Paths follow from an object's own apiVersion and kind, so that nothing else has to know these kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ..cluster import FIELD_MANAGER, Cluster
from ..errors import ClusterError
from .manifests import LABEL

Object = dict[str, Any]

KINDS = {
    "ServiceIntentions": ("consul.hashicorp.com/v1alpha1", "serviceintentions"),
    "Deployment": ("apps/v1", "deployments"),
    "Pod": ("v1", "pods"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
}
"""Kind → (apiVersion, plural), in the order in which they are deleted: first what lets traffic through."""


def path(kind: str, namespace: str, name: str = "") -> str:
    """The API path of a kind in a namespace, or of one object of it.

    >>> path("Deployment", "x", "y")
    '/apis/apps/v1/namespaces/x/deployments/y'
    """
    version, plural = KINDS[kind]
    found = (
        f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{quote(namespace, safe='')}/{plural}"
    )
    return f"{found}/{quote(name, safe='')}" if name else found


def apply(cluster: Cluster, manifest: Mapping[str, Any]) -> Object:
    """Server-side apply. Raises ClusterError."""
    metadata = manifest["metadata"]
    return cluster.request(
        "PATCH",
        path(manifest["kind"], metadata["namespace"], metadata["name"]),
        manifest,
        query={"fieldManager": FIELD_MANAGER, "force": "true"},
        content_type="application/apply-patch+yaml",
    )


def is_served(cluster: Cluster, kind: str, namespace: str) -> bool:
    """Whether the cluster knows the kind: a list of it is no 404, in whichever namespace."""
    try:
        cluster.request("GET", path(kind, namespace))
    except ClusterError as error:
        if error.status == 404:
            return False
        raise
    return True


def listed(cluster: Cluster, kind: str, namespace: str) -> list[Object]:
    """The objects of a kind that a trial made; none where the kind is not served."""
    try:
        found = cluster.request("GET", path(kind, namespace), query={"labelSelector": LABEL})
    except ClusterError as error:
        if error.status == 404:
            return []
        raise
    return found.get("items") or []


def everything(cluster: Cluster, namespace: str, *kinds: str) -> Iterator[tuple[str, Object]]:
    """(kind, object) of all that trials made there and that is still there; of these kinds, or of every one."""
    for kind in kinds or KINDS:
        for found in listed(cluster, kind, namespace):
            yield kind, found


def delete(cluster: Cluster, kind: str, found: Mapping[str, Any]) -> None:
    """Delete an object and what it owns; one that is gone already is as good. Raises ClusterError."""
    metadata = found["metadata"]
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    try:
        cluster.request("DELETE", path(kind, metadata["namespace"], metadata["name"]), body)
    except ClusterError as error:
        if error.status != 404:
            raise
