"""Chromium that is nowhere is fetched without root, and where that cannot be, one sentence says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consulfed_lib.errors import ToolError

from . import chromium


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser: no program on PATH, an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_apt_it_says_how_to_install_one(nowhere: Path) -> None:
    """On another distribution the way out is to install Chromium by hand."""
    with pytest.raises(ToolError, match=r"nowhere.*apt-get, which is not on this machine") as caught:
        chromium.ensure()
    assert "apt-get install chromium" in caught.value.hint
    assert [path.name for path in (nowhere / "cache" / "consulfed").iterdir()] == [".chromium.lock"]


def test_the_machines_own_comes_first(nowhere: Path) -> None:
    """Nothing is fetched where a browser is that starts."""
    path = program(nowhere / "bin" / "chromium", "echo Chromium 140.0")
    found = chromium.ensure()
    assert (found.path, found.version) == (path, "Chromium 140.0")
    assert Path(found.environment["FONTCONFIG_FILE"]).is_file()


def test_one_that_does_not_start_does_not_count(nowhere: Path) -> None:
    """A wrapper whose browser is gone (Ubuntu has such) is no browser."""
    program(nowhere / "bin" / "chromium", "exit 1")
    with pytest.raises(ToolError, match="nowhere"):
        chromium.ensure()


def test_what_was_fetched_is_used_again_with_its_libraries(nowhere: Path) -> None:
    """Unpacked packages are no part of the system: their libraries have to be named, Chromium's own not."""
    lib = nowhere / "cache" / "consulfed" / "chromium" / "usr" / "lib"
    program(
        lib / "chromium" / "chromium-headless-shell",
        f'[ "$LD_LIBRARY_PATH" = "{lib}/some" ] && echo Chromium 1',
    )
    for path in (lib / "some" / "libx.so.1", lib / "chromium" / "libown.so"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert chromium.ensure().environment["LD_LIBRARY_PATH"] == str(lib / "some")


def test_packages_are_unpacked_into_the_cache_only(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-get only downloads, into folders of its own; what a killed fetch left is replaced."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(nowhere / "bin"), os.environ["PATH"], "/usr/bin:/bin"]))
    monkeypatch.setattr(chromium, "NAMES", ())
    program(
        nowhere / "bin" / "apt-get",
        f'echo "$@" >>{nowhere}/asked\n'
        'case "$*" in *install*) for word; do case "$word" in Dir::Cache=*)'
        ' touch "${word#*=}/archives/x.deb";; esac; done;; esac',
    )
    program(nowhere / "bin" / "dpkg-deb", 'd="$3/usr/lib/chromium"; mkdir -p "$d"; f="$d/chromium-headless-shell"; '
            "printf '#!/bin/sh\\necho Chromium 2\\n' >\"$f\"; chmod +x \"$f\"")  # fmt: skip
    (chromium.cache() / "half").mkdir(parents=True)
    told: list[str] = []
    assert chromium.ensure(told.append).version == "Chromium 2"
    assert told == [
        "fetching Chromium: Debian packages chromium-headless-shell, fonts-dejavu-core, fonts-liberation "
        "and what they need"
    ]
    assert not (chromium.cache() / "half").exists()
    update, install = (nowhere / "asked").read_text().splitlines()
    assert update.endswith("update")
    assert "--download-only" in install
