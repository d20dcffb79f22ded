"""Secrets as consul-k8s keeps them: bytes in, bytes out, marked as its own."""

from __future__ import annotations

from base64 import b64decode, b64encode

from ..controllers.client import KubeClient, KubeError, Object

MANAGED_BY = {"managed-by": "consul-k8s"}
"""The label by which the consul-k8s CLI finds what it may remove after an uninstall."""


async def read_secret(client: KubeClient, namespace: str, name: str) -> dict[str, bytes] | None:
    """The Secret's data decoded, or None when there is no such Secret."""
    secret = await client.find("v1", "secrets", name, namespace)
    if secret is None:
        return None
    return {key: b64decode(value) for key, value in (secret.get("data") or {}).items()}


def secret_object(namespace: str, name: str, data: dict[str, bytes], kind: str = "Opaque") -> Object:
    """A Secret with that data."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "type": kind,
        "data": {key: b64encode(value).decode() for key, value in data.items()},
    }


async def create_secret(
    client: KubeClient,
    namespace: str,
    name: str,
    data: dict[str, bytes],
    kind: str = "Opaque",
    *,
    owner: Object | None = None,
) -> None:
    """Create it; KubeError 409 AlreadyExists when it is there. It goes when its owner goes."""
    secret = secret_object(namespace, name, data, kind)
    if owner is not None:
        metadata = owner["metadata"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        secret["metadata"]["ownerReferences"] = [
            {**reference, "name": metadata["name"], "uid": metadata["uid"]}
        ]
    await client.create("v1", "secrets", secret, namespace)


async def write_secret(
    client: KubeClient, namespace: str, name: str, data: dict[str, bytes], kind: str = "Opaque"
) -> bool:
    """Create it or put it in the place of the one that is there; whether it was there.

    No `get`: the Jobs' roles do not all allow it.
    """
    try:
        await create_secret(client, namespace, name, data, kind)
    except KubeError as error:
        if error.reason != "AlreadyExists":
            raise
        await client.replace("v1", "secrets", name, secret_object(namespace, name, data, kind), namespace)
        return True
    return False
