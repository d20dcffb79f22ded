"""The paths to one cluster from everywhere else, as disturbances leave them: what passes, and what vanishes.

Who sends is known by the address that it sends from: nodes, pods and clients of a cluster have addresses of its own
(`layout`). A command that is executed in a pod has none, for the kernel gives it this machine's: whose it is is known
by its process, which is a child of the supervisor in its pod's folder. A connection of it is taken and never heard.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from . import pki
from .disturbances import CUT_OFF, NO_ADDRESSES, OUTSIDE, TLS_ENDS, Disturbances
from .layout import MAX_DATACENTERS, ClusterLayout


class Network:
    """What one cluster's load balancers and its API server have to know.

    Args:
        volatile: the folder of all pods' files, a folder for each cluster in it; None: no pod of another cluster.
    """

    def __init__(
        self, cluster: ClusterLayout, disturbances: Disturbances | None = None, volatile: Path | None = None
    ):
        self._cluster = cluster
        self._disturbances = disturbances or Disturbances()
        self._volatile = volatile
        self._balancer: ssl.SSLContext | None = None

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call it after each change; returns what ends that."""
        return self._disturbances.subscribe(changed)

    @property
    def has_addresses(self) -> bool:
        """Whether a load balancer that has no address can be given one."""
        return not self._disturbances.has(NO_ADDRESSES, self._cluster.index)

    @property
    def balancer(self) -> ssl.SSLContext | None:
        """With what the load balancers of mesh gateways end TLS; None: they do not."""
        if not self._disturbances.has(TLS_ENDS, self._cluster.index):
            return None
        if self._balancer is None:
            self._balancer = pki.balancer_tls(f"gateway.{self._cluster.context}.test")
        return self._balancer

    def lost(self) -> list[IPv4Network]:
        """The networks whose packets do not arrive in this cluster."""
        block, at = self._cluster.block, self._cluster.index
        found = [
            IPv4Network(f"127.{block}.{source}.0/24")
            for source in range(1, MAX_DATACENTERS + 1)
            if self._disturbances.vanishes(source, at)
        ]
        # What has no address of its own sends from 127.0.0.1.
        return found + ([IPv4Network("127.0.0.0/24")] if self._disturbances.vanishes(OUTSIDE, at) else [])

    async def ignores(self, peer: tuple[str, int]) -> bool:
        """Whether a connection that was taken is from where nothing arrives from."""
        if not self._disturbances.is_filtered(self._cluster.index) or self._volatile is None:
            return False
        source = await asyncio.to_thread(_cluster_of, peer, self._volatile)
        return self._disturbances.vanishes(source, self._cluster.index)

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing passes between this cluster and the world."""
        return self._disturbances.has(CUT_OFF, self._cluster.index)


def _cluster_of(peer: tuple[str, int], volatile: Path) -> int:
    """The number of the cluster in whose pod the process runs that dials from there; OUTSIDE for any other."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ValueError):
            if any(tuple(at.laddr) == tuple(peer) for at in child.net_connections("tcp")):
                return int(Path(child.cwd()).relative_to(volatile).parts[0].removeprefix("dc"))
    return OUTSIDE
