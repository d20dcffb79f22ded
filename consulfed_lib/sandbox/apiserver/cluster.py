"""What one cluster's API server consists of, for the parts that need more than one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .auth import Authenticator
from .rbac import Authorizer
from .resources import Registry
from .status import internal_error, invalid, invalid_value
from .store import Object, Store
from .webhooks import Webhook

NODE_PORTS = range(30000, 32768)
DEFAULT_CLUSTER_IPS = tuple(f"10.96.{n // 250}.{n % 250 + 1}" for n in range(1000))


@dataclass
class Cluster:
    """The parts. `webhook` answers for the admission webhooks that are configured in the cluster."""

    store: Store
    registry: Registry
    authenticator: Authenticator
    authorizer: Authorizer
    ca_pem: str
    cluster_ips: Sequence[str] = DEFAULT_CLUSTER_IPS
    webhook: Webhook | None = None

    def free_cluster_ip(self) -> str:
        """An address that no Service has; raises 500 when all are taken, as a real one does."""
        taken = {ip for service in self._services() for ip in service["spec"].get("clusterIPs") or ()}
        for address in self.cluster_ips:
            if address not in taken:
                return address
        raise internal_error("failed to allocate a serviceIP: range is full")

    def free_node_port(self, name: str, wanted: int, path: str, also_taken: set[int]) -> int:
        """The port that is asked for, or a free one; raises 422 when it is taken or out of range."""
        taken = also_taken | {
            port["nodePort"]
            for service in self._services()
            for port in service["spec"].get("ports") or ()
            if port.get("nodePort") and service["metadata"]["name"] != name
        }
        if wanted:
            if wanted not in NODE_PORTS:
                why = "provided port is not in the valid range. The range of valid ports is 30000-32767"
                raise invalid("Service", "", name, [invalid_value(path, wanted, why)])
            if wanted in taken:
                raise invalid(
                    "Service", "", name, [invalid_value(path, wanted, "provided port is already allocated")]
                )
            return wanted
        for port in NODE_PORTS:
            if port not in taken:
                return port
        raise internal_error("failed to allocate a nodePort: range is full")

    def _services(self) -> list[Object]:
        return self.store.list(("", "services"))
