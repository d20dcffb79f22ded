"""How long TLS handshakes with the servers of other datacenters take, by the way that Consul's own servers go:
into the datacenter's own gateway, out to the gateway of the other one, and there to a server.

The gateway is entered through the Kubernetes API (port-forward). It routes by the name alone, `<node>.server.<dc>.
<domain>`, and decrypts nothing, so that the certificate which ends the handshake is the other server's own.
"""

from __future__ import annotations

import ssl
import time
from contextlib import closing, suppress
from dataclasses import dataclass

from .cluster import Cluster, is_ready
from .errors import ClusterError

_PORT = 8443
"""The gateway's container port where its pod names none; the chart's default."""

_LAST_WORDS = 0.5
"""Seconds for which one that does not hang up is heard out."""

_PATIENCE = 10.0
"""Seconds without a byte after which a handshake is given up."""


@dataclass(frozen=True)
class Entrance:
    """A gateway pod, through which other datacenters are reached."""

    cluster: Cluster
    namespace: str
    pod: str
    port: int
    ca_pem: str
    domain: str

    def handshakes(self, node: str, datacenter: str, samples: int) -> list[float]:
        """Milliseconds of each handshake with one server, checked against the federation's CA and the server's name.

        Raises ClusterError where one does not come to its end, or shows somebody else's certificate.
        """
        context = ssl.create_default_context(cadata=self.ca_pem)
        name = f"{node}.server.{datacenter}.{self.domain.strip('.')}"
        return [self._handshake(context, name) for _ in range(samples)]

    def _handshake(self, context: ssl.SSLContext, name: str) -> float:
        with closing(self.cluster.dial(self.namespace, self.pod, self.port)) as raw:
            raw.settimeout(_PATIENCE)
            start = time.perf_counter()
            try:
                with context.wrap_socket(raw, server_hostname=name) as connection:
                    took = (time.perf_counter() - start) * 1000
                    _hear_out(connection)
                    return took
            except OSError as error:
                raise ClusterError(
                    f"No TLS with {name} through {self.namespace}/{self.pod}: {error}.",
                    "verify the federation",
                ) from None


def _hear_out(connection: ssl.SSLSocket) -> None:
    """Until the server hangs up, as it does on whoever brings no certificate: what it says after the handshake would
    find nobody on the port-forward otherwise."""
    connection.settimeout(_LAST_WORDS)
    with suppress(OSError):
        while connection.recv(4096):
            continue


def entrance(cluster: Cluster, namespace: str, release: str, ca_pem: str, domain: str) -> Entrance | None:
    """The first gateway pod that is ready; None where none is."""
    pods = cluster.list("pods", namespace, f"component=mesh-gateway,release={release}")
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if is_ready(pod):
            ports = [port for c in pod["spec"]["containers"] for port in c.get("ports") or []]
            named = [port["containerPort"] for port in ports if port.get("name") == "gateway"]
            port = (named or [_PORT])[0]
            return Entrance(cluster, namespace, pod["metadata"]["name"], port, ca_pem, domain)
    return None
