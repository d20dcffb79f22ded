"""A Consul that lives already becomes the primary of a federation, under a client that goes on using it.

Each kind of it by its own smallest path; and an upgrade that is killed after each of its actions comes to the same end.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib.places import find_program
from consulfed_lib.redact import Secret
from consulfed_lib.sandbox import existing

from .client import Client, Result, servers_of
from .conftest import Sandbox
from .moments import Ground, Run

DC1 = "sandbox-dc1"
NAMESPACE = ("-n", "consul")


def params_of(sandbox: Sandbox, **changes: Any) -> Path:
    """What `consulfed sandbox params` prints for it, with changes."""
    content = yaml.safe_load(sandbox.consulfed("sandbox", "params").stdout)
    content["timeouts"] = {"install": 120, "ready": 120, "federation": 120}
    for key, value in changes.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    path = sandbox.folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def values(sandbox: Sandbox, *words: str) -> dict[str, Any]:
    """The values of the primary's release, as Helm has them."""
    helm = find_program("helm")
    assert helm is not None
    command = [
        helm,
        "get",
        "values",
        "consul",
        *NAMESPACE,
        "--kube-context",
        f"{DC1}-admin",
        "-o",
        "json",
        *words,
    ]
    done = subprocess.run(command, env=sandbox.env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def token(sandbox: Sandbox) -> Secret:
    found = sandbox.kubectl(DC1, *NAMESPACE, "get", "secret", "consul-bootstrap-acl-token", "-o", "json")
    return Secret("token", base64.b64decode(json.loads(found)["data"]["token"]))


def upgraded(sandbox: Sandbox, params: Path, secret: Secret | None = None) -> Result:
    """01 under a client; what that client saw."""
    with Client(servers_of(sandbox, DC1), secret) as client:
        done = sandbox.run(params, "--apply", "--only", "01")
    print(client.result)
    assert done.returncode == 0, done.stdout + done.stderr
    return client.result


def assert_served(found: Result) -> None:
    """No write that was acknowledged is lost, and none failed that a retry within five seconds did not cure."""
    assert found.writes.attempts > 20
    assert found.lost == 0
    assert found.writes.uncured == 0, found


def server_pods(sandbox: Sandbox, context: str = DC1) -> dict[str, str]:
    """Server → UID of its pod."""
    found = sandbox.kubectl(context, *NAMESPACE, "get", "pods", "-l", "component=server", "-o", "json")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in json.loads(found)["items"]}


def assert_kept(sandbox: Sandbox, kind: str, servers: int) -> None:
    """Every value of the user's own is there as it was, and no other than federation needs was added."""
    before, after = existing.values(kind, servers), values(sandbox)
    added = {"federation", "tls", "acls"}
    assert {key: value for key, value in after["global"].items() if key not in added} == {
        key: value for key, value in before["global"].items() if key not in added
    }
    assert {key: value for key, value in after.items() if key not in ("global", "meshGateway")} == {
        key: value for key, value in before.items() if key != "global"
    }


# Each kind


def test_tls_comes_on_under_use(new_own_sandbox: Callable[..., Sandbox]) -> None:
    """Three servers, three rounds, one at a time; then the whole federation, in which its data and services are."""
    sandbox = new_own_sandbox(servers=3, existing="plain")
    params = params_of(sandbox)
    before = server_pods(sandbox)
    dry = sandbox.run(params, "--only", "01")
    assert dry.returncode == 0, dry.stderr
    assert server_pods(sandbox) == before
    assert_served(upgraded(sandbox, params))
    assert not set(before.values()) & set(server_pods(sandbox).values())
    assert_kept(sandbox, "plain", 3)
    (row,) = [each for each in sandbox.results()["01-primary-setup"]["changes"] if each["id"] == "workloads"]
    assert "upgrade.restart_workloads: Deployment " in row["what"]
    params = params_of(sandbox, upgrade={"restart_workloads": True})
    done = sandbox.run(params, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    results = sandbox.results()
    assert results["04-verification"]["outcome"] == "verified"
    (row,) = [each for each in results["01-primary-setup"]["changes"] if each["id"] == "workloads"]
    assert row["outcome"] == "changed"
    assert row["what"].startswith("restarted: Deployment ")
    again = sandbox.run(params, "--apply", "--only", "01")
    assert sandbox.results()["01-primary-setup"]["outcome"] == "unchanged", again.stdout
    assert_follows(sandbox, params_of(sandbox, mesh_gateway={"port": 9555}))


def assert_follows(sandbox: Sandbox, moved: Path) -> None:
    """Three servers of a secondary are started again for gateways that moved, one by one, and Consul goes on there."""
    before = server_pods(sandbox, "sandbox-dc2")
    done = sandbox.run(moved, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    results = sandbox.results()
    assert results["04-verification"]["outcome"] == "verified"
    (row,) = [each for each in results["03-secondary-setup-dc2"]["changes"] if each["id"] == "servers"]
    assert row["what"].startswith("restarted one by one: ")
    assert all(name in row["what"] for name in before)
    assert not set(before.values()) & set(server_pods(sandbox, "sandbox-dc2").values())


def killed_at_the_next_action(
    sandbox: Sandbox, params: Path, ground: Ground, hit: set[tuple[str, int]]
) -> bool:
    """01, killed with its kernel and its Helm right after the first thing that it did and no run before it was killed
    at; false: there was none left, and it came to its end."""
    command = [sys.executable, "-m", "consulfed_lib.cli", "run", str(params), "--apply", "--only", "01"]
    with Run(ground, sandbox.env, [*command, "--records", str(sandbox.records)]) as run:
        done: Counter[str] = Counter()
        for told in run:
            what = told.part if told.part == "helm upgrade" else told.row[1] if told.row else ""
            done[what] += 1
            told.go()
            if what and (what, done[what]) not in hit:
                hit.add((what, done[what]))
                run.process.kill()
        assert run.process.wait() in (0, -signal.SIGKILL), run.said
        return run.process.returncode != 0


KILLED = [("plain", 1), ("tls", 3), ("acl", 1), ("old-chart", 1)]
"""Kind of Consul, and its servers: three where the client has to be served all the while; with one it waits."""


@pytest.mark.parametrize(("kind", "servers"), KILLED)
def test_killed_after_every_action_it_goes_on(
    new_own_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory, kind: str, servers: int
) -> None:
    """Each run is killed one action later, and the client loses nothing; the end is that of an undisturbed run."""
    sandbox = new_own_sandbox(servers=servers, existing=kind)
    changes = {"upgrade": {"chart": True}} if kind == "old-chart" else {}
    params, ground = params_of(sandbox, **changes), Ground(tmp_path_factory.mktemp("ground"))
    dry = sandbox.run(params, "--only", "01")
    assert dry.returncode == 0, dry.stderr
    hit: set[tuple[str, int]] = set()
    with Client(servers_of(sandbox, DC1), token(sandbox) if kind == "acl" else None) as client:
        while killed_at_the_next_action(sandbox, params, ground, hit):
            pass
    print(f"{kind}: killed at {len(hit)} actions; {client.result}")
    assert {("helm upgrade", 1), ("stage", 1), ("ready", 1), ("proxy-defaults", 1)} <= hit
    assert client.result.lost == 0
    if servers == 3:
        assert {("stage", n) for n in (1, 2, 3)} <= hit
        assert_served(client.result)
    assert_kept(sandbox, kind, servers)
    assert values(sandbox)["global"]["federation"] == {"enabled": True, "createFederationSecret": True}
    again = sandbox.run(params, "--apply", "--only", "01")
    assert sandbox.results()["01-primary-setup"]["outcome"] == "unchanged", again.stdout


def leave_a_failed_job(sandbox: Sandbox) -> None:
    """As the chart's hook leaves it, whose policy deletes only one that succeeded (consul-helm #986)."""
    name = "consul-create-federation-secret"
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": "busybox:1.36"}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"release": "consul"}},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    sandbox.kubectl(DC1, *NAMESPACE, "apply", "-f", "-", stdin=json.dumps(job))
    failed = {
        "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    }
    words = ("patch", "job", name, "--subresource=status", "--type=merge", "-p", json.dumps(failed))
    sandbox.kubectl(DC1, *NAMESPACE, *words)


def test_acls_get_their_replication_token(new_own_sandbox: Callable[..., Sandbox]) -> None:
    """And what is in the way is named first: a failed hook Job, ACLs that the parameters have otherwise."""
    sandbox = new_own_sandbox(existing="acl")
    refused = sandbox.run(params_of(sandbox, acls=False), "--only", "01")
    assert refused.returncode == 11
    assert "set acls to true" in refused.stderr
    leave_a_failed_job(sandbox)
    stopped = sandbox.run(params_of(sandbox), "--only", "01")
    assert stopped.returncode == 11
    assert "leftovers (dc1): failed hook Job consul-create-federation-secret" in stopped.stderr
    params = params_of(sandbox, acls=True, upgrade={"clear_leftovers": True})
    found = upgraded(sandbox, params, token(sandbox))
    assert found.lost == 0
    assert_kept(sandbox, "acl", 1)
    assert values(sandbox)["global"]["acls"] == {"manageSystemACLs": True, "createReplicationToken": True}
    done = sandbox.run(params, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.results()["04-verification"]["outcome"] == "verified"


def test_an_old_chart_is_moved_where_that_is_asked_for(new_own_sandbox: Callable[..., Sandbox]) -> None:
    """Never by itself."""
    sandbox = new_own_sandbox(existing="old-chart")
    before = values(sandbox)
    refused = sandbox.run(params_of(sandbox), "--apply", "--only", "01")
    assert refused.returncode == 11
    assert f"it has chart {existing.OLD_VERSION}" in refused.stderr
    assert values(sandbox) == before
    params = params_of(sandbox, upgrade={"chart": True})
    assert upgraded(sandbox, params).lost == 0
    assert_kept(sandbox, "old-chart", 1)


def test_a_federation_is_moved_datacenter_by_datacenter(new_own_sandbox: Callable[..., Sandbox]) -> None:
    """The secondary first, then the primary, each through its gate; nothing moves because of a version alone."""
    sandbox = new_own_sandbox()
    old = sandbox.folder / "old-chart" / "consul"
    shutil.copytree(sandbox.folder / "sandbox" / "chart" / "consul", old)
    about = yaml.safe_load((old / "Chart.yaml").read_text()) | {"version": existing.OLD_VERSION}
    (old / "Chart.yaml").write_text(yaml.safe_dump(about))
    before = params_of(sandbox, chart={"ref": str(old), "version": existing.OLD_VERSION})
    done = sandbox.run(before, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    refused = sandbox.run(params_of(sandbox), "--apply")
    assert refused.returncode == 11
    assert refused.stderr.count(f"has chart {existing.OLD_VERSION}, the parameters pin") == 2
    params = params_of(sandbox, upgrade={"chart": True, "order": "secondaries-first"})
    done = sandbox.run(params, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    results = sandbox.results()
    assert results["04-verification"]["outcome"] == "verified"
    for name in ("03-secondary-setup-dc2", "01-primary-setup"):
        (gate,) = [each for each in results[name]["changes"] if each["id"] == "gate"]
        assert "checks of the verification ok" in gate["what"]
    assert results["03-secondary-setup-dc2"]["ended"] < results["01-primary-setup"]["started"]


def test_a_consul_that_lives_becomes_no_secondary(new_own_sandbox: Callable[..., Sandbox]) -> None:
    """It would get another CA, another gossip key and other ACLs under its own data."""
    sandbox = new_own_sandbox(existing="tls")
    content = yaml.safe_load(params_of(sandbox).read_text())
    content["primary"], content["secondaries"] = (
        content["secondaries"][0] | {"datacenter": "dc2"},
        [content["primary"]],
    )
    content["gossip_key"] = {"secret": ""}
    path = sandbox.folder / "swapped.yaml"
    path.write_text(yaml.safe_dump(content | {"upgrade": {}}))
    done = sandbox.run(path, "--only", "00")
    assert done.returncode == 11
    assert "cannot become a secondary" in done.stderr
