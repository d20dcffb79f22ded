"""The credentials of a kubeconfig: known to be secret from the moment they are read, and never on a disk.

The official client writes a client key that stands in the kubeconfig itself into a temporary file, for OpenSSL to
read, and removes it only when the process ends in good order. On Linux the file is in memory here, and nowhere else.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

from kubernetes.config import kube_config

from . import redact

_files: dict[bytes, str] = {}


def _file_in_memory(content: str | bytes, *_: Any, **__: Any) -> str:
    """The path of a file with this content, which no other process has, and which ends with this one."""
    data = content.encode() if isinstance(content, str) else content
    if data not in _files:
        descriptor = os.memfd_create("consulfed-credentials")
        os.write(descriptor, data)
        _files[data] = f"/proc/self/fd/{descriptor}"
    return _files[data]


def keep_in_memory() -> None:
    """Have the official client make its temporary files in memory, where the system can do that."""
    if sys.platform == "linux":
        kube_config._create_temp_file_with_content = _file_in_memory


def register(configuration: Any) -> None:
    """Register everything secret in a client's configuration."""
    for token in configuration.api_key.values():
        register_token(token)
    if configuration.password:
        redact.register(str(configuration.password).encode())
    if configuration.key_file:
        redact.register(Path(configuration.key_file).read_bytes())


def register_token(header: object) -> None:
    """Register the value of an authorization header, without its scheme; of basic authentication the password, too."""
    scheme, _, value = str(header or "").partition(" ")
    redact.register((value or scheme).encode())
    if scheme.lower() == "basic":
        redact.register(base64.b64decode(value).partition(b":")[2])
