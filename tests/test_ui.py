"""The way to each datacenter's UI and to its token, and the check that it tells of every datacenter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.ui import ui
from consulfed_lib.params import Federation
from consulfed_lib.steps.ui import directions, token_directions

from .conftest import ConsulServer

SERVICE = "GET /api/v1/namespaces/consul/services/consul-ui"


@pytest.fixture
def dc(federation: Callable[..., Federation], consul_server: Callable[..., ConsulServer]) -> Any:
    """The primary, whose UI is well."""
    params, server = federation(), consul_server("dc1", context="one")
    server.api.answers[SERVICE] = 200, {"spec": {"ports": [{"name": "https", "port": 443}]}}
    server.consul.answers["GET /ui/"] = 200, b"<html>"
    server.answers("catalog/datacenters", ["dc2", "dc1"])
    return Datacenter(params, params.primary, server.cluster, server.client), server


def test_a_ui_that_lists_all_is_ok(dc: tuple[Datacenter, ConsulServer]) -> None:
    """Its page answers, and the list is the one that the UI's menu shows."""
    (finding,) = ui("dc1", dc[0])
    assert (finding.severity, finding.found) == ("ok", "it lists dc1, dc2")


def test_a_list_that_lacks_one_is_named(dc: tuple[Datacenter, ConsulServer]) -> None:
    """So is a page that does not answer."""
    dc[1].answers("catalog/datacenters", ["dc1"])
    dc[1].consul.answers["GET /ui/"] = 404, b""
    (finding,) = ui("dc1", dc[0])
    assert (finding.severity, finding.found) == ("warning", "GET /ui/ answers 404; its list lacks dc2")


def test_a_ui_that_is_turned_off_is_skipped(dc: tuple[Datacenter, ConsulServer]) -> None:
    """Which is no green tick."""
    del dc[1].api.answers[SERVICE]
    (finding,) = ui("dc1", dc[0])
    assert finding.severity == "skipped"
    assert "turn it off" in repr(directions(dc[0]))


def test_directions_are_commands_to_copy(dc: tuple[Datacenter, ConsulServer]) -> None:
    """A port-forward always works; a load balancer's address is given where there is one."""
    text = repr(directions(dc[0]))
    assert "kubectl --context one -n consul port-forward service/consul-ui 8501:443" in text
    assert "https://localhost:8501/ui/" in text
    balanced = {"loadBalancer": {"ingress": [{"hostname": "ui.example.com"}]}}
    dc[1].api.answers[SERVICE] = (
        200, {"spec": {"ports": [{"name": "https", "port": 443}]}, "status": balanced},
    )  # fmt: skip
    assert "https://ui.example.com:443/ui/" in repr(directions(dc[0]))


def test_the_token_is_named_and_never_read(federation: Callable[..., Federation]) -> None:
    """It is in the primary only; one that the user gave is where the values say; without ACLs there is none."""
    text = repr(token_directions(federation()))
    assert "key token of Secret consul/consul-bootstrap-acl-token in the primary, one" in text
    own = {"global": {"acls": {"bootstrapToken": {"secretName": "mine", "secretKey": "admin"}}}}
    assert "key admin of Secret consul/mine" in repr(token_directions(federation(values=own)))
    assert "ACLs are off" in repr(token_directions(federation(acls=False)))
