"""Applications of the sandbox, what its webhook does to their pods, and how a caller's Envoy is told where to go.

Sidecars with real Consul and real Envoy on both sides are in the end-to-end test of traffic.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from consulfed_lib.sandbox.consul_k8s import inject, intentions
from consulfed_lib.sandbox.consul_k8s.consul_api import ConsulApi
from consulfed_lib.sandbox.consul_k8s.inject import CONTAINER, STATUS, Injector, port_of
from consulfed_lib.sandbox.consul_k8s.installation import Installation
from consulfed_lib.sandbox.consul_k8s.options import Endpoint, options_of
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.node.consul_http import ConsulError
from consulfed_lib.sandbox.node.images import CurlBox, HttpEcho, image_name
from consulfed_lib.sandbox.node.upstreams import Mesh, Upstream, upstreams, write_upstreams
from consulfed_lib.sandbox.node.workload import Container

POD = "127.0.0.1"
WEBHOOK = "consul-connect-injector.consul.hashicorp.com"
WEB = Upstream("web", 1234, "dc2")


def free_port() -> int:
    with socket.create_server((POD, 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def container(tmp_path: Path) -> Callable[..., Container]:
    def make(*arguments: str) -> Container:
        return Container(
            cluster=ClusterLayout(tmp_path, 98, 1, 1),
            client=cast(Any, None),
            token="",
            pod={"metadata": {"name": "app", "namespace": "default"}, "spec": {"containers": []}},
            address=POD,
            env={},
            files={},
            arguments=list(arguments),
            folder=tmp_path,
            data=tmp_path,
            log=lambda line: None,
        )

    return make


# Images


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("hashicorp/http-echo:1.0", "http-echo"),
        ("http-echo", "http-echo"),
        ("localhost:5000/a/http-echo@sha256:00", "http-echo"),
        ("", ""),
    ],
)
def test_an_image_is_known_by_the_last_part_of_its_name(image, name):
    """Registries and tags are everybody's own."""
    assert image_name({"image": image}) == name


@asynccontextmanager
async def echo(container: Callable[..., Container], port: int) -> AsyncIterator[HttpEcho]:
    program = HttpEcho(container(f"-listen=:{port}", "-text=dc2"))
    await program.start()
    try:
        yield program
    finally:
        await program.stop()


def test_http_echo_answers_with_its_text_until_it_is_stopped(container):
    """On the pod's address, and on the port that it was told."""
    port = free_port()

    async def ask() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{POD}:{port}/any") as answer:
            return await answer.text()

    async def scene() -> None:
        async with echo(container, port) as program:
            assert await program.ready()
            assert await ask() == "dc2\n"
        assert not await program.ready()
        assert await program.wait() == 0
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask()

    asyncio.run(scene())


def test_http_echo_without_a_text_does_not_start(container):
    """As the real one."""
    with pytest.raises(ValueError, match="-text"):
        asyncio.run(HttpEcho(container()).start())


def test_the_image_of_curl_does_nothing_but_sleep(container):
    """Whatever else it is told would be a program of this machine."""
    asyncio.run(CurlBox(container("sleep", "infinity")).start())
    with pytest.raises(PermissionError):
        asyncio.run(CurlBox(container("sh", "-c", "sleep 1")).start())


# curl


async def executed(program: CurlBox, *command: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command that is executed in the pod."""
    out, err = bytearray(), bytearray()

    async def take(into: bytearray, data: bytes) -> None:
        into += data

    code = await program.exec(list(command), None, lambda data: take(out, data), lambda data: take(err, data))
    return code, out.decode(), err.decode()


def test_curl_reaches_the_pods_localhost_and_tells_status_and_time(container):
    """What is the pod's own localhost there is its address here."""
    port = free_port()

    async def scene() -> tuple[int, str, str]:
        async with echo(container, port):
            words = (
                "-sS",
                "--max-time",
                "5",
                "-w",
                "\\n%{http_code} %{time_total}",
                f"http://localhost:{port}",
            )
            return await executed(CurlBox(container("sleep", "1")), "curl", *words)

    code, out, err = asyncio.run(scene())
    text, _, numbers = out.rpartition("\n")
    assert (code, text, err) == (0, "dc2\n", "")
    assert numbers.startswith("200 0.")


@pytest.mark.parametrize(
    ("code", "behaves"), [(52, "closes"), (56, "resets"), (28, "is silent"), (7, "is not there")]
)
def test_curl_ends_with_curls_own_exit_codes(container, code, behaves):
    """By them a refusal is told from everything else that can go wrong."""
    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if behaves == "resets":
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif behaves == "is silent":
            await reader.read()
        writer.close()

    async def scene() -> tuple[int, str, str]:
        box = CurlBox(container("sleep", "1"))
        words = ("curl", "-sS", "--max-time", "0.2", f"http://localhost:{port}")
        if behaves == "is not there":
            return await executed(box, *words)
        async with await asyncio.start_server(serve, POD, port):
            return await executed(box, *words)

    found, out, err = asyncio.run(scene())
    assert (found, out) == (code, "")
    assert err.startswith(f"curl: ({code}) ")


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "id"],
        ["curl", "https://localhost:1"],
        ["curl", "http://localhost"],
        ["curl", "http://example.com:80"],
        ["curl", "file:///etc/passwd"],
    ],
)
def test_nothing_else_is_executed_and_nowhere_else_is_asked(container, command):
    """A pod of the sandbox is no way onto this machine, nor from it to another one."""
    code, out, err = asyncio.run(executed(CurlBox(container("sleep", "1")), *command))
    assert (code, out) == (126, "")
    assert err.startswith("exec failed")


@pytest.mark.parametrize(
    "words", [["--output", "/x", "http://localhost:1"], ["-d", "x", "http://localhost:1"], []]
)
def test_an_option_that_this_curl_does_not_know_is_an_error(container, words):
    """And is not passed over in silence."""
    assert asyncio.run(executed(CurlBox(container("sleep", "1")), "curl", *words))[0] == 2


# The webhook


def pod(**annotations: str) -> dict[str, Any]:
    marks = {f"consul.hashicorp.com/{name.replace('_', '-')}": value for name, value in annotations.items()}
    ports = [{"name": "http", "containerPort": 5678}]
    spec = {"serviceAccountName": "web", "containers": [{"name": "app", "ports": ports}]}
    return {"kind": "Pod", "metadata": {"name": "web-1", "annotations": marks}, "spec": spec}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    arguments = ["-acl-auth-method=consul-k8s-auth-method", "-resource-prefix=consul"]
    return Installation(
        cluster=ClusterLayout(tmp_path, 98, 1, 1),
        client=cast(Any, None),
        namespace="consul",
        name="consul-connect-injector",
        component="connect-injector",
        template={"spec": {"containers": [{}]}, "metadata": {}},
        given=options_of(arguments, {}),
        place=Endpoint(("consul-server.consul.svc",), 8500, "", "dc1", 5),
    )


def admitted(installation: Installation | None, webhook: str, item: dict[str, Any]) -> str | None:
    """What the webhook says, with the injector of that installation at work, or with none."""
    injector = Injector()

    async def scene() -> str | None:
        if installation is None:
            return injector.admit(webhook, item)
        async with injector.serving(installation):
            return injector.admit(webhook, item)

    return asyncio.run(scene())


def test_a_pod_that_asks_for_it_gets_a_sidecar(installation):
    """Which is told the service's name and port, where Consul is, and how to log in."""
    item = pod(connect_inject="true")
    assert admitted(installation, WEBHOOK, item) is None
    sidecar = item["spec"]["containers"][1]
    env = {one["name"]: one["value"] for one in sidecar["env"]}
    assert (sidecar["name"], image_name(sidecar)) == (CONTAINER, CONTAINER)
    assert (env["PROXY_SERVICE"], env["PROXY_SERVICE_PORT"]) == ("web", "5678")
    assert env["CONSUL_ADDRESSES"] == "consul-server.consul.svc"
    assert env["CONSUL_LOGIN_AUTH_METHOD"] == "consul-k8s-auth-method"
    assert item["metadata"]["labels"][STATUS] == "injected"


@pytest.mark.parametrize(
    ("ca_file", "tls"), [("", "-tls-disabled"), ("/consul/tls/ca/tls.crt", "-ca-certs=")]
)
def test_a_sidecar_is_told_once_whether_the_servers_speak_tls(installation, monkeypatch, ca_file, tls):
    """In its arguments, as the injector since chart 1.0 writes them; there they stay when that changes."""

    async def certificate(*_: Any) -> bytes:
        return b"PEM"

    monkeypatch.setattr(inject, "read_mounted", certificate)
    place = Endpoint(("consul-server.consul.svc",), 8501 if ca_file else 8500, ca_file, "dc1", 5)
    item = pod(connect_inject="true")
    assert admitted(replace(installation, place=place), WEBHOOK, item) is None
    addresses, port, last = item["spec"]["containers"][1]["args"]
    assert (addresses, port) == ("-addresses=consul-server.consul.svc", "-grpc-port=8502")
    assert last.startswith(tls)


@pytest.mark.parametrize(
    ("webhook", "annotations"),
    [
        (WEBHOOK, {}),
        (WEBHOOK, {"connect_inject": "false"}),
        (WEBHOOK, {"connect_inject": "true", "connect_inject_status": "injected"}),
        ("mutate-proxydefaults.consul.hashicorp.com", {"connect_inject": "true"}),
    ],
)
def test_a_pod_that_does_not_is_left_as_it_is(installation, webhook, annotations):
    """Nor does one get a second sidecar."""
    item = pod(**annotations)
    assert admitted(installation, webhook, item) is None
    assert item == pod(**annotations)


def test_a_service_account_of_another_name_is_refused_with_acls(installation):
    """Its token would be for another service."""
    why = admitted(installation, WEBHOOK, pod(connect_inject="true", connect_service="shop"))
    assert why == 'service account name "web" does not match the service name "shop"'


def test_no_pod_is_created_while_the_injector_is_away():
    """failurePolicy Fail: one without its sidecar would be outside of the mesh."""
    assert "no endpoints available" in str(admitted(None, WEBHOOK, pod(connect_inject="true")))


@pytest.mark.parametrize(
    ("annotations", "port"),
    [({}, 5678), ({"connect_service_port": "9000"}, 9000), ({"connect_service_port": "x"}, 0)],
)
def test_the_port_is_the_annotations_or_the_first_one(annotations, port):
    """By number or by name."""
    assert port_of(pod(**annotations)) == port
    assert port_of(pod(connect_service_port="http")) == 5678


# Where a caller's Envoy goes


def test_upstreams_of_the_annotation():
    """Service and port, with a datacenter or without."""
    assert upstreams("web:1234:dc2,db:1") == [WEB, Upstream("db", 1, "")]
    assert upstreams("") == []
    with pytest.raises(ValueError, match="no upstream"):
        upstreams("web:http")


@pytest.fixture
def mesh() -> Mesh:
    return Mesh(
        datacenter="dc1", certificate="C", key="K", roots="R", trust_domain="t.consul",
        own_gateways=(("10.0.1.1", 8443),), gateways={"dc2": (("10.0.2.1", 443),)},
        instances={"web": (("10.0.2.9", 20000),)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "target"),
    [("local", "10.0.1.1"), ("remote", "10.0.2.1"), ("", "10.0.2.9"), ("none", "10.0.2.9")],
)
def test_the_mesh_gateway_mode_decides_where_a_connection_goes_first(mesh, mode, target):
    """`local` through both gateways, `remote` through the other one's only."""
    mesh.mode = mode
    assert mesh.targets(WEB)[0][0] == target


def test_within_its_own_datacenter_a_caller_needs_no_gateway(mesh):
    """Whatever the mode is."""
    mesh.mode = "local"
    assert mesh.targets(Upstream("web", 1234, ""))[0][0] == "10.0.2.9"


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads((folder / f"{kind}.json").read_text())["resources"])


def test_envoy_gets_name_identity_and_certificate(mesh, tmp_path):
    """The SNI by which gateways route, and the identity that the other side has to show."""
    mesh.mode = "local"
    write_upstreams(tmp_path, "10.0.1.7", [WEB], mesh)
    (listener,), (cluster,) = read(tmp_path, "listeners"), read(tmp_path, "clusters")
    assert listener["address"]["socket_address"] == {"address": "10.0.1.7", "port_value": 1234}
    tls = cluster["transport_socket"]["typed_config"]
    assert tls["sni"] == "web.default.dc2.internal.t.consul"
    (name,) = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert name["matcher"] == {"exact": "spiffe://t.consul/ns/default/dc/dc2/svc/web"}
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0, 0]


def test_envoy_listens_for_nothing_before_there_is_a_certificate(tmp_path):
    """A connection without one would be refused, and would look like a missing intention."""
    write_upstreams(tmp_path, "10.0.1.7", [WEB], Mesh(datacenter="dc1"))
    assert read(tmp_path, "listeners") == []


def test_the_key_is_in_no_repr(mesh):
    """What is printed by mistake must not hold it."""
    assert "K" not in repr(mesh).replace("key", "")


# Intentions of a Consul before 1.9


class OldConsul:
    """Intentions as objects, and no config entries of that kind."""

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    async def get(self, path: str) -> list[dict[str, Any]]:
        return list(self.held)

    async def find(self, path: str) -> None:
        raise ConsulError("GET /v1/config: 500 invalid config entry kind: service-intentions", 500)

    async def request(self, method: str, path: str, body: Any = None) -> None:
        if method == "POST":
            self.held.append({**body, "ID": f"i{len(self.held)}"})
        else:
            self.held = [one for one in self.held if not path.endswith(one["ID"])]


def entry(action: str) -> dict[str, Any]:
    sources = [{"name": "caller", "action": action}]
    return {"Kind": intentions.KIND, "Name": "web", "Meta": {"by": "dc1"}, "sources": sources}


def test_an_intention_is_made_changed_and_removed_and_others_are_left_alone():
    """Those without this datacenter's mark are somebody else's."""
    old = OldConsul()
    consul = cast(ConsulApi, old)
    other = {"ID": "x", "SourceName": "shop", "DestinationName": "web", "Action": "deny", "Meta": {}}
    old.held.append(other)

    async def scene() -> None:
        assert await intentions.are_objects(consul)
        assert await intentions.write(consul, entry("deny"))
        assert not await intentions.write(consul, entry("deny"))
        assert await intentions.write(consul, entry("allow"))
        assert [one["Action"] for one in old.held] == ["deny", "allow"]
        await intentions.remove(consul, entry("allow"))

    asyncio.run(scene())
    assert old.held == [other]
