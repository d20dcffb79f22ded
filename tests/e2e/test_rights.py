"""Least privilege, proven on a sandbox: under exactly the printed rights everything works, and none is there in vain.

The rights are given as a real administrator would: `consulfed rbac PARAMS | kubectl apply -f -`, and the token of the
service account that it makes. What was used stands in the audit logs of the API servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from consulfed_lib.params import Federation, load
from consulfed_lib.places import find_program
from consulfed_lib.rbac import Right, rendered
from consulfed_lib.rbac.chart import granted_rules
from consulfed_lib.rbac.rules import from_policy

from .conftest import WRITES, Sandbox

DATACENTERS = ("dc1", "dc2")
STREAMS = ("pods/exec", "pods/portforward")
STREAMED = (
    "Helm waits for hooks with a watch that lists them, too; API servers that cannot stream lists want a list"
)
UNUSED_HERE = {
    ("list", "serviceaccounts"): STREAMED,
}
"""Rights that this life does not use, and why they are given all the same."""

UNUSED_BY_READER = {
    ("list", "events"): "read where a load balancer gives a gateway that is there no address",
    ("watch", "pods"): "watched where no server pod is ready yet",
}


@dataclass
class Worker:
    """A service account with the rights of one manifest, and a sandbox to work on."""

    sandbox: Sandbox
    account: str
    manifest: str
    params: Path
    kubeconfig: Path

    @classmethod
    def hired(cls, sandbox: Sandbox, *words: str) -> Worker:
        """Print the rights, give them in both clusters, and get the service account's tokens."""
        account = "-".join(["consulfed", *(word.removeprefix("--") for word in words)])
        folder = sandbox.folder / account
        folder.mkdir()
        kubeconfig, params = folder / "kubeconfig", folder / "params.yaml"
        content = yaml.safe_load(sandbox.consulfed("sandbox", "params").stdout)
        content["kubeconfig"] = str(kubeconfig)
        content["chart"]["ref"] = str(sandbox.folder / "sandbox" / "chart" / "consul")
        params.write_text(yaml.safe_dump(content))
        config = yaml.safe_load((sandbox.folder / "sandbox" / "kubeconfig").read_text())
        config["users"] = []
        kubeconfig.write_text(yaml.safe_dump(config))  # the contexts are looked up when parameters are read
        worker = cls(sandbox, account, "", params, kubeconfig)
        worker.manifest = worker.print_rights(*words)
        for datacenter in DATACENTERS:
            context = f"sandbox-{datacenter}"
            sandbox.kubectl(context, "apply", "-f", "-", stdin=worker.manifest)
            token = sandbox.kubectl(context, "-n", "consulfed", "create", "token", account).strip()
            config["users"].append({"name": context, "user": {"token": token}})
        kubeconfig.write_text(yaml.safe_dump(config))
        kubeconfig.chmod(0o600)
        return worker

    def print_rights(self, *words: str) -> str:
        done = self.sandbox.consulfed("rbac", str(self.params), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.sandbox.run(self.params, *words)

    def change(self, **values: Any) -> None:
        """Change the parameters."""
        content = yaml.safe_load(self.params.read_text())
        self.params.write_text(yaml.safe_dump({**content, **values}))

    def federation(self) -> Federation:
        return load(self.params)

    def events(self) -> Iterator[dict[str, Any]]:
        """Its lines in the audit logs of all API servers."""
        user = f"system:serviceaccount:consulfed:{self.account}"
        for log in sorted((self.sandbox.folder / "sandbox").glob("dc*/audit.log")):
            for line in log.read_text().splitlines():
                event = json.loads(line)
                if event["user"].get("username") == user:
                    yield event

    def granted(self) -> list[Right]:
        """Every right in the manifest."""
        documents = [each for each in yaml.safe_load_all(self.manifest) if each]
        return [
            right
            for each in documents
            for policy in each.get("rules") or ()
            for rule in from_policy(policy, each["metadata"].get("namespace", ""))
            for right in rule.rights()
        ]

    def used(self) -> set[Right]:
        """What it asked for and got. An apply that creates, and a stream, take the right to create as well."""
        found = set()
        for event in self.events():
            target, code = event.get("objectRef"), event["responseStatus"]["code"]
            if target is None:
                continue
            resource = "/".join(target[key] for key in ("resource", "subresource") if key in target)
            right = Right(
                target.get("namespace", ""), target.get("apiGroup", ""), resource, event["verb"],
                target.get("name", ""),
            )  # fmt: skip
            found.add(right)
            if (event["verb"], code) == ("patch", 201) or resource in STREAMS:
                found.add(right._replace(verb="create"))
        return found


def unused(worker: Worker, used: set[Right]) -> set[tuple[str, str]]:
    """(verb, resource) of what the manifest gives and nothing used; printed with where and which."""
    found = [right for right in worker.granted() if not any(right.covers(each) for each in used)]
    print("\n".join(map(str, found)))
    return {(right.verb, right.resource) for right in found}


def killed_while(worker: Worker, words: str) -> None:
    """Start a run that applies, and kill it outright right after it said these words."""
    command = [sys.executable, "-m", "consulfed_lib.cli", "run", str(worker.params), "--apply"]
    command += ["--records", str(worker.sandbox.records)]
    process = subprocess.Popen(
        command,
        env=worker.sandbox.env,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=worker.sandbox.folder,
    )
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"the run ended with {process.wait()}"
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.fixture(scope="module")
def worker(sandbox: Sandbox) -> Worker:
    """The runbook's service account."""
    return Worker.hired(sandbox)


@pytest.fixture(scope="module")
def reader(sandbox: Sandbox, worker: Worker) -> Worker:
    """The service account that only looks."""
    return Worker.hired(sandbox, "--read-only")


def test_the_whole_life_of_a_federation_under_these_rights(worker: Worker, reader: Worker) -> None:
    """Dry runs, a killed run and its recovery, a second run, other options, verification, uninstallation."""
    for each in (reader, worker):
        done = each.run()
        assert done.returncode == 0, done.stderr
    killed_while(worker, "dc1: helm upgrade")
    done = worker.run("--apply")
    assert done.returncode == 0, done.stderr
    done = worker.run("--apply")
    assert done.returncode == 0, done.stderr
    assert {result["outcome"] for result in worker.sandbox.results().values()} == {"unchanged", "verified"}
    for each in (worker, reader):
        each.change(values={"ui": {"enabled": False}}, proxy_defaults_mode="remote")
    done = worker.run("--apply")
    assert done.returncode == 0, done.stderr
    for words in ([], ["--only", "04"]):
        done = reader.run(*words)
        assert done.returncode == 0, done.stderr


def test_who_only_looks_can_write_nothing(reader: Worker) -> None:
    """Preflight says so before the first write, and the API server refuses it anyway."""
    done = reader.run("--apply")
    assert done.returncode == 11, done.stderr
    assert "may not create" in done.stderr
    assert "--service-account consulfed/consulfed-read-only" in done.stderr
    kubectl = find_program("kubectl")
    words = [str(kubectl), "--kubeconfig", str(reader.kubeconfig), "--context", "sandbox-dc1", "-n", "consul"]
    for what in (
        ["delete", "service", "consul-dns"],
        ["create", "configmap", "x"],
        ["scale", "sts/consul-server"],
    ):
        more = ["--replicas=2"] if what[0] == "scale" else []
        refused = subprocess.run([*words, *what, *more], capture_output=True, text=True, env=os.environ)
        assert refused.returncode != 0
        assert "forbidden" in refused.stderr.lower()
    asks = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    wrote = [
        event["requestURI"]
        for event in reader.events()
        if event["verb"] in WRITES
        and event["responseStatus"]["code"] < 400
        and event["objectRef"]["resource"] not in asks
    ]
    assert wrote == []


def test_the_undo_that_a_plan_prints_works_under_these_rights(worker: Worker) -> None:
    """`helm uninstall` deletes every object that the chart made."""
    helm = find_program("helm")
    for datacenter in reversed(DATACENTERS):
        words = [str(helm), "uninstall", "consul", "--kube-context", f"sandbox-{datacenter}", "-n", "consul"]
        done = subprocess.run(
            [*words, "--kubeconfig", str(worker.kubeconfig)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr


def test_nothing_was_refused(worker: Worker) -> None:
    """A 403 would be a right that is missing in the table, wherever the runbook went on without."""
    refused = [
        event["requestURI"] for event in worker.events() if event["responseStatus"]["code"] in (401, 403)
    ]
    assert refused == []


def test_no_right_is_unused(worker: Worker) -> None:
    """Each verb of each rule was used in this life, or the chart's own roles grant it, or the exception is named."""
    used = worker.used()
    federation = worker.federation()
    for of in federation.clusters:
        for rule in granted_rules(rendered.objects(federation, of), of.namespace):
            used |= set(rule.rights())
    assert unused(worker, used) == set(UNUSED_HERE)


def test_no_right_of_who_only_looks_is_unused(reader: Worker) -> None:
    """The same for the read-only role."""
    assert unused(reader, reader.used()) == set(UNUSED_BY_READER)
