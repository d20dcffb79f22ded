"""The guard of a Jupyter kernel: whatever it sends (streams, displays, tracebacks, widgets) passes through here.

`Session.send` is wrapped, because ipykernel's own hooks do not cover stdout and stderr (they are thread-local).
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from . import REDACTED, SHORTEST, channel, leaks, longest_first, scrub


def install() -> bool:
    """Wrap the kernel's outgoing messages, and tell the runner what is secret; once. False outside of a kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    session = getattr(getattr(get_ipython(), "kernel", None), "session", None)
    if session is None:
        return False
    if not isinstance(session.send, Guard):
        session.send = Guard(session)
        _keep_streams_from_the_log()
        channel.connect()
    return True


def _keep_streams_from_the_log() -> None:
    """What child processes write to the kernel's own stdout goes into the cell, through the guard; ipykernel copies it
    to where that was before, too, which is the runner's log, and past the guard."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        copy = getattr(stream, "_original_stdstream_copy", None)
        if isinstance(copy, int):
            os.dup2(nowhere, copy)
    os.close(nowhere)


class Guard:
    """Stands in for `Session.send`.

    A secret may be written in pieces. The end of a stream's text that could be the beginning of one is therefore held
    back until more of that stream comes, or something else of the same cell.
    """

    def __init__(self, session: Any):
        self._session = session
        self._send = session.send
        self._held: dict[
            tuple[str, str], tuple[str, Any, dict[str, Any], tuple[Any, ...], dict[str, Any]]
        ] = {}
        self._lock = threading.RLock()  # both streams, the shell and threads of cells send

    def __call__(self, stream: Any, message: Any, content: Any = None, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            if kwargs.get("buffers"):
                kwargs["buffers"] = [_without_secrets(buffer) for buffer in kwargs["buffers"]]
            if not isinstance(message, dict):  # a type, and its content
                self._release(_id(args[0] if args else kwargs.get("parent")))
                return self._send(stream, message, scrub(content), *args, **kwargs)
            if message.get("msg_type") != "stream":
                self._release(_id(message.get("parent_header")))
                if "content" in message:
                    message = {**message, "content": scrub(message["content"])}
                return self._send(stream, message, scrub(content), *args, **kwargs)
            return self._stream(stream, message, args, kwargs)

    def _stream(
        self, stream: Any, message: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name = str(message["content"].get("name"))
        key = _id(message.get("parent_header")), name
        before = self._held.pop(key, ("",))[0]
        text = scrub(before + str(message["content"].get("text", "")))
        end = beginning_of_a_secret(text)
        if end:
            self._held[key] = (end, stream, message, args, kwargs)
            text = text[: -len(end)]
        if not text:
            return message
        return self._send(stream, {**message, "content": {"name": name, "text": text}}, None, *args, **kwargs)

    def _release(self, parent: str) -> None:
        """Send what was held back of a cell: no secret came of it. Much of one is not shown either."""
        for key in [key for key in self._held if key[0] == parent]:
            end, stream, message, args, kwargs = self._held.pop(key)
            content = {"name": key[1], "text": end if len(end) < SHORTEST else REDACTED}
            fresh = self._session.msg("stream", content, parent=message.get("parent_header"))
            self._send(stream, fresh, None, *args, **kwargs)


def _without_secrets(buffer: Any) -> Any:
    """What widgets send beside their state: pictures and other bytes."""
    text = bytes(buffer).decode("utf-8", "replace")
    return scrub(text).encode() if leaks(text) else buffer


def _id(parent: Any) -> str:
    """The message that a message answers: of a parent message, or of its header."""
    header = (parent or {}).get("header", parent or {})
    return str(header.get("msg_id", ""))


def beginning_of_a_secret(text: str) -> str:
    """The longest end of a text with which a known form of a secret begins; empty if there is none."""
    longest = 0
    for form in longest_first():
        limit = min(len(form) - 1, len(text))
        if limit <= longest:
            continue
        at = form.rfind(text[-1], 0, limit) if text else -1
        while at >= longest:
            if text.endswith(form[: at + 1]):
                longest = at + 1
                break
            at = form.rfind(text[-1], 0, at)
    return text[len(text) - longest :]
