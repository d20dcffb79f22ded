"""What the tests of the runbook library share: parameters, a certificate authority, and a small HTTPS server.

Nothing of the project is replaced here: Kubernetes' and Consul's clients run as they are, over TLS, against answers
that a test writes down. Whole clusters are the sandbox's business.
"""

from __future__ import annotations

import base64
import copy
import datetime
import ipaddress
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import consulfed_lib.sandbox
from consulfed_lib import iris, redact
from consulfed_lib import params as parameters
from consulfed_lib.checks.target import Target
from consulfed_lib.cluster import Cluster
from consulfed_lib.consul import Consul
from consulfed_lib.errors import ClusterError
from consulfed_lib.nursery import NAME
from consulfed_lib.redact import Secret

iris.leave_out()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background: every process that a test starts would inherit that, and hear no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TOKEN = "bearer-token-that-nobody-may-read"
COOKIE = "session-cookie-that-nobody-may-read"
"""Stands in a header of every answer of an HttpsServer."""
RAW: dict[str, Any] = {
    "federation": "test",
    "chart": {"ref": "hashicorp/consul", "version": "1.9.11"},
    "primary": {"context": "one", "datacenter": "dc1"},
    "secondaries": [{"context": "two", "datacenter": "dc2"}],
}


@pytest.fixture
def no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine where no cluster is known and no sandbox runs; contexts are then not compared."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setenv("CONSULFED_SANDBOX", str(tmp_path / "no-sandbox"))


@pytest.fixture
def raw(no_kubeconfig: None) -> dict[str, Any]:
    """The shortest parameters that are well, as a file or a notebook gives them."""
    return copy.deepcopy(RAW)


@pytest.fixture
def federation(raw: dict[str, Any]) -> Callable[..., parameters.Federation]:
    """Makes parameters that are well: the shortest ones, with changes."""
    return lambda **changes: parameters.check(raw | changes, "the test")


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test registers as secret is no secret of the next one."""
    monkeypatch.setattr(redact, "_known", set())
    monkeypatch.setattr(redact, "_values", set())


class Authority:
    """A certificate authority, made for the tests."""

    def __init__(self, name: str = "Test CA", lasts: datetime.timedelta = datetime.timedelta(days=365)):
        self.lasts = lasts
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, x509.BasicConstraints(True, None))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.key_pem = _key_pem(self.key)

    def issue(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Certificate and key in PEM for these host names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        certificate = self._signed(
            subject, key, x509.SubjectAlternativeName([_general_name(n) for n in names])
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), _key_pem(key)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: Any
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + self.lasts)
        critical = isinstance(extension, x509.BasicConstraints)
        return builder.add_extension(extension, critical).sign(self.key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that everybody in the tests trusts."""
    return Authority()


@pytest.fixture(scope="session")
def other_authority() -> Authority:
    """A CA that nobody trusts."""
    return Authority("Other CA")


@dataclass
class Request:
    """What a server was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    connection: tuple[str, int]


@dataclass
class HttpsServer:
    """Answers from a table: `answers["GET /version"] = (200, {...})`; whatever is not in it is a 404 Status.

    A table's value may also be a function of the Request that gives such a pair. `close_after` names requests whose
    connection is closed without a word after the answer, as a proxy does that has had enough of it. `ahead` is by how
    many seconds its clock is wrong.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    close_after: set[str] = field(default_factory=set)
    port: int = 0
    ahead: float = 0.0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def asked(self, method: str = "") -> list[str]:
        """The requests so far, as `GET /path`."""
        return [f"{r.method} {r.path}" for r in self.requests if r.method.startswith(method)]

    def answer(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        found = self.answers.get(f"{request.method} {request.path}")
        if callable(found):
            found = found(request)
        if found is None:
            status = {"kind": "Status", "status": "Failure", "code": 404}
            found = 404, status | {"reason": "NotFound", "message": f"{request.path} not found"}
        code, body = found
        return code, body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    table: HttpsServer

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        asked = Request(
            self.command, url.path, query, headers, json.loads(body) if body else None, self.client_address
        )
        code, answer = self.table.answer(asked)
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.send_header("set-cookie", COOKIE)
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = f"{self.command} {url.path}" in self.table.close_after

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.table.ahead)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: Any) -> None:
        """A test's output is for failures."""


class _Server(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread, so that a client that refuses our certificate stops nobody."""

    daemon_threads = True
    request_queue_size = 64
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            request = self.context.wrap_socket(request, server_side=True)
        except (ssl.SSLError, OSError):
            return
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


@pytest.fixture
def https(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., HttpsServer]]:
    """Starts HTTPS servers on loopback: `https(names=(…), signed_by=…)`; they end with the test."""
    running: list[_Server] = []

    def start(names: tuple[str, ...] = ("127.0.0.1",), signed_by: Authority = authority) -> HttpsServer:
        files = tmp_path_factory.mktemp("https")
        certificate, key = signed_by.issue(names)
        (files / "pem").write_text(certificate + key)
        table = HttpsServer()
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"table": table}))
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(files / "pem")
        table.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(server)
        return table

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def kubeconfig(authority: Authority, tmp_path: Path) -> Callable[..., str]:
    """Writes a kubeconfig for contexts and their API servers' URLs; gives its path."""

    def write(ca_pem: str = authority.pem, **servers: str) -> str:
        (tmp_path / "ca.pem").write_text(ca_pem)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": next(iter(servers)),
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "clusters": [
                {"name": name, "cluster": {"server": url, "certificate-authority": str(tmp_path / "ca.pem")}}
                for name, url in servers.items()
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}} for name in servers],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    return write


@pytest.fixture
def api(https: Callable[..., HttpsServer]) -> HttpsServer:
    """An API server that knows what a test tells it."""
    return https()


@pytest.fixture
def cluster(api: HttpsServer, kubeconfig: Callable[..., str]) -> Cluster:
    """The client of that API server."""
    return Cluster("one", kubeconfig(one=api.url))


CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
RULES = "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


@pytest.fixture
def target(cluster: Cluster, federation: Callable[..., parameters.Federation]) -> Target:
    """That cluster as preflight sees it: the primary's, with a chart that is at hand."""
    params = federation(chart={"ref": str(CHART), "version": "1.9.11-sandbox"})
    return Target(params, params.primary, cluster)


def ready(api: HttpsServer, uid: str = "u-1") -> None:
    """What an empty cluster that is ready answers."""
    api.answers["GET /version"] = 200, {"gitVersion": "v1.34.0"}
    api.answers["GET /api/v1/namespaces/kube-system"] = 200, {"metadata": {"uid": uid}}
    node = {"metadata": {"name": "node-1"}, "spec": {"providerID": "aws:///eu-central-1a/i-0"}}
    api.answers["GET /api/v1/nodes"] = 200, {"items": [node]}
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    default = {"metadata": {"name": "gp3", "annotations": mark}, "provisioner": "ebs.csi.aws.com"}
    api.answers["GET /apis/storage.k8s.io/v1/storageclasses"] = 200, {"items": [default]}
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    api.answers[RULES] = 201, {"status": {"resourceRules": [everything], "incomplete": False}}


@pytest.fixture
def secret_data(authority: Authority) -> Callable[..., dict[str, bytes]]:
    """Data of a federation secret as consul-k8s writes it: raw values, PEM with its newline, compact JSON."""

    def make(gateway: str = "10.0.0.1:443", primary: str = "dc1") -> dict[str, bytes]:
        config = {"primary_datacenter": primary, "primary_gateways": [gateway]}
        return {
            "caCert": authority.pem.encode(),
            "caKey": authority.key_pem.encode(),
            "serverConfigJSON": json.dumps(config, separators=(",", ":")).encode(),
            "replicationToken": b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11",
            "gossipEncryptionKey": base64.b64encode(bytes(range(32))),
        }

    return make


def secret_object(data: dict[str, bytes], name: str = "consul-federation") -> dict[str, Any]:
    """A Secret as the API server has it."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": "consul", "labels": {"managed-by": "consul-k8s"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}


class NearCluster(Cluster):
    """A cluster on whose pods this process can call directly: `dial` needs no port-forward. `down` refuses, and so do
    the pods that are `gone`."""

    port: int = 0
    down: str = ""
    gone: frozenset[str] | set[str] = frozenset()

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        if self.down or pod in self.gone:
            raise ClusterError(self.down or f"no pod {pod}")
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@dataclass
class ConsulServer:
    """Consul's HTTPS API as a test wrote it down, and the real client of it."""

    api: HttpsServer
    consul: HttpsServer
    cluster: NearCluster
    client: Consul

    def answers(self, path: str, body: Any, status: int = 200) -> None:
        self.consul.answers[f"GET /v1/{path}"] = status, body


@pytest.fixture
def consul_server(
    https: Callable[..., HttpsServer], kubeconfig: Callable[..., str], authority: Authority
) -> Iterator[Callable[..., ConsulServer]]:
    """Starts the API of a datacenter: `consul_server("dc1", token=…, signed_by=…)`."""
    clients: list[Consul] = []

    def start(
        datacenter: str, *, context: str = "", token: Secret | None = None, signed_by: Authority = authority
    ) -> ConsulServer:
        api, consul = https(), https(names=(f"server.{datacenter}.consul",), signed_by=signed_by)
        cluster = NearCluster(context or datacenter, kubeconfig(**{context or datacenter: api.url}))
        cluster.port = consul.port
        client = Consul(cluster, "consul", "consul-server-0", datacenter, authority.pem, token)
        clients.append(client)
        return ConsulServer(api, consul, cluster, client)

    yield start
    for client in clients:
        client.close()


def is_kernel(process: psutil.Process) -> bool:
    """Whether it is a kernel of a run, and works."""
    try:
        return process.name() == NAME and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A real process that lives until it is told to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()
