"""Rules, what a chart asks for, the manifest; `python -m tests.test_rbac` writes the sandbox's rights anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import yaml

import consulfed_lib.rbac
import consulfed_lib.sandbox
from consulfed_lib.errors import ApplyError
from consulfed_lib.helm import Charts
from consulfed_lib.params import Chart, Cluster, Federation, load
from consulfed_lib.params.models import MeshGateway
from consulfed_lib.rbac import facts, needs, rendered

ROOT = Path(__file__).parents[1]
CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
SHIPPED = Path(consulfed_lib.rbac.__file__).with_name("sandbox.json")


def sandbox_params(**changes: Any) -> Federation:
    """params/sandbox.yaml with the chart as it is in the repository, so that no sandbox has to be up."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    chart = Chart(ref=str(CHART), version=version)
    return load(ROOT / "params" / "sandbox.yaml").model_copy(update={"chart": chart, **changes})


def _variants() -> Iterator[Federation]:
    """Every combination of the options that decide what a chart renders."""
    for acls, gossip in product((True, False), repeat=2):
        yield sandbox_params(acls=acls, gossip_encryption=gossip)
    for service in ("NodePort", "ClusterIP"):
        yield sandbox_params(mesh_gateway=MeshGateway(service=service, port=8443, node_port=30443))


def _switches(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """(path, default) of every switch among a chart's values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _switches(value, (*path, key))
        elif isinstance(value, bool):
            yield (*path, key), value


def _with(values: dict[str, Any], path: tuple[str, ...], value: bool) -> dict[str, Any]:
    """The values with one of them set."""
    key, *rest = path
    return {**values, key: _with(values.get(key, {}), tuple(rest), value) if rest else value}


def _renderings() -> Iterator[tuple[Federation, Cluster, dict[str, Any]]]:
    """(federation, cluster, values) of all that a params file for the sandbox may make of its chart."""
    for params in _variants():
        for of in params.clusters:
            yield params, of, rendered.values(params, of)
    params = sandbox_params()
    for path, default in _switches(yaml.safe_load((CHART / "values.yaml").read_text())):
        for of in params.clusters:
            yield params, of, _with(rendered.values(params, of), path, not default)


def _render(params: Federation, of: Cluster, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects; none where the chart refuses the values."""
    try:
        return Charts().render(of.release, of.namespace, params.chart, values)
    except ApplyError:
        return []


def derived() -> dict[str, list[dict[str, Any]]]:
    """The rights for the sandbox's chart with any option, as they are shipped."""
    jobs = list(_renderings())
    with ThreadPoolExecutor(4) as pool:
        objects = list(pool.map(lambda job: _render(*job), jobs))
    found = {}
    for key, read_only in (("run", False), ("read-only", True)):
        rules = [
            rule
            for (params, of, _), these in zip(jobs, objects, strict=True)
            for rule in needs(params, of, these, read_only=read_only, create_namespace=True)
        ]
        found[key] = [{**rule.data(), "why": rule.why} for rule in facts.anywhere(rules)]
    return found


def written() -> str:
    return json.dumps(derived(), indent=1) + "\n"


def test_the_rights_that_are_shipped_are_those_that_the_sandboxs_chart_asks_for():
    """They come up with a sandbox, where rendering a chart would take too long: `python -m tests.test_rbac`."""
    assert SHIPPED.read_text() == written()


if __name__ == "__main__":
    SHIPPED.write_text(written())
