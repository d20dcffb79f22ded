"""Helm releases in one cluster: what is installed, what would change, install or upgrade.

The Helm CLI does the work, with values on its standard input: nothing is written to a file, nothing of them stands
in an argument list. (pyhelm3 wraps the same CLI for asyncio only, and cannot tell what would change.)
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .children import ended_with_us
from .cluster import Cluster, resource_path
from .errors import ApplyError, ClusterError, ToolError
from .params import Chart
from .places import find_program
from .redact.kubernetes import register_manifests
from .runner import RUNNER_LABEL, runner_is_gone, runner_label

REVISION_LABEL = "consulfed-revision"
"""Label beside RUNNER_LABEL: the revision that this process makes. Helm hands labels on to later revisions, also to
those that somebody makes by hand; only where it equals the revision is the runner that revision's."""

ADOPTED_LABEL = "consulfed-adopted"
"""Label of a release that somebody else made and consulfed upgraded: its values are the user's, ours among them."""

ORIGIN_LABEL = "consulfed-origin"
"""Label beside it while an upgrade in stages is under way: the revision that it began from."""

_HISTORY = 30
"""Revisions that Helm keeps while an upgrade goes in stages; of its usual ten the first would be lost."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


PLAN_LABEL = "consulfed-plan"
"""Label beside it: the approved plan under which that revision is made (`Approval.mark`), so that a run which was
killed can go on under the same approval, from whichever machine."""


@dataclass(frozen=True)
class Release:
    """One revision of a Helm release, as its Secret in the cluster has it.

    Attributes:
        values: what the user gave, without the chart's own.
        defaults: the chart's own values.
        objects: the manifest, hooks not among them.
        secret: name of the Secret.
        runner: label of the process that makes or made this revision; empty where it was not consulfed's.
        ours: whether consulfed made this revision or one before it.
        plan: mark of the approved plan under which consulfed made it.
        adopted: whether somebody else made the release, and consulfed upgraded it.
        origin: the revision from which an upgrade in stages began that is under way; 0: none is.
    """

    name: str
    namespace: str
    revision: int
    status: str
    chart: str
    version: str
    app_version: str
    values: Mapping[str, Any]
    objects: tuple[Mapping[str, Any], ...]
    secret: str
    runner: str
    ours: bool
    plan: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)
    adopted: bool = False
    origin: int = 0

    @property
    def pending(self) -> bool:
        return self.status.startswith("pending-")


def release(cluster: Cluster, namespace: str, name: str, revision: int = 0) -> Release | None:
    """The newest revision of a release, or the one given; None if there is none. Needs no Helm, only `list secrets`."""
    labels = f"owner=helm,name={name}" + (f",version={revision}" if revision else "")
    secrets = cluster.list("secrets", namespace, labels)
    if not secrets:
        return None
    newest = max(secrets, key=lambda secret: int(secret["metadata"]["labels"]["version"]))
    labels = newest["metadata"]["labels"]
    record = _unpack(newest["data"]["release"])
    metadata = record["chart"]["metadata"]
    objects = parse_manifest(record.get("manifest", ""))
    register_manifests(objects)
    by_us = labels.get(REVISION_LABEL) == labels["version"]
    return Release(
        name=name,
        namespace=namespace,
        revision=int(labels["version"]),
        status=str(labels.get("status", record["info"]["status"])),
        chart=metadata["name"],
        version=metadata["version"],
        app_version=str(metadata.get("appVersion", "")),
        values=record.get("config") or {},
        objects=tuple(objects),
        secret=newest["metadata"]["name"],
        runner=labels.get(RUNNER_LABEL, "") if by_us else "",
        ours=RUNNER_LABEL in labels,
        plan=labels.get(PLAN_LABEL, "") if by_us else "",
        defaults=record["chart"].get("values") or {},
        adopted=ADOPTED_LABEL in labels,
        origin=int(labels.get(ORIGIN_LABEL, 0)) if by_us else 0,
    )


def parse_manifest(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered manifest, hooks not among them."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if isinstance(document, dict)]


@cache
def _version_of(program: Path) -> str:
    try:
        done = subprocess.run(
            [str(program), "version", "--short"], capture_output=True, text=True, timeout=30, check=False
        )
        said = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"that does not answer ({type(error).__name__})"
    if not re.match(r"v\d+\.\d+", said):
        raise ToolError(f"Helm {said or 'of unknown version'}", "install Helm 3.14 or newer")
    return said.partition("+")[0]


class Charts:
    """What the Helm CLI tells of charts, without any cluster. Raises ToolError when Helm is not there."""

    def __init__(self) -> None:
        program = find_program("helm")
        if program is None:
            raise ToolError(
                "helm is not on this machine.",
                "install Helm 3.14 or newer (conda-forge: kubernetes-helm), or run `consulfed sandbox tools`",
            )
        self.program: Path = program

    @staticmethod
    def _chart(chart: Chart) -> list[str]:
        words = [chart.location]
        if not Path(chart.location).is_dir():
            words += ["--version", chart.version]
        return words + (["--repo", chart.repo] if chart.repo else [])

    def _run(self, words: list[str], stdin: str = "", timeout: float = 120) -> str:
        try:
            done = subprocess.run(
                [str(self.program), *words], input=stdin, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise ApplyError(
                f"helm {words[0]} did not end within {timeout:g} s.", "run the same again"
            ) from None
        if done.returncode:
            raise ApplyError(f"helm {words[0]} failed: {_reason(done.stderr)}", _hint(done.stderr))
        return done.stdout

    def version(self) -> str:
        """As Helm says it of itself, such as `v4.1.4`. Raises ToolError where it does not."""
        return _version_of(self.program)

    def chart_metadata(self, chart: Chart) -> dict[str, Any]:
        """Chart.yaml of the pinned chart. Raises ApplyError when the chart or that version cannot be had."""
        return yaml.load(self._run(["show", "chart", *self._chart(chart)]), Loader=_Loader) or {}

    def chart_values(self, chart: Chart, timeout: float = 120) -> dict[str, Any]:
        """The chart's own values.yaml, parsed. Raises ApplyError as `chart_metadata` does."""
        words = ["show", "values", *self._chart(chart)]
        return yaml.load(self._run(words, timeout=timeout), Loader=_Loader) or {}

    def pull(self, chart: Chart, folder: Path, timeout: float) -> Path:
        """Unpack the pinned chart into an empty folder; gives its own folder in there. Raises ApplyError as
        `chart_metadata` does.
        """
        words = ["pull", *self._chart(chart), "--untar", "--untardir", str(folder)]
        self._run(words, timeout=timeout)
        return next(path.parent for path in folder.glob("*/Chart.yaml"))

    def render(
        self, name: str, namespace: str, chart: Chart, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Every object that a release would make, hooks and CRDs included, as a client without a cluster renders it."""
        words = [
            "template",
            name,
            *self._chart(chart),
            "--namespace",
            namespace,
            "--include-crds",
            "--skip-tests",
        ]
        manifests = parse_manifest(self._run([*words, "-f", "-"], json.dumps(values)))
        register_manifests(manifests)
        return manifests


class Helm(Charts):
    """The Helm CLI for one cluster. Raises ToolError when Helm is not there."""

    def __init__(self, cluster: Cluster):
        super().__init__()
        self.cluster = cluster

    def _target(self, namespace: str) -> list[str]:
        words = ["--kube-context", self.cluster.context, "--namespace", namespace]
        return words + (["--kubeconfig", self.cluster.kubeconfig] if self.cluster.kubeconfig else [])

    def preview(
        self, name: str, namespace: str, chart: Chart, values: Mapping[str, Any], installed: bool
    ) -> list[dict[str, Any]]:
        """The objects that an install or upgrade would leave, rendered against the cluster; nothing is written.

        `helm template` and not `upgrade --dry-run`, which refuses while a killed run's revision is pending. What
        Secrets would hold is dropped at once; hooks are not objects of the release.
        """
        words = ["template", name, *self._chart(chart), "--dry-run=server", "--no-hooks"]
        words += ["--is-upgrade"] if installed else []
        text = self._run([*words, *self._target(namespace), "-f", "-"], json.dumps(values))
        manifests = parse_manifest(text)
        register_manifests(manifests)
        hidden = {"data", "stringData"}
        return [
            {key: value for key, value in each.items() if each.get("kind") != "Secret" or key not in hidden}
            for each in manifests
        ]

    def upgrade(
        self,
        name: str,
        namespace: str,
        chart: Chart,
        values: Mapping[str, Any],
        timeout: int,
        watch: Callable[[threading.Event], str],
        force: bool = False,
        approval: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Install or upgrade a release; hooks included, it ends when Helm ends.

        Args:
            watch: runs beside Helm until the event is set, tells the progress, and returns the last state that it
                saw, for the error.
            force: take fields that others changed. Done by itself where somebody scaled a workload by hand, because
                the number of replicas is a parameter, and never for another field.
            approval: mark of the approved plan under which this is done.
            labels: more labels of the revision; `null` takes one away that the revision before has.

        Raises:
            ApplyError: Helm failed, or its hooks did not end within `timeout` seconds.
        """
        words = ["upgrade", name, *self._chart(chart), "--install", "--timeout", f"{timeout}s"]
        before = release(self.cluster, namespace, name)
        revision = before.revision + 1 if before else 1
        marks = {RUNNER_LABEL: runner_label(), REVISION_LABEL: str(revision), **(labels or {})}
        if approval or before:  # `null` takes away what Helm would hand on from the revision before
            marks[PLAN_LABEL] = approval or "null"
        words += ["--labels", ",".join(f"{key}={value}" for key, value in marks.items())]
        words += ["--history-max", str(_HISTORY)] if labels else []
        words += [*self._target(namespace), "-f", "-"]
        words += ["--force-conflicts"] if force else []
        ended = threading.Event()
        seen: list[str] = []
        watcher = threading.Thread(target=lambda: seen.append(watch(ended)), daemon=True)
        process = subprocess.Popen(
            [str(self.program), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=ended_with_us(),
        )
        watcher.start()
        try:
            _, errors = process.communicate(json.dumps(values))
        except BaseException:
            process.terminate()  # Helm marks the release failed, which the next run can go on from
            process.wait(30)
            raise
        finally:
            ended.set()
            watcher.join(5)
        if process.returncode and not force and _only_scaled(errors):
            self.upgrade(name, namespace, chart, values, timeout, watch, True, approval, labels)
        elif process.returncode:
            details = [f"last state seen: {seen[0]}"] if seen and seen[0] else []
            raise ApplyError(
                f"Helm could not bring up {name} in {self.cluster.context}: {_reason(errors)}",
                _hint(errors) or "mend the cause and run the same notebook again; it goes on from here",
                details,
            )

    def uninstall(self, name: str, namespace: str, timeout: int) -> None:
        """Uninstall a release, hooks included; its record goes with it. Its pods may still be ending then.

        Raises:
            ApplyError: Helm failed, or its hooks did not end within `timeout` seconds.
        """
        words = ["uninstall", name, "--timeout", f"{timeout}s", *self._target(namespace)]
        done = subprocess.run(
            [str(self.program), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=ended_with_us(),
        )
        if done.returncode:
            raise ApplyError(
                f"Helm could not uninstall {name} in {self.cluster.context}: {_reason(done.stderr)}",
                _hint(done.stderr) or "mend the cause and run the same notebook again; it goes on from here",
            )


def _only_scaled(stderr: str) -> bool:
    """Whether all that Helm (4, with server-side apply) stopped at are numbers of replicas that others set.

    >>> _only_scaled('Error: Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas')
    True
    """
    # Helm logs the same once more, in quotes of its own, before it ends with the error itself.
    error = stderr.rpartition("Error: ")[2].strip()
    found = re.search(r'failed with 1 conflict: conflict with "[^"]*"[^\n]*: (\.\S+)$', error)
    return found is not None and found[1] == ".spec.replicas"


def mark_failed(cluster: Cluster, found: Release) -> None:
    """Make a release that a killed run left in `pending-…` fit for the next one: its last revision becomes `failed`.

    That is what Helm itself writes when it is stopped in good order, and what its next upgrade goes on from.

    Raises:
        ClusterError: somebody else may still be working on it.
    """
    if not runner_is_gone(found.runner):
        raise ClusterError(
            f"The release {found.name} in {cluster.context} is {found.status}: another Helm may be working on it.",
            f"wait for it; if nobody is, delete its record: kubectl --context {cluster.context} "
            f"-n {found.namespace} delete secret {found.secret}",
        )
    secret = cluster.get("secrets", found.namespace, found.secret)
    if secret is None:
        return
    record = _unpack(secret["data"]["release"])
    record["info"] |= {"status": "failed", "description": "the run that made this revision was killed"}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()
    patch = {"metadata": {"labels": {"status": "failed"}}, "data": {"release": packed}}
    path = resource_path("secrets", found.namespace, found.secret)
    cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")


def _unpack(data: str) -> dict[str, Any]:
    """A release's record: JSON, gzipped, in base64 of Helm's, in base64 of the Secret's."""
    packed = base64.b64decode(base64.b64decode(data))
    return json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)


def _reason(stderr: str) -> str:
    """The last thing that Helm said, without its log lines."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return (errors[-1] if errors else "it said nothing").removeprefix("Error: ")[:600]


def _hint(stderr: str) -> str:
    if "already exists" in stderr and "jobs.batch" in stderr:
        return "a failed hook Job of an earlier run is in the way; delete that Job and run the same again"
    if "not found" in stderr and "repo" in stderr:
        return "add the chart's repository (helm repo add …) or give chart.repo in the parameters"
    return ""
