"""The calling side of a sidecar: where an upstream of another datacenter is reached, and Envoy's configuration for it.

A connection leaves with the service's own leaf certificate, under the SNI by which mesh gateways route, and only a
server that shows the called service's identity is spoken to. Where it goes first is the mesh gateway mode of
ProxyDefaults `global`: `local` this datacenter's gateways, `remote` the other one's, otherwise the service itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .consul_http import MISSING_INDEX, ConsulError, ConsulHttp
from .envoy import Address
from .gateway_routes import healthy, lan_address, wan_address
from .workload import write_private

_RETRY_SECONDS = 0.3
_CONNECT_SECONDS = "5s"
_TYPE = "type.googleapis.com/envoy"

UPSTREAMS = "consul.hashicorp.com/connect-service-upstreams"


@dataclass(frozen=True)
class Upstream:
    """A service that is called: on `port` of the caller's localhost."""

    service: str
    port: int
    datacenter: str


def upstreams(annotation: str) -> list[Upstream]:
    """The unlabelled form of the annotation, `service:port[:datacenter]`, separated by commas.

    >>> upstreams("web:1234:dc2, db:1235")
    [Upstream(service='web', port=1234, datacenter='dc2'), Upstream(service='db', port=1235, datacenter='')]
    """
    found = []
    for text in filter(None, (part.strip() for part in annotation.split(","))):
        service, _, rest = text.partition(":")
        port, _, datacenter = rest.partition(":")
        if not port.isdigit() or not service:
            raise ValueError(f"{text!r} is no upstream: service:port[:datacenter]")
        found.append(Upstream(service, int(port), datacenter))
    return found


@dataclass
class Mesh:
    """What a caller knows of the mesh: its own certificate, the CA, the mode, and where everything is."""

    datacenter: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    roots: str = ""
    trust_domain: str = ""
    mode: str = ""
    own_gateways: tuple[Address, ...] = ()
    gateways: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    instances: dict[str, tuple[Address, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return bool(self.datacenter and self.certificate and self.roots and self.trust_domain)

    def targets(self, upstream: Upstream) -> tuple[Address, ...]:
        """Where connections for it go first."""
        datacenter = upstream.datacenter or self.datacenter
        if datacenter != self.datacenter and self.mode == "local":
            return self.own_gateways
        if datacenter != self.datacenter and self.mode == "remote":
            return self.gateways.get(datacenter, ())
        return self.instances.get(upstream.service, ())


class MeshFollower:
    """Keeps a Mesh as Consul's state is, by blocking queries; `changed` is called after each change."""

    def __init__(
        self,
        consul: ConsulHttp,
        service: str,
        wanted: list[Upstream],
        changed: Callable[[Mesh], None],
        refused: Callable[[], Awaitable[None]],
        log: Callable[[str], None],
    ):
        self.mesh = Mesh()
        self._consul, self._service, self._wanted = consul, service, wanted
        self._changed, self._refused, self._log = changed, refused, log
        self._complaint = ""

    async def run(self) -> None:
        """Follow; until cancelled."""
        async with asyncio.TaskGroup() as group:
            for path, take in self._paths().items():
                group.create_task(self._follow(path, take))

    def _paths(self) -> dict[str, Callable[[Any], None]]:
        paths: dict[str, Callable[[Any], None]] = {
            f"/v1/agent/connect/ca/leaf/{self._service}": self._on_leaf,
            "/v1/connect/ca/roots": self._on_roots,
            "/v1/config/proxy-defaults/global": self._on_defaults,
            "/v1/health/service/mesh-gateway": self._on_own_gateways,
            "/v1/internal/federation-states/mesh-gateways": self._on_gateways,
            "/v1/catalog/service/consul": self._on_servers,
        }
        for one in self._wanted:
            query = f"?dc={one.datacenter}" if one.datacenter else ""
            paths[f"/v1/health/connect/{one.service}{query}"] = partial(self._on_instances, one.service)
        return paths

    async def _follow(self, path: str, take: Callable[[Any], None]) -> None:
        index = MISSING_INDEX
        while True:
            try:
                answer, index = await self._consul.get(path, index=index)
            except ConsulError as error:
                index, answer = MISSING_INDEX, None
                if error.status != 404:  # of ProxyDefaults: there is none
                    if str(error) != self._complaint:
                        self._complaint = str(error)
                        self._log(f"sandbox: {error}")
                    if error.status == 403:
                        await self._refused()
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
            take(answer)
            self._changed(self.mesh)
            if index == MISSING_INDEX:
                await asyncio.sleep(_RETRY_SECONDS)

    def _on_leaf(self, answer: Any) -> None:
        self.mesh.certificate, self.mesh.key = answer["CertPEM"], answer["PrivateKeyPEM"]

    def _on_roots(self, answer: Any) -> None:
        self.mesh.trust_domain = answer["TrustDomain"]
        self.mesh.roots = "".join(one["RootCert"].rstrip("\n") + "\n" for one in answer["Roots"])

    def _on_defaults(self, answer: Any) -> None:
        self.mesh.mode = ((answer or {}).get("MeshGateway") or {}).get("Mode", "")

    def _on_own_gateways(self, answer: Any) -> None:
        self.mesh.own_gateways = tuple(sorted({lan_address(one) for one in healthy(answer)}))

    def _on_gateways(self, answer: Any) -> None:
        self.mesh.gateways = {
            datacenter: tuple(sorted({wan_address(one) for one in healthy(entries)}))
            for datacenter, entries in (answer or {}).items()
        }

    def _on_servers(self, answer: Any) -> None:
        for one in answer:
            self.mesh.datacenter = one["Datacenter"]

    def _on_instances(self, service: str, answer: Any) -> None:
        self.mesh.instances[service] = tuple(sorted({lan_address(one) for one in healthy(answer)}))


def write_upstreams(folder: Path, address: str, wanted: list[Upstream], mesh: Mesh) -> None:
    """Have Envoy listen for these upstreams on the pod's address; clusters first, because listeners refer to them."""
    found = [(one, mesh.targets(one)) for one in wanted] if mesh.complete else []
    _write(folder, "clusters", [_cluster(one, targets, mesh) for one, targets in found])
    _write(folder, "listeners", [_listener(address, one) for one, _ in found])


def _write(folder: Path, kind: str, resources: list[dict[str, Any]]) -> None:
    text = json.dumps({"resources": resources}, sort_keys=True).encode()
    path = folder / f"{kind}.json"
    if not path.exists() or path.read_bytes() != text:
        write_private(path, text)


def _listener(address: str, upstream: Upstream) -> dict[str, Any]:
    proxy = {
        "@type": f"{_TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "upstream",
        "cluster": upstream.service,
    }
    return {
        "@type": f"{_TYPE}.config.listener.v3.Listener",
        "name": f"{upstream.service}:{upstream.port}",
        "address": _socket((address, upstream.port)),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]},
        ],
    }


def _cluster(upstream: Upstream, targets: tuple[Address, ...], mesh: Mesh) -> dict[str, Any]:
    datacenter = upstream.datacenter or mesh.datacenter
    identity = f"spiffe://{mesh.trust_domain}/ns/default/dc/{datacenter}/svc/{upstream.service}"
    certificate = {
        "certificate_chain": {"inline_string": mesh.certificate},
        "private_key": {"inline_string": mesh.key},
    }
    tls = {
        "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": f"{upstream.service}.default.{datacenter}.internal.{mesh.trust_domain}",
        "common_tls_context": {
            "tls_certificates": [certificate],
            "validation_context": {
                "trusted_ca": {"inline_string": mesh.roots},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": identity}}],
            },
        },
    }
    endpoints = [{"endpoint": {"address": _socket(target)}} for target in targets]
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": upstream.service,
        "type": "STATIC",
        "connect_timeout": _CONNECT_SECONDS,
        "load_assignment": {"cluster_name": upstream.service, "endpoints": [{"lb_endpoints": endpoints}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
