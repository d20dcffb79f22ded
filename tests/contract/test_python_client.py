"""What the Python client, and so the runbook, relies on."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from .conftest import Http


def status_of(error: pytest.ExceptionInfo[ApiException]) -> dict[str, Any]:
    return json.loads(error.value.body)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def wait_until_gone(listing: Callable[..., Any], name: str, *place: str) -> None:
    """Returns when a list has no object of that name any more: looks, then watches from there."""
    selector = f"metadata.name={name}"
    found = listing(*place, field_selector=selector)
    if not found.items:
        return
    revision = found.metadata.resource_version
    for event in watch.Watch().stream(
        listing, *place, field_selector=selector, resource_version=revision, timeout_seconds=60
    ):
        if event["type"] == "DELETED":
            return
    raise AssertionError(f"{name} is still there")


def test_create_fills_in_what_the_server_knows(core: client.CoreV1Api, namespace: str) -> None:
    """A created object comes back with uid, resourceVersion, creationTimestamp and its manager."""
    made = core.create_namespaced_config_map(namespace, config_map("a", x="1"), field_manager="me")
    assert made.metadata.uid
    assert made.metadata.resource_version
    assert made.metadata.creation_timestamp
    (manager,) = made.metadata.managed_fields
    assert (manager.manager, manager.operation) == ("me", "Update")
    assert manager.fields_v1["f:data"]["f:x"] == {}


def test_create_twice_is_a_conflict(core: client.CoreV1Api, namespace: str) -> None:
    """The second creation of a name is 409 AlreadyExists."""
    core.create_namespaced_config_map(namespace, config_map("a"))
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(namespace, config_map("a"))
    assert error.value.status == 409
    status = status_of(error)
    assert status["reason"] == "AlreadyExists"
    assert status["message"] == 'configmaps "a" already exists'


def test_missing_things_are_named(core: client.CoreV1Api, namespace: str, unique: str) -> None:
    """404 says which object, or which namespace, is not there."""
    with pytest.raises(ApiException) as error:
        core.read_namespaced_secret("nope", namespace)
    assert status_of(error)["message"] == 'secrets "nope" not found'
    assert status_of(error)["details"] == {"name": "nope", "kind": "secrets"}
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(f"{unique}-x", config_map("a"))
    assert error.value.status == 404
    assert status_of(error)["message"] == f'namespaces "{unique}-x" not found'


def test_invalid_names_are_refused(core: client.CoreV1Api, namespace: str) -> None:
    """A name that is no DNS name is 422, with the field named."""
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(namespace, config_map("Not_A_Name"))
    status = status_of(error)
    assert error.value.status == 422
    assert status["reason"] == "Invalid"
    assert status["details"]["causes"][0]["field"] == "metadata.name"
    assert (
        'ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name"' in status["message"]
    )


def test_invalid_labels_are_refused(core: client.CoreV1Api, namespace: str) -> None:
    """A label value may not have a slash."""
    body = config_map("a") | {"metadata": {"name": "a", "labels": {"app": "x/y"}}}
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(namespace, body)
    assert error.value.status == 422
    assert status_of(error)["details"]["causes"][0]["field"] == "metadata.labels"


def test_generated_names(core: client.CoreV1Api, namespace: str) -> None:
    """generateName gets five characters."""
    made = core.create_namespaced_config_map(namespace, {"metadata": {"generateName": "abc-"}})
    assert len(made.metadata.name) == len("abc-") + 5


def test_replace_with_an_old_revision_is_a_conflict(core: client.CoreV1Api, namespace: str) -> None:
    """Optimistic locking: what was read before someone else wrote cannot be written."""
    first = core.create_namespaced_config_map(namespace, config_map("a", x="1"))
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    first.data["x"] = "3"
    with pytest.raises(ApiException) as error:
        core.replace_namespaced_config_map("a", namespace, first)
    assert error.value.status == 409
    assert "the object has been modified; please apply your changes to the latest version" in error.value.body


def test_a_write_that_changes_nothing_makes_no_revision(core: client.CoreV1Api, namespace: str) -> None:
    """The runbook's second run writes nothing: an equal patch leaves the resourceVersion."""
    before = core.create_namespaced_config_map(namespace, config_map("a", x="1"), field_manager="m")
    after = core.patch_namespaced_config_map("a", namespace, {"data": {"x": "1"}}, field_manager="m")
    assert after.metadata.resource_version == before.metadata.resource_version


def test_dry_run_writes_nothing(core: client.CoreV1Api, namespace: str) -> None:
    """dryRun=All answers as if it had written, with every check, and leaves nothing."""
    made = core.create_namespaced_config_map(namespace, config_map("a"), dry_run="All")
    assert made.metadata.uid
    with pytest.raises(ApiException) as error:
        core.read_namespaced_config_map("a", namespace)
    assert error.value.status == 404
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(namespace, config_map("A_"), dry_run="All")
    assert error.value.status == 422


def test_secret_data(core: client.CoreV1Api, namespace: str) -> None:
    """stringData becomes data, the type defaults to Opaque, and what is no base64 is refused."""
    made = core.create_namespaced_secret(namespace, {"metadata": {"name": "s"}, "stringData": {"k": "ä"}})
    assert base64.b64decode(made.data["k"]).decode() == "ä"
    assert made.type == "Opaque"
    assert made.string_data is None
    with pytest.raises(ApiException) as error:
        core.create_namespaced_secret(namespace, {"metadata": {"name": "t"}, "data": {"k": "not base64!"}})
    assert error.value.status in (400, 422)
    with pytest.raises(ApiException) as error:
        core.patch_namespaced_secret("s", namespace, {"type": "Other"})
    assert error.value.status == 422
    assert "field is immutable" in error.value.body


def test_selectors(core: client.CoreV1Api, namespace: str) -> None:
    """Label and field selectors narrow a list."""
    for name, tier in (("a", "web"), ("b", "db"), ("c", "")):
        labels = {"tier": tier} if tier else {}
        core.create_namespaced_config_map(namespace, {"metadata": {"name": name, "labels": labels}})

    def names(**selectors: str) -> set[str]:
        found = core.list_namespaced_config_map(namespace, **selectors).items
        return {item.metadata.name for item in found} & {"a", "b", "c"}

    assert names(label_selector="tier=web") == {"a"}
    assert names(label_selector="tier in (web,db)") == {"a", "b"}
    assert names(label_selector="tier,tier!=db") == {"a"}
    assert names(label_selector="!tier") == {"c"}
    assert names(label_selector="tier notin (web)") == {"b", "c"}
    assert names(field_selector="metadata.name=b") == {"b"}
    with pytest.raises(ApiException) as error:
        names(field_selector="data.x=1")
    assert error.value.status == 400


def test_pages(core: client.CoreV1Api, namespace: str) -> None:
    """`limit` and `continue` walk through a list without loss."""
    expected = [f"page-{n}" for n in range(5)]
    for name in expected:
        core.create_namespaced_secret(namespace, {"metadata": {"name": name, "labels": {"page": "1"}}})
    seen: list[str] = []
    token = None
    while token != "":
        options: dict[str, Any] = {"_continue": token} if token else {}
        page = core.list_namespaced_secret(namespace, label_selector="page=1", limit=2, **options)
        assert len(page.items) <= 2
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue or ""
    assert seen == expected


def test_patches(core: client.CoreV1Api, namespace: str) -> None:
    """JSON patch, merge patch and strategic merge patch each do their own."""
    core.create_namespaced_config_map(namespace, config_map("a", x="1", y="2"))
    made = core.patch_namespaced_config_map("a", namespace, [{"op": "remove", "path": "/data/x"}])
    assert made.data == {"y": "2"}
    made = core.patch_namespaced_config_map(
        "a", namespace, {"data": {"y": None, "z": "3"}}, _content_type="application/merge-patch+json"
    )
    assert made.data == {"z": "3"}
    with pytest.raises(ApiException) as error:
        core.patch_namespaced_config_map("a", namespace, [{"op": "test", "path": "/data/z", "value": "no"}])
    assert error.value.status == 422
    service = {"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}
    core.create_namespaced_service(namespace, {"metadata": {"name": "s"}, **service})
    change = {"spec": {"ports": [{"port": 81, "name": "c"}]}}
    merged = core.patch_namespaced_service(
        "s", namespace, change, _content_type="application/strategic-merge-patch+json"
    )
    assert sorted((port.name, port.port) for port in merged.spec.ports) == [("a", 80), ("c", 81)]


def apply(
    http: Http, namespace: str, body: dict[str, Any], manager: str, **query: str
) -> tuple[int, dict[str, Any]]:
    """Server-side apply of a ConfigMap or a Service."""
    plural = {"ConfigMap": "configmaps", "Service": "services"}[body["kind"]]
    path = f"/api/v1/namespaces/{namespace}/{plural}/{body['metadata']['name']}"
    return http(
        "PATCH",
        path,
        {"apiVersion": "v1", **body},
        query={"fieldManager": manager, **query},
        content_type="application/apply-patch+yaml",
    )


def test_apply_creates_owns_and_removes(http: Http, namespace: str) -> None:
    """What a manager no longer applies goes away; what others set stays."""
    base = {"kind": "ConfigMap", "metadata": {"name": "a"}}
    code, body = apply(http, namespace, base | {"data": {"x": "1", "y": "1"}}, "one")
    assert code == 201
    assert body["metadata"]["managedFields"][0]["operation"] == "Apply"
    apply(http, namespace, base | {"data": {"z": "1"}}, "two")
    code, body = apply(http, namespace, base | {"data": {"x": "1"}}, "one")
    assert code == 200
    assert body["data"] == {"x": "1", "z": "1"}


def test_apply_conflicts_name_manager_and_field(http: Http, namespace: str) -> None:
    """Another manager's field is a conflict, which `force` takes over."""
    base = {"kind": "ConfigMap", "metadata": {"name": "a"}}
    apply(http, namespace, base | {"data": {"x": "1"}}, "one")
    with pytest.raises(ApiException) as error:
        apply(http, namespace, base | {"data": {"x": "2"}}, "two")
    status = status_of(error)
    assert error.value.status == 409
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.x"}
    ]
    _, body = apply(http, namespace, base | {"data": {"x": "2"}}, "two", force="true")
    owners = {m["manager"] for m in body["metadata"]["managedFields"]}
    assert (body["data"]["x"], owners) == ("2", {"two"})
    _, body = apply(http, namespace, base | {"data": {"x": "2"}}, "three")
    assert {m["manager"] for m in body["metadata"]["managedFields"]} == {"two", "three"}


def test_apply_again_changes_nothing(http: Http, namespace: str) -> None:
    """Applying the same again leaves the resourceVersion, defaults or not."""
    ports = [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "protocol": "UDP"}]
    service = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports, "selector": {"a": "b"}}}
    _, first = apply(http, namespace, service, "one")
    _, second = apply(http, namespace, service, "one")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert first["spec"]["clusterIP"]
    fewer = {**service, "spec": {**service["spec"], "ports": ports[1:]}}  # type: ignore[dict-item]
    _, third = apply(http, namespace, fewer, "one")
    assert [port["port"] for port in third["spec"]["ports"]] == [81]
    assert third["spec"]["clusterIP"] == first["spec"]["clusterIP"]


def test_watch_goes_on_from_a_list(core: client.CoreV1Api, namespace: str) -> None:
    """Events after a list's resourceVersion come in order; leaving a selector is a deletion."""
    listed = core.list_namespaced_config_map(namespace)

    def write() -> None:
        body = {"metadata": {"name": "a", "labels": {"w": "1"}}, "data": {}}
        core.create_namespaced_config_map(namespace, body)
        core.patch_namespaced_config_map("a", namespace, {"data": {"x": "1"}})
        core.patch_namespaced_config_map("a", namespace, {"metadata": {"labels": {"w": None}}})

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map,
        namespace,
        label_selector="w=1",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=20,
    ):
        seen.append(event["type"])
        if len(seen) == 3:
            stream.stop()
    writer.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_watch_ends_at_its_timeout(http: Http, namespace: str) -> None:
    """timeoutSeconds ends a watch that sees nothing."""
    path = f"/api/v1/namespaces/{namespace}/secrets?watch=true&timeoutSeconds=1&labelSelector=none%3Dhere"
    assert http("GET", path) == (200, "")


def test_deletion_waits_for_finalizers(core: client.CoreV1Api, namespace: str) -> None:
    """An object with a finalizer stays, marked, until the finalizer is gone."""
    core.create_namespaced_config_map(
        namespace, {"metadata": {"name": "a", "finalizers": ["consulfed.example/hold"]}}
    )
    core.delete_namespaced_config_map("a", namespace)
    held = core.read_namespaced_config_map("a", namespace)
    assert held.metadata.deletion_timestamp
    core.patch_namespaced_config_map("a", namespace, {"metadata": {"finalizers": None}})
    with pytest.raises(ApiException) as error:
        core.read_namespaced_config_map("a", namespace)
    assert error.value.status == 404


def test_deletion_with_the_wrong_uid_is_refused(core: client.CoreV1Api, namespace: str) -> None:
    """A precondition keeps a successor of the same name from being deleted."""
    core.create_namespaced_config_map(namespace, config_map("a"))
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    with pytest.raises(ApiException) as error:
        core.delete_namespaced_config_map("a", namespace, body=options)
    assert error.value.status == 409
    assert "Precondition failed: UID in precondition: another" in error.value.body


def test_what_is_owned_goes_with_its_owner(core: client.CoreV1Api, namespace: str) -> None:
    """The garbage collector deletes what the deleted object owned; orphans stay."""
    for policy in ("Background", "Orphan"):
        owner = core.create_namespaced_config_map(namespace, config_map(f"owner-{policy.lower()}"))
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner.metadata.name,
            "uid": owner.metadata.uid,
        }
        body = {"metadata": {"name": f"owned-{policy.lower()}", "ownerReferences": [reference]}}
        core.create_namespaced_config_map(namespace, body)
        core.delete_namespaced_config_map(owner.metadata.name, namespace, propagation_policy=policy)
        if policy == "Background":
            wait_until_gone(core.list_namespaced_config_map, "owned-background", namespace)
    assert core.read_namespaced_config_map("owned-orphan", namespace)


def test_namespaces_end(core: client.CoreV1Api, unique: str) -> None:
    """Deleting a namespace deletes what is in it, and creating in it meanwhile is forbidden or too late."""
    core.create_namespace({"metadata": {"name": unique}})
    core.create_namespaced_config_map(unique, config_map("a"))
    core.delete_namespace(unique)
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map(unique, config_map("b"))
    assert error.value.status in (403, 404)
    wait_until_gone(core.list_namespace, unique)


def test_default_namespaces(core: client.CoreV1Api) -> None:
    """kube-system is there, and its uid tells clusters apart."""
    assert core.read_namespace("kube-system").metadata.uid
    with pytest.raises(ApiException) as error:
        core.delete_namespace("kube-system", dry_run="All")
    assert error.value.status == 403


def test_service_addresses(core: client.CoreV1Api, namespace: str) -> None:
    """A Service gets a cluster IP that cannot change; node ports are unique."""
    ports = {"ports": [{"port": 80}]}
    first = core.create_namespaced_service(
        namespace, {"metadata": {"name": "a"}, "spec": {"type": "NodePort", **ports}}
    )
    node_port = first.spec.ports[0].node_port
    assert 1 <= node_port <= 65535
    assert first.spec.ports[0].target_port == 80
    taken = {"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]}
    with pytest.raises(ApiException) as error:
        core.create_namespaced_service(namespace, {"metadata": {"name": "b"}, "spec": taken})
    assert error.value.status == 422
    assert "provided port is already allocated" in error.value.body
    with pytest.raises(ApiException) as error:
        core.patch_namespaced_service("a", namespace, {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})
    assert error.value.status == 422


def stateful_set(name: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.9"}]},
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def test_stateful_sets_are_defaulted_and_partly_immutable(api: client.ApiClient, namespace: str) -> None:
    """The update strategy defaults to RollingUpdate; most of the spec cannot change; generation counts."""
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_stateful_set(namespace, stateful_set("s"))
    assert made.spec.update_strategy.type == "RollingUpdate"
    assert made.spec.update_strategy.rolling_update.partition == 0
    assert made.metadata.generation == 1
    with pytest.raises(ApiException) as error:
        apps.patch_namespaced_stateful_set("s", namespace, {"spec": {"serviceName": "other"}})
    assert error.value.status == 422
    assert "updates to statefulset spec for fields other than 'replicas'" in error.value.body
    changed = apps.patch_namespaced_stateful_set(
        "s", namespace, {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}
    )
    assert changed.metadata.generation == 2
    labels = apps.patch_namespaced_stateful_set("s", namespace, {"metadata": {"labels": {"x": "y"}}})
    assert labels.metadata.generation == 2
    scale = apps.read_namespaced_stateful_set_scale("s", namespace)
    assert scale.spec.replicas == 0


def test_selector_must_match_the_template(api: client.ApiClient, namespace: str) -> None:
    """A workload whose selector misses its own pods is refused."""
    body = stateful_set("s")
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(ApiException) as error:
        client.AppsV1Api(api).create_namespaced_stateful_set(namespace, body)
    assert error.value.status == 422
    assert "`selector` does not match template `labels`" in error.value.body


def test_status_is_a_place_of_its_own(api: client.ApiClient, namespace: str) -> None:
    """A write of the object leaves the status, a write of the status leaves the object."""
    policy = client.PolicyV1Api(api)
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"none": "here"}}}
    body = {"metadata": {"name": "b"}, "spec": spec, "status": {"expectedPods": 7}}
    policy.create_namespaced_pod_disruption_budget(namespace, body)
    held = policy.read_namespaced_pod_disruption_budget("b", namespace)
    assert (held.status.expected_pods if held.status else 0) != 7
    change = {"spec": {"maxUnavailable": 9}, "metadata": {"labels": {"x": "y"}}}
    policy.patch_namespaced_pod_disruption_budget_status("b", namespace, change)
    held = policy.read_namespaced_pod_disruption_budget("b", namespace)
    assert held.spec.max_unavailable == 1


def test_role_references_cannot_change(api: client.ApiClient, namespace: str) -> None:
    """A binding's roleRef is fixed."""
    rbac = client.RbacAuthorizationV1Api(api)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]
    rbac.create_namespaced_role_binding(
        namespace, {"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects}
    )
    with pytest.raises(ApiException) as error:
        rbac.patch_namespaced_role_binding("b", namespace, {"roleRef": {"name": "other"}})
    assert error.value.status == 422
    assert "cannot change roleRef" in error.value.body


def test_wrong_verbs_and_bodies_have_their_codes(http: Http, namespace: str) -> None:
    """What there is not answers 404, 405, 406 or 415 with a Status, never with 200."""

    def call(method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        with pytest.raises(ApiException) as error:
            http(method, path, body, **headers)
        status = status_of(error)
        assert (status["kind"], status["status"]) == ("Status", "Failure")
        assert status["code"] == error.value.status
        return status

    base = f"/api/v1/namespaces/{namespace}"
    assert call("GET", f"{base}/nothings")["code"] == 404
    with pytest.raises(ApiException) as error:
        http("GET", "/apis/nothing.example/v1")  # a real server's answer is plain text here
    assert error.value.status == 404
    assert call("GET", f"{base}/configmaps/kube-root-ca.crt/scale")["code"] == 404
    assert call("POST", "/api/v1/configmaps", {})["code"] == 405
    assert call("PUT", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {})["code"] == 405
    assert call("GET", f"{base}/configmaps", Accept="application/nothing")["code"] == 406
    assert call("PATCH", f"{base}/configmaps/x", {})["code"] == 415


def test_bad_tokens_are_refused(api: client.ApiClient) -> None:
    """A token that no one issued is 401, not anonymous."""
    configuration = client.Configuration()
    configuration.host = api.configuration.host
    configuration.ssl_ca_cert = api.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": "Bearer nobody"}
    with client.ApiClient(configuration) as other, pytest.raises(ApiException) as error:
        client.CoreV1Api(other).list_namespace()
    assert error.value.status == 401
    assert status_of(error)["reason"] == "Unauthorized"
