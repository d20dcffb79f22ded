"""The README's tables are the code's own; `python -m tests.test_readme` writes them anew."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from consulfed_lib import errors
from consulfed_lib.checks import CATALOGUE
from consulfed_lib.params import Federation, check
from consulfed_lib.steps import NOTEBOOKS

README = Path(__file__).parents[1] / "README.md"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "as above"
    if isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "empty"


def _rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        many = getattr(inner, "__origin__", None) is list
        inner = inner.__args__[0] if many else inner  # type: ignore[union-attr]
        rows.append(
            f"| `{prefix}{name}` | {_default(field)} | {str(field.description).replace('<', '&lt;')} |"
        )
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not many:
            rows += _rows(inner, f"{prefix}{name}.")
    return rows


def parameters() -> str:
    return "\n".join(["| parameter | default | meaning |", "|---|---|---|", *_rows(Federation)])


def exit_codes() -> str:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ConsulfedError)]
    rows = [(0, "all is well")] + [
        (k.exit_code, "something of ours is broken: please report it")
        if k is errors.ConsulfedError
        else (k.exit_code, (k.__doc__ or "").strip().splitlines()[0].rstrip("."))
        for k in kinds
    ]
    rows.append((2, "the command line is wrong (an unknown option or command)"))
    return "\n".join(["| code | meaning |", "|---:|---|", *(f"| {c} | {text} |" for c, text in sorted(rows))])


def checks() -> str:
    for module, _ in NOTEBOOKS.values():
        import_module(f"consulfed_lib.steps.{module}")
    rows = [f"| `{check.id}` | {check.proves} | {check.severity} |" for _, check in sorted(CATALOGUE.items())]
    return "\n".join(["| check | what it proves when it is ok | at worst |", "|---|---|---|", *rows])


TABLES = {"parameters": parameters, "exit codes": exit_codes, "checks": checks}


def written(text: str) -> str:
    """The README with its tables written anew."""
    for name, table in TABLES.items():
        begin = f"<!-- {name}: written by tests/test_readme.py -->\n"
        end = f"<!-- end of {name} -->"
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, b=begin, t=table, e=end: f"{b}{t()}\n{e}",
            text,
            flags=re.DOTALL,
        )
    return text


def test_tables_are_the_codes_own() -> None:
    """Parameters, exit codes and checks in the README are what the code has."""
    text = README.read_text()
    assert written(text) == text, "run: python -m tests.test_readme"


def test_a_changed_table_is_noticed() -> None:
    """The comparison above can fail."""
    text = README.read_text().replace("| `dry_run` | `true` |", "| `dry_run` | `false` |")
    assert written(text) != text


def test_every_command_is_in_the_readme() -> None:
    """Each subcommand and make target is named in the README."""
    from consulfed_lib.cli import COMMANDS

    text = README.read_text()
    targets = re.findall(r"^([a-z]+):", (README.parent / "Makefile").read_text(), re.MULTILINE)
    missing = [f"consulfed {name}" for name in COMMANDS if f"consulfed {name}" not in text]
    missing += [
        f"make {name}" for name in targets if name not in {"lint", "clean"} and f"make {name}" not in text
    ]
    assert not missing


def test_the_example_of_real_clusters_is_well() -> None:
    """The params file that the README shows for real clusters passes the check."""
    example = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)[0])
    assert check(example, "the README").primary.datacenter == "dc1"


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
