"""ServiceIntentions in a Consul that has no such config entry: before 1.9 an intention is an object of its own.

They are kept in the primary, which a secondary's servers ask for it, and are known in every datacenter.
"""

from __future__ import annotations

from typing import Any

from ..node.consul_http import ConsulError
from .consul_api import ConsulApi

KIND = "service-intentions"

_PATH = "/v1/connect/intentions"
_UNKNOWN = "invalid config entry kind"
"""What a Consul before 1.9 answers to whoever asks for an entry of this kind."""

Entry = dict[str, Any]


async def are_objects(consul: ConsulApi) -> bool:
    """Whether this Consul keeps intentions as objects and not as config entries. Raises ConsulError."""
    try:
        await consul.find(f"/v1/config/{KIND}/any")
    except ConsulError as error:
        if _UNKNOWN in str(error):
            return True
        raise
    return False


def actions(entry: Entry) -> dict[str, str]:
    """Source → allow or deny, of a config entry."""
    sources = entry.get("sources") or entry.get("Sources") or []
    return {one["name"]: one.get("action", "deny") for one in sources}


async def write(consul: ConsulApi, entry: Entry) -> bool:
    """Make the intentions to this destination what the entry says; whether anything had to be changed."""
    wanted, changed = actions(entry), False
    for existing in await _ours(consul, entry):
        source = existing["SourceName"]
        if wanted.get(source) == existing["Action"]:
            del wanted[source]
            continue
        await consul.request("DELETE", f"{_PATH}/{existing['ID']}")
        changed = True
    for source, action in wanted.items():
        body = {
            "SourceName": source,
            "DestinationName": entry["Name"],
            "SourceType": "consul",
            "Action": action,
            "Meta": entry["Meta"],
        }
        await consul.request("POST", _PATH, body)
        changed = True
    return changed


async def remove(consul: ConsulApi, entry: Entry) -> None:
    """Delete the intentions that this datacenter's resource made."""
    for existing in await _ours(consul, entry):
        await consul.request("DELETE", f"{_PATH}/{existing['ID']}")


async def _ours(consul: ConsulApi, entry: Entry) -> list[Entry]:
    """The intentions to this destination with this datacenter's mark; those of others are left alone."""
    return [
        one
        for one in await consul.get(_PATH) or []
        if one["DestinationName"] == entry["Name"] and (one.get("Meta") or {}) == entry["Meta"]
    ]
