"""How a real Consul in a pod resolves the names of a sandbox: by nss_wrapper and a hosts file.

Only a process that has a name to resolve gets it, so that a sandbox without names needs no nss_wrapper. A Consul
that does not ask the C library for addresses (HashiCorp's own binaries are static) cannot be helped so; that is
found by trying.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection
from pathlib import Path

from ...errors import ToolError
from .. import nss_wrapper, tools
from .process import spawn
from .workload import Container, write_private

_ADDRESS, _NAME = "127.0.0.9", "name.test"
_capable: dict[tuple[Path, Path], bool] = {}


class ResolverError(Exception):
    """A process would have to resolve names and cannot; the message names them, and what is missing."""


def names_among(hosts: Collection[str]) -> list[str]:
    """The hosts that are names.

    >>> names_among(["127.0.0.1", "gw.example.com", "::1", "localhost", ""])
    ['gw.example.com']
    """
    return [host for host in dict.fromkeys(hosts) if host not in ("", "localhost") and not is_address(host)]


def is_address(host: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def environment(container: Container, names: Collection[str], hosts: Path | None) -> dict[str, str]:
    """What to add to the environment of a Consul process that dials these names; nothing where there are none.

    Args:
        hosts: the file to resolve from; it may change as long as the process runs.

    Raises ResolverError when that cannot be had on this machine, in plain words.
    """
    if not names:
        return {}
    said = f"Consul dials {', '.join(names)}, and on this machine it cannot resolve a name"
    if hosts is None:
        raise ResolverError(f"{said}: this container is outside a sandbox")
    try:
        # On a thread: it may have to be fetched.
        found = await asyncio.to_thread(tools.ensure, "nss_wrapper", report=container.log)
    except ToolError as error:
        raise ResolverError(f"{said}. {error}") from error
    library, consul = found["nss_wrapper"].path, container.tools["consul"]
    if (library, consul) not in _capable:
        _capable[library, consul] = await _can_resolve(library, consul, container.folder)
    if not _capable[library, consul]:
        raise ResolverError(
            f"{said}: {consul} does not ask the C library for addresses, as a static binary does not. "
            "Let the sandbox use Debian's: see `consulfed sandbox tools`"
        )
    return _environment(library, hosts)


def _environment(library: Path, hosts: Path) -> dict[str, str]:
    # Go has a resolver of its own, which asks the network's name servers; cgo asks the C library.
    return {**nss_wrapper.preload(library, hosts), "GODEBUG": "netdns=cgo"}


async def _can_resolve(library: Path, consul: Path, folder: Path) -> bool:
    """Whether this Consul, asked for a name that only the file knows, dials its address."""
    hosts = folder / "try-hosts"
    write_private(hosts, f"{_ADDRESS} {_NAME}\n".encode())
    process = await spawn(
        [consul, "members", f"-http-addr=http://{_NAME}:1"],
        env={**_environment(library, hosts), "HOME": str(folder)},
    )
    output, _ = await process.communicate()
    hosts.unlink()
    return f"{_ADDRESS}:1" in output.decode(errors="replace")


async def hosts_of_pod(container: Container, names: Collection[str]) -> Path:
    """A hosts file with these names as the pod's cluster resolves them now, for a process that soon ends."""
    lines = [f"{address} {name}\n" for name in names for address in await container.dns.resolve(name)]
    path = container.folder / "hosts"
    write_private(path, "".join(lines).encode())
    return path
