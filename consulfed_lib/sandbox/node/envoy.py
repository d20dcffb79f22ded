"""Configuration of an Envoy that is a mesh gateway: it routes TLS connections by SNI and opens none of them.

Envoy reads listeners and clusters from two files and takes a new version when one is renamed into their
folder. Nothing here knows Consul, or names of the network; `mesh_gateway` says which SNI goes where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .workload import write_private

Address = tuple[str, int]

Routes = Mapping[str, tuple[Address, ...]]
"""SNI, or `*.suffix`, → where its connections go. Envoy takes the most specific one that matches."""

ADMIN_PORT = 19000

_TYPE = "type.googleapis.com/envoy"
_CONNECT_SECONDS = "5s"
_ATTEMPTS = 3
_LIMIT = {
    "name": "envoy.resource_monitors.global_downstream_max_connections",
    "typed_config": {
        "@type": f"{_TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": 10_000,
    },
}
_ACCESS_LINE = (
    "[%START_TIME%] sni=%REQUESTED_SERVER_NAME% %DOWNSTREAM_REMOTE_ADDRESS% -> %UPSTREAM_HOST%"
    " %RESPONSE_FLAGS% %DURATION%ms\n"
)


def write_bootstrap(folder: Path, name: str, admin: Address, cluster: str = "mesh-gateway") -> Path:
    """Write what Envoy starts with; the file's path. `cluster` is the service that it is a proxy of.

    It dials from the address of its pod, which is the admin's, as it would where pods have a network of their own.
    """
    files = {
        kind: {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(folder / f"{kind}.json"),
                "watched_directory": {"path": str(folder)},
            },
        }
        for kind in ("listeners", "clusters")
    }
    config = {
        "node": {"id": name, "cluster": cluster},
        "admin": {"address": _socket(admin)},
        "cluster_manager": {
            "upstream_bind_config": {"source_address": {"address": admin[0], "port_value": 0}}
        },
        "overload_manager": {"resource_monitors": [_LIMIT]},
        "dynamic_resources": {"lds_config": files["listeners"], "cds_config": files["clusters"]},
    }
    path = folder / "bootstrap.json"
    write_private(path, json.dumps(config).encode())
    return path


def write_routes(folder: Path, listen: Address, routes: Routes) -> None:
    """Have Envoy take these routes: clusters first, because the listener refers to them."""
    usable = {sni: addresses for sni, addresses in sorted(routes.items()) if addresses}
    _write(folder, "clusters", [_cluster(sni, addresses) for sni, addresses in usable.items()])
    _write(folder, "listeners", [_listener(listen, list(usable))] if usable else [])


def _write(folder: Path, kind: str, resources: list[dict[str, Any]]) -> None:
    text = json.dumps({"resources": resources}, sort_keys=True).encode()
    path = folder / f"{kind}.json"
    if not path.exists() or path.read_bytes() != text:
        write_private(path, text)


def _listener(listen: Address, names: list[str]) -> dict[str, Any]:
    access = {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"text_format_source": {"inline_string": _ACCESS_LINE}},
        },
    }
    return {
        "@type": f"{_TYPE}.config.listener.v3.Listener",
        "name": "mesh-gateway",
        "address": _socket(listen),
        "listener_filters": [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.listener.tls_inspector.v3.TlsInspector"
                },
            }
        ],
        "filter_chains": [
            {
                "name": name,
                "filter_chain_match": {"server_names": [name]},
                "filters": [
                    {
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": f"{_TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "mesh_gateway",
                            "cluster": name,
                            "max_connect_attempts": _ATTEMPTS,
                            # Gossip and RPC keep connections open for as long as both sides live.
                            "idle_timeout": "0s",
                            "access_log": [access],
                        },
                    }
                ],
            }
            for name in names
        ],
    }


def _cluster(name: str, addresses: tuple[Address, ...]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _socket(address)}} for address in sorted(set(addresses))]
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_SECONDS,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
