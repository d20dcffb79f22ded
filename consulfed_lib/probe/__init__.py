"""Does a TLS connection come about from where it matters? Proven with what is there anyway: the `consul` CLI.

Every Consul server pod has it, and no shell, curl or openssl need be there. `consul catalog datacenters` against any
address makes a verified TLS connection, and its error says at which point it ended: no route, refused, not TLS,
somebody else's certificate, or well past all of that. Go's crypto/x509 judges a certificate in a fixed order (dates,
then name, then chain), so that "signed by unknown authority" means the right name under a wrong CA.

What travels: a CA certificate on standard input. No secret is in an argument, and the pod's own ACL token stays at
home: `-token=none`, and an empty `-token-file` because the environment's would win over that.
"""

from __future__ import annotations

from .connection import Kind, Outcome, dialable, judge
from .pod import Pod
from .server import Place, probe_all, server_places

__all__ = ["Kind", "Outcome", "Place", "Pod", "dialable", "judge", "probe_all", "server_places"]
