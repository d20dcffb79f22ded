"""The ACL canary: seen where it is, measured, never left behind, never told; nothing of anybody else is touched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from consulfed_lib import canary, redact
from consulfed_lib.canary import PREFIX, Canary, look_at_canary, prove_replication, sweep
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.errors import ClusterError
from consulfed_lib.redact import Secret
from consulfed_lib.results import Finding
from consulfed_lib.runner import runner_label

from .conftest import ConsulServer, Request

REPLICATION = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
CANARY = "5ec4e75e-0000-4000-8000-{:012d}"
"""Secret ids that the primary of a test gives."""
ALL_OF_IT = {"policies", "tokens"}


def silent(line: str) -> None:
    """Progress lines are another test's business."""


@dataclass
class Acls:
    """The ACLs of one datacenter behind its API, as far as a canary meets them.

    Attributes:
        source: whose ACLs it replicates; None: it is the primary.
        replicates: what of them it replicates when it is looked at.
        after: how many looks it lets go by first.
        refuses: endpoints that answer 403.
    """

    server: ConsulServer
    source: Acls | None = None
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    replicates: set[str] = field(default_factory=lambda: set(ALL_OF_IT))
    after: int = 0
    refuses: dict[str, bytes] = field(default_factory=dict)
    looked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        answers = self.server.consul.answers
        answers["GET /v1/acl/policies"] = lambda _: self.answer("GET policies", list(self.policies.values()))
        answers["GET /v1/acl/tokens"] = lambda _: self.answer("GET tokens", self.listed())
        answers["GET /v1/acl/token/self"] = self.token_self
        answers["PUT /v1/acl/policy"] = self.put_policy
        answers["PUT /v1/acl/token"] = self.put_token

    def answer(self, what: str, body: Any) -> tuple[int, Any]:
        return (403, self.refuses[what]) if what in self.refuses else (200, body)

    def listed(self) -> list[dict[str, Any]]:
        return [each.copy() for each in self.tokens.values()]

    def token_self(self, request: Request) -> tuple[int, Any]:
        self.replicate()
        self.looked.set()
        shown = request.headers["x-consul-token"]
        known = [each for each in self.tokens.values() if each["SecretID"] == shown]
        return (200, known[0]) if known else (403, b"ACL not found")

    def replicate(self) -> None:
        if self.source is None:
            return
        if self.after:
            self.after -= 1
            return
        for kind in self.replicates:
            setattr(self, kind, dict(getattr(self.source, kind)))

    def put_policy(self, request: Request) -> tuple[int, Any]:
        assert request.headers["x-consul-token"] == REPLICATION
        id = f"policy-{len(self.policies)}"
        code, body = self.answer("PUT policy", request.body | {"ID": id})
        if code == 200:
            self.keep("policies", "policy", id, body)
        return code, body

    def put_token(self, request: Request) -> tuple[int, Any]:
        if "ExpirationTTL" in request.body and "expiration" in self.refuses:
            return 500, self.refuses["expiration"]
        id = f"token-{len(self.tokens)}"
        body = request.body | {"AccessorID": id, "SecretID": CANARY.format(len(self.tokens))}
        code, body = self.answer("PUT token", body)
        if code == 200:
            self.keep("tokens", "token", id, body)
        return code, body

    def keep(self, where: str, what: str, id: str, body: dict[str, Any]) -> None:
        """An object that can be deleted."""

        def delete(_: Request) -> tuple[int, Any]:
            if f"DELETE {what}" in self.refuses:
                return 500, self.refuses[f"DELETE {what}"]
            getattr(self, where).pop(id, None)
            return 200, True

        getattr(self, where)[id] = body
        self.server.consul.answers[f"DELETE /v1/acl/{what}/{id}"] = delete


@dataclass
class World:
    """A primary and its secondaries, whose ACLs follow the primary's."""

    acls: dict[str, Acls]
    dcs: list[Datacenter]

    def prove(self, deadline: float = 5, report: Callable[[str], None] = silent) -> Canary:
        return prove_replication(self.dcs, deadline, report=report)

    def look(self, found: Canary) -> list[Finding]:
        return look_at_canary(found, self.dcs)

    def is_clean(self) -> bool:
        primary = self.acls["dc1"]
        return not any(PREFIX in str(each) for each in [*primary.policies.values(), *primary.tokens.values()])


@pytest.fixture
def world(consul_server, federation) -> Callable[..., World]:
    def make(n: int = 2) -> World:
        clusters = [{"context": f"dc{i + 1}", "datacenter": f"dc{i + 1}"} for i in range(n)]
        params = federation(primary=clusters[0], secondaries=clusters[1:])
        token = Secret("replicationToken", REPLICATION.encode())
        servers = {each["datacenter"]: consul_server(each["datacenter"], token=token) for each in clusters}
        primary = Acls(servers["dc1"])
        primary.keep("policies", "policy", "p", {"ID": "p", "Name": "web", "Description": "of somebody"})
        primary.keep(
            "tokens", "token", "t", {"AccessorID": "t", "SecretID": "x", "Description": "of somebody"}
        )
        acls = {"dc1": primary} | {
            name: Acls(each, primary) for name, each in servers.items() if name != "dc1"
        }
        dcs = [
            Datacenter(params, of, servers[of.datacenter].cluster, servers[of.datacenter].client)
            for of in params.clusters
        ]
        return World(acls, dcs)

    return make


def severities(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.subject, each.severity) for each in found]


# Well


def test_a_canary_comes_everywhere_and_goes_again(world):
    """With its lag each way; afterwards nothing is left of it, and what others made is as it was."""
    good = world(3)
    found = good.prove()
    assert severities(good.look(found)) == [("dc1", "ok"), ("dc2", "ok"), ("dc3", "ok")]
    assert [row.datacenter for row in found] == ["dc2", "dc3"]
    assert all(row.appeared_ms is not None and row.vanished_ms is not None and not row.note for row in found)
    assert [(each.outcome, each.subject) for each in found.changes] == [
        ("created", "dc1"),
        ("deleted", "dc1"),
    ]
    assert good.is_clean()
    assert list(good.acls["dc1"].policies) == ["p"]
    assert list(good.acls["dc1"].tokens) == ["t"]
    assert re.fullmatch(
        r"appeared in 2 of 2 secondaries within \d+ ms, gone from 2 of .* ms", found.summary()
    )


def test_the_token_can_do_nothing_and_ends_by_itself(world):
    """Its policy has no rules; it is a global one, or no secondary would get it; its description says whose it is."""
    good = world()
    good.prove(deadline=5)
    puts = {r.path: r.body for r in good.acls["dc1"].server.consul.requests if r.method == "PUT"}
    policy, token = puts["/v1/acl/policy"], puts["/v1/acl/token"]
    assert policy["Rules"] == ""
    assert policy["Name"].startswith(PREFIX)
    assert token["Policies"] == [{"Name": policy["Name"]}]
    assert token["Local"] is False
    assert token["ExpirationTTL"] == "610s"
    for each in (policy, token):
        assert each["Description"].startswith(f"{policy['Name']}: proves ACL replication; made at 20")
        assert runner_label() in each["Description"]


def test_each_secondary_is_asked_itself_with_the_canarys_own_token(world):
    """Through its own server, about its own state: no `dc` in the question."""
    good = world(3)
    good.prove()
    for name in ("dc2", "dc3"):
        asked = [r for r in good.acls[name].server.consul.requests if r.path == "/v1/acl/token/self"]
        assert {r.headers["x-consul-token"] for r in asked} == {CANARY.format(1)}
        assert all(not r.query for r in asked)
        assert not any(r.method != "GET" for r in good.acls[name].server.consul.requests)


def test_the_secret_is_never_shown(world):
    """Not in the table, a finding, a change or a progress line; and it is known as a secret."""
    slow = world()
    lines: list[str] = []
    slow.acls["dc2"].after = 3
    found = slow.prove(report=lines.append)
    secret = CANARY.format(1)
    said = [
        repr(found),
        found._repr_html_(),
        repr(found.data()),
        repr(slow.look(found)),
        repr(found.changes),
        *lines,
    ]
    assert lines
    assert not any(secret in each for each in said)
    assert redact.scrub(secret) == redact.REDACTED


def test_an_expiry_that_consul_does_not_allow_is_left_out(world):
    """Its limits are the servers' to set; without one the token is removed as well."""
    strict = world()
    strict.acls["dc1"].refuses["expiration"] = (
        b"ExpirationTime cannot be less than 1h0m0s in the future (was 10m)"
    )
    found = strict.prove()
    assert severities(strict.look(found)) == [("dc1", "ok"), ("dc2", "ok")]
    assert strict.is_clean()


def test_what_comes_is_noticed_within_half_a_second(world):
    """Polled every 75 ms: the fourth look sees it, well before a second has passed."""
    slow = world()
    slow.acls["dc2"].after = 3
    (row,) = slow.prove().rows
    assert row.appeared_ms is not None
    assert 3 * canary.POLL * 1000 <= row.appeared_ms < 3 * canary.POLL * 1000 + 500


def test_secondaries_are_watched_at_the_same_time(world):
    """One that does not answer in time costs the others nothing."""
    one_slow = world(3)
    one_slow.acls["dc2"].replicates = set()
    found = one_slow.prove(deadline=0.6)
    rows = {row.datacenter: row for row in found}
    assert rows["dc2"].appeared_ms is None
    assert rows["dc3"].appeared_ms is not None
    assert rows["dc3"].appeared_ms < 500
    assert severities(one_slow.look(found)) == [("dc1", "ok"), ("dc2", "error"), ("dc3", "ok")]


# Not well


@pytest.mark.parametrize(
    ("replicated", "said"),
    [
        (set(), "neither token nor policy is there"),
        ({"policies"}, "the policy is listed, the token is unknown"),
        ({"tokens"}, "the token works, the policy is not listed"),
    ],
)
def test_what_does_not_come_in_time_is_an_error_with_what_was_seen(world, replicated, said):
    """Token and policy both count; the canary is removed all the same."""
    broken = world()
    broken.acls["dc2"].replicates = replicated
    found = broken.prove(deadline=0.3)
    _, error = broken.look(found)
    assert (error.subject, error.severity) == ("dc2", "error")
    assert said in error.found
    assert "--context dc2" in error.hint
    assert broken.is_clean()
    assert "not seen" in repr(found)


def test_what_does_not_go_in_time_is_an_error(world):
    """Somebody who lost a right keeps it there."""
    sticky = world()
    sticky.acls["dc2"].after = 1  # so that the wait has something to report before it ends

    def stop_once_there(line: str) -> None:
        if "after" in line:
            sticky.acls["dc2"].replicates = set()

    found = sticky.prove(deadline=0.6, report=stop_once_there)
    _, error = sticky.look(found)
    assert error.severity == "error"
    assert "what dc1 deletes stays" in error.found
    (row,) = found.rows
    assert row.appeared_ms is not None
    assert row.vanished_ms is None


def test_a_secondary_that_refuses_to_list_policies_is_an_error_at_once(world):
    """No waiting gives a right; what does not answer for a moment is waited for."""
    closed = world()
    closed.acls["dc2"].refuses["GET policies"] = b"Permission denied: token lacks permission 'acl:read'"
    start = time.monotonic()
    found = closed.prove(deadline=30)
    assert time.monotonic() - start < 10
    assert "acl:read" in closed.look(found)[1].found
    assert closed.is_clean()


@pytest.mark.parametrize("refused", ["GET tokens", "PUT policy", "PUT token"])
def test_a_token_that_may_not_write_proves_nothing(world, refused):
    """An error in the primary, and nothing is claimed of any secondary; half of a canary is removed."""
    weak = world(3)
    weak.acls["dc1"].refuses[refused] = b"Permission denied: token lacks permission 'acl:write'"
    found = weak.prove()
    looked = weak.look(found)
    assert severities(looked) == [("dc1", "error"), ("dc2", "skipped"), ("dc3", "skipped")]
    assert "acl:write" in looked[0].found
    assert "replication-token" in looked[0].hint
    assert weak.is_clean()
    assert found.summary() == "not made in dc1"


@pytest.mark.parametrize("refused", ["DELETE token", "DELETE policy"])
def test_what_could_not_be_removed_is_said_and_removed_by_the_next_run(world, refused):
    """The secondaries' half is then not proven; the next run sweeps it, whichever part is left."""
    stuck = world()
    stuck.acls["dc1"].refuses[refused] = b"No cluster leader"
    found = stuck.prove()
    error, skipped = stuck.look(found)
    assert (error.severity, skipped.severity) == ("error", "skipped")
    assert found.name in error.found
    assert "No cluster leader" in error.found
    assert not stuck.is_clean()
    stuck.acls["dc1"].refuses.clear()
    again = stuck.prove()
    assert severities(stuck.look(again)) == [("dc1", "ok"), ("dc2", "ok")]
    assert [each.what for each in again.changes if found.name in each.what] == [
        f"policy {found.name}, left by a run that was killed"
    ]
    assert stuck.is_clean()


# Whatever happens


def test_an_interrupted_run_removes_its_canary_at_once(world):
    """Ctrl-C while it waits goes on its way after the removal, long before the deadline."""
    waiting = world()
    waiting.acls["dc2"].replicates = set()

    def interrupt() -> None:
        assert waiting.acls["dc2"].looked.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        waiting.prove(deadline=60)
    assert time.monotonic() - start < 10
    assert waiting.is_clean()


def told(runner: str, void: str) -> str:
    """The description of a canary."""
    return f"{PREFIX}0123456789ab: proves ACL replication; made at 2026-01-01 by a@b [{runner}], void from {void}"


def leftover(acls: Acls, runner: str, void: str) -> str:
    """A canary that somebody left in a primary."""
    name, text = f"{PREFIX}0123456789ab", told(runner, void)
    acls.keep("policies", "policy", "left", {"ID": "left", "Name": name, "Description": text})
    acls.keep("tokens", "token", "left", {"AccessorID": "left", "SecretID": "y", "Description": text})
    return name


NEVER, LONG_AGO = "2999-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"


def test_what_a_killed_run_left_is_removed(world):
    """Its process is gone: the token first, then its policy."""
    done = subprocess.run(
        [sys.executable, "-c", "from consulfed_lib.runner import runner_label; print(runner_label())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    killed = world()
    name = leftover(killed.acls["dc1"], done.stdout.strip(), NEVER)
    (change,) = sweep(killed.dcs[0])
    assert (change.outcome, change.subject) == ("deleted", "dc1")
    assert name in change.what
    assert killed.is_clean()
    deleted = killed.acls["dc1"].server.consul.requests
    assert [r.path for r in deleted if r.method == "DELETE"] == ["/v1/acl/token/left", "/v1/acl/policy/left"]
    assert not sweep(killed.dcs[0])


@pytest.mark.parametrize(("void", "kept"), [(NEVER, True), (LONG_AGO, False)])
def test_a_maker_on_another_machine_is_gone_when_its_time_is_over(world, void, kept):
    """Whether it still runs cannot be known from here."""
    foreign = world()
    leftover(foreign.acls["dc1"], "aaaaaaaaaaaa.1.1", void)
    assert bool(sweep(foreign.dcs[0])) is not kept
    assert foreign.is_clean() is not kept


def test_a_canary_that_is_still_being_worked_with_is_kept(world):
    """Of a process that runs, and of another thread of this one."""
    busy = world()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        leftover(busy.acls["dc1"], runner_label(child.pid), NEVER)
        assert not sweep(busy.dcs[0])
    finally:
        child.kill()
        child.communicate()
    assert sweep(busy.dcs[0])
    other = world()
    swept: list[list[Any]] = []
    other.acls["dc2"].after = 1  # so that there is something to report while the canary is there
    other.prove(report=lambda line: swept.append(sweep(other.dcs[0])))
    assert swept
    assert not any(swept)


@pytest.mark.parametrize(
    "strange",
    [
        {"Name": f"{PREFIX}mine", "Description": ""},
        {"Name": f"{PREFIX}mine", "Description": "made by hand"},
        {"Name": "web", "Description": told("z.1.1", LONG_AGO)},
    ],
)  # fmt: skip
def test_nothing_of_anybody_else_is_removed(world, strange):
    """A policy is ours when both its name and its description say so."""
    foreign = world()
    foreign.acls["dc1"].keep("policies", "policy", "s", strange | {"ID": "s"})
    assert sweep(foreign.dcs[0]) == []
    assert "s" in foreign.acls["dc1"].policies


# The client's writes


def test_a_write_is_never_sent_twice(world):
    """A question over a kept connection is asked again when that breaks off; a write may have been done by then."""
    good = world()
    consul, client = good.acls["dc1"].server.consul, good.dcs[0].consul

    def break_off(_: Request) -> tuple[int, Any]:
        raise ConnectionAbortedError

    consul.answers["PUT /v1/acl/policy"] = break_off
    client.policies()  # so that there is a connection that was kept open
    with pytest.raises(ClusterError, match="does not answer"):
        client.put("acl/policy", {"Name": "x", "Description": ""})
    assert consul.asked("PUT") == ["PUT /v1/acl/policy"]


def test_a_refused_write_is_consuls_own_sentence(world):
    """With the method, the status and the path."""
    weak = world()
    weak.acls["dc1"].refuses["PUT policy"] = b"Permission denied"
    with pytest.raises(ClusterError, match="403 to PUT /v1/acl/policy: Permission denied") as caught:
        weak.dcs[0].consul.put("acl/policy", {})
    assert caught.value.status == 403
