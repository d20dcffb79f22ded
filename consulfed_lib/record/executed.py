"""A cell of an executed notebook, read from JSON of whatever origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ..results import Result


class Cell:
    """A cell of an executed notebook, with the words by which a problem names it."""

    def __init__(self, number: int, raw: Mapping[str, Any]):
        self.number = number
        self.type: str = raw["cell_type"]
        self.text = text_of(raw)
        self.is_code = self.type == "code"
        self.blank = not self.text.strip()  # nbclient passes over these
        self.count = raw.get("execution_count")
        self.outputs: list[Mapping[str, Any]] = raw.get("outputs") or []
        self.tags: list[str] = raw["metadata"].get("tags") or []
        self.papermill: Mapping[str, Any] = raw["metadata"].get("papermill") or {}

    @property
    def name(self) -> str:
        first = (self.text.strip().splitlines() or ["empty"])[0]
        return f"cell {self.number} ({first[:60]})"

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        return [output for output in self.outputs if output.get("output_type") == "error"]

    @property
    def results(self) -> list[Any]:
        return [output["data"][Result.MIME] for output in self.outputs if Result.MIME in data_of(output)]


def text_of(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def data_of(output: Mapping[str, Any]) -> Mapping[str, Any]:
    return output.get("data") or {}


def misshapen(notebook: Any) -> str:
    """Why this is no notebook; empty where it is one."""
    if not (isinstance(notebook, dict) and isinstance(notebook.get("cells"), list)):
        return "it is no notebook: it has no list of cells"
    if not isinstance(notebook.get("metadata"), dict):
        return "it is no notebook: it has no metadata"
    for number, cell in enumerate(notebook["cells"], 1):
        if not _is_cell(cell):
            return f"cell {number} is no cell of a notebook"
    return ""


def _is_cell(cell: Any) -> bool:
    if not (isinstance(cell, dict) and cell.get("cell_type") in {"code", "markdown", "raw"}):
        return False
    source, metadata = cell.get("source"), cell.get("metadata")
    lines = [source] if isinstance(source, str) else source
    if not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        return False
    if not isinstance(metadata, dict) or not isinstance(metadata.get("papermill") or {}, dict):
        return False
    tags = metadata.get("tags") or []
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        return False
    outputs = cell.get("outputs") or []
    return isinstance(outputs, list) and all(
        isinstance(output, dict) and isinstance(output.get("data") or {}, dict) for output in outputs
    )
