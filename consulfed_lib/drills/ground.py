"""The sandbox on which drills are held: a folder of its own, federated by the runbook, looked at as people look.

A drill that is killed leaves a sandbox that runs. Each folder is locked by its process for as long as that lives, so
that the next `consulfed drill` knows whose sandbox nobody needs any more, and takes it down before its own comes up.
"""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

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
from .judge import Sight

Tell = Callable[[str], None]

INSTALL_SECONDS = 20
"""Until an installation that cannot come to its end is given up; one that can takes 5 s on the sandbox."""

_NAMES = "sandbox-"


class DrillSandbox:
    """A sandbox that is up, and in which a fault can be.

    Args:
        folder: where its state and its records go; removed by `down`.
    """

    def __init__(self, ground: Ground, folder: Path, tell: Tell):
        self.ground = ground
        self.tell = tell
        self._place = folder
        self._folder = Folder(folder / "sandbox")

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
        run(self._params(dry_run=False), records=self._place / "records", tell=_quietly)

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
            where, self._try_primary if not self.ground.federated else self._preflight
        )
        with redirect_stdout(io.StringIO()):
            return look(where)

    def _params(self, **changes: Any) -> Federation:
        """The federation of this sandbox: what `consulfed sandbox params` prints, and what is different here."""
        shape = self._folder.shape()
        assert shape is not None, "it is written before the sandbox is up"
        raw = yaml.safe_load(params_text(self._folder, shape)) | {"reason": "a drill"} | changes
        return check(raw, "the sandbox of the drills")

    def _verify(self, where: str) -> Sight:
        params = self._params(verification={"latency": 0})
        once = params.timeouts.model_copy(update={"federation": 0, "ready": 1})
        step = open_step("04-verification", params.model_copy(update={"timeouts": once}))
        assert isinstance(step, Verification)
        step.quiet = True
        error = None
        try:
            step.verify()
        except ConsulfedError as failed:
            error = failed
        return Sight.of(step.seen(), step.params.primary.datacenter, error)

    def _preflight(self, where: str) -> Sight:
        params = self._params()
        return Sight.of(open_step(where, params).look_before(), params.primary.datacenter)

    def _try_primary(self, where: str) -> Sight:
        timeouts = {"install": INSTALL_SECONDS, "ready": INSTALL_SECONDS}
        params = self._params(dry_run=False, timeouts=timeouts)
        step, error = open_step(where, params), None
        try:
            step.apply()
        except ConsulfedError as failed:
            error = failed
        return Sight.of(step.look_after(), params.primary.datacenter, error)


def _quietly(line: str) -> None:
    """What a sandbox and a runbook tell is not what a drill is about; where they fail they raise."""


# -- folders --------------------------------------------------------------------------------------------------------


def home() -> Path:
    """Where the sandboxes of drills are."""
    return platformdirs.user_state_path("consulfed") / "drills"


@contextmanager
def own_folder(tell: Tell) -> Iterator[Path]:
    """A new folder that is locked while this process lives; before that, what killed drills left is taken down."""
    here = home()
    here.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (here / ".lock").open("w") as door:
        # So that no other drill takes a folder that is not locked yet for one that was left.
        fcntl.flock(door, fcntl.LOCK_EX)
        _take_down_what_is_left(here, tell)
        folder = Path(tempfile.mkdtemp(prefix=_NAMES, dir=here))
        mine = (folder / ".lock").open("w")
        fcntl.flock(mine, fcntl.LOCK_EX)
    with mine:
        try:
            yield folder
        finally:
            remove_tree(folder)


def _take_down_what_is_left(here: Path, tell: Tell) -> None:
    for folder in sorted(here.glob(f"{_NAMES}*")):
        descriptor = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its process lives
            continue
        else:
            tell(f"taking down the sandbox of a drill that was killed: {folder}")
            for left in folder.glob("*/*/sandbox"):
                lifecycle.down(Folder(left), False, _quietly)
            remove_tree(folder)
        finally:
            os.close(descriptor)
