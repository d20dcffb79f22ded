"""What a container would find in a mounted file, for the controllers whose containers do not run."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from ..controllers.client import KubeClient
from ..node.init_files import made_files, volume_file


async def read_mounted(
    client: KubeClient, namespace: str, spec: dict[str, Any], container: dict[str, Any], path: str
) -> bytes | None:
    """Content of a file that comes from a Secret or a ConfigMap; None when nothing of that name is mounted.

    Args:
        spec: the pod's spec.
        container: the container of it that mounts the volume.
    """
    found = volume_file(container, path)
    if found is None:
        return None
    name, file = made_files(spec).get(found, found)
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    return await _read_source(client, namespace, volumes[name], file) if name in volumes else None


async def _read_source(client: KubeClient, namespace: str, volume: dict[str, Any], file: str) -> bytes | None:
    if "secret" in volume:
        source, plural, name = volume["secret"], "secrets", volume["secret"]["secretName"]
    elif "configMap" in volume:
        source, plural, name = volume["configMap"], "configmaps", volume["configMap"]["name"]
    else:
        return None
    keys = {item["path"]: item["key"] for item in source.get("items", [])}
    key = keys.get(file) if keys else file
    item = await client.find("v1", plural, name, namespace)
    if item is None or key is None or key not in (item.get("data") or {}):
        return None
    value = item["data"][key]
    return b64decode(value) if plural == "secrets" else value.encode()
