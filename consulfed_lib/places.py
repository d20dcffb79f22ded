"""Where things are on this machine: state, cache, programs, and the running sandbox.

The runbook and the sandbox agree on these places and on nothing else.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import sys
from pathlib import Path

import platformdirs

SANDBOX_VARIABLE = "CONSULFED_SANDBOX"
"""Environment variable that names another sandbox folder than the user's default one."""


def whoami() -> dict[str, str]:
    """`{user, host}` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return {"user": user, "host": socket.gethostname()}


def in_memory() -> str | None:
    """A folder that never touches a disk, where the system has one; None: the usual temporary folder."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def sandbox_folder() -> Path:
    """The folder of the sandbox that is meant: $CONSULFED_SANDBOX, else one in the user's state folder."""
    named = os.environ.get(SANDBOX_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_state_path("consulfed") / "sandbox"


def sandbox_kubeconfig() -> Path:
    """The kubeconfig of that sandbox; it exists while the sandbox is up."""
    return sandbox_folder() / "kubeconfig"


def sandbox_chart() -> Path:
    """The chart that the sandbox offers; `chart: {ref: sandbox}` means this folder."""
    return sandbox_folder() / "chart" / "consul"


def tools_folder() -> Path:
    """Programs that consulfed itself fetched and verified (`consulfed sandbox tools`), one file a program."""
    return platformdirs.user_cache_path("consulfed") / "tools" / "bin"


def find_program(name: str) -> Path | None:
    """The program of that name: on PATH, beside this Python, or fetched earlier; None if nowhere.

    Beside this Python counts because `.venv/bin/consulfed` is often run without the environment activated.
    """
    for path in (None, str(Path(sys.executable).parent), str(tools_folder())):
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None
