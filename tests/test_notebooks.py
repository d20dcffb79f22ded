"""The shape of every notebook: a page that a person reads and papermill runs, not a program.

Each rule is a function that names what is against it; each is shown to fire on a notebook that was broken on purpose.
A notebook that is no step (the form) is a page as well: it has no number, no result and parameters of its own.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import nbformat
import pytest
import yaml
from pydantic import BaseModel

from consulfed_lib.form.page import FormPage
from consulfed_lib.params import Federation
from consulfed_lib.steps import NOTEBOOKS, PER_SECONDARY
from consulfed_lib.steps.base import Step

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
SANDBOX = yaml.safe_load((ROOT / "params" / "sandbox.yaml").read_text())
LONGEST_CELL = 8
READS_ONLY = ("00-preflight", "04-verification")
FORBIDDEN = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.AsyncFor, ast.While, ast.If,
    ast.Try, ast.TryStar, ast.With, ast.Raise, ast.Delete, ast.Global,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip

PAGES = {"params-file": FormPage}
"""Notebooks that are no step and part of no run: what their cells call."""

Rule = Callable[["Page"], Iterator[str]]
RULES: dict[str, Rule] = {}
OF_STEPS: set[str] = set()
"""Rules for notebooks that are steps of a run."""
OF_PAGES: set[str] = set()
"""Rules for those that are none."""


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def rule_of_steps(function: Rule) -> Rule:
    OF_STEPS.add(function.__name__)
    return rule(function)


def rule_of_pages(function: Rule) -> Rule:
    OF_PAGES.add(function.__name__)
    return rule(function)


def rules_for(name: str) -> dict[str, Rule]:
    others = OF_STEPS if name in PAGES else OF_PAGES
    return {each: function for each, function in RULES.items() if each not in others}


class Page:
    """A notebook under its name; changes to its cells are for showing that a rule fires."""

    def __init__(self, name: str, path: Path | None = None):
        self.name = name
        self.path = path or FOLDER / f"{name}.ipynb"
        self.notebook = nbformat.read(self.path, as_version=nbformat.NO_CONVERT)

    @property
    def cells(self) -> list[Any]:
        return self.notebook.cells

    @property
    def code(self) -> list[Any]:
        return [cell for cell in self.cells if cell.cell_type == "code"]

    @property
    def text(self) -> str:
        return "\n\n".join(cell.source for cell in self.cells if cell.cell_type == "markdown")

    def trees(self) -> Iterator[ast.Module]:
        for cell in self.code:
            yield ast.parse(cell.source)


# The file


@rule
def it_is_a_valid_notebook(page: Page) -> Iterator[str]:
    """JupyterLab and papermill open it without mending it."""
    ids = [cell.get("id") for cell in page.cells]
    if None in ids or len(set(ids)) != len(ids):
        yield "cells have no ids of their own"  # nbformat would mend that in memory, with a warning
        return
    try:
        nbformat.validate(page.notebook)
    except nbformat.ValidationError as error:
        yield str(error).splitlines()[0]


@rule
def it_is_stripped(page: Page) -> Iterator[str]:
    """No output, no count, nothing of a run or of somebody's machine: a difference in review is a difference."""
    for cell in page.code:
        if cell.outputs or cell.execution_count is not None:
            yield f"{cell.id} holds what a run left"
    for cell in page.cells:
        if set(cell.metadata) - {"tags"}:
            yield f"{cell.id} has metadata {sorted(cell.metadata)}"
    if strange := set(page.notebook.metadata) - {"kernelspec", "language_info", "consulfed"}:
        yield f"metadata {sorted(strange)}"
    if set(page.notebook.metadata.get("language_info", {})) != {"name"}:
        yield "language_info says which Python it was"


@rule
def it_declares_its_side_effects(page: Page) -> Iterator[str]:
    """A tool can tell which notebooks change something; the table says the same in words."""
    effects = page.notebook.metadata.get("consulfed", {}).get("side_effects")
    if not isinstance(effects, list) or not all(isinstance(each, str) and each for each in effects):
        yield "metadata.consulfed.side_effects is no list of texts"
    elif bool(effects) is (page.name in READS_ONLY):
        yield f"side effects {effects}"
    elif bool(effects) is bool(re.search(r"\*\*Changes\*\* *\| *nothing", page.text)):
        yield "the table says otherwise"


# The page


@rule
def it_begins_with_its_title(page: Page) -> Iterator[str]:
    """Number and name are the file's, then one line of purpose."""
    first = page.cells[0]
    lines = first.source.splitlines()
    number, words = re.fullmatch(r"(\d+-)?(.+)", page.name).groups(default="")  # type: ignore[union-attr]
    title = f"# {number.replace('-', ' ')}{words.replace('-', ' ').capitalize()}"
    if first.cell_type != "markdown" or lines[0] != title:
        yield f"begins with {lines[:1]}"
    elif len(lines) < 2 or not lines[1].strip():
        yield "has no line of purpose"
    if len(re.findall(r"^# ", page.text, re.MULTILINE)) != 1:
        yield "has not just one title"


@rule
def it_has_the_table(page: Page) -> Iterator[str]:
    """What it changes, needs, takes, and how it is undone: before anything is run."""
    found = re.findall(r"^\| \*\*(\w+)\*\* \| (.+) \|$", page.cells[0].source, re.MULTILINE)
    if [key for key, _ in found] != ["Changes", "Needs", "Takes", "Undo"]:
        yield f"table of {[key for key, _ in found]}"


@rule
def each_code_cell_is_explained(page: Page) -> Iterator[str]:
    """A markdown cell with a heading stands before it: why, what it changes, how to undo it."""
    for before, cell in zip([None, *page.cells], page.cells, strict=False):
        if cell.cell_type != "code":
            continue
        if before is None or before.cell_type != "markdown":
            yield f"{cell.id} follows no markdown"
        elif not re.match(r"## \S.*\n+\S", before.source):
            yield f"{before.id} has no heading with a text"


@rule_of_steps
def its_sections_are_in_the_fixed_order(page: Page) -> Iterator[str]:
    """Who knows one notebook finds their way in the others."""
    order = [
        "Parameters", "Setup", "Preflight", "Plan", "Apply", "Verify", "Topology", "Matrix", "Trust",
        "Gateway addresses", "Diagnosis", "Evidence", "Consul UI", "Result", "What next",
    ]  # fmt: skip
    found = re.findall(r"^## (.+)$", page.text, re.MULTILINE)
    if found != [each for each in order if each in found]:
        yield f"sections {found}"
    if missing := {"Parameters", "Setup", "Preflight", "Result", "What next"} - set(found):
        yield f"no section {sorted(missing)}"


@rule_of_pages
def it_begins_with_parameters_and_ends_with_what_next(page: Page) -> Iterator[str]:
    """What stands in between is the page's own affair."""
    found = re.findall(r"^## (.+)$", page.text, re.MULTILINE)
    if found[:1] != ["Parameters"] or found[-1:] != ["What next"]:
        yield f"sections {found}"


@rule
def its_links_lead_somewhere(page: Page) -> Iterator[str]:
    """A relative link is a file beside it."""
    for target in re.findall(r"\]\(([^)]+)\)", page.text):
        if not re.match(r"https://", target) and not (page.path.parent / target.partition("#")[0]).is_file():
            yield f"link to {target}"


# The code


@rule
def its_cells_are_short(page: Page) -> Iterator[str]:
    """Logic lives in the library, never in a cell."""
    for cell in page.code[1:]:
        if len(cell.source.splitlines()) > LONGEST_CELL:
            yield f"{cell.id} has {len(cell.source.splitlines())} lines"


@rule
def its_cells_hold_no_logic(page: Page) -> Iterator[str]:
    """No definition, loop, branch or comprehension; no import but the library's; no way out of the kernel."""
    for node in [node for tree in page.trees() for node in ast.walk(tree)]:
        if isinstance(node, FORBIDDEN):
            yield type(node).__name__
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (f"import of {name}" for name in names if name.split(".")[0] != "consulfed_lib")
        if isinstance(node, ast.Name) and node.id in {
            "exit",
            "quit",
            "sys",
            "os",
            "print",
            "input",
            "get_ipython",
        }:
            yield f"use of {node.id}"


@rule
def its_cells_are_plain_python(page: Page) -> Iterator[str]:
    """No magic and no shell command: they are neither checked nor guarded."""
    for cell in page.code:
        try:
            ast.parse(cell.source)
        except SyntaxError:
            yield f"{cell.id} is no Python"


@rule
def its_cells_end_with_what_they_show(page: Page) -> Iterator[str]:
    """After the parameters each cell ends with an object that shows itself."""
    for cell, tree in zip(page.code[1:], list(page.trees())[1:], strict=True):
        if not tree.body or not isinstance(tree.body[-1], ast.Expr):
            yield f"{cell.id} shows nothing"


@rule_of_steps
def it_opens_its_own_step_and_ends_with_its_result(page: Page) -> Iterator[str]:
    """The result is the end mark of the record: no code may come after it."""
    if f'steps.open("{page.name}", globals())' not in page.code[1].source:
        yield "opens another step"
    if page.code[-1].source.strip() != "step.result()":
        yield f"ends with {page.code[-1].source!r}"


@rule_of_steps
def it_calls_what_its_step_has(page: Page) -> Iterator[str]:
    """Each method is there, needs nothing, and is called in its order."""
    order = [
        "preflight", "plan", "apply", "verify", "topology", "matrix", "trust", "addresses", "diagnosis",
        "transcripts", "ui", "result",
    ]  # fmt: skip
    module, name = NOTEBOOKS[page.name]
    step = getattr(import_module(f"consulfed_lib.steps.{module}"), name)
    called = re.findall(r"^step\.(\w+)\(\)$", "\n".join(cell.source for cell in page.code), re.MULTILINE)
    yield from (f"no method {each}" for each in called if not callable(getattr(step, each, None)))
    if called != [each for each in order if each in called]:
        yield f"calls {called}"
    if page.name in READS_ONLY and "apply" in called:
        yield "applies, though it only reads"
    if page.name not in READS_ONLY and not {"plan", "apply", "verify"} <= set(called):
        yield f"calls {called} only"


@rule_of_pages
def it_calls_what_its_page_has(page: Page) -> Iterator[str]:
    """Each method is there and needs nothing; what a widget does is among them as text, too."""
    called = re.findall(r"^page\.(\w+)\(\)$", "\n".join(cell.source for cell in page.code), re.MULTILINE)
    yield from (f"no method {each}" for each in called if not callable(getattr(PAGES[page.name], each, None)))
    if missing := {each for each in vars(PAGES[page.name]) if not each.startswith("_")} - set(called):
        yield f"does not call {sorted(missing)}"


# The parameters


@rule
def its_first_code_cell_is_the_only_parameters_cell(page: Page) -> Iterator[str]:
    """papermill injects after the first; a second one would win over what was passed."""
    tagged = [cell.id for cell in page.code if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [page.code[0].id]:
        yield f"parameters in {tagged}"
    if any("parameters" in cell.metadata.get("tags", []) for cell in page.cells if cell.cell_type != "code"):
        yield "a tag on a cell that is no code"


@rule
def its_parameters_are_typed_literals_with_help(page: Page) -> Iterator[str]:
    """`name: type = value  # help`: computed values would not follow what is injected after them."""
    source = page.code[0].source
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
            yield f"line {node.lineno} is no `name: type = value`"
            continue
        try:
            ast.literal_eval(node.value)
        except ValueError:
            yield f"{node.target.id} is no literal"
        if not re.match(r"# \S", comments.get(node.end_lineno or 0, "")):
            yield f"{node.target.id} has no help"
    # papermill drops a line with two of them from its --help-notebook, without a word.
    yield from (f"line {i + 1} has two =" for i, line in enumerate(lines) if line.count("=") > 1)


def type_in_notebooks(annotation: Any) -> str:
    """How a field's type is written in a notebook: models are dictionaries there."""
    if get_origin(annotation) is Literal:
        return "str"
    if get_origin(annotation) is list:
        return "list"
    return "dict" if issubclass(annotation, BaseModel) else annotation.__name__


@rule_of_steps
def papermill_sees_the_models_fields(page: Page) -> Iterator[str]:
    """Names in their order, types and help, as `papermill --help-notebook` prints them."""
    import papermill

    seen = papermill.inspect_notebook(str(page.path))
    fields = {
        name: field
        for name, field in Federation.model_fields.items()
        if name != "secondary" or page.name in PER_SECONDARY
    }
    if list(seen) != list(fields):
        yield f"parameters {list(seen)}"
        return
    for name, field in fields.items():
        annotation, text = seen[name]["inferred_type_name"], seen[name]["help"]
        if annotation != type_in_notebooks(field.annotation):
            yield f"{name} is {annotation}"
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if choices and not all(choice in text for choice in choices):
            yield f"{name}: help does not say all of {choices}"
        elif not choices and name != "secondary" and text != field.description:
            yield f"{name}: help is {text!r}"
        if not text:
            yield f"{name} has no help"


@rule_of_steps
def its_defaults_are_the_sandboxes(page: Page) -> Iterator[str]:
    """So that it can be opened and run as it is; and nothing is written unless that is asked for."""
    defaults = {
        node.target.id: ast.literal_eval(node.value)
        for node in ast.parse(page.code[0].source).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    expected = SANDBOX | ({"secondary": ""} if page.name in PER_SECONDARY else {})
    yield from (f"{name}: {value!r}" for name, value in defaults.items() if expected.get(name) != value)
    if missing := expected.keys() - defaults.keys():
        yield f"no {sorted(missing)}"
    if defaults.get("dry_run") is not True:
        yield "dry_run is not true"


# The notebooks against the rules


def test_every_notebook_has_its_step_and_every_step_its_notebook():
    """In the order of their numbers."""
    steps = [path.stem for path in FOLDER.glob("*.ipynb") if path.stem not in PAGES]
    assert sorted(steps) == list(NOTEBOOKS) == sorted(NOTEBOOKS)
    assert set(PER_SECONDARY) < set(NOTEBOOKS)


KEPT = [(name, rule) for name in (*NOTEBOOKS, *PAGES) for rule in rules_for(name)]


@pytest.mark.parametrize(("name", "rule"), KEPT, ids=[f"{rule}-{name}" for name, rule in KEPT])
def test_every_notebook_keeps_every_rule(name, rule):
    """What a notebook looks like is not a matter of taste."""
    assert list(RULES[rule](Page(name))) == []


@pytest.mark.parametrize("name", READS_ONLY)
def test_a_step_that_only_reads_holds_no_action(name):
    """Neither by itself nor by what it is made of: its class adds none to the base class's none."""
    module, kind = NOTEBOOKS[name]
    step = getattr(import_module(f"consulfed_lib.steps.{module}"), kind)
    assert step.actions is Step.actions
    assert step.apply is Step.apply
    assert Step.actions(object()) == []  # type: ignore[arg-type]
    source = inspect.getsource(import_module(f"consulfed_lib.steps.{module}"))
    assert not re.search(r"\.(apply|delete|upgrade|request)\(", source)


def test_steps_that_write_have_actions():
    """The rule above can fail."""
    for name in set(NOTEBOOKS) - set(READS_ONLY):
        module, kind = NOTEBOOKS[name]
        assert getattr(import_module(f"consulfed_lib.steps.{module}"), kind).actions is not Step.actions


# Each rule fires


def edit(index: int, old: str, new: str) -> Callable[[Page], None]:
    def change(page: Page) -> None:
        assert old in page.cells[index].source
        page.cells[index].source = page.cells[index].source.replace(old, new)

    return change


def code(source: str) -> Callable[[Page], None]:
    """The setup cell with other code."""

    def change(page: Page) -> None:
        page.code[1].source = source

    return change


def do(statement: str) -> Callable[[Page], None]:
    """A change in one line; `page` is the notebook."""
    return lambda page: exec(statement, {"page": page, "nbformat": nbformat})


BROKEN: list[tuple[str, Callable[[Page], None]]] = [
    ("it_is_a_valid_notebook", do("page.cells[0].id = page.cells[1].id")),
    ("it_is_a_valid_notebook", do("page.cells[0].cell_type = 'text'")),
    ("it_is_stripped", do("page.code[2].execution_count = 3")),
    ("it_is_stripped", do("page.code[2].outputs = [nbformat.v4.new_output('stream', text='x')]")),
    ("it_is_stripped", do("page.cells[1].metadata['papermill'] = {}")),
    ("it_is_stripped", do("page.notebook.metadata['widgets'] = {}")),
    ("it_is_stripped", do("page.notebook.metadata.language_info['version'] = '3.11.7'")),
    ("it_declares_its_side_effects", do("del page.notebook.metadata['consulfed']")),
    ("it_declares_its_side_effects", do("page.notebook.metadata.consulfed['side_effects'] = []")),
    ("it_begins_with_its_title", edit(0, "# 02 Secret transfer", "# 02 Something else")),
    ("it_begins_with_its_title", edit(1, "## Parameters", "# Parameters")),
    ("it_begins_with_its_title", do("page.cells[0].source = page.cells[0].source.splitlines()[0]")),
    ("it_has_the_table", edit(0, "| **Undo** |", "| **Back** |")),
    ("each_code_cell_is_explained", do("del page.cells[3]")),
    ("each_code_cell_is_explained", do("page.cells[3].source = '## Setup'")),
    ("its_sections_are_in_the_fixed_order", do("page.cells[5:9] = page.cells[7:9] + page.cells[5:7]")),
    ("its_sections_are_in_the_fixed_order", edit(15, "## What next", "## Afterwards")),
    ("it_begins_with_parameters_and_ends_with_what_next", edit(1, "## Parameters", "## File")),
    ("it_begins_with_parameters_and_ends_with_what_next", edit(17, "## What next", "## Then")),
    ("it_calls_what_its_page_has", edit(8, "page.form()", "page.forms()")),
    ("it_calls_what_its_page_has", do("page.cells[16].source = 'page'")),
    ("its_links_lead_somewhere", edit(15, "03-secondary-setup.ipynb", "03-secondary.ipynb")),
    ("its_cells_are_short", code("1\n" * (LONGEST_CELL + 1))),
    ("its_cells_hold_no_logic", code("def f(): pass")),
    ("its_cells_hold_no_logic", code("class A: pass")),
    ("its_cells_hold_no_logic", code("for x in y: x")),
    ("its_cells_hold_no_logic", code("while x: x")),
    ("its_cells_hold_no_logic", code("try: x\nexcept E: x")),
    ("its_cells_hold_no_logic", code("if x: x")),
    ("its_cells_hold_no_logic", code("[x for x in y]")),
    ("its_cells_hold_no_logic", code("import os")),
    ("its_cells_hold_no_logic", code("from subprocess import run")),
    ("its_cells_hold_no_logic", code("sys.exit(0)")),
    ("its_cells_hold_no_logic", code("exit()")),
    ("its_cells_hold_no_logic", code("print(step)")),
    ("its_cells_are_plain_python", code("!kubectl get secrets")),
    ("its_cells_are_plain_python", code("%env TOKEN")),
    ("its_cells_end_with_what_they_show", code("step = 1")),
    ("it_opens_its_own_step_and_ends_with_its_result", edit(4, "02-secret-transfer", "01-primary-setup")),
    (
        "it_opens_its_own_step_and_ends_with_its_result",
        do("page.cells.append(nbformat.v4.new_code_cell('step.plan()'))"),
    ),
    ("it_calls_what_its_step_has", edit(6, "step.preflight()", "step.preflights()")),
    ("it_calls_what_its_step_has", edit(10, "step.apply()", "step.plan()")),
    ("it_calls_what_its_step_has", edit(12, "step.verify()", "1")),
    ("its_first_code_cell_is_the_only_parameters_cell", do("page.code[0].metadata.tags = []")),
    ("its_first_code_cell_is_the_only_parameters_cell", do("page.code[1].metadata['tags'] = ['parameters']")),
    (
        "its_first_code_cell_is_the_only_parameters_cell",
        do("page.cells[0].metadata['tags'] = ['parameters']"),
    ),
    ("its_parameters_are_typed_literals_with_help", edit(2, "acls: bool = True", "acls = True")),
    ("its_parameters_are_typed_literals_with_help", edit(2, "acls: bool = True", "acls: bool = bool(1)")),
    ("its_parameters_are_typed_literals_with_help", edit(2, '"try consulfed', '"a=b')),
    ("its_parameters_are_typed_literals_with_help", edit(2, "  # ACLs, in every datacenter alike", "")),
    ("papermill_sees_the_models_fields", edit(2, "acls: bool", "acls: str")),
    ("papermill_sees_the_models_fields", edit(2, "# ACLs, in every", "# ACLs in every")),
    ("papermill_sees_the_models_fields", edit(2, "global: local or remote", "global: local")),
    ("papermill_sees_the_models_fields", edit(2, "gossip_encryption", "gossip")),
    ("papermill_sees_the_models_fields", edit(2, "secondary: str", "second: str")),
    ("its_defaults_are_the_sandboxes", edit(2, "dry_run: bool = True", "dry_run: bool = False")),
    ("its_defaults_are_the_sandboxes", edit(2, '"port": 8443', '"port": 443')),
    ("its_defaults_are_the_sandboxes", edit(2, "servers: int", "server: int")),
]


@pytest.mark.parametrize(
    ("name", "breaks"), BROKEN, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BROKEN)]
)
def test_every_rule_fires_on_a_notebook_that_breaks_it(tmp_path, name, breaks):
    """A rule that cannot fail holds nothing."""
    page = Page("params-file" if name in OF_PAGES else "02-secret-transfer")
    breaks(page)
    page.path = tmp_path / page.path.name
    if name != "it_is_a_valid_notebook":
        nbformat.write(page.notebook, page.path)
    for other in FOLDER.glob("*.ipynb"):
        if other.name != page.path.name:
            (tmp_path / other.name).touch()
    assert list(RULES[name](page)) != []


def test_every_rule_is_shown_to_fire():
    """A new rule comes with a notebook that breaks it."""
    assert {name for name, _ in BROKEN} == set(RULES)


def test_a_notebook_that_only_reads_must_not_apply():
    """The rule about verification fires, too."""
    page = Page("04-verification")
    page.code[2].source = "step.apply()"
    assert any("only reads" in each for each in RULES["it_calls_what_its_step_has"](page))
    page.notebook.metadata.consulfed["side_effects"] = ["everything"]
    assert list(RULES["it_declares_its_side_effects"](page))
