"""`consulfed verify`: the same findings for a person, a program, a test report and Prometheus; never green unseen."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from consulfed_lib import cli, steps
from consulfed_lib.checks.drift import Address, Addresses
from consulfed_lib.checks.layers import in_order
from consulfed_lib.checks.ledger import Credential, Ledger
from consulfed_lib.checks.readers import Reader, Readers
from consulfed_lib.errors import ClusterError, ConsulfedError, PreflightError, VerifyError, WaitTimeoutError
from consulfed_lib.params import Federation
from consulfed_lib.results import Finding
from consulfed_lib.show import Latencies, Latency
from consulfed_lib.steps.verification import Verification
from consulfed_lib.verify import command, reports
from consulfed_lib.verify.reports import Report

from .conftest import RAW

NASTY = 'a "quoted" \\ back\nline <tag> & \x1b[31mred\x00'
BEFORE = [Finding("api-reachable", "dc1", "ok", "answers"), Finding("secret-complete", "dc1", "ok", "5 keys")]
GOOD = [
    Finding("secret-complete", "dc1", "ok", "5 keys"),
    Finding("node-health", "dc1 → dc2", "ok", "1 server passing"),
    Finding("node-health", "dc2 → dc1", "ok", "1 server passing"),
]
WARNED = [*GOOD, Finding("secret-readers", "dc2", "warning", "everybody may read it", "take it away")]
DOWN = [
    GOOD[0],
    Finding("gateway-registered", "dc2", "error", NASTY, "see the pod: kubectl get pods"),
    Finding("node-health", "dc1 → dc2", "error", "no path"),
    Finding("node-health", "dc2 → dc1", "ok", "1 server passing"),
]
UNSEEN = [*GOOD, Finding("secret-readers", "dc2", "skipped", "403")]


class Tables:
    """The tables of a proof, with a row each; no cluster is asked for them."""

    def ledger(self) -> Ledger:
        row = Credential(
            credential="server CA", datacenter="dc1", where="consul/consul-federation", fingerprint="ab12",
            expires="2030-01-02T03:04:05Z", days_left=1000, verdict="ok",
        )  # fmt: skip
        return Ledger("Trust ledger", [row, row])

    def addresses(self) -> Addresses:
        return Addresses("Gateway addresses", [Address("dc1", "Service", ("10.0.0.1:443",), "ok")])

    def readers(self) -> Readers:
        return Readers("Readers", [Reader("dc1", "User alice", "get", "RoleBinding b", "Role r")])


class Prepared(Verification):
    """A verification that finds what a test wrote down; what it does with that is its own."""

    looks: Iterator[Any] = iter(())
    before: list[Finding] = BEFORE

    def look_before(self) -> list[Finding]:
        print("preflight is under way")
        return self.before

    def look_after(self) -> list[Finding]:
        print("looking")
        found = next(self.looks)
        if isinstance(found, BaseException):
            raise found
        self.latencies = Latencies(
            [
                Latency("dc1 → dc2", "RPC", 10, 2.5, 4.0),
                Latency("dc2 → dc1", "RPC", 0, None, None),
                Latency("dc1 → dc2", "gossip round trip", 1, 1.5, None),
            ]
        )
        return in_order(found)

    def _identify(self) -> None:
        self.identities["dc1"] = {"uid": "u-1"}


@pytest.fixture
def step(federation) -> Callable[..., Prepared]:
    """A verification that looks at these, and nowhere else."""

    def make(*looks: Any) -> Prepared:
        made = Prepared("04-verification", federation())
        made.looks = iter(looks)
        made.quiet = True
        made.__dict__["proof"] = Tables()
        return made

    return make


@pytest.fixture
def report(step) -> Callable[..., Report]:
    """What one look comes to."""

    def make(found: list[Finding]) -> Report:
        looked, error = step(found), None
        try:
            looked.verify()
        except ConsulfedError as failed:
            error = failed
        return Report(looked, looked.seen(), error, 0.5)

    return make


# JSON


def test_json_holds_all_that_is_known(report):
    """Verdict, causes with their consequences, every check, and the tables; in one object whose keys stay."""
    data = json.loads(report(DOWN).json())
    assert list(data) == [
        "federation", "outcome", "exit_code", "seconds", "error", "causes", "checks", "credentials", "gateways",
        "readers", "latencies", "clusters", "versions",
    ]  # fmt: skip
    assert (data["federation"], data["outcome"], data["exit_code"]) == ("test", "not proven", 40)
    (cause,) = data["causes"]
    assert (cause["id"], cause["subject"], cause["layer"]) == ("gateway-registered", "dc2", "gateway")
    assert cause["consequences"] == ["node-health (dc1 → dc2)"]
    assert cause["hint"].startswith("see the pod")
    assert len(data["checks"]) == len(BEFORE) + len(DOWN)
    assert {"id", "subject", "severity", "found", "hint"} <= data["checks"][0].keys()
    assert data["error"]["class"] == "VerifyError"
    assert [len(data[key]) for key in ("credentials", "gateways", "readers", "latencies")] == [2, 1, 1, 3]
    assert data["clusters"] == {"dc1": {"uid": "u-1"}}


def test_json_of_a_federation_that_is_well(report):
    """No error, no cause, exit code 0; a warning breaks nothing."""
    data = json.loads(report(WARNED).json())
    assert (data["outcome"], data["exit_code"], data["error"], data["causes"]) == ("verified", 0, None, [])


def test_json_of_what_preflight_stopped(step):
    """Nothing of Consul was looked at, so that there is nothing of it to tell."""
    stopped = step(GOOD)
    stopped.before = [Finding("api-reachable", "dc1", "error", "does not answer", "see VPN")]
    with pytest.raises(PreflightError) as failed:
        stopped.verify()
    report = Report(stopped, stopped.seen(), failed.value, 0.1)
    data = json.loads(report.json())
    assert (data["exit_code"], [c["id"] for c in data["causes"]]) == (11, ["api-reachable"])
    assert data["credentials"] == data["gateways"] == data["readers"] == []
    assert "does not answer" in report.table()
    assert next(stopped.looks) == GOOD


# A table


def test_the_table_tells_the_cause_first(report):
    """Then everything that was looked at; where all is well there is no diagnosis to read."""
    text = report(DOWN).table()
    assert text.index("1. ✘ gateway-registered (dc2)") < text.index("Verification of federation test")
    assert "other datacenters do not know where to get in" in text
    assert report(GOOD).table().startswith("Verification of federation test: 5 ok")


# JUnit


def test_junit_is_well_formed_and_counts(report):
    """A suite a layer, whose numbers are those of its cases; what is wrong is a failure with its hint."""
    root = ElementTree.fromstring(report([*DOWN, UNSEEN[-1], WARNED[-1]]).junit().encode())
    assert root.tag == "testsuites"
    suites = {suite.attrib["name"]: suite for suite in root}
    for suite in suites.values():
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    numbers = {name: tuple(suite.attrib[key] for key in ("tests", "failures", "skipped"))
               for name, suite in suites.items()}  # fmt: skip
    assert numbers == {
        "Kubernetes API": ("1", "0", "0"),
        "shared secrets": ("2", "0", "0"),
        "gateway": ("1", "1", "0"),
        "RPC through gateways": ("2", "1", "0"),
        "who may read": ("2", "0", "1"),
    }
    (failure,) = suites["gateway"].findall("testcase/failure")
    assert "What to do: see the pod: kubectl get pods" in str(failure.text)
    assert "<tag> & " in failure.attrib["message"]
    assert "warning: everybody may read it" in str(
        suites["who may read"].findtext("testcase[2]/system-out")
        or suites["who may read"].findtext("testcase[1]/system-out")
    )


def test_junit_has_no_character_that_xml_has_not(report):
    """Consul's own words may hold any byte; a parser would refuse the whole file."""
    text = report(DOWN).junit()
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "�[31mred�" in text


# Prometheus


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Metric → its samples; fails where a line is none, and where Prometheus would refuse the file."""
    assert text.endswith("\n")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
            assert sample.labels["federation"] == "test"
    for name, values in found.items():
        labels = [tuple(sorted(each.items())) for each, _ in values]
        assert len(set(labels)) == len(labels), f"{name}: twice the same labels"
    return found


def test_prometheus_reads_it(report):
    """Every verdict, what expires, and how long the ways take; the same labels never twice."""
    found = samples(report([*DOWN, UNSEEN[-1], WARNED[-1]]).prometheus())
    assert set(found) == {
        "consulfed_verified", "consulfed_verification_timestamp_seconds", "consulfed_verification_seconds",
        "consulfed_check", "consulfed_credential_expiry_timestamp_seconds", "consulfed_latency_milliseconds",
    }  # fmt: skip
    assert [value for _, value in found["consulfed_verified"]] == [0]
    checks = {(labels["check"], labels["subject"]): value for labels, value in found["consulfed_check"]}
    assert checks == {
        ("api-reachable", "dc1"): 1,
        ("secret-complete", "dc1"): 1,
        ("gateway-registered", "dc2"): 0,
        ("node-health", "dc1 → dc2"): 0,
        ("node-health", "dc2 → dc1"): 1,
        ("secret-readers", "dc2"): 0,
    }
    assert found["consulfed_credential_expiry_timestamp_seconds"] == [
        (
            {"federation": "test", "datacenter": "dc1", "credential": "server CA",
             "where": "consul/consul-federation", "fingerprint": "ab12"},
            1893553445,
        )
    ]  # fmt: skip
    latencies = {
        (labels["what"], labels["quantile"]): value
        for labels, value in found["consulfed_latency_milliseconds"]
    }
    assert latencies == {("RPC", "0.5"): 2.5, ("RPC", "0.99"): 4.0, ("gossip round trip", "0.5"): 1.5}


def test_a_federation_that_is_well_is_1(report):
    """Warnings allowed, as everywhere."""
    assert [value for _, value in samples(report(WARNED).prometheus())["consulfed_verified"]] == [1]


def test_labels_are_escaped(step):
    """A name is whatever the user called it."""
    nasty = step(GOOD)
    name = 'a "b" \\ c\nd'
    nasty.params = nasty.params.model_copy(update={"federation": name})
    nasty.verify()
    text = Report(nasty, nasty.seen(), None, 0.1).prometheus()
    found = {s.labels["federation"] for f in text_string_to_metric_families(text) for s in f.samples}
    assert found == {name}


def test_the_file_is_replaced_at_once(tmp_path):
    """Who reads meanwhile has the old one to its end, and nothing is left beside it."""
    file = tmp_path / "consulfed.prom"
    reports.write(file, "old\n")
    with file.open() as reading:
        reports.write(file, "new\n")
        assert reading.read() == "old\n"
    assert file.read_text() == "new\n"
    assert [each.name for each in tmp_path.iterdir()] == ["consulfed.prom"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    was = os.umask(0)
    os.umask(was)
    return was


# The command


@pytest.fixture
def verify(
    no_kubeconfig: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[Federation]]]:
    """Runs the command on looks that are prepared; gives its exit code, and the parameters of each look."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(RAW))

    def run(*looks: Any, words: tuple[str, ...] = (), before: list[Finding] = BEFORE) -> Any:
        left, seen = iter(looks), []

        def open_step(notebook: str, params: Federation) -> Prepared:
            made = Prepared(notebook, params)
            made.looks, made.before = left, before
            made.__dict__["proof"] = Tables()
            seen.append(params)
            return made

        monkeypatch.setattr(steps, "open_step", open_step)
        monkeypatch.setattr(command, "nap", lambda seconds: None)
        return cli.main(["verify", str(path), *words]), seen

    return run


@pytest.mark.parametrize(
    ("look", "code"),
    [
        (GOOD, 0),
        (WARNED, 0),
        (UNSEEN, 40),
        (DOWN, 40),
        ([], 40),
        (WaitTimeoutError("no look came to its end"), 31),
        (ClusterError("dc1 went away"), 20),
    ],
    ids=["well", "warning", "skipped", "error", "nothing", "too late", "gone"],
)
def test_the_exit_code_is_0_only_where_everything_was_proven(verify, capsys, look, code):
    """What could not be looked at is not green, and a cluster that goes away still leaves a report."""
    assert verify(look, words=("-o", "json"))[0] == code
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert (data["exit_code"], data["outcome"]) == (code, "not proven" if code else "verified")
    assert bool(captured.err.count("consulfed: ")) == bool(code)


@pytest.mark.parametrize("output", ["table", "json", "junit"])
def test_a_cluster_that_is_not_ready_is_reported_in_every_form(verify, capsys, output):
    """Exit code 11, the finding in the report, and not a second look for the sake of the report."""
    before = [Finding("api-reachable", "dc2", "error", "dc2 does not answer", "see VPN")]
    assert verify(words=("-o", output), before=before)[0] == 11
    captured = capsys.readouterr()
    assert "dc2 does not answer" in captured.out
    assert "looking" not in captured.out + captured.err


@pytest.mark.parametrize("look", [GOOD, DOWN])
def test_progress_is_told_on_standard_error_only(verify, capsys, look):
    """Standard output holds the report and nothing else, so that a program can read it."""
    verify(look, words=("-o", "junit"))
    captured = capsys.readouterr()
    ElementTree.fromstring(captured.out.encode())
    assert "preflight is under way\nlooking\n" in captured.err


def test_what_could_not_look_is_named(verify, capsys):
    """With the check, so that whoever gives rights knows which."""
    verify(UNSEEN)
    assert "1 of 4 checks could not look" in (err := capsys.readouterr().err)
    assert "secret-readers (dc2): 403" in err


def test_options_change_what_is_asked_for(verify):
    """Soak and canary are those of the parameters unless they are given; it never waits nor writes by itself."""
    ((seen,)) = verify(GOOD)[1]
    assert (seen.verification.canary, seen.verification.soak, seen.timeouts.federation) == (False, 0, 0)
    assert seen.dry_run
    ((seen,)) = verify(GOOD, words=("--canary", "--soak", "5", "--wait", "7"))[1]
    assert (seen.verification.canary, seen.verification.soak, seen.timeouts.federation) == (True, 5, 7)


def test_watch_tells_what_changes(verify, capsys):
    """Each look that differs: which check was what, and is what; nothing while nothing changes. Ctrl-C ends it."""
    code, seen = verify(GOOD, GOOD, DOWN, DOWN, GOOD[:1], GOOD, KeyboardInterrupt(), words=("--watch",))
    assert (code, len(seen)) == (0, 7)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("  ")]
    assert [line.partition(":")[0].strip() for line in told[:2]] == [
        "gateway-registered (dc2)",
        "node-health (dc1 → dc2)",
    ]
    assert "  node-health (dc1 → dc2): ok → error: no path" in lines
    assert "  gateway-registered (dc2): error → not looked at" in told
    assert "  node-health (dc2 → dc1): not looked at → ok: 1 server passing" in lines
    heads = [line.partition(" ")[2] for line in lines if line[2:3] == ":"]
    assert [head.partition(":")[0] for head in heads] == ["verified", "not proven", "verified", "verified"]


def test_watch_tells_programs_a_report_a_line(verify, capsys):
    """One for each change, and nothing else on standard output."""
    verify(GOOD, GOOD, DOWN, GOOD, KeyboardInterrupt(), words=("--watch", "-o", "json"))
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["outcome"] for each in told] == ["verified", "not proven", "verified"]


def test_watch_has_no_end_that_junit_could_report(verify):
    """Said at once, and nothing is looked at."""
    code, seen = verify(GOOD, words=("--watch", "-o", "junit"))
    assert (code, seen) == (2, [])


def test_watch_ends_with_the_last_verdict(verify, capsys):
    """Ctrl-C on a federation that is down is no success; a cluster that goes away does not end it."""
    looks = (GOOD, ClusterError("dc1 went away"), DOWN, KeyboardInterrupt())
    code, seen = verify(*looks, words=("--watch",))
    assert (code, len(seen)) == (40, 4)


def test_watch_writes_the_metrics_of_each_change(verify, tmp_path):
    """The collector sees what is now."""
    file = tmp_path / "consulfed.prom"
    verify(GOOD, DOWN, KeyboardInterrupt(), words=("--watch", "--prometheus", str(file)))
    assert [value for _, value in samples(file.read_text())["consulfed_verified"]] == [0]


@pytest.mark.parametrize("look", [GOOD, DOWN])
def test_prometheus_is_written_beside_the_report(verify, capsys, tmp_path, look):
    """Also where not all is well: that is what it is for."""
    file = tmp_path / "consulfed.prom"
    verify(look, words=("--prometheus", str(file), "-o", "json"))
    json.loads(capsys.readouterr().out)
    assert [value for _, value in samples(file.read_text())["consulfed_verified"]] == [look is GOOD]


@pytest.mark.parametrize("where", ["missing/consulfed.prom", "folder"])
def test_a_file_that_cannot_be_written_is_refused_in_one_sentence(verify, capsys, tmp_path, where):
    """With the file and the reason; nothing is left of the attempt."""
    (tmp_path / "folder").mkdir()
    assert verify(GOOD, words=("--prometheus", str(tmp_path / where)))[0] == 10
    words = capsys.readouterr().err.split("consulfed: ")[1]
    assert words.startswith(f"{tmp_path / where} cannot be written: ")
    assert len(words.strip().splitlines()) == 2
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_an_unknown_form_is_refused_before_any_look(verify):
    """By the command line, which names those that there are."""
    assert verify(words=("-o", "xml"))[0] == 2


# The error


def test_the_error_names_causes_only(step):
    """What follows is counted; a person reads one line a cause."""
    with pytest.raises(VerifyError) as failed:
        step(DOWN).verify()
    assert failed.value.found == "1 check of 04-verification failed, and 1 check because of that."
    assert [each.partition(":")[0] for each in failed.value.details] == ["gateway-registered (dc2)"]


@pytest.mark.parametrize(("words", "dry"), [((), True), (("--canary",), False)])
def test_only_a_canary_that_is_asked_for_may_write(verify, words, dry):
    """Everything else is a dry run, in which a canary is not tried, and the report says so."""
    _, (params,) = verify(GOOD, words=words)
    assert params.dry_run is dry
    step = Verification("04-verification", params.model_copy(update={"dry_run": True}))
    (said,) = step._fly_canary()
    assert (said.id, said.severity) == ("acl-canary", "warning")
    assert "dry run" in said.found
