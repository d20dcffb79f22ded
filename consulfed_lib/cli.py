"""The command `consulfed`: subcommands imported only when they are called, and one boundary for errors.

Starting must be quick (`--help` reads nothing but click), so the groups and commands are named here with
their one-line help and imported when one of them runs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from . import __version__
from .errors import ConsulfedError, Interrupted

COMMANDS: dict[str, tuple[str, str]] = {
    "run": (
        "consulfed_lib.commands:run",
        "Run the notebooks of a federation in their order, and keep the record.",
    ),
    "plan": (
        "consulfed_lib.commands:plan",
        "Write down what a run would change, for somebody to approve.",
    ),
    "verify": (
        "consulfed_lib.verify.command:verify",
        "Prove that a federation works, or name what does not.",
    ),
    "record": ("consulfed_lib.record.commands:record", "List, show, verify and compare records."),
    "pipeline": (
        "consulfed_lib.pipelines.command:pipeline",
        "Print a pipeline: plan, approval, apply, archive.",
    ),
    "params": (
        "consulfed_lib.form.command:params",
        "Make a params file, check it, see what it leads to.",
    ),
    "jupyter": ("consulfed_lib.lab:jupyter", "Open JupyterLab at the notebooks, and the sandbox with it."),
    "rbac": (
        "consulfed_lib.rbac.command:rbac",
        "Print the rights that the runbook needs, for kubectl apply.",
    ),
    "drill": (
        "consulfed_lib.drills.command:drill",
        "Break a sandbox's federation in every way, and see each fault named.",
    ),
    "sandbox": ("consulfed_lib.sandbox.commands:sandbox", "A federation to practise on, on this machine."),
}
"""Subcommand → where it is (`module:attribute`, a click command) and its line in `consulfed --help`."""


class LazyGroup(click.Group):
    """A group whose commands live in other modules, imported when called and not when listed."""

    def __init__(self, *args, lazy: dict[str, tuple[str, str]], **kwargs):
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, line) for name, (_, line) in self.lazy.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="consulfed")
def consulfed() -> None:
    """Federate Consul datacenters across Kubernetes clusters over mesh gateways."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, and never shows a traceback of ours.

    A ConsulfedError is printed as it is and gives its own exit code (see `errors`). Anything unexpected
    is one sentence, and its traceback is kept in a file that only the user can read: 1.
    """
    try:
        result = consulfed.main(
            args=None if arguments is None else list(arguments), prog_name="consulfed", standalone_mode=False
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ConsulfedError as error:
        click.echo(f"consulfed: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("consulfed: interrupted", err=True)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): no message, as click does it for what it prints itself.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        click.echo(f"consulfed: {_keep_traceback(error)}", err=True)
        return ConsulfedError.exit_code
    return result if isinstance(result, int) else 0


def _keep_traceback(error: Exception) -> str:
    """Write the traceback where only the user can read it; returns the sentence that says so."""
    import traceback

    import platformdirs

    text = "".join(traceback.format_exception(error))
    sentence = f"something unexpected happened ({type(error).__name__}: {_first_line(error)})."
    name = f"traceback-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    folders = [platformdirs.user_state_path("consulfed") / "tracebacks", None]
    for folder in folders:
        with contextlib.suppress(OSError):
            path = _write_private(folder, name, text)
            return f"{sentence} The full traceback is in {path}; please report it."
    return f"{sentence} Its traceback could not be written to any file."


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else "no message"


def _write_private(folder: Path | None, name: str, text: str) -> Path:
    """Write a file with mode 0600 in that folder, or in the folder for temporary files when it is None."""
    if folder is None:
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="consulfed-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


def _entry() -> None:
    """`python -m consulfed_lib.cli`, as the console script does it."""
    sys.exit(main())


if __name__ == "__main__":
    _entry()
