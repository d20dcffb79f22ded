"""The parts that up, down and the supervisor are made of: processes, folders, blocks, keys, tasks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from consulfed_lib.errors import SandboxError
from consulfed_lib.sandbox import claims, lifecycle, pki, state
from consulfed_lib.sandbox.layout import SandboxLayout
from consulfed_lib.sandbox.state import Folder, ProcessId, Shape
from consulfed_lib.sandbox.tasks import Tasks


@pytest.fixture
def child():
    """A process that lives until its input is closed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


# Processes


def test_a_process_is_alive_until_it_has_ended(child):
    """A zombie, which nobody has waited for yet, has ended."""
    process = ProcessId.of(child.pid)
    assert process.alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive


def test_another_process_with_the_same_id_is_never_ours(child):
    """Ids are given again; the time of the start and the boot tell two processes apart."""
    process = ProcessId.of(child.pid)
    for other in (replace(process, started=process.started - 1), replace(process, boot="an earlier boot")):
        assert not other.alive
        assert other.open() is None
    assert child.poll() is None


def test_a_pidfd_tells_when_the_process_has_ended(child):
    """What `down` waits for, without asking again and again."""
    descriptor = ProcessId.of(child.pid).open()
    try:
        assert not lifecycle._wait([descriptor], 0.01)
        child.kill()
        assert lifecycle._wait([descriptor], 10)
    finally:
        os.close(descriptor)


def test_a_process_file_of_a_process_that_is_gone_means_down(tmp_path, child):
    """After kill -9 the file is still there; it is believed only as long as the process lives."""
    folder = Folder(tmp_path)
    state.write_json(folder.process_file, ProcessId.of(child.pid))
    assert folder.process() == ProcessId.of(child.pid)
    child.kill()
    child.wait()
    assert folder.process() is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": 1, "other": 2}'])
def test_a_damaged_file_means_down(tmp_path, content):
    """A machine that lost power may leave anything."""
    folder = Folder(tmp_path)
    folder.process_file.write_text(content)
    folder.shape_file.write_text(content)
    assert folder.process() is None
    assert folder.shape() is None


# Folders


def test_a_folder_with_other_files_in_it_is_left_alone(tmp_path):
    """`--folder ~` must not end in deleting somebody's files."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SandboxError, match="holds other files"):
        Folder(tmp_path).prepare()
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex"}


def test_a_sandbox_folder_is_for_its_user_only(tmp_path):
    """It holds the clusters' CA keys."""
    path = tmp_path / "sandbox"
    path.mkdir(mode=0o755)
    Folder(path).prepare()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_removing_the_state_removes_only_names_of_ours(tmp_path):
    """What a person put into the folder stays, and so does the log, which tells why it ended."""
    folder = Folder(tmp_path / "sandbox")
    folder.prepare()
    for name in ("dc1", "dc12", "keys", "chart", "dcx", "notes"):
        (folder.path / name).mkdir()
    folder.log.touch()
    state.write_json(folder.shape_file, Shape(77, 2, 1))
    folder.remove_state()
    assert {path.name for path in folder.path.iterdir()} == {
        ".consulfed-sandbox",
        "dcx",
        "notes",
        "supervisor.log",
    }


def test_a_folder_in_shared_memory_that_another_user_made_is_not_used(tmp_path, monkeypatch):
    """/dev/shm is everyone's: a prepared folder or link there must not catch the pods' secrets."""
    folder = Folder(tmp_path)
    assert folder.volatile != tmp_path / "volatile"
    monkeypatch.setattr(state, "_is_own_folder", lambda path: False)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert folder.volatile == tmp_path / "volatile"


def test_a_private_file_is_private_from_its_first_byte(tmp_path):
    """Mode 0600 at creation, whatever was there before, and no half-written file."""
    path = tmp_path / "kubeconfig"
    path.touch(mode=0o666)
    state.write_private(path, b"token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["kubeconfig"]


# Blocks of addresses


def listener(address: str, port: int = 0) -> socket.socket:
    held = socket.socket()
    held.bind((address, port))
    held.listen()
    return held


def test_two_sandboxes_never_get_the_same_block(tmp_path):
    """The second one goes on to the next free block."""
    first, held = claims.claim(tmp_path, 2)
    with held:
        second, held_too = claims.claim(tmp_path, 2)
        held_too.close()
    assert first != second
    again, held = claims.claim(tmp_path, 2)
    held.close()
    assert again == first


def test_a_block_that_was_asked_for_and_is_taken_is_an_error_with_its_holder(tmp_path):
    """The sentence names the address, and who has it."""
    block, held = claims.claim(tmp_path, 2)
    with held, pytest.raises(SandboxError, match=rf"127\.{block}\.0\.1:6440 .*\(pid {os.getpid()}, "):
        claims.claim(tmp_path, 2, block)


def test_a_block_with_a_foreign_program_on_an_api_address_is_not_free(tmp_path):
    """Asked for, it is an error; otherwise the next block is taken, and nothing stays claimed."""
    block, held = claims.claim(tmp_path, 2)
    held.close()
    address = SandboxLayout(tmp_path, block, 2, 1).clusters[1].api_address
    with listener(address, 6443):
        with pytest.raises(SandboxError, match=rf"{address}:6443"):
            claims.claim(tmp_path, 2, block)
        other, held = claims.claim(tmp_path, 2)
        held.close()
        assert other != block
    number, held = claims.claim(tmp_path, 2, block)
    held.close()
    assert number == block


def test_what_listens_in_a_block_is_seen():
    """`down` says that it is down when this is empty."""
    with listener("127.251.3.4") as held:
        port = held.getsockname()[1]
        assert claims.listening(251) == [f"127.251.3.4:{port}"]
    assert claims.listening(251) == []


# Keys


def test_the_ca_stays_and_the_serving_certificate_follows_the_address(tmp_path):
    """The CA's fingerprint is what a cluster is known by; the address may be another one after a restart."""
    first = pki.prepare(tmp_path, "dc1", ["127.10.1.1"])
    one = x509.load_pem_x509_certificate(first.certificate.read_bytes())
    second = pki.prepare(tmp_path, "dc1", ["127.11.1.1"])
    other = x509.load_pem_x509_certificate(second.certificate.read_bytes())
    assert first.ca_pem == second.ca_pem
    assert first.service_account_key == second.service_account_key
    names = [
        [str(ip) for ip in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
         .get_values_for_type(x509.IPAddress)]
        for certificate in (one, other)
    ]  # fmt: skip
    assert names == [["127.10.1.1"], ["127.11.1.1"]]


def test_every_key_is_readable_by_the_user_only(tmp_path):
    """Also those of certificates that are public: the folder holds nothing for others."""
    pki.prepare(tmp_path / "keys", "dc1", ["127.10.1.1"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_client_that_has_the_ca_trusts_the_server_at_its_address(tmp_path):
    """A TLS handshake with OpenSSL's strict checks, by IP address as kubectl does it."""
    keys = pki.prepare(tmp_path, "dc1", ["127.0.0.1"])
    client_side, server_side = socket.socketpair()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(keys.certificate, keys.private_key)
    client_context = ssl.create_default_context(cadata=keys.ca_pem)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    server = server_context.wrap_bio(outgoing, incoming, server_side=True)
    pending = [client, server]
    for _ in range(10):
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
    client_side.close()
    server_side.close()
    assert pending == []


# Tasks


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


def test_a_task_that_fails_is_started_again_and_told_of(monkeypatch, caplog):
    """Its error and traceback are in the log, and its health says what happened and how often."""
    monkeypatch.setattr("consulfed_lib.sandbox.tasks.BACK_OFF", (0.0,))
    calls = []

    async def scenario():
        well = asyncio.Event()

        async def work():
            calls.append(1)
            if len(calls) < 3:
                raise ValueError("the API server went away")
            well.set()
            await asyncio.Event().wait()

        tasks = Tasks(lambda: None)
        tasks.start("dc1/kubelet", work)
        await well.wait()
        health = replace(tasks.health["dc1/kubelet"])
        await tasks.stop("dc1/kubelet")
        return health, tasks.health["dc1/kubelet"].state

    health, at_the_end = run(scenario())
    assert (health.state, health.restarts, health.error) == (
        "running",
        2,
        "ValueError: the API server went away",
    )
    assert at_the_end == "stopped"
    assert "Traceback" in caplog.text


def test_a_task_that_ends_by_itself_is_started_again(monkeypatch):
    """A controller that returned is as dead as one that failed."""
    monkeypatch.setattr("consulfed_lib.sandbox.tasks.BACK_OFF", (0.0,))

    async def scenario():
        again = asyncio.Event()
        calls = []

        async def work():
            calls.append(1)
            if len(calls) == 2:
                again.set()
                await asyncio.Event().wait()

        tasks = Tasks(lambda: None)
        tasks.start("dc1/controllers", work)
        await again.wait()
        await tasks.stop("dc1/controllers", "dc1/never-started")
        return tasks.health["dc1/controllers"].error

    assert run(scenario()) == "it ended by itself"


def test_the_error_of_a_group_of_tasks_is_the_one_in_it(monkeypatch):
    """`unhandled errors in a TaskGroup` tells nobody what happened."""

    async def scenario():
        changed = asyncio.Event()

        async def work():
            raise ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("the cause\nand more")])

        tasks = Tasks(lambda: changed.set() if tasks.health["dc1/kubelet"].error else None)
        tasks.start("dc1/kubelet", work)
        await changed.wait()
        await tasks.stop("dc1/kubelet")
        return tasks.health["dc1/kubelet"].error

    assert run(scenario()) == "ValueError: the cause"


def test_waiting_before_a_new_start_is_seen_in_the_health(monkeypatch):
    """`status` tells of a task that is dead for now, at the moment it dies."""
    monkeypatch.setattr("consulfed_lib.sandbox.tasks.BACK_OFF", (60.0,))

    async def scenario():
        seen, changed = [], asyncio.Event()

        async def work():
            raise ValueError("no")

        def note():
            seen.append(tasks.health["dc1/kubelet"].state)
            if seen[-1] == "waiting":
                changed.set()

        tasks = Tasks(note)
        tasks.start("dc1/kubelet", work)
        await changed.wait()
        await tasks.stop("dc1/kubelet")
        return seen

    assert run(scenario()) == ["running", "waiting", "stopped"]


def test_what_load_balancers_give_belongs_to_the_shape(tmp_path: Path) -> None:
    """It is kept with the state, reaches every cluster, and older state means addresses."""
    folder = Folder(tmp_path)
    state.write_json(folder.shape_file, {"block": 77, "datacenters": 2, "servers": 1})
    assert folder.shape() == Shape(77, 2, 1, "ip")
    shape = Shape(77, 2, 1, "hostname")
    state.write_json(folder.shape_file, shape)
    assert folder.shape() == shape
    assert str(shape).endswith("load balancers with a hostname")
    clusters = shape.layout(tmp_path).clusters
    assert [one.load_balancer for one in clusters] == ["hostname"] * 2
    address = clusters[1].load_balancer_addresses[0]
    assert clusters[1].load_balancer_name(address) == "lb-150.sandbox-dc2.test"
