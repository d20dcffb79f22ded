"""The offline part: all that can be said of a params file without a cluster (`consulfed params check`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chart import ChartVersion
from .checks import CATALOGUE
from .checks.values import look_at_values
from .errors import ConsulfedError, ParamsError
from .params import SANDBOX, Chart, Federation, anchored, check, read, read_yaml
from .params.files import home
from .params.secrets import masked, secrets_in
from .results import MARKS, Finding
from .values.facts import ABSENT, Datacenter, get
from .values.layers import Layer, file_layer, merge, put, values_layer
from .values.lint import datacenter_mistakes

FETCH = 30.0
"""Seconds that Helm may take to fetch a chart."""


@dataclass(frozen=True)
class Judgement:
    """What can be said of raw parameters without a cluster.

    Attributes:
        params: the parameters; None where one of them is wrong.
        found: what the checks of the Helm values found; nothing where a parameter is wrong.
        error: every mistake; None where all is well.
    """

    params: Federation | None
    found: list[Finding]
    error: ParamsError | None


ChartValues = Callable[[Chart], tuple[Mapping[str, Any] | None, str]]


def checked(params_file: Path, tell: Callable[[str], None]) -> Federation:
    """Read and check a params file, its value files and, if it can be had, its chart; the checks are told.

    Raises ParamsError that lists every mistake: those of the parameters together with those of the user's values.
    """
    judged = judge(read(params_file), params_file)
    _tell(judged.found, tell)
    if judged.error:
        raise judged.error
    assert judged.params is not None
    return judged.params


def judge(raw: Mapping[Any, Any], params_file: Path, chart_values: ChartValues | None = None) -> Judgement:
    """Judge raw parameters that stand in a params file, or will stand in it.

    Args:
        chart_values: gives (the chart's own values, why there are none); by default Helm is asked where it takes that.
    """
    folder = params_file.resolve().parent
    try:
        params = check(anchored(raw, folder), str(params_file))
    except ParamsError as error:
        more = list(dict.fromkeys(_values_mistakes(raw, folder)))
        if not more:
            return Judgement(None, [], error)
        return Judgement(None, [], ParamsError(
            f"The parameters in {params_file} have {len(error.details) + len(more)} mistakes; nothing was written.",
            error.hint,
            [*error.details, *more],
        ))  # fmt: skip
    values, missing = (chart_values or _chart_values)(params.chart)
    found = look_at_values(params, values, missing=missing)
    errors = [each for each in found if each.severity == "error"]
    if not errors:
        return Judgement(params, found, None)
    lines = [f"{each.subject}: {each.found}" for each in errors]
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return Judgement(params, found, ParamsError(
        f"The Helm values of {params_file} have {count}; nothing was written.",
        "; ".join(dict.fromkeys(each.hint for each in errors)),
        lines,
    ))  # fmt: skip


def _tell(found: list[Finding], tell: Callable[[str], None]) -> None:
    """A line for each check that is ok, with what it proves; what is wrong in full."""
    for each in found:
        proves = CATALOGUE[each.id].proves
        texts = {"ok": proves, "skipped": f"NOT CHECKED whether {proves}: {each.found}"}
        tell(f"{MARKS[each.severity]} {each.id}: {texts.get(each.severity, f'{each.subject}: {each.found}')}")


def _chart_values(chart: Chart) -> tuple[Mapping[str, Any] | None, str]:
    """(the chart's own values, why there are none); Helm may fetch the chart."""
    try:
        found = folder_values(chart)
        if found is not None:
            return found, ""
        from .helm import Charts  # the Kubernetes client with it, which a folder does not need

        return Charts().chart_values(chart, FETCH), ""
    except ValueError as error:
        return None, str(error)
    except ConsulfedError as error:
        return None, f"the chart cannot be had here ({error.found.rstrip('.')}); preflight will look"


def folder_values(chart: Chart) -> dict[str, Any] | None:
    """The own values of a chart that is a folder; None where it is none. While no sandbox is up, its chart is where it
    is copied from. Raises ValueError where they cannot be read."""
    folder = Path(chart.location)
    if chart.ref == SANDBOX and not folder.is_dir():
        folder = Path(__file__).parent / "sandbox" / "chart" / "consul"
    return read_yaml(folder / "values.yaml") if (folder / "values.yaml").is_file() else None


def _values_mistakes(raw: Mapping[Any, Any], folder: Path) -> Iterator[str]:
    """What is wrong with the user's own values where parameters are wrong, too: as far as can be told of them."""
    chart = raw.get("chart")
    try:
        version = ChartVersion.parse(str(chart.get("version") if isinstance(chart, Mapping) else ""))
    except ValueError:  # among the mistakes of the parameters; facts that need the version are left out
        version = None
    secondaries = raw.get("secondaries")
    clusters = [("primary", raw.get("primary"))]
    clusters += [
        (f"secondaries[{i}]", c) for i, c in enumerate(secondaries if isinstance(secondaries, list) else [])
    ]
    for place, cluster in clusters:
        layers = [*_layers("", raw, folder), *_layers(f"{place}.", cluster, folder)]
        values: dict[str, Any] = {}
        for layer in layers:
            merge(values, layer.values)
        whole: dict[str, Any] = {}
        merge(whole, values)
        put(whole, "global.acls.manageSystemACLs", raw.get("acls", True) is not False)
        of = Datacenter(
            "", "primary" if place == "primary" else "secondary", whole, version or ChartVersion.parse("1.9.11")
        )  # fmt: skip
        for mistake in datacenter_mistakes(of):
            sources = (
                each.source for each in reversed(layers) if get(each.values, mistake.path) is not ABSENT
            )
            source = next(sources, "")
            if source and not mistake.warning and (version or mistake.check not in _BY_VERSION):
                yield f"{source}: {mistake.sentence}"


_BY_VERSION = {"values-generation"}


def _layers(prefix: str, holder: Any, folder: Path) -> list[Layer]:
    """The layers of one place of raw parameters, as far as they are what they should be."""
    if not isinstance(holder, Mapping):
        return []
    files, values, found = holder.get("values_files"), holder.get("values"), []
    for i, file in enumerate(files if isinstance(files, list) else []):
        try:
            found.append(file_layer(prefix, i, str(folder / home(str(file)))))
        except ParamsError:  # among the mistakes of the parameters already
            continue
    found += values_layer(prefix, values if isinstance(values, Mapping) else {})
    # A secret in them is among the mistakes of the parameters already, and the lint quotes values.
    return [Layer(each.source, masked(each.values, secrets_in({"values": each.values}))) for each in found]
