"""Connections from a cluster in which no Consul runs yet: a Pod of a few seconds, made for that and deleted.

It has the image, the node selection and the user of the servers that will run there, asks for nothing that the
restricted Pod Security level refuses, and sees one thing: the CA certificate of the imported federation secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import yaml

from ..cluster import Cluster, resource_path
from ..errors import ClusterError, WaitTimeoutError
from ..runner import RUNNER_LABEL, runner_is_gone, runner_label
from ..waiting import Seen, wait_for
from .connection import CONSUL_ONLY, NO_ALPN, Outcome, command, judge, line

LABEL = "consulfed-probe"
_NAME = "consulfed-probe-"
_HOPELESS = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
}  # fmt: skip
"""Reasons for which a container waits and no waiting helps."""


@dataclass(frozen=True)
class Pod:
    """A Pod that tries each gateway once.

    Attributes:
        secret: the imported federation secret, whose key `caCert` is all that is mounted of it.
        gateways: `host:port` of each gateway; one container for each.
        server_name: the name that the certificate must have, `server.<datacenter>.<domain>`.
        values: the final Helm values of this cluster: image, pull secrets, where servers may run.
        image: what `global.image` is where the values do not say so (the chart's own default).
    """

    cluster: Cluster
    namespace: str
    secret: str
    gateways: tuple[str, ...]
    server_name: str
    values: Mapping[str, Any]
    image: str = ""

    def run(self, deadline: float = 120) -> dict[str, Outcome]:
        """Address → outcome of every gateway. The Pod is gone afterwards, whatever happened.

        `not-run` says why nothing was learned: refused by the cluster, no image, no node, no end in `deadline`
        seconds (of which the CLI itself takes 30 at most; the rest is for the image to come).
        """
        if not self.gateways:
            return {}
        if not self._image():
            return self._not_run("no image of Consul is known (global.image)")
        found = self._once(deadline)
        # The alert that tells why a connection ends can be lost with the connection: once more is enough.
        closed = tuple(address for address, outcome in found.items() if outcome.kind == "closed")
        return found | replace(self, gateways=closed)._once(deadline) if closed else found

    def _once(self, deadline: float) -> dict[str, Outcome]:
        try:
            with self._made(deadline) as name:
                return self._outcomes(name, deadline)
        except ClusterError as error:
            return self._not_run(error.found)

    def sweep(self) -> list[str]:
        """Delete what killed runs left; the names of it."""
        left = []
        for pod in self.cluster.list("pods", self.namespace, LABEL):
            ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if ended or runner_is_gone(pod["metadata"]["labels"].get(RUNNER_LABEL, "")):
                self._delete(pod["metadata"]["name"])
                left.append(str(pod["metadata"]["name"]))
        return left

    def _not_run(self, why: str) -> dict[str, Outcome]:
        return dict.fromkeys(self.gateways, Outcome("not-run", line(why)))

    # -- the Pod's life -----------------------------------------------------------------------------------------

    @contextmanager
    def _made(self, deadline: float) -> Iterator[str]:
        self.sweep()
        name = _NAME + secrets.token_hex(4)
        try:
            self.cluster.request("POST", resource_path("pods", self.namespace), self.manifest(name, deadline))
            yield name
        finally:
            # Also when the request was cut off: the API server may have made it all the same.
            self._delete(name)

    def _delete(self, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        try:
            self.cluster.request("DELETE", resource_path("pods", self.namespace, name), body)
        except ClusterError as error:
            if error.status != 404:
                raise

    def _outcomes(self, name: str, deadline: float) -> dict[str, Outcome]:
        seen: dict[str, Any] = {}

        def look() -> Seen:
            pod = self.cluster.get("pods", self.namespace, name) or {}
            seen.update(pod)
            return _state(pod, len(self.gateways))

        with self.cluster.watching(resource_path("pods", self.namespace)) as bell:
            try:
                wait_for(f"{self.namespace}/{name}", look, deadline, until_changed=bell.wait)
            except WaitTimeoutError:
                return self._by_container(name, seen, f"it did not end within {deadline:g} s")
        return self._by_container(name, seen, "it was gone before it ended")

    def _by_container(self, name: str, pod: Mapping[str, Any], otherwise: str) -> dict[str, Outcome]:
        ends = {each["name"]: each for each in pod.get("status", {}).get("containerStatuses") or []}
        why = _trouble(pod) or otherwise
        found = {}
        for i, address in enumerate(self.gateways):
            ended = ends.get(_container(i), {}).get("state", {}).get("terminated")
            if ended is None:
                running = ends.get(_container(i), {}).get("state", {}).get("running") is not None
                found[address] = Outcome("timeout", "") if running else Outcome("not-run", line(why))
                continue
            said = self.cluster.log_tail(self.namespace, name, 20, _container(i))
            if ended.get("exitCode") and not said:
                said = ended.get("message") or ended.get("reason") or f"exit code {ended['exitCode']}"
                found[address] = Outcome("not-run", line(str(said)))
                continue
            outcome = judge(said, address)
            no_alpn = NO_ALPN in outcome.detail
            found[address] = Outcome("unchecked", CONSUL_ONLY, chain=False) if no_alpn else outcome
        return found

    # -- the manifest -------------------------------------------------------------------------------------------

    def _image(self) -> str:
        given = (self.values.get(section) or {} for section in ("server", "global"))
        return next((str(each["image"]) for each in given if each.get("image")), self.image)

    def manifest(self, name: str, deadline: float) -> dict[str, Any]:
        """The Pod. No token of a service account, no environment of Services, no rights."""
        shared = self.values.get("global") or {}
        server = self.values.get("server") or {}
        openshift = (shared.get("openshift") or {}).get("enabled")
        user = {} if openshift else {"runAsUser": 100, "runAsGroup": 1000}
        own = server.get("securityContext")
        if isinstance(own, Mapping):
            user |= {key: own[key] for key in ("runAsUser", "runAsGroup") if own.get(key)}
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": max(1, round(deadline)),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} | user,
            "containers": [self._manifest_of(i, address) for i, address in enumerate(self.gateways)],
            "volumes": [
                {
                    "name": "ca",
                    "secret": {"secretName": self.secret, "items": [{"key": "caCert", "path": "caCert"}]},
                }
            ],
        }
        if shared.get("imagePullSecrets"):
            spec["imagePullSecrets"] = shared["imagePullSecrets"]
        for key in ("nodeSelector", "tolerations"):
            if (wanted := _plain(server.get(key))) is not None:
                spec[key] = wanted
        metadata = {
            "name": name,
            "namespace": self.namespace,
            "labels": {LABEL: "gateways", RUNNER_LABEL: runner_label(), "sidecar.istio.io/inject": "false"},
            "annotations": {"consul.hashicorp.com/connect-inject": "false", "linkerd.io/inject": "disabled"},
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _manifest_of(self, i: int, address: str) -> dict[str, Any]:
        shared = self.values.get("global") or {}
        policy = {"imagePullPolicy": shared["imagePullPolicy"]} if shared.get("imagePullPolicy") else {}
        return {
            "name": _container(i),
            "image": self._image(),
            "command": command(address, self.server_name, "/consulfed/caCert"),
            # Newer CLIs would offer HTTP/2, which Consul's servers refuse before they show a certificate.
            "env": [{"name": "GODEBUG", "value": "http2client=0"}],
            "volumeMounts": [{"name": "ca", "mountPath": "/consulfed", "readOnly": True}],
            "resources": {
                "requests": {"cpu": "10m", "memory": "64Mi"},
                "limits": {"cpu": "500m", "memory": "256Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        } | policy


def _container(i: int) -> str:
    return f"gateway-{i}"


def _plain(value: Any) -> Any:
    """What the chart makes of a value that it takes as YAML text; None where there is none, or it is a template."""
    if not isinstance(value, str):
        return value or None
    if "{{" in value:
        return None
    try:
        return yaml.safe_load(value) or None
    except yaml.YAMLError:
        return None


def _state(pod: Mapping[str, Any], containers: int) -> Seen:
    """Whether there is nothing more to wait for: all containers ended, or one that will never start."""
    if not pod:
        return Seen(True, "it is gone")
    status = pod.get("status", {})
    ended = sum("terminated" in (c.get("state") or {}) for c in status.get("containerStatuses") or [])
    if ended == containers or status.get("phase") in ("Succeeded", "Failed"):
        return Seen(True, "it ended")
    hopeless = {
        reason
        for each in status.get("containerStatuses") or []
        if (reason := ((each.get("state") or {}).get("waiting") or {}).get("reason")) in _HOPELESS
    }
    return Seen(bool(hopeless), _trouble(pod) or f"{ended} of {containers} containers ended")


def _trouble(pod: Mapping[str, Any]) -> str:
    """Why a Pod does not run, in the cluster's words; empty where none are known."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses") or []:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return str(status.get("message") or "")
