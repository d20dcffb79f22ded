"""What each may do in a cluster: RBAC as Kubernetes evaluates it, and reviews that say the same as the authorizer.

As in plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac and component-helpers/auth/rbac/validation of Kubernetes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kubernetes import client

from .conftest import Command
from .test_server import JOE, MAPS, Client, Start, config_map, run, start

__all__ = ["start"]

GROUP = "rbac.authorization.k8s.io"
RBAC = f"/apis/{GROUP}/v1"
ROLES, BINDINGS = (f"{RBAC}/namespaces/default/{plural}" for plural in ("roles", "rolebindings"))
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}


def role(name: str, *rules: dict[str, Any], kind: str = "Role", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": kind,
        "metadata": {"name": name},
        "rules": list(rules),
        **more,
    }


def binding(name: str, bound: str, kind: str = "Role", of: str = "RoleBinding") -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": of,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": bound},
        "subjects": [{"kind": "User", "name": "joe", "apiGroup": GROUP}],
    }


async def give(call: Client, *rules: dict[str, Any], everywhere: bool = False) -> None:
    """Rights for joe: in the namespace `default`, or in the whole cluster."""
    if everywhere:
        await call("POST", f"{RBAC}/clusterroles", role("his", *rules, kind="ClusterRole"))
        made = binding("his", "his", "ClusterRole", "ClusterRoleBinding")
        assert (await call("POST", f"{RBAC}/clusterrolebindings", made))[0] == 201
    else:
        await call("POST", ROLES, role("his", *rules))
        assert (await call("POST", BINDINGS, binding("his", "his")))[0] == 201


def writes(*resources: str) -> dict[str, Any]:
    return {"apiGroups": [GROUP], "resources": list(resources), "verbs": ["get", "create", "update", "patch"]}


def scene(start: Start, act: Callable[[Client], Awaitable[None]]) -> None:
    async def acted() -> None:
        async with start() as call:
            await act(call)

    run(acted)


def test_an_apply_that_creates_takes_the_right_to_create(start: Start) -> None:
    """It comes in as a patch; who may only patch may not make objects with it."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}

    async def act(call: Client) -> None:
        await give(call, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]})
        how = {"token": JOE, "Content_Type": "application/apply-patch+yaml"}
        code, status = await call("PATCH", f"{MAPS}/a?fieldManager=t", body, **how)
        assert code == 403
        assert (
            'User "joe" cannot create resource "configmaps" in API group "" in the namespace "default"'
            in (status["message"])
        )
        await call("POST", MAPS, config_map("a"))
        assert (await call("PATCH", f"{MAPS}/a?fieldManager=t&force=true", body, **how))[0] == 200

    scene(start, act)


def test_a_role_is_refused_with_each_right_that_is_missing(start: Start) -> None:
    """Taken apart to single rights, and put together again by what they are about."""

    async def act(call: Client) -> None:
        await give(call, writes("roles"), {**SECRETS, "verbs": ["get"]})
        pods = {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}
        named = {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "verbs": ["get"],
            "resourceNames": ["a", "b"],
        }
        code, status = await call("POST", ROLES, role("more", SECRETS, pods, named), token=JOE)
        assert code == 403
        assert status["message"].splitlines()[1:] == [
            '{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}',
            '{APIGroups:[""], Resources:["pods/log"], Verbs:["get" "list"]}',
            '{APIGroups:[""], Resources:["secrets"], Verbs:["list"]}',
            '{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["a"], Verbs:["get"]}',
            '{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["b"], Verbs:["get"]}',
        ]

    scene(start, act)


@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        ({"resources": ["*"]}, {"resources": ["pods/exec"]}, True),
        ({"resources": ["*/exec"]}, {"resources": ["pods/exec"]}, True),
        ({"resources": ["pods"]}, {"resources": ["pods/exec"]}, False),
        (
            {"resources": ["pods"], "resourceNames": ["a", "b"]},
            {"resources": ["pods"], "resourceNames": ["a"]},
            True,
        ),
        ({"resources": ["pods"], "resourceNames": ["a"]}, {"resources": ["pods"]}, False),
        ({"resources": ["pods"], "verbs": ["get", "list"]}, {"resources": ["pods"], "verbs": ["*"]}, False),
        ({"resources": ["pods"], "apiGroups": ["*"]}, {"resources": ["pods"]}, True),
        ({"resources": ["pods"]}, {"resources": ["*"]}, False),
    ],
)
def test_what_covers_what(start: Start, held: dict[str, Any], wanted: dict[str, Any], allowed: bool) -> None:
    """A star covers all, a subresource is not its resource, a name is less than all names."""
    plain = {"apiGroups": [""], "verbs": ["get"]}

    async def act(call: Client) -> None:
        await give(call, writes("roles"), {**plain, **held})
        code, _ = await call("POST", ROLES, role("new", {**plain, **wanted}), token=JOE)
        assert code == (201 if allowed else 403)

    scene(start, act)


def test_rights_in_a_namespace_make_no_cluster_role(start: Start) -> None:
    """What a ClusterRole grants must be held in the whole cluster."""

    async def act(call: Client) -> None:
        await give(call, SECRETS)
        await give(call, writes("clusterroles"), everywhere=True)
        new = role("new", SECRETS, kind="ClusterRole")
        assert (await call("POST", f"{RBAC}/clusterroles", new, token=JOE))[0] == 403
        assert (await call("POST", f"{RBAC}/clusterroles", role("less", kind="ClusterRole"), token=JOE))[
            0
        ] == 201

    scene(start, act)


def test_binding_a_role_that_is_not_there_is_not_found(start: Start) -> None:
    """What it would grant once it is there cannot be known; who may `bind` it may all the same."""

    async def act(call: Client) -> None:
        await give(call, writes("rolebindings"))
        code, status = await call("POST", BINDINGS, binding("b", "ghost"), token=JOE)
        assert (code, status["message"]) == (404, f'roles.{GROUP} "ghost" not found')
        bind = {"apiGroups": [GROUP], "resources": ["roles"], "verbs": ["bind"], "resourceNames": ["ghost"]}
        assert (await call("PUT", f"{ROLES}/his", role("his", writes("rolebindings"), bind)))[0] == 200
        assert (await call("POST", BINDINGS, binding("b", "ghost"), token=JOE))[0] == 201

    scene(start, act)


def test_the_right_to_escalate_exempts(start: Start) -> None:
    """By name only where the request names the role: a creation by POST does not."""

    async def act(call: Client) -> None:
        escalate = {
            "apiGroups": [GROUP],
            "resources": ["roles"],
            "verbs": ["escalate"],
            "resourceNames": ["new"],
        }
        await give(call, writes("roles"), escalate)
        assert (await call("POST", ROLES, role("new", SECRETS), token=JOE))[0] == 403
        how = {"token": JOE, "Content_Type": "application/apply-patch+yaml"}
        code, _ = await call("PATCH", f"{ROLES}/new?fieldManager=t", role("new", SECRETS), **how)
        assert code == 201
        assert (await call("PATCH", f"{ROLES}/other?fieldManager=t", role("other", SECRETS), **how))[0] == 403

    scene(start, act)


def test_any_change_of_a_stronger_role_is_checked(start: Start) -> None:
    """A label, too; only what a garbage collector changes is not."""

    async def act(call: Client) -> None:
        await give(call, writes("roles"))
        await call("POST", ROLES, role("strong", SECRETS))
        merge = {"token": JOE, "Content_Type": "application/merge-patch+json"}
        change = {"metadata": {"labels": {"a": "b"}}}
        assert (await call("PATCH", f"{ROLES}/strong", change, **merge))[0] == 403
        change = {"metadata": {"finalizers": ["example.com/wait"]}}
        assert (await call("PATCH", f"{ROLES}/strong", change, **merge))[0] == 200

    scene(start, act)


def test_only_who_may_do_everything_makes_aggregating_roles(start: Start) -> None:
    """Such a role gets rights that nobody has looked at."""

    async def act(call: Client) -> None:
        await give(call, writes("clusterroles"), everywhere=True)
        selectors = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
        new = role("new", kind="ClusterRole", aggregationRule=selectors)
        code, status = await call("POST", f"{RBAC}/clusterroles", new, token=JOE)
        assert code == 403
        assert "must have cluster-admin privileges to use the aggregationRule" in status["message"]

    scene(start, act)


def test_who_may_only_get_opens_no_stream_into_a_pod(start: Start) -> None:
    """A WebSocket begins with a GET; reading rights must not become a shell with it."""
    streams = {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["get"]}

    async def act(call: Client) -> None:
        await give(call, streams)
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await call("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        pods = "/api/v1/namespaces/default/pods"
        assert (await call("POST", pods, {"apiVersion": "v1", "kind": "Pod", **pod}))[0] == 201
        for stream in ("exec?command=id&stdout=true", "portforward?ports=80"):
            code, status = await call("GET", f"{pods}/p/{stream}", token=JOE)
            assert code == 403
            assert f'cannot create resource "pods/{stream.partition("?")[0]}"' in status["message"]

    scene(start, act)


def test_a_list_of_one_name_takes_the_right_to_that_name_only(start: Start) -> None:
    """`resourceNames` with a field selector, as `kubectl get --watch NAME` asks."""
    named = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "verbs": ["list", "watch"],
        "resourceNames": ["a"],
    }

    async def act(call: Client) -> None:
        await give(call, named)
        assert (await call("GET", f"{MAPS}?fieldSelector=metadata.name%3Da", token=JOE))[0] == 200
        assert (await call("GET", f"{MAPS}?fieldSelector=metadata.name%3Db", token=JOE))[0] == 403
        assert (await call("GET", MAPS, token=JOE))[0] == 403

    scene(start, act)


def test_the_reviews_say_what_the_authorizer_does(start: Start) -> None:
    """SelfSubjectRulesReview lists the rules of a namespace and of the cluster, others' namespaces are left out."""
    named = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]}
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    probes = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    path = "/apis/authorization.k8s.io/v1/selfsubject{}reviews"

    async def act(call: Client) -> None:
        await give(call, named)
        await give(call, nodes, probes, everywhere=True)

        async def rules(namespace: str) -> dict[str, Any]:
            code, answer = await call(
                "POST", path.format("rules"), {"spec": {"namespace": namespace}}, token=JOE
            )
            assert code == 201
            return answer["status"]

        async def may(**asked: str) -> bool:
            spec = {"spec": {"resourceAttributes": asked}}
            return (await call("POST", path.format("access"), spec, token=JOE))[1]["status"]["allowed"]

        here, nowhere = await rules("default"), await rules("no-such-namespace")
        assert here["incomplete"] is False
        assert named in here["resourceRules"]
        assert nodes in here["resourceRules"]
        assert named not in nowhere["resourceRules"]
        assert nodes in nowhere["resourceRules"]
        assert probes in nowhere["nonResourceRules"]
        assert await may(verb="get", resource="pods", name="a", namespace="default")
        assert not await may(verb="get", resource="pods", name="b", namespace="default")
        assert not await may(verb="get", resource="pods", namespace="default")
        assert not await may(verb="get", resource="pods", subresource="log", name="a", namespace="default")
        assert not await may(verb="get", resource="pods", name="a", namespace="kube-system")
        assert await may(verb="list", resource="nodes")

    scene(start, act)


def test_kubectl_lists_the_rights_of_an_account(
    kubectl: Command, api: client.ApiClient, namespace: str
) -> None:
    """`auth can-i --list` shows each thing that a rule names, on a real cluster as here."""
    rbac = client.RbacAuthorizationV1Api(api)
    kubectl("-n", namespace, "create", "serviceaccount", "a")
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one", "two"]}
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "r"}, "rules": [rule]})
    kubectl("-n", namespace, "create", "rolebinding", "b", "--role=r", f"--serviceaccount={namespace}:a")
    account = f"--as=system:serviceaccount:{namespace}:a"
    listed = kubectl("auth", "can-i", "--list", "-n", namespace, account).stdout
    assert sorted(line.split() for line in listed.splitlines() if line.startswith("secrets")) == [
        ["secrets", "[]", "[one]", "[get]"],
        ["secrets", "[]", "[two]", "[get]"],
    ]
    assert kubectl("auth", "can-i", "get", "secrets/one", "-n", namespace, account).stdout == "yes\n"
    assert kubectl("auth", "can-i", "get", "secrets", "-n", namespace, account, fails=True).stdout == "no\n"
    refused = kubectl("-n", namespace, "get", "secret", "three", account, fails=True)
    assert "Forbidden" in refused.stderr
    assert json.loads(kubectl("-n", namespace, "get", "role", "r", "-o", "json").stdout)["rules"] == [rule]
