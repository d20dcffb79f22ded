"""What a rendered chart asks for: what Helm does to each kind of object, and what the chart's own roles hand on.

An API server lets nobody create a role with rights that they do not have, nor bind one: so whoever installs a chart
needs every right that its roles grant (or `escalate` and `bind`, which are as good as cluster-admin).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .rules import Rule, from_policy

RBAC = "rbac.authorization.k8s.io"
HELM, GRANTS = "what Helm does", "what the chart's own roles grant: nobody may grant what they do not have"

Object = Mapping[str, Any]

_CLUSTER_WIDE = {
    "APIService", "CSIDriver", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "GatewayClass",
    "IngressClass", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
    "Namespace", "Node", "PersistentVolume", "PodSecurityPolicy", "PriorityClass", "RuntimeClass",
    "SecurityContextConstraints", "StorageClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration", "VolumeSnapshotClass",
}  # fmt: skip
"""Kinds without a namespace, of those that charts render; those of the chart's own CRDs say it themselves."""

_BUILT_IN: Mapping[str, Sequence[Object]] = {
    "system:auth-delegator": (
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ),
}
"""Rules of the ClusterRoles of Kubernetes itself that the chart binds (bootstrap policy of kube-apiserver)."""


def helm_rules(objects: Iterable[Object], namespace: str, read_only: bool) -> Iterator[Rule]:
    """What Helm does to each kind that a chart renders.

    It gets each object to see whose it is, creates or patches it, and deletes what a later revision does not have
    any more, as does the uninstall that undoes an installation. Helm 4 creates by a patch (server-side apply), for
    which an API server wants `create` as well. Hooks are deleted before they are made again, and waited for: a watch,
    or where the API server cannot stream a list, a list and a watch.

    Objects without a namespace are named, because there are others' among them; what is only read is named where it
    is a Secret. `create` cannot be narrowed to a name.

    Args:
        namespace: that of the release.
        read_only: only what a dry run against the cluster asks for, which leaves hooks out.
    """
    objects = [each for each in objects if each.get("kind")]
    scopes = _scopes(objects)
    kinds: dict[tuple[str, str, str], list[Object]] = {}
    for each in objects:
        if not (read_only and is_hook(each)):
            kinds.setdefault(_place(each, namespace, scopes), []).append(each)
    for (group, resource, where), found in kinds.items():
        names = tuple(sorted({str(each["metadata"]["name"]) for each in found}))
        named = names if not where or (read_only and resource == "secrets") else ()
        if read_only:
            yield Rule(group, (resource,), ("get",), named, where, why=HELM)
            continue
        yield Rule(group, (resource,), ("create",), (), where, why=HELM)
        yield Rule(group, (resource,), ("get", "patch"), named, where, why=HELM)
        if gone := tuple(sorted({str(each["metadata"]["name"]) for each in found if not _is_kept(each)})):
            yield Rule(group, (resource,), ("delete",), gone if named else (), where, why=HELM)
        if any(is_hook(each) for each in found):
            yield Rule(group, (resource,), ("list", "watch"), (), where, why=HELM)


def removal_rules(installed: Iterable[Object], objects: Iterable[Object], namespace: str) -> list[Rule]:
    """What Helm deletes in an upgrade: objects of the release as it is installed that the chart makes no more."""
    objects, installed = list(objects), list(installed)
    scopes = _scopes([*installed, *objects])
    there = {
        (*_place(each, namespace, scopes), str(each["metadata"]["name"]))
        for each in installed
        if not _is_kept(each)
    }
    made = {(*_place(each, namespace, scopes), str(each["metadata"]["name"])) for each in objects}
    return [
        Rule(group, (resource,), ("delete",), (name,), where, why=HELM)
        for group, resource, where, name in sorted(there - made)
    ]


def granted_rules(objects: Iterable[Object], namespace: str) -> Iterator[Rule]:
    """Every right that the chart's roles grant, and that the roles have which it binds."""
    objects = list(objects)
    roles = {_role(each, namespace) for each in objects if each.get("kind") in ("Role", "ClusterRole")}
    for each in objects:
        where = _namespace(each, namespace) if each.get("kind") in ("Role", "RoleBinding") else ""
        if each.get("kind") in ("Role", "ClusterRole"):
            for rule in each.get("rules") or ():
                yield from from_policy(rule, where, GRANTS)
        elif each.get("kind") in ("RoleBinding", "ClusterRoleBinding"):
            kind, name = each["roleRef"]["kind"], str(each["roleRef"]["name"])
            if (kind, where if kind == "Role" else "", name) in roles:
                continue
            if kind == "ClusterRole" and name in _BUILT_IN:
                for rule in _BUILT_IN[name]:
                    yield from from_policy(rule, where, GRANTS)
            else:  # a role of somebody else: what it grants is not known here, that it may be bound can be said
                yield Rule(RBAC, (f"{kind.lower()}s",), ("bind",), (name,), where, why=GRANTS)


def is_hook(manifest: Object) -> bool:
    return "helm.sh/hook" in (manifest["metadata"].get("annotations") or {})


def _is_kept(manifest: Object) -> bool:
    """Whether Helm never deletes it."""
    return (manifest["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"


def _scopes(objects: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """(API group, kind) → `spec` of each CRD among the objects."""
    crds = (each["spec"] for each in objects if each["kind"] == "CustomResourceDefinition")
    return {(str(spec["group"]), str(spec["names"]["kind"])): spec for spec in crds}


def _namespace(manifest: Object, default: str) -> str:
    return str(manifest["metadata"].get("namespace") or default)


def _role(manifest: Object, namespace: str) -> tuple[str, str, str]:
    where = _namespace(manifest, namespace) if manifest["kind"] == "Role" else ""
    return manifest["kind"], where, str(manifest["metadata"]["name"])


def _place(
    manifest: Object, namespace: str, scopes: Mapping[tuple[str, str], Object]
) -> tuple[str, str, str]:
    """(API group, resource, namespace, empty for none) of an object."""
    group, _, _version = str(manifest["apiVersion"]).rpartition("/")
    kind = str(manifest["kind"])
    spec = scopes.get((group, kind))
    if spec is not None:
        resource, inside = str(spec["names"]["plural"]), spec.get("scope") != "Cluster"
    else:
        resource, inside = _plural(kind), kind not in _CLUSTER_WIDE
    return group, resource, _namespace(manifest, namespace) if inside else ""


def _plural(kind: str) -> str:
    """The resource of a kind, by the rule that Kubernetes' own clients guess by (meta.UnsafeGuessKindToResource).

    >>> _plural("NetworkPolicy"), _plural("Ingress"), _plural("Endpoints")
    ('networkpolicies', 'ingresses', 'endpoints')
    """
    word = kind.lower()
    if word == "endpoints":
        return word
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
