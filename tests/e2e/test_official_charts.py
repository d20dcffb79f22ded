"""HashiCorp's own chart, unmodified, through the five notebooks on real Consul, once for each generation.

The charts are not part of this repository. `CONSULFED_CHARTS` names a folder with one unpacked chart a sub-folder
(each with its Chart.yaml), such as `helm pull hashicorp/consul --version 1.9.11 --untar` leaves them.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import yaml

from .conftest import PARAMS, Sandbox

VARIABLE = "CONSULFED_CHARTS"
REQUIRED = ("0.49.8", "1.0.11", "1.9.11", "2.0.3")
"""The last release of each generation that this runbook promises; one that the folder lacks is a failure."""

OLD = ("0.41.1", "0.44.0")
"""Charts that wait, on the sandbox's Kubernetes, for what it no longer has: with ACLs for token Secrets, and for
PodSecurityPolicies with a generated gossip key. Without both they come up, and the runbook's values fit them."""


class OfficialChartsDidNotRun(UserWarning):
    """Nobody may think that the official charts passed when they were not there."""


def _charts() -> dict[str, Path]:
    """Version → folder, of every unpacked chart that `CONSULFED_CHARTS` has."""
    folder = os.environ.get(VARIABLE)
    files = sorted(Path(folder).expanduser().absolute().glob("*/Chart.yaml")) if folder else []
    return {str(yaml.safe_load(file.read_text())["version"]): file.parent for file in files}


@pytest.fixture(scope="module")
def charts() -> dict[str, Path]:
    """The charts; without the variable a skip, and a warning in pytest's summary that says so."""
    if not os.environ.get(VARIABLE):
        words = (
            f"{VARIABLE} is not set: HashiCorp's charts ({', '.join(REQUIRED)}) DID NOT RUN. Give it a folder that"
            " has one unpacked chart a sub-folder, and run: pytest tests -k official_chart"
        )
        warnings.warn(words, OfficialChartsDidNotRun, stacklevel=1)
        pytest.skip(words)
    return _charts()


@pytest.mark.parametrize("version", REQUIRED)
def test_official_chart(
    version: str, charts: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """From nothing to a verified federation with the chart as HashiCorp ships it; run again, nothing changes."""
    assert version in charts, f"{VARIABLE} has no chart {version}; it has {', '.join(charts) or 'none'}"
    sandbox: Sandbox = request.getfixturevalue("own_sandbox")
    params = _write(tmp_path, charts[version], version)
    _give_rights(sandbox, params)
    done = sandbox.run(params, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    results = sandbox.results()
    assert [r["outcome"] for r in results.values()] == ["verified", *["applied"] * 3, "verified"]
    broken = [c for c in results["04-verification"]["checks"] if c["severity"] == "error"]
    assert broken == []

    written = sandbox.writes()
    again = sandbox.run(params, "--apply")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [r["outcome"] for r in sandbox.results().values()] == ["verified", *["unchanged"] * 3, "verified"]
    dry = sandbox.run(params)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert sandbox.writes() == written, "a second run and a dry run write nothing"


@pytest.mark.parametrize("version", OLD)
def test_an_old_official_chart(
    version: str, charts: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With ACLs it is refused before anything is written, and why is said; without them it federates."""
    if version not in charts:
        pytest.skip(f"{VARIABLE} has no chart {version}, which is not required")
    sandbox: Sandbox = request.getfixturevalue("own_sandbox")
    params = _write(tmp_path, charts[version], version, gossip_encryption=False)
    _give_rights(sandbox, params)
    before = sandbox.writes()
    done = sandbox.run(params, "--apply")
    assert done.returncode == 11
    assert "pin chart 0.48.0 or newer" in done.stderr
    assert sandbox.writes() == before
    params = _write(tmp_path, charts[version], version, gossip_encryption=False, acls=False)
    done = sandbox.run(params, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.results()["04-verification"]["outcome"] == "verified"


def _write(folder: Path, chart: Path, version: str, **changes: object) -> Path:
    """The sandbox's parameters with that chart."""
    path = folder / "params.yaml"
    content = (
        yaml.safe_load(PARAMS.read_text()) | {"chart": {"ref": str(chart), "version": version}} | changes
    )
    path.write_text(yaml.safe_dump(content))
    return path


def _give_rights(sandbox: Sandbox, params: Path) -> None:
    """What the administrator of each cluster does once for this chart: the sandbox gives those for its own only."""
    manifest = sandbox.consulfed("rbac", str(params), "--user", "sandbox-sre")
    assert manifest.returncode == 0, manifest.stderr
    for context in ("sandbox-dc1", "sandbox-dc2"):
        sandbox.kubectl(context, "apply", "-f", "-", stdin=manifest.stdout)
