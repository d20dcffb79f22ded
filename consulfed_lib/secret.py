"""The federation secret: find it, validate it, compare it, copy it from API server to API server in memory.

It holds the server CA's key, the ACL replication token (admin in fact) and the gossip key: admin on the whole mesh.
What is shown of it: key names, sizes, and fingerprints keyed with the CA key itself, which are the same on every
machine and tell nothing to who lacks that key.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .cluster import Cluster
from .errors import SecretError
from .gateway import difference, listed
from .params import Federation
from .redact import Secret
from .results import Table

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

MANAGED_BY = {"managed-by": "consul-k8s"}
_PRIVATE_KEY = serialization.PublicFormat.SubjectPublicKeyInfo


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
        else "run 01-primary-setup first; it ends when the secret is there",
    )


def expected_keys(params: Federation) -> set[str]:
    """The keys that the secret has for this federation's settings (consul-k8s create-federation-secret)."""
    keys = {"caCert", "caKey", "serverConfigJSON"}
    if params.acls:
        keys.add("replicationToken")
    if params.gossip_encryption:
        keys.add("gossipEncryptionKey")
    return keys


def mistakes(secret: FederationSecret, params: Federation, live_gateways: set[str] | None) -> list[str]:
    """Everything that is wrong with a federation secret, in sentences without a value of it.

    Args:
        live_gateways: `host:port` of the primary's gateways as the Service has them now; None: not compared.
    """
    wrong: list[str] = []
    expected = expected_keys(params)
    wrong += [f"the key {key} is missing" for key in sorted(expected - set(secret.data))]
    wrong += [
        f"the key {key} is there, but this federation's settings turn it off"
        for key in sorted(set(secret.data) - expected)
    ]
    wrong += _ca_mistakes(secret)
    wrong += _config_mistakes(secret, params, live_gateways)
    if "gossipEncryptionKey" in secret.data:
        try:
            size = len(base64.b64decode(secret.data["gossipEncryptionKey"].text(), validate=True))
        except ValueError:  # binascii.Error is one; text that is not ASCII is another
            size = 0
        if size not in (16, 24, 32):
            wrong.append("gossipEncryptionKey is not the base64 of 16, 24 or 32 bytes")
    if "replicationToken" in secret.data and not _UUID.fullmatch(secret.data["replicationToken"].text()):
        wrong.append("replicationToken is not a UUID")
    return wrong


def _ca_mistakes(secret: FederationSecret) -> list[str]:
    if not {"caCert", "caKey"} <= set(secret.data):
        return []
    wrong, certificate, key = [], None, None
    for name in ("caCert", "caKey"):
        value = secret.data[name].reveal()
        if b"-----BEGIN" not in value:
            twice = re.fullmatch(rb"[A-Za-z0-9+/=\s]+", value) and b"-----BEGIN" in _decoded(value)
            wrong.append(f"{name} is base64 twice over" if twice else f"{name} is not PEM")
    if wrong:
        return wrong
    try:
        certificate = x509.load_pem_x509_certificate(secret.data["caCert"].reveal())
    except ValueError:
        wrong.append("caCert is not a certificate in PEM")
    try:
        key = serialization.load_pem_private_key(secret.data["caKey"].reveal(), None)
    except (ValueError, TypeError):
        wrong.append("caKey is not a private key in PEM")
    if certificate and key:
        encoding = serialization.Encoding.DER
        if certificate.public_key().public_bytes(encoding, _PRIVATE_KEY) != key.public_key().public_bytes(
            encoding, _PRIVATE_KEY
        ):
            wrong.append("caKey does not belong to caCert")
    return wrong + (_expiry_mistakes(certificate) if certificate else [])


def _expiry_mistakes(certificate: x509.Certificate) -> list[str]:
    wrong = []
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        wrong.append(f"caCert expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_ca = constraints.ca
    except x509.ExtensionNotFound:
        is_ca = False
    return wrong if is_ca else [*wrong, "caCert is not the certificate of a CA"]


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value)
    except binascii.Error:
        return b""


def _config_mistakes(
    secret: FederationSecret, params: Federation, live_gateways: set[str] | None
) -> list[str]:
    if "serverConfigJSON" not in secret.data:
        return []
    try:
        config = secret.server_config()
    except ValueError:
        return ["serverConfigJSON is not JSON"]
    wrong = []
    if not isinstance(config, dict) or set(config) != {"primary_datacenter", "primary_gateways"}:
        return ["serverConfigJSON does not hold just primary_datacenter and primary_gateways"]
    if config["primary_datacenter"] != params.primary.datacenter:
        wrong.append(
            f"serverConfigJSON names the primary {config['primary_datacenter']!r};"
            f" expected {params.primary.datacenter!r}"
        )
    given = config["primary_gateways"] or []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        return [*wrong, "primary_gateways in serverConfigJSON is no list of texts"]
    gateways = secret.gateways()
    wrong += [
        f"{g!r} is no gateway address; expected host:port" for g in sorted(gateways) if not _is_address(g)
    ]
    if not gateways:
        wrong.append("serverConfigJSON names no primary gateway")
    if live_gateways is not None and gateways != live_gateways:
        wrong.append(
            f"serverConfigJSON names the gateways {listed(gateways)}, but the primary has"
            f" {listed(live_gateways)}: {difference(gateways, live_gateways)}"
        )
    return wrong


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


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
