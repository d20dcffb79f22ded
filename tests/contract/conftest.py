"""The cluster that the contract is checked on.

With CONSULFED_TEST_KUBECONFIG and CONSULFED_TEST_CONTEXT it is that real cluster, and the same assertions must
hold there; else an API server of the sandbox. Every run has its own random names and removes what it made.
Pods of a real cluster need an image with a shell and busybox's httpd: CONSULFED_TEST_IMAGE names it; without
it the tests that run commands in a pod say so and are left out.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.dynamic import DynamicClient

from consulfed_lib.sandbox.tools import ensure

from .emulator import Emulator


@dataclass(frozen=True)
class Target:
    """The cluster under test. `emulator` is None for a real one."""

    kubeconfig: Path
    context: str
    emulator: Emulator | None


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path, context = (os.environ.get(f"CONSULFED_TEST_{name}") for name in ("KUBECONFIG", "CONTEXT"))
    if path and context:
        yield Target(Path(path), context, None)
        return
    if path or context:
        pytest.fail("CONSULFED_TEST_KUBECONFIG and CONSULFED_TEST_CONTEXT go together")
    with Emulator(tmp_path_factory.mktemp("contract")) as emulator:
        yield Target(emulator.kubeconfig, "contract", emulator)


@pytest.fixture(scope="session")
def emulator(target: Target) -> Emulator:
    """The sandbox's own API server; tests of what only it has are left out on a real cluster."""
    if target.emulator is None:
        pytest.skip("about the sandbox's API server only")
    return target.emulator


@pytest.fixture(scope="session")
def api(target: Target) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(target.kubeconfig), target.context) as found:
        yield found


@pytest.fixture(scope="session")
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


Http = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="session")
def http(api: client.ApiClient) -> Http:
    """One plain request with the target's credentials: (status, JSON or text); errors are ApiException."""
    dynamic = DynamicClient(api)

    def request(
        method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, Any]:
        content_type = headers.pop("content_type", "application/json")
        response = dynamic.request(
            method,
            path,
            body=body,
            query_params=[*(query or {}).items()],
            header_params=headers or {"Accept": "application/json"},
            content_type=content_type,
            serialize=False,
        )
        text = response.data.decode()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    return request


@pytest.fixture
def unique() -> str:
    """A name that nothing else has."""
    return f"consulfed-contract-{secrets.token_hex(4)}"


@pytest.fixture
def namespace(core: client.CoreV1Api, unique: str) -> Iterator[str]:
    """A namespace of the test's own, once pods may be made in it."""
    core.create_namespace({"metadata": {"name": unique}})
    for event in watch.Watch().stream(
        core.list_namespaced_service_account,
        unique,
        field_selector="metadata.name=default",
        timeout_seconds=60,
    ):
        if event["type"] == "ADDED":
            break
    yield unique
    core.delete_namespace(unique)


@pytest.fixture
def image(target: Target) -> str:
    """An image with a shell and busybox's httpd."""
    if target.emulator is not None:
        return "busybox:1.36"
    named = os.environ.get("CONSULFED_TEST_IMAGE")
    if not named:
        pytest.skip("CONSULFED_TEST_IMAGE names no image with a shell for this cluster")
    return named


Command = Callable[..., subprocess.CompletedProcess[str]]


def _runner(program: Path, leading: list[str], home: Path) -> Command:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE", "XDG_"))
    }
    environment["HOME"] = str(home)

    def run(
        *arguments: str, stdin: str | None = None, fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(program), *leading, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    run.program = str(program)  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="session")
def kubectl(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs kubectl on the target; it must succeed, or fail where `fails` says so."""
    leading = [f"--kubeconfig={target.kubeconfig}", f"--context={target.context}"]
    return _runner(ensure("kubectl")["kubectl"].path, leading, tmp_path_factory.mktemp("kubectl"))


@pytest.fixture(scope="session")
def helm(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs helm on the target; it must succeed, or fail where `fails` says so."""
    leading = [f"--kubeconfig={target.kubeconfig}", f"--kube-context={target.context}"]
    return _runner(ensure("helm")["helm"].path, leading, tmp_path_factory.mktemp("helm"))
