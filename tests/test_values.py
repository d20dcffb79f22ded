"""Helm values: what HashiCorp's page asks for, right for each generation of the chart, and where the page is wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import consulfed_lib.sandbox
from consulfed_lib.errors import ParamsError
from consulfed_lib.places import find_program
from consulfed_lib.values import consul_domain, primary_values, secondary_values
from consulfed_lib.values.facts import ABSENT, get

CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
API_URL = "https://10.0.0.2:6443"
GENERATIONS = ("0.49.8", "1.9.11", "2.0.3")

ON = {"enabled": True}
GATEWAY = ON | {"replicas": 1, "service": {"port": 443}}
"""On as on the page, and said outright: the chart's defaults of replicas changed with 1.0.0."""


def primary(**extra: Any) -> dict[str, Any]:
    """What the page says for a first-time installation of a primary."""
    return {
        "global": {
            "name": "consul",
            "datacenter": "dc1",
            "tls": ON,
            "federation": ON | {"createFederationSecret": True},
            "acls": {"manageSystemACLs": True, "createReplicationToken": True},
            "gossipEncryption": {"autoGenerate": True},
        },
        "connectInject": ON,
        "meshGateway": GATEWAY,
        "server": {"replicas": 1},
    } | extra


def secondary(**extra: Any) -> dict[str, Any]:
    """What the page says for a secondary."""

    def key(name: str) -> dict[str, str]:
        return {"secretName": "consul-federation", "secretKey": name}

    config = {"key": "serverConfigJSON", "path": "config.json"}
    volume = {"type": "secret", "name": "consul-federation", "items": [config], "load": True}
    return {
        "global": {
            "name": "consul",
            "datacenter": "dc2",
            "tls": ON | {"caCert": key("caCert"), "caKey": key("caKey")},
            "acls": {"manageSystemACLs": True, "replicationToken": key("replicationToken")},
            "federation": ON | {"k8sAuthMethodHost": API_URL, "primaryDatacenter": "dc1"},
            "gossipEncryption": key("gossipEncryptionKey"),
        },
        "connectInject": ON,
        "meshGateway": GATEWAY,
        "server": {"replicas": 1, "extraVolumes": [volume]},
    } | extra


@pytest.fixture
def both(federation):
    """(primary's values, secondary's values) for parameters with changes."""

    def make(version: str = "1.9.11", **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        params = federation(chart={"ref": "hashicorp/consul", "version": version}, **changes)
        return primary_values(params), secondary_values(params, params.secondaries[0], API_URL)

    return make


def mentions(values: Any, word: str) -> bool:
    return word in json.dumps(values)


# The page


@pytest.mark.parametrize("version", GENERATIONS)
def test_the_values_are_the_pages_for_every_generation(both, version):
    """`controller` belongs to charts before 1.0.0 only; the other keys are the same in all."""
    extra = {"controller": ON} if version == "0.49.8" else {}
    ours, theirs = both(version)
    assert ours == primary(**extra)
    assert theirs == secondary(**extra)


@pytest.mark.parametrize("version", GENERATIONS)
def test_a_primary_never_names_a_primary(both, version):
    """`federation.primaryDatacenter` breaks every ACL login there (consul-k8s #1873, #1309)."""
    ours, theirs = both(version)
    assert not mentions(ours, "primaryDatacenter")
    assert theirs["global"]["federation"]["primaryDatacenter"] == "dc1"


def test_only_the_primary_makes_a_federation_secret(both):
    """A secondary that made one would offer the wrong CA to the next secondary."""
    ours, theirs = both()
    assert mentions(ours, "createFederationSecret")
    assert not mentions(theirs, "createFederationSecret")


def test_without_acls_nothing_refers_to_a_replication_token(both):
    """The primary exports none then, and a reference to a key that is not there keeps the servers from starting."""
    for values in both(acls=False):
        assert "acls" not in values["global"]
        assert not mentions(values, "replicationToken")
        assert not mentions(values, "k8sAuthMethodHost")


def test_without_gossip_encryption_nothing_refers_to_a_gossip_key(both):
    """For the same reason."""
    for values in both(gossip_encryption=False):
        assert "gossipEncryption" not in values["global"]
        assert not mentions(values, "gossipEncryptionKey")


@pytest.mark.parametrize("acls", [True, False])
@pytest.mark.parametrize("gossip", [True, False])
def test_both_sides_agree_on_acls_and_gossip_encryption(both, acls, gossip):
    """A datacenter without cannot talk to one with."""
    for values in both(acls=acls, gossip_encryption=gossip):
        assert ("acls" in values["global"]) is acls
        assert ("gossipEncryption" in values["global"]) is gossip


def test_the_auth_method_host_is_the_secondaries_own_api(both):
    """The page says "of the primary" in one sentence, which is wrong (consul PR #18280)."""
    ours, theirs = both()
    assert theirs["global"]["federation"]["k8sAuthMethodHost"] == API_URL
    assert not mentions(ours, "k8sAuthMethodHost")


def test_no_secret_is_in_the_values(both):
    """Values are shown and kept in the release: what is secret is named, never held."""
    _, theirs = both()
    references = [theirs["global"]["tls"]["caKey"], theirs["global"]["acls"]["replicationToken"]]
    assert all(set(reference) == {"secretName", "secretKey"} for reference in references)


def test_an_empty_global_name_is_left_to_the_chart(both, federation):
    """Names are then made of the release's, and so is the secret's."""
    ours, theirs = both(global_name="")
    assert "name" not in ours["global"]
    assert theirs["server"]["extraVolumes"][0]["name"] == "consul-consul-federation"


def test_the_copy_is_called_as_in_the_primary(federation, raw):
    """Whatever the secondary's release is called."""
    raw["primary"]["release"] = "east"
    raw["secondaries"][0]["release"] = "west"
    params = federation(global_name="")
    assert params.secret_name == "east-consul-federation"
    assert mentions(secondary_values(params, params.secondaries[0], API_URL), "east-consul-federation")


def test_each_call_makes_values_of_its_own(federation):
    """Who changes the values of one datacenter must not change another's."""
    params = federation()
    one, other = primary_values(params), primary_values(params)
    one["global"]["tls"]["enabled"] = False
    assert other["global"]["tls"]["enabled"]


# Generations


@pytest.mark.parametrize(
    ("version", "path", "primarys", "secondarys"),
    [
        # path → what each role's values have there
        ("0.24.1", "controller.enabled", ABSENT, ABSENT),
        ("0.25.0", "controller.enabled", True, True),
        ("0.49.8", "controller.enabled", True, True),
        ("1.0.0", "controller.enabled", ABSENT, ABSENT),
        ("0.29.0", "meshGateway.globalMode", "remote", "remote"),
        ("0.30.0", "meshGateway.globalMode", ABSENT, ABSENT),
        ("0.27.0", "server.bootstrapExpect", 1, 1),
        ("0.28.0", "server.bootstrapExpect", ABSENT, ABSENT),
        ("0.40.0", "global.federation.primaryDatacenter", ABSENT, ABSENT),
        ("0.41.0", "global.federation.primaryDatacenter", ABSENT, "dc1"),
        ("0.41.1", "global.federation.k8sAuthMethodHost", ABSENT, ABSENT),
        ("0.42.0", "global.federation.k8sAuthMethodHost", ABSENT, API_URL),
        ("2.0.3", "global.federation.k8sAuthMethodHost", ABSENT, API_URL),
    ],
)
def test_each_generation_gets_the_keys_that_it_has(both, version, path, primarys, secondarys):
    """At the version where a key came or went, and at the one beside it."""
    own_key = {"secret": "own", "key": "k"}
    values = both(version, gossip_key=own_key, proxy_defaults_mode="remote")
    assert [get(each, path) for each in values] == [primarys, secondarys]


# Options


def test_a_gossip_key_of_ones_own_is_named_in_the_primary_only(both):
    """Secondaries take it, as any other, from the federation secret."""
    ours, theirs = both(gossip_key={"secret": "own", "key": "k"})
    assert ours["global"]["gossipEncryption"] == {"secretName": "own", "secretKey": "k"}
    assert theirs["global"]["gossipEncryption"]["secretName"] == "consul-federation"


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({}, {}),
        ({"service": "LoadBalancer", "port": 8443}, {"service": {"port": 8443}}),
        (
            {"service": "NodePort", "node_port": 30443},
            {"service": {"type": "NodePort", "port": 443, "nodePort": 30443}},
        ),
        (
            {"service": "ClusterIP", "wan_address": "NodeIP", "wan_port": 8443},
            {
                "service": {"type": "ClusterIP", "port": 443},
                "wanAddress": {"source": "NodeIP", "port": 8443},
            },
        ),
        ({"wan_address": "NodeName"}, {"wanAddress": {"source": "NodeName", "port": 443}}),
        ({"replicas": 2}, {"replicas": 2}),
    ],
)
def test_the_gateway_is_what_the_parameters_say(both, gateway, expected):
    """What is the chart's default is not said again."""
    for values in both(mesh_gateway=gateway):
        assert values["meshGateway"] == GATEWAY | expected


def test_each_datacenter_has_a_static_address_of_its_own(both):
    """Another one's name would lead every connection astray."""
    primary = {"context": "one", "datacenter": "dc1", "mesh_gateway": {"static": "gw1.example"}}
    secondary = {"context": "two", "datacenter": "dc2", "mesh_gateway": {"static": "gw2.example"}}
    shared = {"wan_address": "Static", "wan_port": 8443}
    values = both(primary=primary, secondaries=[secondary], mesh_gateway=shared)
    found = [each["meshGateway"]["wanAddress"] for each in values]
    assert found == [{"source": "Static", "port": 8443, "static": f"gw{n}.example"} for n in (1, 2)]


def test_a_full_name_override_is_the_charts_key(both):
    """It beats `global.name`, in the chart as in the name of the secret."""
    ours, theirs = both(fullname_override="mesh")
    assert ours["fullnameOverride"] == theirs["fullnameOverride"] == "mesh"
    assert theirs["server"]["extraVolumes"][0]["name"] == "mesh-federation"


# Values of the user's own


def conflicts(make: Any) -> list[str]:
    """The lines of the one error; none when there is none."""
    try:
        make()
    except ParamsError as error:
        return list(error.details)
    return []


def test_the_nearer_value_wins_and_ours_lie_over_all(both, tmp_path):
    """Files of the federation, its values, files of the cluster, its values: each over the one before."""
    layers = [{"ui": {"enabled": n}, "dns": {f"layer{n}": n}} for n in range(4)]
    files = []
    for n in (0, 2):
        files.append(tmp_path / f"{n}.yaml")
        files[-1].write_text(yaml.safe_dump(layers[n]))
    secondary = {"context": "two", "datacenter": "dc2", "values_files": [str(files[1])], "values": layers[3]}
    ours, theirs = both(values_files=[str(files[0])], values=layers[1], secondaries=[secondary])
    assert ours["ui"] == {"enabled": 1}
    assert theirs["ui"] == {"enabled": 3}
    assert set(theirs["dns"]) == {"layer0", "layer1", "layer2", "layer3"}
    assert theirs["meshGateway"] == GATEWAY


def test_what_ours_and_the_users_values_both_say_is_no_conflict(both):
    """A file made after HashiCorp's page may repeat what federation needs, and add to the same mappings."""
    page = {
        "global": {"tls": {"enabled": True, "httpsOnly": False}, "federation": {"enabled": True}},
        "meshGateway": {"enabled": True, "replicas": 1, "service": {"annotations": "a: b"}},
    }
    for values in both(values=page):
        assert values["global"]["tls"]["httpsOnly"] is False
        assert values["meshGateway"]["service"] == {"annotations": "a: b", "port": 443}


def test_every_conflict_is_named_with_both_sides(both, tmp_path):
    """The file or the parameter on one side, the reason on the other; all in one error."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "global: {tls: {enabled: false}, adminPartitions: {enabled: true}}\nserver: {replicas: 5}\n"
    )
    found = conflicts(lambda: both(values_files=[str(file)], values={"connectInject": False}))
    assert len(found) == 4
    assert all("federation needs" in line or "the parameter `servers`" in line for line in found)
    for line in found:
        assert line.startswith(
            "values says connectInject: false" if "connectInject" in line else f"values_files[0] {file}"
        )
    (tls,) = [line for line in found if "global.tls.enabled" in line]
    assert tls.endswith(
        "says global.tls.enabled: false; federation needs true: federation works with TLS only"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"global": {"name": "other"}}, "`global_name`"),
        ({"fullnameOverride": "other"}, "`fullname_override`"),
        ({"global": {"datacenter": "dc9"}}, "`primary.datacenter`"),
        ({"global": {"acls": {"manageSystemACLs": False}}}, "`acls`"),
        ({"global": {"gossipEncryption": {"secretName": "x"}}}, "`gossip_key.secret`"),
        ({"global": {"tls": None}}, "a mapping"),
        ({"server": {"replicas": 3}}, "`servers`"),
        ({"server": {"extraVolumes": "x"}}, "a list"),
        ({"server": {"extraConfig": '{"primary_datacenter": "dc1"}'}}, "server.extraConfig"),
        ({"meshGateway": {"service": {"type": "NodePort"}}}, "`mesh_gateway.service`"),
        ({"meshGateway": {"wanAddress": {"source": "Static"}}}, "`mesh_gateway.wan_address`"),
        ({"server": {"updatePartition": 1}}, "#1466"),
        ({"externalServers": {"enabled": True}}, "its servers"),
        ({"global": {"federation": {"primaryDatacenter": "dc1"}}}, "#1873"),
    ],
)
def test_a_value_that_federation_cannot_live_with_is_refused(both, values, words):
    """Also where the key is a parameter's and the parameter leaves it out: it would be read all the same."""
    (line,) = conflicts(lambda: both(values=values))
    assert line.startswith("values ")
    assert words in line


def test_without_acls_the_users_values_cannot_turn_them_on(both):
    """The other datacenters would not follow."""
    (line,) = conflicts(lambda: both(acls=False, values={"global": {"acls": {"manageSystemACLs": True}}}))
    assert "the parameter `acls` makes it false" in line


def test_volumes_of_the_users_own_come_before_ours(both):
    """A list is otherwise replaced as a whole, and servers would not know the primary."""
    mine = {"type": "secret", "name": "audit", "load": True}
    ours, theirs = both(values={"server": {"extraVolumes": [mine]}})
    assert ours["server"]["extraVolumes"] == [mine]
    assert [each["name"] for each in theirs["server"]["extraVolumes"]] == ["audit", "consul-federation"]


def test_our_volume_written_by_the_user_too_stands_there_once(both):
    """The same as on the page is one volume; another of the same name would be refused by Kubernetes."""
    volume = secondary()["server"]["extraVolumes"][0]
    own = {"context": "two", "datacenter": "dc2", "values": {"server": {"extraVolumes": [volume]}}}
    assert both(secondaries=[own])[1]["server"]["extraVolumes"] == [volume]
    own["values"] = {"server": {"extraVolumes": [volume | {"load": False}]}}
    (line,) = conflicts(lambda: both(secondaries=[own]))
    assert line.startswith("secondaries[0].values has consul-federation as server.extraVolumes[0]")


def test_a_date_and_a_number_as_key_are_what_helm_reads(both):
    """YAML has them, JSON, in which Helm gets the values, has not."""
    values = both(values=yaml.safe_load("server: {annotations: {since: 2024-01-31, 8080: x}}"))[0]
    assert values["server"]["annotations"] == {"since": "2024-01-31", "8080": "x"}
    json.dumps(values)


def test_the_domain_is_the_charts_default_or_the_users(both):
    """Certificates and routes of gateways are made of it."""
    assert [consul_domain(each) for each in both()] == ["consul", "consul"]
    assert [consul_domain(each) for each in both(values={"global": {"domain": "mesh"}})] == ["mesh", "mesh"]


# The chart


def unknown(values: dict[str, Any], known: Any, path: str = "") -> list[str]:
    """Keys that the chart's values.yaml does not have; what is `null`, a list or a text there may be anything."""
    found = []
    for key, value in values.items():
        if key not in known:
            found.append(f"{path}{key}")
        elif isinstance(value, dict) and isinstance(known[key], dict):
            found += unknown(value, known[key], f"{path}{key}.")
    return found


@pytest.fixture(scope="module")
def chart_values() -> dict[str, Any]:
    return yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("version", GENERATIONS)
def test_no_key_is_unknown_to_the_chart(both, chart_values, version):
    """Helm ignores unknown keys in silence, and no tag of the chart has a schema."""
    allowed = ["controller"] if version == "0.49.8" else []
    for values in both(version):
        assert unknown(values, chart_values) == allowed
    assert unknown({"global": {"federaton": {}}}, chart_values) == ["global.federaton"]


@pytest.fixture(scope="module")
def render():
    """Renders the sandbox's chart with the real Helm; kind and name → object."""
    program = find_program("helm")
    assert program, "these tests need helm: run `consulfed sandbox tools`"

    def run(values: dict[str, Any]) -> dict[tuple[str, str], Any]:
        words = [str(program), "template", "consul", str(CHART), "--namespace", "consul", "--values", "-"]
        done = subprocess.run(words, input=json.dumps(values), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        objects = [o for o in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if o]
        return {(o["kind"], o["metadata"]["name"]): o for o in objects}

    return run


def test_the_primarys_values_take_effect_in_the_chart(both, render):
    """Rendered by the real Helm: the secret is made, the ports and counts are those that were asked for."""
    values, _ = both(servers=3, mesh_gateway={"port": 8443, "replicas": 2})
    objects = render(values)
    assert ("Job", "consul-create-federation-secret") in objects
    assert ("Job", "consul-gossip-encryption-autogenerate") in objects
    assert objects["StatefulSet", "consul-server"]["spec"]["replicas"] == 3
    assert objects["Deployment", "consul-mesh-gateway"]["spec"]["replicas"] == 2
    assert objects["Service", "consul-mesh-gateway"]["spec"]["ports"][0]["port"] == 8443
    assert "-create-acl-replication-token" in json.dumps(objects["Job", "consul-server-acl-init"])


def test_the_secondaries_values_take_effect_in_the_chart(both, render):
    """Everything shared comes from the imported secret; nothing is made anew."""
    _, values = both()
    objects = render(values)
    assert ("Job", "consul-create-federation-secret") not in objects
    assert ("Job", "consul-gossip-encryption-autogenerate") not in objects
    volumes = objects["StatefulSet", "consul-server"]["spec"]["template"]["spec"]["volumes"]
    assert "consul-federation" in [volume.get("secret", {}).get("secretName") for volume in volumes]
    text = json.dumps(objects["StatefulSet", "consul-server"])
    assert all(key in text for key in ("gossipEncryptionKey", "replicationToken", "serverConfigJSON"))
    assert API_URL in json.dumps(objects["Job", "consul-server-acl-init"])


def test_without_acls_and_gossip_encryption_the_chart_renders_no_reference_to_them(both, render):
    """No `secretKeyRef` to a key that the federation secret does not have."""
    for values in both(acls=False, gossip_encryption=False):
        text = json.dumps(list(render(values).values()))
        assert "replicationToken" not in text
        assert "gossipEncryptionKey" not in text
