"""Packets that vanish for one sender and for no other, without the rights of an administrator."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from consulfed_lib.sandbox.packets import drop_from

HERE, PORT = "127.95.1.150", 8443
LOST, ALSO_LOST, FREE = "127.95.2.10", "127.95.4.10", "127.95.3.10"
NETWORKS = [ip_network("127.95.2.0/24"), ip_network("127.95.4.0/24")]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server((HERE, PORT)) as server:
        yield server


def dial(source: str, seconds: float = 5) -> socket.socket:
    made = socket.socket()
    made.settimeout(seconds)
    made.bind((source, 0))
    made.connect((HERE, PORT))
    return made


def test_who_is_named_is_not_answered_and_who_is_not_is(listening):
    """A connection from there does not come about, with no refusal either; from elsewhere it does."""
    drop_from(listening, NETWORKS)
    for source in (LOST, ALSO_LOST):
        with pytest.raises(TimeoutError):
            dial(source, 0.2)
    for source in (FREE, "127.0.0.1"):
        dial(source).close()


def test_a_connection_that_is_there_is_cut_and_mended(listening):
    """What was sent meanwhile arrives when packets arrive again, as after a firewall's mistake."""
    with dial(LOST) as client, listening.accept()[0] as taken:
        drop_from(taken, NETWORKS)
        client.sendall(b"late")
        taken.settimeout(0.2)
        with pytest.raises(TimeoutError):
            taken.recv(4)
        drop_from(taken, [])
        taken.settimeout(10)
        assert taken.recv(4) == b"late"


def test_nothing_is_lost_any_more(listening):
    """Taken back, also twice and where nothing was lost."""
    drop_from(listening, [])
    drop_from(listening, NETWORKS)
    drop_from(listening, [])
    drop_from(listening, [])
    dial(LOST).close()
