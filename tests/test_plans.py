"""Plans as data: a digest that is the same everywhere, the file that people approve, and what its approval allows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consulfed_lib.canonical import canonical, digest
from consulfed_lib.errors import ApprovalError
from consulfed_lib.params import Federation
from consulfed_lib.plans import Document, Item, PlanFile, item_of
from consulfed_lib.plans.approval import deviations, matches
from consulfed_lib.results import Change
from consulfed_lib.steps.approval import Approval
from consulfed_lib.steps.objects import Objects

RELEASE = Item("release", "dc1", "release consul, chart consul 1.9.11", "create", then="sha256:a")
SERVER = Item("object", "dc1", "StatefulSet consul-server", "create", then="sha256:b")
MODE = Item("proxy-defaults", "dc1", "ProxyDefaults global, mode local", "create")
SECRET = Item("federation-secret", "dc2", "secret consul/x", "create", then="sha256:c", by="01-primary-setup")
FIRST = Document(
    "01-primary-setup", "dc1", {"dc1": "u-1"}, [RELEASE, SERVER, MODE], {"global": {"name": "consul"}}
)
SECOND = Document("02-secret-transfer", "dc1 to dc2", {"dc1": "u-1", "dc2": "u-2"}, [SECRET])


def with_item(document: Document, item: Item, **changes: str) -> Document:
    """The same document, with that item changed."""
    items = [replace(each, **changes) if each == item else each for each in document.items]  # type: ignore[arg-type]
    return replace(document, items=items)


def done(document: Document, *items: Item) -> Document:
    """The same document when these items are done already."""
    items_now = [
        replace(each, action="none", now=each.then) if each in items else each for each in document.items
    ]
    return replace(document, items=items_now)


# One way to write it


def test_the_canonical_form_has_one_way_for_each_value():
    """Neither the order of keys nor what a text is made of may change a digest."""
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'.encode()
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_the_digest_is_the_same_in_another_process():
    """Python's hashes differ from process to process; a plan's digest must not."""
    code = "from tests.test_plans import FIRST; print(FIRST.digest)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {FIRST.digest}


@pytest.mark.parametrize(
    "other",
    [
        replace(FIRST, clusters={"dc1": "u-9"}),
        replace(FIRST, values={"global": {"name": "other"}}),
        with_item(FIRST, SERVER, then="sha256:z"),
        with_item(FIRST, SERVER, action="change"),
        with_item(FIRST, SERVER, diff="+ x"),
        replace(FIRST, items=FIRST.items[:-1]),
    ],
    ids=["cluster", "values", "content", "action", "diff", "fewer"],
)
def test_whatever_the_change_comes_to_is_in_the_digest(other: Document):
    """Another world, or another aim, is another plan."""
    assert other.digest != FIRST.digest


def test_how_a_row_would_be_undone_is_not_in_the_digest():
    """The command names somebody's context, which is nothing of the change."""
    one, other = (item_of(Change("release", "dc1", "would create", "x", undo=undo)) for undo in ("a", "b"))
    assert one == other


def test_a_document_survives_its_way_through_json():
    """It is read again from the file that was approved."""
    assert Document.from_data(json.loads(json.dumps(FIRST.data()))) == FIRST
    assert "values" not in SECOND.data()


# What Helm would do, object by object


def manifest(kind: str, name: str, **spec: object) -> dict[str, object]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


def test_every_object_is_an_item_with_what_it_is_and_would_be():
    """Created, changed with its diff, deleted; pods that Kubernetes would replace are said to restart."""
    before = [manifest("Service", "a", port=1), manifest("Deployment", "g", template={"x": 1}, replicas=1)]
    before += [manifest("ConfigMap", "old")]
    after = [manifest("Service", "a", port=2), manifest("Deployment", "g", template={"x": 2}, replicas=1)]
    after += [manifest("ConfigMap", "new")]
    items = {(item.action, item.what): item for item in Objects("dc1", before, after).items()}
    assert set(items) == {
        ("create", "ConfigMap new"), ("change", "Service a"), ("change", "Deployment g"),
        ("restart", "pods of Deployment g"), ("delete", "ConfigMap old"),
    }  # fmt: skip
    service = items["change", "Service a"]
    assert "-  port: 1" in service.diff
    assert (service.now, service.then) == (digest(before[0]), digest(after[0]))
    assert items["create", "ConfigMap new"].now == ""


def test_a_change_beside_the_template_restarts_nothing():
    """Kubernetes replaces pods when their template changes, and only then."""
    before, after = [manifest("StatefulSet", "s", replicas=1)], [manifest("StatefulSet", "s", replicas=3)]
    objects = Objects("dc1", before, after)
    assert objects.restarted == []
    assert [row.outcome for row in objects.rows()] == ["would change"]


def test_what_a_secret_holds_is_in_no_plan():
    """Only its name is compared."""
    before, after = ([{"kind": "Secret", "metadata": {"name": "s"}, "data": {"x": v}}] for v in ("a", "b"))
    assert Objects("dc1", before, after).items() == []


# What an approval allows


def test_the_approved_plan_itself_is_allowed():
    """Nothing has changed since."""
    assert deviations(FIRST, FIRST, begun=False) == []
    assert matches(FIRST.digest, FIRST)


def test_what_is_done_already_is_allowed():
    """A run that was killed goes on, and a second run of the same plan changes nothing."""
    assert deviations(FIRST, done(FIRST, RELEASE, SERVER), begun=False) == []
    assert deviations(FIRST, done(FIRST, RELEASE, SERVER, MODE), begun=False) == []
    assert matches(FIRST.digest, done(FIRST, RELEASE, SERVER, MODE))


def test_part_of_a_plan_is_not_the_plan_to_who_knows_only_its_digest():
    """A digest cannot tell what was in it."""
    assert not matches(FIRST.digest, done(FIRST, RELEASE))


DEVIATING = {
    "another object": (
        replace(FIRST, items=[*FIRST.items, replace(SERVER, what="ConfigMap x")]),
        "ConfigMap x: would create, but it is not in the approved plan",
    ),
    "another content": (with_item(FIRST, SERVER, then="sha256:z"), "would become something else"),
    "another start": (with_item(FIRST, SERVER, now="sha256:z"), "it has changed since the plan was made"),
    "another action": (with_item(FIRST, SERVER, action="delete"), "would delete, approved was to create"),
    "another cluster": (
        replace(FIRST, clusters={"dc1": "u-9"}),
        "another cluster: UID u-9, approved was u-1",
    ),
    "another value": (
        replace(FIRST, values={"global": {"name": "other"}}),
        "the Helm values are others: -  name: consul; +  name: other",
    ),
}


@pytest.mark.parametrize(("now", "said"), DEVIATING.values(), ids=DEVIATING.keys())
def test_what_was_not_approved_is_named(now: Document, said: str):
    """Whatever would be done otherwise, from another start, to another end, or elsewhere."""
    found = deviations(FIRST, now, begun=False)
    assert any(said in each for each in found), found
    assert not matches(FIRST.digest, now)


def test_what_was_as_wanted_and_is_no_more_was_not_approved():
    """The plan left it alone, so that nobody approved to change it."""
    approved = done(FIRST, MODE)
    (found,) = deviations(approved, FIRST, begun=False)
    assert "proxy-defaults" in found
    assert "as wanted when the plan was made" in found


def test_a_run_that_was_killed_under_this_approval_may_start_from_what_it_left():
    """A release that Helm had begun is changed now and not created; it must lead to the same end all the same."""
    left = Item("clear-the-way", "dc1", "revision 1 left pending by a killed run", "change")
    now = with_item(FIRST, RELEASE, action="change", now="sha256:pending")
    now = replace(now, items=[left, *now.items])
    assert deviations(FIRST, now, begun=True) == []
    assert len(deviations(FIRST, now, begun=False)) == 2
    elsewhere = with_item(now, now.items[1], then="sha256:z")
    assert "something else" in deviations(FIRST, elsewhere, begun=True)[0]


def test_what_an_earlier_notebook_makes_is_approved_with_it():
    """The secret that 01 makes is not known when the plan is made; whatever it makes is what is copied."""
    before = SECOND.opened()
    assert before.items[0].then == ""
    assert deviations(before, SECOND, begun=False) == []
    assert matches(before.digest, SECOND)
    stale = with_item(SECOND, SECRET, action="change", now="sha256:stale")
    assert deviations(before, stale, begun=False)


def test_a_restart_that_follows_from_an_earlier_notebook_is_approved_with_it():
    """What 02 copies decides which servers must read it anew; no other restart comes in by that door."""
    servers = Item(
        "servers", "dc2", "those that were started with other gateways", "none", by="02-secret-transfer"
    )
    approved = replace(FIRST, items=[RELEASE, servers])
    stale = with_item(done(approved, RELEASE), servers, action="restart")
    assert deviations(approved, stale, begun=False) == []
    alone = replace(FIRST, items=[RELEASE])
    assert "would restart, but it is not in the approved plan" in deviations(alone, stale, begun=False)[0]


def test_a_secret_that_was_there_must_still_be_the_same():
    """Where it was known, exactly that one was approved."""
    assert "something else" in deviations(SECOND, with_item(SECOND, SECRET, then="sha256:z"), begun=False)[0]


# The file


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """An approved plan in a record's folder."""
    folder = tmp_path / "plans" / "test" / "20261128T000000Z-abcdef"
    folder.mkdir(parents=True)
    plan = PlanFile("test", {"01-primary-setup": FIRST, "02-secret-transfer dc2": SECOND})
    (folder / "plan.json").write_bytes(plan.bytes())
    return folder / "plan.json"


def test_a_plan_is_found_by_its_file_and_by_the_folders_around_it(plan_file: Path, tmp_path: Path):
    """Whichever of them a pipeline has at hand."""
    plans = [PlanFile.read(path) for path in (plan_file, plan_file.parent, tmp_path / "plans")]
    assert plans[0] == plans[1] == plans[2]
    assert plans[0].notebooks["01-primary-setup"] == FIRST


def test_two_plans_in_a_folder_are_no_choice(plan_file: Path, tmp_path: Path):
    """None is taken by chance."""
    other = tmp_path / "plans" / "test" / "other"
    other.mkdir()
    (other / "plan.json").write_bytes(plan_file.read_bytes())
    with pytest.raises(ApprovalError, match="2 plans") as caught:
        PlanFile.read(tmp_path / "plans")
    assert str(other) in caught.value.details


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("consul-server", "consul-servers"), "edited"),
        (lambda text: text.replace('"digest":"sha256:', '"digest":"sha256:0', 1), "edited"),
        (lambda text: text[:-30], "no plan"),
        (lambda text: "[]", "no plan"),
        (
            lambda text: '{"digest": "x", "plan": {"federation": "t", "notebooks": {"x": {"items": [1]}}}}',
            "no plan",
        ),
    ],
)
def test_a_plan_that_was_edited_or_is_none_is_refused(plan_file: Path, edit: Callable[[str], str], said: str):
    """Approved was what its digest says."""
    plan_file.write_text(edit(plan_file.read_text()))
    with pytest.raises(ApprovalError, match=said):
        PlanFile.read(plan_file)


def test_a_plan_that_is_not_there_is_named(tmp_path: Path):
    """With how to make one."""
    for path in (tmp_path, tmp_path / "plan.json"):
        with pytest.raises(ApprovalError) as caught:
            PlanFile.read(path)
        assert "consulfed plan" in caught.value.hint


# In a notebook


def test_a_federation_can_require_approval(federation: Callable[..., Federation]):
    """Then nothing is applied without; a dry run needs none."""
    Approval(federation(require_approval=True), "01-primary-setup").demand()
    Approval(
        federation(require_approval=True, dry_run=False, approved_plan="sha256:x"), "01-primary-setup"
    ).demand()
    with pytest.raises(ApprovalError, match="requires an approved plan"):
        Approval(federation(require_approval=True, dry_run=False), "01-primary-setup").demand()


def test_each_notebook_holds_its_own_part_of_the_plan(federation: Callable[..., Federation], plan_file: Path):
    """02 and 03 that of their secondary; one that is not in the plan may change nothing."""
    params = federation(approved_plan=str(plan_file))
    Approval(params, "01-primary-setup").hold(FIRST, begun=False)
    Approval(params, "02-secret-transfer").hold(SECOND, begun=False)
    third = replace(FIRST, notebook="03-secondary-setup")
    with pytest.raises(ApprovalError) as caught:
        Approval(params, "03-secondary-setup").hold(third, begun=False)
    assert "03-secondary-setup dc2 is not in the approved plan" in caught.value.details
    assert caught.value.exit_code == 13


def test_another_federations_plan_is_refused(federation: Callable[..., Federation], plan_file: Path):
    """Its clusters are others."""
    params = federation(federation="other", approved_plan=str(plan_file))
    with pytest.raises(ApprovalError, match="'test', not of 'other'"):
        Approval(params, "01-primary-setup").hold(FIRST, begun=False)


def test_a_digest_alone_allows_that_plan_and_no_other(federation: Callable[..., Federation]):
    """As vanilla papermill gives it; what changed it cannot tell, and says so."""
    approval = Approval(federation(approved_plan=FIRST.digest), "01-primary-setup")
    approval.hold(FIRST, begun=False)
    with pytest.raises(ApprovalError) as caught:
        approval.hold(with_item(FIRST, SERVER, then="sha256:z"), begun=False)
    assert any(FIRST.digest in each for each in caught.value.details)
    assert any("file" in each for each in caught.value.details)


def test_the_mark_of_an_approval_fits_into_a_label(federation: Callable[..., Federation], plan_file: Path):
    """By it a later run knows that the release was begun under the same approval, with the file or the digest."""
    by_file = Approval(federation(approved_plan=str(plan_file)), "01-primary-setup").mark
    by_digest = Approval(federation(approved_plan=FIRST.digest), "01-primary-setup").mark
    assert by_file == by_digest == FIRST.digest.removeprefix("sha256:")[:40]
    assert Approval(federation(), "01-primary-setup").mark == ""
