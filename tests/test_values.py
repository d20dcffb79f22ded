"""Helm values: what HashiCorp's page asks for, right for each generation of the chart, and where the page is wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import consulfed_lib.sandbox
from consulfed_lib.places import find_program
from consulfed_lib.values import primary_values, secondary_values

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
