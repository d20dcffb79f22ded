"""Claim a block of loopback addresses, 127.A.0.0/16, for as long as a process lives.

The claim is a listening socket at 127.A.0.1: the kernel gives it to one process only, and takes it back
however that process ends. A block is free when nothing else sits on its API servers' addresses either.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import SandboxError
from .layout import API_PORT, CLAIM_PORT, SandboxLayout

FIRST_BLOCK, LAST_BLOCK = 10, 250


def claim(folder: Path, datacenters: int, block: int | None = None) -> tuple[int, socket.socket]:
    """A free block and the socket that holds it: `block` itself, or the first free one from a place that
    follows from the folder, so that a sandbox tends to have the same addresses each time.

    Raises SandboxError that names the address and, where it can be seen, who has it.
    """
    refused = None
    for number in [block] if block is not None else _order(folder):
        layout = SandboxLayout(folder, number, datacenters, 1)
        held = _listen(f"127.{number}.0.1", CLAIM_PORT)
        if isinstance(held, SandboxError):
            refused = refused or held
            continue
        for cluster in layout.clusters:
            probe = _listen(cluster.api_address, API_PORT)
            if isinstance(probe, SandboxError):
                refused = refused or probe
                break
            probe.close()
        else:
            return number, held
        held.close()
    assert refused is not None
    raise refused


def _order(folder: Path) -> Iterator[int]:
    count = LAST_BLOCK - FIRST_BLOCK + 1
    first = zlib.crc32(str(folder).encode()) % count
    return (FIRST_BLOCK + (first + step) % count for step in range(count))


def _listen(address: str, port: int) -> socket.socket | SandboxError:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # On Linux two listeners never share an address, this option or not; it only passes over closed connections.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((address, port))
        held.listen(1)
    except OSError as error:
        held.close()
        return SandboxError(
            f"{address}:{port} cannot be used: {error.strerror}{_holder(address, port)}.",
            "end what listens there, or run `consulfed sandbox down` and `up` with another --block.",
        )
    return held


def _holder(address: str, port: int) -> str:
    """` (pid 12, nginx)`, or nothing where the system does not tell this user."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for connection in connections:
        at = connection.laddr
        if (
            connection.status != psutil.CONN_LISTEN
            or at.port != port
            or at.ip not in (address, "0.0.0.0", "::")
        ):
            continue
        if connection.pid is None:
            return " (a process of another user)"
        try:
            return f" (pid {connection.pid}, {psutil.Process(connection.pid).name()})"
        except psutil.Error:
            return f" (pid {connection.pid})"
    return ""


def listening(block: int) -> list[str]:
    """Every address:port of the block that something listens on, from /proc/net/tcp (proc(5))."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        # The address is printed as a number in the machine's byte order: 127.A.N.M is MMNNAA7F here.
        octets = [int(address[i : i + 2], 16) for i in (6, 4, 2, 0)]
        if state == "0A" and octets[0] == 127 and octets[1] == block:
            found.append(f"{'.'.join(map(str, octets))}:{int(port, 16)}")
    return sorted(found)
