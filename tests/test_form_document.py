"""The text of a params file, and writing it: comments stay, meanings are added, nobody's change is overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from consulfed_lib.errors import ParamsError
from consulfed_lib.form import saving
from consulfed_lib.form.document import written
from consulfed_lib.form.draft import Draft
from consulfed_lib.params import Federation, load

SANDBOX = (Path(__file__).parents[1] / "params" / "sandbox.yaml").read_text()


def changed(before: str, after: str) -> list[str]:
    return [line for line in after.splitlines() if line not in before.splitlines()]


def test_a_new_file_says_what_was_said_with_its_meaning(raw):
    """Each line carries the help of its parameter, and reads as what was meant."""
    text = written(raw | {"servers": 3, "timeouts": {"ready": 5}})
    assert yaml.safe_load(text) == raw | {"servers": 3, "timeouts": {"ready": 5}}
    lines = {
        line.split(":")[0].strip(): line for line in text.splitlines() if ": " in line or line.endswith(":")
    }
    assert str(Federation.model_fields["servers"].description) in lines["servers"]
    assert "deadlines in seconds" in lines["timeouts"]
    assert "servers, gateway address" in lines["ready"]
    assert text.index("servers:") < text.index("timeouts:") < text.index("primary:")


def test_a_file_of_somebodys_own_changes_in_one_line():
    """Comments, order, spaces and the way of writing are theirs."""
    raw = yaml.safe_load(SANDBOX)
    assert written(raw, SANDBOX) == SANDBOX
    raw["timeouts"]["ready"] = 90
    assert changed(SANDBOX, written(raw, SANDBOX)) == ["timeouts: {install: 300, ready: 90, federation: 180}"]
    raw["acls"] = False
    assert changed(SANDBOX, written(raw, SANDBOX))[0] == "acls: false"


def test_clusters_come_and_go_and_the_others_stay_as_written():
    """Which one is which is told by its context."""
    raw = yaml.safe_load(SANDBOX)
    raw["secondaries"].insert(0, {"context": "lab", "datacenter": "lab"})
    text = written(raw, SANDBOX)
    assert changed(SANDBOX, text) == ['  - {context: "lab", datacenter: "lab"}']
    raw["secondaries"].pop(0)
    assert changed(SANDBOX, written(raw, text)) == []
    raw["primary"], raw["secondaries"] = raw["secondaries"][0], [raw["primary"]]
    assert yaml.safe_load(written(raw, SANDBOX)) == raw


def test_a_key_that_is_new_stands_in_its_place():
    """After those that come before it in the table of parameters."""
    raw = yaml.safe_load(SANDBOX.replace("servers: 1\n", ""))
    before = SANDBOX.replace("servers: 1\n", "")
    text = written(raw | {"servers": 3}, before)
    assert text.index("proxy_defaults_mode") < text.index("servers: 3") < text.index("mesh_gateway")


def test_a_number_is_no_switch(raw):
    """1 and true are equal in Python and not in YAML."""
    text = written(raw | {"servers": 1})
    assert "servers: true" in written(raw | {"servers": True}, text)


@pytest.mark.parametrize("before", ["values: &v {x: 1}\nprimary: {values: *v}\n", "a: [\n", "- a\n"])
def test_a_file_that_would_say_something_else_is_left_to_an_editor(before):
    """An alias would change two places at once; what is no mapping of YAML cannot be changed at all."""
    with pytest.raises(ParamsError, match="cannot be changed by the form"):
        written({"values": {"x": 2}, "primary": {"values": {"x": 1}}}, before)


def test_another_version_of_yaml_changes_nothing():
    """`yes` and `010` are what consulfed reads them as."""
    before = "acls: yes  # mine\nservers: 010\n"
    raw = yaml.safe_load(before)
    assert yaml.safe_load(written(raw | {"parallel": 2}, before)) == raw | {"parallel": 2}


# Saving


def test_a_new_file_is_written_and_then_changed(raw, tmp_path):
    """Readable as the user's umask has it, and nothing is left beside it."""
    draft = Draft(raw, tmp_path / "params" / "new.yaml")
    assert draft.is_new
    assert load(draft.save()).federation == "test"
    assert not draft.is_new
    assert stat.S_IMODE(draft.file.stat().st_mode) == saving._usual()
    draft.file.chmod(0o640)
    draft.say("servers", "3")
    draft.save()
    assert load(draft.file).servers == 3
    assert stat.S_IMODE(draft.file.stat().st_mode) == 0o640
    assert [each.name for each in draft.file.parent.iterdir()] == ["new.yaml"]


def test_what_somebody_else_wrote_meanwhile_stays(raw, tmp_path):
    """A file that came, one that changed, and one that went: each is left as it is."""
    file = tmp_path / "test.yaml"
    new = Draft(raw, file)
    file.write_text(SANDBOX)
    with pytest.raises(ParamsError, match="is there already"):
        new.save()
    old = Draft.of(file)
    old.say("servers", "3")
    file.write_text(SANDBOX + "# theirs\n")
    with pytest.raises(ParamsError, match="changed by somebody else"):
        old.save()
    assert file.read_text() == SANDBOX + "# theirs\n"
    file.unlink()
    with pytest.raises(ParamsError, match="changed by somebody else"):
        old.save()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch):
    """Also between the look and the writing."""
    file = tmp_path / "test.yaml"
    real = os.link

    def late(source: str, target: Path) -> None:
        file.write_text("theirs")
        real(source, target)

    monkeypatch.setattr(saving.os, "link", late)
    with pytest.raises(ParamsError, match="is there already"):
        saving.save("ours", saving.Seen(file, None))
    assert file.read_text() == "theirs"


def test_a_link_stays_a_link(raw, tmp_path):
    """The file that it leads to is written."""
    (tmp_path / "real.yaml").write_text(SANDBOX)
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    draft = Draft.of(tmp_path / "link.yaml")
    draft.say("servers", "3")
    draft.save()
    assert (tmp_path / "link.yaml").is_symlink()
    assert "servers: 3" in (tmp_path / "real.yaml").read_text()


def test_what_cannot_be_written_or_read_is_said(raw, tmp_path):
    """In a sentence, with what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(ParamsError, match="cannot be written"):
        Draft(raw, tmp_path / "file" / "x.yaml").save()
    with pytest.raises(ParamsError, match="cannot be read"):
        saving.seen(tmp_path)


def test_another_name_makes_another_file(raw, tmp_path):
    """And leaves the one that was opened."""
    (tmp_path / "test.yaml").write_text(SANDBOX)
    draft = Draft.of(tmp_path / "test.yaml")
    draft.file = tmp_path / "copy.yaml"
    assert draft.is_new
    draft.say("servers", "3")
    draft.save()
    assert (tmp_path / "test.yaml").read_text() == SANDBOX
    assert changed(SANDBOX, (tmp_path / "copy.yaml").read_text()) == ["servers: 3"]
