"""The drills, without a sandbox: the catalogue, the judge on prepared findings, the README's table.

`python -m tests.test_drills FILE...` writes that table from what `consulfed drill -o json` printed; of a drill that
was held in several of these files, the last one counts.
"""

from __future__ import annotations

import fcntl
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib import cli
from consulfed_lib.checks import CATALOGUE
from consulfed_lib.checks.layers import ORDER
from consulfed_lib.drills.catalogue import DRILLS, VERIFY, Drill, Named, chosen
from consulfed_lib.drills.folders import own_folder
from consulfed_lib.drills.judge import Outcome, Sight, observe, until_well
from consulfed_lib.drills.run import Report
from consulfed_lib.errors import ClusterError, ParamsError, VerifyError
from consulfed_lib.results import Finding
from consulfed_lib.sandbox.faults import FAULTS
from consulfed_lib.steps import NOTEBOOKS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- drills: written by tests/test_drills.py -->\n", "<!-- end of drills -->"

GATEWAY = Drill("gateway-down", Named("gateway-registered", "dc2"))
BESIDE = Drill("both", Named("secret-copy", "dc2"), also={Named("servers", "dc2"): "they were restarted"})
HARMLESS = Drill("slow", None, harmless="it comes out as before")
LEFT = Drill("failed-job", Named("leftovers", "dc1"), "01-primary-setup", "warning")


# -- the catalogue ----------------------------------------------------------------------------------------------


def test_every_fault_has_a_drill() -> None:
    """A new fault without one is noticed, and so is a drill of a fault that is gone."""
    assert set(DRILLS) == set(FAULTS)


@pytest.mark.parametrize("drill", DRILLS.values(), ids=DRILLS)
def test_what_is_to_be_named_is_a_check(drill: Drill) -> None:
    """It exists, may be that severe, is looked at where the drill looks, and speaks of the sandbox's datacenters."""
    for module, _ in NOTEBOOKS.values():
        import_module(f"consulfed_lib.steps.{module}")
    names = [f"dc{number}" for number in range(1, drill.ground.datacenters + 1)]
    causes = [drill.cause] if drill.cause else []
    for named in (*causes, *drill.also):
        assert named.check in CATALOGUE
        assert set(named.subject.split(" → ")) <= set(names)
        assert drill.severity == "warning" or CATALOGUE[named.check].severity == "error"
        assert drill.look != VERIFY or named.check in ORDER
    assert drill.look in (VERIFY, *NOTEBOOKS)
    assert drill.severity in ("error", "warning")
    assert all(drill.also.values())
    assert drill.cause not in drill.also
    assert bool(drill.harmless) == (drill.cause is None)


def test_drills_are_chosen_by_their_faults() -> None:
    """All of them without a name; each once, in the catalogue's order, whatever the order of the names."""
    assert chosen([]) == list(DRILLS.values())
    first, *_, last = DRILLS
    assert [each.fault for each in chosen([last, first, last])] == [first, last]


def test_what_is_no_drill_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it at once, with what there is."""
    with pytest.raises(ParamsError) as caught:
        chosen(["strange", "gateway-down", "stranger"])
    assert "'strange', 'stranger'" in str(caught.value)
    assert cli.main(["drill", "strange"]) == 10
    assert "one of: gateway-down, " in capsys.readouterr().err


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_list_has_every_fault(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what happens and what has to be named, or why nothing has to; no sandbox is needed for it."""
    assert cli.main(["drill", "--list", "-o", output]) == 0
    said = capsys.readouterr().out
    for drill in DRILLS.values():
        for words in (
            drill.fault,
            FAULTS[drill.fault].what,
            drill.cause.check if drill.cause else drill.harmless,
        ):
            assert words in said
        for beside, why in drill.also.items():
            assert str(beside) in said
            assert why in said
    if output == "json":
        assert [row["fault"] for row in json.loads(said)] == list(DRILLS)


# -- the judge --------------------------------------------------------------------------------------------------


def broken(id: str, subject: str, severity: Any = "error") -> Finding:
    return Finding(id, subject, severity, "as it was seen", "what to do")


def sight(*findings: Finding, error: Any = None) -> Sight:
    unproven = any(each.severity in ("error", "skipped") for each in findings)
    return Sight.of(findings, "dc1", error or (VerifyError("failed") if unproven else None))


WELL = sight()
NAMES = sight(broken("gateway-registered", "dc2"), broken("node-health", "dc1 → dc2"))
WRONG = sight(broken("servers", "dc1"))
BOTH = sight(broken("servers", "dc1"), broken("gateway-registered", "dc2"))


class Looks:
    """Looks that were prepared, one second each; the last one is seen for ever."""

    def __init__(self, *sights: Sight):
        self.sights = list(sights)
        self.now = 0.0

    def look(self) -> Sight:
        self.now += 1.0
        return self.sights.pop(0) if len(self.sights) > 1 else self.sights[0]

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """No time passes but that of the looks."""


def watched(drill: Drill, *sights: Sight) -> Outcome:
    """What comes of a drill whose looks find that, and which is well again after a second."""
    outcome, looks = Outcome.begin(drill), Looks(*sights)
    observe(outcome, drill, looks.look, 5, clock=looks)
    outcome.recovered = 1.0
    return outcome


def test_a_cause_that_is_named_passes() -> None:
    """In three looks in a row; what follows from it is counted and is no other cause."""
    found = watched(GATEWAY, NAMES)
    assert (found.passed, found.named, found.looks, found.consequences) == (True, 1.0, 3, 1)


def test_the_time_is_that_of_the_first_look_that_counts() -> None:
    """A look that found nothing costs time; one that lost the cause again takes back what was counted."""
    assert watched(GATEWAY, WELL, NAMES).named == 2.0
    found = watched(GATEWAY, NAMES, WELL, NAMES)
    assert (found.named, found.looks, found.passed) == (3.0, 5, True)


@pytest.mark.parametrize(("seen", "why"), [(WELL, "never named"), (WRONG, "servers (dc1)")])
def test_a_cause_that_is_never_named_fails(seen: Sight, why: str) -> None:
    """Whether nothing was found, or the wrong thing; the deadline ends it."""
    found = watched(GATEWAY, seen)
    assert not found.passed
    assert found.named is None
    assert found.looks == 5
    assert why in found.why


@pytest.mark.parametrize("seen", [(BOTH,), (WRONG, NAMES), (NAMES, BOTH, NAMES)])
def test_a_false_alarm_in_any_look_fails(seen: Iterable[Sight]) -> None:
    """Beside the cause, before it was named, or once in between: who is woken by it looks in the wrong place."""
    found = watched(GATEWAY, *seen)
    assert found.named is not None
    assert not found.passed
    assert found.false_alarms == ["servers (dc1)"]


def test_a_second_cause_may_be_right() -> None:
    """Only where the catalogue says so; it is told, once."""
    seen = sight(broken("secret-copy", "dc2"), broken("servers", "dc2"))
    found = watched(BESIDE, seen)
    assert found.passed
    assert found.beside == ["servers (dc2)"]
    assert not watched(Drill("copy", BESIDE.cause), seen).passed


def test_a_warning_counts_where_a_warning_is_expected() -> None:
    """An error is not a warning, nor the other way round; an error beside the warning is a false alarm."""
    assert watched(LEFT, sight(broken("leftovers", "dc1", "warning"))).passed
    assert not watched(LEFT, sight(broken("leftovers", "dc1"))).passed
    assert not watched(GATEWAY, sight(broken("gateway-registered", "dc2", "warning"))).passed
    also = sight(broken("leftovers", "dc1", "warning"), broken("servers", "dc2"))
    assert watched(LEFT, also).false_alarms == ["servers (dc2)"]


def test_of_a_harmless_fault_nothing_may_be_named() -> None:
    """Any cause is a false alarm, and what could not be looked at was not proven."""
    found = watched(HARMLESS, WELL)
    assert (found.passed, found.looks, found.consequences) == (True, 3, 0)
    assert watched(HARMLESS, WELL, WRONG, WELL).false_alarms == ["servers (dc1)"]
    assert watched(HARMLESS, sight(broken("servers", "dc1", "skipped"))).why == "not all was proven"


def test_a_look_that_ends_without_a_finding_named_nothing() -> None:
    """An error of a cluster that no check reported is no check: nobody is told what is wrong."""
    found = watched(GATEWAY, sight(broken("servers", "dc1", "ok"), error=ClusterError("no answer")))
    assert found.named is None
    assert found.false_alarms == ["ClusterError (no answer)"]


def test_what_could_not_be_looked_at_is_no_false_alarm_and_not_well() -> None:
    """A check that was skipped is neither green nor a cause."""
    unseen = sight(broken("servers", "dc1", "skipped"))
    assert unseen.causes == {}
    assert watched(GATEWAY, unseen, NAMES).passed
    looks = Looks(unseen)
    assert until_well([looks.look], GATEWAY, 3, looks) is None


def test_trouble_or_no_recovery_fails() -> None:
    """A fault that could not be injected proves nothing, and one that cannot be cleared is not over."""
    found = watched(GATEWAY, NAMES)
    found.trouble = "SandboxError: refused"
    assert "refused" in found.why
    found.trouble, found.recovered = "", None
    assert found.why == "not well again after it was cleared"


def test_well_is_when_all_is_proven_again() -> None:
    """Every look counts, and one that still warns of the fault is not well; the seconds are those until then."""
    looks = Looks(NAMES, WRONG, WELL)
    assert until_well([looks.look], GATEWAY, 100, looks) == 3.0
    warns = Looks(Sight({}, frozenset({LEFT.cause})), WELL)
    assert until_well([warns.look, looks.look], LEFT, 100, warns) == 2.0
    never = Looks(WRONG)
    assert until_well([never.look], GATEWAY, 3, never) is None


def test_a_report_names_everything_that_failed() -> None:
    """The table and the data say the same; an alarm at a healthy federation fails all of it."""
    report = Report([watched(GATEWAY, NAMES), watched(LEFT, WRONG)], healthy=3)
    assert report.failed == [f"failed-job: {report.outcomes[1].why}"]
    data = report.data()
    assert [row["passed"] for row in data["drills"]] == [True, False]
    assert not data["passed"]
    for words in ("gateway-registered", "✔ passed", "✘ failed", "1.0 s", "never", "3 looks"):
        assert words in report.table()
    report.outcomes.pop()
    assert report.data()["passed"]
    report.alarms.append("servers (dc1)")
    assert report.failed == ["a healthy federation: servers (dc1)"]


# -- folders ----------------------------------------------------------------------------------------------------


def test_what_a_killed_drill_left_is_removed(tmp_path: Path) -> None:
    """By the next one; the sandbox of a drill that lives is left alone, and one's own is gone in the end."""
    told: list[str] = []
    left = tmp_path / "sandbox-left"
    (left / "0" / "1" / "records").mkdir(parents=True)
    with own_folder(tmp_path, "a drill", told.append) as mine:
        assert not left.exists()
        assert str(left) in told.pop()
        with own_folder(tmp_path, "a drill", told.append) as other:
            assert mine.exists()
            assert other != mine
        assert not other.exists()
    assert told == []
    assert not mine.exists()


def test_nobody_waits_for_a_drill_that_is_at_work(tmp_path: Path) -> None:
    """Only while folders are made do drills wait for each other."""
    with own_folder(tmp_path, "a drill", print), (tmp_path / ".lock").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- the README's table -----------------------------------------------------------------------------------------


def table(*reports: dict[str, Any]) -> str:
    """Raises ValueError where a drill failed, or is missing: the README is about what passed."""
    held = {row["fault"]: row for report in reports for row in report["drills"]}
    alarms = [alarm for report in reports for alarm in report["healthy"]["alarms"]]
    rows = [held[fault] for fault in DRILLS if fault in held]
    if alarms or len(rows) < len(DRILLS) or not all(row["passed"] for row in rows):
        raise ValueError("the README's table is that of all drills, each of them passed")
    lines = [
        "| fault | named by | follows | named after | well again after |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| `{row['fault']}` | {_by(row)} | {row['consequences'] or ''} |"
            f" {'' if row['harmless'] else format(row['named'], '.1f') + ' s'} | {row['recovered']:.1f} s |"
        )
    return "\n".join(lines)


def _by(row: dict[str, Any]) -> str:
    """What named a fault, in which notebook's preflight if in one, and what else was right."""
    if row["harmless"]:
        return f"nothing, as it has to be: {row['harmless']}"
    where = "" if row["look"] == VERIFY else f" in {row['look'][:2]}"
    beside = f"; beside it {', '.join(row['beside'])}" if row["beside"] else ""
    return f"`{row['check']}` ({row['subject']}){where}{beside}"


def written(text: str, *reports: dict[str, Any]) -> str:
    """The README with its table written anew."""
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    return re.sub(pattern, lambda _: f"{BEGIN}{table(*reports)}\n{END}", text, flags=re.DOTALL)


def named_in(text: str) -> list[tuple[str, Named | None]]:
    """(fault, what named it) of each row of the table."""
    body = text.partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]+)` \(([^)]+)\)|nothing)", body, re.MULTILINE)
    return [(fault, Named(check, subject) if check else None) for fault, check, subject in rows]


WANTED = [(drill.fault, drill.cause) for drill in DRILLS.values()]


def test_the_readme_has_every_drill() -> None:
    """In the catalogue's order, each with the check that the catalogue has: a new drill has to be held first."""
    assert named_in(README.read_text()) == WANTED, (
        "consulfed drill -o json > FILE; python -m tests.test_drills FILE..."
    )


def test_only_what_passed_is_written() -> None:
    """What failed, or leaves drills out, or found something where all was well, is refused."""
    outcomes = [Outcome.begin(drill) for drill in DRILLS.values()]
    for each in outcomes:
        each.named = each.recovered = 1.0
    rest, last = Report(outcomes[:-1]), Report(outcomes[-1:])
    assert named_in(written(README.read_text(), last.data(), rest.data())) == WANTED
    failed = Report([replace(outcomes[-1], named=None)])
    alarm = Report(alarms=["servers (dc1)"])
    for wrong in ([rest], [rest, failed], [last, rest, failed], [last, rest, alarm]):
        with pytest.raises(ValueError, match="each of them passed"):
            table(*(report.data() for report in wrong))


if __name__ == "__main__":
    told = [json.loads(Path(file).read_text()) for file in sys.argv[1:]]
    README.write_text(written(README.read_text(), *told))
