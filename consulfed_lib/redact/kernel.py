"""The guard of a Jupyter kernel: whatever it sends (streams, displays, tracebacks, widgets) passes through here.

`Session.send` is wrapped, because ipykernel's own hooks do not cover stdout and stderr (they are thread-local).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import REDACTED, SHORTEST, channel, finder, leaks, scrub


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


@dataclass
class _Begun:
    """A stream of a cell that ended where a secret may have begun: what was shown of that, what is held back, and
    what sends it to where it was going."""

    shown: str
    held: str
    send: Callable[[str], Any]


class Guard:
    """Stands in for `Session.send`.

    A secret may be written in pieces. The end of a stream's text that could be the beginning of one is therefore held
    back until more of that stream comes, or something else of the same cell; then it is shown, if it is short, and
    what comes after it is still looked at together with it.
    """

    def __init__(self, session: Any):
        self._session = session
        self._send = session.send
        self._begun: dict[tuple[str, str], _Begun] = {}
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
        before = self._begun.pop(key, None)
        shown, held = (before.shown, before.held) if before else ("", "")
        whole = scrub(shown + held + str(message["content"].get("text", "")))
        text = whole.removeprefix(shown)
        if end := finder().beginning(whole):
            held = end[-len(text) :] if text else ""
            send = partial(self._send_again, stream, message, args, kwargs)
            self._begun[key] = _Begun(end.removesuffix(held), held, send)
            text = text.removesuffix(held)
        if not text:
            return message
        return self._send(stream, {**message, "content": {"name": name, "text": text}}, None, *args, **kwargs)

    def _release(self, parent: str) -> None:
        """Send what was held back of a cell: no secret came of it so far. Much of one is not shown either."""
        for begun in [begun for key, begun in self._begun.items() if key[0] == parent and begun.held]:
            held, begun.held = begun.held, ""
            begun.shown += held
            begun.send(held if len(begun.shown) < SHORTEST else REDACTED)

    def _send_again(
        self, stream: Any, message: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any], text: str
    ) -> None:
        """A text of its own, to where a message went."""
        content = {"name": message["content"].get("name"), "text": text}
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
