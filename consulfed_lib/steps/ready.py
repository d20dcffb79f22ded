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
    """Every preflight check of one cluster, of its values and of the tools on this machine.

    What is wrong with the values of another secondary stops that one, and no other.
    """
    others = {each.datacenter for each in params.secondaries} - {of.datacenter}
    found = run_together(
        [partial(look_with_chart, params), partial(look_at_clusters, params, [of], notebook)]
    )
    return [finding for finding in found if finding.subject not in others]
