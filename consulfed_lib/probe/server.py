"""Connections from Consul's server pods: the commands are run in them, through the Kubernetes API (exec)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ..cluster import Cluster
from ..errors import ClusterError
from ..streams import TIMED_OUT, EndlessInputError
from .connection import CONSUL_ONLY, NO_ALPN, Outcome, command, judge, line

DEADLINE = 15.0
"""Seconds for one try. The CLI itself gives up connecting after 30, and waiting for TLS after 10."""


@dataclass(frozen=True)
class Place:
    """A container of a Consul server pod, from where it can be tried.

    Attributes:
        blind: its environment turns the CLI's verification off, so that nothing is proven about certificates.
    """

    cluster: Cluster
    namespace: str
    pod: str
    container: str = "consul"
    blind: bool = False

    def probe(
        self, address: str, server_name: str, ca_pem: str | None, deadline: float = DEADLINE
    ) -> Outcome:
        """Try to connect from here.

        Args:
            ca_pem: the CA that must have signed; None where it is not known: the chain is not checked then.

        Raises ClusterError when no command can be run in the pod.
        """
        for _ in range(3):  # the alert that tells why a connection ends can be lost with the connection
            found = self._once(address, server_name, ca_pem, deadline)
            if found.kind != "closed":
                break
        if self.blind and found.kind in ("http", "tls"):
            return replace(found, chain=False)
        return found

    def _once(self, address: str, server_name: str, ca_pem: str | None, deadline: float) -> Outcome:
        # Newer CLIs offer HTTP/2, and Consul's servers refuse whoever offers anything but their own protocols, before
        # they show a certificate. Offered nothing, they show it; that takes a setting of Go's.
        found = self._with_input(address, server_name, ca_pem, deadline, ("env", "GODEBUG=http2client=0"))
        if found.kind == "not-run":  # no `env` in this image
            found = self._with_input(address, server_name, ca_pem, deadline)
        return Outcome("unchecked", CONSUL_ONLY, chain=False) if NO_ALPN in found.detail else found

    def _with_input(
        self, address: str, server_name: str, ca_pem: str | None, deadline: float, before: Iterable[str] = ()
    ) -> Outcome:
        if ca_pem is not None:
            words = [*before, *command(address, server_name, "/dev/stdin")]
            try:
                found = self._run(words, address, deadline, ca_pem.encode())
            except EndlessInputError:
                found = Outcome("not-run")
            if found.kind != "not-run":
                return found
        found = self._run([*before, *command(address, server_name)], address, deadline)
        # Some other CA judged here, that of the pod or of its image: whatever it said of the chain proves nothing.
        return Outcome("unchecked", chain=False) if found.kind == "wrong-ca" else replace(found, chain=False)

    def _run(self, words: list[str], address: str, deadline: float, stdin: bytes | None = None) -> Outcome:
        words = [*words, "-token-file="]
        try:
            done = self.cluster.exec(
                self.namespace, self.pod, words, self.container, stdin=stdin, timeout=deadline
            )
        except EndlessInputError:
            raise
        except ClusterError as error:
            if words[0] == "consul":
                raise
            return Outcome("not-run", line(error.found))  # no `env` in this image
        if done.returncode == TIMED_OUT:
            return Outcome("timeout", f"{deadline:g} s")
        if done.returncode in (126, 127):
            return Outcome("not-run", line(done.stderr or done.stdout))
        return judge(f"{done.stdout}\n{done.stderr}", address)


def server_places(cluster: Cluster, namespace: str, release: str) -> list[Place]:
    """Every Consul server pod that runs, ready or not; empty where there is none yet."""
    pods = cluster.list("pods", namespace, f"component=server,release={release}")
    return [
        _place(cluster, namespace, pod)
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
        if pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    ]


def _place(cluster: Cluster, namespace: str, pod: dict[str, Any]) -> Place:
    containers = pod["spec"]["containers"]
    chosen = next((c for c in containers if c["name"] == "consul"), containers[0])
    variables = {each["name"]: each.get("value") for each in chosen.get("env") or []}
    verify = str(variables.get("CONSUL_HTTP_SSL_VERIFY", "1")).lower()
    blind = verify in {"0", "f", "false"}
    return Place(cluster, namespace, pod["metadata"]["name"], chosen["name"], blind)


def probe_all(
    places: Iterable[Place], addresses: Iterable[str], server_name: str, ca_pem: str | None
) -> dict[tuple[str, str], Outcome]:
    """(pod, address) → outcome, for every address from every place; all at the same time, so that the slowest of
    them bounds the time: three tries of DEADLINE seconds. Raises ClusterError as `Place.probe`."""
    wanted = sorted(addresses)
    pairs = [(place, address) for place in places for address in wanted]
    if not pairs:
        return {}
    with ThreadPoolExecutor(max_workers=min(8, len(pairs))) as pool:
        found = pool.map(lambda pair: pair[0].probe(pair[1], server_name, ca_pem), pairs)
        return {(place.pod, address): each for (place, address), each in zip(pairs, found, strict=True)}
