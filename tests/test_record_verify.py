"""One edited byte anywhere is found and named; what an unsigned record does not prove is said, too."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from consulfed_lib.canonical import canonical, digest
from consulfed_lib.record.files import PLAN, RUN, SUMS, check_sums, sha256_of, sums
from consulfed_lib.record.keys import load_public_key, load_signer
from consulfed_lib.record.statement import peek, seal, statement
from consulfed_lib.record.verify import Verdict, verify, verify_notebook
from consulfed_lib.results import Result

from . import recorded
from .recorded import make, writable
from .test_record_statement import write_pair

Edit = Callable[[Path], Any]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("keys"), ed25519.Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> list[Path]:
    """Three records, never edited: a plan, its apply (signed), and a run that failed."""
    records = tmp_path_factory.mktemp("records")
    signer = load_signer(keys[0])
    return [
        make(records, ("planned",)),
        make(records, ("verified", "applied"), [signer]),
        make(records, ("verified", "failed")),
    ]


@pytest.fixture
def folder(chain: list[Path], tmp_path: Path) -> Path:
    """A copy of the applied record, alone and with rights to edit it."""
    return alone(chain[1], tmp_path)


def alone(record: Path, into: Path) -> Path:
    copied = into / "alone" / record.name
    shutil.copytree(record, copied)
    with writable(copied):
        return copied


def seal_again(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda said: None) -> None:
    """As a forger does it who knows the format: change what is said, and mend every digest; without the key."""
    said = dict(peek((folder / RUN).read_bytes()))
    change(said)
    digests = {path.name: sha256_of(path) for path in folder.iterdir() if path.name not in {RUN, SUMS}}
    (folder / RUN).write_bytes(seal(statement(digests, said)))
    (folder / SUMS).write_bytes(sums(digests | {RUN: sha256_of(folder / RUN)}))


def edit_notebook(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    notebook = json.loads((folder / name).read_bytes())
    change(notebook)
    (folder / name).write_text(json.dumps(notebook))


def names(verdict: Verdict, name: str) -> bool:
    return any(name in problem for problem in verdict.problems)


# intact


def test_every_kind_of_record_is_intact_as_it_was_made(chain, keys):
    """A plan, an apply and a failure: intact says nothing of the outcome, which is told beside it."""
    verdicts = [verify(folder) for folder in chain]
    assert [verdict.problems for verdict in verdicts] == [[], [], []]
    assert [verdict.facts["outcome"] for verdict in verdicts] == ["planned", "applied", "failed"]
    assert verdicts[1].facts["notebooks"] == 2
    assert verdicts[1].facts["checks"] == 4
    assert verify(chain[1], [load_public_key(keys[1])]).problems == []


def test_a_copy_elsewhere_is_as_good(folder):
    """An artefact of a pipeline; that the record before it is not there is noted, and no fault."""
    verdict = verify(folder)
    assert verdict.problems == []
    assert any("is not here" in note for note in verdict.notes)


def test_another_name_of_the_folder_is_noted(folder):
    """Its id stands in it."""
    renamed = folder.rename(folder.with_name("change-4711"))
    verdict = verify(renamed)
    assert verdict.problems == []
    assert any(f"is not called {folder.name}" in note for note in verdict.notes)


# one byte


def byte_edits(content: bytes) -> dict[str, bytes]:
    """One byte more, less, and other, at the first, the last and some places between."""
    found = {
        "appended": content + b"x",
        "line appended": content + b"\n",
        "prepended": b"x" + content,
        "cut": b"",
    }
    places = sorted(
        {
            0,
            1,
            len(content) // 4,
            len(content) // 2,
            3 * len(content) // 4,
            len(content) - 2,
            len(content) - 1,
        }
    )
    for at in places:
        found[f"flipped {at}"] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        found[f"removed {at}"] = content[:at] + content[at + 1 :]
        found[f"inserted {at}"] = content[:at] + b" " + content[at:]
    return found


@pytest.mark.parametrize(
    "name", ["00-preflight.ipynb", "00-preflight.html", "01-primary-setup.ipynb", PLAN, RUN, SUMS]
)
def test_one_edited_byte_in_any_file_is_found_and_the_file_named(folder, name):
    """Wherever in the file it is, without any key."""
    content = (folder / name).read_bytes()
    for how, edited in byte_edits(content).items():
        (folder / name).write_bytes(edited)
        assert names(verify(folder), name), how
    (folder / name).write_bytes(content)
    assert verify(folder).problems == []


def test_every_byte_of_the_list_of_digests_counts(folder):
    """It names itself nowhere, so that each of its bytes is compared."""
    content = (folder / SUMS).read_bytes()
    digests = {path.name: sha256_of(path) for path in folder.iterdir()}
    subjects = {name: sha256 for name, sha256 in digests.items() if name not in {RUN, SUMS}}
    assert check_sums(content, digests, subjects) == []
    for at in range(len(content)):
        edited = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        assert any(SUMS in each for each in check_sums(edited, digests, subjects)), at


# files


def test_a_missing_file_is_named(folder):
    """Whichever it is."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        assert any(path.name in p and "missing" in p for p in verify(folder).problems), path.name
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["note.txt", ".hidden", "02-secret-transfer.ipynb", "x\ny", "z  a"])
def test_an_added_file_is_named(folder, name):
    """Whatever it is called."""
    (folder / name).write_text("{}")
    assert names(verify(folder), name)


def test_two_notebooks_that_change_places_are_both_named(folder):
    """Each is a real one, but not the one it is said to be."""
    first, second = folder / "00-preflight.ipynb", folder / "01-primary-setup.ipynb"
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    verdict = verify(folder)
    assert names(verdict, first.name)
    assert names(verdict, second.name)
    seal_again(folder)
    verdict = verify(folder)
    assert names(verdict, first.name)
    assert names(verdict, second.name)


def test_what_is_no_ordinary_file_is_a_problem_and_no_traceback(folder, tmp_path):
    """Symbolic links (also to the right content), folders, pipes."""
    path = folder / PLAN
    content = path.read_bytes()
    (tmp_path / "plan").write_bytes(content)
    path.unlink()
    for make_it in (
        lambda: path.symlink_to(tmp_path / "plan"),
        lambda: path.mkdir(),
        lambda: os.mkfifo(path),
    ):
        make_it()
        assert any(each.startswith(f"{PLAN}: it cannot be read") for each in verify(folder).problems)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_what_is_no_folder_is_a_problem(tmp_path, folder):
    """Nothing there, a file, a symbolic link, an empty folder."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "empty").mkdir()
    for name in ("none", "file", "link", "empty"):
        assert verify(tmp_path / name).problems, name


# what is claimed, with every digest mended: each rule alone


def claim(**changes: Any) -> Edit:
    return lambda folder: seal_again(folder, lambda said: said.update(changes))


def claim_of(number: int, **changes: Any) -> Edit:
    def change(said: dict[str, Any]) -> None:
        said["notebooks"][number] |= changes

    return lambda folder: seal_again(folder, change)


def outcome_of_result(folder: Path) -> None:
    def change(notebook: dict[str, Any]) -> None:
        notebook["cells"][-1]["outputs"][-1]["data"][Result.MIME]["outcome"] = "unchanged"

    edit_notebook(folder, "01-primary-setup.ipynb", change)
    seal_again(folder)


def code(folder: Path) -> None:
    edit_notebook(folder, "00-preflight.ipynb", lambda n: n["cells"][3].update(source="pass"))
    seal_again(folder)


def no_json(folder: Path) -> None:
    (folder / "00-preflight.ipynb").write_text("{")
    seal_again(folder)


def drop_claim(folder: Path) -> None:
    seal_again(folder, lambda said: said["notebooks"].pop(0))


def claim_twice(folder: Path) -> None:
    seal_again(folder, lambda said: said["notebooks"].append(said["notebooks"][0]))


def drop_source(folder: Path) -> None:
    seal_again(folder, lambda said: said["runbook"]["notebooks"].pop("00-preflight.ipynb"))


def drop_notebook(folder: Path) -> None:
    (folder / "00-preflight.ipynb").unlink()
    seal_again(folder)


def drop_page(folder: Path) -> None:
    (folder / "00-preflight.html").unlink()
    seal_again(folder)


def load_in_page(folder: Path) -> None:
    path = folder / "00-preflight.html"
    path.write_text(path.read_text().replace("<body", "<img src='https://example.com/x'><body", 1))
    seal_again(folder)


def plan_of_another_digest(folder: Path) -> None:
    found = json.loads((folder / PLAN).read_bytes())
    found["plan"]["federation"] = "other"
    (folder / PLAN).write_bytes(canonical(found) + b"\n")
    seal_again(folder)


def plan_of_another_notebook(folder: Path) -> None:
    found = json.loads((folder / PLAN).read_bytes())
    found["plan"]["notebooks"]["01-primary-setup"]["digest"] = "sha256:" + "0" * 64
    found["digest"] = digest(found["plan"])
    (folder / PLAN).write_bytes(canonical(found) + b"\n")
    seal_again(folder, lambda said: said["plan"].update(digest=found["digest"]))


def plan_written_otherwise(folder: Path) -> None:
    (folder / PLAN).write_text(json.dumps(json.loads((folder / PLAN).read_bytes())))
    seal_again(folder)


def plan_of_no_shape(folder: Path) -> None:
    (folder / PLAN).write_text("[]\n")
    seal_again(folder)


def no_plan(folder: Path) -> None:
    (folder / PLAN).unlink()
    seal_again(folder)


FORGED: dict[str, tuple[Edit, str]] = {
    "code": (code, "00-preflight.ipynb: cell 4 (pass) is not the source's"),
    "result": (outcome_of_result, "01-primary-setup.ipynb: its outcome is 'unchanged', not 'applied'"),
    "no JSON": (no_json, "00-preflight.ipynb: it is no JSON"),
    "outcome of a notebook": (claim_of(1, outcome="unchanged"), "01-primary-setup.ipynb: its outcome is 'applied'"),
    "failed notebook": (claim_of(1, outcome="failed"), "01-primary-setup.ipynb: cell 7"),
    "checks": (claim_of(1, checks=[]), "01-primary-setup.ipynb: its checks are not those"),
    "changes": (claim_of(1, changes=[]), "01-primary-setup.ipynb: its changes are not those"),
    "error": (claim_of(1, error={"class": "X", "found": ""}), "01-primary-setup.ipynb: it ended with another error"),
    "another notebook": (claim_of(1, notebook="00-preflight"), "01-primary-setup.ipynb: cell"),
    "unclaimed": (drop_claim, "00-preflight.ipynb: run.json does not say how it ended"),
    "claimed twice": (claim_twice, "run.json: it speaks of 00-preflight.ipynb twice"),
    "no source": (drop_source, "00-preflight.ipynb: run.json does not say what the source"),
    "gone": (drop_notebook, "00-preflight.ipynb: it is missing; run.json says how it ended"),
    "outcome": (claim(outcome="verified"), "run.json: its outcome is 'verified'; its notebooks and error come to 'app"),
    "hidden error": (
        claim(error={"class": "ApplyError", "found": "x"}), "run.json: its outcome is 'applied'; its notebooks and"
    ),
    "dry run": (claim(dry_run=True), "run.json: it was a dry run, but a notebook applied something"),
    "federation": (claim(federation="other"), "run.json: it is of 'other', but a notebook is of 'test'"),
    "parameters": (claim(parameters={"a": 1}), "run.json: its parameters_digest is not that of its parameters"),
    "run": (claim(run="x"), "run.json: its run: string should match"),
    "shape": (claim(notebooks=None), "run.json: its notebooks: input should be a valid list"),
    "no page": (drop_page, "00-preflight.html: it is missing: the page of 00-preflight.ipynb"),
    "page that loads": (load_in_page, "00-preflight.html: it would load https://example.com/x"),
    "plan": (plan_of_another_digest, "plan.json: its digest, that of its content and the one in run.json"),
    "plan of a notebook": (plan_of_another_notebook, "plan.json: what it says of 01-primary-setup is not what"),
    "plan's form": (plan_written_otherwise, "plan.json: it is not written as consulfed writes it"),
    "plan's shape": (plan_of_no_shape, "plan.json: it is no plan"),
    "plan gone": (no_plan, "plan.json: it is missing; run.json gives its digest"),
    "plan unsaid": (claim(plan=None), "plan.json: run.json says nothing of a plan"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_claimed_and_not_shown_is_found_though_every_digest_was_mended(folder, name):
    """A record is more than its checksums: each claim is recomputed from what the notebooks hold."""
    edit, expected = FORGED[name]
    edit(folder)
    problems = verify(folder).problems
    assert any(each.startswith(expected) for each in problems), problems
    assert not any(SUMS in each for each in problems)


def test_mending_the_digests_alone_is_no_problem(folder):
    """The forger's tool of these tests makes records that verify: what they find is the forgery, not the tool."""
    seal_again(folder)
    assert verify(folder).problems == []


def test_a_failure_cannot_be_made_a_success(chain, tmp_path):
    """Neither by taking its error away, nor by taking away the notebook that failed."""
    failed = alone(chain[2], tmp_path)
    seal_again(failed, lambda said: said.update(error=None, outcome="verified"))
    assert names(verify(failed), "come to 'failed'")

    def forget(said: dict[str, Any]) -> None:
        said.update(error=None, outcome="verified")
        said["notebooks"].pop()

    seal_again(failed, forget)
    assert names(verify(failed), "02-secret-transfer-dc2.ipynb: run.json does not say how it ended")


# who said it


def test_what_was_forged_with_every_digest_mended_is_found_by_the_signature(folder, keys):
    """A forger has not the key: the signature is gone, or is over something else."""
    key = load_public_key(keys[1])
    seal_again(folder, lambda said: said.update(reason="another reason"))
    assert verify(folder).problems == []
    assert verify(folder, [key]).problems == [f"{RUN}: it is unsigned"]


def test_a_forged_record_under_the_old_signature_is_found(folder, keys):
    """The signature of the true one is over other bytes."""
    signatures = json.loads((folder / RUN).read_bytes())["signatures"]
    seal_again(folder, lambda said: said.update(reason="another reason"))
    envelope = json.loads((folder / RUN).read_bytes()) | {"signatures": signatures}
    (folder / RUN).write_bytes(canonical(envelope) + b"\n")
    digests = {path.name: sha256_of(path) for path in folder.iterdir()}
    (folder / SUMS).write_bytes(sums(digests))
    (problem,) = verify(folder, [load_public_key(keys[1])]).problems
    assert problem.startswith(f"{RUN}: the signature of key")


def test_what_was_forged_with_every_digest_mended_is_found_by_a_later_record(chain, tmp_path):
    """It names the SHA-256 of the run.json before it; both records say so."""
    records = tmp_path / "test"
    shutil.copytree(chain[0].parent, records)
    first, second = records / chain[0].name, records / chain[1].name
    with writable(first):
        seal_again(first, lambda said: said.update(reason="another reason"))
    assert verify(first).problems == [
        f"{RUN}: it is not the one that the later record {second.name} was chained to: it was edited"
    ]
    assert verify(second).problems == [
        f"{first.name}/{RUN}: it is not the one that this record was chained to: one of the two was edited"
    ]


def test_a_record_that_was_taken_out_of_the_chain_is_noted(chain, tmp_path):
    """It may have been moved to an archive; or somebody did not want it to be seen."""
    records = tmp_path / "test"
    shutil.copytree(chain[0].parent, records)
    with writable(records / chain[1].name) as gone:
        shutil.rmtree(gone)
    verdict = verify(records / chain[2].name)
    assert verdict.problems == []
    assert any(f"{chain[1].name}, is not here" in note for note in verdict.notes)


def test_an_output_edited_with_every_digest_mended_is_not_found_without_signature_or_chain(folder):
    """What an unsigned record, alone, does not prove: that nobody made it anew. The verdict says so."""

    def change(notebook: dict[str, Any]) -> None:
        notebook["cells"][3]["outputs"][0]["data"]["text/plain"] = ["Checks: all is well"]

    edit_notebook(folder, "00-preflight.ipynb", change)
    seal_again(folder)
    verdict = verify(folder)
    assert verdict.problems == []
    assert any(note.startswith("unsigned: whoever could write here") for note in verdict.notes)


# a notebook of vanilla papermill


def test_a_notebook_alone_is_held_against_the_installed_runbook(tmp_path, monkeypatch):
    """It is recognised by its cells, and what it does not prove is noted."""
    monkeypatch.setattr("consulfed_lib.execution.notebooks_folder", lambda: recorded.executed().runbook)
    path = tmp_path / "out.ipynb"
    path.write_bytes(recorded.executed().notebooks["applied"])
    verdict = verify_notebook(path)
    assert verdict.problems == []
    assert verdict.facts["notebook"] == "01-primary-setup"
    assert verdict.facts["outcome"] == "applied"
    assert "nothing tells whether its outputs were edited" in verdict.notes[0]


def test_a_notebook_alone_that_failed_or_was_edited_is_a_problem(tmp_path, monkeypatch):
    """It did not come to its end, and so it is no evidence of one."""
    monkeypatch.setattr("consulfed_lib.execution.notebooks_folder", lambda: recorded.executed().runbook)
    path = tmp_path / "out.ipynb"
    path.write_bytes(recorded.executed().notebooks["failed"])
    verdict = verify_notebook(path)
    assert verdict.facts["outcome"] == "failed"
    assert "ended with an error: ApplyError" in verdict.problems[0]
    path.write_bytes(recorded.executed().notebooks["verified"].replace(b"1 + 1", b"2 + 2"))
    assert any("cell 5 (2 + 2) is not the source's" in each for each in verify_notebook(path).problems)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_notebook_is_a_problem_of_its_file(tmp_path, content):
    """Missing, half written, something else."""
    path = tmp_path / "out.ipynb"
    if content is not None:
        path.write_bytes(content)
    assert all(each.startswith("out.ipynb: ") for each in verify_notebook(path).problems)
    assert verify_notebook(path).problems


def test_the_installed_runbook_is_what_a_notebook_is_compared_with(tmp_path):
    """A source that was never executed is recognised, and did not come to its end."""
    from consulfed_lib.execution import notebooks_folder

    path = shutil.copy(notebooks_folder() / "03-secondary-setup.ipynb", tmp_path / "out.ipynb")
    verdict = verify_notebook(Path(path))
    assert verdict.facts["notebook"] == "03-secondary-setup"
    assert any("holds no result" in each for each in verdict.problems)
