"""A disk that is full, for one process, without the rights of an administrator: a filter of its system calls.

Linux runs a classic BPF program before each system call of a process that has one (seccomp(2)). This one has the
kernel answer ENOSPC to what writes at a place in a file (pwrite64) or asks for room (fallocate), as it does where no
block is left: that is how Consul's database is written. What goes by write(2), as sockets do, too, is let through.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
"""Instructions of classic BPF (linux/filter.h)."""
_NUMBER, _ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

_CALLS = {"x86_64": (0xC000003E, 18, 285), "aarch64": (0xC00000B7, 68, 47)}
"""Machine → AUDIT_ARCH, and the numbers of pwrite64 and fallocate."""

_libc = ctypes.CDLL(None, use_errno=True)


def refuse_room() -> Callable[[], None]:
    """What a child has to call between fork and exec, so that its disk is full for it. Raises OSError: not on this
    kind of machine."""
    if platform.machine() not in _CALLS:
        raise OSError(errno.ENOSYS, f"a full disk cannot be had on {platform.machine()}")
    architecture, *calls = _CALLS[platform.machine()]
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, architecture, otherwise=3),
        _instruction(_LOAD, _NUMBER),
        _instruction(_IF_EQUAL, calls[0], then=2),
        _instruction(_IF_EQUAL, calls[1], then=1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _ERRNO | errno.ENOSPC),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: how many instructions, and where they are. Made before the fork, and held by the closure.
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))

    def refuse(code: object = code) -> None:
        if (
            _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            or _libc.prctl(_PR_SET_SECCOMP, _FILTER, pointer, 0, 0) != 0
        ):
            os._exit(125)

    return refuse


def _instruction(code: int, constant: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, constant)
