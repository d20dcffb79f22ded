"""What a container's spec refers to, looked up: environment variables and the files of its volumes.

The messages of what is missing are the kubelet's own, because that is what a person searches for.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..controllers.informer import Informer
from .init_files import made_files

Object = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.][\w.-]*)\)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_.-][\w.-]*")

_SUFFIXES = {
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
}


class MountError(Exception):
    """A volume cannot be set up yet; the pod stays in ContainerCreating."""

    def __init__(self, volume: str, why: str):
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


class EnvError(Exception):
    """A variable cannot be resolved; the container waits with CreateContainerConfigError."""


@dataclass
class Sources:
    """Where values come from: caches of Secrets and ConfigMaps, and the pod with its addresses filled in."""

    secrets: Informer
    config_maps: Informer
    pod: Object

    @property
    def namespace(self) -> str:
        return self.pod["metadata"]["namespace"]

    def secret(self, name: str) -> dict[str, bytes] | None:
        found = self.secrets.get(name, self.namespace)
        if found is None:
            return None
        return {key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()}

    def config_map(self, name: str) -> dict[str, bytes] | None:
        found = self.config_maps.get(name, self.namespace)
        if found is None:
            return None
        text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return {**text, **binary}


def environment(container: Object, sources: Sources, base: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container on top of `base`, in their order. Raises EnvError."""
    env = dict(base)
    for source in container.get("envFrom") or []:
        for kind, lookup in (("secretRef", sources.secret), ("configMapRef", sources.config_map)):
            reference = source.get(kind)
            if not reference:
                continue
            found = lookup(reference["name"])
            if found is None:
                if reference.get("optional"):
                    continue
                raise EnvError(f'{_noun(kind)} "{reference["name"]}" not found')
            for key, content in found.items():
                name = source.get("prefix", "") + key
                if _VARIABLE_NAME.fullmatch(name):
                    env[name] = content.decode(errors="replace")
    for variable in container.get("env") or []:
        value = _value(variable, container, sources, env)
        if value is not None:
            env[variable["name"]] = value
    return env


def _value(variable: Object, container: Object, sources: Sources, env: Mapping[str, str]) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return expand(variable.get("value") or "", env)
    if "fieldRef" in origin:
        return field_of(sources.pod, origin["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in origin:
        return resource_of(sources.pod, origin["resourceFieldRef"], container)
    for kind, lookup, noun in (
        ("secretKeyRef", sources.secret, "Secret"),
        ("configMapKeyRef", sources.config_map, "ConfigMap"),
    ):
        reference = origin.get(kind)
        if not reference:
            continue
        found = lookup(reference["name"])
        if found is not None and reference["key"] in found:
            return found[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        if found is None:
            raise EnvError(f'{_noun(kind)} "{reference["name"]}" not found')
        where = f"{sources.namespace}/{reference['name']}"
        raise EnvError(f"couldn't find key {reference['key']} in {noun} {where}")
    raise EnvError(f"variable {variable['name']} has a source that is not known here: {', '.join(origin)}")


def _noun(kind: str) -> str:
    return "secret" if kind.startswith("secret") else "configmap"


def expand(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' own expansion: $(NAME) of what is known, $$ for a dollar, the rest as it is.

    >>> expand("$(A)-$$(A)-$(B)-${A}", {"A": "x"})
    'x-$(A)-$(B)-${A}'
    """
    return _REFERENCE.sub(lambda match: "$" if match[0] == "$$" else env.get(match[1], match[0]), text)


def field_of(pod: Object, path: str) -> str:
    """The value of a downward API field: `metadata.name`, `status.podIP`, `metadata.labels['app']`, …"""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']*)'\]", path)
    if keyed:
        return (pod["metadata"].get(keyed[1]) or {}).get(keyed[2], "")
    if path in ("metadata.labels", "metadata.annotations"):
        values = pod["metadata"].get(path.split(".")[1]) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    if path in ("status.podIPs", "status.hostIPs"):
        return ",".join(one["ip"] for one in (pod.get("status") or {}).get(path.split(".")[1]) or [])
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def resource_of(pod: Object, reference: Object, container: Object) -> str:
    """The value of a resourceFieldRef (`limits.memory`, …), in units of its divisor, rounded up."""
    name = reference.get("containerName")
    if name:
        container = next(one for one in pod["spec"]["containers"] if one["name"] == name)
    kind, resource = reference["resource"].split(".", 1)
    amount = ((container.get("resources") or {}).get(kind) or {}).get(resource, "0")
    divisor = quantity(str(reference.get("divisor") or "1")) or Fraction(1)
    return str(-(-quantity(str(amount)) // divisor))


def quantity(text: str) -> Fraction:
    """A Kubernetes quantity.

    >>> quantity("200Mi") == 200 * 2**20, quantity("100m") == Fraction(1, 10)
    (True, True)
    """
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text)
    if match is None:
        raise EnvError(f"not a quantity: {text}")
    return Fraction(match[1]) * _SUFFIXES.get(match[2], Fraction(1))


def files(container: Object, sources: Sources, token: str) -> dict[str, bytes]:
    """Absolute path → content of everything that a container mounts. Raises MountError.

    Volumes of the pod that this container does not mount have to be complete as well, as on a real node.
    """
    volumes = {
        volume["name"]: _volume_files(volume, sources, token)
        for volume in sources.pod["spec"].get("volumes") or []
    }
    for (volume_name, path), (source, origin) in made_files(sources.pod["spec"]).items():
        if origin in volumes.get(source, {}):
            volumes[volume_name] = {**volumes[volume_name], path: volumes[source][origin]}
    mounted: dict[str, bytes] = {}
    for mount in container.get("volumeMounts") or []:
        path, sub = mount["mountPath"].rstrip("/"), (mount.get("subPath") or "").strip("/")
        for name, content in volumes.get(mount["name"], {}).items():
            if not sub:
                mounted[f"{path}/{name}"] = content
            elif name == sub:
                mounted[path] = content
            elif name.startswith(f"{sub}/"):
                mounted[path + name[len(sub) :]] = content
    return mounted


def _volume_files(volume: Object, sources: Sources, token: str) -> dict[str, bytes]:
    name = volume["name"]
    if "secret" in volume:
        reference = volume["secret"]
        return _chosen(name, "secret", reference["secretName"], reference, sources.secret)
    if "configMap" in volume:
        reference = volume["configMap"]
        return _chosen(name, "configmap", reference["name"], reference, sources.config_map)
    if "downwardAPI" in volume:
        return _downward(volume["downwardAPI"], sources)
    made: dict[str, bytes] = {}
    for source in (volume.get("projected") or {}).get("sources") or []:
        if "secret" in source:
            made |= _chosen(name, "secret", source["secret"]["name"], source["secret"], sources.secret)
        elif "configMap" in source:
            reference = source["configMap"]
            made |= _chosen(name, "configmap", reference["name"], reference, sources.config_map)
        elif "downwardAPI" in source:
            made |= _downward(source["downwardAPI"], sources)
        elif "serviceAccountToken" in source:
            made[source["serviceAccountToken"]["path"]] = token.encode()
    # emptyDir, hostPath and persistentVolumeClaim begin without files that anything here would read.
    return made


def _chosen(volume: str, kind: str, name: str, reference: Object, lookup: Any) -> dict[str, bytes]:
    found = lookup(name)
    if found is None:
        if reference.get("optional"):
            return {}
        raise MountError(volume, f'{kind} "{name}" not found')
    items = reference.get("items")
    if not items:
        return found
    chosen = {}
    for item in items:
        if item["key"] in found:
            chosen[item["path"]] = found[item["key"]]
        elif not reference.get("optional"):
            noun = "secret" if kind == "secret" else "config"
            raise MountError(volume, f"references non-existent {noun} key: {item['key']}")
    return chosen


def _downward(source: Object, sources: Sources) -> dict[str, bytes]:
    made = {}
    for item in source.get("items") or []:
        if "fieldRef" in item:
            value = field_of(sources.pod, item["fieldRef"]["fieldPath"])
        else:
            value = resource_of(sources.pod, item["resourceFieldRef"], {})
        made[item["path"]] = value.encode()
    return made
