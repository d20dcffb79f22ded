"""What is lost between which clusters, and what only one of them notices."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

from consulfed_lib.sandbox.disturbances import CUT_OFF, DROPPED, OUTSIDE, SLOW, Disturbance, Disturbances
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.network import Network


def disturbed(*now: Disturbance) -> Disturbances:
    made = Disturbances()
    made.set(now)
    return made


def lost(disturbances: Disturbances) -> set[tuple[int, int]]:
    """(from, to) of every way between three clusters and the world on which packets vanish."""
    return {(a, b) for a in range(4) for b in range(1, 4) if disturbances.vanishes(a, b)}


def test_a_firewall_closes_one_way():
    """Neither the other way, nor anybody else's."""
    assert lost(disturbed(Disturbance(DROPPED, 1, 2))) == {(2, 1)}
    assert lost(disturbed(Disturbance(SLOW, 1))) == lost(disturbed()) == set()


def test_who_is_cut_off_neither_hears_nor_is_heard():
    """But within the cluster all goes on."""
    assert lost(disturbed(Disturbance(CUT_OFF, 2))) == {(OUTSIDE, 2), (1, 2), (3, 2), (2, 1), (2, 3)}


def test_networks_are_those_of_the_clusters(tmp_path: Path):
    """And where nothing has an address of its own, this machine's."""
    network = Network(ClusterLayout(tmp_path, 77, 2, 1), disturbed(Disturbance(CUT_OFF, 2)))

    def is_lost(address: str) -> bool:
        return any(ip_address(address) in one for one in network.lost())

    assert is_lost("127.77.1.10")
    assert is_lost("127.77.3.150")
    assert is_lost("127.0.0.1")
    assert not is_lost("127.77.2.10")


def test_no_connection_is_ignored_where_nothing_is_lost(tmp_path: Path):
    """Nobody's processes are looked at then."""
    network = Network(ClusterLayout(tmp_path, 77, 2, 1), disturbed(Disturbance(DROPPED, 1, 2)), tmp_path)
    assert not asyncio.run(network.ignores(("127.0.0.1", 1)))


def test_subscribers_hear_of_changes_only():
    """Once for each, and no more after they have said so."""
    disturbances, heard = Disturbances(), []
    forget = disturbances.subscribe(lambda: heard.append(1))
    disturbances.set([])
    disturbances.set([Disturbance(SLOW, 1)])
    disturbances.set([Disturbance(SLOW, 1)])
    forget()
    disturbances.set([])
    assert heard == [1]
