"""What the primary's Consul has for one secondary: its servers in the WAN pool, and all by which it could log in.

server-acl-init of consul-k8s makes, for a secondary, in the primary: the auth method
`<fullname>-k8s-component-auth-method-<dc>` with its binding rules, roles `<fullname>-<component>-acl-role-<dc>` and
policies `<component>-policy-<dc>` (`-token-` up to chart 0.41). Names are matched whole: dc2's are never those of a
datacenter that is called x-dc2.

Deleting an auth method deletes its binding rules and the tokens that were made by logins with it. No API deletes a
federation state: the primary's leader prunes it, each hour after its election, where no server of that datacenter is in
the WAN pool any more but as left. (Both seen with Consul 1.8.7.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .consul import Consul
from .errors import ClusterError

ALIVE, LEAVING, LEFT, FAILED = 1, 2, 3, 4
"""Serf's status numbers of a member."""

WORDS = {ALIVE: "alive", LEAVING: "leaving", LEFT: "left", FAILED: "failed"}

_FORGETS = (1, 11)
"""Consul version from which on a server can be told to forget one of another datacenter (`wan`, consul #11722)."""


@dataclass(frozen=True)
class Thing:
    """An object of Consul's ACLs: by which id it is deleted, and what people call it."""

    id: str
    name: str


@dataclass(frozen=True)
class Accounts:
    """ACL objects, by kind: `auth-method`, `binding-rule`, `token`, `role`, `policy`."""

    kinds: Mapping[str, tuple[Thing, ...]]

    def of(self, kind: str) -> tuple[Thing, ...]:
        return self.kinds.get(kind, ())

    def names(self, kind: str) -> str:
        return ", ".join(thing.name for thing in self.of(kind))

    def ids(self) -> set[tuple[str, str]]:
        return {(kind, thing.id) for kind, things in self.kinds.items() for thing in things}


KINDS = ("auth-method", "binding-rule", "token", "role", "policy")
"""In the order in which they are deleted: with the auth method nobody logs in any more."""


def auth_method(fullname: str, datacenter: str) -> str:
    """By which the secondary's components log in at the primary."""
    return f"{fullname}-k8s-component-auth-method-{datacenter}"


def accounts(consul: Consul, fullname: str, datacenter: str) -> tuple[Accounts, Accounts]:
    """(what the primary has for that datacenter, everything else), as it is now. Needs acl:read.

    Of everything else tokens are left out that were made by a login: they come and go with their pods.
    """
    method = auth_method(fullname, datacenter)
    role = re.compile(rf"{re.escape(fullname)}-.+-acl-role-{re.escape(datacenter)}")
    policy = re.compile(rf".+-(policy|token)-{re.escape(datacenter)}")
    of_it: dict[str, tuple[Thing, ...]] = {}
    other: dict[str, tuple[Thing, ...]] = {}

    def sort(kind: str, found: Iterable[tuple[Thing, bool]]) -> None:
        pairs = list(found)
        of_it[kind] = tuple(thing for thing, its in pairs if its)
        other[kind] = tuple(thing for thing, its in pairs if not its)

    methods = consul.get("acl/auth-methods") or []
    sort("auth-method", ((Thing(m["Name"], m["Name"]), m["Name"] == method) for m in methods))
    sort(
        "binding-rule",
        (
            (Thing(r["ID"], f"{r['BindType']} {r['BindName']}"), r["AuthMethod"] == method)
            for r in consul.binding_rules()
        ),
    )
    roles = consul.get("acl/roles") or []
    sort("role", ((Thing(r["ID"], r["Name"]), _is_made(r, role, "ACL Role for ")) for r in roles))
    policies = consul.policies()
    its = [p for p in policies if _is_made(p, policy, f"{p['Name']} Token Policy")]
    sort("policy", ((Thing(p["ID"], p["Name"]), p in its) for p in policies))
    # Tokens that charts up to 0.41 made without a login are described by their policy's name.
    described = {f"{p['Name']} Token" for p in its}
    sort(
        "token",
        (
            (Thing(t["AccessorID"], t["AccessorID"]), _is_login(t, method) or t["Description"] in described)
            for t in consul.tokens()
            if not t.get("AuthMethod") or _is_login(t, method)
        ),
    )
    return Accounts(of_it), Accounts(other)


def _is_made(found: Mapping[str, Any], name: re.Pattern[str], description: str) -> bool:
    """Whether consul-k8s made it for that datacenter: its name is as it makes them, and so is what it says of it."""
    return bool(name.fullmatch(found["Name"])) and str(found.get("Description", "")).startswith(description)


def _is_login(token: Mapping[str, Any], method: str) -> bool:
    return token.get("AuthMethod") == method


def delete(consul: Consul, kind: str, thing: Thing) -> None:
    """Delete an ACL object; one that is gone is no error."""
    try:
        consul.delete(f"acl/{kind}/{quote(thing.id, safe='')}")
    except ClusterError as error:
        if not _says_not_there(error):
            raise


def members(consul: Consul, datacenter: str) -> dict[str, int]:
    """`<node>.<dc>` → serf status, of that datacenter's servers in the WAN pool as the server asked sees it."""
    found = consul.wan_members()
    return {each["Name"]: each["Status"] for each in found if each["Tags"].get("dc") == datacenter}


def can_forget(version: str) -> bool:
    """Whether a server of that version can be told to forget a server of another datacenter.

    >>> can_forget("1.8.7"), can_forget("1.22.7+ent")
    (False, True)
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return bool(numbers) and (int(numbers[1]), int(numbers[2])) >= _FORGETS  # type: ignore[index]


def forget(consul: Consul, member: str) -> None:
    """Put a member out of the WAN pool, which the server asked tells all others. Needs operator:write.

    One that is alive refutes that, and comes back.
    """
    try:
        consul.put(f"agent/force-leave/{quote(member, safe='')}?wan=1&prune=1", None)
    except ClusterError as error:
        if not _says_not_there(error):
            raise


def _says_not_there(error: ClusterError) -> bool:
    """Consul's versions answer 404 or 500 where there is nothing (any more) to delete; 403 is another matter."""
    words = error.found.lower()
    return error.status == 404 or (
        error.status == 500 and ("cannot find" in words or "no node found" in words)
    )


def has_state(consul: Consul, datacenter: str) -> bool:
    """Whether the server asked still has the federation state of that datacenter. Needs operator:read."""
    return any(each["Datacenter"] == datacenter for each in consul.federation_states())
