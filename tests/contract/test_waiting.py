"""How soon a wait of ours notices what happens in a cluster, and what it leaves behind."""

from __future__ import annotations

import threading
import time

import pytest
from kubernetes import client

from consulfed_lib.bell import Bell
from consulfed_lib.cluster import Cluster, resource_path
from consulfed_lib.waiting import Seen, wait_for

from .conftest import Target

SOON = 0.5
"""Seconds within which a change is noticed."""


@pytest.fixture
def cluster(target: Target) -> Cluster:
    return Cluster(target.context, str(target.kubeconfig))


def listeners() -> list[threading.Thread]:
    """Threads that follow a watch."""
    return [thread for thread in threading.enumerate() if thread.name.endswith(f"({Bell._listen.__name__})")]


def test_a_wait_notices_a_change_soon(cluster: Cluster, core: client.CoreV1Api, namespace: str) -> None:
    """Long after it began to wait, and although a look by itself would come every two seconds only."""
    made: list[float] = []

    def write() -> None:
        core.create_namespaced_secret(namespace, {"metadata": {"name": "late"}})
        made.append(time.monotonic())

    def look() -> Seen:
        found = cluster.get("secrets", namespace, "late")
        return Seen(found is not None, "there" if found else "not there yet")

    writer = threading.Timer(2.5, write)
    writer.start()
    with cluster.watching(resource_path("secrets", namespace)) as bell:
        wait_for("a secret", look, 30, until_changed=bell.wait)
    noticed = time.monotonic()
    writer.join()
    assert noticed - made[0] < SOON


def test_a_watch_ends_with_its_wait(cluster: Cluster, namespace: str) -> None:
    """The server would keep it open for five minutes, and a run has many waits."""
    before = set(listeners())
    path = resource_path("secrets", namespace)
    with cluster.watching(path, resource_path("configmaps", namespace)) as bell:
        bell.wait(10)
        mine = set(listeners()) - before
        assert len(mine) == 2
        time.sleep(SOON)  # so that both are in the middle of their watch
    for thread in mine:
        thread.join(5)
    assert not [thread for thread in mine if thread.is_alive()]
