"""Files that an init container makes for the others of its pod, as far as anything here reads them.

Up to chart 0.49, with `global.tls.enableAutoEncrypt`, an init container asks the servers for the CA of the client
agents' certificates. Here there are no client agents, and who asks one is sent to a server (`consul_k8s`): so that
file holds what the init container itself checks the servers with.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from .workload import parse_flags

Object = dict[str, Any]
VolumeFile = tuple[str, str]
"""(name of a volume, path of a file in it)"""


def made_files(spec: Object) -> dict[VolumeFile, VolumeFile]:
    """File that an init container of a pod makes → file with the content that it has here."""
    made: dict[VolumeFile, VolumeFile] = {}
    for init in spec.get("initContainers") or []:
        words = [*(init.get("command") or []), *(init.get("args") or [])]
        if not any("get-consul-client-ca" in word for word in words):
            continue
        flags = parse_flags(words)
        places = [volume_file(init, flags.get(name, [""])[-1]) for name in ("output-file", "ca-file")]
        if places[0] and places[1]:
            made[places[0]] = places[1]
    return made


def volume_file(container: Object, path: str) -> VolumeFile | None:
    """Where a file of a container is, by the volume that it mounts; None where it mounts none there."""
    wanted = PurePosixPath(path)
    for mount in container.get("volumeMounts") or []:
        folder = PurePosixPath(mount["mountPath"])
        if folder in wanted.parents:
            return mount["name"], str(PurePosixPath(mount.get("subPath", "")) / wanted.relative_to(folder))
    return None
