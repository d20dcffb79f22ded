"""The verification on a real federation: silent while it is well, and with each fault the cause and nothing beside it.

In this order on one sandbox: what is well, faults of secrets and settings, one after another and each undone, and last
the gateways, for what depends on them takes its time to come back.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from consulfed_lib import cli
from consulfed_lib.checks.layers import ORDER
from consulfed_lib.params import load
from consulfed_lib.results import Finding
from consulfed_lib.steps import open_step
from consulfed_lib.steps.verification import Verification

from .conftest import PARAMS, ROOT, Sandbox

NOTEBOOK = "04-verification"
DC1, DC2 = "sandbox-dc1", "sandbox-dc2"
COPY = "consul-federation"
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module", autouse=True)
def federated(sandbox: Sandbox) -> Iterator[None]:
    """Federated once; this process then looks at it as the user of that sandbox does."""
    done = sandbox.run(PARAMS, "--apply")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONSULFED_SANDBOX", "KUBECONFIG"):
            patch.setenv(name, sandbox.env[name])
        patch.setenv("XDG_STATE_HOME", str(sandbox.folder / "state"))
        yield


def verify(*words: str, params: Path = PARAMS) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["verify", str(params), "-o", "json", *words])
    return code, json.loads(out.getvalue())


def causes(*words: str, params: Path = PARAMS, code: int = 40) -> set[tuple[str, str]]:
    """(check, subject) of each cause, of a verification that ends with that code."""
    got, report = verify(*words, params=params)
    assert got == report["exit_code"] == code, report["causes"]
    return {(cause["id"], cause["subject"]) for cause in report["causes"]}


def assert_well(wait: int = 30) -> None:
    code, report = verify("--wait", str(wait))
    assert code == 0, report["causes"]
    assert {check["severity"] for check in report["checks"]} == {"ok"}


def verification() -> Verification:
    step = open_step(NOTEBOOK, load(PARAMS))
    assert isinstance(step, Verification)
    step.preflight()
    return step


def value(sandbox: Sandbox, context: str, name: str, key: str) -> bytes:
    found = sandbox.kubectl(context, "-n", "consul", "get", "secret", name, "-o", "json")
    return base64.b64decode(json.loads(found)["data"][key])


@contextlib.contextmanager
def replaced(sandbox: Sandbox, name: str, key: str, by: bytes) -> Iterator[None]:
    """A key of a Secret of the secondary that has another value for a while."""
    was = value(sandbox, DC2, name, key)

    def put(data: bytes) -> None:
        patch = json.dumps({"data": {key: base64.b64encode(data).decode()}})
        # By standard input: an argument could be read by everybody on this machine.
        words = ("patch", "secret", name, "--type", "merge", "--patch-file", "/dev/stdin")
        sandbox.kubectl(DC2, "-n", "consul", *words, stdin=patch)

    put(by)
    try:
        yield
    finally:
        put(was)


def papermill(sandbox: Sandbox, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb"), str(out)]
    command += ["-f", str(PARAMS), "--no-progress-bar"]
    return subprocess.run(
        command, env=sandbox.env, capture_output=True, text=True, timeout=200, cwd=sandbox.folder
    )


def shown(notebook: Path) -> str:
    """Everything that the outputs of an executed notebook hold, as one text."""
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join(
        "".join(part)
        for cell in cells
        for output in cell.get("outputs", [])
        for part in (*output.get("data", {}).values(), output.get("text", ""), *output.get("traceback", []))
        if isinstance(part, str | list)
    )


# Well


def test_twenty_looks_find_nothing() -> None:
    """No error, no warning and nothing unseen, in any of them; and the quickest takes less than two seconds."""
    step, times = verification(), []
    for _ in range(20):
        start = time.perf_counter()
        found = step.proof.look()
        times.append(time.perf_counter() - start)
        assert [each for each in found if each.severity != "ok"] == []
        assert {each.id for each in found} <= set(ORDER)
    assert min(times) < 2


def test_what_is_well_is_proven(sandbox: Sandbox) -> None:
    """As people call it, with all that can be asked for: exit code 0, and every form of the report."""
    metrics = sandbox.folder / "consulfed.prom"
    words = ("--soak", "1", "--canary", "--prometheus", str(metrics))
    done = sandbox.consulfed("verify", str(PARAMS), *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Verification of federation sandbox: ")
    for id in ("stability", "acl-canary"):
        assert id in done.stdout
    assert 'consulfed_verified{federation="sandbox"} 1' in metrics.read_text()


def test_the_notebook_shows_what_it_proves(sandbox: Sandbox, tmp_path: Path) -> None:
    """Pictures, the matrix with latencies, the ledger, the timeline, who can read the secret: in plain papermill."""
    out = tmp_path / "out.ipynb"
    done = papermill(sandbox, out)
    assert done.returncode == 0, done.stderr
    text = shown(out)
    assert text.count("data:image/svg+xml") >= 2
    for words in ("dc1 → dc2", "Latencies in ms", "Trust ledger", "can read it", "Gateway addresses"):
        assert words in text
    assert "no check failed" in text


# Secrets and settings


def test_a_stale_copy_is_the_cause(sandbox: Sandbox) -> None:
    """What else looks into the copy follows: the ledger, and the addresses of the primary's gateways."""
    stale = json.dumps({"primary_datacenter": "dc1", "primary_gateways": ["127.136.1.99:8443"]})
    with replaced(sandbox, COPY, "serverConfigJSON", stale.encode()):
        assert causes() == {("secret-copy", "dc2")}
    assert_well()


def test_the_notebook_says_why_it_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    """papermill stops at that cell: diagnosis, picture and matrix are in it already."""
    out = tmp_path / "out.ipynb"
    with replaced(sandbox, COPY, "gossipEncryptionKey", base64.b64encode(bytes(32))):
        done = papermill(sandbox, out)
    assert done.returncode != 0
    assert "VerifyError" in done.stderr
    text = shown(out)
    assert "secret-copy</b> (dc2)" in text
    assert "the secondary&#x27;s servers will not come back from a restart" in text
    assert "02-secret-transfer.ipynb#Apply" in text
    assert "data:image/svg+xml" in text


def test_a_replaced_replication_token_is_the_copys(sandbox: Sandbox) -> None:
    """The primary does not know it; that it is not the primary's is why."""
    with replaced(sandbox, COPY, "replicationToken", b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"):
        assert causes() == {("secret-copy", "dc2")}
    assert_well()


def test_an_expired_certificate_waits_for_the_next_restart(sandbox: Sandbox) -> None:
    """Servers still show the old one: the one that is stored is an error, and that they differ is said."""
    stored = x509.load_pem_x509_certificate(value(sandbox, DC2, "consul-server-cert", "tls.crt"))
    key = serialization.load_pem_private_key(value(sandbox, DC1, "consul-ca-key", "tls.key"), None)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        stored.issuer, stored.subject, stored.public_key(), x509.random_serial_number(),
        now - timedelta(days=9), now - timedelta(days=1),
    )  # fmt: skip
    for extension in stored.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    expired = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]
    with replaced(sandbox, "consul-server-cert", "tls.crt", expired):
        code, report = verify()
    assert code == 40
    assert [(c["id"], c["subject"]) for c in report["causes"]] == [("server-certificate", "dc2")]
    assert "expired" in report["causes"][0]["found"]
    assert any("not the one that is stored" in check["found"] for check in report["checks"])
    assert_well()


def test_a_missing_proxy_defaults_is_missing_in_the_primary(sandbox: Sandbox) -> None:
    """From there it comes to the secondary, so that it is one cause."""
    words = ("-n", "consul", "get", "proxydefaults", "global", "-o", "json")
    was = json.loads(sandbox.kubectl(DC1, *words))
    sandbox.kubectl(DC1, "-n", "consul", "delete", "proxydefaults", "global")
    assert causes() == {("proxy-defaults", "dc1")}
    again = {key: was[key] for key in ("apiVersion", "kind", "spec")}
    again["metadata"] = {key: was["metadata"][key] for key in ("name", "namespace")}
    sandbox.kubectl(DC1, "apply", "-f", "-", stdin=json.dumps(again))
    assert_well()


def test_whoever_may_read_the_secret_is_a_warning(sandbox: Sandbox) -> None:
    """The federation works; the binding that lets everybody in is named, and the table has them."""
    role = {
        "apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "everybody", "namespace": "consul"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }  # fmt: skip
    binding = role | {
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "everybody"},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:authenticated"}],
    }
    del binding["rules"]
    sandbox.kubectl(DC2, "apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))
    code, report = verify()
    sandbox.kubectl(DC2, "-n", "consul", "delete", "role/everybody", "rolebinding/everybody")
    assert (code, report["causes"]) == (0, [])
    (warning,) = [each for each in report["checks"] if each["severity"] == "warning"]
    assert (warning["id"], warning["subject"]) == ("secret-readers", "dc2")
    assert "RoleBinding everybody" in warning["found"]
    assert "Group system:authenticated" in {reader["subject"] for reader in report["readers"]}
    assert_well()


def test_a_right_that_is_missing_is_no_success(sandbox: Sandbox, tmp_path: Path) -> None:
    """Whoever only looks, and may not list bindings any more, is told so; nothing is proven then."""
    content = yaml.safe_load(PARAMS.read_text())
    for cluster in (content["primary"], *content["secondaries"]):
        cluster["context"] += "-read-only"
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(content))
    assert verify(params=params)[0] == 0
    role = json.loads(sandbox.kubectl(DC2, "get", "clusterrole", "sandbox-reader", "-o", "json"))
    rules = [
        rule | {"resources": [each for each in rule["resources"] if each != "clusterrolebindings"]}
        if "resources" in rule
        else rule
        for rule in role["rules"]
    ]
    words = ("patch", "clusterrole", "sandbox-reader", "--type", "merge", "--patch-file", "/dev/stdin")
    sandbox.kubectl(DC2, *words, stdin=json.dumps({"rules": rules}))
    try:
        assert causes(params=params, code=11) == {("permissions", "dc2")}
    finally:
        sandbox.kubectl(DC2, *words, stdin=json.dumps({"rules": role["rules"]}))
    assert verify(params=params)[0] == 0


# Gateways


def stop_gateway(sandbox: Sandbox, context: str) -> None:
    gateway = ("-n", "consul", "scale", "deployment", "consul-mesh-gateway", "--replicas=0")
    sandbox.kubectl(context, *gateway)
    gone = ("wait", "--for=delete", "pod", "-l", "component=mesh-gateway", "--timeout=20s")
    sandbox.kubectl(context, "-n", "consul", *gone)


def test_the_secondarys_gateway_is_the_cause_of_all_that_needs_it(sandbox: Sandbox) -> None:
    """One cause, in every look while it is down; the ways in that are broken are counted with it."""
    stop_gateway(sandbox, DC2)
    for _ in range(3):
        code, report = verify()
        assert code == 40
        assert [(c["id"], c["subject"]) for c in report["causes"]] == [("gateway-registered", "dc2")]
        assert "node-health (dc1 → dc2)" in report["causes"][0]["consequences"]
    sandbox.kubectl(DC2, "-n", "consul", "scale", "deployment", "consul-mesh-gateway", "--replicas=1")
    assert_well(wait=200)


def test_a_deleted_auth_method_is_the_cause(sandbox: Sandbox) -> None:
    """Components of the secondary cannot log in at the primary any more, although all else works."""
    primary = verification().datacenters[0].consul
    name = "consul-k8s-component-auth-method-dc2"
    method = primary.auth_method(name)
    rules = [each for each in primary.binding_rules() if each["AuthMethod"] == name]
    assert method is not None
    assert rules
    primary.delete(f"acl/auth-method/{name}")
    assert causes() == {("auth-method", "dc2")}
    account = {key: value(sandbox, DC2, "consul-auth-method", key).decode() for key in ("ca.crt", "token")}
    config = method["Config"] | {"CACert": account["ca.crt"], "ServiceAccountJWT": account["token"]}
    wanted = {key: method[key] for key in ("Name", "Type", "TokenLocality")}
    primary.put("acl/auth-method", wanted | {"Config": config})
    for rule in rules:
        keys = ("AuthMethod", "Selector", "BindType", "BindName")
        primary.put("acl/binding-rule", {key: rule[key] for key in keys})
    assert_well()


def test_the_primarys_gateway_is_the_cause_of_all_that_needs_it(sandbox: Sandbox) -> None:
    """Both directions go through it, and ACL replication with them: still one cause."""
    stop_gateway(sandbox, DC1)
    for _ in range(3):
        code, report = verify()
        assert code == 40
        assert [(c["id"], c["subject"]) for c in report["causes"]] == [("gateway-registered", "dc1")]
        follows = set(report["causes"][0]["consequences"])
        assert {"node-health (dc1 → dc2)", "node-health (dc2 → dc1)"} <= follows
    assert [Finding(**check).severity for check in report["checks"] if check["id"] == "servers"] == ["ok"] * 2
