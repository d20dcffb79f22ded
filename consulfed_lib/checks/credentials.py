"""Each credential that datacenters share or depend on, judged: one entry of the trust ledger a place where it is kept.

An entry is a row for the table and what is wrong with it, so that the table and the checks cannot disagree. No value
is shown: certificates have the fingerprint that everybody can compute, secrets one keyed with the federation's CA key.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from ..results import Severity
from ..secret import FederationSecret, same
from ..secret.faults import Fault
from .certificates import Limits, of_dates
from .holdings import Holdings, Token, Unseen

REMAKE = "let the primary's release make the federation secret again: run 01-primary-setup"


@dataclass(frozen=True)
class Credential:
    """A credential in one place.

    Attributes:
        where: the Secret and its key, the server that shows it, or Consul's state.
        fingerprint: the same in two rows where the credential is the same; empty where it could not be read.
        expires: in UTC (ISO 8601, whole seconds); empty: never, or not known.
        days_left: whole days until then, negative once it is over.
        verdict: the worst that was found; `skipped` where it could not be looked at.
    """

    datacenter: str
    credential: str
    where: str
    fingerprint: str
    expires: str
    days_left: int | None
    verdict: Severity


@dataclass(frozen=True)
class Entry:
    """A row with its reasons.

    Attributes:
        unseen: what could not be looked at, and why; what could be is judged all the same.
        note: what else there is to say where all is well.
    """

    row: Credential
    faults: tuple[Fault, ...] = ()
    unseen: str = ""
    note: str = ""


def entry(
    here: Holdings,
    limits: Limits,
    credential: str,
    where: str,
    fingerprint: str = "",
    end: datetime | None = None,
    faults: Iterable[Fault] = (),
    unseen: str = "",
    note: str = "",
) -> Entry:
    """An entry whose verdict is the worst of its faults.

    Args:
        end: when the credential expires; None: never, or not known.
    """
    faults = tuple(faults)
    verdict: Severity = "skipped" if unseen else "ok"
    if faults:
        verdict = "error" if any(each.severity == "error" for each in faults) else "warning"
    expires = f"{end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if end else ""
    left = limits.days_left(end) if end else None
    row = Credential(here.dc.name, credential, where, fingerprint, expires, left, verdict)
    return Entry(row, faults, unseen, note)


# The federation secret, and what is in it


def federation_secret(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The federation secret as a whole: each copy holds what the primary's holds."""
    name, where, faults = "federation secret", here.secret_where, []
    if not isinstance(here.secret, FederationSecret):
        faults = [] if here.secret else [Fault("it is not there", anew(here))]
        yield entry(here, limits, name, where, faults=faults, unseen=why_unseen(here.secret))
        return
    original = primary.secret
    if not isinstance(original, FederationSecret):
        yield entry(here, limits, name, where, unseen=no_original(primary))
        return
    if not same(original, here.secret):
        keys = original.data.keys() | here.secret.data.keys()
        differing = sorted(key for key in keys if original.data.get(key) != here.secret.data.get(key))
        words = f"it differs from the one in {primary.dc.name} in {', '.join(differing)}"
        faults.append(Fault(words, anew(here)))
    prints = here.secret.fingerprints(original.fingerprint_key)
    whole = hmac.new(original.fingerprint_key, json.dumps(prints).encode(), sha256).hexdigest()[:12]
    yield entry(here, limits, name, where, whole, faults=faults)


def gossip_key(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The gossip key: every server of every datacenter has the same one."""
    yield _shared(here, primary, limits, "gossip key", "gossipEncryptionKey")


def replication_token(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The replication token: the same everywhere, and the primary accepts it."""
    yield _shared(here, primary, limits, "replication token", "replicationToken", primary.token)


def _shared(
    here: Holdings,
    primary: Holdings,
    limits: Limits,
    name: str,
    key: str,
    token: Token | Unseen | None = None,
) -> Entry:
    """A secret value of the federation secret, compared with the primary's by its keyed fingerprint.

    Args:
        token: what the primary says of its own, which holds for every other one that is the same.
    """
    where = f"{here.secret_where} {key}"
    if not isinstance(here.secret, FederationSecret):
        return entry(here, limits, name, where, unseen=why_unseen(here.secret) or "the secret is not there")
    value, original = here.secret.data.get(key), primary.secret
    if value is None:
        return entry(here, limits, name, where, faults=[Fault("the key is missing", anew(here))])
    if not isinstance(original, FederationSecret):
        return entry(here, limits, name, where, unseen=no_original(primary))
    faults, end, unseen, note = [], None, "", ""
    if value != original.data.get(key):
        faults.append(Fault(f"it is another one than in {primary.dc.name}", f"{anew(here)}; {here.restart}"))
    elif isinstance(token, Unseen):
        unseen = token.why
    elif token and token.refusal:
        kept = f"{primary.dc.of.namespace}/{primary.dc.fullname}-acl-replication-acl-token"
        hint = (
            f"see whether the secret {kept} holds another one; run 01-primary-setup, then 02-secret-transfer"
        )
        faults.append(Fault(f"{primary.dc.name} does not accept it: {token.refusal}", hint))
    elif token:
        note = f"accepted by {primary.dc.name}, its accessor is {token.accessor}"
        if token.expires:
            end = datetime.fromisoformat(token.expires)
            faults += of_dates(limits, None, end, "make a replication token that does not expire")
    fingerprint = value.fingerprint(original.fingerprint_key)
    return entry(here, limits, name, where, fingerprint, end, faults, unseen, note)


def anew(here: Holdings) -> str:
    """How a datacenter gets its federation secret anew."""
    return REMAKE if here.is_primary else f"run 02-secret-transfer for {here.dc.name}"


def why_unseen(secret: FederationSecret | Unseen | None) -> str:
    return secret.why if isinstance(secret, Unseen) else ""


def no_original(primary: Holdings) -> str:
    why = why_unseen(primary.secret) or "it is not there"
    return f"there is no federation secret of {primary.dc.name} to compare with: {why}"
