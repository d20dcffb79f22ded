"""What one datacenter holds of the credentials that a federation shares, each read once; judged elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography import x509

from ..cluster import Cluster
from ..errors import ClusterError, ConsulfedError, SecretError
from ..redact import Secret
from ..secret import FederationSecret
from ..values import consul_domain, merged
from ..values.facts import get
from .federation import Datacenter

T = TypeVar("T")
_CERTIFICATE = "tls.crt"


@dataclass(frozen=True)
class Unseen:
    """What could not be looked at, and why."""

    why: str


@dataclass(frozen=True)
class Stored:
    """A certificate in a Secret of the chart's, or of the user's own.

    Attributes:
        where: `namespace/name`, as people write it.
        pem: the value of its key, None where the Secret or the key is not there.
        own: whether the values name that Secret; else the chart makes it.
    """

    where: str
    pem: bytes | None = field(repr=False)
    own: bool


@dataclass(frozen=True)
class Shown:
    """The certificate that a server shows, and why it is not trusted, in OpenSSL's words; empty: it is."""

    certificate: x509.Certificate
    refused: str = ""


@dataclass(frozen=True)
class Token:
    """The replication token as the primary knows it.

    Attributes:
        accessor: its public id; empty where the primary does not know the token.
        expires: as Consul writes it (RFC 3339); empty: never.
        refusal: Consul's words where it does not know it.
    """

    accessor: str
    expires: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class Holdings:
    """What one datacenter holds.

    Attributes:
        secret: the federation secret, in a secondary its copy; None where it is not there.
        domain: Consul's DNS domain.
        ca: the primary's own server CA, from which the federation secret was made; None in a secondary.
        stored: the servers' certificate as the next start of a server loads it.
        shown: the one that a server shows now.
        roots: the answer of `/v1/connect/ca/roots`.
        token: the replication token in the primary; None elsewhere, and without ACLs.
    """

    dc: Datacenter
    secret: FederationSecret | Unseen | None
    domain: str
    ca: Stored | Unseen | None
    stored: Stored | Unseen
    shown: Shown | Unseen
    roots: dict[str, Any] | Unseen = field(repr=False)
    token: Token | Unseen | None

    @property
    def is_primary(self) -> bool:
        return self.dc.of == self.dc.params.primary

    @property
    def restart(self) -> str:
        """The command that restarts the servers."""
        of = self.dc.of
        return (
            f"kubectl --context {of.context} -n {of.namespace} rollout restart"
            f" statefulset/{self.dc.fullname}-server"
        )

    @property
    def secret_where(self) -> str:
        return f"{self.dc.of.namespace}/{self.dc.params.secret_name}"


def hold(dc: Datacenter, secret: FederationSecret | Unseen | None) -> Holdings:
    """Read what a datacenter holds: one request each, all of them on the one connection to its Consul.

    Raises ParamsError when a file of values cannot be read any more; whatever else goes wrong is `Unseen`.

    Args:
        secret: its federation secret, as it was read already; None where there is none.
    """
    values, primary = merged(dc.params, dc.of).values, dc.of == dc.params.primary
    return Holdings(
        dc,
        secret,
        consul_domain(values),
        _seen(lambda: _stored(dc, values, "global.tls.caCert", "ca-cert")) if primary else None,
        _seen(lambda: _stored(dc, values, "server.serverCert", "server-cert")),
        _seen(lambda: _shown(dc)),
        _seen(dc.consul.ca_roots),
        _seen(lambda: _token(dc)) if primary and dc.params.acls else None,
    )


def _seen(look: Callable[[], T]) -> T | Unseen:
    try:
        return look()
    except ConsulfedError as error:
        return Unseen(error.found)


def _stored(dc: Datacenter, values: dict[str, Any], path: str, suffix: str) -> Stored:
    """The certificate in the Secret that the values name at `path`, else in the chart's own, `<fullname>-<suffix>`."""
    own = get(values, f"{path}.secretName") or ""
    key = (own and get(values, f"{path}.secretKey")) or _CERTIFICATE
    name = own or f"{dc.fullname}-{suffix}"
    where = f"{dc.of.namespace}/{name}"
    return Stored(where, _read(dc.cluster, dc.of.namespace, name, key), bool(own))


def _read(cluster: Cluster, namespace: str, name: str, key: str) -> bytes | None:
    """One key of a Secret. A certificate is public; what stands beside it comes along and counts as secret."""
    found = cluster.get("secrets", namespace, name)
    value = None
    for each, encoded in ((found or {}).get("data") or {}).items():
        try:
            decoded = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise SecretError(
                f"The key {each} of secret {namespace}/{name} in {cluster.context} is not base64."
            ) from None
        if each == key:
            value = decoded
        else:
            Secret(each, decoded)
    return value


def _shown(dc: Datacenter) -> Shown:
    found = dc.consul.certificate()
    return Shown(x509.load_der_x509_certificate(found.der), found.refused)


def _token(dc: Datacenter) -> Token:
    """What the primary says of the token that it is asked with. The answer holds the token itself, which ends here."""
    try:
        found = dc.consul.get("acl/token/self")
    except ClusterError as error:
        if error.status in (401, 403, 404):
            return Token("", refusal=error.found)
        raise
    return Token(found["AccessorID"], found.get("ExpirationTime") or "")
