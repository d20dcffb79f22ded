"""A secondary leaves a federation of three, on real Consul: nothing of it is left, and the others are as before.

In the order in which a person would meet it, on one sandbox: a plan, a refusal, dc2 leaves, a second run; dc3's API is
out of reach while its Consul lives; dc3 dies while dc2 comes back, and is cleaned away.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from .conftest import Sandbox, leaks
from .test_traffic import consul, severities

NOTEBOOK = "90-defederate"


class Federation:
    """A sandbox with three datacenters, and params files for it that differ in what is to leave."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox
        self.content: dict[str, Any] = yaml.safe_load(sandbox.consulfed("sandbox", "params").stdout)
        self.content["verification"] = {"latency": 0}
        for each in self.content["secondaries"]:
            # Consul's own: with the sandbox's number of repeats a server cannot tell in time that it leaves.
            config = json.dumps({"gossip_wan": {"retransmit_mult": 4}})
            each["values"] = {"server": {"extraConfig": config}}

    def params(self, **changes: Any) -> Path:
        path = self.sandbox.folder / "params.yaml"
        path.write_text(yaml.safe_dump(self.content | changes))
        return path

    def run(self, *words: str, code: int = 0, **changes: Any) -> str:
        done = self.sandbox.run(self.params(**changes), *words)
        assert done.returncode == code, done.stderr
        return done.stderr

    def leave(self, secondary: str, *words: str, code: int = 0, **changes: Any) -> dict[str, Any]:
        """The result of 90; empty where it failed."""
        self.run("--only", "90", "--secondary", secondary, *words, code=code, **changes)
        return self.sandbox.results()[f"{NOTEBOOK}-{secondary}"] if not code else {}

    def leave_and_be_killed(self, secondary: str, said: str, **changes: Any) -> None:
        """90, killed outright with its kernel and its Helm as soon as it says these words."""
        words = ("run", str(self.params(**changes)), "--only", "90", "--secondary", secondary, "--apply")
        command = [sys.executable, "-m", "consulfed_lib.cli", *words, "--records", str(self.sandbox.records)]
        with subprocess.Popen(
            command,
            env=self.sandbox.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        ) as process:
            assert process.stdout is not None
            assert any(said in line for line in process.stdout)
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        assert psutil.wait_procs(family, timeout=10)[1] == []

    def accounts(self) -> dict[str, list[str]]:
        """Names of the primary's ACL objects, tokens by their auth method."""
        found = {}
        for kind in ("auth-method", "binding-rule", "role", "policy", "token"):
            listed = json.loads(consul(self.sandbox, "dc1", f"acl {kind} list", "-format=json"))
            keys = {"binding-rule": "BindName", "token": "AuthMethod"}
            found[kind] = sorted(each.get(keys.get(kind, "Name")) or "" for each in listed)
        return found

    def unreachable(self) -> str:
        """A kubeconfig in which nobody answers for dc3."""
        config = yaml.safe_load((self.sandbox.folder / "sandbox" / "kubeconfig").read_text())
        for each in config["clusters"]:
            if each["name"] == "sandbox-dc3":
                each["cluster"]["server"] = "https://127.255.0.1:1"
        path = self.sandbox.folder / "without-dc3"
        path.write_text(yaml.safe_dump(config))
        return str(path)


@pytest.fixture(scope="module")
def federation(new_sandbox: Callable[..., Sandbox]) -> Federation:
    made = Federation(new_sandbox(datacenters=3))
    made.run("--apply")
    return made


def of(names: dict[str, list[str]], datacenter: str) -> list[str]:
    return [name for found in names.values() for name in found if name.endswith(f"-{datacenter}")]


def test_a_dry_run_plans_and_writes_nothing(federation: Federation) -> None:
    """It needs no confirmation; each thing that would go has its row, and so has what stays."""
    before = federation.sandbox.writes(), federation.accounts()
    result = federation.leave("dc2")
    assert result["outcome"] == "planned"
    planned = {row["id"]: row["outcome"] for row in result["changes"]}
    assert planned.pop("volume-claims") == planned.pop("federation-state") == "unchanged"
    assert set(planned.values()) == {"would delete"}
    assert set(planned) == {
        "servers", "release", "federation-secret", "wan-member", "auth-method", "binding-rules", "login-tokens",
        "roles", "policies",
    }  # fmt: skip
    assert (federation.sandbox.writes(), federation.accounts()) == before


def test_without_its_name_nothing_is_done(federation: Federation) -> None:
    """The error says what to give; a run for all secondaries is refused before anything is started."""
    before = federation.sandbox.writes()
    assert 'confirm: "dc2"' in federation.run("--only", "90", "--secondary", "dc2", "--apply", code=10)
    assert "--secondary" in federation.run("--only", "90", "--apply", code=10)
    assert federation.sandbox.writes() == before


def test_it_leaves_and_the_others_are_as_before(federation: Federation) -> None:
    """Uninstalled, out of the pool, without a login; dc3 and the primary keep all that is theirs.

    The first run is killed while Helm is at work: the second one goes on.
    """
    sandbox, before = federation.sandbox, federation.accounts()
    secrets, confirmed = sandbox.secret_values(), {"confirm": "dc2"}
    federation.leave_and_be_killed("dc2", "helm uninstall", leave=confirmed)
    assert federation.accounts() == before
    result = federation.leave("dc2", "--apply", leave=confirmed)
    assert result["outcome"] == "applied"
    assert {row["id"]: row["outcome"] for row in result["changes"]}["auth-method"] == "deleted"
    assert all(row["undo"] for row in result["changes"] if row["outcome"] == "deleted")
    after = federation.accounts()
    assert of(before, "dc2") != of(after, "dc2") == []
    assert of(after, "dc3") == of(before, "dc3") != []
    for kind, names in before.items():
        assert after[kind] == [name for name in names if not name.endswith("-dc2")]
    assert severities(result, "left-pool") == {"dc1": "ok", "dc3": "ok"}
    assert severities(result, "node-health") == {"dc1 → dc3": "ok", "dc3 → dc1": "ok"}
    for name in ("dc1", "dc3"):
        assert "dc2" not in consul(sandbox, name, "catalog datacenters")
    assert severities(result, "left-state") == {"dc1": "warning"}  # the leader prunes it once an hour
    left = sandbox.kubectl("sandbox-dc2", "-n", "consul", "get", "pods,secrets,services,jobs", "-o", "name")
    assert left == ""
    claims = sandbox.kubectl("sandbox-dc2", "-n", "consul", "get", "pvc", "-o", "name")
    assert result["facts"]["volume claims that stay"] == claims.strip().rpartition("/")[2]
    assert leaks(sandbox.newest_record(), secrets) == []


def test_a_second_run_has_nothing_to_do(federation: Federation) -> None:
    """It needs no confirmation, because nothing would be done."""
    before = federation.sandbox.writes()
    assert federation.leave("dc2", "--apply")["outcome"] == "unchanged"
    assert federation.sandbox.writes() == before


def test_one_that_is_out_of_reach_and_lives_is_told_to_live(federation: Federation) -> None:
    """Said to be gone, it must not answer. Its logins are removed, and it is said that its servers stay in the pool."""
    dc3 = [each for each in federation.content["secondaries"] if each["datacenter"] == "dc3"]
    gone = {"confirm": "dc3", "unreachable": True}
    federation.leave("dc3", "--apply", code=11, secondaries=dc3, leave=gone)
    out: dict[str, Any] = {"secondaries": dc3, "kubeconfig": federation.unreachable()}
    federation.leave("dc3", "--apply", code=11, leave={"confirm": "dc3"}, **out)
    result = federation.leave("dc3", "--apply", leave=gone, **out)
    assert result["outcome"] == "applied"
    assert of(federation.accounts(), "dc3") == []
    assert severities(result, "left-unseen") == {"dc3": "warning"}
    assert severities(result, "left-pool") == {"dc1": "warning"}
    assert "consul-server-0.dc3" in consul(federation.sandbox, "dc1", "members -wan")


def test_who_left_can_come_back(federation: Federation) -> None:
    """By 02 and 03, once the volumes of its servers are deleted. Meanwhile dc3 dies."""
    sandbox, namespace = federation.sandbox, ("-n", "consul")
    sandbox.kubectl("sandbox-dc3", *namespace, "scale", "statefulset/consul-server", "--replicas=0")
    sandbox.kubectl("sandbox-dc2", *namespace, "delete", "pvc", "--all")
    dc2 = [each for each in federation.content["secondaries"] if each["datacenter"] == "dc2"]
    federation.run("--only", "02", "--apply", secondaries=dc2)
    federation.run("--only", "03", "--apply", secondaries=dc2)
    assert len(of(federation.accounts(), "dc2")) > 4


def test_one_that_is_dead_is_cleaned_away(federation: Federation) -> None:
    """Nobody lists it any more, dc2 is untouched, and what is to be done in its cluster is said."""
    changes: dict[str, Any] = {
        "kubeconfig": federation.unreachable(),
        "leave": {"confirm": "dc3", "unreachable": True},
    }
    result = federation.leave("dc3", "--apply", **changes)
    assert severities(result, "left-pool") == {"dc1": "ok", "dc2": "ok"}
    assert severities(result, "node-health") == {"dc1 → dc2": "ok", "dc2 → dc1": "ok"}
    assert "delete secret consul-federation" in result["facts"]["to do by hand"]
    assert "dc3" not in consul(federation.sandbox, "dc1", "catalog datacenters")
    assert len(of(federation.accounts(), "dc2")) > 4
