"""The client that measures an upgrade: each of its counters counts, and stays at nothing where nothing is wrong.

Against a small HTTPS server, with the real requests; how long it tries again is shortened.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from consulfed_lib.redact import Secret

from ..conftest import Authority, HttpsServer, Request
from .client import NAME, Client, Result, Servers

TOKEN = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
HEALTHY = [{"Service": {"ID": "web-1"}}]


@dataclass
class Store:
    """A server that keeps keys; `down` makes it answer 500, and `forgets` acknowledge writes that it drops."""

    api: HttpsServer
    values: dict[str, str] = field(default_factory=dict)
    down: bool = False
    forgets: bool = False

    def serve(self, request: Request) -> tuple[int, object]:
        if self.down:
            return 500, {"error": "No cluster leader"}
        key = request.path.removeprefix("/v1/kv/")
        if request.method == "PUT":
            if not self.forgets:
                self.values[key] = json.dumps(request.body)
            return 200, True
        if "recurse" in request.query:
            found = {name: value for name, value in self.values.items() if name.startswith(key)}
        else:
            found = {key: self.values[key]} if key in self.values else {}
        listed = [{"Key": k, "Value": base64.b64encode(v.encode()).decode()} for k, v in found.items()]
        return (200, listed) if listed else (404, [])


@pytest.fixture
def store(https: Callable[..., HttpsServer], monkeypatch: pytest.MonkeyPatch) -> Store:
    """A datacenter of one server, whose service `web` is well."""
    store = Store(https(names=(NAME,)))
    store.api.answers["GET /v1/health/service/web"] = 200, HEALTHY
    table = store.api.answer

    def answer(request: Request) -> tuple[int, bytes]:
        if request.path.startswith("/v1/kv/"):
            store.api.answers[f"{request.method} {request.path}"] = store.serve(request)
        return table(request)

    monkeypatch.setattr(store.api, "answer", answer)
    return store


@pytest.fixture
def start(store: Store, authority: Authority) -> Callable[..., Client]:
    """Makes clients of that datacenter that do not ask for names."""

    def make(servers: Callable[[], Servers] | None = None, **options: object) -> Client:
        usual = Servers(("127.0.0.1",), store.api.port, authority.pem)
        return Client(servers or (lambda: usual), **{"dns": False, "retry_seconds": 0.3} | options)

    return make


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return when that is so; what is looked at changes in the client's own threads."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_where_nothing_is_wrong_nothing_is_counted(start, store):
    """Keys are written and read, the service is resolved, and every key is there at the end."""
    with start() as client:
        until(lambda: min(client.result.writes.attempts, client.result.reads.attempts) > 3)
        until(lambda: client.result.resolutions.attempts > 3)
    result = client.result
    assert [(each.failed, each.uncured) for each in result.counts.values()] == [(0, 0)] * 4
    assert (result.acknowledged, result.lost) == (result.writes.attempts, 0)
    assert result.seconds > 0


def test_a_failure_that_is_over_in_time_is_counted_once_and_as_cured(start, store):
    """The retry is what an application does; how long it took stays."""
    with start(retry_seconds=30) as client:
        until(lambda: client.result.writes.attempts > 1)
        store.down = True
        until(lambda: client.result.writes.failed == 1)
        store.down = False
        attempts = client.result.writes.attempts
        until(lambda: client.result.writes.attempts > attempts)
    writes = client.result.writes
    assert (writes.failed, writes.uncured) == (1, 0)
    assert writes.longest > 0
    assert "500" in writes.why
    assert client.result.lost == 0


def test_what_is_not_cured_in_time_is_counted_as_that(start, store):
    """Of writes and of reads."""
    with start() as client:
        until(lambda: client.result.reads.attempts > 1)
        store.down = True
        until(lambda: client.result.writes.uncured > 0 and client.result.reads.uncured > 0)
        store.down = False
    assert client.result.writes.failed >= client.result.writes.uncured > 0
    assert client.result.lost == 0


def test_an_acknowledged_write_that_is_not_there_is_lost(start, store):
    """And its reader fails."""
    with start() as client:
        until(lambda: client.result.writes.attempts > 2)
        kept = len(store.values)
        store.forgets = True
        until(lambda: client.result.writes.attempts > kept + 2)
    assert client.result.lost == client.result.acknowledged - len(store.values) > 0


def test_a_key_with_another_value_is_lost_as_well(start, store):
    """Somebody's older write."""
    with start() as client:
        until(lambda: client.result.writes.attempts > 2)
        store.values[next(iter(store.values))] = "another"
    assert client.result.lost == 1


def test_a_service_without_a_healthy_instance_is_not_resolved(start, store):
    """The answer is 200, and no use to who wants to call it."""
    with start() as client:
        store.api.answers["GET /v1/health/service/web"] = 200, []
        until(lambda: client.result.resolutions.uncured > 0)
    assert "no healthy instance" in client.result.resolutions.why


def test_a_server_that_is_away_is_left_for_the_next_one(start, store, authority):
    """Round robin: the first try fails each second time, its retry does not."""
    both = Servers(("127.0.0.2", "127.0.0.1"), store.api.port, authority.pem)
    with start(lambda: both) as client:
        until(lambda: client.result.writes.failed > 1)
    assert client.result.writes.attempts > client.result.writes.failed
    assert client.result.writes.uncured == 0


def test_a_service_that_lists_nobody_is_a_failure(start):
    """As when its pods are all gone."""
    with start(lambda: Servers((), 0)) as client:
        until(lambda: client.result.writes.uncured > 0)
    assert "lists no server" in client.result.writes.why


def test_a_certificate_of_another_authority_is_a_failure(start, store, other_authority):
    """An application trusts the cluster's CA, and no other."""
    with start(lambda: Servers(("127.0.0.1",), store.api.port, other_authority.pem)) as client:
        until(lambda: client.result.writes.uncured > 0)
    assert "certificate verify failed" in client.result.writes.why
    assert client.result.acknowledged == 0


def test_the_token_goes_with_each_request_and_into_no_result(start, store):
    """In the header that Consul reads."""
    with start(token=Secret("token", TOKEN.encode())) as client:
        until(lambda: client.result.writes.attempts > 1)
    assert {each.headers.get("x-consul-token") for each in store.api.requests} == {TOKEN}
    assert TOKEN not in repr(client.result)


# Names


@pytest.fixture
def name_server() -> Iterator[tuple[int, list[int]]]:
    """A name server's port on loopback, and the number of addresses in its answers, which a test may change."""
    addresses = [1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                asked, client = channel.recvfrom(4096)
                if not asked:
                    return
                found = addresses[0]
                channel.sendto(asked[:2] + struct.pack("!HHHHH", 0x8180, 1, found, 0, 0) + asked[12:], client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield channel.getsockname()[1], addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", channel.getsockname())
        thread.join()


def test_names_are_resolved_and_one_without_an_address_is_a_failure(start, store, authority, name_server):
    """Consul answers with no address when no instance is healthy."""
    port, addresses = name_server
    where = Servers(("127.0.0.1",), store.api.port, authority.pem, port)
    with start(lambda: where, dns=True) as client:
        until(lambda: client.result.names.attempts > 2)
        assert client.result.names.failed == 0
        addresses[0] = 0
        until(lambda: client.result.names.uncured > 0)
    assert "no address of web" in client.result.names.why


def test_a_name_server_that_is_away_is_a_failure(start, store, authority):
    """Nobody listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = Servers(("127.0.0.1",), store.api.port, authority.pem, port)
    with start(lambda: where, dns=True) as client:
        until(lambda: client.result.names.uncured > 0)


def test_a_result_is_one_line():
    """What the README's table is made from."""
    result = Result(acknowledged=9, lost=1, seconds=12.3)
    result.writes.attempts, result.writes.failed, result.writes.longest = 10, 2, 0.84
    assert (
        repr(result) == "12 s; writes: 2 of 10 failed, cured in 0.8 s at most, 0 for good; 1 of 9 keys lost"
    )
