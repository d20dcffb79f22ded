"""The main job, on one sandbox, in the order in which a person does it: dry run, apply, apply again, verify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from consulfed_lib import redact
from consulfed_lib.form.contexts import look
from consulfed_lib.form.page import FormPage
from consulfed_lib.lab import start_sandbox
from consulfed_lib.params import load

from .conftest import PARAMS, ROOT, Sandbox, leaks

NOTEBOOKS = [
    "00-preflight", "01-primary-setup", "02-secret-transfer-dc2", "03-secondary-setup-dc2", "04-verification",
]  # fmt: skip


def consuls(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Context → the Consul there, as the form shows it."""
    monkeypatch.setenv("CONSULFED_SANDBOX", sandbox.env["CONSULFED_SANDBOX"])
    found = look("sandbox")
    assert all(each.kubernetes.startswith("v1.") for each in found)
    assert not any(value.decode("latin-1") in repr(found) for value in sandbox.secret_values().values())
    return {each.context: each.consul for each in found}


def test_a_new_params_file_for_the_sandbox_is_its_whole_federation(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the form proposes it, `params new` writes it; it is well, with the sandbox that is up."""
    assert set(consuls(sandbox, monkeypatch).values()) == {"no Consul"}
    file = tmp_path / "practice.yaml"
    made = sandbox.consulfed("params", "new", "--kubeconfig", "sandbox", "-o", str(file))
    assert made.returncode == 0, made.stderr
    assert "sandbox-dc1: Kubernetes v1." in made.stderr
    ours, usual = load(file), load(PARAMS)
    assert (ours.clusters, ours.chart.version) == (usual.clusters, usual.chart.version)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert FormPage().draft.federation == ours
    told: list[str] = []
    assert start_sandbox(PARAMS, told.append) is False
    assert "it is up" in told[0]


def test_a_dry_run_writes_nothing(sandbox: Sandbox) -> None:
    """Without --apply every notebook plans, and no API server sees a write."""
    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    assert {r["outcome"] for n, r in sandbox.results().items() if n != "00-preflight"} == {"planned"}
    assert sandbox.writes() == []
    assert "04-verification: left out" in done.stdout


def test_apply_leaves_a_verified_federation(sandbox: Sandbox) -> None:
    """Five executed notebooks, each with its result, and every check of the verification ok."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    results = sandbox.results()
    assert list(results) == NOTEBOOKS
    assert [r["outcome"] for r in results.values()] == [
        "verified",
        "applied",
        "applied",
        "applied",
        "verified",
    ]
    checks = results["04-verification"]["checks"]
    assert {c["severity"] for c in checks} == {"ok"}
    pairs = {(c["id"], c["subject"]) for c in checks}
    for pair in ("dc1 → dc2", "dc2 → dc1"):
        assert {("node-health", pair), ("catalog-services", pair)} <= pairs
    assert sandbox.writes(), "an apply that writes nothing would make the tests beside this one worthless"


def test_the_form_shows_the_consul_that_is_there(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever context of its cluster is asked, also with rights to read only."""
    found = consuls(sandbox, monkeypatch)
    version = load(PARAMS).chart.version
    for i in (1, 2):
        words = f"release consul in consul, chart {version}, datacenter dc{i}, federated"
        assert {found[f"sandbox-dc{i}"], found[f"sandbox-dc{i}-admin"]} == {words}
        assert found[f"sandbox-dc{i}-read-only"].startswith("release consul in consul")


def test_members_are_alive_in_both_datacenters(sandbox: Sandbox) -> None:
    """kubectl exec runs the real consul CLI, and shows both datacenters alive from both sides."""
    for context in ("sandbox-dc1", "sandbox-dc2"):
        text = sandbox.kubectl(
            context, "-n", "consul", "exec", "consul-server-0", "--", "consul", "members", "-wan"
        )
        alive = {line.split()[0] for line in text.splitlines()[1:] if line.split()[2] == "alive"}
        assert alive == {"consul-server-0.dc1", "consul-server-0.dc2"}


def test_exec_reaches_no_shell_of_the_host(sandbox: Sandbox) -> None:
    """A pod gives no way to this machine's shell."""
    words = ["-n", "consul", "exec", "consul-server-0", "--", "sh", "-c", "id"]
    try:
        text = sandbox.kubectl("sandbox-dc1", *words)
    except AssertionError as refused:
        text = str(refused)
    assert "uid=" not in text
    assert "sh" in text


def test_a_second_run_changes_nothing(sandbox: Sandbox) -> None:
    """Everything is reported unchanged, no API server sees a write, and no Helm revision is made."""
    before = sandbox.writes()
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    outcomes = {name: result["outcome"] for name, result in sandbox.results().items()}
    assert outcomes == dict(
        zip(NOTEBOOKS, ["verified", "unchanged", "unchanged", "unchanged", "verified"], strict=True)
    )
    assert sandbox.writes() == before


def test_vanilla_papermill_works_from_any_directory(sandbox: Sandbox, tmp_path: Path) -> None:
    """`papermill 04-verification.ipynb out.ipynb -f params/sandbox.yaml` needs nothing else of ours."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "04-verification.ipynb"),
        "out.ipynb",
    ]
    done = subprocess.run(
        [*command, "-f", str(PARAMS)],
        cwd=tmp_path,
        env=sandbox.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Passed unknown parameter" not in done.stderr
    text = (tmp_path / "out.ipynb").read_text()
    assert '"outcome": "verified"' in text
    assert "consul-server-0.dc2" in text, "the page's transcript is the evidence"
    verified = sandbox.consulfed("record", "verify", str(tmp_path / "out.ipynb"))
    assert verified.returncode == 0, verified.stderr
    assert "outcome VERIFIED" in verified.stdout
    (tmp_path / "edited.ipynb").write_text(text.replace("step.verify()", "step.result()"))
    verified = sandbox.consulfed("record", "verify", str(tmp_path / "edited.ipynb"))
    assert verified.returncode == 52
    assert "step.result()" in verified.stderr
    assert leaks(tmp_path, sandbox.secret_values()) == []


def test_nothing_is_redacted_that_is_no_secret(sandbox: Sandbox) -> None:
    """A healthy run shows no secret, so that there is nothing to hide: a word that is hidden is a false alarm."""
    texts = {path.name: path.read_text() for path in sandbox.newest_record().glob("*.ipynb")}
    assert len(texts) == 5
    assert [name for name, text in texts.items() if redact.REDACTED in text] == []
    assert "anonymous-policy" in texts["04-verification.ipynb"]


def test_each_record_verifies_and_one_byte_more_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    """On any file of it; and `list` and `show` tell what it is about."""
    record = sandbox.newest_record()
    done = sandbox.consulfed("record", "verify", str(record))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "intact; outcome UNCHANGED" in done.stdout
    names = [path.name for path in record.iterdir()]
    assert {"run.json", "SHA256SUMS", "plan.json", "04-verification.ipynb", "04-verification.html"} <= set(
        names
    )
    for name in names:
        copy = tmp_path / name / record.name
        shutil.copytree(record, copy)
        copy.chmod(0o700)
        (copy / name).chmod(0o600)
        with (copy / name).open("a") as file:
            file.write("x")
        edited = sandbox.consulfed("record", "verify", str(copy))
        assert edited.returncode == 52
        assert name in edited.stderr


def test_a_record_says_who_did_what_where_with_what(sandbox: Sandbox) -> None:
    """The API servers' word for who, each cluster's identity, versions, and how to undo it."""
    records = ["--records", str(sandbox.records)]
    done = sandbox.consulfed("record", "show", "latest", "-o", "json", *records)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    text = json.dumps(said)
    uid = json.loads(sandbox.kubectl("sandbox-dc2", "get", "namespace", "kube-system", "-o", "json"))
    assert uid["metadata"]["uid"] in text
    assert "sandbox-sre" in text
    assert {"consulfed", "chart", "helm", "consul"} <= set(said["predicate"]["versions"])
    listed = sandbox.consulfed("record", "list", *records)
    assert listed.stdout.count("sandbox ") == len(list((sandbox.records / "sandbox").glob("2*")))
    compared = sandbox.consulfed("record", "diff", *_last_two(sandbox), *records)
    assert compared.returncode == 0, compared.stderr
    assert "created: release consul" in compared.stdout
    assert "unchanged: release consul" in compared.stdout


def _last_two(sandbox: Sandbox) -> list[str]:
    return [path.name for path in sorted((sandbox.records / "sandbox").glob("2*"))[-2:]]


def test_no_secret_is_in_the_records(sandbox: Sandbox) -> None:
    """No key, token or private key of any cluster stands in any record, in any encoding."""
    values = sandbox.secret_values()
    assert {
        "sandbox-dc1/consul-federation/caKey",
        "sandbox-dc2/consul-federation/gossipEncryptionKey",
    } <= set(values)
    assert leaks(sandbox.records, values) == []


def test_a_leak_would_be_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    """The search above finds a value that is there."""
    values = sandbox.secret_values()
    name = "sandbox-dc1/consul-federation/replicationToken"
    (tmp_path / "record.txt").write_text(f"token={values[name].decode()}")
    assert f"record.txt: {name}" in leaks(tmp_path, values)


def test_records_are_private(sandbox: Sandbox) -> None:
    """A record's folder can be entered by its owner only."""
    assert sandbox.newest_record().stat().st_mode & 0o077 == 0


def test_the_copy_carries_only_data_and_label(sandbox: Sandbox) -> None:
    """No metadata of the original and no last-applied annotation travels with the federation secret."""
    text = sandbox.kubectl("sandbox-dc2", "-n", "consul", "get", "secret", "consul-federation", "-o", "json")
    metadata = json.loads(text)["metadata"]
    assert metadata["labels"] == {"managed-by": "consul-k8s"}
    assert not metadata.get("annotations")


def test_a_second_proxy_defaults_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """The API server asks consul-k8s' webhook, which allows one ProxyDefaults, named global."""
    manifest = tmp_path / "other.yaml"
    manifest.write_text(
        "apiVersion: consul.hashicorp.com/v1alpha1\nkind: ProxyDefaults\nmetadata: {name: other}\nspec: {}\n"
    )
    with pytest.raises(AssertionError, match=r'denied the request: .*must be "global"'):
        sandbox.kubectl("sandbox-dc1", "-n", "consul", "apply", "-f", str(manifest))


def test_the_federated_sandbox_fits_its_memory(sandbox: Sandbox) -> None:
    """2×1 federated stays within 350 MiB (PSS, all processes)."""
    status = json.loads(sandbox.consulfed("sandbox", "status", "-o", "json").stdout)
    assert status["memory_mib"] < 350


def test_down_leaves_no_process_and_no_port(sandbox: Sandbox) -> None:
    """Every process of the sandbox is gone after down, and up works again in the same folder."""
    status = json.loads(sandbox.consulfed("sandbox", "status", "-o", "json").stdout)
    pids = [status["pid"], *(p["pid"] for c in status["clusters"] for p in c["programs"])]
    assert len(pids) == 5
    sandbox.down()
    assert not [pid for pid in pids if _runs(pid)]
    sandbox.up()


def _runs(pid: int) -> bool:
    """A zombie has ended; it only waits for this machine's init to take note."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
