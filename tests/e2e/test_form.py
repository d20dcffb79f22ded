"""The form against a sandbox: what the clusters say before and after, and a file that federates them."""

from __future__ import annotations

from pathlib import Path

import yaml

from consulfed_lib import form
from consulfed_lib.lab import start_sandbox
from tests.e2e.conftest import PARAMS, Sandbox


def test_a_file_made_for_the_sandbox_federates_it(sandbox: Sandbox, monkeypatch, tmp_path: Path) -> None:
    """Contexts come with version and Consul; the proposed file is well, and preflight and 01 take it."""
    monkeypatch.setenv("CONSULFED_SANDBOX", sandbox.env["CONSULFED_SANDBOX"])
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    assert start_sandbox(PARAMS, told.append) is False
    assert "it is up" in told[0]

    page = form.open()
    before = {each.context: each for each in page.contexts()}
    assert before["sandbox-dc1"].kubernetes.startswith("v1.")
    assert {before[f"sandbox-dc{i}"].consul for i in (1, 2)} == {"no Consul"}
    assert "sandbox-dc1-admin" in before["sandbox-dc1"].note
    file = page.draft.save()

    made = sandbox.consulfed(
        "params", "new", "--kubeconfig", "sandbox", "--federation", "practice", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    assert yaml.safe_load(made.stdout) == yaml.safe_load(file.read_text())
    for number in ("00", "01"):
        done = sandbox.run(tmp_path / file, "--apply", "--only", number)
        assert done.returncode == 0, done.stdout + done.stderr

    after = {each.context: each for each in form.open().contexts()}
    version = yaml.safe_load(file.read_text())["chart"]["version"]
    words = f"release consul in consul, chart {version}, datacenter dc1, federated"
    assert after["sandbox-dc1"].consul == after["sandbox-dc1-read-only"].consul == words
    assert after["sandbox-dc2"].consul == "no Consul"
    token = next(iter(yaml.safe_load((sandbox.folder / "sandbox" / "kubeconfig").read_text())["users"]))[
        "user"
    ]
    assert not any(value in repr(page.contexts()) + repr(page.text()) for value in token.values())
