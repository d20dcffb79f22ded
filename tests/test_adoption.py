"""A Consul that somebody else installed: what of it is kept, and what makes it unfit, each with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consulfed_lib import adoption, helm
from consulfed_lib.checks import existing
from consulfed_lib.checks.target import Target
from consulfed_lib.helm import ADOPTED_LABEL, ORIGIN_LABEL, Release
from consulfed_lib.runner import runner_label
from consulfed_lib.values import Installed, merged, primary_values
from consulfed_lib.values.facts import ABSENT, get

from .test_helm import stored

SECRETS = "GET /api/v1/namespaces/consul/secrets"
OWN: dict[str, Any] = {
    "global": {"name": "consul", "datacenter": "dc1", "logLevel": "warn"},
    "server": {"replicas": 1, "extraLabels": {"cost-center": "4711"}, "resources": {"limits": None}},
    "connectInject": {"enabled": True},
}
DEFAULTS: dict[str, Any] = {
    "global": {
        "datacenter": "dc1",
        "domain": "consul",
        "acls": {"manageSystemACLs": False},
        "tls": {"enabled": False},
    },
    "server": {"replicas": 1, "updatePartition": 0},
    "meshGateway": {"enabled": False, "replicas": 1, "service": {"port": 443}},
    "connectInject": {"enabled": True},
}
OPTIONS = {"acls": False, "gossip_encryption": False, "upgrade": {"existing": True}}


def laid(over: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """`global__datacenter=…` and so on, over a copy."""
    from consulfed_lib.values.layers import put

    found = _copy(over)
    for path, value in paths.items():
        put(found, path.replace("__", "."), value)
    return found


def _copy(value: Any) -> Any:
    return {key: _copy(each) for key, each in value.items()} if isinstance(value, dict) else value


def release(**paths: Any) -> Release:
    values = laid(OWN, **paths)
    return Release(
        "consul",
        "consul",
        3,
        "deployed",
        "consul",
        "1.9.11",
        "1.22.7",
        values,
        (),
        "s",
        "",
        False,
        defaults=DEFAULTS,
    )


@pytest.fixture
def params(federation) -> Callable[..., Any]:
    return lambda **changes: federation(**(OPTIONS | changes))


# What is kept


def test_only_what_federation_needs_is_changed(params):
    """Everything of the user's own stays, to the last null; what is so already is not said."""
    found = primary_values(params(), Installed("consul", OWN, DEFAULTS))
    expected = laid(
        OWN, global__tls={"enabled": True}, global__federation={"enabled": True, "createFederationSecret": True},
        meshGateway={"enabled": True},
    )  # fmt: skip
    assert found == expected


def test_with_acls_the_replication_token_is_added(params):
    """And nothing else of the ACLs."""
    own = laid(OWN, global__tls={"enabled": True}, global__acls={"manageSystemACLs": True})
    found = primary_values(params(acls=True), Installed("consul", own, DEFAULTS))
    assert get(found, "global.acls") == {"manageSystemACLs": True, "createReplicationToken": True}
    assert get(found, "global.tls") == {"enabled": True}


def test_auto_encrypt_and_a_gateway_of_ones_own_stay(params):
    """The page allows the one, and the other is there already."""
    own = laid(
        OWN, global__tls={"enabled": True, "enableAutoEncrypt": True},
        meshGateway={"enabled": True, "service": {"annotations": "a: b\n"}},
    )  # fmt: skip
    found = primary_values(params(), Installed("consul", own, DEFAULTS))
    assert get(found, "global.tls") == {"enabled": True, "enableAutoEncrypt": True}
    assert get(found, "meshGateway") == {"enabled": True, "service": {"annotations": "a: b\n"}}


def test_a_partition_that_was_left_is_taken_back(params):
    """With one no federation secret is ever made (#1466)."""
    found = primary_values(params(), Installed("consul", laid(OWN, server__updatePartition=1), DEFAULTS))
    assert get(found, "server.updatePartition") == 0


def test_what_the_parameters_add_lies_over_it(params):
    """As over nothing."""
    found = primary_values(
        params(values={"global": {"logLevel": "debug"}}), Installed("consul", OWN, DEFAULTS)
    )
    assert get(found, "global.logLevel") == "debug"
    assert get(found, "server.extraLabels") == {"cost-center": "4711"}


@pytest.mark.parametrize(
    ("theirs", "change", "words"),
    [
        ({"server__replicas": 3}, {}, ("server.replicas: 3", "`servers`")),
        ({"meshGateway": {"replicas": 2}}, {}, ("meshGateway.replicas: 2", "`mesh_gateway.replicas`")),
        ({"meshGateway": {"service": {"type": "NodePort"}}}, {}, ("NodePort", "`mesh_gateway.service`")),
        ({"server__enabled": False}, {}, ("the installed release consul says server.enabled: false",)),
        ({"global__adminPartitions": {"enabled": True}}, {}, ("admin partitions",)),
    ],
    ids=["servers", "gateways", "service", "no servers", "partitions"],
)
def test_a_choice_of_its_user_is_not_undone_by_a_default_of_ours(params, theirs, change, words):
    """It is a conflict that names both, and the parameter."""
    conflicts = merged(
        params(**change), params().primary, installed=Installed("consul", laid(OWN, **theirs), DEFAULTS)
    ).conflicts
    for word in words:
        assert word in " ".join(each.sentence for each in conflicts)
    assert conflicts


def test_once_it_is_adopted_the_parameters_change_it(params):
    """As a release of ours: also back to what the chart does by itself."""
    gateway = {
        "enabled": True,
        "replicas": 2,
        "service": {"port": 8443, "type": "NodePort", "nodePort": 30443},
    }
    before = Installed("consul", laid(OWN, meshGateway=gateway), DEFAULTS, adopted=True)
    found = merged(params(mesh_gateway={"port": 9555}), params().primary, installed=before)
    assert found.conflicts == []
    expected = {"port": 9555, "type": "LoadBalancer", "nodePort": None}
    assert get(found.values, "meshGateway") == {"enabled": True, "replicas": 1, "service": expected}
    assert get(found.values, "server.extraLabels") == {"cost-center": "4711"}


def test_what_fits_has_no_conflict(params):
    """The parameter says what is there."""
    installed = Installed("consul", laid(OWN, server__replicas=3), DEFAULTS)
    assert merged(params(servers=3), params().primary, installed=installed).conflicts == []


# What is refused


@pytest.mark.parametrize(
    ("theirs", "change", "why", "instead"),
    [
        ({"global__datacenter": "old"}, {}, "datacenter 'old'", "set primary.datacenter to old"),
        ({"global__federation": {"primaryDatacenter": "hq"}}, {}, "a secondary of 'hq'", "name its primary"),
        ({"global__acls": {"replicationToken": {"secretName": "f"}}}, {}, "a secondary", "name its primary"),
        ({"global__name": "mesh"}, {}, "named mesh-…", 'set global_name to "mesh"'),
        ({"global__acls": {"manageSystemACLs": True}}, {}, "its ACLs are on", "set acls to true"),
        ({}, {"acls": True}, "its ACLs are off", "set acls to false"),
        ({"global__gossipEncryption": {"autoGenerate": True}}, {}, "gossip is encrypted", "gossip_encryption to true"),
        ({}, {"gossip_encryption": True}, "gossip is not encrypted", "gossip_encryption to false"),
        (
            {"global__gossipEncryption": {"secretName": "g", "secretKey": "k"}},
            {"gossip_encryption": True},
            "key k of secret g",
            'gossip_key to {secret: "g", key: "k"}',
        ),
        ({"global__tls": {"caCert": {"secretName": "ca"}}}, {}, "without the key", "global.tls.caKey"),
        ({"global__domain": "mesh"}, {}, "domain is 'mesh'", "values: {global: {domain: mesh}}"),
        ({"server__extraConfig": "{{ x }}"}, {}, "no JSON", "write it as JSON"),
        ({}, {"chart": {"ref": "c", "version": "2.0.3"}}, "chart 1.9.11", "upgrade.chart"),
        ({}, {"chart": {"ref": "c", "version": "1.2.1"}}, "chart 1.9.11", "set chart.version to 1.9.11"),
    ],
)  # fmt: skip
def test_what_cannot_become_the_primary_says_what_to_do_instead(params, theirs, change, why, instead):
    """One reason, and no other one beside it."""
    given = params(**change)
    ((said, do),) = adoption.refusals(given, given.primary, release(**theirs))
    assert why in said
    assert instead in do


def test_every_reason_is_said_at_once(params):
    """Nobody mends one and meets the next."""
    given = params(acls=True, gossip_encryption=True)
    assert len(list(adoption.refusals(given, given.primary, release(global__datacenter="old")))) == 3


def test_a_chart_is_moved_where_a_parameter_asks_for_it(params):
    """And only up."""
    given = params(chart={"ref": "c", "version": "2.0.3"}, upgrade={"existing": True, "chart": True})
    assert list(adoption.refusals(given, given.primary, release())) == []


# Whose release it is


def test_only_a_primary_that_may_be_upgraded_is_adopted(params, federation, cluster):
    """Not without the parameter, not in a secondary, and none that consulfed made."""
    given = params()
    assert adoption.installed(given, given.primary, cluster, release()) == Installed("consul", OWN, DEFAULTS)
    assert adoption.installed(given, given.secondaries[0], cluster, release()) is None
    assert adoption.installed(federation(), federation().primary, cluster, release()) is None
    assert adoption.installed(given, given.primary, cluster, None) is None


def test_an_upgrade_that_is_under_way_began_from_what_its_user_left(params, cluster, api):
    """Its own stages are no values of the user's; and once it was adopted, no parameter is needed any more."""
    first, third = (
        stored(1, **OWN),
        stored(3, runner=runner_label(), **laid(OWN, global__tls={"enabled": True})),
    )
    third["metadata"]["labels"] |= {ADOPTED_LABEL: "true", ORIGIN_LABEL: "1"}

    def answer(request: Any) -> tuple[int, Any]:
        one = "version=1" in request.query["labelSelector"]
        return 200, {"items": [first] if one else [first, third]}

    api.answers[SECRETS] = answer
    given = params(upgrade={})
    found = helm.release(cluster, "consul", "consul")
    assert found is not None
    assert (found.adopted, found.origin) == (True, 1)
    installed = adoption.installed(given, given.primary, cluster, found)
    assert installed is not None
    assert installed.values == OWN
    assert installed.effective("server.nothing") is ABSENT


# In preflight


@pytest.mark.parametrize(
    ("secondary", "change", "severity", "words"),
    [
        (False, {}, "error", "set upgrade.existing to true"),
        (False, OPTIONS, "ok", "its values are kept"),
        (False, OPTIONS | {"acls": True}, "error", "set acls to false"),
        (True, OPTIONS, "error", "cannot become a secondary"),
    ],
    ids=["not asked for", "fits", "acls", "secondary"],
)
def test_preflight_tells_it(federation, cluster, api, secondary, change, severity, words):
    """With what to do about it."""
    api.answers[SECRETS] = 200, {"items": [stored(1, **OWN)]}
    params = federation(**change)
    of = params.secondaries[0] if secondary else params.primary
    (found,) = existing.existing_release("dc", Target(params, of, cluster))
    assert found.severity == severity
    assert words in f"{found.found} {found.hint}"


def test_preflight_misses_what_the_parameters_say_is_there(federation, cluster, api):
    """A wrong namespace would otherwise become a second Consul."""
    api.answers[SECRETS] = 200, {"items": []}
    params = federation(upgrade={"existing": True})
    (found,) = existing.existing_release("dc1", Target(params, params.primary, cluster))
    assert found.severity == "error"
    assert "there is no release consul in consul" in found.found
