"""Reading what parameters point at: YAML files, and the names of a kubeconfig's contexts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from .. import places
from .models import SANDBOX

_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be a text; put templates such as {{ … }} in quotes",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def home(path: str | Path) -> Path:
    """The path with `~` as the user's folder; of a user who does not exist it stays, and nothing is found there."""
    return Path(os.path.expanduser(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ValueError with a sentence about what is wrong."""
    file = home(path)
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{file}{where} is not YAML: {getattr(error, 'problem', None) or 'it cannot be parsed'}"
        ) from None
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{file} holds no mapping of Helm values")
    return found or {}


def kubeconfig_contexts(kubeconfig: str) -> set[str]:
    """Names of the contexts of `kubeconfig` (as in the parameters); empty if there is none to read."""
    return set(kubeconfig_servers(kubeconfig))


def kubeconfig_servers(kubeconfig: str) -> dict[str, str]:
    """Context → URL of its API, as `kubeconfig` (as in the parameters) has it, in the order in which they stand there;
    empty if there is none to read. No credential is looked at."""
    if kubeconfig:
        files = [str(places.sandbox_kubeconfig()) if kubeconfig == SANDBOX else kubeconfig]
    else:
        files = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    contexts: dict[str, Any] = {}
    clusters: dict[str, str] = {}
    for file in filter(None, files):
        try:
            content = yaml.load(home(file).read_text(encoding="utf-8"), Loader=_QUICK)
            named = {str(item["name"]): item.get("context") for item in content["contexts"]}
            reached = {
                str(item["name"]): str(item["cluster"].get("server", ""))
                for item in content.get("clusters") or []
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
            continue
        contexts = named | contexts  # what stands first counts, as for kubectl
        clusters = reached | clusters
    return {
        name: clusters.get(str(of.get("cluster")), "") if isinstance(of, dict) else ""
        for name, of in contexts.items()
    }
