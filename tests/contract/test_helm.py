"""What Helm relies on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from .conftest import Command

PAUSE = "registry.k8s.io/pause:3.9"
_SECRET_VALUE = "nobody-may-see-this"

TEMPLATES: dict[str, str] = {
    "objects.yaml": """
apiVersion: v1
kind: ServiceAccount
metadata: {name: "{{ .Release.Name }}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {note: "{{ .Values.note }}"}
---
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}"}
stringData: {password: "SECRET_VALUE"}
---
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}"}
spec: {ports: [{port: 80, name: http}], selector: {app: "{{ .Release.Name }}"}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 0
  serviceName: "{{ .Release.Name }}"
  selector: {matchLabels: {app: "{{ .Release.Name }}", kind: stateful}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}", kind: stateful}}
    spec:
      containers: [{name: main, image: "PAUSE_IMAGE", volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 0
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: main, image: "PAUSE_IMAGE"}]}
""",
    "hook.yaml": """
{{- if .Values.hook }}
apiVersion: batch/v1
kind: Job
metadata:
  name: "{{ .Release.Name }}-hook"
  annotations: {helm.sh/hook: "post-install,post-upgrade", helm.sh/hook-delete-policy: hook-succeeded}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: "{{ .Values.image }}", command: ["true"]}]
{{- end }}
""",
    "capability.yaml": """
{{- if not (.Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget") }}
{{ fail "policy/v1 is not discovered" }}
{{- end }}
""",
    "broken.yaml": """
{{- if .Values.broken }}
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}-broken"}
spec: {ports: [{port: 99999, name: http}]}
{{- end }}
""",
}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A tiny chart: a few objects, and a hook Job when `hook` is set."""
    folder = tmp_path / "tiny"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "tiny", "version": "0.1.0"})
    )
    (folder / "values.yaml").write_text(
        yaml.safe_dump({"note": "one", "hook": False, "broken": False, "image": "none"})
    )
    for name, text in TEMPLATES.items():
        text = text.replace("SECRET_VALUE", _SECRET_VALUE).replace("PAUSE_IMAGE", PAUSE)
        (folder / "templates" / name).write_text(text)
    return folder


Release = Callable[..., Any]


@pytest.fixture
def release(helm: Command, namespace: str) -> Release:
    """Runs helm in the test's namespace and reads its JSON, if it says any."""

    def run(*arguments: str, **options: Any) -> Any:
        done = helm(*arguments, "-n", namespace, **options)
        return json.loads(done.stdout) if "json" in arguments else done.stdout + done.stderr

    return run


def test_install_upgrade_uninstall(
    release: Release, core: client.CoreV1Api, chart: Path, namespace: str
) -> None:
    """The life of a release, its history, and what it leaves: nothing."""
    release("install", "web", str(chart), "--wait", "--timeout", "120s")
    assert release("list", "-o", "json")[0]["status"] == "deployed"
    assert core.read_namespaced_config_map("web", namespace).data == {"note": "one"}
    release("upgrade", "web", str(chart), "--set", "note=two", "--wait", "--timeout", "120s")
    assert core.read_namespaced_config_map("web", namespace).data == {"note": "two"}
    history = release("history", "web", "-o", "json")
    assert [(entry["revision"], entry["status"]) for entry in history] == [(1, "superseded"), (2, "deployed")]
    assert release("get", "values", "web", "-o", "json") == {"note": "two"}
    assert "kind: Deployment" in release("get", "manifest", "web")
    release("rollback", "web", "1", "--wait", "--timeout", "120s")
    assert core.read_namespaced_config_map("web", namespace).data == {"note": "one"}
    release("uninstall", "web", "--wait", "--timeout", "120s")
    assert release("list", "-o", "json") == []
    assert not [s for s in core.list_namespaced_secret(namespace).items if s.type == "helm.sh/release.v1"]


def test_an_upgrade_of_the_same_changes_no_object(
    release: Release, core: client.CoreV1Api, chart: Path, namespace: str
) -> None:
    """Helm applies again what is already so; the objects keep their revision."""

    def revisions() -> list[str]:
        apps = client.AppsV1Api(core.api_client)
        return [
            core.read_namespaced_service("web", namespace).metadata.resource_version,
            core.read_namespaced_secret("web", namespace).metadata.resource_version,
            apps.read_namespaced_stateful_set("web", namespace).metadata.resource_version,
        ]

    release("install", "web", str(chart), "--wait", "--timeout", "120s")
    before = revisions()
    release("upgrade", "web", str(chart))
    assert revisions() == before


def test_server_dry_run_shows_no_secret_and_writes_nothing(
    release: Release, core: client.CoreV1Api, chart: Path, namespace: str
) -> None:
    """`--dry-run=server --hide-secret` is how a change is planned."""
    shown = release("install", "web", str(chart), "--dry-run=server", "--hide-secret")
    assert "kind: Deployment" in shown
    assert _SECRET_VALUE not in shown
    assert [s for s in core.list_namespaced_secret(namespace).items if s.type == "helm.sh/release.v1"] == []
    names = {found.metadata.name for found in core.list_namespaced_config_map(namespace).items}
    assert "web" not in names


def test_hooks_run_and_go(
    release: Release, api: client.ApiClient, chart: Path, namespace: str, image: str
) -> None:
    """Helm waits for a hook Job to complete, and deletes it."""
    release("install", "web", str(chart), "--set", f"hook=true,image={image}", "--wait", "--timeout", "180s")
    left = client.BatchV1Api(api).list_namespaced_job(namespace).items
    assert [job.metadata.name for job in left if not job.metadata.deletion_timestamp] == []


def test_what_is_not_helms_is_not_taken(
    release: Release, core: client.CoreV1Api, chart: Path, namespace: str
) -> None:
    """An object of that name that the release does not own stops the installation."""
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "web"}, "data": {"mine": "yes"}})
    told = release("install", "web", str(chart), fails=True)
    assert "invalid ownership metadata" in told
    assert core.read_namespaced_config_map("web", namespace).data == {"mine": "yes"}


def test_a_refused_object_fails_the_release(release: Release, chart: Path) -> None:
    """What the API server refuses is named, and the release is marked failed."""
    told = release("install", "web", str(chart), "--set", "broken=true", fails=True)
    assert "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive" in told
    assert release("status", "web", "-o", "json")["info"]["status"] == "failed"


def test_upgrade_install_and_missing_release(release: Release, chart: Path) -> None:
    """`upgrade --install` installs; a release that is not there is said to be so."""
    told = release("status", "web", fails=True)
    assert "release: not found" in told
    release("upgrade", "--install", "web", str(chart))
    assert release("status", "web", "-o", "json")["info"]["status"] == "deployed"


def test_create_namespace(helm: Command, core: client.CoreV1Api, chart: Path, unique: str) -> None:
    """`--create-namespace` makes the namespace that is not there."""
    try:
        helm("install", "web", str(chart), "-n", unique, "--create-namespace")
        assert core.read_namespace(unique).metadata.labels["name"] == unique
    finally:
        helm("uninstall", "web", "-n", unique)
        core.delete_namespace(unique)
