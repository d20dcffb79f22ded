"""The sandbox of a rehearsal: as many clusters, with the user's own contexts, and with what they made beforehand."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from ..drills.folders import Tell
from ..drills.ground import FederatedSandbox
from ..errors import SandboxError
from ..params import Federation
from ..rbac.manifest import Subject, manifest
from ..rbac.rendered import for_federation
from ..sandbox import existing, existing_data, lifecycle, tools
from ..sandbox.cluster import SRE
from ..sandbox.state import Folder, write_private
from .charts import Found
from .imitation import Imitation

SANDBOX_CHART = Path(lifecycle.__file__).parent / "chart" / "consul"
"""The sandbox's own chart, which is copied into the folder of each sandbox."""

_KUBECONFIG, _NAME = "KUBECONFIG", "kubeconfig"
_RIGHTS = "consulfed-rehearsal"
_KUBECTL_SECONDS = 60


def home() -> Path:
    """Where the sandboxes of rehearsals are."""
    return platformdirs.user_state_path("consulfed") / "rehearsals"


@contextmanager
def own_kubeconfig(place: Path) -> Iterator[None]:
    """The rehearsal's kubeconfig as the one of this process and of all that it starts, whether it is there yet or not.

    Helm opens the usual one with every command, also where no cluster is meant.
    """
    before = os.environ.get(_KUBECONFIG)
    os.environ[_KUBECONFIG] = str(place / _NAME)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_KUBECONFIG]
        else:
            os.environ[_KUBECONFIG] = before


class Stage(FederatedSandbox):
    """The sandbox on which a change is rehearsed.

    Args:
        place: the rehearsal's own folder.
        load_balancer: `ip` or `hostname`: what Services of that type get.
    """

    def __init__(self, place: Path, imitation: Imitation, chart: Found, load_balancer: str, tell: Tell):
        super().__init__(Folder(place / "sandbox"), tell)
        self.imitation = imitation
        self.kubeconfig = place / _NAME
        self._chart = chart
        self._load_balancer = load_balancer

    @property
    def folder(self) -> Path:
        """The sandbox's own, as `consulfed sandbox … --folder` takes it."""
        return self._folder.path

    def params(self) -> Federation:
        """What is rehearsed, in the rehearsal's own kubeconfig."""
        return self.imitation.params.model_copy(update={"kubeconfig": str(self.kubeconfig)})

    def up(self) -> None:
        """Bring it up, with all that a user has made before they run the notebooks. Raises ConsulfedError."""
        count, nodes = len(self.imitation.params.clusters), self.imitation.nodes
        shape = lifecycle.up(self._folder, count, nodes, None, _quietly, self._load_balancer)
        self._write_kubeconfig()
        asyncio.run(self._make_beforehand())
        if self.imitation.before:
            self.tell(f"installing the Consul that is there before, in {self.params().primary.context}")
            helm = tools.ensure("helm")["helm"].path
            chart = self._chart.place
            existing.install_as(self.imitation.before, self._folder, shape, helm, chart, _quietly)
        if not self._chart.own:
            self._give_rights()

    @property
    def is_up(self) -> bool:
        return self._folder.process() is not None and self.kubeconfig.exists()

    def down(self) -> None:
        """Take it down."""
        lifecycle.down(self._folder, False, _quietly)

    def _write_kubeconfig(self) -> None:
        """The user's contexts, beside the sandbox's own, which have an administrator's (`sandbox-dc1-admin`)."""
        config: dict[str, Any] = yaml.safe_load(self._folder.kubeconfig.read_text())
        contexts = {each["name"]: each["context"] for each in config["contexts"]}
        theirs = {
            of.context: contexts[layout.context]
            for of, layout in zip(self._clusters, self._layouts, strict=True)
        }
        config["contexts"] = [{"name": name, "context": of} for name, of in (contexts | theirs).items()]
        config["current-context"] = self.imitation.params.primary.context
        write_private(self.kubeconfig, yaml.safe_dump(config, sort_keys=False).encode())

    @property
    def _clusters(self) -> list[Any]:
        return self.imitation.params.clusters

    @property
    def _layouts(self) -> list[Any]:
        shape = self._folder.shape()
        assert shape is not None, "it is written before the sandbox is up"
        return shape.layout(self._folder.path).clusters

    async def _make_beforehand(self) -> None:
        """A gossip key of the user's own, and what their values name."""
        params = self.imitation.params
        for number, (of, layout) in enumerate(zip(self._clusters, self._layouts, strict=True)):
            volumes = [each for each in self.imitation.volumes if each.cluster == number]
            own_key = params.gossip_key.secret if number == 0 else ""
            if not volumes and not own_key:
                continue
            async with existing.client_of(self._folder, layout) as client:
                await existing.apply(client, existing_data.namespace(of.namespace))
                if own_key:
                    await existing.give_gossip_key(client, of.namespace, own_key, params.gossip_key.key)
                for volume in volumes:
                    text = dict.fromkeys(volume.keys, "{}")
                    await existing.apply(
                        client, existing_data.settings(volume.kind, of.namespace, volume.name, text)
                    )

    def _give_rights(self) -> None:
        """What `consulfed rbac` prints for these parameters: the sandbox gives those for its own chart only."""
        self.tell("giving the rights that `consulfed rbac` prints for that chart")
        rules = for_federation(self.params())
        text = manifest(rules, Subject("User", SRE.name), _RIGHTS, "The rights of a rehearsal.")
        program = tools.ensure("kubectl")["kubectl"].path
        for layout in self._layouts:
            where = ["--kubeconfig", str(self._folder.kubeconfig), "--context", f"{layout.context}-admin"]
            done = subprocess.run(
                [str(program), *where, "apply", "-f", "-"],
                input=text,
                capture_output=True,
                text=True,
                timeout=_KUBECTL_SECONDS,
            )
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or ["kubectl said nothing"]
                raise SandboxError(
                    f"The rights of the rehearsal could not be given: {last[0]}", f"see {self._folder.log}"
                )


def _quietly(line: str) -> None:
    """What a sandbox tells is not what a rehearsal is about; where it fails it raises."""
