"""ACL replication, proven by a canary: a policy and a token made in the primary, seen in every secondary, and removed.

`/v1/acl/replication` says what a datacenter believes of its replication; this shows that it works, and how late it is.
It writes, so it is an action and asked for. The token can do nothing, expires by itself where Consul allows that, and
its secret never leaves this module. What a killed run left is removed by the next one (`sweep`).
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .checks import Check, check
from .checks.federation import Datacenter
from .consul import Consul
from .errors import ClusterError, ConsulfedError, WaitTimeoutError
from .places import whoami
from .redact import Secret
from .results import Change, Finding, Table, now, several
from .runner import runner_is_gone, runner_label
from .waiting import Seen, wait_for

PREFIX = "consulfed-canary-"
"""Of the names of canary policies. Nothing without it is ever removed."""

DEADLINE = 60.0
"""Seconds in which a canary must appear, and vanish again. Replication is tried about once a second."""

POLL = 0.075
"""Seconds between two looks, and so how exact a lag is. Consul has no watch for a token that is not there yet."""

_GRACE = 600.0
"""Seconds beyond both deadlines in which a canary is surely removed, or its maker is no more."""

_DESCRIPTION = re.compile(
    rf"(?P<name>{PREFIX}\w+): proves ACL replication; made at \S+ by .* \[(?P<runner>\S+)\], void from (?P<void>\S+)"
)


@dataclass(frozen=True)
class Lag:
    """How long one secondary took, in milliseconds after the primary had written.

    Attributes:
        appeared_ms: until the token worked and the policy was listed there; None: not in time.
        vanished_ms: until neither was; None: not in time, or not looked for.
        note: what was seen instead.
    """

    datacenter: str
    appeared_ms: int | None
    vanished_ms: int | None
    note: str = ""


class Canary(Table):
    """What came of a canary: a row for each secondary.

    Attributes:
        primary: the datacenter in which it was made.
        deadline: seconds in which it was to appear, and then to vanish.
        changes: what was written, and taken away again.
        refused: why it could not be made; None: it was.
        left: why it could not be removed; None: it was.
    """

    kind = "canary"
    columns = ("datacenter", "appeared_ms", "vanished_ms", "note")

    def __init__(self, name: str, primary: str, deadline: float):
        super().__init__("ACL canary")
        self.name, self.primary, self.deadline = name, primary, deadline
        self.changes: list[Change] = []
        self.refused: ConsulfedError | None = None
        self.left: ConsulfedError | None = None
        self.about = {"policy": name, "primary": primary, "deadline_seconds": deadline}

    def _cell(self, row: Lag, column: str) -> str:
        return "not seen" if getattr(row, column) is None else super()._cell(row, column)

    def summary(self) -> str:
        if self.refused:
            return f"not made in {self.primary}"
        words = []
        for what, lags in (
            ("appeared in", [row.appeared_ms for row in self.rows]),
            ("gone from", [row.vanished_ms for row in self.rows]),
        ):
            seen = [lag for lag in lags if lag is not None]
            within = f" within {max(seen)} ms" if seen else ""
            words.append(f"{what} {len(seen)} of {several(len(lags), 'secondary')}{within}")
        return ", ".join(words).replace("secondarys", "secondaries")


_in_flight: set[str] = set()
"""Names of the canaries that this very process is working with, which `runner_is_gone` counts as gone."""


def prove_replication(
    dcs: Sequence[Datacenter], deadline: float = DEADLINE, *, report: Callable[[str], None] = print
) -> Canary:
    """Make a canary in the first datacenter, see it in all others, remove it, see it gone. With ACLs only.

    All secondaries are looked at together, through their own servers. The canary is removed however this ends; what
    goes wrong stands in the result, and a signal or Ctrl-C goes on its way after the removal.

    Args:
        dcs: the primary, then the secondaries; its token must be one that may write ACLs (the replication token).
        deadline: seconds for either half.
        report: gets the progress lines.
    """
    primary, secondaries = dcs[0], dcs[1:]
    canary = Canary(f"{PREFIX}{uuid.uuid4().hex[:12]}", primary.name, deadline)
    token: Secret | None = None
    came: dict[str, int | str] = {}
    try:
        canary.changes += sweep(primary)
    except ClusterError as error:
        canary.refused = error
        return canary
    _in_flight.add(canary.name)
    try:
        token = _make(primary, canary)
        came = _everywhere(secondaries, token, canary, report, there=True)
    except ClusterError as error:
        canary.refused = error
    finally:
        _take_away(primary.consul, canary)
        _in_flight.discard(canary.name)
    seen = [dc for dc in secondaries if isinstance(came.get(dc.name), int)]
    went = _everywhere(seen, token, canary, report, there=False) if token and not canary.left else {}
    for dc in secondaries if token else ():
        first, last = came.get(dc.name), went.get(dc.name)
        canary.rows.append(
            Lag(
                dc.name,
                first if isinstance(first, int) else None,
                last if isinstance(last, int) else None,
                next((each for each in (first, last) if isinstance(each, str)), ""),
            )
        )
    return canary


def sweep(primary: Datacenter) -> list[Change]:
    """Remove what runs that were killed have left: nothing whose maker may still be at work.

    A maker on another machine is gone once its canary's time is over.
    """

    def dead(told: re.Match[str]) -> bool:
        over = datetime.fromisoformat(told["void"]) < datetime.now(UTC)
        return told["name"] not in _in_flight and (over or runner_is_gone(told["runner"]))

    return [
        Change(
            "acl-canary", primary.name, "deleted", f"policy {name}, left by a run that was killed", at=now()
        )
        for name in _remove(primary.consul, dead)
    ]


def _make(primary: Datacenter, canary: Canary) -> Secret:
    """The policy, and a token with it; both written through the primary's own server (Consul 1.8 forwards neither)."""
    life = timedelta(seconds=2 * canary.deadline + _GRACE)
    start = datetime.now(UTC)
    made, void = (each.isoformat(timespec="seconds") for each in (start, start + life))
    by = "{user}@{host}".format(**whoami())
    description = (
        f"{canary.name}: proves ACL replication; made at {made} by {by} [{runner_label()}], void from {void}"
    )
    primary.consul.put("acl/policy", {"Name": canary.name, "Description": description, "Rules": ""})
    what = f"policy {canary.name}, and a token with it"
    canary.changes.append(
        Change("acl-canary", canary.primary, "created", what, undo="the next run removes it", at=now())
    )
    wanted = {"Description": description, "Policies": [{"Name": canary.name}], "Local": False}
    try:
        answer = primary.consul.put("acl/token", wanted | {"ExpirationTTL": f"{int(life.total_seconds())}s"})
    except ClusterError as error:
        if "expiration" not in error.found.lower():  # acl.token_min_expiration_ttl or …_max_… of the servers
            raise
        answer = primary.consul.put("acl/token", wanted)
    return Secret("canary token", str(answer.pop("SecretID")).encode())


def _take_away(consul: Consul, canary: Canary) -> None:
    """Remove the canary, also one whose making was answered by nothing."""
    try:
        gone = _remove(consul, lambda told: told["name"] == canary.name)
    except ClusterError as error:
        canary.left = error
        return
    canary.changes += [
        Change("acl-canary", canary.primary, "deleted", f"policy {name}, and its token", at=now())
        for name in gone
    ]


def _remove(consul: Consul, meant: Callable[[re.Match[str]], bool]) -> list[str]:
    """Delete the canaries that are meant, each token before its policy; their names.

    The description alone decides, because it is the one thing that a token and its policy have in common once the
    policy is gone.
    """

    def named(thing: dict[str, Any]) -> str:
        told = _DESCRIPTION.fullmatch(thing.get("Description") or "")
        return told["name"] if told and meant(told) else ""

    tokens = {each["AccessorID"]: name for each in consul.tokens() if (name := named(each))}
    policies = {each["ID"]: name for each in consul.policies() if (name := named(each)) == each["Name"]}
    for accessor in tokens:
        consul.delete(f"acl/token/{accessor}")
    for id in policies:
        consul.delete(f"acl/policy/{id}")
    return sorted({*tokens.values(), *policies.values()})


def _everywhere(
    dcs: Sequence[Datacenter], token: Secret, canary: Canary, report: Callable[[str], None], *, there: bool
) -> dict[str, int | str]:
    """Wait in all datacenters at once: milliseconds from now until the canary is (not) there, or what was seen."""
    since, stop = time.monotonic(), threading.Event()

    def one(dc: Datacenter) -> int | str:
        lag = 0

        def look() -> Seen:
            nonlocal lag
            works = dc.consul.knows(token)
            listed = any(each["Name"] == canary.name for each in dc.consul.policies())
            lag = round((time.monotonic() - since) * 1000)
            done = (works and listed) if there else not (works or listed)
            return Seen(True, "stopped") if stop.is_set() else Seen(done, _state(works, listed))

        what = f"{dc.name}: the ACL canary{'' if there else ' to be gone'}"
        try:
            wait_for(
                what, look, canary.deadline, report=report,
                until_changed=lambda left: stop.wait(min(left, POLL)),
            )  # fmt: skip
        except WaitTimeoutError as error:
            return error.found
        except ClusterError as error:
            return error.found
        return lag

    if not dcs:
        return {}
    with ThreadPoolExecutor(max_workers=len(dcs)) as pool:
        try:
            return dict(zip((dc.name for dc in dcs), pool.map(one, dcs), strict=True))
        finally:
            stop.set()  # or a signal would wait for every deadline before the canary is removed


def _state(works: bool, listed: bool) -> str:
    if works == listed:
        return "token and policy are there" if works else "neither token nor policy is there"
    return (
        "the token works, the policy is not listed" if works else "the policy is listed, the token is unknown"
    )


@check("acl-canary", "a policy and a token made in the primary work in the secondary in time, and go with it")
def acl_canary(self: Check, subject: str, canary: Canary, dc: Datacenter) -> Iterator[Finding]:
    """For the primary: whether it could be made, and removed; for a secondary: whether it came, and went."""
    if subject == canary.primary:
        yield from _of_primary(self, subject, canary)
        return
    lag = next((row for row in canary.rows if row.datacenter == subject), None)
    log = f"see its replication: kubectl --context {dc.of.context} -n {dc.of.namespace} logs {dc.consul.pod}"
    log += " | grep replication.acl"
    if lag is None:
        yield self.skipped(
            subject, f"there was no canary to look for: it could not be made in {canary.primary}"
        )
    elif lag.appeared_ms is None:
        yield self.error(subject, f"what {canary.primary} writes does not come: {lag.note}", log)
    elif lag.vanished_ms is None and canary.left:
        yield self.skipped(
            subject, f"came after {lag.appeared_ms} ms; it could not be removed in {canary.primary}"
        )
    elif lag.vanished_ms is None:
        yield self.error(subject, f"what {canary.primary} deletes stays: {lag.note}", log)
    else:
        yield self.ok(subject, f"came after {lag.appeared_ms} ms, was gone after {lag.vanished_ms} ms")


def _of_primary(self: Check, subject: str, canary: Canary) -> Iterator[Finding]:
    if canary.refused:
        hint = (
            "with 403: see replication-token, it must be one that may write ACLs; else " + canary.refused.hint
        )
        yield self.error(subject, f"no canary could be made: {canary.refused.found}", hint)
    if canary.left:
        yield self.error(
            subject,
            f"policy {canary.name} and its token may still be there: {canary.left.found}",
            "the next canary removes them; see first that Consul answers",
        )
    if not canary.refused and not canary.left:
        yield self.ok(subject, f"policy {canary.name} and a token were made, and removed")


def look_at_canary(canary: Canary, dcs: Sequence[Datacenter]) -> list[Finding]:
    """One finding a datacenter; the first is the primary."""
    return [finding for dc in dcs for finding in acl_canary(dc.name, canary, dc)]
