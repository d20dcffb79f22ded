"""No secret can be a parameter: what looks like one is a mistake, said with its place and never with its value."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from consulfed_lib.errors import ParamsError
from consulfed_lib.params import check, load
from consulfed_lib.params.secrets import HIDDEN, Found, hide, masked, secrets_in

CHART = Path(__file__).parents[1] / "consulfed_lib" / "sandbox" / "chart" / "consul" / "values.yaml"
UUID = "26379dc7-9b37-43b4-a9de-01d4603fcfa3"
GOSSIP = base64.b64encode(bytes(range(200, 232))).decode()
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    .decode()
)
BASE64 = base64.b64encode(PEM.encode()).decode()
JWT = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (
    b'{"alg":"RS256"}', b'{"sub":"system:serviceaccount:consul:x"}', bytes(range(64)))
)  # fmt: skip
LICENSE = "02MV4UU43BK5HGYYTOJZWFQMTMNNEWU33JLJWESMSZPJHGSMKM"

pytestmark = pytest.mark.usefixtures("no_kubeconfig")


def found(values: Any) -> list[Found]:
    """What is found in Helm values of the user's own."""
    return secrets_in({"values": values})


def nested(path: str, value: Any) -> dict[str, Any]:
    """The mapping that has the value at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


# What is a secret whatever its key


@pytest.mark.parametrize(
    ("value", "looks"),
    [
        (PEM, "a private key"),
        ("-----BEGIN PRIVATE KEY-----", "a private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        (BASE64, "a private key in base64"),
        (base64.b64encode(BASE64.encode()).decode(), "a private key in base64"),
        ("\n".join(BASE64[i : i + 64] for i in range(0, len(BASE64), 64)), "a private key in base64"),
        (f"the new key is {BASE64}", "a private key in base64"),
        (base64.urlsafe_b64encode(b"?>" * 30 + PEM.encode()).decode(), "a private key in base64"),
        (PEM.encode(), "a private key"),
        ("https://ops:hunter2@charts.example.com", "a URL with a password in it"),
        ("see oci://:hunter2@registry.example.com/consul", "a URL with a password in it"),
        ("https://ghostghostghostghost42@charts.example.com", "a URL with a password in it"),
        (f"Bearer {JWT}", "a signed token (JWT), as those of service accounts are"),
        ("hvs." + "CAESI" * 5, "a token by how it begins"),
    ],
)
@pytest.mark.parametrize("place", ["reason", "primary.api_url", "values.server.annotations", "colour"])
def test_what_looks_like_a_secret_is_one_at_any_place(place, value, looks):
    """A key in `reason` stands in the record like one in a value."""
    (only,) = secrets_in(nested(place, value))
    assert (only.place, only.looks) == (place, looks)


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" + bytes(80)).decode(),
        "https://charts.example.com:8443/stable",
        "https://ops@charts.example.com",
        "https://ops:${PASSWORD}@charts.example.com",
        "https://charts.example.com/a@b:c",
        "mail ops@example.com: the second region",
        "eyJ is how a token begins, and hvs. another",
        "a sentence that is long enough to be taken for a run of base64 by somebody",
        UUID,
        GOSSIP,
        "Rotate the ACL token: see CHG-1042; password: none",
    ],
)
@pytest.mark.parametrize("place", ["reason", "primary.api_url"])
def test_what_is_public_or_a_sentence_is_no_secret(place, value):
    """Certificates and public keys are for everybody; a change number may be a UUID."""
    assert secrets_in(nested(place, value)) == []


def test_a_secret_behind_its_name_in_a_sentence_is_one():
    """Where people write, only what nobody would write by chance counts."""
    (only,) = secrets_in({"reason": f"new gossip encryption, encrypt={GOSSIP}"})
    assert only.place == "reason: `encrypt`"
    assert only.value == GOSSIP


# What is a secret because of its key


@pytest.mark.parametrize(
    ("path", "value", "looks"),
    [
        ("global.acls.bootstrapToken", UUID, "a UUID, as Consul's tokens are"),
        ("global.acls.bootstrapToken.value", UUID, "a UUID, as Consul's tokens are"),
        ("global.acls.bootstrapToken.secretName", UUID, "a UUID, as Consul's tokens are"),
        ("global.acls.replicationToken.secretKey", UUID, "a UUID, as Consul's tokens are"),
        ("global.gossipEncryption.secretKey", GOSSIP, "base64 of 32 bytes, as gossip keys are"),
        ("global.gossipEncryption.key", GOSSIP, "base64 of 32 bytes, as gossip keys are"),
        ("global.gossipKey", "hunter2", "a gossip key"),
        ("global.enterpriseLicense", LICENSE, "the text of a license"),
        ("server.extraEnvironmentVars.CONSUL_HTTP_TOKEN", "hunter2", "a token"),
        ("server.extraEnvironmentVars.CONSUL_LICENSE", LICENSE, "the text of a license"),
        ("server.extraEnvironmentVars.AWS_SECRET_ACCESS_KEY", "hunter2", "a key"),
        ("ui.basicAuth.password", "hunter2", "a password"),
        ("ui.oidc.clientSecret", "hunter2", "a secret"),
        ("ui.oidc.secret", "not a name!", "a secret and not like the name of one"),
        ("server.passwords", ["hunter2", "", True, 5], "a password"),
        ("server.extraConfig.encrypt", GOSSIP, "base64 of 32 bytes, as gossip keys are"),
        ("server.extraConfig.acl.tokens.initial_management", "hunter2", "a token"),
        ("server.extraConfig.acl.tokens.agent", "hunter2", "a token"),
    ],
)
def test_a_text_under_a_key_for_secrets_is_one(path, value, looks):
    """Helm values, and Consul's configuration in them; also a secret where the name of one belongs."""
    (only,) = found(nested(path, value))
    assert only.place.removesuffix("[0]") == f"values.{path}"
    assert only.looks == looks


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("global.acls.bootstrapToken", {"secretName": "consul-bootstrap-acl-token", "secretKey": "token"}),
        ("global.acls.createReplicationToken", True),
        ("global.acls.replicationToken.secretName", "consul-federation"),
        ("global.gossipEncryption.secretName", "consul/data/secret/gossip"),
        ("global.gossipEncryption.secretKey", "gossipEncryptionKey"),
        ("global.gossipEncryption.autoGenerate", True),
        ("global.imagePullSecrets", [{"name": "registry-login"}, "another"]),
        ("global.tls.caKey.secretKey", "tls.key"),
        ("global.enterpriseLicense", {"secretName": "license", "enableLicenseAutoload": True}),
        ("connectInject.cni.autorotateToken", False),
        ("connectInject.cni.tokenExpiration", 3600),
        ("server.tolerations", [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]),
        ("server.extraVolumes", [{"type": "secret", "name": "consul-federation", "load": True}]),
        ("server.extraVolumes", [{"name": "x", "secret": {"secretName": "x"}}]),
        ("server.extraConfig", '{"encrypt_verify_incoming": true, "acl": {"enable_token_persistence": true}}'),
        ("server.extraConfig", '{"acl": {"tokens": {"agent": "${AGENT_TOKEN}"}}}'),
        ("server.extraEnvironmentVars.CONSUL_HTTP_TOKEN_FILE", "/vault/secrets/token"),
        ("server.extraEnvironmentVars.CONSUL_HTTP_TOKEN", "{{ .Values.global.token }}"),
        ("server.extraEnvironmentVars.CONSUL_HTTP_TOKEN", "$(CONSUL_TOKEN)"),
        ("server.annotations", '"vault.hashicorp.com/agent-inject-secret-token": "secret/data/token.json"'),
        ("server.annotations.automount-token", "true"),
        ("server.password", ""),
        ("server.password", None),
        ("server.password", 12345678),
        ("server.password", "<from the vault>"),
        ("server.password", "ref+vault://secret/data/x#password"),
        ("server.token", "/var/run/secrets/token"),
        ("server.tokenSecret", "consul-token"),
        ("server.existingSecret", "consul-token"),
        ("server.license", "enterprise"),
        ("server.nodeMeta", {"id": UUID, "checksum": GOSSIP}),
    ],
)  # fmt: skip
def test_a_name_a_switch_or_a_reference_is_no_secret(path, value):
    """A false alarm stops a change for nothing."""
    assert found(nested(path, value)) == []


def test_no_key_of_the_charts_values_is_taken_for_a_secret():
    """The sandbox's chart has the official chart's keys; its comments, in a text, hold examples of all of them."""
    text = CHART.read_text()
    assert found(yaml.safe_load(text)) == []
    assert found({"text": text}) == []


def test_a_variable_of_a_container_is_judged_by_its_name():
    """Kubernetes writes `{name: …, value: …}`; one that is read from a Secret holds none."""
    token = {"name": "CONSUL_HTTP_TOKEN", "value": "hunter2"}
    reference = {"name": "CONSUL_HTTP_TOKEN", "valueFrom": {"secretKeyRef": {"name": "x", "key": "token"}}}
    other = {"name": "CONSUL_HTTP_ADDR", "value": "hunter2"}
    (only,) = found({"extraContainers": [{"env": [other, reference, token]}]})
    assert only.place == "values.extraContainers[0].env[2].value"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (json.dumps({"encrypt": GOSSIP}), "values.server.extraConfig.encrypt"),
        (f'encrypt = "{GOSSIP}"', "values.server.extraConfig: `encrypt`"),
        ('acl_token: "hunter"', "values.server.extraConfig: `acl_token`"),
        ("-http-addr=x -token=hunter2 -x", "values.server.extraConfig: `token`"),
        ("https://example.com/?api_key=hunter2&x=y", "values.server.extraConfig: `api_key`"),
        ("{not JSON, password: hunter2}", "values.server.extraConfig: `password`"),
    ],
)
def test_configuration_in_a_text_is_read_too(text, key):
    """The chart takes Consul's configuration as JSON in a text, and annotations and arguments as they are."""
    (only,) = found({"server": {"extraConfig": text}})
    assert only.place == key


def test_a_plain_word_behind_a_name_in_a_text_is_none():
    """`token: see below` is a sentence also in a comment among values."""
    assert found({"server": {"annotations": "# the token: see below\nnote: none"}}) == []


# Where


def test_every_place_of_the_parameters_counts(raw, tmp_path):
    """Values of all clusters and of each, the files with values, the chart's repository, and a key that is unknown."""
    file = tmp_path / "more.yaml"
    file.write_text(f"server:\n  extraConfig: |\n    encrypt = '{GOSSIP}'\nmeshGateway: {{token: {UUID}}}\n")
    raw["values"] = {"token": "hunter2"}
    raw["values_files"] = [str(file), str(tmp_path / "none.yaml"), 5]
    raw["chart"]["repo"] = "https://ops:hunter2@charts.example.com"
    raw["primary"]["values"] = {"token": "hunter2"}
    raw["secondaries"][0]["values_files"] = [str(file)]
    raw["password"] = "hunter2"
    assert sorted(each.place for each in secrets_in(raw)) == sorted([
        "values.token",
        f"values_files[0]: {file}: server.extraConfig: `encrypt`",
        f"values_files[0]: {file}: meshGateway.token",
        "chart.repo",
        "primary.values.token",
        f"secondaries[0].values_files[0]: {file}: server.extraConfig: `encrypt`",
        f"secondaries[0].values_files[0]: {file}: meshGateway.token",
        "password",
    ])  # fmt: skip


def test_where_a_gossip_key_is_may_be_said_but_not_the_key():
    """`gossip_key` names a Secret and a key in it; the key itself is a mistake in each of the ways to write it down."""
    assert secrets_in({"gossip_key": {"secret": "consul-gossip", "key": "gossipEncryptionKey"}}) == []
    for wrong in ({"secret": GOSSIP}, {"secret": "x", "key": GOSSIP}, GOSSIP):
        assert [each.value for each in secrets_in({"gossip_key": wrong})] == [GOSSIP]
    assert [each.value for each in secrets_in({"gossip_encryption": GOSSIP})] == [GOSSIP]


def test_a_key_that_is_a_secret_itself_is_not_part_of_the_place():
    """A registry's login may be a key of a mapping."""
    (only,) = found({"registries": {"https://ops:hunter2@registry.example.com": {"x": "y"}}})
    assert only.place == "values.registries: a key"
    assert "hunter2" not in only.sentence


def test_aliases_of_yaml_are_looked_at_once():
    """A mapping that holds itself is no endless walk, and one that stands in many places is one mistake."""
    raw = yaml.safe_load("values: &a\n  token: hunter2\n  self: *a\n  again: [*a, *a]\n")
    assert [each.place for each in secrets_in(raw)] == ["values.token"]


# How it is said


def test_it_is_said_with_all_other_mistakes_and_never_shown(raw):
    """The places, what each looks like, and what to do; other mistakes quote values, but not these."""
    raw |= {"servers": 2, "gossip_key": GOSSIP, "colour": PEM, "timeouts": {"token": UUID, "install": PEM}}
    raw["chart"]["repo"] = {"password": "hunter2"}
    raw["primary"]["api_url"] = "http://ops:hunter2@10.0.0.1:6443"
    raw["secondaries"].append([{"token": "correct horse battery staple"}])
    with pytest.raises(ParamsError) as caught:
        check(raw, "the test")
    text = str(caught.value) + repr(caught.value) + json.dumps(caught.value.data())
    secrets = [GOSSIP, UUID, "hunter2", "correct horse", PEM, *PEM.splitlines()[1:-1]]
    assert [secret for secret in secrets if secret in text] == []
    assert "-----BEGIN" not in text
    assert "servers: 2 is even" in text
    assert "gossip_key: looks like base64 of 32 bytes" in text
    assert "Kubernetes Secret" in text
    assert "`helm registry login`" in text
    assert HIDDEN in text


def test_nothing_shows_what_was_found():
    """An object in a debugger's or a notebook's output is shown by its repr."""
    (only,) = found({"token": "hunter2"})
    assert "hunter2" not in repr(only) + only.sentence


def test_a_short_secret_is_hidden_where_it_is_quoted_and_words_stay_words():
    """A password that is a word of the sentence would make nonsense of it, and show itself by that."""
    secret = Found("password", "a password", "expected")
    short = Found("token", "a token", "port")
    assert hide("x: 'port'; expected a port, not {'a': 'expected'}", [short, secret]) == (
        f"x: {HIDDEN}; {HIDDEN} a port, not {{'a': {HIDDEN}}}"
    )
    assert hide("x: 5", []) == "x: 5"


def test_values_can_be_had_without_what_is_secret_in_them():
    """A lint quotes the beginning of a value; what it is given holds no secret, also not in JSON in a text."""
    values = {
        "server": {"extraConfig": json.dumps({"encrypt": GOSSIP, "tls": PEM}), "key": PEM.encode()},
        "list": [f"https://ops:hunter2@{UUID}", 5, None],
        "https://ops:hunter2@x": True,
    }
    clean = masked(values, found(values))
    assert clean == {
        "server": {
            "extraConfig": json.dumps({"encrypt": HIDDEN, "tls": HIDDEN}, ensure_ascii=False),
            "key": HIDDEN,
        },
        "list": [f"{HIDDEN}{UUID}", 5, None],
        f"{HIDDEN}x": True,
    }


def test_a_file_with_a_secret_is_refused_before_anything_is_done(raw, tmp_path):
    """As any mistake in the parameters: exit code 10, and nothing was written."""
    path = tmp_path / "params.yaml"
    path.write_text(
        yaml.safe_dump(raw | {"values": {"server": {"extraConfig": f'{{"encrypt": "{GOSSIP}"}}'}}})
    )
    with pytest.raises(
        ParamsError, match=r"values\.server\.extraConfig\.encrypt: looks like base64"
    ) as caught:
        load(path)
    assert caught.value.exit_code == 10
    assert GOSSIP not in str(caught.value)
