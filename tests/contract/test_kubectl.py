"""What kubectl relies on."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from .conftest import Command, Target
from .emulator import Emulator

PAUSE = "registry.k8s.io/pause:3.9"


def manifest(kind: str, name: str, **rest: object) -> str:
    """One object as YAML."""
    versions = {"Deployment": "apps/v1", "CustomResourceDefinition": "apiextensions.k8s.io/v1"}
    body = {"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": {"name": name}, **rest}
    return yaml.safe_dump(body)


def deployment(name: str, image: str = PAUSE, replicas: int = 1) -> str:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return manifest("Deployment", name, spec=spec)


def test_version_and_resources(kubectl: Command) -> None:
    """Discovery: short names, groups and verbs are known."""
    assert json.loads(kubectl("version", "-o", "json").stdout)["serverVersion"]["gitVersion"].startswith(
        "v1."
    )
    listed = kubectl("api-resources", "--no-headers").stdout
    assert re.search(r"^statefulsets\s+sts\s+apps/v1\s+true\s+StatefulSet$", listed, re.MULTILINE)
    assert re.search(r"^namespaces\s+ns\s+v1\s+false\s+Namespace$", listed, re.MULTILINE)
    assert "policy/v1" in kubectl("api-versions").stdout.split()


def test_who_and_what_one_may(kubectl: Command, namespace: str) -> None:
    """auth whoami names a user; auth can-i answers yes for oneself and no for one without rights."""
    assert "Username" in kubectl("auth", "whoami").stdout
    assert kubectl("auth", "can-i", "create", "secrets", "-n", namespace).stdout == "yes\n"
    account = f"--as=system:serviceaccount:{namespace}:nobody"
    denied = kubectl("auth", "can-i", "list", "secrets", "-n", namespace, account, fails=True)
    assert denied.stdout == "no\n"
    assert "configmaps" not in kubectl("auth", "can-i", "--list", "-n", namespace, account).stdout


def test_forbidden_names_user_verb_and_resource(kubectl: Command, namespace: str) -> None:
    """403 tells who may not do what where."""
    user = f"system:serviceaccount:{namespace}:nobody"
    done = kubectl("get", "secrets", "-n", namespace, f"--as={user}", fails=True)
    assert done.stderr.startswith(
        f'Error from server (Forbidden): secrets is forbidden: User "{user}" cannot list resource "secrets" '
        f'in API group "" in the namespace "{namespace}"'
    )


def test_roles_grant_what_they_say(kubectl: Command, namespace: str) -> None:
    """A Role binding grants its verbs on its resources, and no others."""
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", "-n", namespace)
    account = f"--serviceaccount={namespace}:reader"
    kubectl("create", "rolebinding", "reader", "--role=reader", account, "-n", namespace)
    user = f"--as=system:serviceaccount:{namespace}:reader"
    kubectl("get", "configmaps", "-n", namespace, user)
    kubectl("get", "secrets", "-n", namespace, user, fails=True)
    kubectl("create", "configmap", "x", "-n", namespace, user, fails=True)


def test_create_writes_protobuf(kubectl: Command, namespace: str) -> None:
    """What kubectl makes with typed clients arrives whole: it sends these as protobuf."""
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v", "-n", namespace)
    assert kubectl("get", "secret", "s", "-n", namespace, "-o", "jsonpath={.data.k}").stdout == "dg=="
    kubectl("create", "configmap", "c", "--from-literal=k=v", "-n", namespace)
    assert kubectl("get", "cm", "c", "-n", namespace, "-o", "jsonpath={.data.k}").stdout == "v"
    kubectl("create", "service", "loadbalancer", "l", "--tcp=80:8080", "-n", namespace)
    target = kubectl("get", "svc", "l", "-n", namespace, "-o", "jsonpath={.spec.ports[0].targetPort}").stdout
    assert target == "8080"
    kubectl("create", "deployment", "d", f"--image={PAUSE}", "--replicas=0", "-n", namespace)
    image = "jsonpath={.spec.template.spec.containers[0].image} {.spec.replicas}"
    assert kubectl("get", "deploy", "d", "-n", namespace, "-o", image).stdout == f"{PAUSE} 0"
    kubectl("create", "job", "j", f"--image={PAUSE}", "-n", namespace)
    kubectl("create", "quota", "q", "--hard=pods=4", "-n", namespace)
    kubectl("create", "poddisruptionbudget", "p", "--selector=a=b", "--min-available=50%", "-n", namespace)
    minimum = kubectl("get", "pdb", "p", "-n", namespace, "-o", "jsonpath={.spec.minAvailable}").stdout
    assert minimum == "50%"


def test_tokens_of_service_accounts(kubectl: Command, target: Target, namespace: str) -> None:
    """`create token` gives a token that is its account's, with the rights of its groups, until it is gone."""
    kubectl("create", "serviceaccount", "a", "-n", namespace)
    token = kubectl("create", "token", "a", "-n", namespace).stdout.strip()
    who = kubectl(f"--token={token}", "auth", "whoami", "-o", "json")
    # The kubeconfig's own credentials may win over --token on a real cluster with client certificates.
    user = json.loads(who.stdout)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:a" or target.emulator is None
    assert "system:authenticated" in user["groups"]


def test_apply_get_and_delete(kubectl: Command, namespace: str) -> None:
    """Client-side apply: created, unchanged, configured; what left the file leaves the object."""
    first = manifest("ConfigMap", "c", data={"x": "1", "y": "1"})
    assert kubectl("apply", "-n", namespace, "-f-", stdin=first).stdout == "configmap/c created\n"
    assert kubectl("apply", "-n", namespace, "-f-", stdin=first).stdout == "configmap/c unchanged\n"
    second = manifest("ConfigMap", "c", data={"x": "2"})
    assert kubectl("apply", "-n", namespace, "-f-", stdin=second).stdout == "configmap/c configured\n"
    data = json.loads(kubectl("get", "cm", "c", "-n", namespace, "-o", "json").stdout)["data"]
    assert data == {"x": "2"}
    assert kubectl("delete", "cm", "c", "-n", namespace).stdout.startswith('configmap "c" deleted')
    assert "NotFound" in kubectl("get", "cm", "c", "-n", namespace, fails=True).stderr


def test_get_sorted_by_a_field(kubectl: Command, namespace: str) -> None:
    """--sort-by needs the whole object in each row of the table."""
    for name, order in (("a", "2"), ("b", "1")):
        labels = {"labels": {"sorted": "yes"}}
        item = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, **labels},
            "data": {"order": order},
        }
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(item))
    words = ("get", "cm", "-l", "sorted=yes", "-n", namespace, "--no-headers", "--sort-by=.data.order")
    assert [line.split()[0] for line in kubectl(*words).stdout.splitlines()] == ["b", "a"]


def test_client_side_apply_merges_lists_by_key(kubectl: Command, namespace: str) -> None:
    """Applying a changed Deployment touches what changed in it: containers, variables, ports, volumes."""

    def body(containers: str, volume: str) -> str:
        found = yaml.safe_load(deployment("web", replicas=0))
        spec = found["spec"]["template"]["spec"]
        spec["containers"], spec["volumes"] = (
            yaml.safe_load(containers),
            [{"name": "v", **yaml.safe_load(volume)}],
        )
        return yaml.safe_dump(found)

    first = """
    - {name: one, image: i1, env: [{name: A, value: a}, {name: B, value: b}], ports: [{containerPort: 80}]}
    - {name: two, image: i2}
    """
    second = """
    - {name: one, image: i1.1, env: [{name: B, value: bb}, {name: C, value: c}], ports: [{containerPort: 81}]}
    - {name: three, image: i3}
    """
    kubectl("apply", "-n", namespace, "-f-", stdin=body(first, "{emptyDir: {}}"))
    done = kubectl("apply", "-n", namespace, "-f-", stdin=body(second, "{secret: {secretName: s}}"))
    assert (done.stdout, done.stderr) == ("deployment.apps/web configured\n", "")
    got = json.loads(kubectl("get", "deploy", "web", "-n", namespace, "-o", "json").stdout)
    spec = got["spec"]["template"]["spec"]
    one, three = spec["containers"]
    assert (one["image"], three["image"]) == ("i1.1", "i3")
    assert one["env"] == [{"name": "B", "value": "bb"}, {"name": "C", "value": "c"}]
    assert one["ports"] == [{"containerPort": 81, "protocol": "TCP"}]
    assert spec["volumes"] == [{"name": "v", "secret": {"defaultMode": 420, "secretName": "s"}}]


def test_eviction(kubectl: Command, core: client.CoreV1Api, namespace: str, image: str) -> None:
    """An eviction deletes the pod, unless a disruption budget that allows none covers it."""
    body = manifest(
        "Pod", "p", spec={"containers": [{"name": "c", "image": image, "args": ["sleep", "600"]}]}
    )
    kubectl("apply", "-n", namespace, "-f-", stdin=body)
    kubectl("wait", "pod/p", "--for=condition=Ready", "-n", namespace, "--timeout=120s")
    kubectl("label", "pod", "p", "guarded=yes", "-n", namespace)
    kubectl("create", "pdb", "b", "--selector=guarded=yes", "--min-available=1", "-n", namespace)
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="p", namespace=namespace))
    with pytest.raises(ApiException) as error:
        core.create_namespaced_pod_eviction("p", namespace, eviction)
    assert error.value.status == 429
    assert "violate the pod's disruption budget" in error.value.body
    kubectl("delete", "pdb", "b", "-n", namespace)
    core.create_namespaced_pod_eviction("p", namespace, eviction)
    kubectl("wait", "pod/p", "--for=delete", "-n", namespace, "--timeout=120s")


def test_server_side_apply(kubectl: Command, namespace: str) -> None:
    """Server-side apply: conflicts are told, and can be forced; a dry run changes nothing."""
    first = manifest("ConfigMap", "c", data={"x": "1"})
    ssa = ("apply", "--server-side", "-n", namespace, "-f-")
    assert kubectl(*ssa, stdin=first).stdout == "configmap/c serverside-applied\n"
    second = manifest("ConfigMap", "c", data={"x": "2"})
    told = kubectl(*ssa, "--field-manager=other", stdin=second, fails=True).stderr
    assert 'conflict with "kubectl": .data.x' in told
    kubectl(*ssa, "--field-manager=other", "--force-conflicts", "--dry-run=server", stdin=second)
    assert kubectl("get", "cm", "c", "-n", namespace, "-o", "jsonpath={.data.x}").stdout == "1"
    kubectl(*ssa, "--field-manager=other", "--force-conflicts", stdin=second)
    assert kubectl("get", "cm", "c", "-n", namespace, "-o", "jsonpath={.data.x}").stdout == "2"


def test_client_side_apply_moves_to_server_side(kubectl: Command, namespace: str) -> None:
    """An object that was applied by the client is taken over by server-side apply without conflict."""
    body = manifest("ConfigMap", "c", data={"x": "1"})
    kubectl("apply", "-n", namespace, "-f-", stdin=body)
    changed = manifest("ConfigMap", "c", data={"x": "2"})
    kubectl("apply", "--server-side", "-n", namespace, "-f-", stdin=changed)
    managed = json.loads(
        kubectl("get", "cm", "c", "-n", namespace, "-o", "json", "--show-managed-fields").stdout
    )["metadata"]["managedFields"]
    owners = {entry["manager"] for entry in managed if "f:data" in entry["fieldsV1"]}
    assert owners == {"kubectl"}


def test_unknown_fields_are_refused(kubectl: Command, namespace: str) -> None:
    """kubectl asks for strict validation: a field that the kind does not have is an error."""
    body = manifest("ConfigMap", "c", dta={"x": "1"})
    told = kubectl("apply", "-n", namespace, "-f-", stdin=body, fails=True).stderr
    assert 'unknown field "dta"' in told


def test_patch_label_and_annotate(kubectl: Command, namespace: str) -> None:
    """The small changes, each with its kind of patch."""
    kubectl("create", "configmap", "c", "--from-literal=a=1", "-n", namespace)
    kubectl("label", "cm", "c", "x=y", "-n", namespace)
    kubectl("annotate", "cm", "c", "note=z", "-n", namespace)
    kubectl("patch", "cm", "c", "-n", namespace, "-p", '{"data":{"b":"2"}}')
    operation = '[{"op":"replace","path":"/data/a","value":"3"}]'
    kubectl("patch", "cm", "c", "-n", namespace, "--type=json", "-p", operation)
    kubectl("patch", "cm", "c", "-n", namespace, "--type=merge", "-p", '{"metadata":{"labels":{"x":null}}}')
    got = json.loads(kubectl("get", "cm", "c", "-n", namespace, "-o", "json").stdout)
    assert got["data"] == {"a": "3", "b": "2"}
    assert got["metadata"]["annotations"] == {"note": "z"}
    assert "labels" not in got["metadata"]


def test_columns(kubectl: Command, namespace: str) -> None:
    """`get` prints the columns that the server makes."""
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v", "-n", namespace)
    lines = kubectl("get", "secrets", "s", "-n", namespace).stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "DATA", "AGE"]
    assert lines[1].split()[:3] == ["s", "Opaque", "1"]
    assert re.search(r"^default\s+Active\s", kubectl("get", "ns").stdout, re.MULTILINE)
    assert "secret/s" in kubectl("get", "secrets", "-A", "-o", "name").stdout.split()
    assert "No resources found" in kubectl("get", "sts", "-n", namespace).stderr


def test_describe(kubectl: Command, namespace: str) -> None:
    """`describe` finds an object and its events."""
    kubectl("create", "configmap", "c", "--from-literal=a=1", "-n", namespace)
    shown = kubectl("describe", "cm", "c", "-n", namespace).stdout
    assert re.search(r"^Name:\s+c$", shown, re.MULTILINE)
    assert "Events:  <none>" in shown


def test_rollout_wait_and_scale(kubectl: Command, namespace: str) -> None:
    """A Deployment rolls out; `wait` sees its condition; `scale` and `set image` change it."""
    kubectl("apply", "-n", namespace, "-f-", stdin=deployment("web", replicas=0))
    kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=60s")
    kubectl("wait", "deploy/web", "--for=condition=Available", "-n", namespace, "--timeout=60s")
    kubectl("set", "image", "deploy/web", "main=registry.k8s.io/pause:3.10", "-n", namespace)
    kubectl("scale", "deploy/web", "--replicas=0", "-n", namespace)
    kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=60s")
    kubectl("rollout", "restart", "deploy/web", "-n", namespace)
    kubectl("delete", "deploy/web", "-n", namespace, "--timeout=60s")
    kubectl("wait", "deploy/web", "--for=delete", "-n", namespace, "--timeout=60s")


def test_wait_sees_what_happens_later(kubectl: Command, core: client.CoreV1Api, namespace: str) -> None:
    """`wait` watches: it returns when the value comes, and fails at its timeout when it does not."""
    kubectl("create", "configmap", "c", "-n", namespace)
    timer = threading.Timer(
        0.5, core.patch_namespaced_config_map, ("c", namespace, {"data": {"state": "done"}})
    )
    timer.start()
    kubectl("wait", "cm/c", "--for=jsonpath={.data.state}=done", "-n", namespace, "--timeout=30s")
    timer.join()
    late = ("wait", "cm/c", "--for=jsonpath={.data.state}=never", "-n", namespace, "--timeout=1s")
    assert "timed out waiting for the condition" in kubectl(*late, fails=True).stderr


def definition(group: str) -> str:
    text = {"type": "string"}
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": ["local", "remote"], "default": "local"},
            "tags": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": text, "value": text},
                },
            },
        },
    }
    status = {"type": "object", "properties": {"phase": text}}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
    }
    names = {"plural": "boxes", "singular": "box", "kind": "Box", "shortNames": ["bx"]}
    return manifest(
        "CustomResourceDefinition",
        f"boxes.{group}",
        spec={"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    )


@pytest.fixture
def box_group(kubectl: Command, unique: str) -> Iterator[str]:
    """A group of its own with one custom resource, `boxes`."""
    group = f"{unique}.example.com"
    kubectl("apply", "-f-", stdin=definition(group))
    kubectl("wait", f"crd/boxes.{group}", "--for=condition=Established", "--timeout=60s")
    yield group
    kubectl("delete", "crd", f"boxes.{group}", "--ignore-not-found", "--timeout=60s")


def box(group: str, name: str = "b", **spec: object) -> str:
    return yaml.safe_dump(
        {"apiVersion": f"{group}/v1alpha1", "kind": "Box", "metadata": {"name": name}, "spec": spec}
    )


def test_custom_resources(kubectl: Command, namespace: str, box_group: str) -> None:
    """A CRD's objects are defaulted, validated, listed with its columns, and go with it."""
    kubectl("apply", "-n", namespace, "-f-", stdin=box(box_group, size=3))
    got = json.loads(kubectl("get", f"boxes.{box_group}", "b", "-n", namespace, "-o", "json").stdout)
    assert got["spec"] == {"size": 3, "mode": "local"}
    assert got["metadata"]["generation"] == 1
    lines = kubectl("get", f"boxes.{box_group}", "-n", namespace).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAME", "SIZE"], ["b", "3"]]
    for wrong, said in (
        ({"size": "big"}, "spec.size in body must be of type integer"),
        ({"size": 0}, "should be greater than or equal to 1"),
        ({"mode": "local"}, "spec.size: Required value"),
        ({"size": 1, "mode": "none"}, 'spec.mode: Unsupported value: "none"'),
        ({"size": 1, "extra": True}, 'unknown field "spec.extra"'),
    ):
        told = kubectl("apply", "-n", namespace, "-f-", stdin=box(box_group, "c", **wrong), fails=True)
        assert said in told.stderr
    status = '{"status":{"phase":"Ready"},"spec":{"size":9}}'
    name = f"box.{box_group}/b"
    kubectl("patch", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    shown = "jsonpath={.spec.size} {.status.phase} {.metadata.generation}"
    assert kubectl("get", name, "-n", namespace, "-o", shown).stdout == "3 Ready 1"
    kubectl("delete", "crd", f"boxes.{box_group}", "--timeout=60s")
    assert "doesn't have a resource type" in kubectl("get", f"boxes.{box_group}", fails=True).stderr


def test_explain(kubectl: Command, box_group: str, emulator: Emulator) -> None:
    """`explain` shows a custom resource's fields at once; a real cluster takes a moment to publish them."""
    assert "size" in kubectl("explain", f"boxes.{box_group}", "--recursive").stdout
    assert "KIND:       Deployment" in kubectl("explain", "deployment").stdout


def test_keyed_lists_of_custom_resources_merge(kubectl: Command, namespace: str, box_group: str) -> None:
    """Server-side apply merges a list by its declared key, between managers."""
    ssa = ("apply", "--server-side", "-n", namespace, "-f-")
    one = box(box_group, size=1, tags=[{"name": "a", "value": "1"}])
    two = box(box_group, size=1, tags=[{"name": "b", "value": "2"}])
    kubectl(*ssa, "--field-manager=one", stdin=one)
    kubectl(*ssa, "--field-manager=two", stdin=two)
    names = "jsonpath={.spec.tags[*].name}"
    assert kubectl("get", f"box.{box_group}/b", "-n", namespace, "-o", names).stdout == "a b"
    kubectl(*ssa, "--field-manager=one", stdin=box(box_group, size=1))
    assert kubectl("get", f"box.{box_group}/b", "-n", namespace, "-o", names).stdout == "b"


@pytest.fixture
def pod(kubectl: Command, namespace: str, image: str) -> str:
    """A running pod that has said three lines and serves HTTP on 8080."""
    script = "for n in 1 2 3; do echo line $n; done; exec httpd -f -p 8080 -h /tmp"
    container = {"name": "main", "image": image, "command": ["sh", "-c", script]}
    body = manifest("Pod", "p", spec={"containers": [container], "terminationGracePeriodSeconds": 0})
    kubectl("apply", "-n", namespace, "-f-", stdin=body)
    kubectl("wait", "pod/p", "--for=condition=Ready", "-n", namespace, "--timeout=120s")
    return "p"


def test_exec(kubectl: Command, namespace: str, pod: str) -> None:
    """exec carries stdin, stdout, stderr and the exit code."""
    script = "cat; echo problem >&2; exit 3"
    done = kubectl("exec", "-i", pod, "-n", namespace, "--", "sh", "-c", script, stdin="hello", fails=True)
    assert (done.stdout, done.returncode) == ("hello", 3)
    assert done.stderr.splitlines() == ["problem", "command terminated with exit code 3"]
    assert kubectl("exec", f"pod/{pod}", "-n", namespace, "--", "echo", "a b").stdout == "a b\n"
    big = kubectl("exec", pod, "-n", namespace, "--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x")
    assert len(big.stdout) == 300000


def test_logs(kubectl: Command, namespace: str, pod: str) -> None:
    """logs has the lines, the last ones of them, and refuses a container that is not there."""
    assert kubectl("logs", pod, "-n", namespace).stdout == "line 1\nline 2\nline 3\n"
    assert kubectl("logs", pod, "-n", namespace, "--tail=1").stdout == "line 3\n"
    told = kubectl("logs", pod, "-n", namespace, "-c", "nope", fails=True).stderr
    assert "container nope is not valid for pod p" in told


@contextlib.contextmanager
def port_forward(kubectl: Command, target: Target, *arguments: str) -> Iterator[int]:
    """`kubectl port-forward` while it runs; yields the local port."""
    program: str = kubectl.program  # type: ignore[attr-defined]
    leading = [f"--kubeconfig={target.kubeconfig}", f"--context={target.context}"]
    process = subprocess.Popen(
        [program, *leading, "port-forward", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ->", line)
        assert found, (line, process.poll())
        yield int(found.group(1))
    finally:
        process.terminate()
        process.communicate()


def test_port_forward(kubectl: Command, target: Target, namespace: str, pod: str) -> None:
    """port-forward carries several connections one after the other, and outlives one that is refused."""
    with port_forward(kubectl, target, f"pod/{pod}", ":8080", "-n", namespace) as port:
        for _ in range(3):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=20) as answer:
                    assert answer.status == 200
            except urllib.error.HTTPError as error:
                # busybox's httpd serves an empty folder: what counts is that HTTP came through.
                assert error.code == 404  # noqa: PT017
