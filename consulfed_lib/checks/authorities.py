"""The CAs that a federation trusts, and the certificates that they signed, judged for the trust ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cryptography import x509

from ..secret import FederationSecret
from ..secret.faults import Fault
from .certificates import (
    Limits,
    fingerprint,
    is_valid_at,
    key_id,
    leads_to,
    load,
    missing_names,
    of_certificate,
)
from .credentials import REMAKE, Entry, anew, entry, no_original, why_unseen
from .holdings import Holdings, Stored, Unseen

_ROTATE_CA = "rotate the primary's server CA (the chart's tls.caCert), then run 01, 02 and 03 again"


# Certificates of the servers


def server_ca(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The CA of the servers' certificates: in the federation secret of each datacenter, and in the primary where
    that one was made from; more than one certificate while it is being rotated."""
    name, where = "server CA", f"{here.secret_where} caCert"
    if not isinstance(here.secret, FederationSecret):
        yield entry(here, limits, name, where, unseen=why_unseen(here.secret) or "the secret is not there")
    elif not (found := _cas(here)):
        yield entry(here, limits, name, where, faults=[Fault("it is no certificate in PEM", anew(here))])
    else:
        other = Fault(f"it is another one than in {primary.dc.name}", f"{anew(here)}; {here.restart}")
        yield from _ca_entries(here, primary, limits, where, found, other)
    if isinstance(here.ca, Unseen):
        yield entry(here, limits, name, "the chart's Secret", unseen=here.ca.why)
    elif here.ca is not None:
        if not (found := load(here.ca.pem or b"")):
            gone = "no certificate is in it; the next helm upgrade would make a CA that no secondary trusts"
            restore = Fault(
                gone, f"put caCert and caKey of {primary.secret_where} back into the chart's Secrets"
            )
            yield entry(here, limits, name, here.ca.where, faults=[restore])
        else:
            other = Fault(f"it is another one than the caCert of {here.secret_where}", REMAKE)
            yield from _ca_entries(here, primary, limits, here.ca.where, found, other)


def _ca_entries(
    here: Holdings, primary: Holdings, limits: Limits, where: str, found: list[x509.Certificate], other: Fault
) -> Iterator[Entry]:
    expected = _cas(primary)
    unseen = "" if expected else no_original(primary)
    strange = bool(expected) and set(found) != set(expected)
    for number, each in enumerate(found, 1):
        place = where if len(found) == 1 else f"{where} ({number} of {len(found)})"
        faults = [*([other] if strange else []), *of_certificate(limits, each, _ROTATE_CA)]
        yield _of(each, here, limits, "server CA", place, faults, unseen)


def server_certificate(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The servers' certificate, as stored and as shown. Every helm upgrade issues a new one (the chart's tls-init),
    and a server loads it when it starts (`auto_reload_config` is off), so that the two may differ for long."""
    name, stored, cas = "server certificate", here.stored, _cas(primary)
    kept = load(stored.pem or b"") if isinstance(stored, Stored) else []
    renew, faults = _renewal(here), []
    if isinstance(stored, Unseen):
        yield entry(here, limits, name, "stored", unseen=stored.why)
    elif not kept:
        yield entry(here, limits, name, stored.where, faults=[Fault("no certificate is in it", renew)])
    else:
        faults = [*_misnamed(here, kept[0], renew), *of_certificate(limits, kept[0], renew)]
        if cas and not leads_to(kept, cas):
            faults.append(Fault("it was not signed by the federation's server CA", renew))
        unseen = "" if cas else no_original(primary)
        yield _of(kept[0], here, limits, name, stored.where, faults, unseen)
    # A restart must not load what is worse than what is in use.
    mend = renew if any(each.severity == "error" for each in faults) else here.restart
    yield _shown(here, limits, kept, renew, mend)


def _shown(here: Holdings, limits: Limits, kept: list[x509.Certificate], renew: str, reload: str) -> Entry:
    name, where = "server certificate", f"shown by {here.dc.consul.pod}"
    if isinstance(here.shown, Unseen):
        return entry(here, limits, name, where, unseen=here.shown.why)
    certificate = here.shown.certificate
    stale = bool(kept) and kept[0] != certificate
    mend = reload if stale else renew
    misnamed = list(_misnamed(here, certificate, mend))
    faults = [*misnamed, *of_certificate(limits, certificate, mend)]
    # Dates and names are reasons of OpenSSL's, too, and are said in our own words above.
    if here.shown.refused and not misnamed and is_valid_at(certificate, limits.at):
        faults.append(Fault(f"the federation's server CA does not vouch for it: {here.shown.refused}", mend))
    if stale:
        why = "every helm upgrade issues a new one, and servers load it when they start"
        faults.append(Fault(f"it is not the one that is stored: {why}", reload, "warning"))
    return _of(certificate, here, limits, name, where, faults)


def _misnamed(here: Holdings, certificate: x509.Certificate, hint: str) -> Iterator[Fault]:
    """Other datacenters' servers ask for `<node>.server.<dc>.<domain>`, this datacenter's own for the first name."""
    own = f"server.{here.dc.name}.{here.domain.strip('.')}"
    if missing := missing_names(certificate, (own, f"*.{own}")):
        yield Fault(f"it is not made out to {' and '.join(missing)}", hint)


def _renewal(here: Holdings) -> str:
    of, chart = here.dc.of, here.dc.params.chart
    if isinstance(here.stored, Stored) and here.stored.own:
        return (
            f"put a new one, signed by the federation's server CA, into {here.stored.where}; {here.restart}"
        )
    repo = f" --repo {chart.repo}" if chart.repo else ""
    upgrade = (
        f"helm --kube-context {of.context} -n {of.namespace} upgrade {of.release} {chart.location}{repo}"
    )
    return f"{upgrade} --version {chart.version} --reuse-values issues a new one; then {here.restart}"


def _cas(holder: Holdings) -> list[x509.Certificate]:
    """The server CA in a datacenter's federation secret; empty where there is none that can be read."""
    value = holder.secret.data.get("caCert") if isinstance(holder.secret, FederationSecret) else None
    return load(value.reveal()) if value else []


def _of(
    certificate: x509.Certificate,
    here: Holdings,
    limits: Limits,
    name: str,
    where: str,
    faults: Iterable[Fault],
    unseen: str = "",
) -> Entry:
    end = certificate.not_valid_after_utc
    return entry(here, limits, name, where, fingerprint(certificate), end, faults, unseen)


# The service mesh's CA


def connect_ca(here: Holdings, primary: Holdings, limits: Limits) -> Iterator[Entry]:
    """The active root, the same everywhere, and the intermediate with which a secondary signs.

    Consul renews intermediates by itself at half of their life. A root's `SigningKeyID` is the key of the certificate
    that signs in this datacenter; what else stands in IntermediateCerts is of former ones, or a cross-signed root
    (agent/consul/leader_connect_ca.go).
    """
    log = f"see the leader's log in {here.dc.name} for its CA"
    if isinstance(here.roots, Unseen):
        yield entry(here, limits, "Connect root", "Consul's state", unseen=here.roots.why)
        return
    active = _active_root(here.roots)
    found = load(active.get("RootCert", "").encode())
    if not found:
        none = Fault("there is no active root", log)
        yield entry(here, limits, "Connect root", "Consul's state", faults=[none])
        return
    root, unseen, faults = found[0], "", []
    if isinstance(primary.roots, Unseen):
        unseen = f"there is no root of {primary.dc.name} to compare with: {primary.roots.why}"
    else:
        if found != load(_active_root(primary.roots).get("RootCert", "").encode()):
            faults.append(Fault(f"it is another one than in {primary.dc.name}", log))
        if here.roots.get("TrustDomain") != primary.roots.get("TrustDomain"):
            faults.append(Fault(f"its trust domain is another one than in {primary.dc.name}", log))
    rotate = f"rotate it in {primary.dc.name}: consul connect ca set-config"
    faults += of_certificate(limits, root, rotate)
    yield _of(root, here, limits, "Connect root", "Consul's state", faults, unseen)
    yield from _intermediate(here, limits, active, root, log)


def _intermediate(
    here: Holdings, limits: Limits, active: dict[str, Any], root: x509.Certificate, log: str
) -> Iterator[Entry]:
    name, where, signs = "Connect intermediate", "Consul's state", active.get("SigningKeyID")
    others = [each for pem in active.get("IntermediateCerts") or [] for each in load(pem.encode())]
    own = [each for each in others if key_id(each) == signs != key_id(root)]
    if not own:
        if not here.is_primary:  # the primary's root may sign by itself
            none = Fault("it has none of its own, without which it signs no certificate of a service", log)
            yield entry(here, limits, name, where, faults=[none])
        return
    newest = max(own, key=lambda each: each.not_valid_after_utc)
    mend = f"Consul renews it at half of its life: {log}, and that it reaches the primary"
    faults = list(of_certificate(limits.within(newest), newest, mend))
    if not leads_to([newest, *others], [root]):
        faults.append(Fault("it was not signed by the active root", log))
    yield _of(newest, here, limits, name, where, faults)


def _active_root(roots: dict[str, Any]) -> dict[str, Any]:
    """The active root in an answer of `/v1/connect/ca/roots`; empty where there is none."""
    return next((each for each in roots.get("Roots") or [] if each["ID"] == roots.get("ActiveRootID")), {})
