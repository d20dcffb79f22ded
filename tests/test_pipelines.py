"""The pipelines that are printed: valid for their systems, calling only commands that exist, and giving nothing away.

Each check of them is a function that returns what is wrong, and is held in both ways: silent about the pipelines as
they are, and heard about one that was broken on purpose.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from hera.workflows import models

from consulfed_lib import cli
from consulfed_lib.params import load
from consulfed_lib.pipelines.command import RUNBOOK, SYSTEMS, filled_in, template

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "params" / "sandbox.yaml"
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
ARGO_KINDS = {
    each.__name__: each
    for each in (models.WorkflowTemplate, models.CronWorkflow, models.PersistentVolumeClaim)
}
STANDARD_ACTIONS = {
    "actions/checkout", "actions/setup-python", "actions/upload-artifact", "actions/download-artifact"
}  # fmt: skip


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipelines() -> dict[str, str]:
    """System → the pipeline as it is printed for the sandbox's federation."""
    return {each: filled_in(each, PARAMS, load(PARAMS)) for each in SYSTEMS}


def documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield str(key), each
        yield from walk(each)


def snippets(text: str) -> list[str]:
    """Every shell script of a pipeline; GitLab gives each as a list of lines."""
    found = []
    for key, value in (pair for each in documents(text) for pair in walk(each)):
        if key in ("run", "source", "script", "before_script", "after_script"):
            if isinstance(value, str):
                found.append(value)
            elif isinstance(value, list):
                found.append("\n".join(value))
    return found


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of each simple command of a script, without redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        target = False
        for word in [*lexer, ";"]:
            if target:
                target = False
            elif set(word) <= set("<>&") and set(word) & set("<>"):
                target = True
                words = words[:-1] if words[-1:] == ["2"] else words
            elif set(word) <= set(";&|(){}!"):
                if words:
                    yield words
                words = []
            elif words or (word != "exec" and not re.match(r"\w+=", word)):
                words.append(word)


def consulfed_commands(text: str) -> list[list[str]]:
    """The arguments of every `consulfed …` of a pipeline: in its scripts, and in backticks in its comments."""
    found = [words for script in snippets(text) for words in simple_commands(script)]
    for quoted in re.findall(r"`(consulfed [^`]+)`", text):
        found += simple_commands(quoted)
    return [words[1:] for words in found if words[0] == "consulfed"]


# What is checked; each function returns what is wrong


def unparsed(arguments: list[str]) -> str:
    """Why click refuses these arguments of `consulfed`; empty where it would run them."""
    command: click.Command | None = cli.consulfed
    context, name = click.Context(cli.consulfed, info_name="consulfed"), "consulfed"
    rest = arguments
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context, info_name=name)
        if not rest:
            return f"{name}: which command?"
        name, *rest = rest
        command = command.get_command(context, name)
        if command is None:
            return f"no command {name}"
    assert command is not None
    try:
        command.make_context(name, list(rest), parent=context)
    except click.ClickException as error:
        return error.format_message()
    return ""


def against_schema(system: str, text: str, folder: Path) -> str:
    """What the JSON schema that SchemaStore keeps for the system says; empty where it is content."""
    path = folder / "pipeline.yaml"
    path.write_text(text)
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", SCHEMAS[system], str(path)])
    return "" if result.exit_code == 0 else result.output


def lost(raw: Any, kept: Any, place: str = "") -> list[str]:
    """Keys of a document that a model did not keep: they are none of its own."""
    if isinstance(raw, dict):
        if not isinstance(kept, dict):
            return [place]
        missing = [f"{place}.{key}" for key in raw if key not in kept]
        return missing + [
            each for key in raw if key in kept for each in lost(raw[key], kept[key], f"{place}.{key}")
        ]
    if isinstance(raw, list):
        if not isinstance(kept, list) or len(raw) != len(kept):
            return [place]
        pairs = enumerate(zip(raw, kept, strict=True))
        return [each for i, (a, b) in pairs for each in lost(a, b, f"{place}[{i}]")]
    return []


def argo_mistakes(text: str) -> list[str]:
    """What the types of Argo and Kubernetes do not have, and references of a workflow that lead nowhere."""
    found = []
    for raw in documents(text):
        kind = raw["kind"]
        try:
            model = ARGO_KINDS[kind].model_validate(raw)
        except ValueError as error:
            found.append(str(error))
            continue
        # The models leave out what they do not know, so that it is missing from what they write.
        found += lost(raw, json.loads(model.model_dump_json(by_alias=True, exclude_unset=True)), kind)
        if kind == "WorkflowTemplate":
            found += lost_references(raw["spec"])
    return found


def lost_references(spec: dict[str, Any]) -> list[str]:
    """Templates, volumes and artefacts that a workflow names and does not have."""
    templates = {each["name"]: each for each in spec["templates"]}
    named = [spec["entrypoint"], *(value for key, value in walk(spec["templates"]) if key == "template")]
    found = [f"no template {name}" for name in named if name not in templates]
    volumes = {each["name"] for each in spec["volumes"]}
    mounts = [
        mount["name"]
        for each in templates.values()
        for mount in each.get("script", {}).get("volumeMounts", [])
    ]
    found += [f"no volume {name}" for name in mounts if name not in volumes]
    for step, artefact in re.findall(r"\{\{steps\.(\w+)\.outputs\.artifacts\.(\w+)\}\}", json.dumps(spec)):
        made = templates.get(step, {}).get("outputs", {}).get("artifacts", [])
        if artefact not in {each["name"] for each in made}:
            found.append(f"no artefact {artefact} of {step}")
    return found


def shell_mistakes(text: str) -> str:
    """What bash says of the scripts, read and not run."""
    told = [
        subprocess.run(["bash", "-n"], input=each, capture_output=True, text=True).stderr
        for each in snippets(text)
    ]
    return "".join(told)


def given_away(text: str) -> list[str]:
    """Commands among whose arguments a secret stands, and scripts into which one is written.

    Secret is what comes from the system's store of secrets: with GitHub `secrets.…`, for which an environment variable
    is the only way. printf is the shell's own and no process, so that its arguments are in no list of them.
    """
    values = [pair for each in documents(text) for pair in walk(each)]
    secret = {
        key for key, value in values if isinstance(value, str) and re.match(r"\$\{\{ *secrets\.", value)
    }
    found = []
    for script in snippets(text):
        found += [script] if re.search(r"\{\{[^}]*secrets\b", script) else []
        for words in simple_commands(script):
            tells = any(re.search(rf"\$\{{?{name}\b", " ".join(words)) for name in secret)
            option = any(
                re.match(r"--?(token|password|kubeconfig|set-string)\b", word) for word in words
            ) or words[0] in ("cat", "env", "printenv", "export")
            if option or (tells and words[0] != "printf"):
                found.append(" ".join(words))
        found += [line for line in script.splitlines() if "printf" in line and not re.search(r">\s*\S", line)]
        found += ["set -x"] if re.search(r"\bset -\w*x", script) else []
    return found


def foreign(text: str) -> list[str]:
    """Actions that are not the standard ones by their major version, and images of a named registry."""
    uses = [str(value) for each in documents(text) for key, value in walk(each) if key in ("uses", "image")]
    return [
        each
        for each in uses
        if each != "python:3.12"
        and not (each.partition("@")[0] in STANDARD_ACTIONS and re.fullmatch(r"[\w/-]+@v\d+", each))
    ]


# The pipelines as they are, and broken ones


@pytest.mark.parametrize("system", SCHEMAS)
def test_the_files_of_github_and_gitlab_are_valid(pipelines, system, tmp_path):
    """By the schemas that editors check them with."""
    assert against_schema(system, pipelines[system], tmp_path) == ""


@pytest.mark.parametrize(
    ("system", "right", "wrong"),
    [
        ("github", "timeout-minutes", "timeout_minutes"),
        ("github", "cancel-in-progress: false", "cancel-in-progres: false"),
        ("github", "contents: read", "contents: reed"),
        ("gitlab", "resource_group: consulfed-sandbox", "resource_group: [1]"),
        ("gitlab", "when: manual", "when: manually"),
        ("gitlab", "expose_as", "exposes_as"),
    ],
)
def test_a_misspelt_key_of_github_or_gitlab_is_found(pipelines, system, right, wrong, tmp_path):
    """A schema that lets everything pass would prove nothing."""
    assert right in pipelines[system]
    assert against_schema(system, pipelines[system].replace(right, wrong, 1), tmp_path) != ""


def test_the_objects_of_argo_are_valid(pipelines):
    """By Argo's own types, each key of them, and every template, volume and artefact is there."""
    assert argo_mistakes(pipelines["argo"]) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("entrypoint: change", "entrypoint: chance"),
        ("entrypoint: verify", "entry_point: verify"),
        ("activeDeadlineSeconds: 7200", "activeDeadline: 7200"),
        ("activeDeadlineSeconds: 7200", "activeDeadlineSeconds: [later]"),
        ("mutexes:", "mutex:"),
        ("suspend: {}", "suspended: {}"),
        ("podSpecPatch", "podSpecPath"),
        ("concurrencyPolicy", "concurrency"),
        ("defaultMode: 0440", "mode: 0440"),
        ("template: archive", "template: archiv"),
        ("outputs.artifacts.plan", "outputs.artifacts.plans"),
        ("- name: records\n            mountPath", "- name: record\n            mountPath"),
        ("accessModes", "accessMode"),
    ],
)
def test_a_misspelt_key_or_reference_of_argo_is_found(pipelines, right, wrong):
    """Argo's server refuses or ignores it; here it is found before."""
    assert right in pipelines["argo"]
    assert argo_mistakes(pipelines["argo"].replace(right, wrong, 1))


def test_every_command_of_a_pipeline_exists_with_its_options(pipelines, system):
    """An option that was renamed would break somebody's pipeline at night."""
    commands = consulfed_commands(pipelines[system])
    assert {words[0] for words in commands} == {"plan", "run", "record", "rbac"}
    assert [(words, why) for words in commands if (why := unparsed(words))] == []


@pytest.mark.parametrize(
    "line",
    [
        "consulfed plans x",
        "consulfed",
        "consulfed record",
        "consulfed record shows latest",
        "consulfed plan",
        "consulfed plan x --output-folder y",
        "consulfed run x --apply --approved-plan",
        "consulfed run x -o yaml",
        "consulfed run x y",
        "true && exec consulfed run --aply x > log",
        "{ X=y consulfed record verify --all; } || code=$?",
    ],
)
def test_a_command_that_does_not_exist_is_found(line):
    """In every position in which a shell runs commands."""
    commands = consulfed_commands(yaml.safe_dump({"run": line}))
    assert len(commands) == 1
    assert unparsed(commands[0])


def test_what_stands_around_a_command_is_none_of_its_arguments():
    """Redirections, assignments and the shell's own words."""
    script = 'code=0\n[ ! -d x ] || { exec consulfed record show x >> "$LOG" 2>&1; }\n'
    script += "A=b consulfed plan \\\n  y | tee z"
    assert consulfed_commands(yaml.safe_dump({"run": script})) == [["record", "show", "x"], ["plan", "y"]]


def test_every_script_is_valid_shell(pipelines, system):
    """Read by bash, which all three systems run them with."""
    assert len(snippets(pipelines[system])) >= 4
    assert shell_mistakes(pipelines[system]) == ""


def test_a_script_that_is_no_shell_is_found():
    """A quote that is left open, in GitLab's list of lines, too."""
    assert shell_mistakes(yaml.safe_dump({"run": "echo 'x"}))
    assert shell_mistakes(yaml.safe_dump({"script": ["if true; then", "echo"]}))


def test_no_pipeline_gives_a_secret_away(pipelines, system):
    """A secret is in no list of arguments, in no log, and in no script, where the system would print it."""
    assert given_away(pipelines[system]) == []


@pytest.mark.parametrize(
    "script",
    [
        "consulfed run x --token y",
        'helm upgrade --kubeconfig="$KUBECONFIG" x',
        "echo ${{ secrets.CONSULFED_KUBECONFIG }} > file",
        'consulfed run "$MINE"',
        'printf %s "$MINE"',
        'base64 -d <<< x "${MINE}"',
        'cat "$KUBECONFIG"',
        "set -eux",
        "printenv",
    ],
)
def test_a_secret_that_is_given_away_is_found(script):
    """As an argument, printed, or put into the script itself by the system."""
    assert given_away(yaml.safe_dump({"env": {"MINE": "${{ secrets.MINE }}"}, "run": script}))


def test_nothing_foreign_is_used(pipelines, system):
    """The standard actions by their major version, and an image with a neutral name: nobody else's code."""
    assert foreign(pipelines[system]) == []
    uses = {
        "steps": [
            {"uses": "someone/else@v1"},
            {"uses": "actions/checkout@main"},
            {"uses": "actions/checkout@v6"},
        ]
    }
    assert foreign(yaml.safe_dump(uses)) == ["someone/else@v1", "actions/checkout@main"]
    assert foreign("image: registry.example.com/python:3.12") == ["registry.example.com/python:3.12"]


# What every pipeline does


def test_an_apply_is_of_the_approved_plan_and_its_record_is_verified(pipelines, system):
    """One command applies, and none applies anything else; plan and record are verified around it."""
    commands = consulfed_commands(pipelines[system])
    (apply,) = [words for words in commands if "--apply" in words]
    assert apply[0] == "run"
    assert "--approved-plan" in apply
    assert apply[-2:] == ["-o", "json"]
    assert len([words for words in commands if words[:2] == ["record", "verify"]]) >= 2
    assert any(words[:2] == ["record", "show"] for words in commands)
    assert any("--only" in words and "04" in words for words in commands)


def test_github_asks_for_an_approval_and_archives_whatever_happens(pipelines):
    """The environment holds the reviewers; one apply at a time; nothing but reading; kubeconfigs are removed."""
    (found,) = documents(pipelines["github"])
    apply = found["jobs"]["apply"]
    assert apply["environment"] == "consulfed-sandbox"
    assert apply["concurrency"] == {"group": "consulfed-sandbox", "cancel-in-progress": False}
    assert found["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in found["jobs"].values())
    for job in found["jobs"].values():
        assert job["timeout-minutes"]
        assert job["steps"][-1]["run"] == 'rm -f "$RUNNER_TEMP/kubeconfig"'
        uploads = [
            each for each in job["steps"] if each.get("uses", "").startswith("actions/upload-artifact")
        ]
        assert {each["if"] for each in [*uploads, job["steps"][-1]]} == {"always()"}
        assert uploads
    plan_condition = found["jobs"]["plan"]["if"]
    assert "head.repo.full_name == github.repository" in plan_condition


def test_gitlab_asks_for_an_approval_and_archives_whatever_happens(pipelines):
    """A manual job of a protected environment that blocks the pipeline; one apply at a time."""
    (found,) = documents(pipelines["gitlab"])
    apply = found["apply"]
    assert apply["rules"][-1]["when"] == "manual"
    assert apply["allow_failure"] is False
    assert apply["interruptible"] is False
    assert apply["resource_group"] == "consulfed-sandbox"
    assert apply["environment"]["name"] == "consulfed/sandbox"
    for job in (found["plan"], apply, found["verify"]):
        assert job["artifacts"]["when"] == "always"
        assert job["artifacts"]["exclude"]
        assert job["extends"] == ".consulfed"
    assert found[".consulfed"]["after_script"] == ['rm -f "$KUBECONFIG"']


def test_argo_asks_for_an_approval_and_archives_whatever_happens(pipelines):
    """A suspended node before the apply, a hook at its exit, time to stop, one apply at a time."""
    found = next(each for each in documents(pipelines["argo"]) if each["kind"] == "WorkflowTemplate")["spec"]
    templates = {each["name"]: each for each in found["templates"]}
    order = [step["name"] for (step,) in templates["change"]["steps"]]
    assert order == ["plan", "approval", "apply"]
    assert templates["approval"]["suspend"] == {}
    assert templates["change"]["steps"][-1][0]["hooks"]["exit"]["template"] == "archive"
    assert json.loads(templates["apply"]["podSpecPatch"])["terminationGracePeriodSeconds"] >= 300
    assert templates["apply"]["activeDeadlineSeconds"]
    assert templates["apply"]["synchronization"]["mutexes"] == [{"name": "consulfed-sandbox"}]
    assert found["automountServiceAccountToken"] is False
    mounted = {
        name: {mount["name"] for mount in each["script"]["volumeMounts"]}
        for name, each in templates.items()
        if "script" in each
    }
    assert mounted == {
        "plan": {"kubeconfig-plan"},
        "verify": {"kubeconfig-plan", "records"},
        "apply": {"kubeconfig-apply", "records"},
        "archive": {"records"},
    }


# The command


def test_the_command_prints_the_pipeline_of_that_federation(system, capsys):
    """Ready to be redirected into a file; what it has to say otherwise goes to standard error."""
    assert cli.main(["pipeline", system, str(PARAMS)]) == 0
    captured = capsys.readouterr()
    assert captured.out == filled_in(system, PARAMS, load(PARAMS))
    assert "`kubeconfig: sandbox`" in captured.err
    assert re.search(r"<\w+>", template(system).replace("<params>", ""))
    assert set(re.findall(r"<(\w+)>", captured.out)) <= {"commit", "workflow"}  # of argo's own command line


def test_a_params_file_is_named_as_from_the_top_of_its_repository(tmp_path, raw, no_kubeconfig, monkeypatch):
    """Wherever it was printed from; with its own files of values and the runbook it decides when a pipeline runs."""
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "of mine"
    folder.mkdir()
    (folder / "more.yaml").write_text("{}")
    outside = tmp_path.parent / f"{tmp_path.name}.yaml"
    outside.write_text("{}")
    file = folder / 'the "shop".yaml'
    raw |= {
        "federation": "Shop_EU.West-and-a-name-that-is-very-long",
        "values_files": ["more.yaml", str(outside)],
    }
    file.write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(folder)
    text = filled_in("github", Path(file.name), load(file.name))
    (found,) = documents(text)
    assert found["env"]["PARAMS"] == 'of mine/the "shop".yaml'
    paths = ['of mine/the "shop".yaml', "of mine/more.yaml", *RUNBOOK]
    assert found[True]["pull_request"]["paths"] == paths  # PyYAML takes the key `on` for true
    assert found["jobs"]["apply"]["environment"] == "consulfed-shop-eu-west-and-a-name-that-i"
    argo = documents(filled_in("argo", file, load(file)))
    assert all(re.fullmatch(r"[a-z0-9-]{1,52}", each["metadata"]["name"]) for each in argo)


def test_outside_of_a_repository_a_file_is_named_as_from_here(tmp_path, raw, no_kubeconfig, monkeypatch):
    """And one that is somewhere else as it was given."""
    folder = tmp_path / "here"
    folder.mkdir()
    for path in (folder / "x.yaml", tmp_path / "y.yaml"):
        path.write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(folder)
    assert 'PARAMS: "x.yaml"' in filled_in("gitlab", folder / "x.yaml", load("x.yaml"))
    assert 'PARAMS: "../y.yaml"' in filled_in("gitlab", Path("../y.yaml"), load("../y.yaml"))


def test_wrong_parameters_make_no_pipeline(tmp_path, capsys):
    """They are said as everywhere, and standard output stays empty."""
    path = tmp_path / "params.yaml"
    path.write_text("federation: x\n")
    assert cli.main(["pipeline", "github", str(path)]) == 10
    assert capsys.readouterr().out == ""


def test_an_unknown_system_is_a_usage_error(capsys):
    """With those that there are."""
    assert cli.main(["pipeline", "jenkins", str(PARAMS)]) == 2
    assert "'github', 'gitlab', 'argo'" in capsys.readouterr().err
