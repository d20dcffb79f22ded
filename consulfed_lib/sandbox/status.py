"""How a sandbox is: what its supervisor says, what its API servers answer, what its processes use."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .faults import active
from .layout import ClusterLayout
from .state import Folder
from .tasks import Health

ANSWER_SECONDS = 3.0


@dataclass
class Program:
    """A child process of the supervisor; memory in MiB as PSS, None where it cannot be seen."""

    name: str
    pod: str
    pid: int
    memory_mib: float | None


@dataclass
class ClusterStatus:
    """One cluster.

    Attributes:
        problem: why the API server does not answer; empty when it does.
        releases: of Helm, the newest revision of each.
        pods: IP address → namespace/name.
        tasks: the supervisor's tasks for this cluster, by name.
    """

    name: str
    context: str
    url: str
    problem: str = ""
    nodes: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    pods: dict[str, str] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)
    tasks: dict[str, Health] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return not self.problem and all(task.state == "running" for task in self.tasks.values())


@dataclass
class Status:
    """`up` is whether the supervisor lives and every API server answers.

    Attributes:
        existing: the kind of Consul that the first cluster came with; empty: with none.
        faults: those that were injected and not taken back (`faults`), oldest first.
    """

    folder: str
    up: bool = False
    pid: int | None = None
    block: int | None = None
    kubeconfig: str = ""
    clusters: list[ClusterStatus] = field(default_factory=list)
    memory_mib: float | None = None
    existing: str = ""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.pid is None:
            return f"down ({self.folder})"
        lines = [f"{'up' if self.up else 'not well'}: supervisor {self.pid}, {_mib(self.memory_mib)} in all"]
        if self.existing:
            lines.append(
                f"{self.clusters[0].context} came with a Consul that was there before ({self.existing})"
            )
        if self.faults:
            lines.append(f"faults in force: {', '.join(self.faults)}")
        for cluster in self.clusters:
            state = cluster.problem or f"answers, {len(cluster.nodes)} node(s)"
            lines.append(f"{cluster.context}  {cluster.url}  {state}")
            lines += [f"  release  {release}" for release in cluster.releases]
            lines += [f"  {p.name:<7}  {p.pod}  pid {p.pid}  {_mib(p.memory_mib)}" for p in cluster.programs]
            for name, task in cluster.tasks.items():
                if task.state != "running" or task.restarts:
                    lines.append(f"  task {name} {task.state}, started again {task.restarts}×: {task.error}")
        return "\n".join(lines)


def look(folder: Folder) -> Status:
    """The status of the sandbox in that folder, as it is now."""
    process, shape = folder.process(), folder.shape()
    if process is None or shape is None:
        return Status(str(folder.path))
    layout = shape.layout(folder.path)
    tasks = folder.health()
    access = _access(folder)
    with ThreadPoolExecutor(len(layout.clusters)) as pool:
        clusters = list(
            pool.map(lambda cluster: _look_at(cluster, access.get(cluster.context)), layout.clusters)
        )
    memory = _processes(process.pid, clusters)
    for cluster in clusters:
        cluster.tasks = {
            name.partition("/")[2]: Health(**health)
            for name, health in tasks.items()
            if name.partition("/")[0] == cluster.name
        }
    up = not any(cluster.problem for cluster in clusters)
    kubeconfig = str(folder.kubeconfig)
    return Status(
        str(folder.path),
        up,
        process.pid,
        layout.block,
        kubeconfig,
        clusters,
        memory,
        shape.existing,
        active(folder),
    )


@dataclass(frozen=True)
class _Access:
    token: str
    tls: ssl.SSLContext


def _access(folder: Folder) -> dict[str, _Access]:
    """Context → how to talk to its API server, from the kubeconfig; empty until that is written."""
    import yaml

    try:
        config = yaml.safe_load(folder.kubeconfig.read_text())
    except FileNotFoundError:
        return {}
    tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
    authorities = {
        cluster["name"]: base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        for cluster in config["clusters"]
    }
    return {
        name: _Access(tokens[name], ssl.create_default_context(cadata=authority))
        for name, authority in authorities.items()
    }


def _look_at(layout: ClusterLayout, access: _Access | None) -> ClusterStatus:
    status = ClusterStatus(layout.name, layout.context, layout.api_url)
    if access is None:
        status.problem = "is starting"
        return status
    try:
        nodes = _get(layout, access, "/api/v1/nodes")["items"]
        pods = _get(layout, access, "/api/v1/pods")["items"]
        releases = _get(layout, access, "/api/v1/secrets", labelSelector="owner=helm")["items"]
    except (OSError, ValueError) as error:
        status.problem = f"does not answer: {getattr(error, 'reason', error)}"
        return status
    status.nodes = [node["metadata"]["name"] for node in nodes]
    status.pods = {
        pod["status"]["podIP"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if pod.get("status", {}).get("podIP")
    }
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for metadata in sorted(
        (item["metadata"] for item in releases), key=lambda m: int(m["labels"]["version"])
    ):
        newest[metadata["namespace"], metadata["labels"]["name"]] = metadata["labels"]
    status.releases = [
        f"{namespace}/{name} revision {labels['version']} {labels['status']}"
        for (namespace, name), labels in sorted(newest.items())
    ]
    return status


def _get(layout: ClusterLayout, access: _Access, path: str, **query: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{layout.api_url}{path}?{urllib.parse.urlencode(query)}",
        headers={"Authorization": f"Bearer {access.token}", "Accept": "application/json"},
    )
    # Without a proxy, whatever the environment says: it is this machine.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=access.tls)
    )
    with opener.open(request, timeout=ANSWER_SECONDS) as response:
        return json.load(response)


def _processes(supervisor: int, clusters: list[ClusterStatus]) -> float | None:
    """Enter each program into its cluster; returns the memory of all, the supervisor's own included."""
    import psutil

    try:
        parent = psutil.Process(supervisor)
        children = parent.children(recursive=True)
    except psutil.Error:
        return None
    total = _memory(parent) or 0.0
    for child in children:
        try:
            name = child.name()
            listening = {
                at.laddr.ip for at in child.net_connections("tcp") if at.status == psutil.CONN_LISTEN
            }
        except psutil.Error:
            # It has ended since.
            continue
        memory = _memory(child)
        total += memory or 0.0
        for cluster in clusters:
            # A program belongs to the pod at whose address it listens.
            for address in sorted(listening & cluster.pods.keys()):
                cluster.programs.append(Program(name, cluster.pods[address], child.pid, memory))
    for cluster in clusters:
        cluster.programs.sort(key=lambda program: (program.name, program.pod))
    return round(total, 1)


def _memory(process: Any) -> float | None:
    """Proportional set size in MiB: pages that several processes share count once in a sum of them."""
    import psutil

    try:
        return round(process.memory_full_info().pss / 2**20, 1)
    except psutil.Error:
        return None


def _mib(memory: float | None) -> str:
    return "memory unknown" if memory is None else f"{memory:.0f} MiB"
