"""The reviews: who am I, is this token good, may this one do that."""

from __future__ import annotations

from typing import Any

from .auth import AUDIENCE
from .cluster import Cluster
from .contracts import User
from .rbac import Attributes
from .resources import Resource
from .status import bad_request
from .store import Object, now


def review(cluster: Cluster, resource: Resource, user: User, namespace: str, body: Any) -> Object:
    """The review with its status filled in."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    if body.get("kind", resource.kind) != resource.kind:
        raise bad_request(f"{body['kind']} cannot be handled as a {resource.kind}")
    spec = body.get("spec") or {}
    answered: Object = {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {"creationTimestamp": now()} if resource.kind == "SelfSubjectReview" else {},
    }
    if resource.kind == "SelfSubjectReview":
        return answered | {"status": {"userInfo": _user_info(user)}}
    if resource.kind == "TokenReview":
        return answered | {"spec": spec, "status": _token_status(cluster, spec)}
    if resource.kind == "SelfSubjectRulesReview":
        status = _rules_status(cluster, user, spec.get("namespace", ""))
        return answered | {"spec": spec, "status": status}
    if resource.kind != "SelfSubjectAccessReview":
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
        if not user.name and not user.groups:
            raise bad_request('spec.user: Invalid value: "": at least one of user or group must be specified')
    asked = _attributes(spec)
    if resource.kind == "LocalSubjectAccessReview" and asked.namespace != namespace:
        raise bad_request("spec.resourceAttributes.namespace must match metadata.namespace")
    allowed, reason = cluster.authorizer.allowed(user, asked)
    status = {"allowed": allowed} | ({"reason": reason} if reason else {})
    return answered | {"spec": spec, "status": status}


def _attributes(spec: dict[str, Any]) -> Attributes:
    wanted: dict[str, Any] = spec.get("resourceAttributes") or {}
    path: dict[str, Any] = spec.get("nonResourceAttributes") or {}
    if bool(wanted) == bool(path):
        raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    if path:
        return Attributes(path.get("verb", ""), path=path.get("path", ""))
    return Attributes(
        wanted.get("verb", ""),
        wanted.get("group", ""),
        wanted.get("version", ""),
        wanted.get("resource", ""),
        wanted.get("subresource", ""),
        wanted.get("namespace", ""),
        wanted.get("name", ""),
    )


def _user_info(user: User) -> dict[str, Any]:
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra}
    return info


def _token_status(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    token, audiences = spec.get("token", ""), spec.get("audiences") or [AUDIENCE]
    user = cluster.authenticator.user_of(token, audiences) if token else None
    if user is None:
        return {"user": {}, "error": "[invalid bearer token, service account token is not valid]"}
    groups = (*user.groups, "system:authenticated")
    return {
        "authenticated": True,
        "user": _user_info(User(user.name, groups, user.uid, user.extra)),
        "audiences": cluster.authenticator.audiences_of(token, audiences),
    }


def _rules_status(cluster: Cluster, user: User, namespace: str) -> dict[str, Any]:
    if not namespace:
        raise bad_request("no namespace on request")
    rules = cluster.authorizer.rules_for(user, namespace)
    return {
        "resourceRules": [
            {k: rule[k] for k in ("verbs", "apiGroups", "resources", "resourceNames") if rule.get(k)}
            for rule in rules
            if rule.get("resources")
        ],
        "nonResourceRules": [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
            for rule in rules
            if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }
