"""Reading a params file, or the parameters cell of a notebook. Whatever is wrong is reported at once."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ParamsError
from .files import UniqueKeys, home
from .mistakes import context_mistakes, cross_checks
from .models import NOTEBOOK_NAMES, Federation
from .secrets import hide, secrets_in
from .words import sentence


def load(path: str | Path) -> Federation:
    """Read and check a params file. Raises ParamsError that lists every mistake."""
    return check(anchored(read(path), Path(path).resolve().parent), str(path))


def read(path: str | Path) -> dict[Any, Any]:
    """What stands in a params file, unchecked. Raises ParamsError where it holds no parameters."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(
            f"The params file {source} cannot be read: {error.strerror}.", "give the path of a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise ParamsError(f"The params file {source} is not text in UTF-8.", "save it as UTF-8") from None
    try:
        raw = yaml.load(text, Loader=UniqueKeys)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}, column {where.column + 1}" if where else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ParamsError(
            f"The params file {source}{line} is not YAML: {problem}.", "mend that line"
        ) from None
    if not isinstance(raw, dict):
        raise ParamsError(f"The params file {source} holds no parameters.", "see params/sandbox.yaml")
    return raw


def anchored(raw: Mapping[Any, Any], folder: Path) -> dict[Any, Any]:
    """The same with whole paths: relative `values_files` are meant from the params file's folder, wherever the command
    or the notebook runs."""
    found = copy.deepcopy(dict(raw))
    secondaries = found.get("secondaries")
    holders = [found, found.get("primary"), *(secondaries if isinstance(secondaries, list) else [])]
    for holder in holders:
        files = holder.get("values_files") if isinstance(holder, dict) else None
        if isinstance(files, list):
            holder["values_files"] = [str(folder / home(f)) if isinstance(f, str) else f for f in files]
    return found


def from_notebook(names: Mapping[str, Any]) -> Federation:
    """Read and check the parameters cell of a notebook: pass `globals()`.

    What papermill injected counts as a params file does: where it names the primary, it stands alone, and a key
    that it leaves out has the same default as with `consulfed run`, not the sandbox's value of the notebook; a key
    that does not exist is a mistake. Raises ParamsError that lists every mistake.
    """
    injected = _injected(names)
    raw = {name: names[name] for name in injected if name in names}
    if "primary" not in raw:
        raw = {name: names[name] for name in NOTEBOOK_NAMES if name in names} | raw
    return check(raw, "the parameters cell")


def _injected(names: Mapping[str, Any]) -> list[str]:
    """Names that papermill's injected cell assigns: it begins with `# Parameters`, as papermill writes it."""
    for source in names.get("In") or ():
        if isinstance(source, str) and source.startswith("# Parameters\n"):
            assigned = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
            found = [target.id for target in assigned if isinstance(target, ast.Name)]
            return [name for name in found if not name.startswith("PAPERMILL_")]  # of --inject-paths
    return []


def check(raw: Mapping[Any, Any], source: str) -> Federation:
    """Check raw parameters from `source` (said in the error). Raises ParamsError that lists every mistake.

    A secret among them is a mistake, and no other mistake shows it.
    """
    mistakes: list[str] = []
    federation = None
    try:
        federation = Federation.model_validate(dict(raw))
    except ValidationError as error:
        mistakes += [sentence(dict(item)) for item in error.errors()]
    mistakes += cross_checks(raw)
    mistakes += context_mistakes(raw)
    secrets = secrets_in(raw)
    mistakes = [hide(each, secrets) for each in mistakes] + [each.sentence for each in secrets]
    if mistakes or federation is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ParamsError(
            f"The parameters in {source} have {count}; nothing was written.",
            "mend them and run the same command again; params/sandbox.yaml is a complete example",
            mistakes,
        )
    return federation
