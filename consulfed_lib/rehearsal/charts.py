"""Which chart is rehearsed: the pinned one where it can be had here and now, else the sandbox's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConsulfedError
from ..helm import Charts
from ..params import SANDBOX, Chart, read_yaml
from .words import REPLACED, Row

FETCH_SECONDS = 20.0
"""Until Helm has to have fetched the chart: who rehearses on a machine without a network does not wait for it."""


@dataclass(frozen=True)
class Found:
    """A chart on this machine, in a folder or an archive.

    Attributes:
        chart: as the rehearsal's parameters have it.
        own: whether it is the sandbox's, which has other values, templates and images than HashiCorp's.
        values: its own values.yaml.
        row: what is said of it.
    """

    chart: Chart
    own: bool
    values: Mapping[str, Any]
    row: Row

    @property
    def place(self) -> Path:
        return Path(self.chart.ref)

    @property
    def of_the_user(self) -> Mapping[str, Any] | None:
        """The values of the chart that the user's parameters name; None where another one stands for it."""
        return None if self.row.how == REPLACED else self.values


def find(wanted: Chart, sandbox_chart: Path, into: Path, seconds: float = FETCH_SECONDS) -> Found:
    """The pinned chart, from where it is or through Helm (its caches, or its repository); else the sandbox's own.

    Args:
        sandbox_chart: folder of the sandbox's chart.
        into: an empty folder for one that is fetched.
    """
    if wanted.ref == SANDBOX:
        return _sandbox(sandbox_chart, Row.imitated("chart", "the sandbox's own, as your parameters say"))
    here = Path(wanted.ref)
    try:
        if here.exists():
            return _read(wanted, here, f"{wanted.ref} {wanted.version}, from that place")
        return _read(
            wanted, Charts().pull(wanted, into, seconds), f"{wanted.ref} {wanted.version}, fetched by Helm"
        )
    except ConsulfedError as error:
        why = f"{wanted.ref} {wanted.version} by the sandbox's own: it cannot be had here ({error.found.rstrip('.')})"
        return _sandbox(sandbox_chart, Row.replaced("chart", why))


def _read(wanted: Chart, place: Path, what: str) -> Found:
    chart = Chart(ref=str(place.absolute()), version=wanted.version)
    return Found(chart, False, Charts().chart_values(chart), Row.imitated("chart", what))


def _sandbox(folder: Path, row: Row) -> Found:
    version = yaml.safe_load((folder / "Chart.yaml").read_text())["version"]
    return Found(Chart(ref=str(folder), version=version), True, read_yaml(folder / "values.yaml"), row)
