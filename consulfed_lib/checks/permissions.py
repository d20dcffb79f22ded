"""May the runbook do what it has to? Each right that is missing is found before anything is written.

The API server is asked for all the rules at once (SelfSubjectRulesReview). That is two questions for a cluster: which
rules hold in the release's namespace, and which hold everywhere. Only what the answers leave open is asked one by one
(SelfSubjectAccessReview): an authorizer outside of the API server, as clouds have them, cannot list its rules.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..cluster import Cluster
from ..errors import ClusterError, ConsulfedError
from ..identity import user
from ..rbac import Held, Right, Rule, needs
from ..rbac.chart import removal_rules
from ..rbac.facts import HINTS
from ..rbac.rules import from_policy
from ..results import Finding
from . import Check, check
from .target import Target

_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_NOWHERE = "consulfed-no-such-namespace"
"""What may be done in a namespace that nobody has given anybody rights in may be done everywhere."""


@check("permissions", "every right that the run will need is there, for this notebook, chart and options")
def permissions(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    rules, unknown = _needed(target)
    whys = {right: rule.why for rule in rules for right in rule.rights()}
    missing = _missing(target.cluster, list(whys))
    who = _who(target.cluster) if missing else ""
    for (why, thing, place), verbs in _together(missing, whys).items():
        found = f"may not {', '.join(verbs)} {thing} {place}"
        if why == HINTS:
            yield self.warning(subject, found, f"that would only tell more; with it: {_remedy(target, who)}")
        else:
            yield self.error(subject, found, _remedy(target, who))
    if unknown is not None:
        yield self.warning(
            subject,
            f"what the chart's objects take was not looked at: {unknown.found}",
            unknown.hint or "see chart and values in the parameters",
        )
    elif not missing:
        yield self.ok(subject, f"all {len(whys)} rights are there")


def _needed(target: Target) -> tuple[list[Rule], ConsulfedError | None]:
    """The rights that this notebook needs, and why those for the chart's objects are not known."""
    params, of, installs = target.params, target.of, target.notebook[:2] in ("00", "01", "03", "90")
    objects: list[dict[str, Any]] = []
    unknown = None
    if installs:
        try:
            objects = target.rendered()
        except ConsulfedError as error:  # what is wrong with chart or values is another check's to say
            unknown = error
    rules = needs(
        params,
        of,
        objects,
        notebook=target.notebook,
        read_only=params.dry_run,
        create_namespace=not params.dry_run and not _namespace_is_there(target),
    )
    if installs and objects and not params.dry_run:
        rules += removal_rules(_installed(target), objects, of.namespace)
    return rules, unknown


def _namespace_is_there(target: Target) -> bool:
    """Where it may not be looked at, it counts as there: that it may not is found anyway."""
    try:
        return target.get("namespaces", "", target.of.namespace) is not None
    except ClusterError:
        return True


def _installed(target: Target) -> Iterable[Any]:
    try:
        release = target.release()
    except ClusterError:
        return ()
    return release.objects if release else ()


def _missing(cluster: Cluster, rights: list[Right]) -> list[Right]:
    namespaces = {right.namespace or _NOWHERE for right in rights}
    with ThreadPoolExecutor(16) as pool:
        held = dict(zip(namespaces, pool.map(partial(_held, cluster), namespaces), strict=True))
        left = [r for r in rights if r._replace(namespace="") not in held[r.namespace or _NOWHERE]]
        return [
            r
            for r, allowed in zip(left, pool.map(partial(_allowed, cluster), left), strict=True)
            if not allowed
        ]


def _held(cluster: Cluster, namespace: str) -> Held:
    """The rights that we are said to have in a namespace; none where the API server does not say."""
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    try:
        path = f"{_AUTHORIZATION}/selfsubjectrulesreviews"
        status = cluster.request("POST", path, {**kind, "spec": {"namespace": namespace}})["status"]
    except (ClusterError, KeyError):
        return Held(())
    policies = [*(status.get("resourceRules") or ()), *(status.get("nonResourceRules") or ())]
    return Held(right for policy in policies for rule in from_policy(policy) for right in rule.rights())


def _allowed(cluster: Cluster, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": right.namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "name": right.name,
    }
    spec = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
    if right.url:
        spec = {"nonResourceAttributes": {"path": right.url, "verb": right.verb}}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = cluster.request("POST", f"{_AUTHORIZATION}/selfsubjectaccessreviews", {**kind, "spec": spec})
    return bool(answer.get("status", {}).get("allowed"))


def _together(missing: Iterable[Right], whys: dict[Right, str]) -> dict[tuple[str, str, str], list[str]]:
    """The verbs that are missing, by reason, thing and place."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for right in missing:
        found.setdefault((whys[right], right.thing, right.place), []).append(right.verb)
    return found


def _remedy(target: Target, who: str) -> str:
    reads = target.params.dry_run or target.notebook.startswith("04")
    traffic = "--traffic" if target.notebook.startswith("05") else ""
    words = ["consulfed rbac PARAMS", traffic, "--read-only" if reads else "", who]
    command = " ".join(word for word in words if word)
    return f"as an administrator of {target.of.context}: {command} | kubectl --context ADMIN apply -f -"


def _who(cluster: Cluster) -> str:
    """The option of `consulfed rbac` that means us; empty where the API server does not say who we are."""
    name = user(cluster)
    if not name:
        return ""
    if name.startswith("system:serviceaccount:"):
        return f"--service-account {name.removeprefix('system:serviceaccount:').replace(':', '/')}"
    return f"--user {shlex.quote(name)}"
