"""Faults: the sandbox misbehaves for real, and stops misbehaving.

What breaks is Consul, Envoy, an API server, the path between them; no check could tell such a fault from one that
happened. `inject` returns when the fault is in force, `clear` when it is taken back. What was there before is
remembered in the sandbox's folder before anything is changed (`memory`), so that a fault which was injected by a
process that was killed, in the middle even, is taken back by another one.

    api.py      by the clusters' own APIs: what an administrator could do by mistake
    keys.py     keys and certificates: the federation secret, its copy, what servers were started with
    consul.py   by Consul's own API, and what its servers were started with
    machine.py  by the sandbox's own processes: load balancers, network, API servers (`disturbances`)
"""

from __future__ import annotations

from ...errors import SandboxError
from ..state import Folder
from . import api, consul, keys, machine
from .fault import Fault
from .memory import begin, remembered
from .world import World

__all__ = ["FAULTS", "Fault", "World", "active", "clear", "inject"]

FAULTS: dict[str, Fault] = {
    each.name: each for each in (*machine.FAULTS, *api.FAULTS, *keys.FAULTS, *consul.FAULTS)
}
"""Every fault by name, in the order of `consulfed sandbox fault --list`."""


def inject(folder: Folder, name: str) -> None:
    """Have that fault; returns when it is in force. One that is active already is taken back first.

    Raises SandboxError for a name that is none, for a sandbox that is not up or has no federation to break, and when
    another fault has changed the same thing. What had been changed by then is remembered, and can be cleared.
    """
    fault = _fault(name)
    if folder.process() is None:
        raise SandboxError(f"No sandbox is up in {folder.path}.", "run `consulfed sandbox up`.")
    with folder.locked():
        if name in active(folder):
            _take_back(folder, name)
        memory = begin(folder, name)
        world = World(folder, memory)
        try:
            fault.inject(world)
        except SandboxError:
            if not memory.entries:
                memory.forget()
            raise


def clear(folder: Folder, name: str = "") -> list[str]:
    """Take back that fault, or all that are active, newest first; the names of what was taken back.

    Returns when it is taken back. Raises SandboxError as `inject` does.
    """
    if name:
        _fault(name)
    if not active(folder):
        return []
    with folder.locked():
        chosen = [one for one in reversed(active(folder)) if name in ("", one)]
        for one in chosen:
            _take_back(folder, one)
    return chosen


def active(folder: Folder) -> list[str]:
    """The faults that were injected and not taken back, oldest first."""
    return [one.name for one in remembered(folder) if one.name in FAULTS]


def _take_back(folder: Folder, name: str) -> None:
    memory = next(one for one in remembered(folder) if one.name == name)
    FAULTS[name].clear(World(folder, memory))
    memory.forget()


def _fault(name: str) -> Fault:
    if name not in FAULTS:
        raise SandboxError(f"There is no fault {name}.", f"there are: {', '.join(FAULTS)}.")
    return FAULTS[name]
