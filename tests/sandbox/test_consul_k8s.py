"""The Jobs and controllers of consul-k8s against a real Consul server and the emulated API server.

One primary is brought up Job by Job, as Helm's hooks would, and then looked at from all sides. There are no
controllers and no kubelet here: the tests say what pods and Services are like.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from cryptography import x509

from consulfed_lib.sandbox import claims, pki
from consulfed_lib.sandbox.apiserver import ApiServer, User
from consulfed_lib.sandbox.consul_k8s import JOBS, run_consul_k8s
from consulfed_lib.sandbox.consul_k8s.consul_api import ConsulApi
from consulfed_lib.sandbox.consul_k8s.kube_secrets import read_secret
from consulfed_lib.sandbox.consul_k8s.login import login, logout
from consulfed_lib.sandbox.controllers.client import KubeClient, Object
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.node.consul_http import ConsulError
from consulfed_lib.sandbox.node.process import die_with_parent
from consulfed_lib.sandbox.node.workload import Container, Dns
from consulfed_lib.sandbox.tools import ensure

Result = TypeVar("Result")

ADMIN_TOKEN = "admin-token-of-this-test"
NAMESPACE = "consul"
PATIENCE = 20
CA_FILE = "/consul/tls/ca/tls.crt"
METHOD = "consul-k8s-component-auth-method"
API_VERSION = "consul.hashicorp.com/v1alpha1"

SERVER_ENV = {
    "CONSUL_ADDRESSES": "consul-server.consul.svc",
    "CONSUL_HTTP_PORT": "8501",
    "CONSUL_DATACENTER": "dc1",
    "CONSUL_API_TIMEOUT": "5s",
    "CONSUL_USE_TLS": "true",
    "CONSUL_CACERT_FILE": CA_FILE,
}


class World(Dns):
    """One cluster with one Consul server, and a loop in a thread of its own that everything runs in."""

    def __init__(self, folder: Path, block: int):
        self.layout = ClusterLayout(folder / "dc1", block, 1, 1)
        self.folder = folder
        self.lines: list[str] = []
        self.keys = pki.prepare(folder / "keys", "dc1", [self.layout.api_address])
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.server = ApiServer(
            name="dc1",
            host=self.layout.api_address,
            port=6443,
            certificate=self.keys.certificate,
            private_key=self.keys.private_key,
            ca_pem=self.keys.ca_pem,
            service_account_key=self.keys.service_account_key,
            tokens={ADMIN_TOKEN: User("admin", ("system:masters",))},
        )
        self.client = KubeClient(self.layout.api_url, self.keys.ca_pem, ADMIN_TOKEN, "test")
        self.consul_address = self.layout.pod_addresses[0]
        self._consul: subprocess.Popen[bytes] | None = None

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self) -> None:
        if self._consul is not None:
            self._consul.terminate()
            self._consul.wait()
        self.run(self.client.close())
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def resolve(self, host: str) -> list[str]:
        return [self.consul_address] if host == "consul-server.consul.svc" else []

    def secret(self, name: str) -> dict[str, bytes] | None:
        return self.run(read_secret(self.client, NAMESPACE, name))

    def container(
        self,
        component: str,
        *flags: str,
        env: dict[str, str] | None = None,
        files: dict[str, bytes] | None = None,
    ) -> Container:
        token = self.run(self.client.create_token(NAMESPACE, f"consul-{component}"))
        labels = {"component": component}
        return Container(
            cluster=self.layout,
            client=self.client,
            token=token,
            pod={
                "metadata": {"name": f"{component}-x", "namespace": NAMESPACE, "labels": labels},
                "spec": {},
            },
            address=self.layout.pod_addresses[1],
            env=env or {},
            files=files or {},
            arguments=["consul-k8s-control-plane", component, *flags],
            folder=self.folder / "pod",
            data=self.folder / "data",
            log=self.lines.append,
            dns=self,
        )

    def job(self, component: str, *flags: str, **rest: Any) -> int:
        """Run a Job's container to its end; its exit code."""
        self.apply(
            "v1", "serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": f"consul-{component}"}}
        )
        return self.run(_as_coroutine(JOBS[component](self.container(component, *flags, **rest))))

    def apply(self, api_version: str, plural: str, item: Object, namespace: str | None = NAMESPACE) -> Object:
        item = {"apiVersion": api_version, **item}
        return self.run(self.client.apply(api_version, plural, item["metadata"]["name"], item, namespace))

    def start_consul(self, tool: Path) -> None:
        """A server as the chart configures it, with the certificate and the key that the Jobs made."""
        certificate, gossip = self.secret("consul-server-cert"), self.secret("consul-gossip-encryption-key")
        assert certificate
        assert gossip
        ca = self.secret("consul-ca-cert")
        assert ca
        for name, content in {"ca": ca["tls.crt"], **certificate}.items():
            (self.folder / name).write_bytes(content)
        config = {
            "server": True, "bootstrap_expect": 1, "datacenter": "dc1", "node_name": "consul-server-0",
            "bind_addr": self.consul_address, "client_addr": self.consul_address,
            "data_dir": str(self.folder / "consul"), "encrypt": gossip["key"].decode(),
            "ports": {"http": -1, "https": 8501, "grpc": -1, "dns": -1},
            "ca_file": str(self.folder / "ca"), "cert_file": str(self.folder / "tls.crt"),
            "key_file": str(self.folder / "tls.key"), "verify_incoming_rpc": True, "verify_outgoing": True,
            "verify_server_hostname": True, "disable_update_check": True,
            "acl": {"enabled": True, "default_policy": "deny", "enable_token_persistence": True},
            "connect": {"enabled": True, "enable_mesh_gateway_wan_federation": True},
            "performance": {"raft_multiplier": 1},
        }  # fmt: skip
        (self.folder / "server.json").write_text(json.dumps(config))
        parent = os.getpid()
        with (self.folder / "consul.log").open("wb") as log:
            self._consul = subprocess.Popen(
                [tool, "agent", "-config-file", self.folder / "server.json"],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: die_with_parent(parent),
            )

    def consul(self, token: str) -> ConsulApi:
        ca = self.secret("consul-ca-cert")
        assert ca

        async def addresses() -> list[str]:
            return [self.consul_address]

        return ConsulApi(addresses, 8501, ca["tls.crt"].decode(), "server.dc1.consul", token)

    def ask(self, path: str) -> Any:
        """What Consul answers to its bootstrap token."""
        return self.call(self.bootstrap_token(), lambda consul: consul.find(path))

    def bootstrap_token(self) -> str:
        secret = self.secret("consul-bootstrap-acl-token")
        assert secret
        return secret["token"].decode()

    def call(self, token: str, action: Callable[[ConsulApi], Awaitable[Result]]) -> Result:
        """What a request with a token comes to."""
        client = self.consul(token)

        async def work() -> Result:
            async with client as consul:
                return await action(consul)

        return self.run(work())

    def wait(self, what: Callable[[], Any]) -> Any:
        """The first true answer."""
        deadline = time.monotonic() + PATIENCE
        while not (found := what()):
            assert time.monotonic() < deadline, "it did not come to that in time"
            threading.Event().wait(0.05)
        return found


async def _as_coroutine(work: Awaitable[Result]) -> Result:
    return await work


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A primary as far as Helm's hooks and server-acl-init bring it."""
    folder = tmp_path_factory.mktemp("world")
    block, claimed = claims.claim(folder, 1, None)
    with claimed:
        world = World(folder, block)
        try:
            world.run(world.server.start())
            world.apply("v1", "namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}}, None)
            world.apply("v1", "serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "default"}})
            _auth_method_account(world)
            assert _gossip(world) == 0
            assert _tls(world) == 0
            world.start_consul(ensure("consul")["consul"].path)
            assert _acl_init(world) == 0
            yield world
        finally:
            world.close()


def _auth_method_account(world: World) -> None:
    name = "consul-auth-method"
    world.apply("v1", "serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": name}})
    token = world.run(world.client.create_token(NAMESPACE, name))
    data = {"token": token.encode(), "ca.crt": world.keys.ca_pem.encode(), "namespace": NAMESPACE.encode()}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    world.apply("v1", "secrets", {"kind": "Secret", "metadata": {"name": name}, "data": encoded})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    for role in ("system:auth-delegator", "view-accounts"):
        binding = {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role.replace(":", "-")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }
        world.apply("rbac.authorization.k8s.io/v1", "clusterrolebindings", binding, None)
    rules = [{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]}]
    role = {"kind": "ClusterRole", "metadata": {"name": "view-accounts"}, "rules": rules}
    world.apply("rbac.authorization.k8s.io/v1", "clusterroles", role, None)


def _gossip(world: World) -> int:
    flags = ("-namespace=consul", "-secret-name=consul-gossip-encryption-key", "-secret-key=key")
    return world.job("gossip-encryption-autogenerate", *flags)


def _tls(world: World, *more: str, **rest: Any) -> int:
    flags = ("-dc=dc1", "-domain=consul", "-days=730", "-name-prefix=consul", "-k8s-namespace=consul")
    return world.job("tls-init", *flags, "-additional-dnsname=consul-server.consul.svc", *more, **rest)


def _acl_init(world: World, *more: str) -> int:
    flags = (
        "-resource-prefix=consul", "-k8s-namespace=consul", "-allow-dns=true", "-connect-inject=true",
        "-mesh-gateway=true", "-client=false", "-create-acl-replication-token=true", "-federation=true",
        "-acl-binding-rule-selector=serviceaccount.name!=default",
    )  # fmt: skip
    ca = world.secret("consul-ca-cert")
    assert ca
    return world.job("server-acl-init", *flags, *more, env=SERVER_ENV, files={CA_FILE: ca["tls.crt"]})


def test_gossip_key_is_never_overwritten(world: World) -> None:
    """A second install keeps the key: every server of the federation has it."""
    before = world.secret("consul-gossip-encryption-key")
    assert before
    assert len(base64.b64decode(before["key"])) == 32
    assert _gossip(world) == 0
    assert world.secret("consul-gossip-encryption-key") == before


def test_upgrade_renews_the_certificate_and_keeps_the_ca(world: World) -> None:
    """Each run issues a new server certificate from the same CA."""
    ca, before = world.secret("consul-ca-cert"), world.secret("consul-server-cert")
    assert _tls(world) == 0
    after = world.secret("consul-server-cert")
    assert ca
    assert before
    assert after
    assert world.secret("consul-ca-cert") == ca
    assert before["tls.crt"] != after["tls.crt"]
    x509.load_pem_x509_certificate(after["tls.crt"]).verify_directly_issued_by(
        x509.load_pem_x509_certificate(ca["tls.crt"])
    )


def test_given_ca_is_used_and_not_stored(world: World) -> None:
    """A secondary's certificate is signed by the CA of the federation secret, and no CA Secret appears."""
    certificate, key = world.secret("consul-ca-cert"), world.secret("consul-ca-key")
    assert certificate
    assert key
    files = {"/ca/tls.crt": certificate["tls.crt"], "/key/tls.key": key["tls.key"]}
    flags = ("-name-prefix=other", "-ca=/ca/tls.crt", "-key=/key/tls.key", "-dc=dc2")
    assert _tls(world, *flags, files=files) == 0
    assert world.secret("other-ca-cert") is None
    issued = world.secret("other-server-cert")
    assert issued
    x509.load_pem_x509_certificate(issued["tls.crt"]).verify_directly_issued_by(
        x509.load_pem_x509_certificate(certificate["tls.crt"])
    )


def test_half_a_ca_stops_the_job(world: World) -> None:
    """A CA certificate without its key is an error that names both Secrets, not a reason for a new CA."""
    world.apply("v1", "secrets", {"kind": "Secret", "metadata": {"name": "half-ca-cert"}})
    assert _tls(world, "-name-prefix=half") == 1
    assert "half-ca-cert exists, but half-ca-key does not" in world.lines[-1]


def test_acl_objects_of_a_primary(world: World) -> None:
    """Policies, roles, binding rules and auth methods have the names that the procedure relies on."""
    assert {
        "mesh-gateway-policy",
        "connect-inject-policy",
        "acl-replication-token",
        "anonymous-token-policy",
    } <= {policy["Name"] for policy in world.ask("/v1/acl/policies")}
    assert {role["Name"] for role in world.ask("/v1/acl/roles")} == {
        "consul-mesh-gateway-acl-role", "consul-connect-inject-acl-role",
    }  # fmt: skip
    assert {method["Name"] for method in world.ask("/v1/acl/auth-methods")} == {
        METHOD,
        "consul-k8s-auth-method",
    }
    method = world.ask(f"/v1/acl/auth-method/{METHOD}")
    assert method["Config"]["Host"] == world.layout.api_url
    anonymous = world.ask("/v1/acl/token/00000000-0000-0000-0000-000000000002")
    assert [policy["Name"] for policy in anonymous["Policies"]] == ["anonymous-token-policy"]


def test_acl_init_again_changes_nothing(world: World) -> None:
    """An upgrade makes no second token, rule, role or policy, and overwrites no Secret."""
    kinds = ("policies", "roles", "binding-rules", "auth-methods", "tokens")
    before = [len(world.ask(f"/v1/acl/{kind}")) for kind in kinds]
    secret = world.secret("consul-acl-replication-acl-token")
    assert _acl_init(world) == 0
    assert [len(world.ask(f"/v1/acl/{kind}")) for kind in kinds] == before
    assert world.secret("consul-acl-replication-acl-token") == secret


def test_lost_bootstrap_token(world: World) -> None:
    """Bootstrapped, but the token is nowhere: the Job says so at once instead of trying for ten minutes."""
    assert _acl_init(world, "-bootstrap-token-secret-name=lost") == 1
    assert "ACLs already bootstrapped" in world.lines[-1]


def test_secrets_are_not_in_the_logs(world: World) -> None:
    """No token, key or gossip key shows in any Job's log."""
    log = "\n".join(world.lines)
    names = ("consul-bootstrap-acl-token", "consul-acl-replication-acl-token", "consul-gossip-encryption-key")
    for name in names:
        for value in (world.secret(name) or {}).values():
            assert value.decode() not in log
    assert "PRIVATE KEY" not in log


def _gateway_container(world: World, *flags: str) -> Container:
    account = {"kind": "ServiceAccount", "metadata": {"name": "consul-mesh-gateway"}}
    world.apply("v1", "serviceaccounts", account)
    ca = world.secret("consul-ca-cert")
    assert ca
    dataplane = ("-addresses=consul-server.consul.svc", "-grpc-port=8502", f"-ca-certs={CA_FILE}")
    return world.container("mesh-gateway", *dataplane, *flags, files={CA_FILE: ca["tls.crt"]})


def test_login_and_logout(world: World) -> None:
    """A pod gets a token with its component's role for its service account's token, and can give it back."""
    container = _gateway_container(world, f"-login-auth-method={METHOD}", "-login-datacenter=dc1")
    token = world.run(login(container))

    def who() -> Any:
        return world.call(token, lambda consul: consul.get("/v1/acl/token/self"))

    assert [role["Name"] for role in who()["Roles"]] == ["consul-mesh-gateway-acl-role"]
    world.run(logout(container, token))
    with pytest.raises(ConsulError, match="ACL not found"):
        who()


def test_login_with_a_forged_token(world: World) -> None:
    """Consul asks the API server, and a token that this one did not sign gets nothing."""
    container = _gateway_container(world, f"-login-auth-method={METHOD}")
    header, payload, _ = container.token.split(".")
    container.token = f"{header}.{payload}.{'A' * 43}"
    with pytest.raises(ConsulError):
        world.run(login(container))


def test_login_without_acls(world: World) -> None:
    """A gateway that was told no auth method has no token and needs none."""
    assert world.run(login(_gateway_container(world))) == ""


@pytest.fixture
def controllers(world: World) -> Iterator[World]:
    """The controllers at work, for a release whose connect-injector logs in."""
    _install(world)
    task = asyncio.run_coroutine_threadsafe(run_consul_k8s(world.layout, world.client), world._loop)
    yield world
    task.cancel()
    for plural in ("pods", "services"):
        for item in world.run(world.client.list("v1", plural, NAMESPACE)):
            world.run(world.client.delete("v1", plural, item["metadata"]["name"], NAMESPACE, grace_seconds=0))


def _install(world: World) -> None:
    account = {"kind": "ServiceAccount", "metadata": {"name": "consul-connect-injector"}}
    world.apply("v1", "serviceaccounts", account)
    labels = {"component": "server"}
    server = {"name": "consul-server-0", "labels": labels}
    _pod(world, server, {"podIP": world.consul_address})
    world.apply(
        "v1",
        "services",
        {
            "kind": "Service",
            "metadata": {"name": "consul-server"},
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"name": "https", "port": 8501}]},
        },
    )
    login_env = {"CONSUL_LOGIN_AUTH_METHOD": METHOD, "CONSUL_LOGIN_DATACENTER": "dc1"}
    container = {
        "name": "sidecar-injector",
        "image": "consul-k8s",
        "command": ["consul-k8s-control-plane", "inject-connect"],
        "args": ["-enable-federation", "-resource-prefix=consul"],
        "env": [{"name": name, "value": value} for name, value in {**SERVER_ENV, **login_env}.items()],
        "volumeMounts": [{"name": "consul-ca-cert", "mountPath": "/consul/tls/ca"}],
    }
    labels = {"component": "connect-injector", "release": "consul"}
    spec = {
        "serviceAccountName": "consul-connect-injector",
        "containers": [container],
        "volumes": [{"name": "consul-ca-cert", "secret": {"secretName": "consul-ca-cert"}}],
    }
    world.apply(
        "apps/v1",
        "deployments",
        {
            "kind": "Deployment",
            "metadata": {"name": "consul-connect-injector", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    )  # fmt: skip


def _pod(world: World, metadata: Object, status: Object) -> None:
    spec = {"nodeName": "node1", "containers": [{"name": "main", "image": "x"}]}
    world.apply("v1", "pods", {"kind": "Pod", "metadata": metadata, "spec": spec})
    status = {"hostIP": "127.0.0.2", **status}
    world.run(
        world.client.merge_patch(
            "v1", "pods", metadata["name"], {"status": status}, NAMESPACE, subresource="status"
        )
    )


def _gateway_pod(world: World, ready: bool = True) -> None:
    prefix = "consul.hashicorp.com/"
    annotations = {
        "gateway-kind": "mesh-gateway", "gateway-consul-service-name": "mesh-gateway",
        "mesh-gateway-container-port": "8443", "gateway-wan-address-source": "Service", "gateway-wan-port": "443",
    }  # fmt: skip
    metadata = {
        "name": "gw-1",
        "labels": {"component": "mesh-gateway", "release": "consul"},
        "annotations": {prefix + name: value for name, value in annotations.items()},
    }
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    _pod(world, metadata, {"podIP": "127.0.0.9", "conditions": conditions})


def _gateway_service(world: World, *ingress: Object) -> None:
    labels = {"component": "mesh-gateway"}
    world.apply(
        "v1",
        "services",
        {
            "kind": "Service",
            "metadata": {"name": "consul-mesh-gateway", "labels": labels},
            "spec": {
                "type": "LoadBalancer",
                "selector": labels,
                "ports": [{"port": 443, "targetPort": 8443}],
            },
        },
    )
    status = {"status": {"loadBalancer": {"ingress": list(ingress)}}}
    name = "consul-mesh-gateway"
    world.run(world.client.merge_patch("v1", "services", name, status, NAMESPACE, subresource="status"))


def _gateways(world: World) -> list[Object]:
    return world.ask("/v1/health/service/mesh-gateway")


def test_gateway_registration(controllers: World) -> None:
    """A gateway is registered once its load balancer has an address, follows its pod's health, and goes with it."""
    world = controllers
    _gateway_service(world)
    _gateway_pod(world)

    def events() -> list[str]:
        return [event["message"] for event in world.run(world.client.list("v1", "events", NAMESPACE))]

    world.wait(lambda: any("failed to read ingress config for loadbalancer" in text for text in events()))
    assert _gateways(world) == []

    _gateway_service(world, {"ip": "127.1.2.3"})
    (found,) = world.wait(lambda: _gateways(world))
    service = found["Service"]
    assert (found["Node"]["Node"], service["Kind"], service["Port"]) == (
        "node1-virtual",
        "mesh-gateway",
        8443,
    )
    assert service["TaggedAddresses"]["lan"] == {"Address": "127.0.0.9", "Port": 8443}
    assert service["TaggedAddresses"]["wan"] == {"Address": "127.1.2.3", "Port": 443}
    assert service["Meta"]["consul-wan-federation"] == "1"
    assert service["Meta"]["pod-name"] == "gw-1"
    assert [check["Status"] for check in found["Checks"]] == ["passing"]

    _gateway_pod(world, ready=False)
    world.wait(lambda: [check["Status"] for check in _gateways(world)[0]["Checks"]] == ["critical"])

    world.run(world.client.delete("v1", "pods", "gw-1", NAMESPACE, grace_seconds=0))
    world.wait(lambda: _gateways(world) == [])
    world.wait(lambda: "node1-virtual" not in [node["Node"] for node in world.ask("/v1/catalog/nodes")])


def test_federation_secret(controllers: World) -> None:
    """The Secret has exactly the keys that a secondary needs, each byte for byte what its source has."""
    world = controllers
    _gateway_service(world, {"hostname": "gateway.example"})
    _gateway_pod(world)
    world.wait(lambda: _gateways(world))
    sources = {
        name: world.secret(f"consul-{name}")
        for name in ("ca-cert", "ca-key", "gossip-encryption-key", "acl-replication-acl-token")
    }
    data = {name: value for name, value in sources.items() if value}
    files = {CA_FILE: data["ca-cert"]["tls.crt"], "/ca/tls.key": data["ca-key"]["tls.key"],
             "/gossip.key": data["gossip-encryption-key"]["key"]}  # fmt: skip
    flags = (
        "-resource-prefix=consul", "-k8s-namespace=consul", "-mesh-gateway-service-name=mesh-gateway",
        f"-server-ca-cert-file={CA_FILE}", "-server-ca-key-file=/ca/tls.key", "-gossip-key-file=/gossip.key",
        "-export-replication-token=true", "-consul-api-timeout=5s",
    )  # fmt: skip
    env = {"CONSUL_HTTP_ADDR": "https://consul-server.consul.svc:8501", "CONSUL_CACERT": CA_FILE}
    for _ in range(2):  # the second time it is updated in its place
        assert world.job("create-federation-secret", *flags, env=env, files=files) == 0, world.lines[-1]
    expected = b'{"primary_datacenter":"dc1","primary_gateways":["gateway.example:443"]}'
    assert world.secret("consul-federation") == {
        "caCert": data["ca-cert"]["tls.crt"],
        "caKey": data["ca-key"]["tls.key"],
        "gossipEncryptionKey": data["gossip-encryption-key"]["key"],
        "replicationToken": data["acl-replication-acl-token"]["token"],
        "serverConfigJSON": expected,
    }
    labels = world.run(world.client.get("v1", "secrets", "consul-federation", NAMESPACE))["metadata"][
        "labels"
    ]
    assert labels == {"managed-by": "consul-k8s"}


def test_federation_secret_with_an_empty_gossip_key(world: World) -> None:
    """An empty gossip key stops the Job before anything is written."""
    flags = (
        "-resource-prefix=empty", "-k8s-namespace=consul", "-mesh-gateway-service-name=mesh-gateway",
        "-server-ca-cert-file=/a", "-server-ca-key-file=/b", "-gossip-key-file=/gossip.key",
    )  # fmt: skip
    assert world.job("create-federation-secret", *flags, files={"/gossip.key": b""}) == 1
    assert 'gossip key file "/gossip.key" was empty' in world.lines[-1]


def _definition(world: World) -> None:
    chart = Path(__file__).parents[2] / "consulfed_lib/sandbox/chart/consul"
    rendered = subprocess.run(
        [ensure("helm")["helm"].path, "template", "x", chart, "--show-only", "templates/crds.yaml"],
        check=True, capture_output=True,
    )  # fmt: skip
    for item in yaml.safe_load_all(rendered.stdout):
        if item and item["spec"]["names"]["kind"] == "ProxyDefaults":
            world.apply("apiextensions.k8s.io/v1", "customresourcedefinitions", item, None)


def _condition(world: World) -> Object:
    item = world.run(world.client.find(API_VERSION, "proxydefaults", "global", NAMESPACE)) or {}
    conditions = (item.get("status") or {}).get("conditions") or [{}]
    return conditions[0]


def _proxy_defaults(world: World, mode: str) -> None:
    spec = {"meshGateway": {"mode": mode}}
    item = {"kind": "ProxyDefaults", "metadata": {"name": "global"}, "spec": spec}
    world.wait(lambda: _served(world))
    world.apply(API_VERSION, "proxydefaults", item)


def _served(world: World) -> bool:
    definition = world.run(
        world.client.get(
            "apiextensions.k8s.io/v1", "customresourcedefinitions", "proxydefaults.consul.hashicorp.com"
        )
    )
    conditions = (definition.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def test_proxy_defaults(controllers: World) -> None:
    """The resource becomes a config entry and is marked Synced; changes follow; deleting it deletes the entry."""
    world = controllers
    _definition(world)
    _proxy_defaults(world, "local")
    world.wait(lambda: _condition(world).get("status") == "True")
    entry = world.ask("/v1/config/proxy-defaults/global")
    assert entry["MeshGateway"] == {"Mode": "local"}
    assert entry["Meta"] == {
        "external-source": "kubernetes", "consul.hashicorp.com/source-datacenter": "dc1",
    }  # fmt: skip
    _proxy_defaults(world, "remote")
    world.wait(lambda: world.ask("/v1/config/proxy-defaults/global")["MeshGateway"] == {"Mode": "remote"})
    world.run(world.client.delete(API_VERSION, "proxydefaults", "global", NAMESPACE))
    world.wait(lambda: world.ask("/v1/config/proxy-defaults/global") is None)
    world.wait(
        lambda: world.run(world.client.find(API_VERSION, "proxydefaults", "global", NAMESPACE)) is None
    )


def test_proxy_defaults_of_another_datacenter(controllers: World) -> None:
    """An entry that another datacenter manages is neither overwritten nor, later, deleted."""
    world = controllers
    _definition(world)
    entry = {
        "Kind": "proxy-defaults", "Name": "global", "MeshGateway": {"Mode": "remote"},
        "Meta": {"consul.hashicorp.com/source-datacenter": "dc9"},
    }  # fmt: skip

    world.call(world.bootstrap_token(), lambda consul: consul.put("/v1/config", entry))
    _proxy_defaults(world, "local")
    condition = world.wait(lambda: _condition(world) if _condition(world).get("status") == "False" else None)
    assert condition["reason"] == "ExternallyManagedConfigError"
    assert condition["message"] == 'config entry managed in different datacenter: "dc9"'
    # What says the same as the entry is in order, whoever owns it.
    _proxy_defaults(world, "remote")
    world.wait(lambda: _condition(world).get("status") == "True")
    world.run(world.client.delete(API_VERSION, "proxydefaults", "global", NAMESPACE))
    world.wait(
        lambda: world.run(world.client.find(API_VERSION, "proxydefaults", "global", NAMESPACE)) is None
    )
    assert world.ask("/v1/config/proxy-defaults/global")["MeshGateway"] == {"Mode": "remote"}


def test_proxy_defaults_beside_an_entry_of_nobody(controllers: World) -> None:
    """An entry that a person wrote into Consul is not overwritten, and said to be there."""
    world = controllers
    _definition(world)
    entry = {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}
    world.call(world.bootstrap_token(), lambda consul: consul.put("/v1/config", entry))
    _proxy_defaults(world, "local")
    condition = world.wait(lambda: _condition(world) if _condition(world).get("status") == "False" else None)
    assert (condition["reason"], condition["message"]) == (
        "ExternallyManagedConfigError",
        "config entry already exists in Consul",
    )
    world.run(world.client.delete(API_VERSION, "proxydefaults", "global", NAMESPACE))
    world.wait(
        lambda: world.run(world.client.find(API_VERSION, "proxydefaults", "global", NAMESPACE)) is None
    )


def test_cleanup_jobs(world: World) -> None:
    """Uninstalling deletes the Secrets that the script names; a Job that succeeded is deleted with its pods."""
    world.apply("v1", "secrets", {"kind": "Secret", "metadata": {"name": "old-server-cert"}})
    script = "curl -X DELETE https://${H}:${P}/api/v1/namespaces/${NAMESPACE}/secrets/old-server-cert -H x"
    assert world.job("tls-init-cleanup", script) == 0
    assert world.secret("old-server-cert") is None
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}
    job = {"kind": "Job", "metadata": {"name": "done"}, "spec": {"template": template}}
    world.apply("batch/v1", "jobs", job)
    status = {"status": {"succeeded": 1}}
    world.run(world.client.merge_patch("batch/v1", "jobs", "done", status, NAMESPACE, subresource="status"))
    assert world.job("server-acl-init-cleanup", "-k8s-namespace=consul", "done") == 0
    assert world.job("server-acl-init-cleanup", "-k8s-namespace=consul", "done") == 0
    assert "does not exist" in world.lines[-1]


def test_cleanup_of_a_failed_job(world: World) -> None:
    """A Job that has used up its attempts is not waited for."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}
    world.apply(
        "batch/v1", "jobs", {"kind": "Job", "metadata": {"name": "failed"}, "spec": {"template": template}}
    )
    conditions = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
    status = {"status": {"conditions": conditions}}
    world.run(world.client.merge_patch("batch/v1", "jobs", "failed", status, NAMESPACE, subresource="status"))
    assert world.job("server-acl-init-cleanup", "-k8s-namespace=consul", "failed") == 1
    assert "its backoff limit is reached" in world.lines[-1]
