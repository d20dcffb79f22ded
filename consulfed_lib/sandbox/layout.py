"""Which address is what: one sandbox owns one block 127.A.0.0/16, each cluster one 127.A.N.0/24 of it.

Linux answers on all of 127.0.0.0/8 without any set-up, so that every node, pod and load balancer of a
sandbox has an address of its own, with the standard ports, and two sandboxes never meet.

    127.A.0.1      the supervisor (it holds a port there for as long as it lives: the claim on the block)
    127.A.N.1      API server of cluster N (N = 1, 2, …), port 6443
    127.A.N.2-9    nodes
    127.A.N.10-    pods
    127.A.N.150-   load balancers
    127.A.N.200-   cluster IPs (allocated, not routed)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

API_PORT = 6443
CLAIM_PORT = 6440
MAX_DATACENTERS = 50
MAX_NODES = 8
LOAD_BALANCERS = ("ip", "hostname")
EXISTING = ("plain", "tls", "acl", "old-chart")


@dataclass(frozen=True)
class ClusterLayout:
    """Addresses and folders of one cluster; `load_balancer` is as in SandboxLayout."""

    folder: Path
    block: int
    index: int
    nodes: int
    load_balancer: str = "ip"

    @property
    def name(self) -> str:
        """`dc1`, `dc2`, …: what the cluster is called, and the datacenter that params/sandbox.yaml puts there."""
        return f"dc{self.index}"

    @property
    def context(self) -> str:
        """The kubeconfig's context: `sandbox-dc1`, …"""
        return f"sandbox-{self.name}"

    def _address(self, last: int) -> str:
        return f"127.{self.block}.{self.index}.{last}"

    @property
    def api_address(self) -> str:
        return self._address(1)

    @property
    def api_url(self) -> str:
        return f"https://{self.api_address}:{API_PORT}"

    @property
    def node_addresses(self) -> dict[str, str]:
        """Node name → address, one node for each server that `sandbox up --servers` asked for."""
        return {f"{self.context}-node{n + 1}": self._address(2 + n) for n in range(self.nodes)}

    @property
    def pod_addresses(self) -> list[str]:
        return [self._address(n) for n in range(10, 150)]

    @property
    def load_balancer_addresses(self) -> list[str]:
        return [self._address(n) for n in range(150, 200)]

    def load_balancer_name(self, address: str) -> str:
        """The hostname of a load balancer, where clusters give hostnames (as EKS does) instead of addresses.

        >>> ClusterLayout(Path("x"), 77, 1, 1).load_balancer_name("127.77.1.150")
        'lb-150.sandbox-dc1.test'
        """
        return f"lb-{address.rpartition('.')[2]}.{self.context}.test"

    @property
    def cluster_ips(self) -> list[str]:
        return [self._address(n) for n in range(200, 255)]


@dataclass(frozen=True)
class SandboxLayout:
    """One sandbox: its state folder, its block of addresses, its size.

    `servers` is the number of nodes of each cluster: the chart places one Consul server a node.
    `load_balancer` says what a Service of type LoadBalancer gets: an `ip`, or a `hostname`.
    """

    folder: Path
    block: int
    datacenters: int
    servers: int
    load_balancer: str = "ip"

    @property
    def clusters(self) -> list[ClusterLayout]:
        return [
            ClusterLayout(self.folder / f"dc{i}", self.block, i, self.servers, self.load_balancer)
            for i in range(1, self.datacenters + 1)
        ]
