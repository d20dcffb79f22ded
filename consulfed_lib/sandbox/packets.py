"""Packets that vanish, without the rights of an administrator: a filter of a socket's own.

Linux gives every TCP packet that a socket is about to get to the classic BPF program that is attached to it
(socket(7), SO_ATTACH_FILTER), also the one that opens a connection. What the program refuses is dropped without an
answer, as a firewall drops it: who sent it waits, and sends it again.
"""

from __future__ import annotations

import asyncio.trsock
import ctypes
import ipaddress
import socket
import struct
from collections.abc import Sequence

_ATTACH, _DETACH = 26, 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER (asm-generic/socket.h)."""

_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
"""Instructions of classic BPF (linux/filter.h): of an absolute word, with a constant, of a constant."""

_SOURCE = 0xFFF00000 + 12
"""SKF_NET_OFF: from the IPv4 header on, whose bytes 12 to 15 are the source address."""

_PASS, _DROP = 0xFFFFFFFF, 0

_MOST = 250
"""Networks in one program: a jump is at most 255 instructions."""

Socket = socket.socket | asyncio.trsock.TransportSocket


def drop_from(of: Socket, networks: Sequence[ipaddress.IPv4Network]) -> None:
    """Have a socket, and what it accepts from now on, get no packet from these networks, all of one size.

    None of them: it gets every packet again.
    """
    if not networks:
        # A detachment is refused where nothing is attached.
        _attach(of, [_instruction(_RETURN, _PASS)])
        of.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
        return
    assert len(networks) <= _MOST, "one program cannot tell so many apart"
    program = [_instruction(_LOAD, _SOURCE), _instruction(_AND, int(networks[0].netmask))]
    for left, network in zip(range(len(networks), 0, -1), networks, strict=True):
        program.append(_instruction(_IF_EQUAL, int(network.network_address), then=left))
    program += [_instruction(_RETURN, _PASS), _instruction(_RETURN, _DROP)]
    _attach(of, program)


def _instruction(code: int, constant: int, then: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, 0, constant)


def _attach(of: Socket, program: list[bytes]) -> None:
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: how many instructions, and where they are.
    of.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("@HP", len(program), ctypes.addressof(code)))
