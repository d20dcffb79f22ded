"""Chromium for the tests: the machine's own, else Debian's package in the user's cache; `ensure` says which.

Nothing is installed on the machine, and no root is needed: apt-get gets folders of its own, reads the machine's
sources and the list of its packages, downloads what is missing there, and dpkg-deb unpacks that. Versions are not
pinned, because Debian's archive keeps only the newest Chromium of a suite; apt-get checks the suite's signature.
`python -m tests.browser.chromium` fetches it beforehand, so that no test waits for a download.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import platformdirs

from consulfed_lib.errors import ToolError
from consulfed_lib.sandbox.fetch import FetchError, _run

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core", "fonts-liberation")
INSTALL = "install Chromium so that it is on PATH (Debian: apt-get install chromium), and run the tests again"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
    # No name leads anywhere: a page that wants something from outside is noticed, and does not get it.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Chromium:
    """A browser that starts, and what its process has to have in its environment."""

    path: Path
    version: str
    environment: dict[str, str]


def cache() -> Path:
    """Where an unpacked Chromium is kept."""
    return platformdirs.user_cache_path("consulfed") / "chromium"


def ensure(report: Callable[[str], None] = lambda line: None) -> Chromium:
    """A Chromium that starts; fetched when there is none. Raises ToolError, which says how to install one."""
    folder = cache()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if installed := _installed():
            return installed
        with (folder.parent / ".chromium.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _fetched(folder) or _fetch(folder, report)
    except (FetchError, OSError) as error:
        raise ToolError(f"Chromium is nowhere, and could not be fetched: {error}.", INSTALL) from None


def _installed() -> Chromium | None:
    for name in NAMES:
        path = shutil.which(name)
        # Ubuntu's are snaps, which may not read a temporary folder.
        if path and "snap" not in Path(path).resolve().parts and (version := _version(Path(path), {})):
            return Chromium(Path(path), version, _environment(None))
    return None


def _fetched(folder: Path) -> Chromium | None:
    for path in sorted(folder.glob("usr/lib/chromium*/chromium-headless-shell")):
        environment = _environment(folder)
        if version := _version(path, environment):
            return Chromium(path, version, environment)
    return None


def _fetch(folder: Path, report: Callable[[str], None]) -> Chromium:
    report(f"fetching Chromium: Debian packages {', '.join(PACKAGES)} and what they need")
    with tempfile.TemporaryDirectory(prefix=".chromium-", dir=folder.parent) as name:
        temporary = Path(name)
        root = temporary / "root"
        root.mkdir()
        for package in _download(temporary):
            _run(["dpkg-deb", "-x", str(package), str(root)], f"dpkg-deb -x {package.name}")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(root, folder)
    found = _fetched(folder)
    if found is None:
        raise FetchError(f"the browser of {PACKAGES[0]} does not start on this machine")
    return found


def _download(folder: Path) -> list[Path]:
    """The packages, and those that they need and this machine has not."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::Status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        # Nothing of the machine's is written, so its locks are not needed: only root has them.
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *options, "-qq", "update"], "apt-get update")
    words = ("install", "--yes", "--download-only", "--no-install-recommends")
    _run(["apt-get", *options, "-qq", *words, *PACKAGES], f"apt-get download of {PACKAGES[0]}")
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _environment(root: Path | None) -> dict[str, str]:
    """Its libraries, and fonts that are the same wherever the pictures are taken."""
    folders = [Path("/usr/share/fonts")]
    libraries: list[str] = []
    if root is not None:
        folders.append(root / "usr" / "share" / "fonts")
        libraries = sorted({str(path.parent) for path in _shared_objects(root)})
    settings = cache().parent / "fonts.conf"
    temporary = settings.with_name(f".fonts-{os.getpid()}")
    temporary.write_text(_fonts(folders))
    os.replace(temporary, settings)
    return {"FONTCONFIG_FILE": str(settings)} | (
        {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
    )


def _shared_objects(root: Path) -> Iterator[Path]:
    for folder in ("usr/lib", "lib"):
        for path in (root / folder).rglob("*.so*"):
            if "chromium" not in path.parent.name:
                yield path


def _fonts(folders: list[Path]) -> str:
    """Each family that is asked for and not there is one of two that are; signs come from DejaVu."""
    plain = "<prefer><family>Liberation Sans</family><family>DejaVu Sans</family></prefer>"
    mono = "<prefer><family>DejaVu Sans Mono</family></prefer>"
    families = {"sans-serif": plain, "sans": plain, "system-ui": plain, "Helvetica": plain, "monospace": mono}
    return "\n".join(
        [
            '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>',
            *(f"<dir>{escape(str(folder))}</dir>" for folder in folders),
            f"<cachedir>{escape(str(cache().parent / 'fonts'))}</cachedir>",
            '<match><edit name="family" mode="append_last"><string>sans-serif</string></edit></match>',
            *(
                f'<alias binding="same"><family>{name}</family>{fonts}</alias>'
                for name, fonts in families.items()
            ),
            "</fontconfig>",
        ]
    )


def _version(path: Path, environment: dict[str, str]) -> str:
    """What it answers; empty when it does not start."""
    try:
        done = subprocess.run(
            [path, "--version"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    try:
        ensure(lambda line: print(line, file=sys.stderr, flush=True))
    except ToolError as error:
        raise SystemExit(str(error)) from None
