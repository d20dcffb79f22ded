"""`consulfed jupyter`: JupyterLab at the notebooks, with the kernel of this environment and, where it is named, the
sandbox up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from .. import places
from ..errors import ParamsError, ToolError
from ..params import SANDBOX, read

_QUIET = (
    f"--LabApp.app_settings_dir={Path(__file__).parent}",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
)
"""Nothing is asked of anybody outside. What the front end would ask, and that no notebook keeps states of widgets, is
said in overrides.json; a user's own settings come before it."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--params", "params_file", default="params/sandbox.yaml", show_default=True, metavar="PARAMS",
    type=click.Path(path_type=Path), help="Whose sandbox is started, if they name it.",
)  # fmt: skip
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTER OPTION]...")
def jupyter(params_file: Path, words: tuple[str, ...]) -> None:
    """Open JupyterLab at the notebooks, from the top of the repository.

    The notebooks run in this environment, whatever other kernels there are. Where the parameters name the sandbox and
    it is not up, it is started. Options that are not ours are JupyterLab's, such as --no-browser or --port.
    """
    if not Path("notebooks").is_dir():
        raise ParamsError(
            f"There is no folder `notebooks` in {Path.cwd()}.",
            "go to the top of the repository and try again",
        )
    start_sandbox(params_file, lambda line: click.echo(line, err=True))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.root_dir=.",
        "--LabApp.default_url=/lab/tree/notebooks",
    ]
    if (
        os.geteuid() == 0
    ):  # Jupyter refuses, unless it is told that this is meant: in a container everybody is root
        click.echo("You are root: JupyterLab will be, too, and so will every cell.", err=True)
        command.append("--ServerApp.allow_root=True")
    os.execve(sys.executable, [*command, *_QUIET, *words], environment(os.environ))


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Jupyter finds this Python's kernel before any other that is called python3.

    Jupyter looks into $JUPYTER_PATH first, then, by its version and by what it takes this Python for, into the user's
    own folders or into this environment. Raises ToolError where this environment has no kernel.
    """
    here = Path(sys.prefix) / "share" / "jupyter"
    if not (here / "kernels" / "python3" / "kernel.json").is_file():
        raise ToolError(
            f"There is no Jupyter kernel in {sys.prefix}.",
            f"{sys.executable} -m ipykernel install --sys-prefix",
        )
    others = given.get("JUPYTER_PATH")
    return {
        **given,
        "JUPYTER_PATH": f"{here}{os.pathsep}{others}" if others else str(here),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}",
    }


def start_sandbox(params_file: Path, tell: Callable[[str], None]) -> bool:
    """Start the sandbox where the parameters name it and it is not up; says what it does. Whether it was started.

    Raises ToolError where it does not come up; what stands in the way is said by the command itself.
    """
    if read(params_file).get("kubeconfig") != SANDBOX:
        tell(f"{params_file} names clusters of yours: no sandbox is started.")
        return False
    command = [sys.executable, "-m", "consulfed_lib.cli", "sandbox"]
    status = subprocess.run([*command, "status"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if status.returncode == 0:
        tell(f"{params_file} names the sandbox, and it is up: {places.sandbox_folder()}")
        return False
    tell(
        f"{params_file} names the sandbox, and it is not up: starting it (consulfed sandbox down takes it down)."
    )
    if subprocess.run([*command, "up"], stdin=subprocess.DEVNULL, check=False).returncode:
        raise ToolError(
            "The sandbox did not come up.", "see the lines above; `consulfed sandbox logs` has more"
        )
    return True
