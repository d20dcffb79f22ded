"""Who may do what: Roles, ClusterRoles and their bindings, evaluated as the RBAC authorizer does.

Members of system:masters may do everything. The roles that every cluster has from the start are at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .contracts import User
from .request import RequestInfo
from .selectors import match_label_selector
from .status import ApiError, forbidden
from .store import Event, StorageKey, Store

GROUP = "rbac.authorization.k8s.io"
Rule = dict[str, Any]


@dataclass(frozen=True)
class Attributes:
    """What authorization is asked about; `path` for what is no resource."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


def attributes_of(info: RequestInfo) -> Attributes:
    if not info.is_resource:
        return Attributes(info.verb, path=info.path)
    return Attributes(info.verb, info.group, info.version, info.plural, info.sub, info.namespace, info.name)


@dataclass(frozen=True)
class _Grant:
    namespace: str
    role_kind: str
    role_name: str
    description: str


class Authorizer:
    """Rules of one cluster; bindings are indexed by subject until one of them changes."""

    def __init__(self, store: Store):
        self._store = store
        self._index: dict[str, list[_Grant]] | None = None
        store.on_write.append(self._forget)

    def _forget(self, key: StorageKey, event: Event) -> None:
        if key in ((GROUP, "rolebindings"), (GROUP, "clusterrolebindings")):
            self._index = None
        elif key == (GROUP, "clusterroles"):
            self._aggregate()

    def _aggregate(self) -> None:
        """Bring the rules of the aggregating ClusterRoles up to date with those that they gather."""
        roles = self._store.list((GROUP, "clusterroles"))
        for role in roles:
            if not role.get("aggregationRule"):
                continue
            rules = aggregated_rules(role, roles)
            if rules != role.get("rules"):
                self._store.put((GROUP, "clusterroles"), {**role, "rules": rules})
                return  # that write has brought the others up to date

    def allowed(self, user: User, asked: Attributes) -> tuple[bool, str]:
        """(whether, by which binding)."""
        if "system:masters" in user.groups:
            return True, ""
        for grant in self._grants(user):
            if grant.namespace and grant.namespace != asked.namespace:
                continue
            if any(rule_allows(rule, asked) for rule in self._rules(grant)):
                return True, f"RBAC: allowed by {grant.description}"
        return False, ""

    def check(self, user: User, info: RequestInfo) -> None:
        """Raises 403 in the words of a real API server."""
        asked = attributes_of(info)
        if not self.allowed(user, asked)[0]:
            raise refusal(user, asked)

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """Every rule that holds for a user in a namespace."""
        if "system:masters" in user.groups:
            everything: list[Rule] = [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
            ]
            return everything
        return [
            rule
            for grant in self._grants(user)
            if grant.namespace in ("", namespace)
            for rule in self._rules(grant)
        ]

    def _grants(self, user: User) -> Iterator[_Grant]:
        if self._index is None:
            self._index = self._build_index()
        for subject in (f"User/{user.name}", *(f"Group/{group}" for group in user.groups)):
            yield from self._index.get(subject, ())

    def _build_index(self) -> dict[str, list[_Grant]]:
        index: dict[str, list[_Grant]] = {}
        for plural, kind in (("clusterrolebindings", "ClusterRoleBinding"), ("rolebindings", "RoleBinding")):
            for binding in self._store.list((GROUP, plural)):
                metadata, role = binding["metadata"], binding["roleRef"]
                namespace = metadata.get("namespace", "")
                name = f"{metadata['name']}/{namespace}" if namespace else metadata["name"]
                for subject in binding.get("subjects") or ():
                    who = _subject_key(subject, namespace)
                    shown = subject.get("name", "")
                    if subject["kind"] == "ServiceAccount":
                        shown = f"{shown}/{subject.get('namespace') or namespace}"
                    text = (
                        f'{kind} "{name}" of {role["kind"]} "{role["name"]}" to {subject["kind"]} "{shown}"'
                    )
                    index.setdefault(who, []).append(_Grant(namespace, role["kind"], role["name"], text))
        return index

    def _rules(self, grant: _Grant) -> Iterable[Rule]:
        if grant.role_kind == "Role":
            role = self._store.get((GROUP, "roles"), grant.namespace, grant.role_name)
        else:
            role = self._store.get((GROUP, "clusterroles"), "", grant.role_name)
        return (role or {}).get("rules") or ()


def _subject_key(subject: dict[str, Any], namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"User/system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return f"{subject['kind']}/{subject['name']}"


def rule_allows(rule: Rule, asked: Attributes) -> bool:
    """Whether one rule has what is asked for; the namespace is the binding's business."""
    if not {"*", asked.verb} & set(rule.get("verbs") or ()):
        return False
    if asked.path:
        return any(
            url in ("*", asked.path) or (url.endswith("*") and asked.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or ()
        )
    if not {"*", asked.group} & set(rule.get("apiGroups") or ()):
        return False
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    named = {"*", whole} | ({f"*/{asked.subresource}"} if asked.subresource else set())
    if not named & set(rule.get("resources") or ()):
        return False
    names = rule.get("resourceNames")
    return not names or asked.name in names


def refusal(user: User, asked: Attributes, why: str = "") -> ApiError:
    """403 that names user, verb, resource and scope."""
    if asked.path:
        message = f'User "{user.name}" cannot {asked.verb} path "{asked.path}"'
        return ApiError(403, "Forbidden", f"forbidden: {message}{why}")
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = f'User "{user.name}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}" {where}{why}'
    return forbidden(asked.resource, asked.group, asked.name, message)


def aggregated_rules(role: dict[str, Any], roles: Iterable[dict[str, Any]]) -> list[Rule]:
    """The rules that an aggregating ClusterRole gets from the others."""
    rules: list[Rule] = []
    for other in roles:
        if other["metadata"]["name"] == role["metadata"]["name"]:
            continue
        labels = other["metadata"].get("labels") or {}
        for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
            if match_label_selector(selector, labels):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules
