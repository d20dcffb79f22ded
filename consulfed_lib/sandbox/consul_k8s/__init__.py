"""What the consul-k8s binary does in a cluster: the work of its Jobs, and of its controllers.

Jobs run when the kubelet starts their pods; controllers run beside it. Both go by what the objects say (flags,
environment, mounted files, annotations) and never by what only the sandbox's own chart does, so that
HashiCorp's charts work here too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from ..controllers.client import DELETED, KubeClient, KubeError, Object, object_key
from ..layout import ClusterLayout
from ..node.consul_http import ConsulError
from ..node.inside import Predicate
from ..node.workload import Container, Job
from .cleanup import (
    delete_completed_job,
    gateway_cleanup,
    gateway_cleanup_custom,
    gateway_resources,
    tls_init_cleanup,
)
from .config_entries import ConfigEntrySync
from .consul_api import consul_of
from .create_federation_secret import create_federation_secret
from .gateways import GatewayRegistrar
from .gossip import gossip_encryption_autogenerate
from .inject import Injector
from .installation import Installation, Session, read_installation
from .joblog import JobFailed, JobLog
from .mesh_services import MeshServices
from .options import endpoint, options
from .server_acl_init import server_acl_init
from .tls_init import tls_init
from .webhook_certs import make_webhook_certificates

logger = logging.getLogger(__name__)

__all__ = ["JOBS", "PASSIVE", "Injector", "run_consul_k8s"]


def _job(work: Callable[[Container, JobLog], Awaitable[None]]) -> Job:
    async def run(container: Container) -> int:
        log = JobLog(container.log, options(container).is_on("log-json"))
        try:
            await work(container, log)
        except (JobFailed, ConsulError, KubeError) as error:
            log.error(str(error))
            return 1
        return 0

    return run


JOBS: Mapping[str, Job] = {
    "gossip-encryption-autogenerate": _job(gossip_encryption_autogenerate),
    "tls-init": _job(tls_init),
    "tls-init-cleanup": _job(tls_init_cleanup),
    "server-acl-init": _job(server_acl_init),
    "server-acl-init-cleanup": _job(delete_completed_job),
    "create-federation-secret": _job(create_federation_secret),
    "gateway-resources": _job(gateway_resources),
    "gateway-cleanup": _job(gateway_cleanup),
    "gateway-cleanup-custom": _job(gateway_cleanup_custom),
}
"""`component` label of a Job's pod → its work; exit code 0, or 1 with the cause in the last log line."""


async def _always(container: Container) -> bool:
    return True


async def _has_a_server(container: Container) -> bool:
    """Whether a Consul server answers in the way that the container was told: with TLS or without.

    Since chart 1.0 an injector connects before it serves its webhook. With TLS on while no server has it yet, that
    takes until the first one is restarted, and the Deployment's old pod goes on meanwhile.
    """
    if "CONSUL_ADDRESSES" not in container.env:
        return True
    try:
        async with consul_of(container, endpoint(options(container))) as consul:
            return bool(await consul.get("/v1/status/leader"))
    except ConsulError:
        return False


PASSIVE: Mapping[str, Predicate] = {
    "connect-injector": _has_a_server,
    "controller": _always,
    "webhook-cert-manager": _always,
    "client": _always,
}
"""Components whose pods run no process, and when those are ready: `run_consul_k8s` does what their containers would.

`client` is the DaemonSet of client agents of charts up to 0.49: what asks one is sent to a server instead.
"""


async def run_consul_k8s(
    cluster: ClusterLayout, client: KubeClient, injector: Injector | None = None
) -> None:
    """Run the controllers of every Consul installation in a cluster, from install to uninstall; until cancelled.

    Args:
        injector: the cluster's connect-inject webhook, which is at work meanwhile; without one no pod is injected.
    """
    injector = injector or Injector()
    running: dict[tuple[str, str], tuple[Object, asyncio.Task[None]]] = {}
    selector = "component in (connect-injector,controller,webhook-cert-manager)"
    async with asyncio.TaskGroup() as group:
        async for kind, deployment in client.watch("apps/v1", "deployments", label_selector=selector):
            key = object_key(deployment)
            template = deployment["spec"]["template"]
            if key in running:
                known, task = running[key]
                if kind != DELETED and (known == template or not _rolled_out(deployment)):
                    continue
                task.cancel()
                del running[key]
            if kind == DELETED:
                continue
            running[key] = (template, group.create_task(_serve(cluster, client, deployment, injector)))


def _rolled_out(deployment: Object) -> bool:
    """Whether a pod of the template as it is now is ready; until then the work is that of the pods from before."""
    status, metadata = deployment.get("status") or {}, deployment["metadata"]
    return bool(
        status.get("observedGeneration") == metadata["generation"]
        and status.get("updatedReplicas")
        and status.get("updatedReplicas") == status.get("replicas") == status.get("readyReplicas")
    )


async def _serve(cluster: ClusterLayout, client: KubeClient, deployment: Object, injector: Injector) -> None:
    if deployment["metadata"]["labels"]["component"] == "webhook-cert-manager":
        await make_webhook_certificates(cluster.name, client, deployment)
        return
    installation = read_installation(cluster, client, deployment)
    if installation is None:
        return
    session = Session(installation)
    # Up to chart 0.49 config entries had a Deployment of their own, `controller`.
    has_entries = installation.component == "controller" or "CONSUL_ADDRESSES" in installation.given.env
    try:
        async with asyncio.TaskGroup() as group:
            if installation.component == "connect-injector":
                group.create_task(GatewayRegistrar(installation, session).run())
                group.create_task(MeshServices(installation, session).run())
                group.create_task(_inject(injector, installation))
            if has_entries:
                group.create_task(ConfigEntrySync(installation, session).run())
    finally:
        await session.close()


async def _inject(injector: Injector, installation: Installation) -> None:
    async with injector.serving(installation):
        await asyncio.Event().wait()
