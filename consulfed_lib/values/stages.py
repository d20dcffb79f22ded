"""The values of an upgrade that goes in stages, so that never more than one server is away.

Kubernetes replaces the servers from the highest ordinal down to `server.updatePartition`; each stage lowers it by one.

Where TLS comes on, the servers go round three times: first they take TLS beside what they spoke so far, then they speak
it to each other, and only then they demand it. HashiCorp's "Configuring TLS on an Existing Cluster" goes round twice,
with `tls.verify` off and on. That parts the first server of the second round from the others, which speak to it
without TLS as long as their `verify` is off: "Non-TLS connection attempted with VerifyIncoming set" (measured).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..chart import ChartVersion
from .facts import ABSENT, get
from .layers import merge, put

ENABLED, _VERIFY, _HTTPS_ONLY = "global.tls.enabled", "global.tls.verify", "global.tls.httpsOnly"
_PARTITION, _EXTRA = "server.updatePartition", "server.extraConfig"
_FEDERATION = ("global.federation", "global.acls.createReplicationToken", "meshGateway")
"""What needs TLS at work, and so waits for the last round."""

_TLS_STANZA = ChartVersion.parse("0.44.0")
"""The first chart whose Consul (1.12) has its TLS settings in a stanza of their own."""


@dataclass(frozen=True)
class Stage:
    """One upgrade of the release.

    Attributes:
        name: for people and records, such as `TLS is taken: server 2`.
        values: all values of the release in this stage.
        partition: the servers from this ordinal on are replaced by the end of it.
    """

    name: str
    values: Mapping[str, Any]
    partition: int


def stages(
    before: Mapping[str, Any], after: Mapping[str, Any], servers: int, roll: bool, chart: ChartVersion
) -> list[Stage]:
    """Every stage from the values that a release has to those that it is to have; the last one has exactly these.

    Args:
        roll: whether the servers' pods change at all; if not, one upgrade does it.

    Raises ValueError where TLS comes on and `server.extraConfig` cannot be added to.
    """
    if not roll:
        return [Stage("all at once, no server is touched", after, 0)]
    alone = servers == 1 and chart >= ChartVersion.parse("1.0.0")  # no other server, and no client agents
    if get(before, ENABLED) is True or alone:
        return list(_round("", after, servers))
    taken = copy.deepcopy(dict(after))
    for path in _FEDERATION:
        _restore(taken, before, path)
    put(taken, _HTTPS_ONLY, False)
    spoken = copy.deepcopy(taken)
    put(taken, _VERIFY, False)
    put(spoken, _EXTRA, not_demanded(get(after, _EXTRA), chart))
    return [
        *_round("TLS is taken: ", taken, servers),
        *_round("TLS is spoken: ", spoken, servers),
        *_round("TLS is demanded, federation: ", after, servers),
    ]


def not_demanded(extra: Any, chart: ChartVersion) -> str:
    """`server.extraConfig` with which servers speak TLS, and take what comes without. Raises ValueError."""
    try:
        config = json.loads(extra) if isinstance(extra, str) and extra.strip() else dict(extra or {})
    except ValueError:
        raise ValueError("server.extraConfig is no JSON, and must be added to while TLS comes on") from None
    if chart >= _TLS_STANZA:
        merge(config, {"tls": {"internal_rpc": {"verify_incoming": False}}})
    else:
        config["verify_incoming_rpc"] = False
    return json.dumps(config)


def _round(name: str, values: Mapping[str, Any], servers: int) -> Iterator[Stage]:
    """Once through all servers."""
    for ordinal in reversed(range(servers)):
        these = copy.deepcopy(dict(values))
        if ordinal:
            put(these, _PARTITION, ordinal)
        yield Stage(f"{name}server {ordinal}", these, ordinal)


def _restore(into: dict[str, Any], before: Mapping[str, Any], path: str) -> None:
    """Let a path be as it was before."""
    was = get(before, path)
    *parents, last = path.split(".")
    for key in parents:
        if not isinstance(into.get(key), dict):
            return
        into = into[key]
    if was is ABSENT:
        into.pop(last, None)
    else:
        into[last] = copy.deepcopy(was)
