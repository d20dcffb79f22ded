"""Helm values, judged before anything is written: by the checks, and by `consulfed params check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib import helm, offline
from consulfed_lib.checks.values import OFFLINE, Judged, chart_keys, look_at_values, look_with_chart
from consulfed_lib.errors import ParamsError, ToolError
from consulfed_lib.params import load

HERE = Path(__file__).parent
SANDBOX_FILE = HERE.parent / "params" / "sandbox.yaml"
BAD_FILE = HERE / "data" / "bad-params.yaml"
CHART_VALUES: dict[str, Any] = {
    "global": {}, "connectInject": {}, "meshGateway": {}, "server": {"replicas": 1, "extraVolumes": []},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_kubeconfig")


def found(params: Any, severity: str) -> dict[str, str]:
    """Check → what it found, of one severity."""
    return {each.id: each.found for each in look_at_values(params, CHART_VALUES) if each.severity == severity}


def test_good_values_pass_every_check(federation):
    """Each says so by itself: none is left out, none is skipped."""
    findings = look_at_values(federation(), CHART_VALUES)
    assert [each.id for each in findings] == [each.id for each in (*OFFLINE, chart_keys)]
    assert {each.severity for each in findings} == {"ok"}


def test_without_the_chart_its_keys_were_not_looked_at(federation):
    """Skipped is not proven."""
    last = look_at_values(federation(), missing="no network")[-1]
    assert (last.id, last.severity, last.found) == ("values-chart-keys", "skipped", "no network")


def test_a_chart_that_helm_cannot_have_is_told_and_not_passed_over(federation, monkeypatch):
    """Preflight goes on with the other checks."""

    def absent(_: object) -> None:
        raise ToolError("helm is not on this machine.", "install it")

    monkeypatch.setattr(helm.Charts, "__init__", absent)
    last = look_with_chart(federation())[-1]
    assert (last.severity, last.found) == ("skipped", "helm is not on this machine.")


def test_a_key_that_the_chart_does_not_have_is_found_with_its_file(federation, tmp_path):
    """Helm would say nothing; who has to mend it must know where it stands."""
    file = tmp_path / "mine.yaml"
    file.write_text("server: {replica: 3}")
    errors = found(federation(values_files=[str(file)]), "error")
    assert list(errors) == ["values-chart-keys"]
    assert "did you mean `server.replicas`?" in errors["values-chart-keys"]
    assert f"(in values_files[0] {file})" in errors["values-chart-keys"]


def test_a_misplaced_key_is_told_once(federation):
    """By the check that knows its place, and not again as unknown to the chart."""
    params = federation(values={"federation": {"enabled": True}, "controller": {"enabled": True}})
    errors = found(params, "error")
    assert set(errors) == {"values-misplaced", "values-generation"}


def test_a_conflict_is_told_once(federation):
    """Ours lies over it in the final values, and what does not is not found a second time there."""
    params = federation(values={"global": {"adminPartitions": {"enabled": True}, "tls": {"enabled": False}}})
    findings = [each for each in look_at_values(params) if each.severity == "error"]
    rows = {(each.id, each.subject) for each in findings}
    assert rows == {
        (id, dc) for id in ("values-admin-partitions", "values-conflict") for dc in ("dc1", "dc2")
    }
    assert len(findings) == len(rows)


def test_a_url_that_is_known_better_is_judged_instead(federation):
    """Preflight knows the kubeconfig's; offline only its place is kept."""
    judged = Judged.of(federation(), {"dc2": "http://10.0.0.1"})
    assert [each.check for each in judged.mistakes] == ["values-auth-method-host"]
    assert Judged.of(federation()).mistakes == ()


def test_what_differs_between_datacenters_is_found(federation):
    """A value for one cluster only, where all must have the same."""
    own = {"context": "two", "datacenter": "dc2", "values": {"global": {"domain": "mesh"}}}
    assert set(found(federation(secondaries=[own]), "error")) == {"values-domain-alike"}


def test_an_image_without_a_version_is_a_warning(federation):
    """It works today."""
    params = federation(values={"global": {"image": "hashicorp/consul"}})
    assert set(found(params, "warning")) == {"values-pinned"}
    assert found(params, "error") == {}


# consulfed params check


def run(file: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    words = [sys.executable, "-m", "consulfed_lib.cli", "params", "check", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    return done.returncode, done.stdout, done.stderr


def test_the_sandboxes_file_passes_and_every_check_is_named():
    """Also while no sandbox is up: its chart is part of the package."""
    code, out, errors = run(SANDBOX_FILE)
    assert (code, errors) == (0, "")
    assert all(f"✔ {each.id}: {each.proves}" in out for each in (*OFFLINE, chart_keys))
    assert out.splitlines()[-1].endswith("is well: dc1 is the primary of dc2.")


def test_the_processor_needs_less_than_a_second():
    """Of this child alone: other children of this process (a sandbox of another file) may end at the same moment."""
    words = [sys.executable, "-m", "consulfed_lib.cli", "params", "check", str(SANDBOX_FILE)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 1


BAD_VALUES = [
    # where, key: the mistakes of the Helm values in tests/data/bad-params.yaml
    ("values", "global.tls.enabled"),
    ("values", "global.adminPartitions.enabled"),
    ("values", "global.secretsBackend.vault.enabled"),
    ("values", "externalServers.enabled"),
    ("values", "server.updatePartition"),
    ("values", "server.extraConfig"),
    ("values", "meshGateway.consulServiceName"),
    ("values", "federation"),
    ("primary.values", "global.federation.primaryDatacenter"),
    ("secondaries[0].values", "global.federation.createFederationSecret"),
    ("secondaries[0].values", "global.federation.k8sAuthMethodHost"),
]


def test_every_mistake_of_parameters_and_values_is_listed_at_once():
    """A person mends the file once; the parameters' part is the one that tests/test_params.py holds."""
    with pytest.raises(ParamsError) as of_parameters:
        load(BAD_FILE)
    with pytest.raises(ParamsError) as caught:
        offline.checked(BAD_FILE, lambda _: None)
    details, parameters = list(caught.value.details), list(of_parameters.value.details)
    assert details[: len(parameters)] == parameters
    rest = [line.split(": ", 2) for line in details[len(parameters) :]]
    assert sorted((place, text.split()[0]) for place, text, *_ in rest) == sorted(BAD_VALUES)
    assert len(details) >= 12
    code, out, errors = run(BAD_FILE)
    assert (code, out) == (10, "")
    assert errors.count("\n  - ") == len(details)


def test_conflicts_of_a_file_that_is_well_otherwise_are_listed_with_the_rest(tmp_path, raw):
    """The findings are printed, the mistakes are the error's, and what was not looked at is said loudly."""
    raw |= {
        "values": {"server": {"replicas": 5}, "federation": {}},
        "chart": {"ref": str(tmp_path), "version": "1.9.11"},
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(raw))
    said: list[str] = []
    with pytest.raises(ParamsError) as caught:
        offline.checked(file, said.append)
    assert len(caught.value.details) == 4
    assert any(line.startswith("✘ values-misplaced: dc1: federation") for line in said)
    assert any("values-chart-keys: NOT CHECKED whether every key" in line for line in said)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CHART_VALUES))
    with pytest.raises(ParamsError):
        offline.checked(file, said.append)
    assert any(line.startswith("✔ values-chart-keys") for line in said)


def test_values_are_not_blamed_for_what_only_a_mistake_in_the_parameters_makes_wrong(tmp_path, raw):
    """ACLs that the values repeat are on by default; the chart's generation is not judged without a version."""
    page = {
        "global": {"acls": {"createReplicationToken": True}, "federation": {"createFederationSecret": True}},
        "controller": {"enabled": True},
    }
    raw["primary"]["values"] = page
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(raw | {"chart": {"version": "latest"}}))
    with pytest.raises(ParamsError) as caught:
        offline.checked(file, lambda _: None)
    assert [line.partition(":")[0] for line in caught.value.details] == ["chart.version"]
