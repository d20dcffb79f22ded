"""The preflight of one cluster: what 00 looks at everywhere, looked at again right before that cluster is changed."""

from __future__ import annotations

from functools import partial

from ..checks import run_together
from ..checks.preflight import look_at_clusters
from ..checks.values import look_with_chart
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding


def look_at_one(params: Federation, of: ClusterParams, notebook: str) -> list[Finding]:
    """Every preflight check of one cluster, of the values and of the tools on this machine."""
    return run_together([partial(look_with_chart, params), partial(look_at_clusters, params, [of], notebook)])
