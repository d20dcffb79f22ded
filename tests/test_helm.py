"""Helm releases: read as Helm writes them, mended where a killed run left one, and Helm's failures in one sentence."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import consulfed_lib.sandbox
from consulfed_lib import helm
from consulfed_lib.errors import ApplyError, ClusterError, ToolError
from consulfed_lib.helm import REVISION_LABEL, Helm, mark_failed, parse_manifest, release
from consulfed_lib.params import Chart
from consulfed_lib.places import find_program
from consulfed_lib.runner import RUNNER_LABEL, runner_label

SECRETS = "/api/v1/namespaces/consul/secrets"
CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
MANIFEST = """---
# Source: consul/templates/a.yaml
apiVersion: v1
kind: Service
metadata: {name: consul-mesh-gateway}
---
# Source: consul/templates/empty.yaml
---
kind: ConfigMap
metadata: {name: c}
"""


def stored(
    revision: int,
    status: str = "deployed",
    *,
    packed: bool = True,
    runner: str = "",
    chart: str = "1.9.11",
    **config: Any,
) -> dict[str, Any]:
    """A release's Secret as Helm writes it (pkg/storage/driver: labels, and gzipped JSON in base64)."""
    name = f"sh.helm.release.v1.consul.v{revision}"
    when = "2026-01-02T03:04:05.6Z"
    record = {
        "name": "consul",
        "namespace": "consul",
        "version": revision,
        "info": {"first_deployed": when, "last_deployed": when, "deleted": "", "status": status},
        "chart": {
            "metadata": {
                "name": "consul",
                "version": chart,
                "appVersion": "1.22.7",
                "apiVersion": "v2",
            },
            "templates": [],
            "values": {},
        },
        "config": config,
        "manifest": MANIFEST,
    }
    data = json.dumps(record).encode()
    labels = {"name": "consul", "owner": "helm", "status": status, "version": str(revision)}
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "consul",
            "labels": labels | ({RUNNER_LABEL: runner, REVISION_LABEL: str(revision)} if runner else {}),
        },
        "type": "helm.sh/release.v1",
        "data": {
            "release": base64.b64encode(base64.b64encode(gzip.compress(data) if packed else data)).decode()
        },
    }


@pytest.fixture
def store(api):
    """Puts releases into the API server; it keeps what is patched."""

    def put(*secrets: dict[str, Any]) -> None:
        api.answers[f"GET {SECRETS}"] = lambda asked: (200, {"kind": "SecretList", "items": list(secrets)})
        api.answers["GET /version"] = 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        for secret in secrets:
            path = f"{SECRETS}/{secret['metadata']['name']}"

            def patch(asked: Any, secret: dict[str, Any] = secret) -> tuple[int, Any]:
                secret["metadata"]["labels"] |= asked.body["metadata"]["labels"]
                secret["data"] |= asked.body["data"]
                return 200, secret

            api.answers[f"GET {path}"] = 200, secret
            api.answers[f"PATCH {path}"] = patch

    return put


@pytest.fixture
def real_helm(cluster):
    """Runs the real Helm against that API server."""

    def run(*words: str) -> Any:
        program = find_program("helm")
        assert program, "these tests need helm: run `consulfed sandbox tools`"
        target = ["--kubeconfig", cluster.kubeconfig, "--kube-context", "one", "-n", "consul", "-o", "json"]
        done = subprocess.run([str(program), *words, *target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


# Reading


def test_a_release_is_read_from_its_newest_secret(cluster, store, api):
    """Newest by number: v10 is newer than v9. Only `list secrets` is needed for it."""
    store(stored(9, "superseded"), stored(10, runner="host.1.2", global_={"name": "consul"}), stored(1))
    found = release(cluster, "consul", "consul")
    assert found is not None
    assert (found.revision, found.status, found.runner) == (10, "deployed", "host.1.2")
    assert (found.chart, found.version, found.app_version) == ("consul", "1.9.11", "1.22.7")
    assert found.values == {"global_": {"name": "consul"}}
    assert found.secret == "sh.helm.release.v1.consul.v10"
    assert not found.pending
    assert api.asked() == [f"GET {SECRETS}"]
    assert api.requests[0].query == {"labelSelector": "owner=helm,name=consul"}


def test_no_secret_is_no_release(cluster, store):
    """A first installation."""
    store()
    assert release(cluster, "consul", "consul") is None


def test_an_old_helm_did_not_compress(cluster, store):
    """Helm itself still reads such records."""
    store(stored(1, packed=False))
    found = release(cluster, "consul", "consul")
    assert found is not None
    assert found.version == "1.9.11"


def test_helm_reads_the_same_in_it_as_we_do(cluster, store, real_helm):
    """What these tests store is what the real Helm takes for a release."""
    store(stored(1, "superseded"), stored(2, acls=True))
    found = release(cluster, "consul", "consul")
    assert found is not None
    assert real_helm("get", "values", "consul") == found.values == {"acls": True}
    assert [row["revision"] for row in real_helm("history", "consul")] == [1, found.revision]


def test_a_manifest_is_its_objects_and_no_empty_documents():
    """Templates that render nothing leave a comment."""
    assert [o["kind"] for o in parse_manifest(MANIFEST)] == ["Service", "ConfigMap"]
    assert parse_manifest("") == []


@pytest.mark.parametrize(
    ("status", "pending"),
    [
        ("pending-install", True),
        ("pending-upgrade", True),
        ("pending-rollback", True),
        ("deployed", False),
        ("failed", False),
        ("uninstalling", False),
    ],
)
def test_a_pending_release_is_one_that_helm_works_on(cluster, store, status, pending):
    """Or that it worked on when it was killed."""
    store(stored(1, status))
    found = release(cluster, "consul", "consul")
    assert found is not None
    assert found.pending is pending


def test_a_runner_is_that_of_its_own_revision_only(cluster, store):
    """Helm hands labels on: a revision that somebody made by hand is ours by origin, but not by work."""
    by_hand = stored(2, "pending-upgrade", runner=runner_label())
    by_hand["metadata"]["labels"][REVISION_LABEL] = "1"
    store(stored(1, runner=runner_label()), by_hand)
    found = release(cluster, "consul", "consul")
    assert found is not None
    assert (found.ours, found.runner) == (True, "")


# A release that a killed run left


def test_a_release_that_a_dead_run_left_pending_is_marked_failed(cluster, store, child, real_helm, api):
    """As Helm does itself when it is stopped in good order: label and record, nothing else of it."""
    label = runner_label(child.pid)
    store(stored(1), stored(2, "pending-upgrade", runner=label, acls=True))
    child.kill()
    child.wait()
    before = release(cluster, "consul", "consul")
    assert before is not None
    mark_failed(cluster, before)
    after = release(cluster, "consul", "consul")
    assert after is not None
    assert after.status == "failed"
    assert (after.values, after.objects, after.revision) == (before.values, before.objects, 2)
    assert [row["status"] for row in real_helm("history", "consul")] == ["deployed", "failed"]
    assert len(api.asked("PATCH")) == 1


def test_a_release_that_somebody_works_on_is_left_alone(cluster, store, child, api):
    """Whoever lives, or may live elsewhere; the error says how to go on when nobody does."""
    for runner in (runner_label(child.pid), "other-host.1.1", ""):
        store(stored(1, "pending-install", runner=runner))
        found = release(cluster, "consul", "consul")
        assert found is not None
        with pytest.raises(ClusterError) as caught:
            mark_failed(cluster, found)
        assert "pending-install" in caught.value.found
        assert "delete secret sh.helm.release.v1.consul.v1" in caught.value.hint
    assert api.asked("PATCH") == []


def test_a_pending_release_that_is_gone_meanwhile_needs_no_mending(cluster, store, api):
    """Somebody deleted its record, as the hint says."""
    store(stored(1, "pending-install", runner=f"{runner_label().rsplit('.', 1)[0]}.1"))
    found = release(cluster, "consul", "consul")
    assert found is not None
    del api.answers[f"GET {SECRETS}/{found.secret}"]
    mark_failed(cluster, found)
    assert api.asked("PATCH") == []


# Helm's failures


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("Error: UPGRADE FAILED: timed out waiting for the condition\n", "UPGRADE FAILED: timed out"),
        ("level=WARN msg=x\nError: first\nError: chart requires y\n", "chart requires y"),
        ("I1123 klog line\nsomething odd\n", "something odd"),
        ("error: lower case\nhelp text\n", "lower case"),
        ("", "said nothing"),
    ],
)
def test_the_reason_is_what_helm_said_last_as_an_error(stderr, reason):
    """Without its log lines and without the word in front."""
    found = helm._reason(stderr)
    assert reason in found
    assert not found.startswith("Error: ")


def test_a_reason_has_an_end():
    """A template's dump is no sentence."""
    assert len(helm._reason("Error: " + "x" * 5000)) <= 600


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ('Error: jobs.batch "consul-create-federation-secret" already exists', "Job"),
        ("Error: repo hashicorp not found", "chart.repo"),
        ("Error: context deadline exceeded", ""),
    ],
)
def test_a_hint_is_given_where_one_is_known(stderr, word):
    """And none where it would be guessed."""
    assert word in helm._hint(stderr)
    assert bool(helm._hint(stderr)) is bool(word)


def test_without_helm_it_is_said_how_to_get_it(cluster, monkeypatch):
    """By the name of the package, and by our own command."""
    monkeypatch.setattr(helm, "find_program", lambda name: None)
    with pytest.raises(ToolError) as caught:
        Helm(cluster)
    assert "helm" in caught.value.found
    assert "consulfed sandbox tools" in caught.value.hint


def test_a_charts_metadata_comes_from_the_real_chart(cluster):
    """Name and version, to compare with what the parameters pin."""
    found = Helm(cluster).chart_metadata(Chart(ref=str(CHART), version="1.9.11-sandbox"))
    assert found["name"] == "consul"
    assert found["version"] == "1.9.11-sandbox"


def test_a_chart_that_is_not_there_is_one_sentence(cluster, tmp_path):
    """In Helm's own words."""
    with pytest.raises(ApplyError) as caught:
        Helm(cluster).chart_metadata(Chart(ref=str(tmp_path / "none"), version="1.9.11"))
    assert str(tmp_path / "none") in caught.value.found
    assert len(caught.value.found.splitlines()) == 1


def test_a_failed_upgrade_carries_the_last_state_seen(cluster):
    """Helm alone says "timed out"; its watcher has seen why. It is told to end, and it is waited for."""
    ended: list[bool] = []

    def watch(done: threading.Event) -> str:
        ended.append(done.wait(30))
        return "gateway address none yet"

    chart = Chart(ref=str(CHART), version="1.9.11-sandbox")
    with pytest.raises(ApplyError) as caught:
        Helm(cluster).upgrade("consul", "consul", chart, {"global": {"name": "consul"}}, 5, watch)
    assert ended == [True]
    assert "consul in one" in caught.value.found
    assert caught.value.details == ("last state seen: gateway address none yet",)
    assert caught.value.hint


def test_values_are_neither_in_the_arguments_nor_in_a_file(cluster, monkeypatch):
    """Arguments can be read by everybody on the machine, files stay: they go through standard input."""
    seen: list[list[str]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, words: list[str], **more: Any):
            seen.append(words)
            super().__init__(["cat"], **more)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    values = {"secretThing": "value-that-nobody-may-see"}
    chart = Chart(ref="hashicorp/consul", repo="https://charts.example.com", version="1.9.11")
    Helm(cluster).upgrade("consul", "consul", chart, values, 5, lambda done: "")
    (words,) = seen
    assert not any("value-that-nobody-may-see" in word for word in words)
    assert words[words.index("-f") + 1] == "-"
    for option, value in (
        ("--kube-context", "one"),
        ("--kubeconfig", cluster.kubeconfig),
        ("--version", "1.9.11"),
        ("--repo", "https://charts.example.com"),
        ("--timeout", "5s"),
        ("--labels", f"{RUNNER_LABEL}={runner_label()},{REVISION_LABEL}=1"),
    ):
        assert words[words.index(option) + 1] == value


@pytest.mark.parametrize(
    ("stderr", "scaled"),
    [
        ('Apply failed with 1 conflict: conflict with "kubectl" using apps/v1 at T: .spec.replicas', True),
        ('Apply failed with 1 conflict: conflict with "argocd" using apps/v1: .spec.template.spec', False),
        (
            'Apply failed with 2 conflicts: conflicts with "me":\n- .spec.replicas\n- .metadata.labels.x',
            False,
        ),
        ("context deadline exceeded", False),
    ],
)
def test_only_hand_set_replicas_are_taken_back(stderr: str, scaled: bool) -> None:
    """How many replicas there are is a parameter; any other field that somebody changed is theirs to give back."""
    assert helm._only_scaled(stderr) is scaled
