"""The rights for the chart, version and options of a federation: the chart is rendered to see what it asks for."""

from __future__ import annotations

from typing import Any

from .. import places
from ..errors import ApplyError, ParamsError
from ..helm import Charts
from ..params import Cluster, Federation
from ..params.models import SANDBOX
from ..values import primary_values, secondary_values
from .facts import needs
from .rules import Rule, simplify

_ANY_URL = "https://kubernetes.example.com"
"""In the place of a cluster's API URL that is not known here: no right depends on it."""


def objects(params: Federation, of: Cluster) -> list[dict[str, Any]]:
    """What the pinned chart makes in a cluster of the federation, hooks and CRDs included. No cluster is asked.

    Raises ParamsError when the chart cannot be had or does not render, or when values contradict each other;
    ToolError when Helm is not there.
    """
    chart = params.chart
    try:
        return Charts().render(of.release, of.namespace, chart, values(params, of))
    except ApplyError as error:
        hint = f"see chart and values in the parameters; {error.hint}".removesuffix("; ")
        if chart.ref == SANDBOX and not places.sandbox_chart().exists():
            hint = "the sandbox brings its chart with it: run `consulfed sandbox up`"
        raise ParamsError(
            f"Chart {chart.ref} {chart.version} cannot be rendered for {of.datacenter}: {error.found}", hint
        ) from None


def values(params: Federation, of: Cluster) -> dict[str, Any]:
    """The values that the chart gets there, but for the URL of an API server that is asked for it."""
    if of.datacenter == params.primary.datacenter:
        return primary_values(params)
    return secondary_values(params, of, of.api_url or _ANY_URL)


def for_cluster(params: Federation, of: Cluster, **options: Any) -> list[Rule]:
    """`needs` of one cluster; the options are those of `needs`. Raises as `objects` does."""
    return needs(params, of, objects(params, of), **options)


def for_federation(
    params: Federation, datacenter: str = "", read_only: bool = False, notebook: str = "00"
) -> list[Rule]:
    """The rights of every cluster of the federation together, or of one datacenter's alone; 00: of a whole run."""
    clusters = [each for each in params.clusters if datacenter in ("", each.datacenter)]
    return simplify(
        rule for of in clusters for rule in for_cluster(params, of, read_only=read_only, notebook=notebook)
    )
