"""Commands in pods: Kubernetes' exec protocol over a WebSocket, with standard input that comes to its end.

The official client opens the WebSocket (TLS, tokens, proxies) and keeps the channels apart: 0 stdin, 1 stdout,
2 stderr, 3 the outcome. Only from version 5 of the protocol on (Kubernetes 1.30) can a client end stdin; a command
that reads to the end of its input waits forever on an older one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ClusterError

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
TIMED_OUT = 124
"""The exit code of a command that did not end in time, as of the program `timeout`."""

_STDIN, _OUTCOME, _CLOSE = 0, 3, 255
_CHUNK = 32 * 1024


@dataclass(frozen=True)
class Completed:
    """A command that ran in a pod; shaped like `subprocess.CompletedProcess`."""

    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class EndlessInputError(ClusterError):
    """The API server knows no protocol in which standard input can end; the command did not get any."""


class StreamErrors:
    """Turns whatever the WebSocket client raises into one ClusterError, without headers or bodies in it."""

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, ClusterError):
            # websocket-client words a refusal `Handshake status 403 Forbidden -+-+- <headers> -+-+- <body>`.
            handshake = str(error).partition(" -+-+- ")[0] if hasattr(error, "status_code") else ""
            reason = str(getattr(error, "reason", "")).partition(" -+-+- ")[0]
            words = (handshake or reason or type(error).__name__).splitlines()[0][:200]
            raise ClusterError(
                f"{self._what}: {words}.", "see that the pod runs and that you may use it"
            ) from None


def run(
    configuration: Any, url: str, headers: Mapping[str, str], stdin: bytes | None, timeout: float
) -> tuple[int, str, str]:
    """Run the command that an exec URL names; its exit code, stdout and stderr.

    Args:
        stdin: all of the command's input; None where the URL asks for none.
        timeout: seconds until we go away; the code is TIMED_OUT then. (What happens to the command is the
            container runtime's affair: it may run on.)

    Raises:
        EndlessInputError: there is input, and the server speaks version 4 only.
        ClusterError: the command could not be run at all; `found` is the kubelet's own message.
    """
    from kubernetes.stream import ws_client

    # Said here, because older releases of the client offer version 4 only.
    offered = {**headers, "sec-websocket-protocol": f"{V5},{V4}"}
    stream = ws_client.WSClient(configuration, ws_client.get_websocket_url(url), offered, False)
    try:
        stream.sock.settimeout(timeout)
        if stdin is not None:
            _feed(stream.sock, stdin)
        stream.run_forever(timeout=timeout)
        ended = not stream.is_open()
        stdout, stderr, outcome = (stream.read_channel(channel) or "" for channel in (1, 2, _OUTCOME))
        return (_exit_code(outcome) if ended else TIMED_OUT), stdout, stderr
    finally:
        stream.close()


def _feed(sock: Any, data: bytes) -> None:
    """Send all of stdin, and end it."""
    answered = sock.getheaders() or {}
    if answered.get("sec-websocket-protocol") != V5:
        raise EndlessInputError(
            "This API server cannot end the standard input of a command (that came with Kubernetes 1.30)."
        )
    for start in range(0, len(data), _CHUNK):
        sock.send_binary(bytes([_STDIN]) + data[start : start + _CHUNK])
    sock.send_binary(bytes([_CLOSE, _STDIN]))


def _exit_code(outcome: str) -> int:
    """The exit code from the Status on the outcome channel. Raises ClusterError where the command never ran."""
    try:
        status = json.loads(outcome)
    except ValueError:
        raise ClusterError(
            "The stream to the pod ended without an outcome.", "see that the pod runs; then run this again"
        ) from None
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    code = next((cause.get("message", "") for cause in causes if cause.get("reason") == "ExitCode"), "")
    if str(code).isdigit():
        return int(code)
    words = (str(status.get("message") or "no message").splitlines() or ["no message"])[0][:300]
    raise ClusterError(f"The command was not run: {words}.", "see that the pod's container runs")
