"""For each check of a verification: why it matters when it fails, and in which notebook it is mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Why(NamedTuple):
    """Attributes:
    matters: one sentence, for who is woken up by it.
    notebook: which notebook mends it; empty: none does.
    """

    matters: str
    notebook: str = ""


_FIRST, _COPY, _JOIN = (
    "01-primary-setup.ipynb#Apply",
    "02-secret-transfer.ipynb#Apply",
    "03-secondary-setup.ipynb#Apply",
)

WHY: Mapping[str, Why] = {
    "api-reachable": Why("nothing can be looked at there", "00-preflight.ipynb#Preflight"),
    "permissions": Why("what may not be read is not proven", "00-preflight.ipynb#Preflight"),
    "server-pod": Why(
        "nobody is there to be asked; the datacenter may be down", "03-secondary-setup.ipynb#Verify"
    ),
    "secret-complete": Why("new secondaries cannot join, and a restarted one may not come back", _FIRST),
    "secret-copy": Why("the secondary's servers will not come back from a restart", _COPY),
    "federation-secret": Why("the secondary's servers will not come back from a restart", _COPY),
    "server-ca": Why("servers of different datacenters refuse each other's certificates", _COPY),
    "gossip-key": Why("servers with another key are shut out of gossip", _COPY),
    "replication-token": Why("tokens and policies made in the primary do not reach the secondary", _COPY),
    "servers": Why("without a quorum nothing can be written, and no leader answers other datacenters"),
    "autopilot": Why("one more server that fails may cost the quorum"),
    "server-certificate": Why("when it ends, every connection between servers ends with it", _JOIN),
    "gateway-registered": Why("other datacenters do not know where to get in", _JOIN),
    "gateway-address": Why("other datacenters dial an address at which nobody is", _JOIN),
    "gateway-addresses": Why("whoever has the old address loses its way when it next has to dial", _COPY),
    "gateway-from-secondary": Why("the secondary cannot join, or not come back", _JOIN),
    "gateway-from-primary": Why("the primary cannot read the secondary: requests to it fail", _JOIN),
    "api-url-from-primary": Why("components of that secondary cannot log in to get their tokens", _JOIN),
    "api-url-from-secondary": Why("components of that secondary cannot log in to get their tokens", _JOIN),
    "primary-gateways": Why(
        "when the old addresses are gone, the secondary loses the primary until it restarts", _JOIN
    ),
    "node-health": Why(
        "requests from one datacenter to the other fail: failover and service discovery with them"
    ),
    "catalog-services": Why("services of the other datacenter cannot be found"),
    "datacenters": Why("requests to a datacenter that is not listed have no path"),
    "wan-members": Why("a server that is not seen alive gets no requests"),
    "consul-versions": Why("versions that were never tested together can break replication"),
    "gossip-keys": Why("a key change that did not come to its end shuts nodes out"),
    "federation-states": Why("traffic goes to gateways that are not there any more"),
    "acl-replication": Why("tokens made or revoked in the primary stay unknown or valid in the secondary"),
    "acl-canary": Why("tokens made or revoked in the primary stay unknown or valid in the secondary"),
    "auth-method": Why("components of that secondary cannot log in to get their tokens", _JOIN),
    "anonymous-policy": Why("requests between datacenters are answered with nothing, silently", _FIRST),
    "binding-rules": Why("the primary's ACL tables grow with every upgrade of the secondary"),
    "ca-root": Why("sidecars of different datacenters refuse each other's certificates"),
    "connect-ca": Why("sidecars of different datacenters refuse each other's certificates"),
    "proxy-defaults": Why("service traffic between datacenters does not use the gateways, and fails", _FIRST),
    "ui": Why("people look at another datacenter than they believe"),
    "secret-readers": Why("who reads the federation secret is admin on the whole mesh"),
    "local-files": Why("who finds that file is admin on the whole mesh"),
    "stability": Why("what flaps now will be down when it is needed"),
}
