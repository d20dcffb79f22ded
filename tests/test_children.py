"""Child processes end with us, however we end."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from consulfed_lib import children

CODE = """
import subprocess, sys
from consulfed_lib.children import ended_with_us
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=ended_with_us())
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has ended")
def test_a_child_does_not_outlive_a_run_that_was_killed():
    """Killed without warning, a run must not leave a Helm behind that goes on changing the cluster, unseen."""
    # Our own copy of the child's standard input keeps `cat` from ending by itself.
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CODE], stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdout
        child = int(run.stdout.readline())
        descriptor = os.pidfd_open(child)
        with open(f"/proc/{child}/fd/0", "rb+", buffering=0):
            assert not select.select([descriptor], [], [], 0)[0], "it must be running by now"
            run.kill()
            try:
                assert select.select([descriptor], [], [], 10)[0], "it still runs"
            finally:
                os.close(descriptor)


def test_where_the_system_cannot_do_that_nothing_is_asked_of_it(monkeypatch):
    """macOS has no such signal; a child is started there as ever."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert children.ended_with_us() is None
