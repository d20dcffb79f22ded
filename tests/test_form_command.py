"""`consulfed params`: everything that the form does, as commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from consulfed_lib.cli import main
from consulfed_lib.form.preview import commands, parameters_cell, values
from consulfed_lib.params import check, load
from consulfed_lib.values import primary_values
from tests.conftest import ready

SANDBOX = Path(__file__).parents[1] / "params" / "sandbox.yaml"


def test_new_makes_a_file_that_is_well(no_kubeconfig, tmp_path, capsys):
    """And says what to do with it; a cluster that is not known does not matter."""
    file = tmp_path / "shop.yaml"
    words = ["--context", "eu-west=dc1", "--context", "lab", "--primary", "lab", "--chart-version", "2.0.3"]
    assert main(["params", "new", *words, "-o", str(file)]) == 0
    told = capsys.readouterr()
    assert f"consulfed run {file} --apply" in told.out
    assert "lab: not in the kubeconfig" in told.err
    found = load(file)
    assert (found.federation, found.chart.version) == ("shop", "2.0.3")
    assert [each.datacenter for each in found.clusters] == ["lab", "dc1"]
    assert main(["params", "check", str(file)]) == 0


def test_new_prints_what_it_would_write(no_kubeconfig, capsys):
    """Without a file to write."""
    assert main(["params", "new", "--context", "a", "--context", "b", "--federation", "x"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert check(found, "the test").federation == "x"


def test_new_asks_the_clusters(api, kubeconfig, monkeypatch, capsys):
    """What they are is told, as the form tells it."""
    ready(api)
    path = kubeconfig(one=api.url, two="https://127.0.0.1:1")
    words = ["--kubeconfig", path, "--context", "one", "--context", "two", "--federation", "x"]
    assert main(["params", "new", *words]) == 0
    told = capsys.readouterr()
    assert "one: Kubernetes v1.34.0; no Consul" in told.err
    assert "two: not known; The API server of two" in told.err
    assert yaml.safe_load(told.out)["kubeconfig"] == path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "No context was chosen"),
        (["--context", "a", "--context", "b", "--primary", "c"], "'c' is none of the contexts"),
        (["--context", "a", "--context", "b"], "federation: empty"),
        (["--context", "a", "--federation", "x"], "at least one cluster"),
        (["--context", "a=A", "--context", "b", "--federation", "x"], "upper-case"),
    ],
)
def test_new_refuses_what_would_not_be_well(no_kubeconfig, capsys, words, expected):
    """With every mistake, and code 10."""
    assert main(["params", "new", *words]) == 10
    told = capsys.readouterr()
    assert expected in told.err
    assert told.out == ""


def test_new_overwrites_nothing(no_kubeconfig, tmp_path, capsys):
    """A file that is there is somebody's."""
    (tmp_path / "x.yaml").write_text("theirs")
    assert main(["params", "new", "--context", "a", "--context", "b", "-o", str(tmp_path / "x.yaml")]) == 10
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "x.yaml").read_text() == "theirs"


def test_values_prints_a_document_for_each_datacenter(no_kubeconfig, capsys):
    """As 01 and 03 give them to Helm."""
    assert main(["params", "values", str(SANDBOX)]) == 0
    out = capsys.readouterr().out
    first, second = yaml.safe_load_all(out)
    assert first == primary_values(load(SANDBOX))
    assert second["global"]["federation"]["primaryDatacenter"] == "dc1"
    assert "# dc2, secondary: release consul in namespace consul of sandbox-dc2" in out
    assert main(["params", "values", str(SANDBOX), "--datacenter", "dc2"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == second
    assert main(["params", "values", str(SANDBOX), "--datacenter", "dc9"]) == 10
    assert "choose one of: dc1, dc2" in capsys.readouterr().err


def test_values_know_a_secondarys_url_from_the_kubeconfig(federation, kubeconfig):
    """Unless the parameters say it; without either it is plain that it is not known yet."""
    path = kubeconfig(one="https://api-1", two="https://api-2")
    assert "https://api-2" in list(values(federation(kubeconfig=path)))[1].text
    assert "taken-from-the-kubeconfig" in list(values(federation()))[1].text
    own = federation(
        kubeconfig=path, secondaries=[{"context": "two", "datacenter": "dc2", "api_url": "https://own"}]
    )
    assert "https://own" in list(values(own))[1].text


def test_values_of_a_release_that_is_kept_are_not_claimed_to_be_all(federation):
    """What it has already is in the cluster."""
    assert "the plan of 01" in next(values(federation(upgrade={"existing": True}))).text


def test_commands_are_for_the_top_of_the_repository():
    """Wherever the notebook runs."""
    assert "-f params/sandbox.yaml" in commands(SANDBOX)
    assert "'/else where/x.yaml'" in commands(Path("/else where/x.yaml"))


def test_the_parameters_cell_says_what_the_file_says(raw, tmp_path):
    """As Python, with whole paths, and each line with its meaning."""
    raw |= {"values_files": ["more.yaml"], "mode": "headless", "acls": False}
    names: dict = {}
    cell = parameters_cell(raw, tmp_path / "x.yaml")
    exec(cell, names)
    assert names["values_files"] == [str(tmp_path / "more.yaml")]
    assert {key: names[key] for key in raw if key != "values_files"} == {
        key: value for key, value in raw.items() if key != "values_files"
    }
    assert "acls: bool = False  # ACLs, in every datacenter alike" in cell
