"""Certificates as Consul's own tools make them: P-256 keys, a CA named Consul Agent CA, wildcards for servers."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650

_SERIAL_BITS = 127
"""As positive 128-bit number; in decimal it must fit into a common name (64 characters) beside the words."""

_CLOCK_SKEW = timedelta(minutes=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_ca(common_name: str) -> tuple[bytes, bytes]:
    """A new CA that may sign server certificates only: (certificate PEM, key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = secrets.randbits(_SERIAL_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{common_name} {serial}")])
    usage = _key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key, serial, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    return _certificate_pem(builder.sign(key, hashes.SHA256())), _key_pem(key)


def make_server_certificate(
    ca_certificate: bytes,
    ca_key: bytes,
    common_name: str,
    names: Iterable[str],
    days: int,
    *,
    begins: datetime | None = None,
) -> tuple[bytes, bytes]:
    """A certificate for servers that are also clients of each other: (certificate PEM, key PEM).

    Args:
        names: DNS names and IP addresses, each once.
        days: how long it is valid.
        begins: from when on; from now on where it is not said.

    Raises ValueError when the CA's certificate or key is not PEM, or the two do not belong together.
    """
    authority = x509.load_pem_x509_certificate(ca_certificate)
    signer = serialization.load_pem_private_key(ca_key, password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the CA's private key is neither an EC nor an RSA key")
    if authority.public_key() != signer.public_key():
        raise ValueError("the CA's private key does not belong to the CA's certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(subject, authority.subject, key, x509.random_serial_number(), days, begins)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_encipherment=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(_authority_key_identifier(authority, signer), critical=False)
    )
    return _certificate_pem(builder.sign(signer, hashes.SHA256())), _key_pem(key)


def _authority_key_identifier(authority: x509.Certificate, signer: PrivateKey) -> x509.AuthorityKeyIdentifier:
    # The CA may come from elsewhere, with an identifier made in another way.
    try:
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    serial: int,
    days: int,
    begins: datetime | None = None,
) -> x509.CertificateBuilder:
    now = begins or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _key_usage(**used: bool) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
