"""Certificates as the trust ledger judges them: dates against two thresholds, who signed what, names, fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from ..results import several
from ..secret.faults import Fault

_DIGITS = 16
CLOCK = "wait, or set the clock of the machine that made it or of this one right"


@dataclass(frozen=True)
class Limits:
    """How long before its end a credential is worth a warning, and from when on an error.

    Attributes:
        warning_days, error_days: what has less than that left is a warning, or an error.
        at: the moment at which is judged, the same for all that is compared.
    """

    warning_days: float = 60
    error_days: float = 7
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def within(self, certificate: x509.Certificate) -> Limits:
        """The limits of what Consul renews by itself at half of its life: less than a third left means that it did
        not. A short life has shorter ones, or what is always renewed in time would always be warned of."""
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        days = life / timedelta(days=1)
        return Limits(min(self.warning_days, days / 3), min(self.error_days, days / 10), self.at)

    def days_left(self, end: datetime) -> int:
        """Whole days until then; negative once it is over."""
        return (end - self.at).days


def of_dates(limits: Limits, start: datetime | None, end: datetime, hint: str) -> Iterator[Fault]:
    """What is wrong with the dates of a credential.

    Args:
        hint: how it is renewed.
    """
    left = end - limits.at
    if left <= timedelta(0):
        yield Fault(f"it expired on {end:%Y-%m-%d %H:%M} UTC", hint)
    elif start is not None and start > limits.at:
        yield Fault(f"it is not valid until {start:%Y-%m-%d %H:%M} UTC", CLOCK)
    else:
        soon = f"it expires on {end:%Y-%m-%d %H:%M} UTC, in {several(left.days, 'day')}"
        if left < timedelta(days=limits.error_days):
            yield Fault(soon, hint)
        elif left < timedelta(days=limits.warning_days):
            yield Fault(soon, hint, "warning")


def of_certificate(limits: Limits, certificate: x509.Certificate, hint: str) -> Iterator[Fault]:
    """What is wrong with the dates of a certificate."""
    yield from of_dates(limits, certificate.not_valid_before_utc, certificate.not_valid_after_utc, hint)


def is_valid_at(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc


def load(pem: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM, in their order; empty where it holds none that can be read."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def fingerprint(certificate: x509.Certificate) -> str:
    """The first sixteen hex digits of the SHA-256, as `openssl x509 -fingerprint -sha256` begins, without colons."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:_DIGITS]


def key_id(certificate: x509.Certificate) -> str:
    """The subject key identifier as Consul writes it (`SigningKeyID`): `6e:3f:…`; empty where there is none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return found.value.digest.hex(":")


def missing_names(certificate: x509.Certificate, needed: Iterable[str]) -> list[str]:
    """Those of the DNS names that it is not made out to, a wildcard taken as it stands."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return list(needed)
    names = {name.lower() for name in found.value.get_values_for_type(x509.DNSName)}
    return [name for name in needed if name.lower() not in names]


def leads_to(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether the first of a chain was signed by one that is trusted, through others of the chain if need be.

    Signatures and names only; dates are judged apart, so that what expired is not taken for another CA's.
    """
    here, others = chain[0], list(chain[1:])
    while not any(_signed(here, each) for each in trusted):
        above = next((each for each in others if _signed(here, each)), None)
        if above is None:
            return False
        others.remove(above)
        here = above
    return True


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):  # another name, another kind of key, another key
        return False
    return True
