"""Files with the federation secret on this machine: found in every encoding, and only where it is one's own secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from consulfed_lib.checks.local_files import SECRET_KEYS, folders, local_files
from consulfed_lib.redact import Secret
from consulfed_lib.results import Finding

from .conftest import secret_object


@pytest.fixture
def keys(secret_data) -> list[Secret]:
    return [Secret(key, secret_data()[key]) for key in SECRET_KEYS]


def looked(keys: list[Secret], *where: Path) -> Finding:
    (found,) = local_files("this machine", keys, where)
    return found


def test_what_kubectl_wrote_is_found(keys, secret_data, tmp_path):
    """`kubectl get secret … -o yaml > file`, as on HashiCorp's page; and as JSON."""
    made = secret_object(secret_data())
    (tmp_path / "consul-federation-secret.yaml").write_text(yaml.safe_dump(made))
    (tmp_path / "secret.json").write_text(json.dumps(made, indent=4))
    (tmp_path / "innocent.txt").write_text("nothing")
    found = looked(keys, tmp_path)
    assert found.severity == "error"
    assert found.found.startswith("2 files with a key of the federation secret: ")
    assert "innocent" not in found.found
    assert f"shred -u {tmp_path / 'consul-federation-secret.yaml'}" in found.hint


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("encode", [bytes, base64.b64encode], ids=["raw", "base64"])
def test_one_key_is_enough(keys, secret_data, tmp_path, key, encode):
    (tmp_path / "x").write_bytes(b"before " + encode(secret_data()[key]) + b" after")
    assert looked(keys, tmp_path).severity == "error"


def test_what_is_public_is_none(keys, secret_data, tmp_path):
    """The CA's certificate and the gateways' addresses."""
    for key in ("caCert", "serverConfigJSON"):
        (tmp_path / key).write_bytes(secret_data()[key])
    found = looked(keys, tmp_path)
    assert (found.severity, found.found) == ("ok", f"none of 2 files in {tmp_path}")


def test_only_files_of_the_folder_itself_are_looked_into(keys, secret_data, tmp_path):
    """No folder below, no link, nothing large; a folder that is not there stops nobody."""
    raw = secret_data()["caKey"]
    outside, folder = tmp_path / "outside", tmp_path / "here"
    (folder / "below").mkdir(parents=True)
    outside.write_bytes(raw)
    (folder / "link").symlink_to(outside)
    (folder / "below" / "key").write_bytes(raw)
    (folder / "large").write_bytes(raw + bytes(300_000))
    assert looked(keys, folder, tmp_path / "nowhere").found.startswith("none of 0 files")


def test_people_work_at_three_places(tmp_path, monkeypatch):
    """Each of them once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders()[0] == tmp_path.resolve()
    assert len(folders()) == len(set(folders())) <= 2
