"""The command line: quick, lazy, and no traceback of ours."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from consulfed_lib import cli
from consulfed_lib.errors import ParamsError


@pytest.fixture
def command(monkeypatch):
    """Adds a command `probe` that runs a function."""

    def add(work):
        monkeypatch.setitem(cli.consulfed.commands, "probe", click.Command("probe", callback=work))

    return add


def failing(error: BaseException):
    def work():
        raise error

    return work


def test_an_error_of_ours_is_printed_as_it_is_with_its_own_exit_code(command, capsys):
    """Cause and remedy on stderr, the documented exit code, and nothing else."""
    command(failing(ParamsError("Two datacenters are called dc1.", "give each one a name of its own")))
    assert cli.main(["probe"]) == 10
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "consulfed: Two datacenters are called dc1.\nWhat to do: give each one a name of its own\n"
    )


def test_anything_unexpected_is_one_sentence_and_a_private_file(command, capsys, tmp_path, monkeypatch):
    """The traceback goes into a file that only the user can read; the sentence says where."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    command(failing(ValueError("a bug\nwith details")))
    assert cli.main(["probe"]) == 1
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message
    path = Path(re.search(r"is in (\S+);", message)[1])
    assert "ValueError: a bug" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_state_folder_that_cannot_be_written_does_not_hide_the_error(
    command, capsys, tmp_path, monkeypatch
):
    """Then the traceback goes where temporary files go."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    command(failing(ValueError("a bug")))
    assert cli.main(["probe"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_an_interrupt_is_130(command, capsys):
    """As a shell reports it for SIGINT."""
    command(failing(KeyboardInterrupt()))
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err.strip() == "consulfed: interrupted"


def test_the_exit_code_of_a_command_is_what_it_returns(command):
    """A command may end well and still say no."""
    command(lambda: 60)
    assert cli.main(["probe"]) == 60


def test_a_mistyped_command_is_a_usage_error(capsys):
    """Exit code 2, as for any mistake in a command line."""
    assert cli.main(["sandbocks"]) == 2
    assert "No such command 'sandbocks'" in capsys.readouterr().err


def test_every_command_can_be_imported_and_has_help():
    """What `--help` lists exists, and each has a line of help."""
    for name in cli.COMMANDS:
        found = cli.consulfed.get_command(click.Context(cli.consulfed), name)
        assert isinstance(found, click.Command), name
        assert found.get_short_help_str(), name


def test_help_imports_nothing_heavy_and_is_quick():
    """`--help` within 0.3 s of processor time, the best of three: a busy machine makes it wait, not work."""
    program = "import sys; from consulfed_lib.cli import main; main(['--help']); print(*sys.modules)"
    seconds, output = [], ""
    for _ in range(3):
        begun = os.times()
        output = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        ended = os.times()
        seconds.append(
            ended.children_user + ended.children_system - begun.children_user - begun.children_system
        )
    assert "sandbox" in output
    for heavy in ("aiohttp", "pandas", "kubernetes", "pydantic", "papermill", "IPython", "yaml"):
        assert heavy not in output.split()
    assert min(seconds) < 0.3


def test_a_reader_that_goes_away_is_no_error():
    """`consulfed … | head -1` shows no message, whether click or the interpreter's end meets the closed pipe."""
    printing = (
        "import click; from consulfed_lib import cli;"
        "cli.consulfed.add_command(click.Command('probe', callback=lambda: print('x')));"
        "raise SystemExit(cli.main(['probe']))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments in (["-m", "consulfed_lib.cli", "--help"], ["-c", printing]):
        with subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait() == 1
