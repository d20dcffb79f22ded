"""How jupyter_client gets a kernel from a nursery instead of starting one."""

from __future__ import annotations

import os
import sys
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner

from .nursery import Born, Nursery


class Forking(LocalProvisioner):
    """Starts a kernel of its own where the nursery is gone, or another Python is wanted than this one."""

    nursery: Nursery
    log_file: str

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        born = self._born(cmd)
        if born is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.cwd = born, os.getcwd()  # type: ignore[assignment]
        self.pid = self.pgid = born.pid  # type: ignore[assignment]
        return self.connection_info

    def _born(self, command: list[str]) -> Born | None:
        program, *rest = command
        if program != sys.executable or "ipykernel_launcher" not in rest:
            return None
        arguments = rest[rest.index("ipykernel_launcher") + 1 :]
        return self.nursery.bear(arguments, self.log_file)


def from_nursery(manager: KernelManager, nursery: Nursery, log: str) -> None:
    """Let this manager's kernel be born there; what it says by itself goes into a file that is there already."""
    made = Forking(kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager)
    made.nursery, made.log_file = nursery, log
    manager.provisioner = made
