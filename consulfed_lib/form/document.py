"""The text of a params file: what is said, each key with its meaning; in a file that is there, only what changed.

A file of somebody's own keeps its comments, its order and its way of writing. ruamel.yaml does that; what it wrote is
read again by the reader that counts, and has to say exactly what was meant.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from ..errors import ParamsError
from ..params import Federation
from ..params.files import UniqueKeys
from .fields import CLUSTERS, known

_HEAD = "# Made by consulfed. What is left out has its default; every key is explained in README.md.\n"
_COLUMN = 44
_ORDER = tuple(Federation.model_fields)


def written(raw: Mapping[str, Any], before: str = "") -> str:
    """The text of a params file that says `raw`.

    Args:
        before: the text of the file as it is; empty for a new one.

    Raises ParamsError where the file cannot be changed so without saying something else.
    """
    round_trip = _round_trip()
    try:
        document = round_trip.load(before) if before else CommentedMap()
        if not isinstance(document, CommentedMap):
            raise _by_hand("it is no mapping")
        _become(document, raw, "")
        text = io.StringIO() if before else io.StringIO(_HEAD)
        text.seek(0, io.SEEK_END)
        round_trip.dump(document, text)
        again = yaml.load(text.getvalue(), UniqueKeys)
    except (YAMLError, yaml.YAMLError) as error:
        raise _by_hand(str(getattr(error, "problem", "") or type(error).__name__)) from None
    if again != raw:
        raise _by_hand("aliases or another version of YAML are used in it")
    return text.getvalue()


def _round_trip() -> YAML:
    found = YAML()
    found.preserve_quotes = True
    found.width = 4096
    found.indent(mapping=2, sequence=4, offset=2)
    return found


def _by_hand(why: str) -> ParamsError:
    return ParamsError(
        f"The params file cannot be changed by the form and keep its comments: {why}.",
        "change it in an editor, or write to another file",
    )


def _become(document: CommentedMap, raw: Mapping[str, Any], place: str) -> None:
    """Change a mapping of the document where it says something else than `raw`; leave the rest of it alone."""
    for key in [key for key in document if key not in raw]:
        del document[key]
    for key, value in raw.items():
        inner = f"{place}.{key}" if place else str(key)
        there = document.get(key)
        if isinstance(there, CommentedMap) and isinstance(value, Mapping):
            _become(there, value, inner)
        elif inner == "secondaries" and isinstance(there, CommentedSeq) and isinstance(value, list):
            _become_clusters(document, there, value)
        elif key not in document:
            _add(document, str(key), value, place)
        elif there != value or isinstance(there, bool) is not isinstance(value, bool):  # 1 == True
            document[key] = _plain(value, inner)


def _become_clusters(document: CommentedMap, there: CommentedSeq, clusters: list[Any]) -> None:
    """Secondaries are the same ones as long as their contexts are; one that stays keeps how it is written."""

    before, after = [_context(each) for each in there], [_context(each) for each in clusters]
    if before != after:
        old = dict(zip(before, there, strict=True))
        new = CommentedSeq()
        for i, (cluster, context) in enumerate(zip(clusters, after, strict=True)):
            kept = old.pop(context, None) if context else None
            new.append(kept if isinstance(kept, CommentedMap) else _plain(cluster, f"secondaries[{i}]"))
        document["secondaries"] = there = new
    for i, (each, cluster) in enumerate(zip(there, clusters, strict=True)):
        if isinstance(each, CommentedMap) and isinstance(cluster, Mapping):
            _become(each, cluster, f"secondaries[{i}]")


def _context(cluster: Any) -> str:
    """The name by which a cluster is known; empty where it has none."""
    context = cluster.get("context") if isinstance(cluster, Mapping) else ""
    return context if isinstance(context, str) else ""


def _add(document: CommentedMap, key: str, value: Any, place: str) -> None:
    """A key that was not there, after those that come before it in the model, and with what it means."""
    before = _ORDER[: _ORDER.index(key)] if not place and key in _ORDER else ()
    position = max((i + 1 for i, each in enumerate(document) if each in before), default=len(document))
    inner = f"{place}.{key}" if place else key
    document.insert(position if before else len(document), key, _plain(value, inner))
    if document.fa.flow_style():
        return  # on one line there is no room for what it means
    if help := _help(inner):
        document.yaml_add_eol_comment(help, key, column=_COLUMN)


def _help(place: str) -> str:
    try:
        return known(place).help
    except KeyError:
        field = Federation.model_fields.get(place)
        return (field.description or "") if field else ""


def _plain(value: Any, place: str) -> Any:
    """A new value: text in double quotes, a cluster on one line where it is no more than names, else as blocks."""
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        found = CommentedMap()
        short = place.partition("[")[0] in CLUSTERS and "." not in place
        if short and all(isinstance(each, str) for each in value.values()):
            found.fa.set_flow_style()
        for key, each in value.items():
            _add(found, str(key), each, place)
        return found
    if isinstance(value, list):
        listed = CommentedSeq(_plain(each, f"{place}[{i}]") for i, each in enumerate(value))
        if not any(isinstance(each, Mapping | list) for each in value):
            listed.fa.set_flow_style()
        return listed
    return value
