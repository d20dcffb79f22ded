"""Cause and consequence: the first broken layer is named, what stands on it is told apart, and nothing is hidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.canary import acl_canary
from consulfed_lib.checks import CATALOGUE, federation, layers
from consulfed_lib.checks.consul_state import CONSUL_CHECKS
from consulfed_lib.checks.drift import gateway_addresses
from consulfed_lib.checks.layers import LAYERS, ORDER, Cause, causes, in_order, layer, links, worst
from consulfed_lib.checks.ledger import LEDGER_CHECKS
from consulfed_lib.checks.local_files import local_files
from consulfed_lib.checks.network import (
    api_url_from_primary,
    api_url_from_secondary,
    gateway_from_primary,
    gateway_from_secondary,
)
from consulfed_lib.checks.permissions import permissions
from consulfed_lib.checks.preflight import api_reachable
from consulfed_lib.checks.readers import secret_readers
from consulfed_lib.checks.ui import ui
from consulfed_lib.checks.why import WHY
from consulfed_lib.results import Finding, Severity
from consulfed_lib.steps.connect import server_pod_ready
from consulfed_lib.steps.over_time import stability

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DCS = ("dc1", "dc2", "dc3")

VERIFICATION = {
    each.id
    for each in (
        api_reachable, permissions, server_pod_ready, *CONSUL_CHECKS, *LEDGER_CHECKS, gateway_addresses,
        gateway_from_secondary, gateway_from_primary, api_url_from_primary, api_url_from_secondary,
        ui, secret_readers, local_files, stability, acl_canary,
    )
} | set(federation.LAYERS)  # fmt: skip
"""Every check that 04-verification and `consulfed verify` run."""


def broken(id: str, subject: str, severity: Severity = "error") -> Finding:
    return Finding(id, subject, severity, f"{id} is broken")


def told(found: list[Cause]) -> dict[str, list[str]]:
    """Cause → what follows from it, each as `check subject`."""
    return {
        f"{cause.finding.id} {cause.finding.subject}": [f"{f.id} {f.subject}" for f in cause.consequences]
        for cause in found
    }


def gateway_down(of: str, primary: str = "dc1") -> list[Finding]:
    """What a look finds while the only gateway of a datacenter is down: the way in, and what needs it."""
    found = [broken("gateway-registered", of)]
    for other in DCS:
        if other == of:
            continue
        found += [broken("node-health", f"{other} → {of}"), broken("catalog-services", f"{other} → {of}")]
        network = "gateway-from-secondary" if of == primary else "gateway-from-primary"
        found.append(broken(network, f"{other} → {of}"))
        found += [broken("wan-members", other), broken("federation-states", other), broken("ui", other)]
        if of == primary:
            found += [broken("acl-replication", other), broken("primary-gateways", other)]
            found.append(broken("node-health", f"{of} → {other}"))
    return found


# The tables


def test_every_check_of_the_verification_has_a_layer_and_a_reason():
    """What a look can find has its place among causes, and tells who is woken up by it why it matters."""
    assert set(ORDER) == VERIFICATION == set(WHY)
    assert all(layer(id) for id in VERIFICATION)
    assert all(why.matters for why in WHY.values())


def test_a_check_stands_in_one_layer():
    """Or its place among causes would be two places."""
    ids = [id for each in LAYERS.values() for id in each]
    assert len(ids) == len(set(ids)) == len(ORDER)


@pytest.mark.parametrize(
    "table",
    [
        "ORDER",
        "_FOLLOW",
        "_FOLLOW_ONLY",
        "_FROM_THE_PRIMARY",
        "_FELT_EVERYWHERE",
        "_OF_ALL",
        "_COPIES",
        "_OF_COPIES",
        "_INDEPENDENT",
    ],
)
def test_every_id_in_the_tables_is_a_check(table):
    """A check that gets another name must get it here, too."""
    assert set(getattr(layers, table)) <= set(CATALOGUE)
    assert set().union(*layers._FOLLOW_ONLY.values()) <= set(CATALOGUE)


def test_what_follows_from_the_primary_or_from_all_follows_at_all():
    """The narrower tables say from where; a check that is not in the first one would never be asked."""
    narrower = layers._FROM_THE_PRIMARY | layers._OF_ALL | layers._OF_COPIES
    assert narrower <= layers._FOLLOW | set(layers._FOLLOW_ONLY)
    assert not layers._FOLLOW & set(layers._FOLLOW_ONLY)


def test_both_orders_of_cause_and_consequence_are_the_same():
    """03-secondary-setup goes by the federation's own order, the verification by the layers."""
    assert sorted(federation.LAYERS, key=ORDER.__getitem__) == federation.LAYERS


def headings(notebook: str) -> list[str]:
    cells: list[dict[str, Any]] = json.loads((NOTEBOOKS / notebook).read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    lines = [line for text in texts for line in text.splitlines()]
    return [line.lstrip("#").strip() for line in lines if line.startswith("#")]


@pytest.mark.parametrize("link", sorted({why.notebook for why in WHY.values() if why.notebook}))
def test_the_link_to_what_mends_it_leads_to_a_section(link):
    """Jupyter's anchors are headings: one that is not there leads to the top of the page, or nowhere."""
    notebook, _, section = link.partition("#")
    assert section in headings(notebook)


# Order


def test_causes_stand_before_consequences():
    """Whatever the order in which checks ended; one that has no layer comes last."""
    ids = ["made-up", "ui", "node-health", "servers", "secret-copy", "api-reachable"]
    found = in_order(broken(id, "dc1") for id in ids)
    assert [f.id for f in found] == ids[::-1]
    assert layer("made-up") == ""


def test_where_nothing_is_broken_there_is_no_cause():
    """A warning breaks nothing, and what was not looked at is not known to be broken."""
    severities: tuple[Severity, ...] = ("ok", "warning", "skipped")
    assert causes(broken(id, "dc1", each) for id in ORDER for each in severities) == []


# Causes


@pytest.mark.parametrize("of", ["dc1", "dc2"])
def test_one_gateway_that_is_down_is_one_cause(of):
    """In the primary, where everything of the secondaries comes through, and in a secondary."""
    found = gateway_down(of)
    (cause,) = causes(found, "dc1")
    assert (cause.finding.id, cause.finding.subject) == ("gateway-registered", of)
    assert len(cause.consequences) == len(found) - 1


def test_an_expired_certificate_of_servers_is_one_cause():
    """They are asked over TLS and not believed; another datacenter's servers that do not answer are a cause still."""
    found = [broken(id, "dc2") for id in ("gateway-registered", "autopilot", "servers", "server-certificate")]
    assert told(causes([*found, broken("servers", "dc3")], "dc1")) == {
        "server-certificate dc2": ["servers dc2", "autopilot dc2", "gateway-registered dc2"],
        "servers dc3": [],
    }


def test_a_replication_token_that_was_revoked_is_one_cause():
    """Every datacenter is asked with the primary's, and a copy holds the same one."""
    ids = ("replication-token", "servers", "autopilot", "gateway-registered", "anonymous-policy")
    found = [broken(id, dc) for dc in DCS for id in ids]
    (cause,) = causes(found, "dc1")
    assert (cause.finding.id, cause.finding.subject) == ("replication-token", "dc1")
    assert len(cause.consequences) == len(found) - 1


def test_a_copy_with_another_replication_token_is_that_datacenters():
    """Nobody else is asked with it."""
    found = [broken("replication-token", "dc2"), broken("servers", "dc2"), broken("servers", "dc3")]
    assert told(causes(found, "dc1")) == {"replication-token dc2": ["servers dc2"], "servers dc3": []}


def test_two_gateways_that_are_down_are_two_causes():
    """Mending the first leaves the second."""
    found = causes([*gateway_down("dc2"), *gateway_down("dc3")], "dc1")
    assert [c.finding.subject for c in found] == ["dc2", "dc3"]


def test_a_stale_copy_and_a_server_that_is_down_are_two_causes():
    """Neither is the other's, though both speak of the same datacenter."""
    found = [broken("secret-copy", "dc2"), broken("federation-secret", "dc2"), broken("servers", "dc2")]
    assert told(causes(found, "dc1")) == {"secret-copy dc2": ["federation-secret dc2"], "servers dc2": []}


def test_a_missing_proxy_defaults_is_missing_everywhere():
    """It is made in the primary, and comes to the secondaries from there: one cause, whichever was looked at first."""
    found = [broken("proxy-defaults", each) for each in reversed(DCS)]
    assert told(causes(found, "dc1")) == {"proxy-defaults dc1": ["proxy-defaults dc3", "proxy-defaults dc2"]}


def test_a_proxy_defaults_that_one_secondary_lacks_is_its_own_cause():
    """The primary has it, so that it did not come from there."""
    assert told(causes([broken("proxy-defaults", "dc3")], "dc1")) == {"proxy-defaults dc3": []}


def test_a_copy_with_old_addresses_is_one_cause():
    """The check of addresses speaks of the gateways of the primary, and what it found is in the copy."""
    found = [
        broken("secret-copy", "dc2"),
        broken("federation-secret", "dc2"),
        broken("gateway-addresses", "dc1"),
    ]
    assert list(told(causes(found, "dc1"))) == ["secret-copy dc2"]
    assert list(told(causes(found[2:], "dc1"))) == ["gateway-addresses dc1"]


def test_a_datacenter_without_a_leader_is_one_cause():
    """Whatever else is asked of its servers is answered with an error."""
    ids = [
        "autopilot", "gateway-registered", "gateway-address", "datacenters", "wan-members", "gossip-keys",
        "federation-states", "acl-replication", "auth-method", "anonymous-policy", "connect-ca",
        "proxy-defaults", "ui",
    ]  # fmt: skip
    found = [broken("servers", "dc1"), *(broken(id, "dc1") for id in ids), broken("auth-method", "dc2")]
    assert list(told(causes(found, "dc1"))) == ["servers dc1"]


@pytest.mark.parametrize("one", ["auth-method", "anonymous-policy", "api-url-from-secondary", "secret-copy"])
@pytest.mark.parametrize("other", ["secret-readers", "gossip-keys", "binding-rules", "proxy-defaults"])
def test_what_is_independent_stays_a_cause(one, other):
    """Mending the one leaves the other, in the same datacenter too; only a copy may be why nothing comes."""
    expected: dict[str, list[str]] = {f"{one} dc2": [], f"{other} dc2": []}
    if (one, other) == ("secret-copy", "proxy-defaults"):
        expected = {"secret-copy dc2": ["proxy-defaults dc2"]}
    assert told(causes([broken(one, "dc2"), broken(other, "dc2")], "dc1")) == expected


def test_a_way_that_is_shut_says_nothing_of_other_ways():
    """The firewall of one secondary does not explain what another one cannot reach; at one end it does."""
    found = [broken("gateway-from-secondary", "dc2 → dc1"), broken("node-health", "dc3 → dc1")]
    assert len(causes(found, "dc1")) == 2
    found = [broken("gateway-from-secondary", "dc2 → dc1"), broken("gateway-from-primary", "dc1 → dc2")]
    assert len(causes(found, "dc1")) == 2
    found = [broken("gateway-from-secondary", f"{each} → dc1") for each in ("dc2", "dc3")]
    assert told(causes(found, "dc1")) == {
        "gateway-from-secondary dc2 → dc1": ["gateway-from-secondary dc3 → dc1"]
    }


def test_the_nearest_cause_is_named():
    """A copy that is stale breaks nothing until servers restart: it is the gateway that is down that does."""
    found = [
        broken("secret-copy", "dc2"),
        broken("gateway-registered", "dc2"),
        broken("wan-members", "dc1"),
    ]
    assert told(causes(found, "dc1")) == {
        "secret-copy dc2": [],
        "gateway-registered dc2": ["wan-members dc1"],
    }


def test_no_error_is_lost():
    """Each is a cause or follows from one, exactly once, whatever is broken at once."""
    found = [broken(id, subject) for id in ORDER for subject in (*DCS, "dc1 → dc2", "dc3 → dc1")]
    seen = [f for cause in causes(found, "dc1") for f in (cause.finding, *cause.consequences)]
    assert sorted(seen, key=str) == sorted(found, key=str)


# Links


def test_a_link_has_its_own_verdict_and_first_broken_layer():
    """Of the checks of that direction only: the other direction, and the datacenters, have their own."""
    found = [
        broken("node-health", "dc1 → dc2"),
        broken("gateway-from-primary", "dc1 → dc2"),
        broken("node-health", "dc2 → dc1", "ok"),
        broken("servers", "dc2"),
    ]
    assert links(found, ["dc1", "dc2"]) == {("dc1", "dc2"): ("error", "network"), ("dc2", "dc1"): ("ok", "")}


def test_a_pair_that_nobody_looked_at_is_skipped():
    """No check of it at all, or one that could not look beside one that is well: never ok."""
    assert links([], ["dc1", "dc2"]) == dict.fromkeys([("dc1", "dc2"), ("dc2", "dc1")], ("skipped", ""))
    found = [broken("catalog-services", "dc1 → dc2", "ok"), broken("node-health", "dc1 → dc2", "skipped")]
    assert links(found, ["dc1", "dc2"])["dc1", "dc2"] == ("skipped", "RPC through gateways")


@pytest.mark.parametrize(
    ("severities", "expected"),
    [
        ([], ("skipped", "")),
        (["ok", "ok"], ("ok", "")),
        (["ok", "skipped"], ("skipped", "servers")),
        (["skipped", "warning"], ("warning", "servers")),
        (["warning", "error"], ("error", "servers")),
    ],
)
def test_the_worst_counts(severities, expected):
    """An error before a warning before what was not looked at, and nothing at all is not well."""
    ids = ["server-ca", "servers"] if len(severities) == 2 else []
    assert worst([broken(id, "dc1", each) for id, each in zip(ids, severities, strict=True)]) == expected
