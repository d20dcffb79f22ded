"""The federation secret: find it, compare it, copy it from API server to API server in memory.

It holds the server CA's key, the ACL replication token (admin in fact) and the gossip key: admin on the whole mesh.
What is shown of it: key names, sizes, and fingerprints keyed with the CA key itself, which are the same on every
machine and tell nothing to who lacks that key.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography import x509

from ..cluster import Cluster
from ..errors import SecretError
from ..params import Federation
from ..redact import Secret
from ..results import Table

MANAGED_BY = {"managed-by": "consul-k8s"}


@dataclass(frozen=True)
class KeyRow:
    """One key of the secret, as far as it may be shown."""

    key: str
    bytes: int
    fingerprint: str


class Contents(Table):
    """Key names, sizes, fingerprints."""

    columns = ("key", "bytes", "fingerprint")

    def summary(self) -> str:
        return f"{len(self.rows)} keys, none shown"


@dataclass(frozen=True)
class FederationSecret:
    """The data of a federation secret. Its repr shows nothing of it."""

    name: str
    namespace: str
    data: dict[str, Secret]
    labels: dict[str, str]

    def __repr__(self) -> str:
        return f"<FederationSecret {self.namespace}/{self.name}: {', '.join(sorted(self.data))}, redacted>"

    @property
    def fingerprint_key(self) -> bytes:
        return sha256(self.data["caKey"].reveal() if "caKey" in self.data else b"").digest()

    def fingerprints(self, key: bytes | None = None) -> dict[str, str]:
        key = key or self.fingerprint_key
        return {name: value.fingerprint(key) for name, value in sorted(self.data.items())}

    def contents(self, title: str) -> Contents:
        prints = self.fingerprints()
        return Contents(title, [KeyRow(k, len(v), prints[k]) for k, v in sorted(self.data.items())])

    def server_config(self) -> dict[str, Any]:
        """`serverConfigJSON`: `{"primary_datacenter": …, "primary_gateways": ["host:port", …]}`."""
        return json.loads(self.data["serverConfigJSON"].reveal())

    def gateways(self) -> set[str]:
        """Addresses of the primary's mesh gateways; a set, because Consul writes them in random order."""
        return set(self.server_config().get("primary_gateways") or [])

    def ca_pem(self) -> str:
        """The server CA's certificate. Raises SecretError when there is none in PEM."""
        pem = self.data["caCert"].reveal() if "caCert" in self.data else b""
        try:
            x509.load_pem_x509_certificate(pem)
        except ValueError:
            raise SecretError(
                f"The secret {self.namespace}/{self.name} holds no caCert in PEM.",
                "let the primary's release make it again: run 01-primary-setup",
            ) from None
        return pem.decode()


def read(cluster: Cluster, namespace: str, name: str) -> FederationSecret | None:
    """Read the secret into memory; None if it is not there. Raises SecretError if it is not base64."""
    found = cluster.get("secrets", namespace, name)
    if found is None:
        return None
    data = {}
    for key, value in (found.get("data") or {}).items():
        try:
            data[key] = Secret(key, base64.b64decode(value, validate=True))
        except ValueError:
            raise SecretError(
                f"The key {key} of secret {namespace}/{name} in {cluster.context} is not base64.",
                "let the primary's release make it again (helm upgrade), then run 02-secret-transfer",
            ) from None
    return FederationSecret(name, namespace, data, found["metadata"].get("labels") or {})


def find(primary: Cluster, params: Federation) -> FederationSecret:
    """The primary's secret, by the chart's naming rule. Raises SecretError that says where it was looked for."""
    namespace, name = params.primary.namespace, params.secret_name
    found = read(primary, namespace, name)
    if found is not None:
        return found
    candidates = primary.list("secrets", namespace, "managed-by=consul-k8s")
    others = [s["metadata"]["name"] for s in candidates if s["metadata"]["name"].endswith("-federation")]
    raise SecretError(
        f"The federation secret {namespace}/{name} is not in {primary.context}"
        + (f"; there is {', '.join(others)}." if others else "."),
        "correct global_name, release or namespace in the parameters"
        if others
        else "run 01-primary-setup first, with dry_run false; it ends when the secret is there",
    )


def manifest(secret: FederationSecret, namespace: str, name: str) -> dict[str, Any]:
    """What is written into a secondary: the data and the label, none of the metadata of the original."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": MANAGED_BY},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.reveal()).decode() for key, value in secret.data.items()},
    }


def same(one: FederationSecret, other: FederationSecret | None) -> bool:
    """Whether both hold the same data, compared in constant time."""
    return (
        other is not None
        and set(one.data) == set(other.data)
        and all(one.data[key] == other.data[key] for key in one.data)
    )
