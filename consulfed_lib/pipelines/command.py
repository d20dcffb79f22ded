"""`consulfed pipeline`: a pipeline for one federation, as a file of GitHub Actions, GitLab CI or Argo Workflows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import options

if TYPE_CHECKING:
    from ..params import Federation

SYSTEMS = {
    "github": ".github/workflows/consulfed.yaml",
    "gitlab": ".gitlab-ci.yml",
    "argo": "kubectl apply -f -",
}
"""System → where its pipeline goes."""

RUNBOOK = ("consulfed_lib/**", "notebooks/**")
"""What else than its own files decides what is done to a federation."""

_LONGEST = 30
"""Characters of a federation's name in the names of objects: those of Argo's CronWorkflows may have 52."""


@click.command()
@click.argument("system", metavar="|".join(SYSTEMS), type=click.Choice(list(SYSTEMS)))
@options.params_file
def pipeline(system: str, params_file: Path) -> None:
    """Print a pipeline for the federation that PARAMS describes, for GitHub Actions, GitLab CI or Argo Workflows.

    It plans on each pull request and shows the plan to the reviewer, waits for an approval, applies exactly the plan
    that was approved, verifies the record, and keeps it as an artefact, also when the apply fails; it verifies the
    federation every night. Its first lines say what you set up once. Where it goes:

    \b
      consulfed pipeline github PARAMS > .github/workflows/consulfed.yaml
      consulfed pipeline gitlab PARAMS > .gitlab-ci.yml
      consulfed pipeline argo PARAMS | kubectl apply -f -
    """
    from ..params import load

    params = load(params_file)
    if params.kubeconfig:
        click.echo(
            f"{params_file} has `kubeconfig: {params.kubeconfig}`: leave that out, so that the pipeline's own is used.",
            err=True,
        )
    click.echo(filled_in(system, params_file, params), nl=False)


def template(system: str) -> str:
    """The pipeline as it is shipped."""
    return (Path(__file__).parent / f"{system}.yaml").read_text(encoding="utf-8")


def filled_in(system: str, params_file: Path, params: Federation) -> str:
    """The pipeline of one federation, its files named as from the top of their repository."""
    top = _top(params_file)
    file = _from(top, params_file)
    files = [*params.values_files, *(each for cluster in params.clusters for each in cluster.values_files)]
    inside = [_from(top, Path(each)) for each in files if Path(each).absolute().is_relative_to(top)]
    paths = list(dict.fromkeys([file, *inside, *RUNBOOK]))
    slug = re.sub(r"[^a-z0-9]+", "-", params.federation.lower())[:_LONGEST].strip("-")
    words = {
        "<params>": json.dumps(file),
        "<file>": file,
        "<paths>": json.dumps(paths),
        "<federation>": params.federation,
        "<slug>": slug,
    }
    return re.sub("|".join(words), lambda match: words[match[0]], template(system))


def _top(params_file: Path) -> Path:
    """The top of the repository that holds the file; outside of one, the folder that we are in."""
    folder = params_file.absolute().parent
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), Path.cwd())


def _from(top: Path, file: Path) -> str:
    path = file.absolute()
    return (path.relative_to(top) if path.is_relative_to(top) else file).as_posix()
