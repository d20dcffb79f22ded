"""One whole look: what is asked for is looked at or skipped, and what is not asked for is no gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.layers import ORDER
from consulfed_lib.results import Finding
from consulfed_lib.steps.proof import Proof


@pytest.fixture
def look(consul_server, federation) -> Callable[..., list[Finding]]:
    """What is found of two datacenters that answer nothing but 404, with these parameters."""

    def run(**changes: Any) -> list[Finding]:
        params = federation(**changes)
        servers = {of.datacenter: consul_server(of.datacenter, context=of.context) for of in params.clusters}
        dcs = [
            Datacenter(params, of, servers[of.datacenter].cluster, servers[of.datacenter].client)
            for of in params.clusters
        ]
        return Proof(params, dcs).look()

    return run


def test_causes_stand_before_consequences(look):
    """However the looks at the same time ended."""
    places = [ORDER[each.id] for each in look()]
    assert places == sorted(places)


def test_nothing_is_well_of_datacenters_that_answer_nothing(look):
    """Each check says that it could not look, or what it missed; not one of those that ask Consul is ok."""
    found = {(each.id, each.subject): each.severity for each in look()}
    assert {severity for (id, _), severity in found.items() if id != "secret-readers"} & {"ok"} == set()


@pytest.mark.parametrize("off", [{"enabled": False}, {"service": {"enabled": False}}])
def test_a_ui_that_the_values_turn_off_is_not_asked_for(look, off):
    """A federation without it can be proven; where only its Service is missing, that is a gap."""
    assert [each for each in look(values={"ui": off}) if each.id == "ui"] == []
    assert {each.severity for each in look() if each.id == "ui"} == {"skipped"}


def test_acls_and_gossip_keys_are_looked_at_where_they_are_on(look):
    """What is off has nothing that could be wrong."""
    acls = {"acl-replication", "auth-method", "anonymous-policy", "binding-rules", "replication-token"}
    assert acls | {"gossip-key"} <= {each.id for each in look()}
    assert not (acls | {"gossip-key"}) & {each.id for each in look(acls=False, gossip_encryption=False)}
