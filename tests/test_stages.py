"""An upgrade in stages: never more than one server at a time, and TLS in three rounds that no server is parted by."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from consulfed_lib.chart import ChartVersion
from consulfed_lib.values.facts import ABSENT, get
from consulfed_lib.values.stages import Stage, stages

NEW, OLD = ChartVersion.parse("1.9.11"), ChartVersion.parse("0.43.0")
EXTRA = '{"dns_config": {"service_ttl": {"*": "3s"}}}'
BEFORE: dict[str, Any] = {
    "global": {"name": "consul", "datacenter": "dc1"},
    "server": {"replicas": 3, "extraConfig": EXTRA},
}
AFTER: dict[str, Any] = {
    "global": {
        "name": "consul",
        "datacenter": "dc1",
        "tls": {"enabled": True},
        "federation": {"enabled": True, "createFederationSecret": True},
    },
    "server": {"replicas": 3, "extraConfig": EXTRA},
    "meshGateway": {"enabled": True},
}


def with_tls() -> dict[str, Any]:
    before = copy.deepcopy(BEFORE)
    before["global"]["tls"] = {"enabled": True}
    return before


def of(before: dict[str, Any], servers: int = 3, roll: bool = True, chart: ChartVersion = NEW) -> list[Stage]:
    return stages(before, AFTER, servers, roll, chart)


def test_what_touches_no_server_is_one_upgrade():
    """A gateway more, and the like."""
    (only,) = of(with_tls(), roll=False)
    assert only.values == AFTER
    assert only.partition == 0


def test_servers_go_one_by_one_from_the_highest():
    """As Kubernetes takes them; the last stage is exactly what was asked for."""
    found = of(with_tls())
    assert [stage.partition for stage in found] == [2, 1, 0]
    assert [get(stage.values, "server.updatePartition") for stage in found] == [2, 1, ABSENT]
    assert found[-1].values == AFTER
    for stage in found[:-1]:
        values = copy.deepcopy(dict(stage.values))
        del values["server"]["updatePartition"]
        assert values == AFTER


def test_tls_comes_on_in_three_rounds():
    """Taken, spoken, demanded; no two neighbouring rounds part servers from each other."""
    found = of(BEFORE)
    assert [stage.partition for stage in found] == [2, 1, 0] * 3
    taken, spoken, demanded = (found[i].values for i in (2, 5, 8))
    assert get(taken, "global.tls") == {"enabled": True, "httpsOnly": False, "verify": False}
    assert get(spoken, "global.tls") == {"enabled": True, "httpsOnly": False}
    config = json.loads(get(spoken, "server.extraConfig"))
    assert config == json.loads(EXTRA) | {"tls": {"internal_rpc": {"verify_incoming": False}}}
    assert get(taken, "server.extraConfig") == EXTRA
    assert demanded == AFTER


def test_federation_waits_for_the_last_round():
    """It needs TLS at work, and so do gateways; what was there of them before stays as it was."""
    for stage in of(BEFORE)[:6]:
        assert get(stage.values, "global.federation") is ABSENT
        assert get(stage.values, "meshGateway") is ABSENT
    before = copy.deepcopy(BEFORE) | {"meshGateway": {"enabled": False, "replicas": 2}}
    assert get(of(before)[0].values, "meshGateway") == {"enabled": False, "replicas": 2}


def test_older_consuls_have_their_settings_elsewhere():
    """The stanza `tls` came with Consul 1.12."""
    spoken = of(BEFORE, chart=OLD)[5]
    assert json.loads(get(spoken.values, "server.extraConfig"))["verify_incoming_rpc"] is False


def test_a_single_server_is_parted_from_nobody():
    """One restart is enough; where client agents are, which charts before 1.0 have, it is not."""
    assert [stage.values for stage in of(BEFORE, servers=1)] == [AFTER]
    assert len(of(BEFORE, servers=1, chart=OLD)) == 3


@pytest.mark.parametrize("extra", [None, "", "{}", {}])
def test_there_may_be_no_extra_config(extra):
    """In each way in which one can have none."""
    after = copy.deepcopy(AFTER)
    after["server"]["extraConfig"] = extra
    spoken = stages(BEFORE, after, 3, True, NEW)[5]
    assert json.loads(get(spoken.values, "server.extraConfig")) == {
        "tls": {"internal_rpc": {"verify_incoming": False}}
    }


def test_an_extra_config_that_is_no_json_cannot_be_added_to():
    """A template; nobody guesses what it comes to."""
    after = copy.deepcopy(AFTER)
    after["server"]["extraConfig"] = "{{ .Values.x }}"
    with pytest.raises(ValueError, match="no JSON"):
        stages(BEFORE, after, 3, True, NEW)


def test_every_stage_can_be_told_from_the_others():
    """By its values alone: that is how an upgrade that was killed finds where it stands."""
    for found in (of(BEFORE), of(with_tls())):
        values = [stage.values for stage in found]
        assert all(each not in values[:i] for i, each in enumerate(values))
        assert BEFORE not in values


def test_nothing_given_is_changed():
    """Stages are copies."""
    before, after = copy.deepcopy(BEFORE), copy.deepcopy(AFTER)
    of(BEFORE)
    assert (before, after) == (BEFORE, AFTER)
