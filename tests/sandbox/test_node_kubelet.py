"""The kubelet: what it resolves for a container, what it says when it cannot, and how pods live and end."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from small_cluster import NAMESPACE, Scripted, is_ready, pod, small_cluster, waiting_reason

from consulfed_lib.sandbox.controllers.client import Object
from consulfed_lib.sandbox.node import container_run
from consulfed_lib.sandbox.node.inside import PassiveProgram
from consulfed_lib.sandbox.node.kubelet import PodNotRunning
from consulfed_lib.sandbox.node.workload import Container


def secret(name: str, **data: str) -> Object:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def main_status(item: Object) -> Object:
    status: Object = item["status"]["containerStatuses"][0]
    return status


def test_container_gets_what_its_spec_asks_for(tmp_path: Path) -> None:
    """Environment and files come from Secrets, ConfigMaps, the pod itself and its service account."""
    env: list[dict[str, Any]] = [
        {"name": "PLAIN", "value": "$(POD)-$$(POD)-$(UNKNOWN)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LATER", "value": "$(POD)/$(NODE_IP)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "one"}}},
        {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a.conf"}}},
        {
            "name": "MEMORY",
            "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
        },
    ]
    container = {
        "command": ["run", "-pod=$(POD)"],
        "args": ["-on"],
        "env": env,
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "FROM_"}],
        "resources": {"limits": {"memory": "200Mi"}},
        "volumeMounts": [
            {"name": "keys", "mountPath": "/keys"},
            {"name": "settings", "mountPath": "/etc/only.conf", "subPath": "a.conf"},
            {"name": "about", "mountPath": "/about/"},
        ],
    }
    volumes = [
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "one", "path": "deep/file"}]}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {
            "name": "about",
            "projected": {
                "sources": [
                    {
                        "downwardAPI": {
                            "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                        }
                    },
                    {"serviceAccountToken": {"path": "token"}},
                ]
            },
        },
        {"name": "scratch", "emptyDir": {}},
    ]

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "secrets", secret("keys", one="1", two="2"), NAMESPACE)
            settings = {"a.conf": "a=1"}
            item = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "settings"},
                "data": settings,
            }
            await cluster.client.create("v1", "configmaps", item, NAMESPACE)
            await cluster.client.create(
                "v1", "pods", pod("web", container=container, volumes=volumes), NAMESPACE
            )
            item = await cluster.until("v1", "pods", "web", is_ready)
            found = Scripted.made["web"][0].container
            assert {
                name: found.env.get(name) for name in ("PLAIN", "POD", "LATER", "IP", "KEY", "MAYBE")
            } == {
                "PLAIN": "$(POD)-$(POD)-$(UNKNOWN)",
                "POD": "web",
                "LATER": "web/$(NODE_IP)",
                "IP": item["status"]["podIP"],
                "KEY": "1",
                "MAYBE": None,
            }
            assert (found.env["SETTING"], found.env["MEMORY"]) == ("a=1", "200")
            assert (found.env["HOSTNAME"], found.env["FROM_a.conf"]) == ("web", "a=1")
            assert found.arguments == ["run", "-pod=web", "-on"]
            own = {name: content for name, content in found.files.items() if not name.startswith("/var/run")}
            assert own.pop("/about/token").count(b".") == 2
            assert own == {
                "/keys/deep/file": b"1",
                "/etc/only.conf": b"a=1",
                "/about/labels": b'component="scripted"',
            }
            account = "/var/run/secrets/kubernetes.io/serviceaccount"
            assert found.files[f"{account}/namespace"] == NAMESPACE.encode()
            assert found.files[f"{account}/ca.crt"].decode() == cluster.keys.ca_pem
            assert found.files[f"{account}/token"].decode() == found.token
            who = await found.client.request(
                "POST",
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            )
            assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{NAMESPACE}:default"
            assert found.folder.stat().st_mode & 0o777 == 0o700
            assert found.on_disk("/keys/deep").joinpath("file").read_bytes() == b"1"
            await cluster.client.delete("v1", "pods", "web", NAMESPACE)
            await cluster.until_gone("v1", "pods", "web")
            assert not found.folder.exists()

    asyncio.run(main())


def test_missing_secret_volume_keeps_the_container_creating(tmp_path: Path) -> None:
    """A volume whose Secret is missing is told as FailedMount, and the pod starts when the Secret comes."""
    volumes = [
        {"name": "certs", "secret": {"secretName": "certs", "items": [{"key": "tls.crt", "path": "crt"}]}}
    ]

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "pods", pod("web", volumes=volumes), NAMESPACE)
            message = await cluster.until_event("FailedMount", "web")
            assert message == 'MountVolume.SetUp failed for volume "certs" : secret "certs" not found'
            item = await cluster.until("v1", "pods", "web", waiting_reason)
            assert (item["status"]["phase"], waiting_reason(item)) == ("Pending", "ContainerCreating")
            assert not is_ready(item)
            await cluster.client.create("v1", "secrets", secret("certs", other="x"), NAMESPACE)
            async with asyncio.timeout(10):
                async for _, event in cluster.client.watch("v1", "events", NAMESPACE):
                    if "references non-existent secret key: tls.crt" in event["message"]:
                        break
            change = {"data": {"tls.crt": "eA=="}}
            await cluster.client.merge_patch("v1", "secrets", "certs", change, NAMESPACE)
            await cluster.until("v1", "pods", "web", is_ready)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secretKeyRef": {"name": "tokens", "key": "x"}}, 'secret "tokens" not found'),
        ({"configMapKeyRef": {"name": "tokens", "key": "x"}}, 'configmap "tokens" not found'),
        ({"secretKeyRef": {"name": "empty", "key": "x"}}, "couldn't find key x in Secret default/empty"),
    ],
)
def test_missing_variable_is_a_config_error(tmp_path: Path, source: Object, message: str) -> None:
    """A variable that cannot be resolved is CreateContainerConfigError, and heals when its source comes."""
    container = {"env": [{"name": "TOKEN", "valueFrom": source}]}

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "secrets", secret("empty"), NAMESPACE)
            await cluster.client.create("v1", "pods", pod("web", container=container), NAMESPACE)
            item = await cluster.until(
                "v1", "pods", "web", lambda one: waiting_reason(one) == "CreateContainerConfigError"
            )
            assert main_status(item)["state"]["waiting"]["message"] == message
            assert await cluster.until_event("Failed", "web") == f"Error: {message}"
            (reference,) = source.values()
            wanted = secret(reference["name"], x="1")
            if "configMapKeyRef" in source:
                wanted |= {"kind": "ConfigMap", "data": {"x": "1"}}
            plural = "configmaps" if "configMapKeyRef" in source else "secrets"
            await cluster.client.apply("v1", plural, reference["name"], wanted, NAMESPACE)
            await cluster.until("v1", "pods", "web", is_ready)
            assert Scripted.made["web"][0].container.env["TOKEN"] == "1"

    asyncio.run(main())


def test_unknown_component_is_an_image_that_cannot_be_pulled(tmp_path: Path) -> None:
    """What the sandbox has no program for is never shown as running; the message says what it knows."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "pods", pod("web", component="database"), NAMESPACE)
            item = await cluster.until(
                "v1", "pods", "web", lambda one: waiting_reason(one) == "ImagePullBackOff"
            )
            message = main_status(item)["state"]["waiting"]["message"]
            assert 'Back-off pulling image "example/main:1"' in message
            assert 'no program for the component label "database"; it knows scripted' in message
            await cluster.client.delete("v1", "pods", "web", NAMESPACE)
            await cluster.until_gone("v1", "pods", "web")

    asyncio.run(main())


def test_program_that_ends_is_started_again_with_back_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first restart is immediate, the next ones wait with CrashLoopBackOff; readiness follows the program."""
    monkeypatch.setattr(container_run, "BACKOFF_SECONDS", (0.0, 0.3))

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "pods", pod("web"), NAMESPACE)
            await cluster.until("v1", "pods", "web", is_ready)
            Scripted.made["web"][0].is_ready = False
            await cluster.until("v1", "pods", "web", lambda one: not is_ready(one))
            Scripted.made["web"][0].ended.set_result(3)
            item = await cluster.until(
                "v1", "pods", "web", lambda one: main_status(one)["restartCount"] == 1 and is_ready(one)
            )
            last = main_status(item)["lastState"]["terminated"]
            assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "started web")
            Scripted.made["web"][1].ended.set_result(0)
            item = await cluster.until(
                "v1", "pods", "web", lambda one: waiting_reason(one) == "CrashLoopBackOff"
            )
            assert (
                "back-off 0.3s restarting failed container=main"
                in main_status(item)["state"]["waiting"]["message"]
            )
            await cluster.until(
                "v1", "pods", "web", lambda one: main_status(one)["restartCount"] == 2 and is_ready(one)
            )
            assert len(Scripted.made["web"]) == 3

    asyncio.run(main())


def test_pod_ends_its_program_before_it_is_gone(tmp_path: Path) -> None:
    """A deletion stops the program first; a forced one removes the object at once, and stops it all the same."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            for name in ("gentle", "forced"):
                await cluster.client.create("v1", "pods", pod(name), NAMESPACE)
                await cluster.until("v1", "pods", name, is_ready)
            await cluster.client.delete("v1", "pods", "gentle", NAMESPACE)
            await cluster.until_gone("v1", "pods", "gentle")
            assert Scripted.made["gentle"][0].stopped
            forced = Scripted.made["forced"][0]
            await cluster.client.delete("v1", "pods", "forced", NAMESPACE, grace_seconds=0)
            async with asyncio.timeout(5):
                assert await forced.wait() == 143

    asyncio.run(main())


def test_pods_start_again_with_the_next_kubelet(tmp_path: Path) -> None:
    """A kubelet that ends takes its programs along; the next one starts them again, at the same address."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            item = pod("web")
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            once = pod("once", restartPolicy="Never")
            await cluster.client.create("v1", "pods", once, NAMESPACE)
            before = await cluster.until("v1", "pods", "web", is_ready)
            await cluster.until("v1", "pods", "once", is_ready)
            await cluster.stop("kubelet")
            assert Scripted.made["web"][0].stopped
            cluster.start_kubelet()
            item = await cluster.until(
                "v1", "pods", "web", lambda one: main_status(one)["restartCount"] == 1 and is_ready(one)
            )
            assert item["status"]["podIP"] == before["status"]["podIP"]
            assert main_status(item)["lastState"]["terminated"]["exitCode"] == 137
            lost = await cluster.until("v1", "pods", "once", lambda one: one["status"]["phase"] == "Failed")
            assert main_status(lost)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
            assert len(Scripted.made["once"]) == 1

    asyncio.run(main())


def test_logs_exec_and_ports_of_a_pod(tmp_path: Path) -> None:
    """Logs can be followed to the end, commands go to the program, and a port of the pod can be reached."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            kubelet = cluster.kubelet
            assert kubelet is not None
            await cluster.client.create("v1", "pods", pod("web"), NAMESPACE)
            await cluster.until("v1", "pods", "web", is_ready)
            program = Scripted.made["web"][0]

            async def followed() -> bytes:
                chunks = kubelet.logs(NAMESPACE, "web", "main", follow=True, tail_lines=None)
                return b"".join([chunk async for chunk in chunks])

            following = asyncio.create_task(followed())
            program.container.log("second")
            last = kubelet.logs(NAMESPACE, "web", "", follow=False, tail_lines=1)
            assert [chunk async for chunk in last] == [b"second\n"]
            out = bytearray()

            async def take(data: bytes) -> None:
                out.extend(data)

            code = await kubelet.exec(NAMESPACE, "web", "main", ["a", "b"], None, take, take, False)
            assert (code, out) == (7, b"a b")
            assert await kubelet.exec(NAMESPACE, "web", "main", [], None, take, take, False) == 126
            assert b"see kubectl logs" in out
            with pytest.raises(PodNotRunning, match="container not found"):
                await kubelet.exec(NAMESPACE, "other", "main", ["a"], None, take, take, False)
            with pytest.raises(ConnectionRefusedError, match="9000"):
                await kubelet.connect(NAMESPACE, "web", 9000)
            with pytest.raises(ConnectionRefusedError, match="not running"):
                await kubelet.connect(NAMESPACE, "other", 9000)
            program.container.log("third")
            await cluster.client.delete("v1", "pods", "web", NAMESPACE)
            assert await following == b"started web\nsecond\nthird\n"
            # What a pod that is gone has said can still be read.
            late = kubelet.logs(NAMESPACE, "web", "main", follow=False, tail_lines=1)
            await cluster.until_gone("v1", "pods", "web")
            assert [chunk async for chunk in late] == [b"third\n"]

    asyncio.run(main())


def test_nodes_are_registered_with_their_addresses(tmp_path: Path) -> None:
    """Each node is Ready, has its address, and says what it is."""

    async def main() -> None:
        async with small_cluster(tmp_path, nodes=2) as cluster:
            await cluster.until("v1", "nodes", list(cluster.layout.node_addresses)[-1], is_ready, "")
            nodes = await cluster.client.list("v1", "nodes")
            found = {
                one["metadata"]["name"]: one["status"]["addresses"][0]["address"]
                for one in nodes
                if is_ready(one)
            }
            assert found == cluster.layout.node_addresses

    asyncio.run(main())


def test_pod_on_the_hosts_network_is_at_its_nodes_address(tmp_path: Path) -> None:
    """It has no address of its own: what is forwarded to it goes to the node."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            (address,) = cluster.layout.node_addresses.values()
            await cluster.client.create("v1", "pods", pod("web", hostNetwork=True), NAMESPACE)
            item = await cluster.until("v1", "pods", "web", is_ready)
            assert item["status"]["podIP"] == address
            assert cluster.kubelet is not None
            with pytest.raises(ConnectionRefusedError, match=address):
                await cluster.kubelet.connect(NAMESPACE, "web", 9000)

    asyncio.run(main())


def test_a_container_whose_work_is_done_elsewhere_is_ready_once_that_has_said_so() -> None:
    """And stays so: what it waited for was its start."""
    said = [False, True, False]
    lines: list[str] = []

    async def predicate(container: Container) -> bool:
        return said.pop(0)

    async def main() -> None:
        container = cast(Container, SimpleNamespace(log=lines.append))
        program = PassiveProgram(container, predicate)
        await program.start()
        assert [await program.ready() for _ in range(3)] == [False, True, True]
        assert await PassiveProgram(container, None).ready()

    asyncio.run(main())
    assert len(lines) == 1
