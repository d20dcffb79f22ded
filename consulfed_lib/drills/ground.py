"""The sandbox on which drills are held: a folder of its own, federated by the runbook, looked at as people look."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from pathlib import Path

import platformdirs
import yaml

from ..errors import ConsulfedError
from ..params import Federation, check
from ..run import run
from ..sandbox import faults, lifecycle
from ..sandbox.commands import params_text
from ..sandbox.state import Folder, remove_tree
from ..steps import open_step
from ..steps.verification import Verification
from .catalogue import VERIFY, Ground
from .folders import Tell
from .judge import Sight

INSTALL_SECONDS = 20
"""Until an installation that cannot come to its end is given up; one that can takes 5 s on the sandbox."""


class FederatedSandbox(ABC):
    """A sandbox that is up, and in which a fault can be; who has one says which federation is in it (`params`)."""

    def __init__(self, folder: Folder, tell: Tell, federated: bool = True):
        self.tell = tell
        self._folder = folder
        self._federated = federated

    @abstractmethod
    def params(self) -> Federation:
        """The federation of this sandbox."""

    def inject(self, fault: str) -> None:
        """Returns when the fault is in force."""
        faults.inject(self._folder, fault)

    def clear(self) -> None:
        """Take back whatever fault there is."""
        faults.clear(self._folder)

    def look(self, where: str) -> Sight:
        """One look: a verification, or what a notebook looks at before it writes; where nothing is federated yet, what
        the notebook of the primary looks at after it tried to install it."""
        look = {VERIFY: self._verify}.get(
            where, self._try_primary if not self._federated else self._preflight
        )
        with redirect_stdout(io.StringIO()):
            return look(where)

    def _verify(self, where: str) -> Sight:
        params = self.params()
        once = {
            "timeouts": params.timeouts.model_copy(update={"federation": 0, "ready": 1}),
            "verification": params.verification.model_copy(update={"latency": 0, "soak": 0, "canary": False}),
        }
        step = open_step("04-verification", params.model_copy(update=once))
        assert isinstance(step, Verification)
        step.quiet = True
        error = None
        try:
            step.verify()
        except ConsulfedError as failed:
            error = failed
        return Sight.of(step.seen(), step.params.primary.datacenter, error)

    def _preflight(self, where: str) -> Sight:
        params = self.params()
        return Sight.of(open_step(where, params).look_before(), params.primary.datacenter)

    def _try_primary(self, where: str) -> Sight:
        params = self.params()
        hurried = params.timeouts.model_copy(update={"install": INSTALL_SECONDS, "ready": INSTALL_SECONDS})
        step = open_step(where, params.model_copy(update={"dry_run": False, "timeouts": hurried}))
        error = None
        try:
            step.apply()
        except ConsulfedError as failed:
            error = failed
        return Sight.of(step.look_after(), params.primary.datacenter, error)


class DrillSandbox(FederatedSandbox):
    """The sandbox of a drill.

    Args:
        folder: where its state and its records go; removed by `down`.
    """

    def __init__(self, ground: Ground, folder: Path, tell: Tell):
        super().__init__(Folder(folder / "sandbox"), tell, ground.federated)
        self.ground = ground
        self._place = folder

    def up(self) -> None:
        """Bring it up, and federate it where the ground says so. Raises ConsulfedError."""
        self.tell(f"a sandbox with {self.ground}")
        lifecycle.up(self._folder, self.ground.datacenters, self.ground.servers, None, _quietly)
        if self.ground.federated:
            self.tell("federating it")
            self.federate()

    def down(self) -> None:
        """Take it down; nothing is left of it, its records included."""
        lifecycle.down(self._folder, False, _quietly)
        remove_tree(self._place)

    def federate(self) -> None:
        """The whole runbook. Raises the error with which it ends, if any."""
        run(
            self.params().model_copy(update={"dry_run": False}),
            records=self._place / "records",
            tell=_quietly,
        )

    def params(self) -> Federation:
        """What `consulfed sandbox params` prints."""
        shape = self._folder.shape()
        assert shape is not None, "it is written before the sandbox is up"
        raw = yaml.safe_load(params_text(self._folder, shape)) | {"reason": "a drill"}
        return check(raw, "the sandbox of the drills")


def _quietly(line: str) -> None:
    """What a sandbox and a runbook tell is not what a drill is about; where they fail they raise."""


def home() -> Path:
    """Where the sandboxes of drills are."""
    return platformdirs.user_state_path("consulfed") / "drills"
