"""`consulfed rbac`: the rights of the runbook's service account, as a manifest for `kubectl apply -f -`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ..errors import ParamsError
from .manifest import LABEL, NAMESPACE, Subject, manifest, shipped
from .rules import simplify


@click.command()
@click.argument("params_files", metavar="[PARAMS]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--read-only", is_flag=True, help="Only what a dry run and the verification need.")
@click.option(
    "--traffic", is_flag=True, help="Also what 05 needs: test workloads in a namespace of their own."
)
@click.option("--datacenter", default="", metavar="DC", help="The rights in this datacenter's cluster alone.")
@click.option(
    "--service-account",
    metavar="[NAMESPACE/]NAME",
    help=f"For this service account; it is made.  [default: {NAMESPACE}/consulfed]",
)
@click.option("--user", metavar="NAME", help="For this user instead of a service account.")
@click.option("--group", metavar="NAME", help="For this group instead of a service account.")
def rbac(
    params_files: tuple[Path, ...],
    read_only: bool,
    traffic: bool,
    datacenter: str,
    service_account: str | None,
    user: str | None,
    group: str | None,
) -> None:
    """Print the rights that the runbook needs, for `kubectl apply -f -`.

    With PARAMS: exactly the rights for the chart, version and options of that federation, in the namespaces of its
    releases. The chart is rendered for it, which takes Helm and the chart, and no cluster. It is one manifest for
    all clusters of the federation, to be applied to each by its administrator:

    \b
      consulfed rbac PARAMS | kubectl --context ADMIN apply -f -

    Several PARAMS together: those of the release as it is and of what it is to become. An upgrade deletes what the
    next version does not have any more.

    Without PARAMS: the rights for the chart of the sandbox, with any namespace and option; the sandbox's own contexts
    have these.

    A large part is what the chart's own roles grant: Kubernetes lets nobody hand out rights that they do not have.

    With --read-only nothing can be changed in the clusters. It is no small right all the same: it reads the Secrets
    of the release's namespace, and runs commands in the Consul servers' pods. A pipeline that verifies every night
    needs no more than that.
    """
    subject = _subject(service_account, user, group, read_only)
    if not params_files:
        if datacenter:
            raise click.UsageError("--datacenter chooses one of PARAMS: name that file, too")
        name = "consulfed-read-only" if read_only else "consulfed"
        click.echo(manifest(shipped(read_only), subject, name, _heading_of_any(subject, read_only)), nl=False)
        return
    from ..params import load
    from .rendered import for_federation

    federations = [load(each) for each in params_files]
    rules, heading = [], []
    for path, params in zip(params_files, federations, strict=True):
        names = [cluster.datacenter for cluster in params.clusters]
        if datacenter and datacenter not in names:
            raise ParamsError(
                f"--datacenter {datacenter} is none of {path}.",
                f"one of: {', '.join(names)}; or none for all",
            )
        rules += for_federation(params, datacenter, read_only)
        rules += for_federation(params, datacenter, read_only, "05") if traffic else []
        where = f"the cluster of {datacenter}" if datacenter else f"each cluster of {', '.join(names)}"
        chart = f"chart {params.chart.ref} {params.chart.version}"
        heading.append(f"Federation {params.federation}, {chart}: rights in {where}.")
    # A name for each federation: two of them may share a cluster.
    slug = re.sub(r"[^a-z0-9]+", "-", federations[0].federation.lower()).strip("-")
    name = "-".join(part for part in ("consulfed", slug, "read-only" if read_only else "") if part)
    text = "\n".join([*heading, _heading(subject, read_only)])
    click.echo(manifest(simplify(rules), subject, name, text), nl=False)


def _subject(service_account: str | None, user: str | None, group: str | None, read_only: bool) -> Subject:
    if sum(each is not None for each in (service_account, user, group)) > 1:
        raise click.UsageError("give one of --service-account, --user and --group")
    if user is not None:
        return Subject("User", user)
    if group is not None:
        return Subject("Group", group)
    namespace, _, name = (service_account or "").rpartition("/")
    return Subject(
        "ServiceAccount",
        name or ("consulfed-read-only" if read_only else "consulfed"),
        namespace or NAMESPACE,
    )


def _heading_of_any(subject: Subject, read_only: bool) -> str:
    lines = [
        "For the chart that the sandbox offers, with any namespace, name and option, and thus for the whole cluster.",
        "For a chart, version and options of your own, and for no more than they need: consulfed rbac PARAMS",
    ]
    return "\n".join([*lines, _heading(subject, read_only)])


def _heading(subject: Subject, read_only: bool) -> str:
    """What it is enough for, how it is used, and how it is taken back."""
    label = ",".join(f"{key}={value}" for key, value in LABEL.items())
    lines = ["Enough for `consulfed run PARAMS --apply`."]
    if read_only:
        lines = [
            "Enough for `consulfed run PARAMS` (a dry run) and for `--only 04`, the verification. It changes nothing",
            "in the cluster, but it reads the Secrets beside Consul, and runs commands in the pods of its servers.",
        ]
    if subject.kind == "ServiceAccount":
        lines.append(f"A token for it: kubectl --namespace {subject.namespace} create token {subject.name}")
    return "\n".join(
        [
            *lines,
            "Apply it as an administrator. To take it back, go by the label, because `kubectl delete -f -` would take",
            "the namespaces with it, and all that is in them:",
            "  kubectl delete clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts \\",
            f"    --all-namespaces --selector {label}",
        ]
    )
