"""Whether who made something is still at work: what may be alive is left alone."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from consulfed_lib.runner import runner_is_gone, runner_label


def test_a_runner_is_gone_when_its_process_has_ended(child):
    """Not before."""
    label = runner_label(child.pid)
    assert not runner_is_gone(label)
    child.kill()
    child.wait()
    assert runner_is_gone(label)


def test_we_ourselves_run_no_helm_while_we_look():
    """In JupyterLab the kernel lives on after a Helm that could not end in good order; it may go on by itself."""
    assert runner_label() == runner_label(os.getpid())
    assert runner_is_gone(runner_label())
    assert not runner_is_gone(runner_label(os.getppid()))


def test_a_pid_that_was_given_to_another_process_is_no_runner(child):
    """The start time tells; the pid alone would keep a dead run alive for ever."""
    host, pid, started = runner_label(child.pid).rsplit(".", 2)
    assert runner_is_gone(f"{host}.{pid}.{int(started) - 1}")


@pytest.mark.parametrize("label", ["", "host", "other-host.1.5", "other-host.999999999.5", "..", "a.b.c"])
def test_a_runner_elsewhere_counts_as_alive(label):
    """What cannot be known must not cost somebody their release."""
    assert not runner_is_gone(label)


@pytest.mark.parametrize(
    ("space", "id", "is_gone"),
    [("pid:[4026531836]", "one", True), ("pid:[4026531836]", "", False), ("pid:[4026532201]", "one", False)],
)
def test_a_runner_is_gone_when_its_machine_was_started_again(monkeypatch, space, id, is_gone):
    """Where it is known to be the same one: a container has its name and its machine-id from an image."""
    facts = {"/etc/machine-id": id, "/proc/sys/kernel/random/boot_id": "first"}
    monkeypatch.setattr(Path, "read_text", lambda path: facts.get(str(path), "1 (x) S" + " 7" * 20))
    monkeypatch.setattr(os, "readlink", lambda path: space)
    label = runner_label(os.getppid())
    assert not runner_is_gone(label)
    facts["/proc/sys/kernel/random/boot_id"] = "second"
    assert runner_is_gone(label) is is_gone
    facts["/etc/machine-id"] = "another"
    assert not runner_is_gone(label)


@pytest.mark.parametrize("name", ["host", "Host.example.com", "-x-", "ünï", "h" * 70, "", "---"])
def test_a_runners_label_is_one_that_kubernetes_takes(monkeypatch, name):
    """At most 63 characters, letters and digits at both ends; host names are anything."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    label = runner_label()
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", label)
    assert not runner_is_gone(runner_label(os.getppid()))
