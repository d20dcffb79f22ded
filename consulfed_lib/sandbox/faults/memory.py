"""What is remembered of the faults of a sandbox: one file each in its folder, from before the first change until the
fault is taken back.

A file is readable by its user only, as the clusters' objects beside it are: a copy of a Secret may be in it.

    {"order": 2, "entries": [{"kind": "object", "subject": "dc2 secrets consul/consul-federation", …}, …]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SandboxError
from ..state import Folder, read_json, write_json

Entry = dict[str, Any]
"""`kind` says what it is, `subject` what was changed, in words; the rest is what is needed to take it back."""


@dataclass
class Memory:
    """What one fault has changed, oldest first."""

    folder: Folder
    name: str
    order: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder.faults / f"{self.name}.json"

    def save(self) -> None:
        """Write it: from here on the fault is one that is active."""
        self.folder.faults.mkdir(mode=0o700, exist_ok=True)
        write_json(self.path, {"order": self.order, "entries": self.entries})

    def add(self, entry: Entry) -> None:
        """Remember one more change, before it is made.

        Raises SandboxError when another fault has changed the same: taken back in another order than they came,
        neither would leave what was there before.
        """
        for other in remembered(self.folder):
            if other.name != self.name and entry["subject"] in (one["subject"] for one in other.entries):
                raise SandboxError(
                    f"The fault {other.name} is in force on the same thing: {entry['subject']}.",
                    f"run `consulfed sandbox fault --clear {other.name}` first.",
                )
        self.entries.append(entry)
        self.save()

    def forget(self) -> None:
        """The fault is taken back."""
        self.path.unlink(missing_ok=True)


def remembered(folder: Folder) -> list[Memory]:
    """All that are active, oldest first."""
    found = []
    for path in folder.faults.glob("*.json"):
        content = read_json(path)
        found.append(Memory(folder, path.stem, content.get("order", 0), content.get("entries", [])))
    return sorted(found, key=lambda one: (one.order, one.name))


def begin(folder: Folder, name: str) -> Memory:
    """A new one, the newest; written at once."""
    memory = Memory(folder, name, max((one.order for one in remembered(folder)), default=0) + 1)
    memory.save()
    return memory
