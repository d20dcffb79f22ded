"""Lint of Helm values: unknown and misplaced keys, and what the chart does not check of a federation."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import consulfed_lib.sandbox
from consulfed_lib.chart import WINDOWS, ChartVersion
from consulfed_lib.values import primary_values, secondary_values
from consulfed_lib.values.facts import ABSENT, FACTS, Datacenter, get
from consulfed_lib.values.lint import READ_BY_TEMPLATES, misplaced, role_mistakes, unknown_keys

CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
API_URL = "https://10.0.0.2:6443"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"acls": False},
    {"gossip_encryption": False},
    {"gossip_key": {"secret": "own", "key": "k"}},
    {"global_name": "", "fullname_override": "mesh"},
    {"mesh_gateway": {"service": "NodePort", "node_port": 30443}},
    {"mesh_gateway": {"service": "ClusterIP", "wan_address": "NodeIP", "wan_port": 8443}},
    {"mesh_gateway": {"wan_address": "NodeName"}},
]


def charts() -> list[Path]:
    """The sandbox's chart, and every unpacked chart of HashiCorp's below $CONSULFED_CHARTS."""
    folder = os.environ.get("CONSULFED_CHARTS")
    official = sorted(Path(folder).glob("*/values.yaml")) if folder else []
    return [CHART, *(file.parent for file in official)]


def read(chart: Path) -> tuple[str, dict[str, Any]]:
    """Version and values of a chart's folder."""
    metadata, values = (
        yaml.load((chart / name).read_text(), Loader=yaml.CSafeLoader)
        for name in ("Chart.yaml", "values.yaml")
    )
    return str(metadata["version"]), values


@pytest.fixture
def both(federation):
    """Final values of a primary and of a secondary for a chart's version, and their parameters."""

    def make(version: str = "1.9.11", **changes: Any) -> list[Datacenter]:
        params = federation(chart={"ref": "hashicorp/consul", "version": version}, **changes)
        second = params.secondaries[0]
        values = primary_values(params), secondary_values(params, second, API_URL)
        rows = zip(params.clusters, ("primary", "secondary"), values, strict=True)
        return [
            Datacenter(of.datacenter, role, each, params.chart.parsed, "dc1", params.secret_name)  # type: ignore[arg-type]
            for of, role, each in rows
        ]

    return make


# Keys


@pytest.mark.parametrize("chart", charts(), ids=lambda chart: chart.name)
def test_our_values_are_all_known_to_each_official_chart(both, chart):
    """Both roles, every option: a false alarm would stop a change for nothing. What is misplaced is found in each."""
    version, known = read(chart)
    number = ChartVersion.parse(version)
    assert unknown_keys(known, known) == []
    assert list(misplaced(known)) == []
    for options in OPTIONS:
        generates = options.get("gossip_encryption", True) and "gossip_key" not in options
        full = "consul" if options.get("global_name", "consul") else "mesh"
        if generates and not (
            number.finds_generated_key or (number.exports_generated_key and full == "consul")
        ):
            continue
        datacenters = both(version, **options)
        assert [unknown_keys(each.values, known) for each in datacenters] == [[], []]
        assert role_mistakes(datacenters) == []
    values = copy.deepcopy(both(version, gossip_encryption=False)[0].values)
    values["federation"] = values["global"].pop("federation")  # type: ignore[index]
    (line,) = unknown_keys(values, known)
    assert line.startswith("federation: ")
    assert line.endswith("it belongs under global")


OFFICIAL: list[Any] = charts()[1:] or [
    pytest.param(
        CHART, marks=pytest.mark.skip(reason="CONSULFED_CHARTS is not set: no official chart was linted")
    )
]


@pytest.mark.parametrize("chart", OFFICIAL, ids=lambda chart: chart.name)
def test_each_official_chart_has_the_keys_of_its_generation(chart):
    """The table of what came and went is that of the charts themselves."""
    version, known = read(chart)
    found = {path: get(known, path) is not ABSENT for path in WINDOWS}
    assert found == {path: ChartVersion.parse(version).knows(path) for path in WINDOWS}


KNOWN: dict[str, Any] = {
    "global": {
        "enabled": True,
        "federation": {"enabled": False, "createFederationSecret": False},
        "acls": {"manageSystemACLs": False},
        "extraLabels": {},
        "imageK8S": "x",
    },
    "server": {"replicas": 1, "annotations": None, "resources": {"limits": {"cpu": "1"}}, "tolerations": ""},
    "meshGateway": {"replicas": 1, "service": {"port": 443}},
    "client": {"extraVolumes": []},
}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"federation": {"enabled": True}}, "federation: the chart has no such key; it belongs under global"),
        (
            {"global": {"createFederationSecret": True}},
            "global.createFederationSecret: the chart has no such key; it belongs under global.federation",
        ),
        (
            {"manageSystemACLs": True},
            "manageSystemACLs: the chart has no such key; it belongs under global.acls",
        ),
        (
            {"global": {"meshGateway": {}}},
            "global.meshGateway: the chart has no such key; it belongs to the top",
        ),
        (
            {"server": {"replica": 3}},
            "server.replica: the chart has no such key; did you mean `server.replicas`?",
        ),
        (
            {"global": {"imageK8s": "y"}},
            "global.imageK8s: the chart has no such key; did you mean `global.imageK8S`?",
        ),
        ({"colour": "blue"}, "colour: the chart has no such key"),
        ({"meshGateway": True}, "meshGateway: true; the chart has a mapping there"),
        (
            {"server": {"replicas": {"a": 1}}},
            'server.replicas: {"a": 1}; the chart has a single value there, 1',
        ),
    ],
)
def test_an_unknown_key_is_named_with_what_was_meant(values, sentence):
    """Helm says nothing of it; the key that was meant is most of the mending."""
    assert unknown_keys(values, KNOWN) == [sentence]


@pytest.mark.parametrize(
    "values",
    [
        {"server": {"annotations": {"a/b": "c"}}},
        {"server": {"tolerations": [{"key": "x"}]}},
        {"server": {"resources": {"requests": {"memory": "1Gi"}}}},
        {"global": {"extraLabels": {"federation": "eu"}}},
        {"client": {"extraVolumes": [{"any": "thing"}]}},
        {"meshGateway": None},
        {"fullnameOverride": "mesh", "nameOverride": "mesh"},
    ],
)
def test_what_may_hold_anything_ends_the_walk(values):
    """Free-form maps, lists and texts, null, and the keys that templates read though values.yaml lists them not."""
    assert unknown_keys(values, KNOWN) == []
    assert list(misplaced(values)) == []


def test_keys_that_templates_read_are_no_mistake_whatever_their_version():
    """Not one of them may stop a change."""
    for path in READ_BY_TEMPLATES:
        *parents, last = path.split(".")
        values: dict[str, Any] = {last: "x"}
        known: dict[str, Any] = {"other": 1}
        for key in reversed(parents):
            values, known = {key: values}, {key: known}
        assert unknown_keys(values, known) == []


# Roles


def changed(of: Datacenter, path: str, value: Any) -> Datacenter:
    """The same datacenter with one value replaced; ABSENT takes it out."""
    values = copy.deepcopy(dict(of.values))
    *parents, last = path.split(".")
    inner = values
    for key in parents:
        inner = inner.setdefault(key, {})
    inner.pop(last, None)
    if value is not ABSENT:
        inner[last] = value
    return Datacenter(of.name, of.role, values, of.chart, of.primary, of.secret)


VOLUME = {
    "type": "secret",
    "name": "consul-federation",
    "load": True,
    "items": [{"key": "serverConfigJSON", "path": "config.json"}],
}
FIRES: list[tuple[str, int, str, Any]] = [
    # check, which datacenter, key, value
    ("values-datacenter", 0, "global.datacenter", "DC1"),
    ("values-datacenter", 1, "global.datacenter", "dc1"),
    ("values-tls", 0, "global.tls.enabled", False),
    ("values-tls-alike", 1, "global.tls.enabled", ABSENT),
    ("values-federation", 1, "global.federation.enabled", ABSENT),
    ("values-components", 0, "global.enabled", False),
    ("values-components", 0, "server.enabled", False),
    ("values-components", 0, "server.connect", False),
    ("values-components", 1, "meshGateway.enabled", ABSENT),
    ("values-components", 1, "connectInject.enabled", False),
    ("values-components", 1, "global.experiments", ["resource-apis"]),
    ("values-admin-partitions", 0, "global.adminPartitions.enabled", True),
    ("values-external-servers", 1, "externalServers.enabled", True),
    ("values-secrets-backend", 1, "global.secretsBackend.vault.enabled", True),
    ("values-update-partition", 0, "server.updatePartition", 3),
    ("values-gateway-service-name", 0, "meshGateway.consulServiceName", "edge"),
    ("values-bootstrap-expect", 0, "server.bootstrapExpect", 3),
    ("values-primary-names-primary", 0, "global.federation.primaryDatacenter", "dc1"),
    ("values-primary-names-primary", 0, "global.federation.primaryGateways", ["10.0.0.1:443"]),
    ("values-federation-secret", 0, "global.federation.createFederationSecret", ABSENT),
    ("values-federation-secret", 1, "global.federation.createFederationSecret", True),
    ("values-replication-token", 0, "global.acls.createReplicationToken", False),
    ("values-replication-token", 0, "global.acls.replicationToken.secretName", "x"),
    ("values-replication-token", 1, "global.acls.createReplicationToken", True),
    ("values-replication-token", 1, "global.acls.replicationToken.secretName", "other"),
    ("values-replication-token", 1, "global.acls.replicationToken.secretKey", "token"),
    ("values-acls-alike", 1, "global.acls.manageSystemACLs", False),
    ("values-gossip-alike", 1, "global.gossipEncryption", {}),
    ("values-gossip-key", 1, "global.gossipEncryption.autoGenerate", True),
    ("values-gossip-key", 1, "global.gossipEncryption.secretName", "other"),
    ("values-gossip-key", 1, "global.gossipEncryption.secretKey", "key"),
    ("values-primary-datacenter", 1, "global.federation.primaryDatacenter", ABSENT),
    ("values-primary-datacenter", 1, "global.federation.primaryDatacenter", "dc3"),
    ("values-auth-method-host", 1, "global.federation.k8sAuthMethodHost", ABSENT),
    ("values-auth-method-host", 1, "global.federation.k8sAuthMethodHost", "10.0.0.1:6443"),
    ("values-shared-ca", 1, "global.tls.caCert.secretName", ABSENT),
    ("values-shared-ca", 1, "global.tls.caCert.secretKey", "tls.crt"),
    ("values-shared-ca", 1, "global.tls.caKey.secretName", "other"),
    ("values-shared-ca", 1, "global.tls.caKey.secretKey", "tls.key"),
    ("values-secret-volume", 1, "server.extraVolumes", ABSENT),
    ("values-secret-volume", 1, "server.extraVolumes", [VOLUME | {"load": "true"}]),
    ("values-secret-volume", 1, "server.extraVolumes", [VOLUME | {"name": "other"}]),
    ("values-secret-volume", 1, "server.extraVolumes", [VOLUME | {"type": "configMap"}]),
    ("values-secret-volume", 1, "server.extraVolumes", [VOLUME | {"items": []}]),
    (
        "values-secret-volume", 1, "server.extraVolumes",
        [VOLUME | {"items": [{"key": "serverConfigJSON", "path": "config"}]}],
    ),
    ("values-domain-alike", 1, "global.domain", "mesh"),
    ("values-server-config", 0, "server.extraConfig", '{"datacenter": "dc9"}'),
    ("values-server-config", 1, "server.extraConfig", '{"connect": {"enable_mesh_gateway_wan_federation": false}}'),
    ("values-misplaced", 0, "federation.enabled", True),
    ("values-misplaced", 0, "tls.enabled", True),
    ("values-misplaced", 1, "global.k8sAuthMethodHost", API_URL),
    ("values-misplaced", 1, "global.meshGateway.enabled", True),
    ("values-generation", 0, "controller.enabled", True),
    ("values-generation", 0, "meshGateway.globalMode", "local"),
    ("values-replicas", 0, "server.replicas", ABSENT),
    ("values-pinned", 0, "global.image", "registry.example:5000/hashicorp/consul"),
    ("values-pinned", 0, "global.imageK8S", "hashicorp/consul-k8s-control-plane:latest"),
    ("values-consul-version", 0, "global.image", "hashicorp/consul:1.14.4"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "which", "path", "value"), FIRES)
def test_each_fact_fires_and_its_values_were_well_before(both, check, which, path, value):
    """One change to good values, and the check that is named finds it in that datacenter."""
    datacenters = both()
    assert role_mistakes(datacenters) == []
    datacenters[which] = changed(datacenters[which], path, value)
    found = [each for each in role_mistakes(datacenters) if each.check == check]
    assert {each.datacenter for each in found} == {f"dc{which + 1}"}
    assert all(path.startswith(each.path) for each in found)


def test_every_fact_is_among_those_that_were_seen_to_fire_or_is_of_an_older_chart():
    """A fact without a case here could be dead."""
    tried = {(path, which) for _, which, path, _ in FIRES}
    for fact in FACTS:
        if ChartVersion.parse("1.9.11").within(fact.since, fact.before):
            roles = {0 if role == "primary" else 1 for role in fact.roles}
            assert any((fact.path, which) in tried for which in roles), fact.path


@pytest.mark.parametrize(
    ("version", "path", "value"),
    [
        ("0.49.8", "client.enabled", False),
        ("0.49.8", "client.grpc", False),
        ("0.49.8", "controller.enabled", ABSENT),
        ("0.49.8", "connectInject.enabled", ABSENT),
        ("0.49.8", "meshGateway.service.enabled", False),
    ],
)
def test_client_agents_and_the_controller_are_needed_before_one_point_nought(both, version, path, value):
    """Gateways talk to the agent on their node there, and the controller brings ProxyDefaults to Consul."""
    datacenters = both(version)
    datacenters[0] = changed(datacenters[0], path, value)
    assert [(each.check, each.path) for each in role_mistakes(datacenters)] == [("values-components", path)]


def test_without_acls_a_reference_to_the_token_is_a_mistake(both):
    """The page's own example keeps it, and pods stay in CreateContainerConfigError."""
    datacenters = both(acls=False)
    reference = {"secretName": "consul-federation", "secretKey": "replicationToken"}
    datacenters[1] = changed(datacenters[1], "global.acls.replicationToken", reference)
    assert {each.check for each in role_mistakes(datacenters)} == {"values-replication-token"}


def test_values_of_a_release_are_judged_without_the_name_of_the_secret(both):
    """An existing release may have any; only that there is one is known."""
    found = [Datacenter(each.name, each.role, each.values, each.chart, "dc1") for each in both()]
    assert role_mistakes(found) == []


def test_a_server_config_that_is_no_json_is_left_to_consul(both):
    """The chart renders it as a template."""
    datacenters = both()
    datacenters[0] = changed(datacenters[0], "server.extraConfig", "{{ .Values.x }}")
    assert role_mistakes(datacenters) == []
