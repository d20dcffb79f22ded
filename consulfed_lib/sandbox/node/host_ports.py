"""Host ports: what a container asks for on its node's own address, led to the pod's."""

from __future__ import annotations

from typing import Any

from ..controllers.forwarder import Forwarder

Object = dict[str, Any]


class HostPorts:
    """The host ports of one pod. With the host's network a pod has the node's address, and needs none."""

    def __init__(self) -> None:
        self._forwarders: list[Forwarder] = []

    async def open(self, pod: Object, host_ip: str, address: str) -> str:
        """Listen on each; why that could not be done, in one sentence, and then none of them is listened on."""
        if pod["spec"].get("hostNetwork"):
            return ""
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or []:
                if not port.get("hostPort") or port.get("protocol", "TCP") != "TCP":
                    continue
                forwarder = Forwarder(host_ip, port["hostPort"])
                forwarder.targets = [(address, port["containerPort"])]
                try:
                    await forwarder.start()
                except OSError as error:
                    await self.close()
                    return f"cannot listen on {host_ip}:{port['hostPort']}: {error.strerror or error}"
                self._forwarders.append(forwarder)
        return ""

    async def close(self) -> None:
        """Listen no more; harmless to repeat."""
        while self._forwarders:
            await self._forwarders.pop().stop()
