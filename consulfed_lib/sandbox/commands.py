"""`consulfed sandbox …`: the commands; what they do is in `lifecycle`, `status` and `tools`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from .. import places
from ..errors import SandboxError, ToolError
from .layout import EXISTING, LOAD_BALANCERS
from .state import Folder, Shape


def _folder_option(command: Callable) -> Callable:
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        help=f"State folder of another sandbox than the usual one (also: {places.SANDBOX_VARIABLE}).",
    )(command)


def _output_option(command: Callable) -> Callable:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        help="Text, or JSON for a machine.",
    )(command)


def _folder(given: Path | None) -> Folder:
    return Folder(given.expanduser().absolute() if given else places.sandbox_folder())


def _running(given: Path | None) -> tuple[Folder, Shape]:
    """The folder of a sandbox that is up. Raises SandboxError when it is not."""
    folder = _folder(given)
    shape = folder.shape()
    if folder.process() is None or shape is None or not folder.kubeconfig.exists():
        raise SandboxError(f"No sandbox is up in {folder.path}.", "run `consulfed sandbox up`.")
    return folder, shape


def _report(line: str) -> None:
    click.echo(line, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def sandbox() -> None:
    """A federation to practise on: Kubernetes-shaped clusters with real Consul and Envoy, on this machine."""


@sandbox.command()
@click.option("--datacenters", type=int, help="How many clusters.  [default: 2]")
@click.option("--servers", type=int, help="How many nodes in each, one for each Consul server.  [default: 1]")
@click.option("--block", type=int, metavar="A", help="Use the addresses 127.A.0.0/16; default: a free block.")
@click.option(
    "--load-balancer",
    type=click.Choice(LOAD_BALANCERS),
    help="What Services of type LoadBalancer get: an IP, or a hostname as on EKS.  [default: ip]",
)
@click.option(
    "--existing",
    type=click.Choice(EXISTING),
    help="A Consul that the first cluster comes with, installed by somebody else and in use.  [default: none]",
)
@_folder_option
def up(
    datacenters: int | None,
    servers: int | None,
    block: int | None,
    load_balancer: str | None,
    existing: str | None,
    folder: Path | None,
) -> None:
    """Bring the clusters up; returns when every API server answers, and a Consul that is to be there serves."""
    from . import lifecycle

    where = _folder(folder)
    lifecycle.up(where, datacenters, servers, block, _report, load_balancer, existing)
    _report(f"export KUBECONFIG={where.kubeconfig}")


@sandbox.command()
@click.option("--keep", is_flag=True, help="Keep the clusters' state for the next `up`.")
@_folder_option
def down(keep: bool, folder: Path | None) -> None:
    """Take the clusters down; returns when no process and no open port is left."""
    from . import lifecycle

    lifecycle.down(_folder(folder), keep, _report)


@sandbox.command()
@_output_option
@_folder_option
def status(output: str, folder: Path | None) -> int:
    """How the clusters and their programs are; exit code 0 when up, 60 when not."""
    from .status import look

    found = look(_folder(folder))
    click.echo(json.dumps(asdict(found), indent=1) if output == "json" else found)
    return 0 if found.up else SandboxError.exit_code


@sandbox.command()
@click.argument("name", required=False, default="")
@click.option("--clear", "is_cleared", is_flag=True, help="Take back the fault NAME, or all that are active.")
@click.option(
    "--list", "is_listed", is_flag=True, help="Show every fault, whether it is active, what happens."
)
@_output_option
@_folder_option
def fault(name: str, is_cleared: bool, is_listed: bool, output: str, folder: Path | None) -> None:
    """Have the fault NAME: the sandbox misbehaves for real until it is cleared; returns when it does."""
    from . import faults

    where = _folder(folder)
    if is_listed:
        active = faults.active(where)
        found = [
            {"name": each.name, "active": each.name in active, "what": each.what}
            for each in faults.FAULTS.values()
        ]
        if output == "json":
            click.echo(json.dumps(found, indent=1))
            return
        for one in found:
            click.echo(f"{one['name']:<28} {'active' if one['active'] else '':<7} {one['what']}")
    elif is_cleared:
        cleared = faults.clear(where, name)
        _report(f"taken back: {', '.join(cleared)}" if cleared else "nothing to take back")
    elif name:
        faults.inject(where, name)
        _report(f"{name}: {faults.FAULTS[name].what}")
        _report(f"`consulfed sandbox fault --clear {name}` takes it back.")
    else:
        raise SandboxError("Which fault?", "see `consulfed sandbox fault --list`.")


@sandbox.command()
@_folder_option
def kubeconfig(folder: Path | None) -> None:
    """Print the path of the kubeconfig.

    Its contexts are sandbox-dc1, sandbox-dc2, … with the rights of `consulfed rbac`, sandbox-dc1-read-only, … with
    those of `consulfed rbac --read-only`, and sandbox-dc1-admin, … who may do everything.
    """
    click.echo(_running(folder)[0].kubeconfig)


@sandbox.command()
@_folder_option
def params(folder: Path | None) -> None:
    """Print a params file that federates the running clusters."""
    where, shape = _running(folder)
    click.echo(params_text(where, shape), nl=False)


@sandbox.command()
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added, until interrupted.")
@_folder_option
def logs(follow: bool, folder: Path | None) -> None:
    """Show the log of the sandbox's supervisor, of the last one when it is down."""
    log = _folder(folder).log
    if not log.exists():
        raise SandboxError(
            f"There is no log: no sandbox was ever up in {log.parent}.", "run `consulfed sandbox up`."
        )
    if follow:
        os.execvp("tail", ["tail", "--lines=+1", "--follow=name", "--retry", str(log)])
    click.echo(log.read_text(errors="replace"), nl=False)


@sandbox.command()
@_output_option
@click.option(
    "--link", type=click.Path(file_okay=False, path_type=Path), help="Link those not on PATH into here."
)
def tools(output: str, link: Path | None) -> None:
    """Show which helm, kubectl, consul and envoy are used; fetch and verify those that are nowhere.

    nss_wrapper is a library that only a sandbox needs in which a mesh gateway has a name.
    """
    from . import tools as programs

    found = list(programs.ensure(report=_report).values())
    try:
        found += programs.ensure("nss_wrapper", report=_report).values()
    except ToolError as error:
        _report(f"Mesh gateways in the sandbox will do with addresses, but not with names. {error}")
    if output == "json":
        click.echo(json.dumps([{**asdict(tool), "path": str(tool.path)} for tool in found], indent=1))
    else:
        for tool in found:
            click.echo(f"{tool.name:<11} {tool.version:<8} {tool.source}: {tool.path}")
    for made in programs.link(found, link) if link else []:
        _report(f"linked {made}")


def params_text(folder: Folder, shape: Shape) -> str:
    """YAML as in params/sandbox.yaml, for a sandbox of that shape.

    The words `sandbox` for kubeconfig and chart mean the usual sandbox; another one's are given by path.
    """
    import yaml

    usual = folder.path == places.sandbox_folder()
    version = yaml.safe_load((folder.chart / "Chart.yaml").read_text())["version"]
    clusters = [
        {"context": cluster.context, "datacenter": cluster.name, "namespace": "consul", "release": "consul"}
        for cluster in shape.layout(folder.path).clusters
    ]
    values = {
        "federation": "sandbox",
        "reason": "try consulfed on the sandbox",
        "dry_run": True,
        "kubeconfig": "sandbox" if usual else str(folder.kubeconfig),
        "chart": {"ref": "sandbox" if usual else str(folder.chart), "version": version},
        "servers": shape.servers,
        # The chart's default, 443, is a privileged port on one machine.
        "mesh_gateway": {"port": 8443},
        # … and all of them are on it: loopback addresses are meant.
        "private_network": True,
        "primary": clusters[0],
        "secondaries": clusters[1:],
    }
    if shape.existing:
        from .existing import params as existing_params

        values |= existing_params(shape.existing)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
