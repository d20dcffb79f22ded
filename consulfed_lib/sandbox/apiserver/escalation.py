"""No one hands out more than they have: the RBAC rule for writes of roles and bindings.

Someone who may `escalate` roles, or `bind` the role in question, is exempt.
"""

from __future__ import annotations

from typing import Any

from .contracts import User
from .rbac import GROUP, Attributes, Authorizer, Rule, rule_allows
from .resources import Resource
from .status import forbidden
from .store import Object, Store


def check(
    store: Store,
    authorizer: Authorizer,
    resource: Resource,
    user: User | None,
    new: Object,
    old: Object | None,
) -> None:
    """Raises 403 when a user writes a role, or binds one, with rights that they do not hold.

    Args:
        user: who writes; None is the server itself.
    """
    if user is None or resource.group != GROUP or "system:masters" in user.groups:
        return
    namespace, name = new["metadata"].get("namespace", ""), new["metadata"]["name"]
    if resource.plural in ("roles", "clusterroles"):
        if old is not None and old.get("rules") == new.get("rules"):
            return
        verb, role, rules = "escalate", name, new.get("rules") or []
        plural = resource.plural
    else:
        if old is not None and (old["roleRef"], old.get("subjects")) == (new["roleRef"], new.get("subjects")):
            return
        verb, role = "bind", new["roleRef"]["name"]
        plural = "roles" if new["roleRef"]["kind"] == "Role" else "clusterroles"
        held = store.get((GROUP, plural), namespace if plural == "roles" else "", role)
        rules = (held or {}).get("rules") or []
    asked = Attributes(verb, GROUP, "v1", plural, "", namespace, role)
    if authorizer.allowed(user, asked)[0]:
        return
    missing = [rule for rule in rules if not _covered(rule, authorizer.rules_for(user, namespace))]
    if missing:
        groups = " ".join(f'"{group}"' for group in user.groups)
        lines = "\n".join(_described(rule) for rule in missing)
        why = (
            f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
            f"{lines}"
        )
        raise forbidden(resource.plural, resource.group, name, why)


def _covered(rule: Rule, held: list[Rule]) -> bool:
    """Whether every single permission of a rule is in one of those held."""
    return all(any(rule_allows(other, part) for other in held) for part in _parts(rule))


def _parts(rule: Rule) -> list[Attributes]:
    verbs = rule.get("verbs") or ()
    if rule.get("nonResourceURLs"):
        return [Attributes(verb, path=url) for verb in verbs for url in rule["nonResourceURLs"]]
    return [
        Attributes(verb, group, "", *_split(resource), "", name)
        for verb in verbs
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("",)
    ]


def _split(resource: str) -> tuple[str, str]:
    plural, _, subresource = resource.partition("/")
    return plural, subresource


def _described(rule: dict[str, Any]) -> str:
    names = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("Verbs", "verbs"),
    )
    parts = [
        f"{go}:[{' '.join(chr(34) + value + chr(34) for value in rule[key])}]"
        for go, key in names
        if rule.get(key)
    ]
    return "{" + ", ".join(parts) + "}"
