"""What an application sees of each way to change a Consul that lives: `python -m tests.bench.upgrades [KIND …]`.

Each on a sandbox of three servers, with a client that goes on using it all the time. Writes the table of the README
when all of them were measured.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from consulfed_lib.redact import Secret

from ..e2e.client import Client, Result, servers_of
from ..e2e.conftest import Sandbox
from ..e2e.test_upgrade import params_of, server_pods, token

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- upgrades: written by tests/bench/upgrades.py -->", "<!-- end of upgrades -->"
SERVERS = 3

Change = Callable[[Sandbox], None]


class Row(NamedTuple):
    """One way, and what the client saw."""

    way: str
    restarts: int
    seconds: float
    result: Result

    def __str__(self) -> str:
        counts = [each for each in self.result.counts.values() if each.attempts]
        tried, failed, lasting = (
            sum(getattr(each, name) for each in counts) for name in ("attempts", "failed", "uncured")
        )
        longest = max(each.longest for each in counts)
        cells = [
            self.way, self.restarts, f"{self.seconds:.0f}", tried, failed, f"{longest:.1f}", lasting, self.result.lost,
        ]  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


HEAD = [
    "| way | server restarts | seconds | requests | failed at first | cured within s | failed for 5 s | writes lost |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
]


@contextmanager
def counted(sandbox: Sandbox, context: str) -> Iterator[set[str]]:
    """The UIDs of every server pod that is there at any time."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            seen.update(server_pods(sandbox, context).values())

    seen.update(server_pods(sandbox, context).values())
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def measured(sandbox: Sandbox, way: str, context: str, secret: Secret | None, change: Change) -> Row:
    start = time.monotonic()
    service = "web" if context == "sandbox-dc1" else "consul"
    client = Client(servers_of(sandbox, context, primary="sandbox-dc1"), secret, service)
    with counted(sandbox, context) as seen, client:
        change(sandbox)
        seconds = time.monotonic() - start
    row = Row(way, len(seen) - SERVERS, seconds, client.result)
    print(row, flush=True)
    return row


def applied(*words: str, **changes: object) -> Change:
    def change(sandbox: Sandbox) -> None:
        done = sandbox.run(params_of(sandbox, **changes), "--apply", *words)
        assert done.returncode == 0, done.stdout + done.stderr

    return change


def existing(kind: str, way: str, **changes: object) -> Iterator[Row]:
    with sandbox_of(kind) as sandbox:
        secret = token(sandbox) if kind == "acl" else None
        yield measured(sandbox, way, "sandbox-dc1", secret, applied("--only", "01", **changes))
        if kind == "plain":
            applied()(sandbox)
            moved = applied(mesh_gateway={"port": 9555})
            yield measured(
                sandbox,
                "the primary's gateways get another address (seen in a secondary)",
                "sandbox-dc2",
                None,
                moved,
            )
            leave = applied("--only", "90", leave={"confirm": "dc2"})
            yield measured(sandbox, "a secondary leaves (seen in the primary)", "sandbox-dc1", None, leave)


@contextmanager
def sandbox_of(kind: str) -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="consulfed-upgrades-") as folder:
        sandbox = Sandbox(Path(folder), servers=SERVERS, existing=kind)
        sandbox.up()
        try:
            yield sandbox
        finally:
            sandbox.down()


WAYS: dict[str, Callable[[], Iterator[Row]]] = {
    "plain": lambda: existing("plain", "TLS off → on, federation"),
    "tls": lambda: existing("tls", "TLS on already → federation"),
    "acl": lambda: existing("acl", "TLS and ACLs on, no replication token → federation"),
    "old-chart": lambda: existing(
        "old-chart", "older chart → newer, and federation", upgrade={"chart": True}
    ),
}


def main(kinds: list[str]) -> None:
    rows = [str(row) for kind in kinds or WAYS for row in WAYS[kind]()]
    if not kinds:
        before, _, rest = README.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        README.write_text("\n".join([before + BEGIN, *HEAD, *rows, END + after]))


if __name__ == "__main__":
    main(sys.argv[1:])
