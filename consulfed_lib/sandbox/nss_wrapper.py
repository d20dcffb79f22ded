"""nss_wrapper: a library that, preloaded, makes a program resolve names from a hosts file of its own.

It reads the file again whenever that has changed. `tools` finds or fetches it; it has no version to tell, so it
is tried instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

FILE_NAME = "libnss_wrapper.so"

_ADDRESS, _NAME = "127.0.0.9", "name.test"
_TRY = f"import socket; print(socket.gethostbyname({_NAME!r}))"


def installed() -> Iterator[Path]:
    """Where this Python's environment, or the machine, has the library."""
    usr = Path("/usr")
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = (Path(sys.prefix) / "lib", usr / "lib" / multiarch, usr / "lib64", usr / "lib")
    for path in dict.fromkeys(folder / FILE_NAME for folder in folders):
        if path.is_file():
            yield path


def preload(library: Path, hosts: Path) -> dict[str, str]:
    """The environment of a process that is to resolve names from a hosts file.

    The folder is named apart, because LD_PRELOAD would take a space in it for the end of the name.
    """
    return {
        "LD_LIBRARY_PATH": str(library.parent),
        "LD_PRELOAD": library.name,
        "NSS_WRAPPER_HOSTS": str(hosts),
    }


def works(library: Path) -> bool:
    """Whether this Python, with it, resolves a name that exists nowhere else."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts"
        hosts.write_text(f"{_ADDRESS} {_NAME}\n")
        try:
            done = subprocess.run(
                [sys.executable, "-c", _TRY],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
                env={**os.environ, **preload(library, hosts)},
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.stdout.strip() == _ADDRESS
