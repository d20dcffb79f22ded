"""Rules of Kubernetes' RBAC as values: what one allows, which one covers another, and the fewest that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

_ORDER = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


class Right(NamedTuple):
    """The least that can be allowed: one verb, on one resource, in one place; or on one URL.

    Attributes:
        namespace: empty for the whole cluster.
        resource: with its subresource, such as `pods/exec`.
        name: empty for every name.
        url: of what is no resource; everything but the verb is empty then.
    """

    namespace: str = ""
    group: str = ""
    resource: str = ""
    verb: str = ""
    name: str = ""
    url: str = ""

    def covers(self, other: Right) -> bool:
        """Whether who has this has the other one, too."""
        if self.url or other.url:
            return self.verb in ("*", other.verb) and _url_covers(self.url, other.url)
        return (
            self.namespace in ("", other.namespace)
            and self.group in ("*", other.group)
            and _resource_covers(self.resource, other.resource)
            and self.verb in ("*", other.verb)
            and self.name in ("", other.name)
        )

    @property
    def thing(self) -> str:
        """The resource as people write it: `roles.rbac.authorization.k8s.io "x"`."""
        kind = self.url or (f"{self.resource}.{self.group}" if self.group else self.resource)
        return f'{kind} "{self.name}"' if self.name else kind

    @property
    def place(self) -> str:
        return f"in namespace {self.namespace}" if self.namespace else "cluster-wide"

    def __str__(self) -> str:
        return f"{self.verb} {self.thing} {self.place}"


@dataclass(frozen=True)
class Rule:
    """Some verbs on some resources of one API group.

    Attributes:
        names: the objects that it is about; empty for all.
        namespace: where it holds; empty for the whole cluster.
        urls: instead of group and resources, for what is no resource.
        why: what it is needed for, in a few words.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    namespace: str = ""
    urls: tuple[str, ...] = ()
    why: str = field(default="", compare=False)

    @property
    def namespaced(self) -> bool:
        return bool(self.namespace)

    def rights(self) -> Iterator[Right]:
        """Every single right in it."""
        for verb in self.verbs:
            for url in self.urls:
                yield Right(verb=verb, url=url)
            for resource in self.resources:
                for name in self.names or ("",):
                    yield Right(self.namespace, self.group, resource, verb, name)

    def data(self) -> dict[str, Any]:
        """As a Role has it (PolicyRule of rbac.authorization.k8s.io/v1)."""
        if self.urls:
            return {"nonResourceURLs": list(self.urls), "verbs": list(self.verbs)}
        rule = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        return rule | ({"resourceNames": list(self.names)} if self.names else {})


def from_policy(rule: Mapping[str, Any], namespace: str = "", why: str = "") -> Iterator[Rule]:
    """The rules of ours that a PolicyRule amounts to: one for each API group."""
    verbs, names = tuple(rule.get("verbs") or ()), tuple(rule.get("resourceNames") or ())
    for group in rule.get("apiGroups") or ():
        if rule.get("resources"):
            yield Rule(group, tuple(rule["resources"]), verbs, names, namespace, why=why)
    if urls := tuple(rule.get("nonResourceURLs") or ()):
        yield Rule("", (), verbs, urls=urls, why=why)


def simplify(rules: Iterable[Rule]) -> list[Rule]:
    """The fewest rules that allow the same. Of what two of them say, the first one's `why` stays."""
    whys: dict[Right, str] = {}
    for rule in rules:
        for right in rule.rights():
            whys.setdefault(right, rule.why)
    held = Held(whys)
    order = list(dict.fromkeys(whys.values()))
    verbs = _gather(((whys[r], r._replace(verb="")), r.verb) for r in whys if held.only_itself(r))
    names = _gather(((why, r._replace(name=""), _sorted(v)), r.name) for (why, r), v in verbs.items())
    things = _gather(
        ((why, r._replace(resource="", url=""), v, tuple(sorted(n - {""})), bool(r.url)), r.url or r.resource)
        for (why, r, v), n in names.items()
    )
    found = []
    for (why, where, these, named, is_url), gathered in things.items():
        together = tuple(sorted(gathered))
        resources, urls = ((), together) if is_url else (together, ())
        found.append(Rule(where.group, resources, these, named, where.namespace, urls, why))
    return sorted(
        found, key=lambda r: (order.index(r.why), r.namespace, r.group, r.resources, r.urls, r.verbs, r.names)
    )


def _gather(pairs: Iterable[tuple[Any, str]]) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return found


class Held:
    """Rights that somebody has, asked whether a right is among them: in one look each, however many there are."""

    def __init__(self, rights: Iterable[Right]):
        self._rights = set(rights)
        self._urls = [right for right in self._rights if right.url]

    def __contains__(self, right: Right) -> bool:
        return any(True for _ in self._covering(right))

    def only_itself(self, right: Right) -> bool:
        """Whether nothing but itself covers it."""
        return all(other == right for other in self._covering(right))

    def _covering(self, right: Right) -> Iterator[Right]:
        if right.url:
            yield from (held for held in self._urls if held.covers(right))
            return
        subresource = right.resource.partition("/")[2]
        choices = product(
            {"", right.namespace},
            {"*", right.group},
            {"*", right.resource, *([f"*/{subresource}"] if subresource else [])},
            {"*", right.verb},
            {"", right.name},
        )
        yield from (held for choice in choices if (held := Right(*choice)) in self._rights)


def _sorted(verbs: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(verbs, key=lambda verb: (_ORDER.index(verb) if verb in _ORDER else 99, verb)))


def _resource_covers(one: str, other: str) -> bool:
    subresource = other.partition("/")[2]
    return one in ("*", other) or (bool(subresource) and one == f"*/{subresource}")


def _url_covers(one: str, other: str) -> bool:
    return one == other or (bool(other) and one.endswith("*") and other.startswith(one.rstrip("*")))
