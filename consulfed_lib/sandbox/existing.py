"""A Consul that somebody else installed "two years ago": for the runbook to find, to bring to federation, and to spare.

`consulfed sandbox up --existing KIND` puts it into the first cluster, by Helm alone and with values of its own that no
federation needs and that must outlive one. It is in use: keys in KV, services of machines outside in the catalog, and
two workloads in the mesh whose sidecars are as the injector made them on that day.

Kinds:
    plain       TLS off, ACLs off, gossip in the clear
    tls         TLS on with the chart's defaults, a gossip key of its own
    acl         TLS on, ACLs managed without a replication token, a generated gossip key
    old-chart   as `tls`, from an older version of the chart
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import SandboxError
from . import existing_data as data
from .consul_k8s.consul_api import ConsulApi
from .consul_k8s.kube_secrets import read_secret
from .controllers.client import KubeClient, KubeError, Object
from .layout import ClusterLayout
from .node.consul_http import ConsulError
from .state import Folder, Shape, remove_tree, write_json

Report = Callable[[str], None]

RELEASE = NAMESPACE = "consul"
GOSSIP_SECRET, GOSSIP_KEY = "consul-gossip", "key"
"""Where the gossip key of its own is, for the kinds that have one."""

OWN, GENERATED = "own", "generated"
"""Where a gossip key comes from: a Secret of its owner's, or the chart."""

OLD_VERSION = "1.8.16-sandbox"
"""The chart of `old-chart`: the same templates under an older version."""

KEYS = 36
"""So many keys are in KV; `keys` names them."""

HELM_SECONDS = 180
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Installation:
    """How that Consul was installed.

    Attributes:
        gossip: OWN or GENERATED; empty: in the clear.
        old: from an older version of the sandbox's chart.
        servers: how many; 0: one on each node.
        name: `global.name`; empty: not said.
        fullname: what its objects' names begin with, as it follows from the names beside it.
        secret, key: where the gossip key of its owner's is.
    """

    tls: bool = False
    acls: bool = False
    gossip: str = ""
    old: bool = False
    servers: int = 0
    datacenter: str = "dc1"
    domain: str = "consul"
    namespace: str = NAMESPACE
    release: str = RELEASE
    name: str = "consul"
    fullname: str = "consul"
    fullname_override: str = ""
    secret: str = GOSSIP_SECRET
    key: str = GOSSIP_KEY


KINDS = {
    "plain": Installation(),
    "tls": Installation(tls=True, gossip=OWN),
    "acl": Installation(tls=True, acls=True, gossip=GENERATED),
    "old-chart": Installation(tls=True, gossip=OWN, old=True),
}


def values(kind: str, servers: int) -> dict[str, Any]:
    """What was given to Helm for one of the kinds."""
    return values_of(KINDS[kind], servers)


def values_of(of: Installation, servers: int) -> dict[str, Any]:
    """What was given to Helm: a few settings that matter for a federation, and many that do not.

    `limits: null` takes the chart's default away, `"4711"` is text, and `controller` is a key of charts before 1.0:
    each of them is easy to lose. That servers do not leave raft when they are stopped is as in charts of that time.
    """
    consul: dict[str, Any] = {
        "datacenter": of.datacenter,
        "logLevel": "warn",
        "extraLabels": {"team": "platform"},
    }
    if of.name:
        consul["name"] = of.name
    if of.domain != "consul":
        consul["domain"] = of.domain
    if of.tls:
        consul["tls"] = {"enabled": True}
    if of.acls:
        consul["acls"] = {"manageSystemACLs": True}
    if of.gossip == GENERATED:
        consul["gossipEncryption"] = {"autoGenerate": True}
    if of.gossip == OWN:
        consul["gossipEncryption"] = {"secretName": of.secret, "secretKey": of.key}
    return {
        **({"fullnameOverride": of.fullname_override} if of.fullname_override else {}),
        "global": consul,
        "server": {
            "replicas": servers,
            "storage": "2Gi",
            "extraLabels": {"cost-center": "4711"},
            "resources": {"requests": {"memory": "300Mi", "cpu": "150m"}, "limits": None},
            "extraConfig": '{"dns_config": {"service_ttl": {"*": "3s"}}, "session_ttl_min": "15s",\n'
            ' "leave_on_terminate": false, "autopilot": {"server_stabilization_time": "2s"}}\n',
            "extraEnvironmentVars": {"TZ": "Europe/Berlin"},
        },
        "ui": {"service": {"type": "ClusterIP", "annotations": "owner: platform\n"}},
        "dns": {"enabled": True, "annotations": 'note: "asked by the stub domain consul"\n'},
        "connectInject": {"enabled": True, "default": False},
        "controller": {"enabled": True},
    }


def params(kind: str) -> dict[str, Any]:
    """What of a params file is different for a first cluster with such a Consul."""
    of = KINDS[kind]
    found: dict[str, Any] = {"acls": of.acls, "gossip_encryption": bool(of.gossip)}
    if of.gossip == OWN:
        found["gossip_key"] = {"secret": of.secret, "key": of.key}
    return {**found, "upgrade": {"existing": True}}


def keys() -> dict[str, str]:
    """Key → value of what is in KV.

    >>> len(keys()), keys()["shop/config/07"]
    (36, '{"position": 7}')
    """
    return {f"shop/config/{number:02}": json.dumps({"position": number}) for number in range(KEYS)}


def install(folder: Folder, shape: Shape, helm: Path, report: Report) -> None:
    """Install the kind that the sandbox was asked for in the first cluster, and fill it; returns when it serves. Does
    nothing where that was done already.

    Run again after it was cut off at any point it goes on from there: what is there stays. Raises SandboxError.
    """
    if folder.existing_file.exists():
        return
    kind = shape.existing
    install_as(KINDS[kind], folder, shape, helm, folder.chart, report)
    write_json(folder.existing_file, {"kind": kind})


def install_as(
    of: Installation, folder: Folder, shape: Shape, helm: Path, chart: Path, report: Report
) -> None:
    """Install a Consul in the first cluster and fill it; returns when it serves. Raises SandboxError.

    Args:
        chart: its folder; of an old one it is the sandbox's.
    """
    try:
        asyncio.run(_install(of, folder, shape, helm, chart, report))
    except (KubeError, ConsulError, TimeoutError) as error:
        raise SandboxError(
            f"The Consul that is to be there already could not be set up: {error}.",
            f"see {folder.log}, or run `consulfed sandbox down` and up again.",
        ) from error


async def _install(
    of: Installation, folder: Folder, shape: Shape, helm: Path, chart: Path, report: Report
) -> None:
    first = shape.layout(folder.path).clusters[0]
    async with client_of(folder, first) as client:
        await apply(client, data.namespace(of.namespace))
        if of.gossip == OWN:
            await give_gossip_key(client, of.namespace, of.secret, of.key)
        chart = _old_chart(folder) if of.old else chart
        report(f"{first.name}: installing a Consul that was there before ({shape.existing or of.fullname})")
        given = values_of(of, of.servers or shape.servers)
        await asyncio.to_thread(_helm, of, folder, first, helm, chart, given)
        consul = await _consul(client, of)
        try:
            await _fill(consul)
        finally:
            await consul.close()
        for item in data.shop():
            await apply(client, item)
        await asyncio.wait_for(_until_ready(client), READY_SECONDS)
    report(f"{first.name}: Consul serves {len(keys())} keys, and a shop in the mesh")


def client_of(folder: Folder, cluster: ClusterLayout) -> KubeClient:
    """As the kubeconfig's administrator of that cluster."""
    config = yaml.safe_load(folder.kubeconfig.read_text())
    tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
    authorities = {one["name"]: one["cluster"]["certificate-authority-data"] for one in config["clusters"]}
    ca_pem = base64.b64decode(authorities[cluster.context]).decode()
    return KubeClient(cluster.api_url, ca_pem, tokens[f"{cluster.context}-admin"], "kubectl")


async def give_gossip_key(client: KubeClient, namespace: str, name: str, key: str) -> None:
    """A Secret with a fresh gossip key, where there is none of that name."""
    if await read_secret(client, namespace, name) is None:
        fresh = base64.b64encode(secrets.token_bytes(32)).decode()
        await client.create("v1", "secrets", data.secret(namespace, name, {key: fresh}), namespace)


async def apply(client: KubeClient, item: Object) -> None:
    """Create it; what is there already stays as it is."""
    namespace = item["metadata"].get("namespace")
    plural = data.plural(item["kind"])
    if await client.find(item["apiVersion"], plural, item["metadata"]["name"], namespace) is None:
        await client.create(item["apiVersion"], plural, item, namespace)


def _old_chart(folder: Folder) -> Path:
    """A copy of the sandbox's chart that says an older version; it stays as long as the sandbox's state."""
    chart = folder.chart.with_name(f"consul-{OLD_VERSION}")
    remove_tree(chart)
    shutil.copytree(folder.chart, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": OLD_VERSION}))
    return chart


def _helm(
    of: Installation, folder: Folder, cluster: ClusterLayout, helm: Path, chart: Path, given: dict[str, Any]
) -> None:
    """`helm install` as a person would have typed it; one that was cut off is taken away first."""
    where = ["--kubeconfig", str(folder.kubeconfig), "--kube-context", f"{cluster.context}-admin"]
    where += ["--namespace", of.namespace]
    state = _run([str(helm), "status", of.release, "--output", "json", *where])
    status = json.loads(state.stdout)["info"]["status"] if state.returncode == 0 else ""
    if status == "deployed":
        return
    if status:
        _run([str(helm), "uninstall", of.release, "--no-hooks", "--wait", *where])
    command = [str(helm), "install", of.release, str(chart), "--values", "-", "--wait"]
    command += ["--timeout", f"{HELM_SECONDS}s", *where]
    done = _run(command, yaml.safe_dump(given, sort_keys=False))
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["helm said nothing"]
        raise SandboxError(f"Helm could not install that Consul: {last[0]}", f"see {folder.log}.")


def _run(command: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    # A plugin's or a user's own settings are none of the sandbox's business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELM_")}
    return subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, timeout=2 * HELM_SECONDS
    )


async def _consul(client: KubeClient, of: Installation) -> ConsulApi:
    """A client of its servers, as an administrator has one."""

    async def addresses() -> list[str]:
        pods = await client.list("v1", "pods", of.namespace, label_selector="component=server")
        return [pod["status"]["podIP"] for pod in pods if pod.get("status", {}).get("podIP")]

    ca, token = None, ""
    if of.tls:
        authority = await read_secret(client, of.namespace, f"{of.fullname}-ca-cert")
        ca = (authority or {}).get("tls.crt", b"").decode()
    if of.acls:
        bootstrap = await read_secret(client, of.namespace, f"{of.fullname}-bootstrap-acl-token")
        token = (bootstrap or {}).get("token", b"").decode()
    return ConsulApi(addresses, 8501 if ca else 8500, ca or None, "localhost", token, timeout=10.0)


async def _fill(consul: ConsulApi) -> None:
    for key, value in keys().items():
        await consul.put(f"/v1/kv/{key}", json.loads(value))
    for registration in data.registrations():
        await consul.put("/v1/catalog/register", registration)


async def _until_ready(client: KubeClient) -> None:
    """Return when every Deployment of the shop is available."""
    waiting = {item["metadata"]["name"] for item in data.shop() if item["kind"] == "Deployment"}
    async with aclosing(client.watch("apps/v1", "deployments", data.SHOP)) as deployments:
        async for _, deployment in deployments:
            if (deployment.get("status") or {}).get("availableReplicas"):
                waiting.discard(deployment["metadata"]["name"])
            if not waiting:
                return
