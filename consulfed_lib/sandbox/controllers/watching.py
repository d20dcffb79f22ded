"""A watch that goes on for ever: list, watch, and after any interruption list again and tell the difference."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from .answers import ADDED, DELETED, MODIFIED, SYNCED, KubeError, Object, differences, items_of, object_key

if TYPE_CHECKING:
    from .client import KubeClient

logger = logging.getLogger(__name__)

_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts to reach a server that is away; the last one repeats."""

_HOPELESS = (400, 401, 403)
"""Answers that waiting does not mend."""


async def follow(
    client: KubeClient, path: str, query: dict[str, str], marks: bool
) -> AsyncGenerator[tuple[str, Object], None]:
    """The changes of a collection, as `KubeClient.watch` describes them."""
    known: dict[tuple[str, str], Object] = {}
    attempt = 0
    while True:
        try:
            answer = await client.request("GET", path, query=query)
            items, version = items_of(answer), answer["metadata"].get("resourceVersion", "0")
        except KubeError as error:
            if error.status in _HOPELESS:
                raise
            if error.status != 404:
                logger.debug("list %s: %s", path, error)
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            items, version = [], ""
        attempt = 0
        for change in differences(known, items):
            yield change
        if marks:
            yield SYNCED, {}
        if not version:
            await asyncio.sleep(_RETRY_SECONDS[-1])
            continue
        while version:
            changes = client.events(path, query, version)
            try:
                async for kind, item in changes:
                    version = item["metadata"]["resourceVersion"]
                    if kind == "BOOKMARK":
                        continue
                    if kind == DELETED:
                        known.pop(object_key(item), None)
                    else:
                        kind = MODIFIED if object_key(item) in known else ADDED
                        known[object_key(item)] = item
                    yield kind, item
            except KubeError as error:
                # 410, or the server is away and may come back with another history: list again.
                logger.debug("watch %s: %s", path, error)
                version = ""
                if error.status in _HOPELESS:
                    raise
            finally:
                await changes.aclose()
