"""What is wrong with a federation secret: every fault in a sentence without a value of it, with what mends it.

The chart writes the secret and looks at nothing; a secondary with a bad one hangs in a state that says little. Here
the values are opened, and each is judged as the software that reads it would (consul-k8s create-federation-secret
for what it should be, Consul's own start for what it refuses).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ..gateway import dialled_by, difference, listed, split
from ..params import Cluster, Federation
from . import FederationSecret

REMAKE = "let the primary's release make it again: run 01-primary-setup"
_ROTATE = "rotate the primary's server CA (the chart's tls.caCert), then run 01, 02 and 03 again"
_MEANT = (
    "if the clusters share a network: private_network: true in the parameters; else give the gateways others"
)

SOON = timedelta(days=90)
"""How long before its end a CA is worth a warning: all servers of all datacenters have to be rolled for a new one."""

_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PEM = re.compile(rb"-----BEGIN")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        found: a sentence that shows no secret value.
        hint: what to do about it.
        severity: `error`, or `warning` for what works so far.
        remade: whether the release's hook Job makes it right when Helm runs again.
    """

    found: str
    hint: str = REMAKE
    severity: Literal["error", "warning"] = "error"
    remade: bool = True


def expected_keys(params: Federation) -> set[str]:
    """The keys that the secret has for this federation's settings, in the primary and in each copy."""
    keys = {"caCert", "caKey", "serverConfigJSON"}
    if params.acls:
        keys.add("replicationToken")
    if params.gossip_encryption:
        keys.add("gossipEncryptionKey")
    return keys


def faults(
    secret: FederationSecret,
    params: Federation,
    live_gateways: set[str] | None = None,
    holder: Cluster | None = None,
) -> list[Fault]:
    """Everything that is wrong with a federation secret.

    Args:
        live_gateways: `host:port` of the primary's gateways as the cluster has them now; None: not compared.
        holder: the secondary whose copy it is; None: it is the primary's own.
    """
    data, expected = {key: value.reveal() for key, value in secret.data.items()}, expected_keys(params)
    found = [Fault(f"the key {key} is missing") for key in sorted(expected - data.keys())]
    found += [_unexpected(key) for key in sorted(data.keys() - expected)]
    found += _of_ca(data)
    if "serverConfigJSON" in data:
        found += _of_config(data["serverConfigJSON"], params, live_gateways, holder)
    if "gossipEncryptionKey" in data and _decoded_size(data["gossipEncryptionKey"]) not in (16, 24, 32):
        found.append(Fault("gossipEncryptionKey is not the base64 of 16, 24 or 32 bytes"))
    if "replicationToken" in data and not _UUID.fullmatch(data["replicationToken"]):
        twice = _is_twice(data["replicationToken"], _UUID)
        found.append(Fault(f"replicationToken is {'base64 twice over' if twice else 'not a UUID'}"))
    return found


def mended_by_helm(secret: FederationSecret, params: Federation, live_gateways: set[str] | None) -> list[str]:
    """What is wrong with the primary's secret and worth another run of Helm, whose hook makes it again."""
    return [
        each.found
        for each in faults(secret, params, live_gateways)
        if each.remade and each.severity == "error"
    ]


def _unexpected(key: str) -> Fault:
    option = {"replicationToken": "acls", "gossipEncryptionKey": "gossip_encryption"}.get(key)
    if option is None:
        why = "see who added it; if nobody needs it, delete the secret and run 01-primary-setup"
        return Fault(f"the key {key} is no key of a federation secret", why)
    hint = (
        f"set {option} to what the primary has; changed there, the secret is made again by 01-primary-setup"
    )
    return Fault(
        f"the key {key} is there, but this federation's settings turn it off ({option}: false)", hint
    )


# -- CA -----------------------------------------------------------------------------------------------------------


def _of_ca(data: dict[str, bytes]) -> Iterator[Fault]:
    if not {"caCert", "caKey"} <= data.keys():
        return
    no_pem = [name for name in ("caCert", "caKey") if not _PEM.search(data[name])]
    for name in no_pem:
        yield Fault(f"{name} is {'base64 twice over' if _is_twice(data[name], _PEM) else 'not PEM'}")
    if no_pem:
        return
    certificate, key = None, None
    try:
        certificate = x509.load_pem_x509_certificate(data["caCert"])
    except ValueError:
        yield Fault("caCert is not a certificate in PEM")
    try:
        key = serialization.load_pem_private_key(data["caKey"], None)
    except (ValueError, TypeError):
        yield Fault("caKey is not a private key in PEM")
    if certificate and key and _public(certificate.public_key()) != _public(key.public_key()):
        yield Fault("caKey does not belong to caCert")
    if certificate:
        yield from _of_certificate(certificate)


def _public(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _of_certificate(certificate: x509.Certificate) -> Iterator[Fault]:
    """The hook copies the CA's certificate as it is, so that no run of Helm mends what is wrong with its dates."""
    now, start, end = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        yield Fault(f"caCert expired on {end:%Y-%m-%d}", _ROTATE, remade=False)
    elif start > now:
        hint = "wait, or set the clock of the machine that made it or of this one right"
        yield Fault(f"caCert is not valid until {start:%Y-%m-%d %H:%M} UTC", hint, remade=False)
    elif end - now < SOON:
        left = f"caCert expires on {end:%Y-%m-%d}, in {(end - now).days} days"
        yield Fault(left, _ROTATE, "warning", remade=False)
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        yield Fault("caCert is not the certificate of a CA")


# -- serverConfigJSON ---------------------------------------------------------------------------------------------


def _of_config(
    value: bytes, params: Federation, live_gateways: set[str] | None, holder: Cluster | None
) -> Iterator[Fault]:
    try:
        config = json.loads(value)
    except ValueError:
        twice = _is_twice(value, re.compile(rb"\s*\{"))
        yield Fault(f"serverConfigJSON is {'base64 twice over' if twice else 'not JSON'}")
        return
    if not isinstance(config, dict) or set(config) != {"primary_datacenter", "primary_gateways"}:
        yield Fault("serverConfigJSON does not hold just primary_datacenter and primary_gateways")
        return
    named, expected = config["primary_datacenter"], params.primary.datacenter
    if holder is not None and named == holder.datacenter:
        yield Fault(
            f"serverConfigJSON names {named!r} as the primary, which is this datacenter itself:"
            " Consul would refuse to start",
            "correct the contexts and datacenters in the parameters: this is the primary's cluster, or its secret"
            " was made in another one",
        )
    elif named != expected:
        yield Fault(f"serverConfigJSON names the primary {named!r}; expected {expected!r}")
    given = config["primary_gateways"] or []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        yield Fault("primary_gateways in serverConfigJSON is no list of texts")
        return
    if not given:
        yield Fault("serverConfigJSON names no primary gateway")
    for gateway in sorted(set(given)):
        yield from _of_gateway(gateway, params.private_network)
    gateways = set(given)
    if live_gateways is not None and gateways != live_gateways:
        yield Fault(
            f"serverConfigJSON names the gateways {listed(gateways)}, but the primary has"
            f" {listed(live_gateways)}: {difference(gateways, live_gateways)}"
        )


def _of_gateway(gateway: str, private_network: bool) -> Iterator[Fault]:
    """Whether other datacenters could dial that address; a name counts as one that they can."""
    host, port = split(gateway)
    if not host or not port:
        why = "the load balancer had no address when the gateway registered: restart the gateway, then run 01"
        yield Fault(f"{gateway!r} is no gateway address; expected host:port", REMAKE if host else why)
        return
    by = dialled_by(host)
    if by == "nobody":
        yield Fault(f"the gateway {gateway} is a placeholder and nobody's address")
    elif by == "itself" and not private_network:
        yield Fault(f"the gateway {gateway} can be reached from its own machine only", _MEANT, remade=False)
    elif by == "network" and not private_network:
        yield Fault(f"the gateway {gateway} has a private address", _MEANT, "warning", remade=False)


# -- base64 -------------------------------------------------------------------------------------------------------


def _is_twice(value: bytes, plain: re.Pattern[bytes]) -> bool:
    """Whether a value is in base64 once more than it should be: the commonest slip of a copy by hand."""
    if not re.fullmatch(rb"[A-Za-z0-9+/=\s]+", value):
        return False
    try:
        return bool(plain.match(base64.b64decode(value)))
    except ValueError:
        return False


def _decoded_size(value: bytes) -> int:
    """Bytes of a key in base64, a line end after it allowed as Consul allows it; 0 where it is no base64."""
    try:
        return len(base64.b64decode(value.rstrip(b"\r\n"), validate=True))
    except ValueError:
        return 0
