"""An API server of the sandbox for the contract tests, with just enough of a cluster behind it.

It runs in a thread with a loop of its own. The node is no kubelet: it says that things are ready as soon as
they exist, and runs the commands of `exec` on this machine. What a real cluster takes minutes for is done at
once; what the tests assert is the API.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from consulfed_lib.sandbox.apiserver import ApiServer, User
from consulfed_lib.sandbox.apiserver.deletion import DeleteOptions
from consulfed_lib.sandbox.apiserver.rest import WriteOptions
from consulfed_lib.sandbox.apiserver.store import Event, Object, StorageKey, now

ADMIN_TOKEN = "contract-admin"
NODE = "contract-node"
_AS_NODE = WriteOptions("contract-node")


def write_certificates(folder: Path, host: str) -> str:
    """A CA (returned as PEM) and a serving certificate of it: `api.pem` and `api-key.pem` in the folder."""

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        moment = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - datetime.timedelta(minutes=5))
            .not_valid_after(moment + datetime.timedelta(days=1))
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contract-ca")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    signing = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **signing)
    ca = (
        builder("contract-ca", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    certificate = (
        builder("contract-api", key)
        .add_extension(names, critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "api.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "api-key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca.public_bytes(pem).decode()


def kubeconfig(url: str, ca_pem: str, token: str) -> str:
    """A kubeconfig with one context, `contract`."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode()}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "contract",
            "clusters": [{"name": "contract", "cluster": cluster}],
            "users": [{"name": "contract", "user": {"token": token}}],
            "contexts": [{"name": "contract", "context": {"cluster": "contract", "user": "contract"}}],
        }
    )


class HostKubelet:
    """Streams of pods, served by this machine: commands run here, every port is one HTTP server."""

    async def logs(
        self, namespace: str, pod: str, container: str, *, follow: bool, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        lines = [b"line 1\n", b"line 2\n", b"line 3\n"]
        for line in lines if tail_lines is None else lines[len(lines) - tail_lines :]:
            yield line

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        stdin: asyncio.StreamReader | None,
        stdout: Callable[[bytes], Awaitable[None]],
        stderr: Callable[[bytes], Awaitable[None]],
        tty: bool,
    ) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe if stdin else asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        assert process.stdout
        assert process.stderr

        async def feed() -> None:
            assert process.stdin
            assert stdin
            while data := await stdin.read(1 << 16):
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.close()

        async def drain(source: asyncio.StreamReader, sink: Callable[[bytes], Awaitable[None]]) -> None:
            while data := await source.read(1 << 16):
                await sink(data)

        feeding = asyncio.create_task(feed()) if stdin else None
        await asyncio.gather(drain(process.stdout, stdout), drain(process.stderr, stderr))
        if feeding:
            feeding.cancel()
        return await process.wait()

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port != 8080:
            raise ConnectionRefusedError(f"connection refused: nothing listens on {port}")
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(_serve_http(reader, writer))
        _serving.add(task)
        task.add_done_callback(_serving.discard)
        return await asyncio.open_connection(sock=ours)


_serving: set[asyncio.Task[None]] = set()


async def _serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with the path that it asked for."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    writer.close()


class Node:
    """Does to new objects, one step after each write, what controllers and a kubelet would do in time."""

    def __init__(self, server: ApiServer):
        self._server = server
        server.store.on_write.append(self._observe)

    def _observe(self, key: StorageKey, event: Event) -> None:
        loop = asyncio.get_running_loop()
        if not event.deleted:
            loop.call_soon(self._react, key, event.after["metadata"]["uid"])
        elif namespace := event.after["metadata"].get("namespace"):
            held = self._server.store.get(("", "namespaces"), "", namespace)
            if held is not None:
                loop.call_soon(self._react, ("", "namespaces"), held["metadata"]["uid"])

    def _react(self, key: StorageKey, uid: str) -> None:
        found = self._server.store.find(uid)
        reaction = self._REACTIONS.get(key)
        if found is not None and reaction is not None:
            reaction(self, found[1])

    def _write(self, obj: Object, change: Callable[[Object], None], sub: str = "") -> None:
        resource = self._server.registry.of_kind(obj["apiVersion"], obj["kind"])
        assert resource
        self._server.rest.modify(resource, obj, change, _AS_NODE, sub)

    def _set_status(self, obj: Object, **status: Any) -> None:
        held = obj.get("status") or {}
        if any(held.get(key) != value for key, value in status.items()):
            self._write(obj, lambda new: new.setdefault("status", {}).update(status), "status")

    def _namespace(self, obj: Object) -> None:
        name, registry, store = obj["metadata"]["name"], self._server.registry, self._server.store
        if "deletionTimestamp" not in obj["metadata"]:
            accounts = registry.get("", "v1", "serviceaccounts")
            assert accounts
            if store.get(("", "serviceaccounts"), name, "default") is None:
                account = {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "default", "namespace": name},
                }
                self._server.rest.create(accounts, name, account, _AS_NODE)
            return
        left = False
        for key, held in list(store.everything()):
            resource = registry.stored(key)
            if held["metadata"].get("namespace") == name and resource:
                left = True
                if "deletionTimestamp" not in held["metadata"]:
                    self._server.deleter.delete(resource, held, DeleteOptions(grace=0, policy="Background"))
        if not left:
            self._write(obj, lambda new: new["spec"].pop("finalizers", None), "finalize")

    def _pod(self, obj: Object) -> None:
        resource = self._server.registry.get("", "v1", "pods")
        assert resource
        if "deletionTimestamp" in obj["metadata"]:
            self._server.deleter.delete(resource, obj, DeleteOptions(grace=0))
        elif not obj["spec"].get("nodeName"):
            self._server.store.put(("", "pods"), {**obj, "spec": {**obj["spec"], "nodeName": NODE}})
        elif obj["status"]["phase"] == "Pending":
            true = {"status": "True", "lastTransitionTime": now()}
            containers = [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now()}},
                }
                for container in obj["spec"]["containers"]
            ]
            self._set_status(
                obj,
                phase="Running",
                startTime=now(),
                conditions=[{"type": kind, **true} for kind in ("PodScheduled", "ContainersReady", "Ready")],
                containerStatuses=containers,
            )

    def _job(self, obj: Object) -> None:
        if obj.get("status", {}).get("completionTime"):
            return
        done = {"status": "True", "lastTransitionTime": now(), "lastProbeTime": now()}
        self._set_status(
            obj,
            startTime=now(),
            completionTime=now(),
            succeeded=1,
            conditions=[{"type": kind, **done} for kind in ("SuccessCriteriaMet", "Complete")],
        )

    def _workload(self, obj: Object) -> None:
        count = obj["spec"]["replicas"]
        numbers = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
        status: dict[str, Any] = {name: count for name in numbers if count}
        status["observedGeneration"] = obj["metadata"]["generation"]
        if obj["kind"] == "StatefulSet":
            status |= {"currentRevision": "r1", "updateRevision": "r1", "currentReplicas": count}
        elif not (obj.get("status") or {}).get("conditions"):
            moment = {"lastTransitionTime": now(), "lastUpdateTime": now(), "status": "True", "message": ""}
            status["conditions"] = [
                {"type": "Available", "reason": "MinimumReplicasAvailable", **moment},
                {"type": "Progressing", "reason": "NewReplicaSetAvailable", **moment},
            ]
        self._set_status(obj, **status)

    def _service(self, obj: Object) -> None:
        if obj["spec"].get("type") == "LoadBalancer":
            self._set_status(obj, loadBalancer={"ingress": [{"ip": "192.0.2.10", "ipMode": "VIP"}]})

    _REACTIONS: ClassVar[dict[StorageKey, Callable[[Node, Object], None]]] = {
        ("", "namespaces"): _namespace,
        ("", "pods"): _pod,
        ("", "services"): _service,
        ("apps", "deployments"): _workload,
        ("apps", "statefulsets"): _workload,
        ("batch", "jobs"): _job,
    }


class Emulator:
    """An API server with its node, in a thread; use it as a context manager."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.audit_log = folder / "audit.log"
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="contract-apiserver", daemon=True)

    def __enter__(self) -> Emulator:
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        # Each test run, and each worker of one, takes the first block of addresses that no other one has.
        for block in range(130, 250):
            ca_pem = write_certificates(self.folder, f"127.{block}.1.1")
            self.server = self._new_server(f"127.{block}.1.1", ca_pem)
            with contextlib.suppress(OSError):
                await self.server.start()
                break
        else:
            raise OSError("no free 127.A.1.1:6443")
        self.kubeconfig.write_text(kubeconfig(self.server.url, ca_pem, ADMIN_TOKEN))
        self.kubeconfig.chmod(0o600)
        self._ready.set()
        await self._end.wait()
        await self.server.stop()

    def _new_server(self, host: str, ca_pem: str) -> ApiServer:
        server = ApiServer(
            name="contract",
            host=host,
            port=6443,
            certificate=self.folder / "api.pem",
            private_key=self.folder / "api-key.pem",
            ca_pem=ca_pem,
            service_account_key=b"contract-tests-only-not-a-secret",
            tokens={ADMIN_TOKEN: User("contract-admin", ("system:masters",))},
            kubelet=HostKubelet(),
            audit_log=self.audit_log,
        )
        Node(server)
        return server
