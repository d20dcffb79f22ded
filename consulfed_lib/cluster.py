"""One Kubernetes cluster through one kubeconfig context.

The official client does TLS, tokens, exec plugins and proxies; objects travel as plain dictionaries, because the
client's models print a Secret's data in their repr. Nothing global is configured: every cluster has its own client.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
import yaml
from kubernetes import client as kube
from kubernetes import config as kube_config

from . import credentials, streams
from .bell import Bell
from .errors import ClusterError
from .params import kubeconfig_contexts
from .places import sandbox_kubeconfig
from .redact.kubernetes import register_answer
from .streams import Completed

credentials.keep_in_memory()

FIELD_MANAGER = "consulfed"
PROXY_DEFAULTS = "consul.hashicorp.com/v1alpha1"
_TIMEOUT = urllib3.Timeout(connect=10, read=60)

for _name in ("kubernetes", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # at DEBUG they log bodies, Secrets included

_PROXY_THREAD = "Kubernetes port forward proxy"
_unhandled = threading.excepthook


def _unless_a_forward_was_reset(args: threading.ExceptHookArgs) -> None:
    """The client's thread for a port-forward ends with a traceback where its connection is reset. Whoever reads from
    that connection gets the error, and says it in a sentence."""
    ours = args.thread is not None and args.thread.name.startswith(_PROXY_THREAD)
    if not (ours and issubclass(args.exc_type, OSError)):
        _unhandled(args)


threading.excepthook = _unless_a_forward_was_reset

_CORE = {
    "namespaces",
    "secrets",
    "services",
    "pods",
    "persistentvolumeclaims",
    "configmaps",
    "nodes",
    "events",
}
_GROUPS = {
    "statefulsets": "apps/v1",
    "deployments": "apps/v1",
    "daemonsets": "apps/v1",
    "jobs": "batch/v1",
    "storageclasses": "storage.k8s.io/v1",
    "customresourcedefinitions": "apiextensions.k8s.io/v1",
    "roles": "rbac.authorization.k8s.io/v1",
    "rolebindings": "rbac.authorization.k8s.io/v1",
    "clusterroles": "rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "rbac.authorization.k8s.io/v1",
    "mutatingwebhookconfigurations": "admissionregistration.k8s.io/v1",
    "leases": "coordination.k8s.io/v1",
    "proxydefaults": PROXY_DEFAULTS,
}


_JSON = "application/json"
_METADATA_ONLY = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{_JSON}"
"""Lists without spec and status: the CRDs of a busy cluster are tens of megabytes with them."""


def resource_path(resource: str, namespace: str = "", name: str = "") -> str:
    """The API path of a resource, a namespace's resources, or one object.

    >>> resource_path("secrets", "consul", "x")
    '/api/v1/namespaces/consul/secrets/x'
    """
    version = "v1" if resource in _CORE else _GROUPS[resource]
    path = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    if namespace:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{resource}"
    return f"{path}/{quote(name, safe='')}" if name else path


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has the condition Ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@dataclass(frozen=True)
class Greeting:
    """What an API server says of itself.

    Attributes:
        version: of Kubernetes, as it writes it, such as `v1.30.2-eks-1552ad0`.
        ahead: seconds by which its clock is ahead of this machine's, to about a second (HTTP's Date has no more);
            None where the answer had no date.
    """

    version: str
    ahead: float | None


class Cluster:
    """A cluster, reached through `context` of `kubeconfig` (None: the client's usual rules).

    Raises ClusterError when the kubeconfig or the context is not there. Every method raises ClusterError when the
    cluster does not answer or refuses; its `status` is the HTTP status.
    """

    def __init__(self, context: str, kubeconfig: str | None = None):
        self.context = context
        self.kubeconfig = kubeconfig
        self._configuration = _configuration(context, kubeconfig)
        self._api = kube.ApiClient(self._configuration)
        self._pool = self._api.rest_client.pool_manager

    def __repr__(self) -> str:
        return f"<Cluster {self.context}>"

    @property
    def server(self) -> str:
        """The API server's URL, as the kubeconfig has it."""
        return self._configuration.host

    @property
    def ca_pem(self) -> str:
        """The CA that the API server's certificate is checked against; empty where that is this machine's own list."""
        path = self._configuration.ssl_ca_cert
        return Path(path).read_text() if path else ""

    # -- requests -----------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        """Asked anew for each request: tokens of exec plugins are renewed in there."""
        settings = self._configuration.auth_settings()
        headers = {s["key"]: s["value"] for s in settings.values() if s["in"] == "header" and s["value"]}
        for value in headers.values():
            credentials.register_token(value)
        return {**headers, "user-agent": "consulfed", "accept": _JSON}

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        """One request; the answer's JSON. Raises ClusterError with the API server's own words."""
        return self._ask(method, path, body, query, content_type, accept)[0]

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        content_type: str,
        accept: str,
    ) -> tuple[dict[str, Any], str]:
        """The answer's JSON, and its Date header."""
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self._headers() | {"accept": accept}
        headers |= {"content-type": content_type} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method, url, body=data, headers=headers, timeout=_TIMEOUT, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status >= 400:
            raise self._refused(answer.status, answer.data, method, path)
        found = _json_object(answer.data or b"{}")
        if found is None:
            raise ClusterError(
                f"What answers for {self.context} at {self.server} is no API server: no JSON object to {path}.",
                "see the URL in the kubeconfig; a proxy or a log-in page may be in between",
                status=answer.status,
            )
        register_answer(found)
        return found, answer.headers.get("date", "")

    def _unreachable(self, error: Exception) -> ClusterError:
        reason = str(getattr(error, "reason", None) or error).rsplit(": ", 1)[-1] or type(error).__name__
        return ClusterError(
            f"The API server of {self.context} at {self.server} does not answer: {reason}.",
            "see that the cluster is up and that its URL in the kubeconfig can be reached from here",
        )

    def _refused(self, status: int, data: bytes, method: str, path: str) -> ClusterError:
        message = (_json_object(data) or {}).get("message")
        hints = {
            401: "renew the credentials of this context (log in again)",
            403: "ask for these rights, or use a context that has them",
            404: "",
        }
        return ClusterError(
            f"{self.context} answers {status} to {method} {path}: {message or 'no message'}",
            hints.get(status, "see the API server's message"),
            status=status,
        )

    # -- objects ------------------------------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """One object, None if it is not there."""
        try:
            return self.request("GET", resource_path(resource, namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, resource: str, namespace: str = "", labels: str = "", *, whole: bool = True
    ) -> list[dict[str, Any]]:
        """All objects of a kind, those with the labels where given; empty where the kind does not exist.

        Args:
            whole: false gives `metadata` only.
        """
        query, accept = {"labelSelector": labels} if labels else None, _JSON if whole else _METADATA_ONLY
        try:
            found = self.request("GET", resource_path(resource, namespace), query=query, accept=accept)
            return found.get("items") or []
        except ClusterError as error:
            if error.status == 404:
                return []
            raise

    def apply(
        self, resource: str, namespace: str, manifest: Mapping[str, Any], force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply under our own field manager: fields of others stay theirs."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        path = resource_path(resource, namespace, manifest["metadata"]["name"])
        return self.request("PATCH", path, manifest, query=query, content_type="application/apply-patch+yaml")

    def delete(self, resource: str, namespace: str, name: str) -> bool:
        """Delete an object and what it owns; False if it was not there."""
        try:
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
            self.request("DELETE", resource_path(resource, namespace, name), body)
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True

    # -- questions ----------------------------------------------------------------------------------------------

    def uid(self) -> str:
        """The cluster's identity: the UID of the namespace kube-system."""
        namespace = self.get("namespaces", "", "kube-system")
        return namespace["metadata"]["uid"] if namespace else ""

    def version(self) -> str:
        return self.greeting().version

    def greeting(self) -> Greeting:
        """Its version and its clock, in one request."""
        before = time.time()
        found, date = self._ask("GET", "/version", None, None, _JSON, _JSON)
        half_way = (before + time.time()) / 2
        try:
            ahead = parsedate_to_datetime(date).timestamp() + 0.5 - half_way
        except ValueError:
            ahead = None
        return Greeting(str(found.get("gitVersion", "")), ahead)

    def log_tail(self, namespace: str, pod: str, lines: int = 1, container: str = "") -> str:
        """The last lines of a pod's log; empty if there is none yet."""
        query = {"tailLines": str(lines)} | ({"container": container} if container else {})
        url = f"{self.server}{resource_path('pods', namespace, pod)}/log?{urlencode(query)}"
        try:
            answer = self._pool.request("GET", url, headers=self._headers(), timeout=_TIMEOUT, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from None
        return answer.data.decode("utf-8", "replace").strip() if answer.status == 200 else ""

    # -- streams ------------------------------------------------------------------------------------------------

    def exec(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        container: str = "",
        *,
        stdin: bytes | None = None,
        timeout: float = 60,
    ) -> Completed:
        """Run a command in a pod to its end, or for `timeout` seconds (its code is streams.TIMED_OUT then).

        `stdin` is all of its standard input, which ends after that; raises streams.EndlessInputError where the
        API server knows no way to end it.
        """
        query = [("stdout", "true"), ("stderr", "true"), *(("command", word) for word in command)]
        query += [("stdin", "true")] if stdin is not None else []
        query += [("container", container)] if container else []
        url = f"{self.server}{resource_path('pods', namespace, pod)}/exec?{urlencode(query)}"
        with self._stream_errors("exec", namespace, pod):
            done = streams.run(self._configuration, url, self._headers(), stdin, timeout)
        return Completed(tuple(command), *done)

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod, through the API server (port-forward)."""
        from kubernetes.stream import ws_client

        url = f"{self.server}{resource_path('pods', namespace, pod)}/portforward?ports={port}"
        with self._stream_errors("port-forward", namespace, pod):
            headers = self._headers() | {"sec-websocket-protocol": "v4.channel.k8s.io"}
            forward = ws_client.portforward_call(self._configuration, "GET", url, headers=headers)
        return forward.socket(port)

    def _stream_errors(self, verb: str, namespace: str, pod: str) -> streams.StreamErrors:
        return streams.StreamErrors(f"{self.context}: {verb} to pod {namespace}/{pod} failed")

    def watching(self, *paths: str) -> Bell:
        """A bell that rings whenever something under one of these API paths changes."""
        return Bell(self, paths)

    def watch(self, path: str) -> urllib3.BaseHTTPResponse:
        """The events of everything under an API path, as they come; ends when the server ends the watch."""
        url = f"{self.server}{path}?watch=1&timeoutSeconds=300"
        timeout = urllib3.Timeout(connect=10, read=310)
        return self._pool.request(
            "GET", url, headers=self._headers(), timeout=timeout, retries=False, preload_content=False
        )


def _json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are, None where they are something else."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _configuration(context: str, kubeconfig: str | None) -> Any:
    configuration = kube.Configuration()
    where = kubeconfig or "the usual kubeconfig"
    try:
        kube_config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
    except kube_config.ConfigException as error:
        remedy = "give `kubeconfig` in the parameters, or set $KUBECONFIG"
        if kubeconfig == str(sandbox_kubeconfig()):
            remedy = "run `consulfed sandbox up`"
        if kubeconfig and not Path(kubeconfig).exists():
            raise ClusterError(f"The kubeconfig {kubeconfig} is not there.", remedy) from None
        names = sorted(kubeconfig_contexts(kubeconfig or ""))
        if names and context not in names:
            raise ClusterError(
                f"The context {context!r} is not in {where}.", f"choose one of: {', '.join(names)}"
            ) from None
        if not names and not kubeconfig:
            raise ClusterError(
                "There is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config.", remedy
            ) from None
        why = str(error).splitlines()[0].rstrip(".")
        raise ClusterError(
            f"The kubeconfig for context {context!r} ({where}) cannot be used: {why}.", remedy
        ) from None
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ClusterError(
            f"The kubeconfig {where} cannot be read: {type(error).__name__}.", "see that it is a kubeconfig"
        ) from None
    configuration.debug = False
    credentials.register(configuration)
    return configuration
