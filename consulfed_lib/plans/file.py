"""The plan of a whole federation, as the file that people approve: `plan.json` of a record.

`{"digest": "sha256:…", "plan": {"federation": …, "notebooks": {"03-secondary-setup dc2": {…}, …}}}`; the digest is
that of the canonical form of `plan`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..canonical import canonical, digest
from ..errors import ApprovalError
from .document import Document

NAME = "plan.json"
_HINT = "make one with `consulfed plan PARAMS`, and give its plan.json or the folder of its record"


@dataclass(frozen=True)
class PlanFile:
    """A federation's plan: a document for each notebook that would change something."""

    federation: str
    notebooks: Mapping[str, Document]
    """Label of a task (`02-secret-transfer dc2`) → its plan."""

    def plan(self) -> dict[str, Any]:
        return {
            "federation": self.federation,
            "notebooks": {
                label: {"digest": each.digest, **each.data()} for label, each in self.notebooks.items()
            },
        }

    @property
    def digest(self) -> str:
        return digest(self.plan())

    def bytes(self) -> bytes:
        """The file's content: canonical, so that the same plan is the same file."""
        return canonical({"digest": self.digest, "plan": self.plan()}) + b"\n"

    @classmethod
    def read(cls, path: Path) -> PlanFile:
        """Read an approved plan.

        Args:
            path: a `plan.json`, a record's folder, or a folder in which exactly one record with a plan is.

        Raises:
            ApprovalError: it is not there, is no plan, or was edited.
        """
        file = _find(path)
        try:
            found = json.loads(file.read_bytes())
            claimed, plan = found["digest"], found["plan"]
            documents = {
                label: Document.from_data({k: v for k, v in each.items() if k != "digest"})
                for label, each in plan["notebooks"].items()
            }
            read = cls(plan["federation"], documents)
        except OSError as error:
            raise ApprovalError(f"The plan {file} cannot be read: {error.strerror}.", _HINT) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ApprovalError(f"{file} is no plan of consulfed.", _HINT) from None
        if not claimed == digest(plan) == read.digest:
            raise ApprovalError(f"{file} was edited: its digest is not that of its content.", _HINT)
        return read


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    if (path / NAME).is_file():
        return path / NAME
    found = sorted(each for each in path.glob(f"**/{NAME}") if ".partial" not in str(each.parent))
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} plans are" if found else "no plan is"
    names = [str(each.parent) for each in found]
    raise ApprovalError(f"{what[0].upper()}{what[1:]} in {path}; one was expected.", _HINT, names)
