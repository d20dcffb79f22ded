"""A rehearsal for real: three datacenters, node ports, ACLs off, contexts of every cloud, and one drill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib import redact
from consulfed_lib.drills.catalogue import DRILLS

SHOP = "arn:aws:eks:eu-west-1:123:cluster/shop"
PARAMS: dict[str, Any] = {
    "federation": "shop",
    "reason": "a third region",
    "change_id": "CHG-7",
    # A repository that nobody has: the sandbox's own chart stands for it.
    "chart": {"ref": "nowhere/consul", "version": "1.9.11"},
    "acls": False,
    "mesh_gateway": {"service": "NodePort", "node_port": 30443},
    "verification": {"latency": 0},
    "values": {"server": {"storageClass": "gp3"}, "global": {"logLevel": "debug"}},
    "primary": {"context": SHOP, "datacenter": "eu-west", "namespace": "mesh"},
    "secondaries": [
        {"context": "gke_project_us-east1_lab", "datacenter": "us-east"},
        {
            "context": "admin@bare metal",
            "datacenter": "lab",
            "release": "mesh",
            "mesh_gateway": {"node_port": 31443},
        },
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a kubeconfig at both usual places; who opens one of them waits for ever, for nobody writes to it."""
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / ".kube").mkdir()
    for name in (".kube/config", "kubeconfig"):
        os.mkfifo(folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return folder


def environment(home: Path) -> dict[str, str]:
    """Programs come from the usual cache; nothing else is shared."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return {
        **os.environ, "HOME": str(home), "KUBECONFIG": str(home / "kubeconfig"), "XDG_CACHE_HOME": cache,
        "XDG_STATE_HOME": str(home / "state"), "CONSULFED_SANDBOX": str(home / "none"),
    }  # fmt: skip


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "consulfed_lib.cli", *words]


@pytest.fixture(scope="module")
def done(home: Path) -> subprocess.CompletedProcess[str]:
    words = ("rehearse", str(home / "params.yaml"), "--drill", "gateway-down", "-o", "json")
    return subprocess.run(
        command(home, *words), env=environment(home), cwd=home, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_planned_applied_verified_and_drilled(report: dict[str, Any]) -> None:
    """Applied is the plan that was made, to all three datacenters; no kubeconfig of the user's was opened."""
    assert (report["outcome"], report["exit_code"], report["verify"]) == ("passed", 0, "verified")
    assert report["plan"]["outcome"] == "planned"
    assert report["apply"]["approved_plan"] == report["plan"]["plan"]
    notebooks = [
        (each["notebook"], each["secondary"], each["outcome"]) for each in report["apply"]["notebooks"]
    ]
    assert [each[2] for each in notebooks if not each[0].startswith(("00", "04"))] == ["applied"] * 5
    (drill,) = report["drills"]["drills"]
    assert DRILLS["gateway-down"].cause is not None
    assert (drill["check"], drill["subject"]) == (DRILLS["gateway-down"].cause.check, "us-east")
    assert drill["passed"], drill["why"]
    assert report["drills"]["healthy"]["alarms"] == []


def test_what_is_not_imitated_is_said_twice(
    report: dict[str, Any], done: subprocess.CompletedProcess[str]
) -> None:
    """Before anything comes up, and in the end; in the report, too."""
    said = {row["parameter"]: row["how"] for row in report["imitation"]}
    assert said["chart"] == said["kubeconfig"] == said["private_network"] == "replaced"
    assert said["values: server.storageClass"] == said["your network"] == "not imitated"
    assert said["acls"] == said["primary.context"] == "imitated"
    for words in ("nowhere/consul 1.9.11 by the sandbox's own", "values: server.storageClass"):
        assert done.stderr.count(words) == 2


def test_its_records_are_a_rehearsals(report: dict[str, Any], home: Path) -> None:
    """Under a name of their own, which `record` knows, intact; the user's contexts are in them, and no secret."""
    listed = subprocess.run(
        command(home, "record", "list"), env=environment(home), cwd=home, capture_output=True, text=True
    )
    assert listed.stdout.count("shop-rehearsal") >= 2
    for record in report["records"]:
        verified = subprocess.run(
            command(home, "record", "verify", record),
            env=environment(home),
            cwd=home,
            capture_output=True,
            text=True,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
        said = (home / record / "SHA256SUMS").parent / "run.json"
        assert said.exists()
    assert [each.name for each in (home / "records").iterdir()] == ["shop-rehearsal"]
    texts = "".join(path.read_text() for path in (home / "records").rglob("*.ipynb"))
    assert SHOP in texts
    assert "rehearsal: a third region" in texts
    kept = home / report["file"]
    assert json.loads(kept.read_text())["outcome"] == "passed"
    assert not redact.betrays(kept.read_text())


def test_nothing_is_left(report: dict[str, Any], home: Path) -> None:
    """But the records: no sandbox, no kubeconfig."""
    assert [each.name for each in (home / "state" / "consulfed" / "rehearsals").iterdir()] == [".lock"]


def test_a_signal_takes_the_sandbox_down(home: Path) -> None:
    """In the middle of the plan: 130, in JSON too, and nothing of the sandbox is left."""
    words = ("rehearse", str(home / "params.yaml"), "--no-drills", "-o", "json", "--records", "interrupted")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    rehearsal = subprocess.Popen(command(home, *words), env=environment(home), cwd=home, **pipes)
    assert rehearsal.stderr is not None
    while "== plan" not in (line := rehearsal.stderr.readline()):
        assert line, "it ended before it had begun"
    rehearsal.send_signal(signal.SIGTERM)
    said, _ = rehearsal.communicate(timeout=60)
    assert rehearsal.returncode == 130
    assert json.loads(said)["error"]["class"] == "Interrupted"
    assert [each.name for each in (home / "state" / "consulfed" / "rehearsals").iterdir()] == [".lock"]
