"""What kube-controller-manager, kube-scheduler and kube-proxy do, as clients of the API server."""

from __future__ import annotations

import asyncio

from ..layout import ClusterLayout
from ..names import Names
from ..network import Network
from .client import KubeClient
from .controller import Controller
from .daemonsets import DaemonSets
from .deployments import Deployments
from .endpoints import Endpoints
from .informer import Informers
from .jobs import Jobs
from .namespaces import Namespaces
from .replicasets import ReplicaSets
from .scheduler import Scheduler
from .services import Services
from .statefulsets import StatefulSets
from .volumes import Volumes

__all__ = ["run_controllers"]


async def run_controllers(
    cluster: ClusterLayout, client: KubeClient, names: Names | None = None, network: Network | None = None
) -> None:
    """Run all of them on shared caches; until cancelled. The client needs the rights of system:masters.

    `names` is told the DNS names of Services; `network` says what is disturbed between the clusters.
    """
    informers = Informers(client)
    controllers: list[Controller] = [
        Namespaces(informers),
        StatefulSets(informers),
        Deployments(informers),
        ReplicaSets(informers),
        DaemonSets(informers),
        Jobs(informers),
        Volumes(informers, cluster),
        Scheduler(informers),
        Endpoints(informers),
        Services(informers, cluster, names or Names(), network or Network(cluster)),
    ]
    async with asyncio.TaskGroup() as group:
        group.create_task(informers.run())
        for controller in controllers:
            group.create_task(controller.run())
