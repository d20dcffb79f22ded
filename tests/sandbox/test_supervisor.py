"""A sandbox from up to down, with the real supervisor: what is promised at each step, and after a crash."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import ssl
import stat
import threading
import urllib.request
from pathlib import Path

import pytest
import yaml

from consulfed_lib import cli
from consulfed_lib.errors import SandboxError
from consulfed_lib.sandbox import claims, lifecycle, status
from consulfed_lib.sandbox.state import Folder


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A sandbox of two clusters that is up."""
    folder = Folder(tmp_path_factory.mktemp("sandbox") / "shared")
    lifecycle.up(folder, None, None, None, quiet)
    yield folder
    lifecycle.down(folder, False, quiet)


@pytest.fixture
def folder(tmp_path):
    """The folder of a sandbox that a test brings up itself; taken down in the end."""
    folder = Folder(tmp_path / "sandbox")
    yield folder
    lifecycle.down(folder, False, quiet)


def request(folder: Folder, path: str, body: dict | None = None, context: int = 0) -> dict:
    """GET, or POST a body, as the kubeconfig's administrator; no client library in between."""
    config = yaml.safe_load(folder.kubeconfig.read_text())
    cluster = config["clusters"][context]["cluster"]
    tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
    token = tokens[f"{config['clusters'][context]['name']}-admin"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    call = urllib.request.Request(
        cluster["server"] + path,
        data=json.dumps(body).encode() if body else None,
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(call, context=ssl.create_default_context(cadata=authority)) as answer:
        return json.load(answer)


def fingerprint(folder: Folder) -> str:
    config = yaml.safe_load(folder.kubeconfig.read_text())
    return hashlib.sha256(config["clusters"][0]["cluster"]["certificate-authority-data"].encode()).hexdigest()


def test_every_api_server_answers_when_up_returns(running):
    """No client has to wait or to try again after `up`."""
    for context in (0, 1):
        assert request(running, "/version", context=context)["major"] == "1"


def test_every_node_is_registered_when_up_returns(folder):
    """`--servers 3` is three nodes: the chart places one Consul server on each."""
    lifecycle.up(folder, 1, 3, None, quiet)
    nodes = request(folder, "/api/v1/nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == [f"sandbox-dc1-node{n}" for n in (1, 2, 3)]


def test_the_kubeconfig_is_private_and_names_three_contexts_for_each_cluster(running):
    """It holds the tokens of who runs the runbook, of the administrator, and of who only looks."""
    assert stat.S_IMODE(running.kubeconfig.stat().st_mode) == 0o600
    config = yaml.safe_load(running.kubeconfig.read_text())
    names = {context["name"] for context in config["contexts"]}
    assert names == {f"sandbox-dc{n}{suffix}" for n in (1, 2) for suffix in ("", "-admin", "-read-only")}
    assert config["current-context"] == "sandbox-dc1"
    tokens = {user["user"]["token"] for user in config["users"]}
    assert len(tokens) == 6


def test_the_admin_tokens_are_nowhere_but_in_the_kubeconfig(running):
    """Not in the log, not in the state, not on a command line."""
    tokens = [user["user"]["token"] for user in yaml.safe_load(running.kubeconfig.read_text())["users"]]
    texts = [
        path.read_bytes() for path in running.path.rglob("*") if path.is_file() and path != running.kubeconfig
    ]
    texts.append(Path(f"/proc/{running.process().pid}/cmdline").read_bytes())
    texts.append(Path(f"/proc/{running.process().pid}/environ").read_bytes())
    assert not [token for token in tokens for text in texts if token.encode() in text]


def test_up_again_is_already_up(running):
    """The same command twice is no error, and changes nothing."""
    lines, before = [], running.process()
    lifecycle.up(running, None, None, None, lines.append)
    lifecycle.up(running, 2, 1, None, lines.append)
    assert lines == ["already up: 2 datacenters with 1 server each"] * 2
    assert running.process() == before


@pytest.mark.parametrize("options", [(3, None, None), (None, 3, None), (None, None, 250)])
def test_up_with_another_shape_is_an_error_that_says_what_to_do(running, options):
    """A sandbox is never changed under the feet of the one who uses it."""
    with pytest.raises(SandboxError, match="is up already: 2 datacenters with 1 server each") as caught:
        lifecycle.up(running, *options, quiet)
    assert "sandbox down" in caught.value.hint


def test_a_block_that_is_taken_is_one_clear_error_and_leaves_nothing(running, folder):
    """The supervisor's own words come through: which address, and who has it."""
    block = running.shape().block
    with pytest.raises(SandboxError, match=rf"127\.{block}\.0\.1:6440 .*pid {running.process().pid}"):
        lifecycle.up(folder, None, None, block, quiet)
    assert folder.process() is None
    assert {path.name for path in folder.path.iterdir()} == {".consulfed-sandbox", "supervisor.log"}


def test_two_sandboxes_stand_side_by_side(running, folder):
    """Each has a block of its own, and taking one down does not touch the other."""
    lifecycle.up(folder, 1, None, None, quiet)
    assert folder.shape().block != running.shape().block
    assert fingerprint(folder) != fingerprint(running)
    lifecycle.down(folder, False, quiet)
    assert request(running, "/version")["major"] == "1"


def test_the_status_tells_nodes_tasks_and_memory(running):
    """For a person and for a machine."""
    found = status.look(running)
    assert found.up
    assert found.pid == running.process().pid
    assert [cluster.name for cluster in found.clusters] == ["dc1", "dc2"]
    for cluster in found.clusters:
        assert cluster.nodes == [f"{cluster.context}-node1"]
        assert {task.state for task in cluster.tasks.values()} == {"running"}
    assert found.memory_mib > 10


def test_status_kubeconfig_and_params_as_commands(running, capsys):
    """Exit code 0 and what a script reads on stdout, nothing else."""
    where = ["--folder", str(running.path)]
    assert cli.main(["sandbox", "status", "-o", "json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["up"] is True
    assert cli.main(["sandbox", "kubeconfig", *where]) == 0
    assert capsys.readouterr().out == f"{running.kubeconfig}\n"
    assert cli.main(["sandbox", "params", *where]) == 0
    params = yaml.safe_load(capsys.readouterr().out)
    assert params["kubeconfig"] == str(running.kubeconfig)
    assert [cluster["context"] for cluster in params["secondaries"]] == ["sandbox-dc2"]


def test_the_chart_is_there_for_helm(running):
    """`chart: {ref: sandbox}` in a params file means this folder."""
    assert yaml.safe_load((running.chart / "Chart.yaml").read_text())["name"] == "consul"


def test_down_leaves_no_process_and_no_port_and_twice_is_fine(folder):
    """What `down` says is what was seen."""
    lines: list[str] = []
    lifecycle.up(folder, None, None, None, quiet)
    process, block, volatile = folder.process(), folder.shape().block, folder.volatile
    lifecycle.down(folder, False, lines.append)
    lifecycle.down(folder, False, lines.append)
    assert lines == ["down", "not up"]
    assert not process.alive
    assert claims.listening(block) == []
    assert not volatile.exists()
    assert {path.name for path in folder.path.iterdir()} == {".consulfed-sandbox", "supervisor.log"}


def test_what_asks_for_a_running_sandbox_says_so_when_it_is_down(tmp_path, capsys):
    """60 is the exit code, and the remedy is the command to run."""
    for command in ("kubeconfig", "params", "status", "logs"):
        assert cli.main(["sandbox", command, "--folder", str(tmp_path / "none")]) == 60
    captured = capsys.readouterr()
    assert captured.err.count("run `consulfed sandbox up`") == 3
    assert captured.out.startswith("down")
    assert cli.main(["sandbox", "down", "--folder", str(tmp_path / "none")]) == 0


def kill(folder: Folder) -> None:
    """kill -9 the supervisor; returns when it has ended."""
    process = folder.process()
    descriptor = process.open()
    os.kill(process.pid, signal.SIGKILL)
    assert lifecycle._wait([descriptor], 10)
    os.close(descriptor)


def test_up_after_the_supervisor_was_killed_goes_on_with_the_same_clusters(folder):
    """As a real cluster would after a power cut; the status says that it is down, until then."""
    lines: list[str] = []
    lifecycle.up(folder, 1, None, None, quiet)
    first, shape = fingerprint(folder), folder.shape()
    kill(folder)
    assert not status.look(folder).up
    assert lifecycle.up(folder, None, None, None, lines.append) == shape
    assert "was killed" in lines[0]
    assert request(folder, "/version")["major"] == "1"
    assert fingerprint(folder) == first


def test_down_after_the_supervisor_was_killed_tidies_up(folder):
    """Its secrets in shared memory go as well, and its kubeconfig."""
    lifecycle.up(folder, 1, None, None, quiet)
    kill(folder)
    lifecycle.down(folder, False, quiet)
    assert not folder.volatile.exists()
    assert {path.name for path in folder.path.iterdir()} == {".consulfed-sandbox", "supervisor.log"}


def test_what_was_kept_comes_back_and_what_was_not_does_not(folder):
    """`down --keep` is a pause; `down` is the end: the CA's fingerprint tells the clusters apart."""
    lifecycle.up(folder, 1, None, None, quiet)
    first, shape = fingerprint(folder), folder.shape()
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}, "data": {"a": "b"}}
    request(folder, "/api/v1/namespaces/default/configmaps", note)
    lifecycle.down(folder, True, quiet)
    assert lifecycle.up(folder, None, None, None, quiet) == shape
    assert request(folder, "/api/v1/namespaces/default/configmaps/note")["data"] == {"a": "b"}
    assert fingerprint(folder) == first
    lifecycle.down(folder, True, quiet)
    with pytest.raises(SandboxError, match="state that was kept is another sandbox's"):
        lifecycle.up(folder, 2, None, None, quiet)
    lifecycle.down(folder, False, quiet)
    lifecycle.up(folder, 1, None, None, quiet)
    assert fingerprint(folder) != first


def test_an_interrupted_up_leaves_nothing_running(folder):
    """Ctrl-C while it comes up: the supervisor has a session of its own and would not hear it."""

    def interrupt(line: str) -> None:
        if "answers at" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lifecycle.up(folder, 1, None, None, interrupt)
    assert folder.process() is None
    assert not folder.volatile.exists()
    lifecycle.up(folder, 1, None, None, quiet)


def test_a_supervisor_that_dies_at_once_is_shown_by_its_last_lines(folder, tmp_path, monkeypatch):
    """The cause is in the error, not only in a log that a person would have to find."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: no module named aiohttp' >&2\nexit 1\n")
    broken.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle.sys, "executable", str(broken))
        with pytest.raises(SandboxError, match="ImportError: no module named aiohttp"):
            lifecycle.up(folder, 1, None, None, quiet)
    lifecycle.up(folder, 1, None, None, quiet)


def test_two_ups_at_once_bring_up_one_sandbox(folder):
    """The second one waits for the first, and finds it up."""
    lines: list[str] = []

    def up() -> None:
        lifecycle.up(folder, 1, None, None, lines.append)

    threads = [threading.Thread(target=up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lines.count("already up: 1 datacenter with 1 server each") == 1
    assert len([line for line in lines if "answers at" in line]) == 1


@pytest.mark.parametrize("options", [(0, None, None), (None, 9, None), (None, None, 9)])
def test_numbers_out_of_range_are_refused_before_anything_is_made(tmp_path, options):
    """There are only so many addresses in a block."""
    folder = Folder(tmp_path / "sandbox")
    with pytest.raises(SandboxError, match="give a number from"):
        lifecycle.up(folder, *options, quiet)
    assert not folder.path.exists()
