"""An application that uses Consul while somebody upgrades it: it counts what went wrong for it.

    with Client(servers_of(sandbox, "sandbox-dc1")) as client:
        ...  # the upgrade
    assert client.result.lost == 0, client.result

Four loops, each about ten times a second: a key is written, one that was acknowledged is read back (consistently), a
service is resolved by HTTP, and by DNS. Each request goes to the next server that the Service lists, without regard to
how that is; one that failed is tried again with the server after it, for five seconds, as a careful application does.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import random
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any

import urllib3
import yaml

from consulfed_lib.redact import Secret

from .conftest import Sandbox

PACE = 0.1
"""Seconds from one operation of a loop to its next."""

RETRY_SECONDS = 5.0
ANSWER_SECONDS = 2.0
NAME = "localhost"
"""A name that the certificate of every server has; a pod's address is in none."""

DNS_PORT = 8600


class Failed(Exception):
    """An operation did not succeed; why, in one line."""


@dataclass(frozen=True)
class Servers:
    """Where the servers are now: addresses of pods, one port; with a CA it is spoken to by HTTPS."""

    addresses: tuple[str, ...]
    port: int
    ca_pem: str = ""
    dns_port: int = DNS_PORT


@dataclass
class Count:
    """One kind of operation.

    Attributes:
        failed: operations whose first try did not succeed.
        uncured: those that did not succeed in five seconds of trying again.
        longest: seconds that the slowest of the cured ones took.
        why: the last failure.
    """

    attempts: int = 0
    failed: int = 0
    uncured: int = 0
    longest: float = 0.0
    why: str = ""

    def __str__(self) -> str:
        cured = f", cured in {self.longest:.1f} s at most" if self.failed > self.uncured else ""
        return f"{self.failed} of {self.attempts} failed{cured}, {self.uncured} for good"


@dataclass(repr=False)
class Result:
    """What an application saw; `lost` are keys whose write was acknowledged, and that are not there at the end."""

    writes: Count = field(default_factory=Count)
    reads: Count = field(default_factory=Count)
    resolutions: Count = field(default_factory=Count)
    names: Count = field(default_factory=Count)
    acknowledged: int = 0
    lost: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, Count]:
        return {"writes": self.writes, "reads": self.reads, "health": self.resolutions, "DNS": self.names}

    def __repr__(self) -> str:
        parts = [f"{name}: {count}" for name, count in self.counts.items() if count.attempts]
        return f"{self.seconds:.0f} s; {'; '.join(parts)}; {self.lost} of {self.acknowledged} keys lost"


class Client:
    """Uses Consul from `with` to its end; then `result` is complete.

    Args:
        servers: gives where the servers are now; asked before each try.
        token: an ACL token; None where there are no ACLs.
        service: what is resolved; to find no healthy instance of it is a failure.
        dns: whether names are resolved, too.
    """

    def __init__(
        self,
        servers: Callable[[], Servers],
        token: Secret | None = None,
        service: str = "web",
        dns: bool = True,
        retry_seconds: float = RETRY_SECONDS,
    ):
        self.result = Result()
        self.prefix = f"measured/{uuid.uuid4().hex[:8]}"
        self._servers, self._token, self._service, self._retry = servers, token, service, retry_seconds
        self._turn, self._numbers = _Turn(), itertools.count()
        self._acknowledged: dict[str, str] = {}
        self._ended = threading.Event()
        loops = [(self._write, self.result.writes), (self._read, self.result.reads)]
        loops += [(self._resolve, self.result.resolutions)]
        loops += [(self._look_up, self.result.names)] if dns else []
        self._threads = [threading.Thread(target=self._loop, args=each, daemon=True) for each in loops]
        self._began = 0.0

    def __enter__(self) -> Client:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self.result.seconds = time.monotonic() - self._began
        self.result.acknowledged = len(self._acknowledged)
        self.result.lost = len(self._acknowledged) - self._kept()

    def _loop(self, operation: Callable[[], Callable[[], None] | None], count: Count) -> None:
        while not self._ended.wait(PACE):
            act = operation()
            if act is not None:
                self._count(act, count)

    def _count(self, act: Callable[[], None], count: Count) -> None:
        """Do it until it succeeds, for as long as an application would try."""
        count.attempts += 1
        began, tried = time.monotonic(), 0
        while True:
            try:
                act()
            except Failed as failure:
                count.why = str(failure)
                count.failed += tried == 0
                tried += 1
                if time.monotonic() - began > self._retry:
                    count.uncured += 1
                    return
                time.sleep(PACE)
                continue
            if tried:
                count.longest = max(count.longest, time.monotonic() - began)
            return

    # What it does; each gives the act to be tried.

    def _write(self) -> Callable[[], None]:
        number = next(self._numbers)
        key, value = f"{self.prefix}/{number}", json.dumps({"number": number})

        def act() -> None:
            if self._ask("PUT", f"/v1/kv/{key}", value.encode()) is not True:
                raise Failed(f"{key}: not accepted")
            self._acknowledged[key] = value

        return act

    def _read(self) -> Callable[[], None] | None:
        known = list(self._acknowledged.items())
        if not known:
            return None
        key, value = random.choice(known)

        def act() -> None:
            found = self._ask("GET", f"/v1/kv/{key}?consistent")
            if base64.b64decode(found[0]["Value"]).decode() != value:
                raise Failed(f"{key}: another value")

        return act

    def _resolve(self) -> Callable[[], None]:
        def act() -> None:
            if not self._ask("GET", f"/v1/health/service/{self._service}?passing"):
                raise Failed(f"{self._service}: no healthy instance")

        return act

    def _look_up(self) -> Callable[[], None]:
        def act() -> None:
            servers = self._servers()
            address = self._next(servers)
            try:
                answers = _ask_dns(address, servers.dns_port, f"{self._service}.service.consul")
            except (OSError, struct.error) as error:
                raise Failed(f"{address}: DNS: {error or type(error).__name__}") from error
            if not answers:
                raise Failed(f"{address}: DNS: no address of {self._service}")

        return act

    def _kept(self) -> int:
        """How many acknowledged keys are there with their value, now that all is over."""
        found: dict[str, str] = {}

        def act() -> None:
            for one in self._ask("GET", f"/v1/kv/{self.prefix}/?recurse&consistent"):
                found[one["Key"]] = base64.b64decode(one["Value"]).decode()

        self._count(act, Count())
        return sum(found.get(key) == value for key, value in self._acknowledged.items())

    # How it asks.

    def _next(self, servers: Servers) -> str:
        if not servers.addresses:
            raise Failed("the Service lists no server")
        self._turn.number += 1
        return servers.addresses[self._turn.number % len(servers.addresses)]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON answer of the server whose turn it is. Raises Failed; a missing key is a failure, too."""
        servers = self._servers()
        address = self._next(servers)
        connection: http.client.HTTPConnection
        if servers.ca_pem:
            connection = _Https(address, servers.port, servers.ca_pem)
        else:
            connection = http.client.HTTPConnection(address, servers.port, timeout=ANSWER_SECONDS)
        headers = {"X-Consul-Token": self._token.text()} if self._token else {}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{address}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Failed(f"{address}: {answer.status} {text.strip()}")
        return json.loads(text)


class _Turn(threading.local):
    """Whose turn it is, for each loop by itself: a retry goes to another server than the one that failed."""

    number = 0


_trust = cache(lambda ca_pem: ssl.create_default_context(cadata=ca_pem))
"""Made once for each authority: the client must not take the processor from what it measures."""


class _Https(http.client.HTTPSConnection):
    """To an address, checking the certificate for a name that it has."""

    def __init__(self, address: str, port: int, ca_pem: str):
        self._trust = _trust(ca_pem)
        super().__init__(address, port, timeout=ANSWER_SECONDS, context=self._trust)

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), timeout=ANSWER_SECONDS)
        self.sock = self._trust.wrap_socket(raw, server_hostname=NAME)


def _ask_dns(address: str, port: int, name: str) -> int:
    """How many addresses that name server knows of a name (RFC 1035: one question, type A, class IN)."""
    asked = struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(ANSWER_SECONDS)
        channel.connect((address, port))
        channel.send(asked + labels + b"\0" + struct.pack("!HH", 1, 1))
        answer = channel.recv(4096)
    if answer[:2] != asked[:2]:
        raise OSError("an answer to another question")
    return int(struct.unpack("!H", answer[6:8])[0])


def servers_of(
    sandbox: Sandbox, context: str, namespace: str = "consul", prefix: str = "consul", primary: str = ""
) -> Callable[[], Servers]:
    """Where the servers of a sandbox's cluster are, as its API server says: looked up again each fifth of a second.

    By HTTP while their Service has a port of that name, else by HTTPS with the CA in the Secret <prefix>-ca-cert, which
    only a primary has: a secondary's is in `primary`.
    """
    lock, at, known = threading.Lock(), 0.0, Servers((), 0)
    ask, ask_primary = _api(sandbox, context), _api(sandbox, primary or context)

    def look() -> Servers:
        found = ask(f"/api/v1/namespaces/{namespace}/endpoints/{prefix}-server")
        parts = found.get("subsets") or []
        addresses = sorted({one["ip"] for part in parts for one in part.get("addresses") or []})
        ports = {one.get("name"): one["port"] for part in parts for one in part.get("ports") or []}
        if "http" in ports or "https" not in ports:
            return Servers(tuple(addresses), ports.get("http", 8500))
        secret = ask_primary(f"/api/v1/namespaces/{namespace}/secrets/{prefix}-ca-cert")
        ca_pem = base64.b64decode(secret["data"]["tls.crt"]).decode()
        return Servers(tuple(addresses), ports["https"], ca_pem)

    def servers() -> Servers:
        nonlocal at, known
        with lock:
            if time.monotonic() - at > 2 * PACE:
                try:
                    known, at = look(), time.monotonic()
                except urllib3.exceptions.HTTPError as error:
                    raise Failed(f"the API server of {context}: {error}") from error
            return known

    return servers


def _api(sandbox: Sandbox, context: str) -> Callable[[str], Any]:
    """Asks that cluster's API server, as its administrator, over one connection that stays open."""
    config = yaml.safe_load((sandbox.folder / "sandbox" / "kubeconfig").read_text())
    cluster = next(one["cluster"] for one in config["clusters"] if one["name"] == context)
    token = next(one["user"]["token"] for one in config["users"] if one["name"] == f"{context}-admin")
    trust = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    pool = urllib3.PoolManager(ssl_context=trust, timeout=ANSWER_SECONDS, retries=False)

    def ask(path: str) -> Any:
        answer = pool.request("GET", cluster["server"] + path, headers={"Authorization": f"Bearer {token}"})
        if answer.status != 200:
            raise urllib3.exceptions.HTTPError(f"{answer.status} of {path}")
        return answer.json()

    return ask
