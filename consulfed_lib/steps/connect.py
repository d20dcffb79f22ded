"""From a cluster to its Consul: which pod to ask, with which CA and which token."""

from __future__ import annotations

from collections.abc import Iterator

from ..checks import Check, check
from ..checks.federation import Datacenter
from ..cluster import Cluster, is_ready
from ..consul import Consul
from ..errors import ClusterError
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding, several
from ..secret import FederationSecret
from ..values import consul_domain, merged
from .trouble import pod_trouble


def datacenter(
    params: Federation, of: ClusterParams, cluster: Cluster, secret: FederationSecret
) -> Datacenter:
    """A datacenter whose Consul can be asked, through its first ready server pod.

    The replication token is enough: it may read operator, node, service and ACL state in every datacenter.
    """
    pod = server_pod(params, of, cluster)
    token = secret.data.get("replicationToken") if params.acls else None
    domain = consul_domain(merged(params, of).values)
    consul = Consul(cluster, of.namespace, pod, of.datacenter, secret.ca_pem(), token, domain)
    return Datacenter(params, of, cluster, consul)


def server_pod(params: Federation, of: ClusterParams, cluster: Cluster) -> str:
    """Name of the first ready server pod. Raises ClusterError when there is none."""
    pods = cluster.list("pods", of.namespace, f"component=server,release={of.release}")
    ready = sorted(pod["metadata"]["name"] for pod in pods if is_ready(pod))
    if not ready:
        raise ClusterError(
            f"No Consul server pod is ready in {of.context}, namespace {of.namespace}"
            f" ({pod_trouble(pods) or several(len(pods), 'pod')}).",
            f"kubectl --context {of.context} -n {of.namespace} logs -l component=server --tail 5 --prefix says why;"
            f" then run the setup notebook of {of.datacenter} again",
        )
    return ready[0]


@check("server-pod", "a Consul server pod is ready to be asked")
def server_pod_ready(
    self: Check, subject: str, params: Federation, of: ClusterParams, cluster: Cluster
) -> Iterator[Finding]:
    yield self.ok(subject, f"{of.namespace}/{server_pod(params, of, cluster)}")
