"""How a consul-k8s container is told what to do: its flags and environment, over all chart generations.

Where Consul is has been said in three ways: by environment since chart 1.0 (CONSUL_ADDRESSES, …), by
`-server-address` and `CONSUL_HTTP_ADDR` before that. Here they become one Endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..node.workload import Container, parse_flags

_ASSIGNMENT = re.compile(r"^\s*([A-Z][A-Z0-9_]*)=[\"']?([^\"'\s]*)[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """Flags (name → values) and environment of one container."""

    flags: Mapping[str, list[str]]
    env: Mapping[str, str]

    def flag(self, name: str, default: str = "") -> str:
        """The last value of a flag; `true` for a bare one."""
        return self.flags.get(name, [default])[-1]

    def is_on(self, name: str, default: bool = False) -> bool:
        """Whether a boolean flag is set; Go accepts `1`, `t` and `true` in any case."""
        given = self.flags.get(name)
        return given[-1].lower() in ("1", "t", "true") if given else default


def options_of(arguments: Iterable[str], env: Mapping[str, str]) -> Options:
    """Options of a command line; variables that its script itself sets count like the environment.

    >>> options_of(["sh", "-ec", 'NAME="consul"\\n\\nexec tool -resource-prefix=${NAME}'], {}).flag("resource-prefix")
    'consul'
    """
    arguments = list(arguments)
    assigned = {name: value for text in arguments for name, value in _ASSIGNMENT.findall(text)}
    return Options(parse_flags(arguments, {**env, **assigned}), env)


def options(container: Container) -> Options:
    """Options of a container that runs here."""
    return options_of(container.arguments, container.env)


@dataclass(frozen=True)
class Endpoint:
    """Where the Consul servers of one datacenter are, as a container was told.

    Attributes:
        hosts: names or addresses of servers (or of a client agent, up to chart 0.49).
        port: port of the HTTP API.
        ca_file: path in the container of the CA certificate; empty for plain HTTP.
        datacenter: name of the datacenter, where the container was told it.
        timeout: seconds to wait for an answer.
    """

    hosts: tuple[str, ...]
    port: int
    ca_file: str
    datacenter: str
    timeout: float


def endpoint(options: Options) -> Endpoint:
    """Where Consul is, from any generation's flags and environment. ValueError when it is not said."""
    env = options.env
    timeout = seconds(options.flag("consul-api-timeout") or env.get("CONSUL_API_TIMEOUT", "") or "5s")
    datacenter = env.get("CONSUL_DATACENTER", "") or options.flag("datacenter")
    addresses = options.flag("addresses") or env.get("CONSUL_ADDRESSES", "")
    if addresses:
        tls = env.get("CONSUL_USE_TLS", "").lower() == "true" or options.is_on("use-tls")
        ca_file = env.get("CONSUL_CACERT_FILE", "") or options.flag("ca-cert-file") if tls else ""
        port = int(env.get("CONSUL_HTTP_PORT", "") or options.flag("http-port") or (8501 if tls else 8500))
        return Endpoint((addresses,), port, ca_file, datacenter, timeout)
    servers = options.flags.get("server-address", [])
    if servers:
        ca_file = options.flag("consul-ca-cert") if options.is_on("use-https") else ""
        return Endpoint(
            tuple(servers), int(options.flag("server-port", "8500")), ca_file, datacenter, timeout
        )
    url = urlsplit(env.get("CONSUL_HTTP_ADDR", "") or options.flag("http-addr"))
    if not url.hostname:
        raise ValueError("neither CONSUL_ADDRESSES nor CONSUL_HTTP_ADDR says where Consul is")
    ca_file = env.get("CONSUL_CACERT", "") or options.flag("ca-file") if url.scheme == "https" else ""
    port = url.port or (443 if url.scheme == "https" else 80)
    return Endpoint((url.hostname,), port, ca_file, datacenter, timeout)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """Seconds of a Go duration; ValueError for anything else.

    >>> seconds("1m30s")
    90.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 5s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
