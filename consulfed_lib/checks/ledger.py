"""The trust ledger: every credential that datacenters share or depend on. The same everywhere? Until when?

Read first, in every datacenter at the same time if you like (`holdings.hold`); the checks and the table then judge
what was read, without a request of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..params import Federation
from ..results import MARKS, Finding, Severity, Table, several
from ..secret.faults import Fault
from . import Check, authorities, check, credentials
from .certificates import Limits
from .credentials import Credential, Entry
from .holdings import Holdings

Judge = Callable[[Holdings, Holdings, Limits], Iterator[Entry]]
"""What a datacenter holds, what the primary holds, thresholds → one entry a place."""


class Ledger(Table):
    """Every credential in every place, those of one kind together."""

    kind = "ledger"
    columns = ("credential", "datacenter", "where", "fingerprint", "expires", "days_left", "verdict")

    def _cell(self, row: Credential, column: str) -> str:
        if column == "verdict":
            return f"{MARKS[row.verdict]} {row.verdict}"
        if column == "expires":
            return row.expires[:10]
        return "" if getattr(row, column) is None else super()._cell(row, column)

    def summary(self) -> str:
        first, bad = calendar(self.rows)[:1], [row for row in self.rows if row.verdict != "ok"]
        words = [several(len(self.rows), "row")]
        words += [f"the first to expire is the {each.credential}, on {each.expires[:10]}" for each in first]
        counts = {v: sum(row.verdict == v for row in bad) for v in ("error", "warning", "skipped")}
        return "; ".join([*words, *(f"{n} {verdict}" for verdict, n in counts.items() if n)])


@dataclass(frozen=True)
class Expiry:
    """A credential and its end, once for all places where it is kept.

    Attributes:
        datacenters: those that hold it, in the ledger's order.
        verdict: the worst of its rows.
    """

    expires: str
    days_left: int
    credential: str
    datacenters: tuple[str, ...]
    fingerprint: str
    verdict: Severity


_WORST: tuple[Severity, ...] = ("error", "warning", "skipped", "ok")


def calendar(rows: Iterable[Credential]) -> list[Expiry]:
    """What expires, the first to expire first."""
    groups: dict[tuple[str, str, str], list[Credential]] = {}
    for row in rows:
        if row.expires:
            groups.setdefault((row.expires, row.credential, row.fingerprint), []).append(row)
    return [
        Expiry(
            expires, same[0].days_left or 0, credential, tuple(dict.fromkeys(row.datacenter for row in same)),
            fingerprint, min((row.verdict for row in same), key=_WORST.index),
        )
        for (expires, credential, fingerprint), same in sorted(groups.items())
    ]  # fmt: skip


# The checks: one a kind of credential, in one datacenter; `here` is the primary itself where it is the primary's turn.


def _said(self: Check, subject: str, entries: Iterable[Entry]) -> Iterator[Finding]:
    """What is wrong, said once where it is the same in several places; or that all is well."""
    entries = list(entries)
    wrong: dict[tuple[str, Fault], list[str]] = {}
    for each in entries:
        for fault in each.faults:
            wrong.setdefault((each.row.credential, fault), []).append(each.row.where)
    for (credential, fault), places in wrong.items():
        say = self.error if fault.severity == "error" else self.warning
        yield say(subject, f"{credential} ({'; '.join(places)}): {fault.found}", fault.hint)
    unseen = [each for each in entries if each.unseen]
    for each in unseen:
        yield self.skipped(subject, f"{each.row.credential} ({each.row.where}): {each.unseen}")
    if not wrong and not unseen:
        yield self.ok(subject, "; ".join(dict.fromkeys(map(_well, entries))))


def _well(entry: Entry) -> str:
    row = entry.row
    until = f" until {row.expires[:10]}" if row.expires else ""
    return f"{row.credential} {row.fingerprint}{until}" + (f", {entry.note}" if entry.note else "")


@check("federation-secret", "the datacenter's federation secret is the primary's, key by key")
def federation_secret(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, credentials.federation_secret(here, primary, limits))


@check("server-ca", "the servers' CA is the same in every place where it is kept, and lasts")
def server_ca(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, authorities.server_ca(here, primary, limits))


@check(
    "server-certificate",
    "the servers' certificate, stored and shown, is by that CA, has its names, and lasts",
)
def server_certificate(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, authorities.server_certificate(here, primary, limits))


@check("gossip-key", "the datacenter has the primary's gossip key")
def gossip_key(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, credentials.gossip_key(here, primary, limits))


@check("replication-token", "the datacenter has the primary's replication token, which the primary accepts")
def replication_token(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, credentials.replication_token(here, primary, limits))


@check(
    "connect-ca", "the mesh has one root everywhere; a secondary signs with an intermediate of it; both last"
)
def connect_ca(
    self: Check, subject: str, here: Holdings, primary: Holdings, limits: Limits
) -> Iterator[Finding]:
    yield from _said(self, subject, authorities.connect_ca(here, primary, limits))


def _asked(params: Federation) -> list[tuple[Check, Judge]]:
    """What the federation's settings ask for, in the order of cause and consequence."""
    pairs: list[tuple[Check, Judge, bool]] = [
        (federation_secret, credentials.federation_secret, True),
        (server_ca, authorities.server_ca, True),
        (server_certificate, authorities.server_certificate, True),
        (gossip_key, credentials.gossip_key, params.gossip_encryption),
        (replication_token, credentials.replication_token, params.acls),
        (connect_ca, authorities.connect_ca, True),
    ]
    return [(check, judge) for check, judge, asked in pairs if asked]


LEDGER_CHECKS = (federation_secret, server_ca, server_certificate, gossip_key, replication_token, connect_ca)
"""In the order of cause and consequence, for the layers of a verification."""


def look_at_credentials(held: Sequence[Holdings], limits: Limits) -> list[Finding]:
    """Every check on what was read in every datacenter; the first is the primary."""
    primary = held[0]
    return [
        finding
        for check, _ in _asked(primary.dc.params)
        for here in held
        for finding in check(here.dc.name, here, primary, limits)
    ]


def ledger(held: Sequence[Holdings], limits: Limits) -> Ledger:
    """Every row of every datacenter; the first is the primary."""
    primary = held[0]
    rows = [
        entry.row
        for _, judge in _asked(primary.dc.params)
        for here in held
        for entry in judge(here, primary, limits)
    ]
    found = Ledger("Trust ledger", rows)
    found.about = {"expiry_warning_days": limits.warning_days, "expiry_error_days": limits.error_days}
    return found
