"""The consul command line in anyone's pod: what is run, what is not, and what it sees of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from small_cluster import NAMESPACE, Object, small_cluster

from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.node.cli import (
    ConsulCli,
    arguments_here,
    cli_words,
    environment_here,
    refusal,
)
from consulfed_lib.sandbox.node.workload import Container
from consulfed_lib.sandbox.tools import ensure

IMAGE = "registry.example.com/hashicorp/consul:1.22"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def consul() -> Path:
    return ensure("consul")["consul"].path


def container(folder: Path, consul: Path, **more: Any) -> Container:
    log: list[str] = []
    made = Container(
        cluster=ClusterLayout(folder, 96, 1, 1),
        client=cast(Any, None),
        token="",
        pod={"metadata": {"name": "probe", "namespace": "consul"}, "spec": {"containers": []}},
        address="127.0.0.1",
        env=more.pop("env", {}),
        files={"/consulfed/caCert": CERTIFICATE, "/consulfed/sub/token": b"t"},
        arguments=[],
        folder=folder,
        data=folder,
        log=log.append,
        tools={"consul": consul},
        **more,
    )
    made.lines = log  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        ({"image": "any"}, ["consul", "members"], ["members"]),
        ({"image": "any"}, ["/usr/local/bin/consul"], []),
        ({"image": IMAGE}, ["kv", "get", "x"], ["kv", "get", "x"]),
        ({"image": IMAGE}, ["consul", "members"], ["members"]),
        ({"image": "consul@sha256:0"}, ["version"], ["version"]),
        ({"image": IMAGE}, ["-dev"], ["agent", "-dev"]),
        ({"image": IMAGE}, [], None),
        ({"image": IMAGE}, ["/bin/sh", "-c", "consul members"], None),
        ({"image": IMAGE}, ["bash"], None),
        ({"image": IMAGE, "command": ["sh"]}, ["sh", "consul"], None),
        ({"image": "hashicorp/consul-k8s-control-plane:1.9"}, ["members"], None),
        ({"image": "busybox"}, ["consul-template"], None),
    ],
)
def test_which_containers_are_the_consul_cli(spec: Object, arguments: list[str], words: list[str]) -> None:
    """The command consul, or a consul image with a subcommand; a shell never is, whatever it would run."""
    assert cli_words(spec, arguments) == words


@pytest.mark.parametrize(
    "words", [["agent", "-dev"], ["lock", "x", "touch"], ["-http-addr=x", "exec", "ls"], ["connect", "envoy"]]
)
def test_subcommand_that_starts_programs_is_refused(words: list[str]) -> None:
    """An agent, or what would run a command on this machine, is named in the refusal."""
    assert "is not executed in a sandbox pod" in refusal(words)
    assert refusal(["connect", "ca", "get-config"]) == ""


def test_paths_mean_the_files_of_the_container(tmp_path: Path, consul: Path) -> None:
    """A mounted file is where it is here; any other path stays inside the container's folder; values stay."""
    given = container(tmp_path, consul, env={"CONSUL_CACERT": "/consulfed/caCert", "CONSUL_HTTP_TOKEN": "t"})
    root = tmp_path / "files"
    words = [
        "-ca-file=/consulfed/caCert", "--ca-path=/consulfed/sub", "-token-file=/etc/hostname", "-ca-file=/dev/stdin",
        "-http-addr=https://127.0.0.1:8501", "-rules=@/etc/passwd", "-name=", "-",
    ]  # fmt: skip
    assert arguments_here(given, ["acl", *words]) == [
        "acl", f"-ca-file={root}/consulfed/caCert", f"--ca-path={root}/consulfed/sub",
        f"-token-file={root}/etc/hostname", "-ca-file=/dev/stdin", "-http-addr=https://127.0.0.1:8501",
        f"-rules=@{root}/etc/passwd", "-name=", "-",
    ]  # fmt: skip
    assert (root / "consulfed/caCert").read_bytes() == CERTIFICATE
    assert arguments_here(given, ["kv", "put", "a", "/b"]) == ["kv", "put", "a", "/b"]
    assert arguments_here(given, ["kv", "put", "a", "@../../x"]) == ["kv", "put", "a", f"@{root}/x"]
    assert arguments_here(given, ["snapshot", "save", "/tmp/x"]) == ["snapshot", "save", f"{root}/tmp/x"]
    assert arguments_here(given, ["config", "write", "x/../../y"]) == ["config", "write", f"{root}/y"]
    assert (root / "tmp").is_dir()
    assert environment_here(given) == {
        "CONSUL_CACERT": f"{root}/consulfed/caCert",
        "CONSUL_HTTP_TOKEN": "t",
    }


def test_input_can_be_read_as_a_file(tmp_path: Path, consul: Path) -> None:
    """What a client sends reaches /dev/stdin, which the command opens by its name, and ends there."""

    async def main() -> None:
        program = ConsulCli(container(tmp_path, consul), ["version"])
        stdin, said = asyncio.StreamReader(), bytearray()
        stdin.feed_data(CERTIFICATE)
        stdin.feed_eof()

        async def take(data: bytes) -> None:
            said.extend(data)

        command = ["consul", "members", "-http-addr=https://127.0.0.1:1", "-ca-file=/dev/stdin"]
        assert await program.exec(command, stdin, take, take) == 1
        assert b"Couldn't parse PEM in: /dev/stdin" in said
        assert await program.exec(["ls", "/"], None, take, take) == 126

    asyncio.run(main())


def cli(name: str, *words: str, **more: Any) -> Object:
    return {"name": name, "image": IMAGE, "command": ["consul", *words], **more}


def the_pod(*containers: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {"restartPolicy": "Never", "containers": list(containers), **spec},
    }


def states(item: Object, kind: str = "containerStatuses") -> dict[str, Any]:
    return {
        one["name"]: next(iter(one["state"].values())).get("exitCode", next(iter(one["state"])))
        for one in item["status"].get(kind) or []
    }


def ended(item: Object) -> bool:
    return item["status"]["phase"] in ("Succeeded", "Failed")


def test_each_container_of_a_pod_has_its_own_end_and_log(tmp_path: Path, consul: Path) -> None:
    """Containers run side by side, after the init containers; one failure makes the pod Failed; each has a log."""
    mount = {"volumeMounts": [{"name": "ca", "mountPath": "/consulfed", "readOnly": True}]}
    members = ("members", "-http-addr=https://127.0.0.1:1", "-ca-file=/consulfed/caCert")
    item = the_pod(
        cli("fine", "version"),
        cli("broken", *members, **mount),
        initContainers=[cli("first", "keygen")],
        volumes=[{"name": "ca", "secret": {"secretName": "ca", "items": [{"key": "crt", "path": "caCert"}]}}],
    )

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.tools["consul"] = consul
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "ca"},
                "stringData": {"crt": CERTIFICATE.decode()},
            }
            await cluster.client.create("v1", "secrets", secret, NAMESPACE)
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            found = await cluster.until("v1", "pods", "probe", ended)
            assert (found["status"]["phase"], states(found)) == ("Failed", {"fine": 0, "broken": 1})
            assert states(found, "initContainerStatuses") == {"first": 0}
            logs = {}
            for name in ("fine", "broken", "first"):
                assert cluster.kubelet is not None
                chunks = cluster.kubelet.logs(NAMESPACE, "probe", name, follow=True, tail_lines=None)
                logs[name] = b"".join([chunk async for chunk in chunks]).decode()
            assert logs["fine"].startswith("Consul v")
            assert len(logs["first"]) == 45, "a gossip key"
            assert "Couldn't parse PEM" in logs["broken"]
            message = found["status"]["containerStatuses"][1]["state"]["terminated"]["message"]
            assert "Couldn't parse PEM" in message

    asyncio.run(main())


@pytest.mark.parametrize(
    ("item", "phase", "code"),
    [
        (the_pod(cli("main", "version")), "Succeeded", 0),
        (the_pod(cli("main", "agent", "-dev")), "Failed", 1),
        (the_pod(cli("main", "version"), initContainers=[cli("first", "agent")]), "Failed", "waiting"),
    ],
)
def test_phase_follows_from_how_containers_end(
    tmp_path: Path, consul: Path, item: Object, phase: str, code: int
) -> None:
    """Succeeded where all end well; refused commands fail with the reason; after a failed init nothing is started."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.tools["consul"] = consul
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            found = await cluster.until("v1", "pods", "probe", ended)
            assert (found["status"]["phase"], states(found)["main"]) == (phase, code)

    asyncio.run(main())


def test_pod_with_a_shell_beside_the_cli_does_not_run(tmp_path: Path, consul: Path) -> None:
    """One container that cannot be run keeps all of them from running: nothing is half done and called well."""
    item = the_pod(cli("main", "version"), {"name": "shell", "image": IMAGE, "command": ["sh", "-c", "true"]})

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.tools["consul"] = consul
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            found = await cluster.until(
                "v1",
                "pods",
                "probe",
                lambda one: "ImagePullBackOff" in str(one["status"].get("containerStatuses")),
            )
            assert (found["status"]["phase"], states(found)["main"]) == ("Pending", "waiting")
            assert "whose command is consul" in str(found["status"]["containerStatuses"][1])

    asyncio.run(main())


def test_pod_that_was_half_done_is_gone_on_with(tmp_path: Path, consul: Path) -> None:
    """A container that had ended when the kubelet went down is not run again by the next one."""
    item = the_pod(
        cli("done", "version"), cli("waits", "version", env=[{"name": "X", "valueFrom": {"secretKeyRef": {
            "name": "late", "key": "x"}}}])
    )  # fmt: skip

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.tools["consul"] = consul
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            before = await cluster.until(
                "v1",
                "pods",
                "probe",
                lambda one: (
                    states(one).get("done") == 0 and "CreateContainerConfigError" in str(one["status"])
                ),
            )
            await cluster.stop("kubelet")
            cluster.start_kubelet()
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "late"},
                "stringData": {"x": ""},
            }
            await cluster.client.create("v1", "secrets", secret, NAMESPACE)
            found = await cluster.until("v1", "pods", "probe", ended)
            assert (found["status"]["phase"], states(found)) == ("Succeeded", {"done": 0, "waits": 0})
            first = [one["status"]["containerStatuses"][0] for one in (before, found)]
            assert first[0]["state"] == first[1]["state"]

    asyncio.run(main())
