"""The audit log: one JSON line a request, in the shape of audit.k8s.io/v1 at level Metadata. No bodies."""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .contracts import User
from .request import RequestInfo


def timestamp() -> str:
    """The time as metav1.MicroTime has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class AuditLog:
    """Appends events to a file that only its owner can read; each line is on disk's way at once."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)

    def close(self) -> None:
        self._file.close()

    def write(
        self,
        info: RequestInfo,
        uri: str,
        user: User | None,
        agent: str,
        source: str,
        code: int,
        received: str,
        name: str = "",
    ) -> None:
        """Record a request that is answered.

        Args:
            name: the object's name where the path does not have it (a creation).
        """
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": uri,
            "verb": info.verb,
            "user": {"username": user.name, "groups": list(user.groups)} if user else {},
            "sourceIPs": [source],
            "userAgent": agent,
        }
        if info.is_resource:
            reference = {
                "resource": info.plural,
                "namespace": info.namespace,
                "name": info.name or name,
                "apiGroup": info.group,
                "apiVersion": info.version,
                "subresource": info.sub,
            }
            event["objectRef"] = {key: value for key, value in reference.items() if value}
        event["responseStatus"] = {"metadata": {}, "code": code}
        event["requestReceivedTimestamp"] = received
        event["stageTimestamp"] = timestamp()
        self._file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
