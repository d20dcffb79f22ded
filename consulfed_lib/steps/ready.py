"""The preflight of one cluster: what 00 looks at everywhere, looked at again right before that cluster is changed."""

from __future__ import annotations

from functools import partial

from ..checks import run_together
from ..checks.preflight import PER_CLUSTER, Target, api_reachable, chart, helm_program
from ..cluster import Cluster
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding


def look_at_one(params: Federation, of: ClusterParams) -> list[Finding]:
    """Every preflight check of one cluster, and of the tools on this machine."""
    found = api_reachable(of.datacenter, params, of)
    if any(finding.severity == "error" for finding in found):
        return found
    target = Target(params, of, Cluster(of.context, params.kubeconfig_path))
    calls = [partial(each, of.datacenter, target) for each in PER_CLUSTER]
    calls.append(partial(helm_program, "this machine", target.cluster))
    calls.append(partial(chart, "this machine", params, target.cluster))
    return found + run_together(calls)
