"""The API server of one cluster: HTTPS, who asks, whether they may, and a line in the audit log."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..packets import drop_from
from . import bootstrap, discovery, openapi, reads
from .audit import AuditLog, timestamp
from .auth import AUDIENCE, Authenticator
from .cluster import DEFAULT_CLUSTER_IPS, Cluster
from .contracts import Kubelet, User
from .definitions import Definitions
from .deletion import Deleter
from .dispatch import Answer, Dispatcher
from .rbac import Attributes, Authorizer, refusal
from .request import RequestInfo, negotiate, parse
from .resources import Registry
from .rest import APPLY_PATCH, Rest, WriteOptions
from .snapshot import Snapshot
from .status import ApiError, internal_error, no_such_path, not_found
from .store import Object, Store, clone
from .webhooks import Webhook

_log = logging.getLogger(__name__)
MAX_BODY = 3 * 1024 * 1024
"""Bytes of a request body, as a real API server limits them."""

_UPGRADED = ("exec", "attach", "portforward")
_HEALTH = ("/healthz", "/livez", "/readyz")


class ApiServer:
    """One cluster's API server; several may live in one process.

    Args:
        name: what the cluster is called in logs.
        host, port: where to listen.
        certificate, private_key: PEM files of the serving certificate.
        ca_pem: the cluster's CA, as it goes into token Secrets.
        service_account_key: signs the service accounts' tokens (HS256).
        tokens: static bearer tokens; members of the group system:masters may do everything.
        kubelet: serves exec, attach, log and port-forward; it may be set later.
        audit_log: a file that gets one JSON line a request.
        cluster_ips: addresses for Services; the first one is that of the Service `kubernetes`.
        snapshot: a file that keeps the objects over a restart; without it they live in memory only.
        objects: more that is there from the start, brought up to date where it is there already.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        certificate: Path,
        private_key: Path,
        ca_pem: str,
        service_account_key: bytes,
        tokens: Mapping[str, User],
        kubelet: Kubelet | None = None,
        audit_log: Path | None = None,
        cluster_ips: Sequence[str] = DEFAULT_CLUSTER_IPS,
        snapshot: Path | None = None,
        objects: Sequence[Object] = (),
    ):
        self.name = name
        self.host = host
        self.port = port
        self._certificate = certificate
        self._private_key = private_key
        self._audit_path = audit_log
        self._audit: AuditLog | None = None
        self._stopping = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._listening: asyncio.Server | None = None
        self._serving: web.Server | None = None
        self.delay = 0.0
        """Seconds by which each answer comes later than it could."""
        self.ahead = 0
        """Seconds by which the clock is ahead that answers tell."""
        self._objects = objects
        self.store = Store()
        self._snapshot = Snapshot(self.store, snapshot) if snapshot else None
        self.registry = Registry()
        self.authenticator = Authenticator(self.store, service_account_key, tokens)
        self.authorizer = Authorizer(self.store)
        self.cluster = Cluster(
            self.store, self.registry, self.authenticator, self.authorizer, ca_pem, cluster_ips
        )
        self.rest = Rest(self.cluster)
        self.deleter = Deleter(self.rest)
        self._definitions = Definitions(self.rest, self.deleter, self.registry)
        self._dispatcher = Dispatcher(self.cluster, self.rest, self.deleter, self._stopping)
        self.kubelet = kubelet

    @property
    def kubelet(self) -> Kubelet | None:
        """Serves the pods' streams; without one they answer 500, as when a node is away."""
        return self._dispatcher.kubelet

    @kubelet.setter
    def kubelet(self, kubelet: Kubelet | None) -> None:
        self._dispatcher.kubelet = kubelet

    @property
    def webhook(self) -> Webhook | None:
        """Answers for the admission webhooks that are configured in the cluster; without it none denies."""
        return self.cluster.webhook

    @webhook.setter
    def webhook(self, webhook: Webhook | None) -> None:
        self.cluster.webhook = webhook

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
            SandboxError: the snapshot cannot be read.
        """
        if self._snapshot and self._snapshot.load():
            self._definitions.restored()
            self.deleter.restored()
        self._bootstrap()
        if self._audit_path:
            self._audit = AuditLog(self._audit_path)
        try:
            await self.resume()
        except OSError:
            await self.stop()
            raise
        if self._snapshot:
            self._snapshot.start()

    async def resume(self) -> None:
        """Listen again after `pause`; harmless when it does. Raises OSError: the port is taken."""
        if self._runner:
            return
        self._stopping.clear()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._private_key)
        self._serving = serving = web.Server(
            self._handle, handler_cancellation=True, request_factory=_request, access_log=None
        )
        self._runner = web.ServerRunner(serving, shutdown_timeout=0.1)
        await self._runner.setup()
        # Not by one of aiohttp's sites, which keep the socket that listens to themselves.
        self._listening = await asyncio.get_running_loop().create_server(
            serving, self.host, self.port, ssl=context, backlog=128
        )

    async def pause(self) -> None:
        """End every connection and listen no more; what is stored stays. Harmless when it is paused or stopped."""
        self._stopping.set()
        self.store.wake_watchers()
        if self._listening:
            self._listening.close()
        if self._runner:
            await self._runner.cleanup()
        self._runner = self._listening = self._serving = None

    def drop_from(self, networks: Sequence[IPv4Network]) -> None:
        """Have every packet from these networks vanish, also of what is connected; none of them: none does."""
        if self._listening is None or self._serving is None:
            return
        for listening in self._listening.sockets:
            drop_from(listening, networks)
        for connection in self._serving.connections:
            if connection.transport is not None and not connection.transport.is_closing():
                drop_from(connection.transport.get_extra_info("socket"), networks)

    async def stop(self) -> None:
        """End every connection and stop listening; harmless when it is stopped."""
        await self.pause()
        if self._snapshot:
            await self._snapshot.stop()
        if self._audit:
            self._audit.close()
            self._audit = None

    def service_account_token(
        self,
        namespace: str,
        name: str,
        *,
        audiences: Sequence[str] = (),
        expires_in: int = 3600,
        pod: str | None = None,
    ) -> str:
        """The token that a TokenRequest hands out: for that service account, bound to that pod.

        Raises:
            ApiError: 404 when there is no such service account or pod.
        """
        account = self.store.get(("", "serviceaccounts"), namespace, name)
        if account is None:
            raise not_found("serviceaccounts", "", name)
        bound = None
        if pod:
            held = self.store.get(("", "pods"), namespace, pod)
            if held is None:
                raise not_found("pods", "", pod)
            bound = ("pod", held)
        return self.authenticator.sign(account, audiences, expires_in, bound)

    def _bootstrap(self) -> None:
        """Create what every cluster has from the start, where it is not there already."""
        options = WriteOptions("kube-apiserver")
        service = bootstrap.kubernetes_service(443, self.port)
        for obj in [*bootstrap.objects(), service]:
            resource = self.registry.of_kind(obj["apiVersion"], obj["kind"])
            assert resource is not None
            namespace = obj["metadata"].get("namespace", "")
            if self.store.get(resource.storage_key, namespace, obj["metadata"]["name"]) is None:
                self.rest.create(resource, namespace, obj, options)
        for obj in self._objects:
            resource = self.registry.of_kind(obj["apiVersion"], obj["kind"])
            assert resource is not None
            namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
            self.rest.patch(
                resource, namespace, name, "", APPLY_PATCH, clone(obj), replace(options, force=True)
            )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens; then write it down."""
        received = timestamp()
        info = parse(request.method, request.path, _query(request), self.registry)
        user: User | None = None
        name = ""
        code = 101 if info.sub in _UPGRADED else 200  # of a stream that the client ends
        if self.delay:
            await asyncio.sleep(self.delay)
        try:
            user = self._user(request)
            answer = await self._answer(request, info, user)
            if isinstance(answer, Answer):
                name = answer.name
                response: web.StreamResponse = _response(answer)
            else:
                response = answer
            code = response.status
            if self.ahead and not response.prepared:
                response.headers["Date"] = formatdate(time.time() + self.ahead, usegmt=True)
            return response
        except (ConnectionError, asyncio.CancelledError, HttpProcessingError):
            raise
        except Exception as error:
            refused = self._refusal(request, error)
            code = refused.code
            return _response(Answer(refused.status(), refused.code, refused.headers))
        finally:
            if self._audit:
                agent, source = request.headers.get("User-Agent", ""), request.remote or ""
                self._audit.write(info, request.raw_path, user, agent, source, code, received, name)

    def _refusal(self, request: web.BaseRequest, error: Exception) -> ApiError:
        """What to answer for an error; one that is no refusal is our own mistake, and goes into the log."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}")
        _log.error("%s: %s %s", self.name, request.method, request.path, exc_info=error)
        return internal_error(f"{type(error).__name__}: {error}")

    def _user(self, request: web.BaseRequest) -> User:
        """Who asks, or as whom they ask."""
        headers = request.headers
        user = self.authenticator.authenticate(headers.get("Authorization", ""))
        wanted = headers.get("Impersonate-User")
        if not wanted:
            return user
        groups = tuple(headers.getall("Impersonate-Group", []))
        for resource, names in (("users", (wanted,)), ("groups", groups)):
            for name in names:
                asked = Attributes("impersonate", resource=resource, name=name)
                if not self.authorizer.allowed(user, asked)[0]:
                    raise refusal(user, asked)
        if not groups and wanted.startswith("system:serviceaccount:"):
            namespace = wanted.split(":")[2]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return User(wanted, (*groups, "system:authenticated"), headers.get("Impersonate-Uid", ""))

    async def _answer(
        self, request: web.BaseRequest, info: RequestInfo, user: User
    ) -> Answer | web.StreamResponse:
        self.authorizer.check(user, info)
        path = info.path
        if info.is_resource and not discovery.is_discovery(path):
            return await self._dispatcher.serve(request, info, user)
        if discovery.is_discovery(path):
            wanted = negotiate(request.headers.get("Accept", ""))
            found = discovery.answer(path, self.registry, wanted, f"{self.host}:{self.port}")
            if found is None:
                raise no_such_path()
            headers = {}
            if wanted.form == "APIGroupDiscoveryList":
                kind = f"application/json;g=apidiscovery.k8s.io;v={wanted.version};as=APIGroupDiscoveryList"
                headers["Content-Type"] = kind
            return Answer(found, headers=headers)
        if request.method not in ("GET", "HEAD"):
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        if path.rstrip("/") == "/version":
            return Answer(discovery.VERSION)
        if path.startswith(_HEALTH):
            return web.Response(text="ok")
        if path.rstrip("/") == "/openapi/v3":
            return Answer(openapi.index(self.registry))
        if path.startswith("/openapi/v3/"):
            document = openapi.document(self.registry, path.removeprefix("/openapi/v3/"))
            if document is not None:
                return Answer(document)
        if path == "/.well-known/openid-configuration":
            return Answer({"issuer": AUDIENCE, "id_token_signing_alg_values_supported": ["HS256"]})
        raise no_such_path()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


def _query(request: web.BaseRequest) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in request.query.items():
        found.setdefault(key, []).append(value)
    return found


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"} | (
        answer.headers or {}
    )
    return web.Response(body=reads.dump(answer.body), status=answer.code, headers=headers)
