"""One call of a service through the caller's sidecar, and what its outcome means.

The proxy of the called service refuses a connection that no intention allows. With plain TCP services the connection
then ends without an answer (curl's exit codes 52 and 56), with HTTP services it is a 403 or, from the caller's own
proxy, a 503. Whatever else goes wrong is no refusal: it proves nothing about intentions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..cluster import Cluster
from ..streams import TIMED_OUT, Completed

MAX_SECONDS = 5

Kind = Literal["answered", "refused", "failed"]

_NO_ANSWER = {52, 56}
"""curl: the server returned nothing; receiving network data failed."""

_REFUSALS = {"403", "503"}

_WORDS = {
    7: "nothing listens there: the caller's sidecar does not know this upstream",
    28: f"no answer within {MAX_SECONDS} s",
    TIMED_OUT: "the command did not end",
}


@dataclass(frozen=True)
class Call:
    """What came of a call.

    Attributes:
        kind: `answered` by the right service, `refused`, or `failed` in a way that tells nothing of intentions.
        said: in a few words.
        seconds: how long it took, as curl measured it in the pod.
    """

    kind: Kind
    said: str
    seconds: float = 0.0


def command(port: int) -> list[str]:
    """The call, as one would type it in the caller's pod."""
    form = "\\n%{http_code} %{time_total}"
    return ["curl", "-sS", "--max-time", str(MAX_SECONDS), "-w", form, f"http://localhost:{port}"]


def call(cluster: Cluster, namespace: str, pod: str, port: int, expected: str) -> Call:
    """Call once. Raises ClusterError where the command could not be run in the pod.

    Args:
        expected: what the right service answers: its datacenter's name.
    """
    done = cluster.exec(namespace, pod, command(port), "caller", timeout=MAX_SECONDS + 15)
    return judge(done, expected)


def judge(done: Completed, expected: str) -> Call:
    """What the command's end means."""
    body, _, numbers = done.stdout.rstrip().rpartition("\n")
    status, _, took = numbers.strip().partition(" ")
    seconds = float(took) if took.replace(".", "", 1).isdigit() else 0.0
    if done.returncode == 0 and status == "200":
        if body.strip() == expected:
            return Call("answered", f"{expected} answers", seconds)
        return Call("failed", f"another service than that of {expected} answers", seconds)
    if done.returncode in _NO_ANSWER:
        return Call(
            "refused", f"the connection is refused without an answer (curl {done.returncode})", seconds
        )
    if done.returncode == 0 and status in _REFUSALS:
        return Call("refused", f"HTTP {status}", seconds)
    if done.returncode == 0:
        return Call("failed", f"HTTP {status or 'without a status'}", seconds)
    words = _WORDS.get(done.returncode) or done.stderr.strip()[:200] or "no message"
    return Call("failed", f"{words} (exit code {done.returncode})", seconds)
