"""`consulfed jupyter`: the kernel is this environment's, the sandbox is started where it is named; and the hook that
keeps what a run left in a notebook out of commits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from consulfed_lib import lab
from consulfed_lib.cli import main
from consulfed_lib.errors import ParamsError, ToolError

ROOT = Path(__file__).parents[1]
FIND = (
    "from jupyter_client.kernelspec import KernelSpecManager as K; print(K().find_kernel_specs()['python3'])"
)


def kernel(folder: Path) -> Path:
    """Another kernel that is called python3."""
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["python2.7"], "display_name": "theirs", "language": "python"}))
    return folder


def found_by(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FIND], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_kernel_is_this_environments_whatever_others_there_are(tmp_path):
    """One in the user's own folder, and one that $JUPYTER_PATH names; without our doing the latter would be it."""
    theirs = {
        **os.environ,
        "JUPYTER_PATH": str(kernel(tmp_path / "path")),
        "JUPYTER_DATA_DIR": str(kernel(tmp_path / "user")),
        "JUPYTER_PREFER_ENV_PATH": "0",
    }
    assert found_by(theirs) == str(tmp_path / "path" / "kernels" / "python3")
    ours = found_by(lab.environment(theirs))
    assert ours == str(Path(sys.prefix) / "share" / "jupyter" / "kernels" / "python3")
    assert json.loads((Path(ours) / "kernel.json").read_text())["argv"][0] in ("python", sys.executable)


def test_an_environment_without_a_kernel_is_told(tmp_path, monkeypatch):
    """With the command that makes one."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ToolError, match="no Jupyter kernel") as error:
        lab.environment(os.environ)
    assert "ipykernel install" in error.value.hint


def test_jupyterlab_opens_at_the_notebooks_of_the_repository(tmp_path, monkeypatch, capsys):
    """Elsewhere it is said where to go."""
    monkeypatch.chdir(tmp_path)
    assert main(["jupyter"]) == 10
    assert "top of the repository" in capsys.readouterr().err
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "own.yaml").write_text("federation: x\n")
    called: list[list[str]] = []
    monkeypatch.setattr(lab.os, "execve", lambda program, words, environment: called.append(words))
    main(["jupyter", "--params", "own.yaml", "--no-browser", "--port", "9999"])
    assert called[0][1:3] == ["-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/notebooks" in called[0]
    assert called[0][-3:] == ["--no-browser", "--port", "9999"]
    assert "no sandbox is started" in capsys.readouterr().err


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_let_in_and_told(tmp_path, monkeypatch, capsys, user, allowed):
    """Jupyter would refuse, after the sandbox has come up; nobody else is told anything."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "own.yaml").write_text("federation: x\n")
    monkeypatch.chdir(tmp_path)
    called: list[list[str]] = []
    monkeypatch.setattr(lab.os, "execve", lambda program, words, environment: called.append(words))
    monkeypatch.setattr(lab.os, "geteuid", lambda: user)
    main(["jupyter", "--params", "own.yaml"])
    assert ("--ServerApp.allow_root=True" in called[0]) == allowed
    assert ("You are root" in capsys.readouterr().err) == allowed


def test_our_settings_are_ones_that_jupyterlab_has():
    """A setting of another name would be passed over in silence."""
    share = Path(sys.prefix) / "share" / "jupyter"
    overrides = json.loads(Path(lab.__file__).with_name("overrides.json").read_text())
    assert overrides["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": False}
    for plugin, settings in overrides.items():
        package, _, name = plugin.partition(":")
        places = (
            share / "lab" / "schemas" / package,
            share / "labextensions" / package / "schemas" / package,
        )
        schema = next(each for each in (place / f"{name}.json" for place in places) if each.is_file())
        assert set(settings) <= set(json.loads(schema.read_text())["properties"])
    assert f"--LabApp.app_settings_dir={Path(lab.__file__).parent}" in lab._QUIET


def test_a_sandbox_that_does_not_come_up_is_an_error(tmp_path, monkeypatch):
    """JupyterLab would open on nothing."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONSULFED_SANDBOX", str(tmp_path / "file" / "sandbox"))
    told: list[str] = []
    with pytest.raises(ToolError, match="did not come up"):
        lab.start_sandbox(ROOT / "params" / "sandbox.yaml", told.append)
    assert "starting it" in told[0]
    with pytest.raises(ParamsError):
        lab.start_sandbox(tmp_path / "none.yaml", told.append)


# The hook


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with this one's hook and one notebook."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "params-file.ipynb", tmp_path / "notebooks")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for words in (["init", "-q"], ["config", "core.hooksPath", ".ci/hooks"], ["add", "notebooks"]):
        git(tmp_path, *words)
    return tmp_path


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    who = {
        f"GIT_{role}_{what}": "x@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | who
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run(folder: Path) -> str:
    """What JupyterLab leaves in a notebook that was run; the text of the file."""
    path = folder / "notebooks" / "params-file.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["widgets"] = {"state": "typed"}
    notebook.metadata.language_info |= {"version": "3.11.7", "file_extension": ".py"}
    cell = next(each for each in notebook.cells if each.cell_type == "code")
    cell.execution_count = 3
    cell.outputs = [nbformat.v4.new_output("stream", text="left behind")]
    cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    nbformat.write(notebook, path)
    return path.read_text()


def test_a_commit_holds_no_output_and_the_file_keeps_it(repository):
    """What is committed is what the structural test wants; tags and ids stay."""
    before = nbformat.read(repository / "notebooks" / "params-file.ipynb", as_version=4)
    text = run(repository)
    git(repository, "add", "notebooks")
    done = git(repository, "commit", "-m", "x")
    assert done.returncode == 0, done.stderr
    assert "outputs are left out" in done.stderr
    committed = git(repository, "show", "HEAD:notebooks/params-file.ipynb").stdout
    assert nbformat.reads(committed, as_version=4) == before
    assert (repository / "notebooks" / "params-file.ipynb").read_text() == text


def test_a_commit_of_a_stripped_notebook_is_left_alone(repository):
    """Not a byte of it changes."""
    done = git(repository, "commit", "-m", "x")
    assert (done.returncode, "left out" in done.stderr) == (0, False)
    committed = git(repository, "show", "HEAD:notebooks/params-file.ipynb").stdout
    assert committed == (ROOT / "notebooks" / "params-file.ipynb").read_text()


def test_what_cannot_be_stripped_is_not_committed(repository):
    """A file that is no notebook; it is said why, in a sentence."""
    (repository / "notebooks" / "bad.ipynb").write_text("{")
    git(repository, "add", "notebooks")
    done = git(repository, "commit", "-m", "x")
    assert done.returncode != 0
    assert "bad.ipynb was not committed" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hook_is_turned_on_with_the_environment():
    """By the rule that makes .venv, and by nothing that undoes somebody's own setting."""
    assert (
        "git config core.hooksPath >/dev/null 2>&1 || git config core.hooksPath .ci/hooks"
        in (ROOT / "Makefile").read_text()
    )
