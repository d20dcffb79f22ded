"""Sandboxes of their own for end-to-end tests, and what the tests look at: the commands people use."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib import redact
from consulfed_lib.places import SANDBOX_VARIABLE, find_program
from consulfed_lib.results import Result

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params" / "sandbox.yaml"
PEOPLE = {"sandbox-sre", "sandbox-admin"}
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
ASKS = {
    "selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews", "tokenreviews",
}  # fmt: skip
"""Created by who asks a question; nothing is stored."""


class Sandbox:
    """A running sandbox in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        datacenters: int = 2,
        servers: int = 1,
        load_balancer: str = "ip",
        existing: str = "",
    ):
        self.folder = folder
        self.datacenters = datacenters
        self.servers = servers
        self.load_balancer = load_balancer
        self.existing = existing
        self.records = folder / "records"
        self.env = {
            **os.environ,
            SANDBOX_VARIABLE: str(folder / "sandbox"),
            "KUBECONFIG": str(folder / "sandbox" / "kubeconfig"),
        }

    def consulfed(self, *words: str, timeout: float = 400, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "consulfed_lib.cli", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, **more)

    def up(self) -> None:
        size = ("--datacenters", str(self.datacenters), "--servers", str(self.servers))
        there = ("--existing", self.existing) if self.existing else ()
        done = self.consulfed("sandbox", "up", *size, "--load-balancer", self.load_balancer, *there)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        done = self.consulfed("sandbox", "down")
        assert done.returncode == 0, done.stderr

    def run(self, params: Path = PARAMS, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.consulfed(
            "run", str(params), "--records", str(self.records), *words, cwd=self.folder, **more
        )

    def kubectl(self, context: str, *words: str, stdin: str | None = None) -> str:
        """What a person does beside the runbook, as that cluster's administrator."""
        program = find_program("kubectl")
        assert program is not None
        done = subprocess.run(
            [program, "--context", f"{context}-admin", *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def newest_record(self) -> Path:
        """The folder of the newest run, also of one that was killed and left no record."""
        runs = [each for each in (self.records / "sandbox").iterdir() if each.is_dir()]
        return max(runs, key=lambda folder: folder.name.lstrip("."))

    def results(self) -> dict[str, dict[str, Any]]:
        """Output file → the result in its last code cell, of the newest run."""
        found = {}
        for path in sorted(self.newest_record().glob("*.ipynb")):
            cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
            data = [o["data"][Result.MIME] for o in cells[-1]["outputs"] if Result.MIME in o.get("data", {})]
            found[path.stem] = data[0] if data else {}
        return found

    def writes(self) -> list[str]:
        """What people and runbooks (not the sandbox's own controllers) wrote so far, from the audit logs."""
        found = []
        for log in sorted((self.folder / "sandbox").glob("dc*/audit.log")):
            for line in log.read_text().splitlines():
                event = json.loads(line)
                target = event.get("objectRef", {})
                if (
                    event["user"].get("username") in PEOPLE
                    and event["verb"] in WRITES
                    and target.get("resource") not in ASKS
                    and target.get("subresource") not in {"exec", "portforward"}
                    and "dryRun" not in event["requestURI"]
                ):
                    found.append(f"{log.parent.name}: {event['verb']} {event['requestURI']}")
        return found

    def secret_values(self) -> dict[str, bytes]:
        """Every secret value of every cluster that is worth hiding: keys, tokens, private keys."""
        values = {}
        for i in range(1, self.datacenters + 1):
            context = f"sandbox-dc{i}"
            for secret in json.loads(self.kubectl(context, "get", "secrets", "-A", "-o", "json"))["items"]:
                for key, value in (secret.get("data") or {}).items():
                    name = f"{context}/{secret['metadata']['name']}/{key}"
                    if key in {"caKey", "tls.key", "token", "key", "replicationToken", "gossipEncryptionKey"}:
                        values[name] = base64.b64decode(value)
        kubeconfig = yaml.safe_load((self.folder / "sandbox" / "kubeconfig").read_text())
        for user in kubeconfig["users"]:
            values[f"kubeconfig/{user['name']}"] = user["user"]["token"].encode()
        return values


def leaks(folder: Path, values: dict[str, bytes], since: float = 0.0) -> list[str]:
    """`file: name of the secret` for each value that stands in a file of the folder, in any encoding; of files that
    were written since then."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_mtime >= since):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{path.name}: {name}"
            for name, value in values.items()
            if any(f in text for f in redact.forms(value))
        ]
    return found


@contextmanager
def _sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(datacenters: int = 2, servers: int = 1, existing: str = "") -> Sandbox:
        sandbox = Sandbox(tmp_path_factory.mktemp("e2e"), datacenters, servers, existing=existing)
        made.append(sandbox)
        sandbox.up()
        return sandbox

    try:
        yield make
    finally:
        for sandbox in made:
            sandbox.down()


@pytest.fixture(scope="module")
def new_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    """Makes sandboxes that are up; each is taken down after the module, whatever happened."""
    with _sandboxes(tmp_path_factory) as make:
        yield make


@pytest.fixture
def new_own_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    """The same for one test only: what is up takes the processor from the tests after it."""
    with _sandboxes(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def sandbox(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Two clusters with one node each."""
    return new_sandbox()


@pytest.fixture
def own_sandbox(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Sandbox]:
    """Two clusters with one node each, for one test only; an indirect parameter says what load balancers tell."""
    sandbox = Sandbox(tmp_path_factory.mktemp("e2e"), load_balancer=getattr(request, "param", "ip"))
    sandbox.up()
    yield sandbox
    sandbox.down()
