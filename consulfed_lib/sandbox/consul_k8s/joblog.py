"""How a Job speaks in `kubectl logs`, fails, and tries again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from ..controllers.client import KubeError
from ..node.consul_http import ConsulError

Result = TypeVar("Result")

RETRY_SECONDS = 0.25
"""consul-k8s waits 1 s between attempts; nothing here depends on it, and four Jobs in a row wait less."""


class JobFailed(Exception):
    """The Job cannot do its work, and no waiting will help; the message becomes its last log line."""


class JobLog:
    """Lines such as `2026-01-31T12:00:00.000Z [INFO]  Secret created: name=consul-federation`.

    Nothing secret is ever passed to it: values are names, addresses and errors.
    """

    def __init__(self, write: Callable[[str], None], as_json: bool = False):
        self._write = write
        self._as_json = as_json

    def info(self, message: str, **values: str) -> None:
        self._line("INFO", message, values)

    def warn(self, message: str, **values: str) -> None:
        self._line("WARN", message, values)

    def error(self, message: str, **values: str) -> None:
        self._line("ERROR", message, values)

    def _line(self, level: str, message: str, values: dict[str, str]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._as_json:
            self._write(
                json.dumps({"@level": level.lower(), "@message": message, "@timestamp": now, **values})
            )
            return
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in values.items())
        self._write(f"{now} {f'[{level}]':<8}{message}{': ' if pairs else ''}{pairs}")


def _quoted(value: str) -> str:
    return json.dumps(value) if not value or any(c.isspace() or c in '"=' for c in value) else value


async def until_succeeds(
    log: JobLog,
    what: str,
    attempt: Callable[[], Awaitable[Result]],
    *,
    quiet: bool = False,
) -> Result:
    """Attempt it until Consul and the API server let it succeed; the caller sets the deadline.

    Each different error is logged at once, the same one again each 10 s, so that the log tells what it waits
    for without filling up. Success is logged unless `quiet`.
    """
    told, told_at = "", 0.0
    while True:
        try:
            result = await attempt()
        except (ConsulError, KubeError) as error:
            text = str(error)
            if text != told or time.monotonic() - told_at > 10:
                log.error(f"Failure: {what}", err=text)
                told, told_at = text, time.monotonic()
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if not quiet:
            log.info(f"Success: {what}")
        return result
