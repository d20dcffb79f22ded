"""The workloads of one datacenter: a service that answers with the datacenter's name, and one that calls others.

Each has a ServiceAccount, a Service and a Deployment of the same name. With ACLs consul-k8s gives a pod the identity
of its service account and refuses one of another name than the service; without a Service it registers no pod at all.
The upstreams are explicit ones, on ports of the caller's localhost: a pod with a transparent proxy would need rights
over the network that the restricted Pod Security level refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runner import RUNNER_LABEL, runner_label
from .settings import Settings

LABEL = "consulfed-traffic"
"""On everything that is made here; by it what a killed run left is found."""

ECHO_PORT, FIRST_PORT = 5678, 1234
"""Where the service listens; the first of the ports on which the caller reaches its upstreams."""

_CONSUL = "consul.hashicorp.com"

Manifest = dict[str, Any]


def echo_name(datacenter: str) -> str:
    """The called service of a datacenter; its name is unique in the federation, as intentions need it."""
    return f"consulfed-echo-{datacenter}"


def caller_name(datacenter: str) -> str:
    return f"consulfed-caller-{datacenter}"


def ports(called: Sequence[str]) -> dict[str, int]:
    """Datacenter → port of the caller's localhost on which its service is reached.

    >>> ports(["dc2", "dc3"])
    {'dc2': 1234, 'dc3': 1235}
    """
    return {datacenter: FIRST_PORT + i for i, datacenter in enumerate(called)}


def namespace(settings: Settings) -> Manifest:
    """The namespace, with our label: one that has it is deleted at the end, one that was there before is not."""
    metadata = {"name": settings.namespace, "labels": _labels("namespace")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def workloads(
    settings: Settings, datacenter: str, called: Sequence[str], *, openshift: bool = False
) -> list[Manifest]:
    """All objects of one datacenter, in the order in which they are made.

    Args:
        called: the datacenters whose service its caller calls; none: it has no caller.
        openshift: whether the cluster itself chooses the containers' user.
    """
    user = {} if openshift else {"runAsUser": 100, "runAsGroup": 1000}
    made = _service(
        settings,
        echo_name(datacenter),
        "echo",
        {
            "image": settings.echo_image,
            "args": [f"-listen=:{ECHO_PORT}", f"-text={datacenter}"],
            "ports": [{"containerPort": ECHO_PORT}],
        },
        {f"{_CONSUL}/connect-service-port": str(ECHO_PORT)},
        user,
    )
    if called:
        upstreams = (f"{echo_name(other)}:{port}:{other}" for other, port in ports(called).items())
        made += _service(
            settings,
            caller_name(datacenter),
            "caller",
            {"image": settings.caller_image, "command": ["sleep", "infinity"]},
            {f"{_CONSUL}/connect-service-upstreams": ",".join(upstreams)},
            user,
        )
    return made


def _service(
    settings: Settings,
    name: str,
    role: str,
    container: Mapping[str, Any],
    annotations: Mapping[str, str],
    user: Mapping[str, int],
) -> list[Manifest]:
    metadata = {"name": name, "namespace": settings.namespace, "labels": _labels(role)}
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    resources = {
        "requests": {"cpu": "10m", "memory": "16Mi"},
        "limits": {"cpu": "200m", "memory": "64Mi"},
    }
    template = {
        # Without the runner: the same pods serve whoever made them.
        "metadata": {
            "labels": {"app": name, LABEL: role, "sidecar.istio.io/inject": "false"},
            "annotations": {
                f"{_CONSUL}/connect-inject": "true",
                f"{_CONSUL}/connect-service": name,
                f"{_CONSUL}/transparent-proxy": "false",
                "linkerd.io/inject": "disabled",
                **annotations,
            },
        },
        "spec": {
            "serviceAccountName": name,
            "terminationGracePeriodSeconds": 5,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, **user},
            "containers": [
                {"name": role, **container, "resources": resources, "securityContext": restricted}
            ],
        },
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": ECHO_PORT}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
        },
    ]


def intention(settings: Settings, called: str, callers: Sequence[str], action: str) -> Manifest:
    """ServiceIntentions (chart 0.30 and later): whether these datacenters' callers may reach that service.

    Args:
        action: `allow` or `deny`.
    """
    name = echo_name(called)
    return {
        "apiVersion": f"{_CONSUL}/v1alpha1",
        "kind": "ServiceIntentions",
        "metadata": {"name": name, "namespace": settings.namespace, "labels": _labels("intention")},
        "spec": {
            "destination": {"name": name},
            "sources": [{"name": caller_name(caller), "action": action} for caller in callers],
        },
    }


def _labels(role: str) -> dict[str, str]:
    return {LABEL: role, RUNNER_LABEL: runner_label()}
