"""Commands, logs and ports of pods through the Python client, as the runbook uses them."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

from .conftest import Command
from .test_kubectl import pod as pod

__all__ = ["pod"]


def run(core: client.CoreV1Api, namespace: str, pod: str, *command: str, **options: Any) -> Any:
    return stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        command=list(command),
        stdout=True,
        stderr=True,
        _preload_content=False,
        **options,
    )


def test_exec_separates_the_streams(core: client.CoreV1Api, namespace: str, pod: str) -> None:
    """stdout, stderr and the exit code come apart, as a runbook needs them."""
    session = run(core, namespace, pod, "sh", "-c", "echo out; echo err >&2; exit 4")
    session.run_forever(timeout=30)
    assert (session.read_stdout(), session.read_stderr()) == ("out\n", "err\n")
    assert session.returncode == 4


def test_exec_takes_input(core: client.CoreV1Api, namespace: str, pod: str) -> None:
    """What is written to stdin arrives in the command."""
    session = run(core, namespace, pod, "sh", "-c", "read line; echo got $line", stdin=True)
    session.write_stdin("hello\n")
    session.run_forever(timeout=30)
    assert session.read_stdout() == "got hello\n"
    assert session.returncode == 0


def test_exec_in_no_pod(core: client.CoreV1Api, namespace: str) -> None:
    """A pod that is not there is 404 before any stream."""
    with pytest.raises(ApiException) as error:
        run(core, namespace, "nope", "true")
    # The client reports a refused WebSocket handshake as status 0 in older releases.
    assert "404" in f"{error.value.status} {error.value.reason}"


def test_logs(core: client.CoreV1Api, namespace: str, pod: str) -> None:
    """The log is text, whole or the last lines of it."""
    assert core.read_namespaced_pod_log(pod, namespace, tail_lines=2) == "line 2\nline 3\n"


def test_port_forward(core: client.CoreV1Api, namespace: str, pod: str) -> None:
    """A forwarded port is a socket; HTTP goes through it."""
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8080")
    connection = http.client.HTTPConnection("pod", 8080)
    connection.sock = forward.socket(8080)
    connection.sock.setblocking(True)
    connection.request("GET", "/hello")
    assert connection.getresponse().status in (200, 404)
    assert forward.error(8080) is None


def test_port_forward_to_nothing(core: client.CoreV1Api, namespace: str, pod: str) -> None:
    """A port on which nothing listens ends the connection, and says so on its error channel."""
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8099")
    connection = forward.socket(8099)
    connection.setblocking(True)
    connection.settimeout(30)
    assert connection.recv(1) == b""
    assert "refused" in forward.error(8099)


def test_token_review(api: client.ApiClient, kubectl: Command, namespace: str) -> None:
    """The primary checks a secondary's token so: a good one names its account, a forged one is not good."""
    kubectl("create", "serviceaccount", "a", "-n", namespace)
    token = kubectl("create", "token", "a", "-n", namespace).stdout.strip()
    review = client.AuthenticationV1Api(api).create_token_review
    good = review({"spec": {"token": token}}).status
    assert good.authenticated is True
    assert good.user.username == f"system:serviceaccount:{namespace}:a"
    assert f"system:serviceaccounts:{namespace}" in good.user.groups
    head, claims, _ = token.split(".")
    forged = ".".join((head, claims, base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("=")))
    assert not review({"spec": {"token": forged}}).status.authenticated
    assert not review({"spec": {"token": token, "audiences": ["someone-else"]}}).status.authenticated
    kubectl("delete", "serviceaccount", "a", "-n", namespace)
    assert not review({"spec": {"token": token}}).status.authenticated


def test_token_secrets(core: client.CoreV1Api, api: client.ApiClient, namespace: str) -> None:
    """A Secret of type service-account-token is filled with a lasting token, the CA and the namespace."""
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "a"}})
    annotations = {"kubernetes.io/service-account.name": "a"}
    body = {
        "metadata": {"name": "t", "annotations": annotations},
        "type": "kubernetes.io/service-account-token",
    }
    core.create_namespaced_secret(namespace, body)
    data: dict[str, str] = {}
    from kubernetes import watch

    for event in watch.Watch().stream(
        core.list_namespaced_secret, namespace, field_selector="metadata.name=t", timeout_seconds=60
    ):
        data = event["object"].data or {}
        if "token" in data:
            break
    assert set(data) == {"token", "ca.crt", "namespace"}
    token = base64.b64decode(data["token"]).decode()
    review = client.AuthenticationV1Api(api).create_token_review({"spec": {"token": token}})
    assert review.status.user.username == f"system:serviceaccount:{namespace}:a"


def test_access_reviews(api: client.ApiClient, namespace: str) -> None:
    """What the preflight asks: may I, and may that account."""
    reviews = client.AuthorizationV1Api(api)
    attributes = {"verb": "create", "resource": "secrets", "namespace": namespace}
    own = reviews.create_self_subject_access_review({"spec": {"resourceAttributes": attributes}})
    assert own.status.allowed is True
    spec = {"user": f"system:serviceaccount:{namespace}:nobody", "resourceAttributes": attributes}
    other = reviews.create_subject_access_review({"spec": spec})
    assert other.status.allowed is False


def test_claims_are_those_of_a_real_token(kubectl: Command, namespace: str) -> None:
    """Consul's auth method reads namespace, name and uid of the account from the token."""
    token = kubectl("create", "token", "default", "-n", namespace, "--duration=15m").stdout.strip()
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "default"
    assert claims["exp"] - claims["iat"] == 900
