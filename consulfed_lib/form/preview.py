"""What a params file leads to: the Helm values of each cluster, and the commands that use it without a form."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel

from ..checks.values import UNKNOWN_URL
from ..params import Federation, anchored, kubeconfig_servers
from ..params.secrets import secrets_in
from ..steps import NOTEBOOKS
from ..values import primary_values, secondary_values
from .shield import shielded


@dataclass(frozen=True)
class Values:
    """Helm values of one datacenter as this file leads to them."""

    datacenter: str
    role: str
    text: str


def values(params: Federation) -> Iterator[Values]:
    """The Helm values of the primary and of each secondary; of a secret they hold the name.

    Where a release is there already and kept (`upgrade.existing`), its own values lie under the primary's.
    """
    servers = kubeconfig_servers(params.kubeconfig)
    for of in params.clusters:
        if of is params.primary:
            role, found = "primary", primary_values(params)
        else:
            url = of.api_url or servers.get(of.context, "") or UNKNOWN_URL
            role, found = "secondary", secondary_values(params, of, url)
        head = (
            f"# {of.datacenter}, {role}: release {of.release} in namespace {of.namespace} of {of.context}\n"
        )
        if role == "primary" and params.upgrade.existing:
            head += (
                "# The values of the release that is there stay; the plan of 01 shows what changes in them.\n"
            )
        text = yaml.safe_dump(found, sort_keys=False, default_flow_style=False, width=100)
        yield Values(of.datacenter, role, head + text)


def commands(file: Path) -> str:
    """The same without a form, for a shell at the top of the repository."""
    root = next(
        (each for each in file.resolve().parents if (each / "notebooks" / "00-preflight.ipynb").exists()),
        None,
    )
    path = shlex.quote(str(file.resolve().relative_to(root) if root else file))
    name = next(iter(NOTEBOOKS))
    return "\n".join(
        [
            f"consulfed params check {path}",
            f"consulfed params values {path}",
            f"consulfed run {path}                 # dry run: shows what would change",
            f"consulfed run {path} --apply",
            f"papermill notebooks/{name}.ipynb {name}-out.ipynb -f {path}    # one notebook alone",
        ]
    )


def parameters_cell(raw: Mapping[str, Any], file: Path) -> str:
    """The same as the parameters cell of a notebook, for who runs the notebooks by hand."""
    raw = anchored(shielded(raw, secrets_in(raw)), file.resolve().parent)
    lines = []
    for name, field in Federation.model_fields.items():
        if name in raw:
            kind = get_origin(field.annotation) or field.annotation
            kind = dict if isinstance(kind, type) and issubclass(kind, BaseModel) else kind
            written = kind.__name__ if isinstance(kind, type) else "str"
            lines.append(f"{name}: {written} = {raw[name]!r}  # {field.description}")
    return "\n".join(lines)
