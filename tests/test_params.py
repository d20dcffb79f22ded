"""The typed parameters: every mistake at once, each with its place, what stands there and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib import params
from consulfed_lib.errors import ParamsError
from consulfed_lib.params import NOTEBOOK_NAMES, Federation, check, from_notebook, load

HERE = Path(__file__).parent
SANDBOX_FILE = HERE.parent / "params" / "sandbox.yaml"
BAD_FILE = HERE / "data" / "bad-params.yaml"
BAD_PLACES = [
    "federation", "dry_run", "mode", "acls", "gosip_encryption", "kubeconfig", "global_name", "servers",
    "mesh_gateway.port", "mesh_gateway.replicas", "mesh_gateway.prot", "timeouts", "chart.version", "colour",
    "values_files[0]",
    "primary.context", "primary.datacenter", "primary.namespace",
    "secondaries[0].api_url", "secondaries[1].datacenter", "secondaries[1].context",
    "secondaries[2].context", "secondaries[2].datacenter", "secondaries[2].contxt",
    "secondaries[3].datacenter", "secondaries[3].release", "secondaries[4]",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_kubeconfig")


def mistakes(raw: dict) -> list[str]:
    """The lines of the one error; none when the parameters are well."""
    try:
        check(raw, "the test")
    except ParamsError as error:
        return list(error.details)
    return []


def set_at(raw: dict, place: str, value: object) -> dict:
    """The parameters with one value replaced; `place` is written as in the messages."""
    target: Any = raw
    *steps, last = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", place)]
    for step in steps:
        target = target[step] if isinstance(step, int) else target.setdefault(step, {})
    target[last] = value
    return raw


# What is well


def test_the_shortest_file_is_enough(raw):
    """Only federation, chart, primary and secondaries are required."""
    found = check(raw, "the test")
    assert [cluster.datacenter for cluster in found.clusters] == ["dc1", "dc2"]
    for name in raw:
        without = {key: value for key, value in raw.items() if key != name}
        assert mistakes(without) == [f"{name}: missing"]


def test_nothing_is_written_unless_it_is_asked_for(raw):
    """A forgotten `dry_run` must be the harmless one; ACLs and gossip encryption are on."""
    found = check(raw, "the test")
    assert found.dry_run
    assert found.acls
    assert found.gossip_encryption


def test_the_sandboxes_file_is_well_and_says_everything():
    """params/sandbox.yaml is the complete example: every parameter but `secondary` stands in it."""
    load(SANDBOX_FILE)
    assert set(yaml.safe_load(SANDBOX_FILE.read_text())) == set(Federation.model_fields) - {"secondary"}


def test_parameters_cannot_be_changed_under_way(raw):
    """A step that changed them would do another thing than what was checked and shown."""
    with pytest.raises(ValueError, match="frozen"):
        check(raw, "the test").dry_run = False  # type: ignore[misc]


# What is wrong


def test_every_kind_of_mistake_is_listed_in_one_error():
    """A person mends the file once, not once a mistake."""
    with pytest.raises(ParamsError) as caught:
        load(BAD_FILE)
    error = caught.value
    places = [line.partition(":")[0] for line in error.details]
    assert sorted(places) == sorted(BAD_PLACES)
    assert f"{len(places)} mistakes" in error.found
    assert str(BAD_FILE) in error.found
    assert error.hint
    assert error.exit_code == 10


MISTAKES = [
    # place, what stands there, a word that the message must have
    ("federation", "", "empty"),
    ("federation", "a/../b", "expected"),
    ("federation", "..", "expected"),
    ("dry_run", "false", "true or false"),
    ("dry_run", None, "true or false"),
    ("acls", 1, "true or false"),
    ("mode", "quiet", "headless"),
    ("kubeconfig", 5, "text"),
    ("global_name", "Consul", "lower-case"),
    ("global_name", "consul-", "lower-case"),
    ("servers", 2, "even"),
    ("servers", 0, "1"),
    ("servers", True, "whole number"),
    ("servers", "1", "whole number"),
    ("proxy_defaults_mode", "none", "remote"),
    ("mesh_gateway.port", 0, "1"),
    ("mesh_gateway.port", 65536, "65535"),
    ("mesh_gateway.replicas", 0, "1"),
    ("upgrade.order", "secondaries-first", "upgrade.chart"),
    ("upgrade.order", "at-once", "primary-first"),
    ("upgrade.existing", "yes", "true or false"),
    ("leave.confirm", True, "text"),
    ("timeouts", [300], "mapping"),
    ("timeouts.install", 0, "1"),
    ("timeouts.ready", 1.5, "whole number"),
    ("chart", "hashicorp/consul", "mapping"),
    ("chart.version", "latest", "1.9.11"),
    ("chart.version", 1.9, "text"),
    ("chart.version", "0.20.1", "0.21.0"),
    ("chart.version", "3.0.0", "2.x"),
    ("primary", None, "mapping"),
    ("primary.context", "", "empty"),
    ("primary.datacenter", "", "empty"),
    ("primary.datacenter", "DC1", "upper-case"),
    ("primary.datacenter", "dc_1", "hyphens"),
    ("primary.datacenter", "dc1\n", "hyphens"),
    ("primary.namespace", "Consul", "lower-case"),
    ("primary.namespace", "", "lower-case"),
    ("primary.release", "my release", "lower-case"),
    ("primary.api_url", "10.0.0.1:6443", "https://"),
    ("primary.api_url", "http://10.0.0.1:6443", "https://"),
    ("secondaries", [], "at least one"),
    ("secondaries", {"context": "two", "datacenter": "dc2"}, "list"),
    ("secondaries[0]", "two", "mapping"),
    ("secondaries[0].datacenter", "dc1", "primary"),
    ("secondaries[0].datacenter", "DC1", "primary"),
    ("secondaries[0].context", "one", "unique"),
    ("secondaries[0].release", 4, "text"),
]


@pytest.mark.parametrize(("place", "value", "word"), MISTAKES)
def test_each_rule_names_its_place_and_what_was_expected(raw, place, value, word):
    """What stands there and what should: enough to mend it without the documentation."""
    found = mistakes(set_at(raw, place, value))
    assert {line.partition(":")[0] for line in found} == {place}
    assert any(word in line for line in found)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("federation", "Payments_eu-1.2"),
        ("dry_run", False),
        ("mode", "headless"),
        ("global_name", ""),
        ("servers", 3),
        ("servers", 5),
        ("upgrade", {"chart": True, "order": "secondaries-first"}),
        ("leave", {"confirm": "dc2", "uninstall": False}),
        ("proxy_defaults_mode", "remote"),
        ("mesh_gateway.port", 65535),
        ("timeouts.install", 1),
        ("chart.version", "0.44.0"),
        ("chart.version", "2.0.3"),
        ("chart.version", "1.9.11-sandbox"),
        ("chart.ref", "oci://registry.example/consul"),
        ("primary.context", "arn:aws:eks:eu-west-1:1:cluster/One"),
        ("primary.datacenter", "1-a"),
        ("primary.api_url", "https://10.0.0.1:6443"),
        ("secondaries[0].release", "mesh"),
        ("secondaries[0].namespace", "other"),
    ],
)
def test_what_is_right_is_not_called_a_mistake(raw, place, value):
    """A rule that fires on good parameters stops a change for nothing."""
    assert mistakes(set_at(raw, place, value)) == []


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("gosip_encryption", "gossip_encryption"),
        ("dryrun", "dry_run"),
        ("primary.contxt", "context"),
        ("secondaries[0].data_center", "datacenter"),
        ("chart.verison", "version"),
        ("mesh_gateway.replica", "replicas"),
        ("timeouts.instal", "install"),
    ],
)
def test_an_unknown_key_is_a_mistake_that_names_the_key_that_was_meant(raw, place, near):
    """papermill and Helm ignore unknown keys in silence; a setting that is silently off is the worst kind."""
    (line,) = mistakes(set_at(raw, place, "x"))
    assert line.startswith(f"{place}: unknown key")
    assert f"`{near}`" in line


def test_an_unknown_key_like_none_gets_no_guess(raw):
    """A wrong guess is worse than none."""
    assert mistakes(set_at(raw, "colour", "blue")) == ["colour: unknown key"]


def test_a_key_that_is_no_text_is_a_mistake(raw):
    """YAML allows `1: x`; no parameter is called so."""
    assert len(mistakes(raw | {1: "x"})) == 1


@pytest.mark.parametrize(
    ("gossip", "limit"), [(True, 32), (False, 38)], ids=["gossip encryption", "no gossip encryption"]
)
def test_a_name_is_as_long_as_the_labels_of_the_charts_jobs_allow(raw, gossip, limit):
    """With one character more the chart's hook Job is refused in the middle of the installation."""
    raw |= {"gossip_encryption": gossip, "global_name": "c" * limit}
    assert mistakes(raw) == []
    found = mistakes(raw | {"global_name": "c" * (limit + 1)})
    assert {line.partition(":")[0] for line in found} == {"primary", "secondaries[0]"}
    assert all(f"at most {limit}" in line for line in found)


def test_a_long_release_name_counts_when_the_names_are_made_of_it(raw):
    """With `global_name` empty every name begins with `<release>-consul`, in that cluster only."""
    raw["secondaries"][0]["release"] = "r" * 26
    assert mistakes(raw) == []
    found = mistakes(raw | {"global_name": ""})
    assert [line.partition(":")[0] for line in found] == ["secondaries[0]"]


def test_three_clusters_may_not_share_a_datacenter(raw):
    """Each later one is named together with the one that had the name first."""
    raw["secondaries"] += [
        {"context": "three", "datacenter": "dc2"},
        {"context": "four", "datacenter": "dc2"},
    ]
    assert [(line.partition(":")[0], "secondaries[0]" in line) for line in mistakes(raw)] == [
        ("secondaries[1].datacenter", True),
        ("secondaries[2].datacenter", True),
    ]


def test_one_mistake_is_counted_as_one(raw):
    """The sentence is for a person."""
    with pytest.raises(ParamsError, match="1 mistake;"):
        check(raw | {"servers": 2}, "the test")


def test_a_context_that_the_kubeconfig_lacks_is_named_with_those_that_it_has(raw, kubeconfig):
    """Together with every other mistake, not by the first notebook."""
    raw["kubeconfig"] = kubeconfig(one="https://127.0.0.1:1", three="https://127.0.0.1:3")
    (line,) = mistakes(raw)
    assert line.startswith("secondaries[0].context: 'two'")
    assert "one, three" in line
    raw["secondaries"][0]["context"] = "three"
    assert mistakes(raw) == []


def test_the_usual_kubeconfig_may_be_several_files(raw, kubeconfig, monkeypatch, tmp_path):
    """As kubectl reads $KUBECONFIG: the contexts of all of them, and missing files count for nothing."""
    first = Path(kubeconfig(one="https://127.0.0.1:1")).rename(tmp_path / "first")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{kubeconfig(two='https://127.0.0.1:2')}")
    assert mistakes(raw) == []
    monkeypatch.setenv("KUBECONFIG", str(first))
    assert len(mistakes(raw)) == 1


@pytest.mark.parametrize(
    "content", [None, "", "[]", "a: [", "contexts: 5", "contexts: [5]", "contexts: [{}]"]
)
def test_without_a_kubeconfig_to_read_contexts_are_not_compared(raw, tmp_path, content):
    """A reviewer has none; the preflight, which has, will tell."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    assert mistakes(raw | {"kubeconfig": str(path)}) == []


# Files


@pytest.mark.parametrize(
    ("text", "line"),
    [("federation: 'x\nreason: y\n", 3), ("a: 1\nb:\t- c\n", 2), ("a: [1\nb: 2\n", 2), ("a: b: c", 1)],
)
def test_what_is_no_yaml_is_named_with_its_line(tmp_path, text, line):
    """A person goes straight to the place."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=f"line {line}, column [0-9]+ is not YAML"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"", b"# nothing yet\n", b"- federation\n", b"text", b"\x00", b"a: \xff"]
)
def test_a_file_without_parameters_is_one_sentence(tmp_path, content):
    """Empty, a list, a text, bytes that are no text: never a traceback."""
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load(path)
    assert str(path) in caught.value.found
    assert caught.value.hint


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    """With the reason of the operating system; a folder is no file either."""
    with pytest.raises(ParamsError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ParamsError, match="Is a directory"):
        load(tmp_path)


def test_a_file_cannot_run_code(tmp_path):
    """A params file comes by pull request; loading it must construct nothing but data."""
    path = tmp_path / "params.yaml"
    path.write_text("federation: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ParamsError, match="not YAML"):
        load(path)


# Notebooks


def test_a_notebook_passes_its_globals_and_only_parameters_are_taken(raw):
    """A notebook has many other names; they are no unknown keys."""
    names = raw | {"step": object(), "_": 1, "__name__": "__main__", "get_ipython": None}
    assert from_notebook(names) == check(raw, "the test")


def test_mistakes_in_a_notebook_are_listed_like_a_files(raw):
    """What papermill injected is checked by nobody else: `-p dry_run false` is the text "false"."""
    with pytest.raises(ParamsError) as caught:
        from_notebook(raw | {"dry_run": "false", "servers": 2})
    assert [line.partition(":")[0] for line in caught.value.details] == ["dry_run", "servers"]
    assert "parameters cell" in caught.value.found


def test_every_parameter_has_a_type_and_a_help():
    """The same sentences serve the notebooks, `--help-notebook` and the README."""
    models = (params.Federation, params.Cluster, params.Chart, params.MeshGateway, params.Timeouts)
    fields = [field for model in models for field in model.model_fields.values()]
    assert all(field.description and field.annotation for field in fields)
    assert tuple(Federation.model_fields) == NOTEBOOK_NAMES


# What follows from them


def test_the_only_secondary_needs_no_choosing(federation):
    """With two clusters it is clear which one 02 and 03 work on."""
    assert federation().chosen_secondary().datacenter == "dc2"


def test_with_several_secondaries_one_must_be_chosen(raw, federation):
    """Guessing would change a cluster that nobody meant; the error lists the choices."""
    secondaries = [*raw["secondaries"], {"context": "three", "datacenter": "dc3"}]
    with pytest.raises(ParamsError, match="2 secondaries") as caught:
        federation(secondaries=secondaries).chosen_secondary()
    assert "dc2, dc3" in caught.value.hint
    assert federation(secondaries=secondaries, secondary="dc3").chosen_secondary().context == "three"


@pytest.mark.parametrize("name", ["dc9", "dc1"], ids=["unknown", "the primary"])
def test_what_is_no_secondary_cannot_be_chosen(federation, name):
    """The primary is none: its own secret would be copied onto itself."""
    with pytest.raises(ParamsError, match=name):
        federation(secondary=name).chosen_secondary()


def test_the_kubeconfig_is_the_usual_one_the_sandboxes_or_a_path(federation, monkeypatch, tmp_path):
    """Empty: the client's own rules; `sandbox`: the running sandbox's; `~` is the home folder."""
    monkeypatch.setenv("CONSULFED_SANDBOX", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/somebody")
    assert federation().kubeconfig_path is None
    assert federation(kubeconfig="sandbox").kubeconfig_path == str(tmp_path / "kubeconfig")
    assert federation(kubeconfig="~/kube").kubeconfig_path == "/home/somebody/kube"


def test_the_sandboxes_chart_is_the_folder_that_the_sandbox_offers(raw, federation, monkeypatch, tmp_path):
    """`ref: sandbox` names no repository."""
    monkeypatch.setenv("CONSULFED_SANDBOX", str(tmp_path))
    assert federation().chart.location == "hashicorp/consul"
    chart = {"ref": "sandbox", "version": "1.9.11-sandbox"}
    assert federation(chart=chart).chart.location == str(tmp_path / "chart/consul")


def test_a_key_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    """PyYAML would keep the last of two `secondaries` and drop the first without a word."""
    file = tmp_path / "twice.yaml"
    file.write_text("federation: a\nsecondaries: []\nsecondaries: []\n")
    with pytest.raises(ParamsError, match=r"line 3.*`secondaries` stands twice"):
        load(file)


def test_what_papermill_injects_counts_as_a_params_file(raw: dict[str, Any]) -> None:
    """A key that the file leaves out has the same default as in `consulfed run`, not the notebook's value."""
    cell = "# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in raw.items())
    names = {
        "mesh_gateway": {"port": 8443},
        "reason": "of the notebook",
        **raw,
        "In": ["", "reason = ''", cell],
    }
    assert from_notebook(names) == check(raw, "the test")


def test_a_single_injected_value_changes_the_notebooks_own(raw: dict[str, Any]) -> None:
    """`papermill -y 'dry_run: false'` alone leaves the other values of the notebook as they are."""
    names = {
        **raw,
        "reason": "of the notebook",
        "dry_run": False,
        "In": ["", "# Parameters\ndry_run = False\n"],
    }
    federation = from_notebook(names)
    assert (federation.dry_run, federation.reason) == (False, "of the notebook")


def test_an_injected_name_that_does_not_exist_is_a_mistake(raw: dict[str, Any]) -> None:
    """papermill itself only logs it; what --inject-paths adds is none of ours."""
    cell = "# Parameters\nacl = False\nPAPERMILL_OUTPUT_PATH = 'x'\n"
    with pytest.raises(ParamsError, match="acl: unknown key") as caught:
        from_notebook({**raw, "acl": False, "PAPERMILL_OUTPUT_PATH": "x", "In": [cell]})
    assert "PAPERMILL" not in str(caught.value)


def test_a_template_that_is_not_quoted_is_a_mistake_with_its_place(tmp_path, no_kubeconfig):
    """YAML takes `{{ … }}` for a mapping as a key, which nothing can look up."""
    path = tmp_path / "values.yaml"
    path.write_text("server:\n  image: {{ .Values.x }}\n")
    with pytest.raises(ValueError, match="put templates"):
        params.read_yaml(path)
