"""One case of the matrix: the options of a federation of two datacenters, as a params file and as what must be true."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .conftest import PARAMS, Sandbox
from .reality import Reality

FORMS = ("LoadBalancer IP", "LoadBalancer hostname", "NodePort", "NodeIP", "NodeName", "Static")
GOSSIP = ("generated", "given", "off")
ROLES = ("primary", "secondary")

GIVEN_KEY = base64.b64encode(bytes(range(100, 132))).decode()


@dataclass(frozen=True)
class Side:
    """One of the two clusters: where Consul is installed, and how others reach it."""

    form: str
    port: int
    replicas: int = 1
    namespace: str = "consul"
    release: str = "consul"

    def gateway(self, datacenter: str) -> dict[str, Any]:
        """Every field of `mesh_gateway`, so that none of the other side's is inherited."""
        by_node = self.form in ("NodePort", "NodeIP", "NodeName")
        named = self.form in ("NodeIP", "NodeName", "Static")
        return {
            "service": "NodePort" if by_node else "LoadBalancer",
            "port": 8443 if by_node else self.port,
            "node_port": self.port if by_node else 0,
            "replicas": self.replicas,
            "wan_address": self.form if named else "Service",
            "wan_port": self.port if named else 443,
            "static": self.static(datacenter) if self.form == "Static" else "",
        }

    @staticmethod
    def static(datacenter: str) -> str:
        return f"gateway.{datacenter}.example.test"

    def values(self, datacenter: str) -> dict[str, Any]:
        """What lets ExternalDNS publish the name of one's own: values of this cluster only."""
        if self.form != "Static":
            return {}
        annotation = f"external-dns.alpha.kubernetes.io/hostname: {self.static(datacenter)}\n"
        return {"meshGateway": {"service": {"annotations": annotation}}}


@dataclass(frozen=True)
class Case:
    """One federation of two datacenters."""

    acls: bool
    gossip: str
    primary: Side
    secondary: Side
    names: dict[str, str]
    prefixes: tuple[str, str]
    mode: str
    user_values: str
    through_a_tunnel: bool = False
    domain: str = "consul"

    def __str__(self) -> str:
        acls = "acls" if self.acls else "no acls"
        return f"{acls}, gossip {self.gossip}, {self.primary.form} and {self.secondary.form}".replace(
            " ", "-"
        )

    @property
    def sides(self) -> dict[str, Side]:
        return {"primary": self.primary, "secondary": self.secondary}

    @property
    def load_balancer(self) -> str:
        forms = {side.form for side in self.sides.values()}
        return "hostname" if "LoadBalancer hostname" in forms else "ip"


# -- the parameters ---------------------------------------------------------------------------------------------


def realities(sandbox: Sandbox, case: Case) -> tuple[Reality, Reality]:
    made = [
        Reality(
            sandbox,
            f"sandbox-dc{i}",
            f"dc{i}",
            side.namespace,
            side.release,
            case.prefixes[i - 1],
            case.domain,
        )
        for i, side in enumerate(case.sides.values(), 1)
    ]
    return made[0], made[1]


def write_params(sandbox: Sandbox, case: Case, folder: Path, stack: contextlib.ExitStack) -> Path:
    """The case as a params file: what the primary has is the federation's, the secondary overrides it."""
    content = yaml.safe_load(PARAMS.read_text())
    clusters: dict[str, dict[str, Any]] = {
        role: {
            "context": f"sandbox-dc{i}",
            "datacenter": f"dc{i}",
            "namespace": side.namespace,
            "release": side.release,
            "values": side.values(f"dc{i}"),
        }
        for i, (role, side) in enumerate(case.sides.items(), 1)
    }
    clusters["secondary"]["mesh_gateway"] = case.secondary.gateway("dc2")
    content |= case.names | {
        "acls": case.acls,
        "gossip_encryption": case.gossip != "off",
        "gossip_key": {"secret": "our-gossip-key" if case.gossip == "given" else "", "key": "gossip"},
        "proxy_defaults_mode": case.mode,
        "mesh_gateway": case.primary.gateway("dc1"),
    }
    give_user_values(case, content, clusters, folder)
    if case.through_a_tunnel:
        content["kubeconfig"], url = tunnelled_kubeconfig(sandbox, "sandbox-dc2", folder, stack)
        clusters["secondary"]["api_url"] = url
    content |= {"primary": clusters["primary"], "secondaries": [clusters["secondary"]]}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def prepare(sandbox: Sandbox, case: Case) -> None:
    """What a user makes beforehand: a gossip key of their own, and ConfigMaps that their values name."""
    primary, secondary = realities(sandbox, case)
    for each in (primary, secondary):
        sandbox.kubectl(each.context, "create", "namespace", each.namespace)
        each.kubectl("create", "configmap", "our-config", f"--from-literal=meta.json={_meta('volume')}")
    if case.gossip == "given":
        primary.kubectl("create", "secret", "generic", "our-gossip-key", f"--from-literal=gossip={GIVEN_KEY}")


# -- user values ------------------------------------------------------------------------------------------------


def _meta(place: str) -> str:
    """Consul's configuration with a mark that its API shows again."""
    return json.dumps({"node_meta": {place: "here"}})


def _config(place: str) -> dict[str, Any]:
    return {"server": {"extraConfig": _meta(place)}}


VOLUMES = {
    "server": {
        "extraVolumes": [
            {
                "type": "configMap",
                "name": "our-config",
                "load": True,
                "items": [{"key": "meta.json", "path": "meta.json"}],
            }
        ]
    }
}


def give_user_values(
    case: Case, content: dict[str, Any], clusters: dict[str, dict[str, Any]], folder: Path
) -> None:
    """Values of the user's own in the places that the case is about."""
    kind = case.user_values
    file = folder / "ours.yaml"
    file.write_text(yaml.safe_dump(_config("file")))
    if kind in ("files of the federation", "all at once"):
        content["values_files"] = [str(file)]
    if kind in ("of the federation", "all at once"):
        content["values"] = _config("federation")
    if kind == "volumes":
        content["values"] = VOLUMES
    if case.domain != "consul":
        content["values"] = {**content["values"], "global": {"domain": case.domain}}
    for cluster in clusters.values():
        if kind == "files of the cluster":
            cluster["values_files"] = [str(file)]
        if kind in ("of the cluster", "all at once"):
            cluster["values"] |= _config("cluster")


# -- a tunnel ---------------------------------------------------------------------------------------------------


def tunnelled_kubeconfig(
    sandbox: Sandbox, context: str, folder: Path, stack: contextlib.ExitStack
) -> tuple[str, str]:
    """A kubeconfig as many people have it: one API server only through a tunnel on their own machine.

    Returns:
        its path, and the URL of that API server as other machines reach it.
    """
    config = yaml.safe_load(Path(sandbox.env["KUBECONFIG"]).read_text())
    name = next(c["context"]["cluster"] for c in config["contexts"] if c["name"] == context)
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == name)
    url = cluster["server"]
    host, _, port = url.removeprefix("https://").partition(":")
    local = stack.enter_context(tunnel(host, int(port)))
    cluster["server"] = f"https://127.0.0.1:{local}"
    cluster["tls-server-name"] = "kubernetes.default.svc"
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return str(path), url


@contextlib.contextmanager
def tunnel(host: str, port: int) -> Iterator[int]:
    """A local port whose connections go to host and port, as those of `ssh -L` do."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, port)) as far:
                back = threading.Thread(target=pump, args=(far, self.request), daemon=True)
                back.start()
                pump(self.request, far)
                back.join()

    def pump(source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(1)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Relay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
