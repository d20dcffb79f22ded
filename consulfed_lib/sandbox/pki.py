"""The keys of a cluster: its CA, the API server's certificate, and the key that signs service account tokens.

The CA and the signing key are made once and stay with the sandbox's state, also over a restart: the CA's
fingerprint is what a cluster is known by. The serving certificate is made at each start, for the address of
that start. All files are readable by the user only.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .state import write_private

_CA_DAYS, _SERVING_DAYS = 3650, 365
_SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True)
class ClusterKeys:
    """Paths of the serving certificate and its key, the CA as PEM, and the HMAC key of tokens (32 bytes)."""

    certificate: Path
    private_key: Path
    ca_pem: str
    service_account_key: bytes


def prepare(folder: Path, name: str, addresses: list[str]) -> ClusterKeys:
    """The keys of the cluster of that name, made where they are not there yet.

    Args:
        addresses: the IP addresses at which the API server is reached.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_file, ca_key_file, hmac_file = folder / "ca.crt", folder / "ca.key", folder / "service-account.key"
    if not ca_file.exists():
        # The certificate comes last: where it is, the other two are as well.
        write_private(hmac_file, secrets.token_bytes(32))
        ca_key = ec.generate_private_key(ec.SECP256R1())
        write_private(ca_key_file, _key_pem(ca_key))
        write_private(ca_file, _pem(_make_ca(name, ca_key)))
    ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
    loaded = serialization.load_pem_private_key(ca_key_file.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    certificate, private_key = folder / "serving.crt", folder / "serving.key"
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(private_key, _key_pem(key))
    write_private(certificate, _pem(_make_serving(ca, loaded, key, addresses)))
    return ClusterKeys(certificate, private_key, ca_file.read_text(), hmac_file.read_bytes())


def balancer_tls(name: str) -> ssl.SSLContext:
    """A server's TLS with a certificate for that name, by a CA that nobody knows: of a load balancer that ends TLS."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _make_ca(f"load balancer of {name}", ca_key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, ca.subject, key.public_key(), _SERVING_DAYS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # In memory only: OpenSSL takes a key from a file alone.
    descriptor = os.memfd_create("balancer")
    try:
        os.write(descriptor, _pem(certificate) + _key_pem(key))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _make_ca(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"consulfed sandbox {name}")])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(subject, subject, public, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _make_serving(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    addresses: list[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    names += [x509.DNSName(name) for name in _SERVICE_NAMES]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(subject, ca.subject, key.public_key(), _SERVING_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A little in the past, for a clock that was just set back.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
