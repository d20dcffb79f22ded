"""`consulfed params`: check a params file, make one, and see the Helm values that it leads to."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options
from ..errors import ParamsError


@click.group()
def params() -> None:
    """Make the parameters of a federation, check them, and see what they lead to."""


@params.command()
@options.params_file
def check(params_file: Path) -> None:
    """Check a params file without any cluster; every mistake is listed at once.

    Read are the parameters, the files of Helm values that they name, what the values of all datacenters come to, and
    the pinned chart, if it is a folder or Helm can fetch it.
    """
    from ..offline import checked

    found = checked(params_file, tell=click.echo)
    names = ", ".join(c.datacenter for c in found.secondaries)
    click.echo(f"{params_file} is well: {found.primary.datacenter} is the primary of {names}.")


@params.command()
@options.params_file
@click.option("--datacenter", default="", metavar="NAME", help="Of this datacenter only.")
def values(params_file: Path, datacenter: str) -> None:
    """Print the Helm values of each datacenter that PARAMS lead to, as YAML documents. No cluster is asked."""
    from ..params import load
    from .preview import values as previewed

    found = list(previewed(load(params_file)))
    names = [each.datacenter for each in found]
    if datacenter and datacenter not in names:
        raise ParamsError(
            f"There is no datacenter {datacenter!r} in {params_file}.", f"choose one of: {', '.join(names)}"
        )
    click.echo("---\n".join(each.text for each in found if datacenter in ("", each.datacenter)), nl=False)


@params.command()
@click.option(
    "--context", "contexts", multiple=True, metavar="CONTEXT[=DATACENTER]",
    help="A context of the kubeconfig, and what its datacenter is called; twice or more.  [default: those of the"
    " sandbox, with --kubeconfig sandbox]",
)  # fmt: skip
@click.option(
    "--primary", default="", metavar="CONTEXT", help="The primary's context.  [default: the first one]"
)
@click.option(
    "--federation", default="", metavar="NAME", help="Name of the federation.  [default: the file's name]"
)
@click.option(
    "--kubeconfig", default="", metavar="PATH", help="As the parameter: a path, or the word sandbox."
)
@click.option("--chart-version", default="", metavar="VERSION", help="Exact version of the chart.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file to make.  [default: print it]"
)
def new(
    contexts: tuple[str, ...],
    primary: str,
    federation: str,
    kubeconfig: str,
    chart_version: str,
    output: Path | None,
) -> None:
    """Make a params file for the clusters of these contexts, each key with its meaning.

    The clusters are asked for their version and for a Consul that is there already; one that does not answer within 5
    seconds is told and does not matter. A file that is there is left as it is.
    """
    from .contexts import look
    from .draft import Draft
    from .preview import commands
    from .start import beginning, of_contexts

    chosen = dict(_named(each) for each in contexts)
    found = look(kubeconfig)
    if not chosen:
        start = beginning(kubeconfig, found)
        chosen = {
            each["context"]: ""
            for each in [*filter(None, [start.get("primary")]), *start.get("secondaries", ())]
        }
    if not chosen or (primary and primary not in chosen):
        names = ", ".join(each.context for each in found) or "the kubeconfig has none"
        what = (
            "No context was chosen."
            if not chosen
            else f"The primary {primary!r} is none of the contexts given."
        )
        raise ParamsError(what, f"give --context for each cluster; known are: {names}")
    known = {each.context: each for each in found}
    for name in chosen:
        click.echo(f"{name}: {known[name].line() if name in known else 'not in the kubeconfig'}", err=True)
    name = federation or (output.stem if output else "")
    raw = of_contexts(kubeconfig, chosen, known, primary, name, chart_version)
    draft = Draft(raw, output or Path("params") / f"{raw['federation'] or 'new'}.yaml")
    if output is None:
        draft.hold()
        click.echo(draft.text(), nl=False)
        return
    click.echo(f"{draft.save()} is written. What next:\n{commands(output)}")


def _named(word: str) -> tuple[str, str]:
    """
    >>> _named("eu-west=dc1"), _named("lab")
    (('eu-west', 'dc1'), ('lab', ''))
    """
    context, _, datacenter = word.partition("=")
    return context, datacenter
