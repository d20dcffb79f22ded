"""The background process of a sandbox: every cluster's API server, controllers, kubelet and consul-k8s.

`consulfed sandbox up` starts it (`lifecycle`) as `python -m consulfed_lib.sandbox.supervisor …`, in a session
of its own, and reads from a pipe what it announces, one JSON object a line:

    {"cluster": "dc1", "url": "https://127.77.1.1:6443"}       this API server answers
    {"ready": true}                                            all of them do
    {"error": {"found": …, "hint": …}}                         it gives up

It ends on SIGTERM or SIGINT, in good order: programs first, API servers last. Consul and Envoy are its children
and die with it however it ends (`node/process.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from . import claims
from .cluster import Cluster, kubeconfig
from .controllers.client import KubeError
from .disturbances import Disturbance, Disturbances
from .faults.control import Control
from .layout import EXISTING, LOAD_BALANCERS, SandboxLayout
from .names import Names
from .state import Folder, ProcessId, Shape, write_json, write_private
from .tasks import Tasks

logger = logging.getLogger(__name__)

STOP_SECONDS = 20.0
"""How long an orderly end may take; after that the process ends as it is, and its children with it."""

Announce = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Settings:
    """What `up` asked for: the command line of this process.

    Attributes:
        block: the block of addresses to use, and no other; None for the first free one.
        tools: name → path of helm, kubectl, consul and envoy.
        announce_to: file descriptor of the pipe to `up`.
    """

    folder: Folder
    datacenters: int
    servers: int
    load_balancer: str
    existing: str
    block: int | None
    tools: dict[str, Path]
    announce_to: int


class Supervisor:
    """All clusters of a sandbox, from the claim on its addresses to its end."""

    def __init__(self, settings: Settings, announce: Announce):
        self.settings = settings
        self.announce = announce
        self.tasks = Tasks(self._write_health)
        self.clusters: list[Cluster] = []
        self.disturbances = Disturbances()
        self.control = Control(settings.folder, self._disturb)

    async def run(self, stop: asyncio.Event) -> None:
        """Bring everything up, wait for `stop`, take everything down.

        Raises SandboxError when it cannot come up; what was started by then is taken down.
        """
        settings = self.settings
        block, claimed = claims.claim(settings.folder.path, settings.datacenters, settings.block)
        with claimed:
            shape = Shape(
                block, settings.datacenters, settings.servers, settings.load_balancer, settings.existing
            )
            write_json(settings.folder.shape_file, shape)
            layout = shape.layout(settings.folder.path)
            logger.info("claimed 127.%d.0.0/16 for %s", block, settings.folder.path)
            try:
                starting = asyncio.create_task(self._start(layout))
                stopping = asyncio.create_task(stop.wait())
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    self.announce({"ready": True})
                    logger.info("ready")
                    # What exists now stays for good: the collector need not look at it again.
                    gc.collect()
                    gc.freeze()
                    await stopping
                else:
                    starting.cancel()
                    await asyncio.gather(starting, return_exceptions=True)
            finally:
                await self._stop()

    async def _start(self, layout: SandboxLayout) -> None:
        folder, tools = self.settings.folder, self.settings.tools
        nodes = {name: at for one in layout.clusters for name, at in one.node_addresses.items()}
        names = Names(folder.hosts_file, nodes)
        self.clusters = [
            Cluster(cluster, folder, tools, self.tasks, names, self.disturbances)
            for cluster in layout.clusters
        ]
        await asyncio.gather(*(self._start_one(cluster) for cluster in self.clusters))
        write_private(self.settings.folder.kubeconfig, kubeconfig(self.clusters).encode())
        # What was disturbed when an earlier supervisor was killed is so again.
        await self.control.start()

    async def _start_one(self, cluster: Cluster) -> None:
        layout = cluster.layout
        try:
            await cluster.start()
        except (OSError, KubeError) as error:
            raise SandboxError(
                f"The API server of {layout.name} did not come up at {layout.api_url}: {error}.",
                f"see {self.settings.folder.log}; `consulfed sandbox up` can be run again.",
            ) from error
        self.announce({"cluster": layout.name, "url": layout.api_url})

    async def _stop(self) -> None:
        logger.info("stopping")
        await self.control.stop()
        # Programs end in good order only where their API server hears of it.
        await self._disturb([])
        await asyncio.gather(*(cluster.stop() for cluster in self.clusters))
        logger.info("stopped")

    async def _disturb(self, now: Iterable[Disturbance]) -> None:
        """Have exactly these disturbances."""
        self.disturbances.set(now)
        await asyncio.gather(*(cluster.disturb() for cluster in self.clusters if cluster.started))

    def _write_health(self) -> None:
        write_json(self.settings.folder.health_file, self.tasks.health)


def main(arguments: list[str] | None = None) -> int:
    """The process itself; returns its exit code."""
    settings = _parse(arguments)
    announce = _announce_to(settings.announce_to)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    folder = settings.folder
    # The pipe is between `up` and this process; programs must not keep it open.
    os.set_inheritable(settings.announce_to, False)
    write_json(folder.process_file, ProcessId.of(os.getpid()))
    try:
        asyncio.run(_main(settings, announce))
    except SandboxError as error:
        logger.error("%s", error)
        announce({"error": {"found": error.found, "hint": error.hint, "details": error.details}})
        return error.exit_code
    finally:
        folder.remove_traces()
    return 0


async def _main(settings: Settings, announce: Announce) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def begin_to_stop() -> None:
        stop.set()
        loop.call_later(STOP_SECONDS, _give_up)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, begin_to_stop)
    await Supervisor(settings, announce).run(stop)


def _give_up() -> None:
    logger.error("not stopped within %s s; ending as it is", STOP_SECONDS)
    logging.shutdown()
    os._exit(1)


def _parse(arguments: list[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="consulfed_lib.sandbox.supervisor")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--datacenters", type=int, required=True)
    parser.add_argument("--servers", type=int, required=True)
    parser.add_argument("--load-balancer", choices=LOAD_BALANCERS, default="ip")
    parser.add_argument("--existing", choices=EXISTING, default="")
    parser.add_argument("--block", type=int)
    parser.add_argument("--tool", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--announce-to", type=int, required=True, metavar="DESCRIPTOR")
    given = parser.parse_args(arguments)
    tools = {name: Path(path) for name, _, path in (tool.partition("=") for tool in given.tool)}
    return Settings(
        Folder(given.folder),
        given.datacenters,
        given.servers,
        given.load_balancer,
        given.existing,
        given.block,
        tools,
        given.announce_to,
    )


def _announce_to(descriptor: int) -> Announce:
    def announce(message: dict[str, Any]) -> None:
        try:
            os.write(descriptor, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            logger.info("`up` does not listen any more: %s", message)

    return announce


if __name__ == "__main__":
    sys.exit(main())
