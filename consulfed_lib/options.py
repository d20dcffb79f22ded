"""Options that several commands have, so that each means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

RECORDS = "records"

params_file: Decorator = click.argument("params_file", metavar="PARAMS", type=click.Path(path_type=Path))


def records(help: str) -> Decorator:
    """`--records FOLDER`."""
    return click.option(
        "--records",
        default=RECORDS,
        show_default=True,
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help=help,
    )


def output(help: str) -> Decorator:
    """`-o text|json`."""
    return click.option(
        "-o",
        "--output",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help=help,
    )
