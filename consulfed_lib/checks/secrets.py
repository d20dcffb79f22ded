"""The federation secret: the primary's own, and a secondary's copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..cluster import Cluster
from ..gateway import listed, live_addresses
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding
from ..secret import FederationSecret, find, read, same
from ..secret.faults import Fault, faults
from . import Check, check


@check(
    "secret-complete",
    "the primary's federation secret holds all that is needed, and its gateway's address of now",
)
def secret_complete(
    self: Check, subject: str, params: Federation, primary: Cluster, must_be_there: bool
) -> Iterator[Finding]:
    of = params.primary
    if not must_be_there and read(primary, of.namespace, params.secret_name) is None:
        yield self.warning(
            subject, f"{of.namespace}/{params.secret_name} is not there yet", "01-primary-setup makes it"
        )
        return
    secret = find(primary, params)
    live = live_addresses(primary, of.namespace, params.fullname(of), params.gateway(of))
    wrong = faults(secret, params, live or None)
    yield from _said(self, subject, wrong)
    if not live:  # that no gateway runs, or has an address, is the gateway's own checks to say
        yield self.warning(
            subject,
            f"no gateway has an address now, with which the secret's could be compared: {listed(secret.gateways())}",
            "see what is said of the gateways; run this again when one has an address",
        )
    elif not wrong:
        yield self.ok(
            subject,
            f"{len(secret.data)} keys, CA and key belong together, gateway {listed(secret.gateways())}",
        )


@check("secret-copy", "the secondary's copy of the federation secret is complete and equals the primary's")
def secret_copy(
    self: Check,
    subject: str,
    params: Federation,
    primary: Cluster,
    of: ClusterParams,
    secondary: Cluster,
    must_be_there: bool,
) -> Iterator[Finding]:
    name, hint = f"{of.namespace}/{params.secret_name}", f"run 02-secret-transfer for {of.datacenter}"
    copy = read(secondary, of.namespace, params.secret_name)
    if copy is None:
        missing = self.error if must_be_there else self.warning
        yield missing(subject, f"{name} is not there", hint)
        return
    original = read(primary, params.primary.namespace, params.secret_name)
    wrong = faults(copy, params, holder=of)
    if original is not None and same(original, copy):
        # Of what works so far, the primary's own row warns; it need not be said again for each copy.
        wrong = [each for each in wrong if each.severity == "error"]
    else:  # what is wrong with the copy alone, a copy of the original mends
        wrong = [replace(each, hint=hint) for each in wrong]
    if original is None:
        wrong.append(Fault("the primary's is not there to compare with", "run 01-primary-setup"))
    elif not same(original, copy):
        differing = ", ".join(_differing(original, copy))
        wrong.append(Fault(f"it differs from the primary's in {differing}", hint))
    yield from _said(self, subject, [replace(each, found=f"{name}: {each.found}") for each in wrong])
    if not wrong:
        yield self.ok(subject, f"{name}: {len(copy.data)} keys, equal to the primary's")


def _said(self: Check, subject: str, wrong: list[Fault]) -> Iterator[Finding]:
    for each in wrong:
        say = self.error if each.severity == "error" else self.warning
        yield say(subject, each.found, each.hint)


def _differing(one: FederationSecret, other: FederationSecret) -> list[str]:
    return sorted(
        key for key in one.data.keys() | other.data.keys() if one.data.get(key) != other.data.get(key)
    )


@check("key-equal", "a key of the copy has the fingerprint of the original's")
def key_equal(
    self: Check, subject: str, original: FederationSecret, copy: FederationSecret | None
) -> Iterator[Finding]:
    if copy is None:
        yield self.error(subject, "there is no copy", "run this notebook again")
        return
    key = original.fingerprint_key
    ours, theirs = original.fingerprints(key), copy.fingerprints(key)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) == theirs.get(name):
            yield self.ok(subject, f"{name}: fingerprint {ours[name]} on both sides")
        else:
            yield self.error(subject, f"{name} differs", "run this notebook again")
