"""Who can read the federation secret in a cluster: every subject that RBAC lets get, list or watch it, and by what.

Who can read it is admin on the whole mesh, in every datacenter. The rules are read as Kubernetes' own authorizer does
it (rules only add up; a name restricts `get`, and `list` and `watch` with a field selector). Other authorizers, such
as a cloud's IAM, are not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..cluster import Cluster
from ..params import Cluster as ClusterParams
from ..rbac.rules import Held, Right, from_policy
from ..results import Finding, Table, several
from . import Check, check

_VERBS = ("get", "list", "watch")
_EVERYBODY = {
    "Group system:authenticated", "Group system:unauthenticated", "Group system:serviceaccounts",
    "User system:anonymous",
}  # fmt: skip
"""Subjects that stand for whoever comes."""
_OF_A_NAMESPACE = "Group system:serviceaccounts:"
"""Whatever runs in a namespace: who can make a pod there has it."""

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Reader:
    """A subject that may read it, and one binding that lets it."""

    datacenter: str
    subject: str
    verbs: str
    binding: str
    role: str


class Readers(Table):
    """Who can read the federation secret."""

    columns = ("datacenter", "subject", "verbs", "binding", "role")

    def summary(self) -> str:
        return f"{several(len({(r.datacenter, r.subject) for r in self.rows}), 'subject')} can read it"


def readers(cluster: Cluster, of: ClusterParams, secret: str) -> list[Reader]:
    """Every subject of the cluster that may read the Secret, with each binding that grants it.

    Raises ClusterError when roles and bindings may not be listed.
    """
    kinds = (
        ("roles", of.namespace), ("rolebindings", of.namespace), ("clusterroles", ""), ("clusterrolebindings", ""),
    )  # fmt: skip
    with ThreadPoolExecutor(len(kinds)) as pool:
        roles, bindings, wide, wide_bindings = pool.map(lambda kind: cluster.list(*kind), kinds)
    granted = {
        **{("Role", _name(each)): _verbs(each, of.namespace, secret) for each in roles},
        **{("ClusterRole", _name(each)): _verbs(each, of.namespace, secret) for each in wide},
    }
    found = [
        *_bound(bindings, "RoleBinding", of, granted),
        *_bound(wide_bindings, "ClusterRoleBinding", of, granted),
    ]
    return sorted(found, key=lambda reader: (reader.subject, reader.binding))


def _bound(
    bindings: Iterable[Object], kind: str, of: ClusterParams, granted: Mapping[tuple[str, str], str]
) -> Iterator[Reader]:
    for binding in bindings:
        ref = binding["roleRef"]
        verbs = granted.get((ref["kind"], ref["name"]), "")
        for subject in (binding.get("subjects") or []) if verbs else []:
            role = f"{ref['kind']} {ref['name']}"
            yield Reader(of.datacenter, _subject(subject), verbs, f"{kind} {_name(binding)}", role)


def _verbs(role: Object, namespace: str, secret: str) -> str:
    """Which reading verbs a role grants on the Secret; empty: none."""
    rules = (rule for policy in role.get("rules") or [] for rule in from_policy(policy))
    held = Held(right for rule in rules for right in rule.rights())
    allowed = [verb for verb in _VERBS if Right(namespace, "", "secrets", verb, secret) in held]
    return ", ".join(allowed)


def _subject(subject: Object) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"ServiceAccount {subject.get('namespace', '')}/{subject['name']}"
    return f"{subject['kind']} {subject['name']}"


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])


@check("secret-readers", "nobody but named subjects can read the federation secret", "warning")
def secret_readers(self: Check, subject: str, found: list[Reader]) -> Iterator[Finding]:
    names = {each.subject for each in found}
    if anybody := sorted(name for name in names if name in _EVERYBODY or name.startswith(_OF_A_NAMESPACE)):
        bindings = sorted({each.binding for each in found if each.subject in anybody})
        yield self.warning(
            subject,
            f"{', '.join(anybody)} may read it, through {', '.join(bindings)}",
            "take that binding away: who reads the federation secret is admin on the whole mesh",
        )
    else:
        yield self.ok(subject, f"{several(len(names), 'subject')} may read it; the table names each")
