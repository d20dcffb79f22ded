"""Event objects: what `kubectl describe` and `kubectl get events` tell a person about an object."""

from __future__ import annotations

import logging
import uuid

from .client import KubeClient, KubeError, Object
from .controller import now

logger = logging.getLogger(__name__)

_REMEMBERED = 500


class Recorder:
    """Writes Events in the name of one component; the same news again only raises a counter."""

    def __init__(self, client: KubeClient, component: str, host: str = ""):
        self._client = client
        self._source = {"component": component, **({"host": host} if host else {})}
        self._seen: dict[tuple[str, ...], tuple[str, int]] = {}

    async def record(self, about: Object, kind: str, reason: str, message: str, host: str = "") -> None:
        """`kind` is Normal or Warning. An Event that cannot be written is logged: nothing depends on one."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        key = (metadata["uid"], kind, reason, message)
        name, count = self._seen.get(key, ("", 0))
        source = {**self._source, **({"host": host} if host else {})}
        try:
            if name:
                change = {"count": count + 1, "lastTimestamp": now()}
                await self._client.merge_patch("v1", "events", name, change, namespace)
            else:
                name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
                await self._client.create(
                    "v1",
                    "events",
                    {
                        "apiVersion": "v1",
                        "kind": "Event",
                        "metadata": {"name": name, "namespace": namespace},
                        "involvedObject": {
                            "apiVersion": about["apiVersion"],
                            "kind": about["kind"],
                            "name": metadata["name"],
                            "namespace": metadata.get("namespace", ""),
                            "uid": metadata["uid"],
                            "resourceVersion": metadata["resourceVersion"],
                        },
                        "type": kind,
                        "reason": reason,
                        "message": message,
                        "source": source,
                        "reportingComponent": source["component"],
                        "reportingInstance": source.get("host", ""),
                        "firstTimestamp": now(),
                        "lastTimestamp": now(),
                        "count": 1,
                    },
                    namespace,
                )
        except KubeError as error:
            # The namespace is going, or the Event was: what it tells of is going as well.
            logger.debug("event %s on %s: %s", reason, metadata["name"], error)
            self._seen.pop(key, None)
            return
        self._seen[key] = (name, count + 1)
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
