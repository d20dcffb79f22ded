"""No one hands out more than they have: the RBAC rule for writes of roles and bindings.

Someone who may `escalate` roles, or `bind` the role in question, is exempt. As in pkg/registry/rbac of Kubernetes:
every change of a role or binding is checked, also one that leaves its rules alone, but for what a garbage collector
changes.
"""

from __future__ import annotations

from typing import Any

from .contracts import User
from .rbac import GROUP, Attributes, Authorizer, Rule, rule_allows
from .resources import Resource
from .status import forbidden, not_found
from .store import Object, Store

_FULL_AUTHORITY: list[Rule] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]
_COLLECTORS = ("finalizers", "managedFields", "ownerReferences", "resourceVersion")
"""Metadata that a garbage collector changes, and what changes with it."""


def check(
    store: Store,
    authorizer: Authorizer,
    resource: Resource,
    user: User | None,
    new: Object,
    old: Object | None,
    named: bool,
) -> None:
    """Raises 403 when a user writes a role, or binds one, with rights that they do not hold.

    Args:
        user: who writes; None is the server itself.
        named: whether the request's URL has the name: `escalate` on named roles counts only then.

    Raises 404 when they bind a role that is not there: nobody can know then what it would grant.
    """
    if user is None or resource.group != GROUP or "system:masters" in user.groups:
        return
    if old is not None and _for_comparison(old) == _for_comparison(new):
        return
    namespace, name = new["metadata"].get("namespace", ""), new["metadata"]["name"]
    aggregates = False
    if resource.plural in ("roles", "clusterroles"):
        asked = Attributes("escalate", GROUP, "v1", resource.plural, "", namespace, name if named else "")
        rules = new.get("rules") or []
        aggregates = bool(new.get("aggregationRule") or (old or {}).get("aggregationRule"))
    else:
        role = new["roleRef"]["name"]
        plural = "roles" if new["roleRef"]["kind"] == "Role" else "clusterroles"
        asked = Attributes("bind", GROUP, "v1", plural, "", namespace, role)
        held = store.get((GROUP, plural), namespace if plural == "roles" else "", role)
        if held is None and not authorizer.allowed(user, asked)[0]:
            raise not_found(plural, GROUP, role)
        rules = (held or {}).get("rules") or []
    if authorizer.allowed(user, asked)[0]:
        return
    own = authorizer.rules_for(user, namespace)
    if missing := [part for rule in rules for part in _parts(rule) if not _covered(part, own)]:
        groups = " ".join(f'"{group}"' for group in user.groups)
        lines = "\n".join(sorted({_described(rule) for rule in _compact(missing)}))
        why = (
            f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
            f"{lines}"
        )
        raise forbidden(resource.plural, resource.group, name, why)
    if aggregates and not all(_covered(part, own) for rule in _FULL_AUTHORITY for part in _parts(rule)):
        why = "must have cluster-admin privileges to use the aggregationRule"
        raise forbidden(resource.plural, resource.group, name, why)


def _for_comparison(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _COLLECTORS}
    return {**obj, "metadata": metadata}


def _parts(rule: Rule) -> list[Rule]:
    """A rule taken apart into rules of one verb on one thing."""
    verbs = rule.get("verbs") or ()
    parts: list[Rule] = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]} | named
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for verb in verbs
        for named in ([{"resourceNames": [name]} for name in rule.get("resourceNames") or ()] or [{}])
    ]
    urls = rule.get("nonResourceURLs") or ()
    return parts + [{"nonResourceURLs": [url], "verbs": [verb]} for url in urls for verb in verbs]


def _covered(part: Rule, held: list[Rule]) -> bool:
    """Whether one of the rules held has that single permission."""
    verb = part["verbs"][0]
    if "nonResourceURLs" in part:
        asked = Attributes(verb, path=part["nonResourceURLs"][0])
    else:
        plural, _, subresource = part["resources"][0].partition("/")
        name = part.get("resourceNames", [""])[0]
        asked = Attributes(verb, part["apiGroups"][0], "", plural, subresource, "", name)
    return any(rule_allows(rule, asked) for rule in held)


def _compact(parts: list[Rule]) -> list[Rule]:
    """Single permissions on the same thing put together."""
    merged: dict[tuple[str, ...], Rule] = {}
    found = []
    for part in parts:
        if "nonResourceURLs" in part:
            found.append(part)
            continue
        key = (*part["apiGroups"], *part["resources"], *part.get("resourceNames", ()))
        if key in merged:
            merged[key]["verbs"] = [*merged[key]["verbs"], *part["verbs"]]
        else:
            merged[key] = dict(part)
    return [*merged.values(), *found]


def _described(rule: dict[str, Any]) -> str:
    names = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    parts = [
        f"{go}:[{' '.join(chr(34) + value + chr(34) for value in rule[key])}]"
        for go, key in names
        if rule.get(key)
    ]
    return "{" + ", ".join(parts) + "}"
