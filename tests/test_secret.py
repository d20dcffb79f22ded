"""The federation secret: every mistake in it is named, and nothing of it is shown."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from consulfed_lib import redact, secret
from consulfed_lib.errors import SecretError
from consulfed_lib.redact import Secret
from consulfed_lib.secret import FederationSecret, find, manifest, read, same
from consulfed_lib.secret.faults import Fault, expected_keys, faults, mended_by_helm

from .conftest import Authority, secret_object

GATEWAY = "10.0.0.1:443"
TOKEN = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
GOSSIP = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def data(secret_data: Callable[..., dict[str, bytes]]) -> dict[str, bytes]:
    return secret_data(GATEWAY)


def held(data: dict[str, bytes]) -> FederationSecret:
    """As `read` makes it."""
    return FederationSecret(
        "consul-federation", "consul", {key: Secret(key, value) for key, value in data.items()}, {}
    )


@pytest.fixture
def wrong(data, federation) -> Callable[..., list[str]]:
    """The mistakes of that secret with some values replaced (None: left out)."""

    def look(live: set[str] | None = None, changes: dict[str, Any] | None = None, **values: Any) -> list[str]:
        changed = {key: value for key, value in (data | values).items() if value is not None}
        params = federation(**({"private_network": True} | (changes or {})))
        return [each.found for each in faults(held(changed), params, live)]

    return look


def config(**values: Any) -> bytes:
    return json.dumps({"primary_datacenter": "dc1", "primary_gateways": [GATEWAY]} | values).encode()


# Mistakes


def test_a_good_secret_has_no_mistake(wrong):
    """With and without the gateway's address of now."""
    assert wrong() == []
    assert wrong({GATEWAY}) == []


@pytest.mark.parametrize(
    "key", ["caCert", "caKey", "serverConfigJSON", "replicationToken", "gossipEncryptionKey"]
)
def test_a_missing_key_is_named(wrong, key):
    """The secondary's servers would hang in CreateContainerConfigError."""
    (line,) = wrong(**{key: None})
    assert key in line
    assert "missing" in line


@pytest.mark.parametrize(
    ("setting", "key"), [("acls", "replicationToken"), ("gossip_encryption", "gossipEncryptionKey")]
)
def test_a_key_goes_with_its_setting(wrong, federation, setting, key):
    """A token or a gossip key that the settings turn off says that primary and parameters differ."""
    assert key in expected_keys(federation())
    assert key not in expected_keys(federation(**{setting: False}))
    (line,) = wrong(changes={setting: False})
    assert key in line
    assert wrong(changes={setting: False}, **{key: None}) == []


def test_an_extra_key_is_named(wrong):
    """Somebody else's secret of the same name, or an edited one."""
    (line,) = wrong(password=b"not ours, long enough")
    assert "password" in line


@pytest.mark.parametrize("key", ["caCert", "caKey"])
def test_double_base64_is_recognised(wrong, data, key):
    """The commonest slip of a copy by hand: what `-o yaml` shows, put under `stringData` or encoded again."""
    (line,) = wrong(**{key: base64.b64encode(data[key])})
    assert key in line
    assert "twice" in line


@pytest.mark.parametrize("key", ["caCert", "caKey"])
@pytest.mark.parametrize("value", [b"", b"nothing of the kind", b"\xff\xfe", b"QUJD"])
def test_what_is_no_pem_is_named(wrong, key, value):
    """And not called base64."""
    (line,) = wrong(**{key: value})
    assert f"{key} is not PEM" in line


@pytest.mark.parametrize("key", ["caCert", "caKey"])
def test_a_pem_of_the_wrong_kind_or_a_damaged_one_is_named(wrong, data, key):
    """A certificate where the key belongs, a file cut in the middle."""
    other = "caKey" if key == "caCert" else "caCert"
    for value in (data[other], data[key][:-80]):
        (line,) = wrong(**{key: value})
        assert key in line


def test_a_key_of_another_ca_is_named(wrong, other_authority):
    """It would sign certificates that nobody trusts."""
    (line,) = wrong(caKey=other_authority.key_pem.encode())
    assert "does not belong" in line


def test_a_ca_that_has_expired_is_named(wrong):
    """Every server certificate that it signs would be refused."""
    old = Authority(lasts=timedelta(minutes=-1))
    (line,) = wrong(caCert=old.pem.encode(), caKey=old.key_pem.encode())
    assert "caCert expired on" in line


@pytest.mark.parametrize(
    ("days", "severity", "words"),
    [(-0.01, "error", "expired"), (30, "warning", "in 29 days"), (89, "warning", "expires on"), (91, "", "")],
)
def test_a_ca_that_is_about_to_expire_is_a_warning(federation, data, days, severity, words):
    """All servers of all datacenters have to be rolled for a new one; and no run of Helm makes one."""
    ca = Authority(lasts=timedelta(days=days))
    old = data | {"caCert": ca.pem.encode(), "caKey": ca.key_pem.encode()}
    params = federation(private_network=True)
    found = faults(held(old), params)
    assert [each.severity for each in found] == ([severity] if severity else [])
    assert all(words in each.found and "rotate" in each.hint for each in found)
    assert mended_by_helm(held(old), params, None) == []


def test_a_certificate_that_is_of_no_ca_is_named(wrong, authority):
    """A server's certificate in the CA's place can sign nothing."""
    certificate, key = authority.issue(("server.dc1.consul",))
    (line,) = wrong(caCert=certificate.encode(), caKey=key.encode())
    assert "not the certificate of a CA" in line


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"primary_datacenter=dc1"])
def test_what_is_no_json_is_named(wrong, value):
    """Consul would refuse to start with it."""
    assert wrong(serverConfigJSON=value) == ["serverConfigJSON is not JSON"]


@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b"null",
        b"{}",
        config(retry_join=["x"]),
        b'{"primary_datacenter": "dc1"}',
        b'{"primary_gateways": []}',
    ],
)
def test_a_server_config_holds_two_keys_and_no_more(wrong, value):
    """It is loaded as configuration of every server there: nothing else may come in that way."""
    (line,) = wrong(serverConfigJSON=value)
    assert "just primary_datacenter and primary_gateways" in line


def test_another_primary_is_named(wrong):
    """The secret of another federation, or the parameters' primary has another name."""
    (line,) = wrong(serverConfigJSON=config(primary_datacenter="dc9"))
    assert "dc9" in line
    assert "dc1" in line


def test_a_secondary_that_holds_its_own_datacenter_as_the_primary_is_named(federation, data):
    """Consul refuses to start: 'primary_gateways' should only be configured in a secondary datacenter."""
    params = federation(private_network=True)
    itself = params.secondaries[0].model_copy(update={"datacenter": "dc1"})
    (found,) = faults(held(data), params, holder=itself)
    assert "this datacenter itself" in found.found
    assert faults(held(data), params, holder=params.secondaries[0]) == []


@pytest.mark.parametrize(
    ("gateway", "private_network", "severity"),
    [
        ("34.1.2.3:443", False, ""),
        ("gateway.dc1.example.com:443", False, ""),
        ("[2a01:4f8::1]:443", False, ""),
        ("192.0.2.2:443", False, "error"),
        ("192.0.2.2:443", True, "error"),
        ("[2001:db8::1]:443", True, "error"),
        ("0.0.0.0:443", True, "error"),
        ("[::]:443", True, "error"),
        ("10.0.0.1:443", False, "warning"),
        ("172.20.0.1:443", False, "warning"),
        ("192.168.1.1:443", False, "warning"),
        ("100.64.0.1:443", False, "warning"),
        ("[fd00::1]:443", False, "warning"),
        ("10.0.0.1:443", True, ""),
        ("[fd00::1]:443", True, ""),
        ("127.0.0.1:443", False, "error"),
        ("localhost:443", False, "error"),
        ("[::1]:443", False, "error"),
        ("169.254.1.1:443", False, "error"),
        ("127.9.1.1:443", True, ""),
    ],
)
def test_a_gateway_that_others_cannot_dial_is_named(federation, data, gateway, private_network, severity):
    """Placeholders always; private addresses and one's own machine unless the parameters say that it is meant."""
    value = data | {"serverConfigJSON": config(primary_gateways=[gateway])}
    found = faults(held(value), federation(private_network=private_network))
    assert [each.severity for each in found] == ([severity] if severity else [])
    assert all(gateway in each.found and each.hint for each in found)


def test_helm_runs_again_only_for_what_it_mends(federation, data):
    """A private address is still there after an upgrade; a missing key is not."""
    whole = federation()
    assert mended_by_helm(held(data), whole, None) == []
    assert [each.remade for each in faults(held(data), whole)] == [False]
    broken = {key: value for key, value in data.items() if key != "replicationToken"}
    assert mended_by_helm(held(broken), whole, None) == ["the key replicationToken is missing"]
    assert mended_by_helm(held(data), whole, {"10.0.0.9:443"}) != []


def test_every_fault_says_what_to_do(federation, data, other_authority):
    """A sentence without a hint leaves a tired reader alone."""
    junk = {key: b"junk" for key in data} | {"extra": b"x"}
    found = faults(held(junk), federation(acls=False), {GATEWAY})
    assert len(found) > 4
    assert all(isinstance(each, Fault) and each.hint for each in found)


@pytest.mark.parametrize("key", ["replicationToken", "serverConfigJSON"])
def test_double_base64_of_a_text_is_recognised(wrong, data, key):
    """Not only of PEM."""
    assert wrong(**{key: base64.b64encode(data[key])}) == [f"{key} is base64 twice over"]


@pytest.mark.parametrize(
    "address", [":443", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "a:https", ""]
)
def test_what_is_no_address_is_named(wrong, address):
    """`:443` is what a load balancer without an address leaves in there."""
    (line,) = wrong(serverConfigJSON=config(primary_gateways=[GATEWAY, address]))
    assert repr(address) in line
    assert GATEWAY not in line


@pytest.mark.parametrize("address", ["gateway.example.com:443", "[2a01:4f8::1]:8443", "127.0.0.1:1"])
def test_names_and_both_kinds_of_ip_are_addresses(wrong, address):
    """EKS gives host names, Consul writes IPv6 in brackets."""
    assert wrong({address}, serverConfigJSON=config(primary_gateways=[address])) == []


@pytest.mark.parametrize("gateways", ["10.0.0.1:443", [443], [None], {"a": 1}, 5])
def test_gateways_that_are_no_list_of_texts_are_named(wrong, gateways):
    """Whatever somebody put there is a finding, never a crash."""
    assert wrong({GATEWAY}, serverConfigJSON=config(primary_gateways=gateways))


@pytest.mark.parametrize("gateways", [[], None])
def test_no_gateway_at_all_is_named(wrong, gateways):
    """A secondary could never find the primary."""
    (line,) = wrong(serverConfigJSON=config(primary_gateways=gateways))
    assert "no primary gateway" in line


def test_stale_gateways_are_named_with_those_of_now(wrong):
    """The load balancer got another address after the secret was made (consul-k8s #2263)."""
    (line,) = wrong({"10.0.0.9:443"})
    assert GATEWAY in line
    assert "10.0.0.9:443" in line
    (line,) = wrong(set())
    assert "none" in line


def test_the_order_of_gateways_means_nothing(wrong):
    """Consul writes them in random order."""
    both = ["10.0.0.1:443", "10.0.0.2:443"]
    for gateways in (both, both[::-1]):
        assert wrong(set(both), serverConfigJSON=config(primary_gateways=gateways)) == []


@pytest.mark.parametrize("size", [0, 8, 15, 17, 31, 33, 64])
def test_a_gossip_key_of_a_wrong_length_is_named(wrong, size):
    """Serf takes AES-128, -192 and -256 only."""
    (line,) = wrong(gossipEncryptionKey=base64.b64encode(bytes(size)))
    assert "gossipEncryptionKey" in line


@pytest.mark.parametrize("size", [16, 24, 32])
def test_gossip_keys_of_the_three_lengths_are_right(wrong, size):
    """With or without a newline at the end, which Consul ignores."""
    key = base64.b64encode(bytes(size))
    assert wrong(gossipEncryptionKey=key) == wrong(gossipEncryptionKey=key + b"\n") == []


@pytest.mark.parametrize("value", [b"not base64 at all!!", bytes(range(32)), b"\xff" * 32, "ключ".encode()])
def test_a_gossip_key_that_is_no_base64_is_named(wrong, value):
    """Also raw bytes, which is what it becomes when it is decoded once too often."""
    (line,) = wrong(gossipEncryptionKey=value)
    assert "gossipEncryptionKey" in line


@pytest.mark.parametrize("value", [b"", b"root", TOKEN[:-1].encode(), b"\xff" * 36])
def test_a_token_that_is_no_uuid_is_named(wrong, value):
    """Consul's tokens are UUIDs; anything else was never one."""
    (line,) = wrong(replicationToken=value)
    assert "replicationToken" in line


def test_all_mistakes_are_named_together(wrong):
    """One look, one list."""
    found = wrong(
        {"10.0.0.9:443"},
        caKey=None,
        replicationToken=b"root",
        gossipEncryptionKey=b"",
        extra=b"something else",
    )
    for word in ("caKey", "replicationToken", "gossipEncryptionKey", "extra", "10.0.0.9"):
        assert any(word in line for line in found)


def test_no_mistake_shows_a_secret_value(wrong, data, other_authority):
    """The sentences go into records."""
    text = "\n".join(
        wrong(
            caKey=other_authority.key_pem.encode(),
            replicationToken=b"hunter2-hunter2",
            gossipEncryptionKey=b"x" * 20,
        )
    )
    assert "hunter2" not in text
    assert "xxx" not in text
    assert redact.leaks(text) == 0


# Nothing is shown


def shown_forms(value: object) -> str:
    """Everything that Python shows of an object without being asked for its inside."""
    table = value.contents("Contents") if isinstance(value, FederationSecret) else None
    return "\n".join(
        [repr(value), str(value), f"{value}", f"{value!r:>9}", str([value]), str({"x": value}), repr(table)]
        + ([table._repr_html_()] if table else [])
    )


def test_repr_format_and_tables_show_nothing(data):
    """Neither of one value nor of the whole: key names, sizes and fingerprints only."""
    whole = held(data)
    text = shown_forms(whole) + "".join(shown_forms(value) for value in whole.data.values())
    assert redact.leaks(text) == 0
    assert "caKey" in text
    assert f"{len(data['caKey'])} bytes" in text


def test_a_secret_cannot_be_pickled_or_copied(data):
    """A pickle is a file, a cache, a queue: places that nobody scrubs."""
    whole = held(data)
    for value in (whole, *whole.data.values()):
        for dump in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError) as caught:
                dump(value)
            assert redact.leaks(str(caught.value)) == 0


@pytest.fixture
def whole(data) -> FederationSecret:
    return held(data)


def test_a_traceback_with_its_locals_shows_nothing(whole):
    """IPython's verbose tracebacks print every local variable."""

    def fails(whole: FederationSecret, one: Secret) -> None:
        raise ValueError("broken")

    try:
        fails(whole, whole.data["caKey"])
    except ValueError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "one = <caKey" in text
    assert redact.leaks(text) == 0


def test_reading_registers_every_value(cluster, api, data):
    """What was read is scrubbed from every output from then on, in every form."""
    api.answers["GET /api/v1/namespaces/consul/secrets/consul-federation"] = 200, secret_object(data)
    assert redact.leaks(TOKEN) == 0
    read(cluster, "consul", "consul-federation")
    for value in (TOKEN, GOSSIP, data["caKey"].decode(), base64.b64encode(data["caKey"]).decode()):
        assert redact.leaks(value)


# Fingerprints


def test_fingerprints_are_equal_exactly_for_equal_values(data):
    """On every machine that holds the same secret; one byte of difference shows."""
    one, other = held(data), held(dict(data))
    assert one.fingerprints() == other.fingerprints()
    for key in ("caCert", "serverConfigJSON", "replicationToken", "gossipEncryptionKey"):
        changed = held(data | {key: data[key] + b" "}).fingerprints()
        assert {name for name, mark in changed.items() if mark != one.fingerprints()[name]} == {key}


def test_a_fingerprint_needs_the_ca_key(data, other_authority):
    """A plain hash of a known server config could be guessed; keyed with the CA key it tells nothing."""
    other = held(data | {"caKey": other_authority.key_pem.encode()})
    assert all(other.fingerprints()[key] != mark for key, mark in held(data).fingerprints().items())
    assert held(data).fingerprints() == other.fingerprints(held(data).fingerprint_key) | {
        "caKey": held(data).fingerprints()["caKey"]
    }


def test_a_fingerprint_is_twelve_hex_digits(data):
    """Short enough to be compared by eye."""
    assert all(len(mark) == 12 and int(mark, 16) >= 0 for mark in held(data).fingerprints().values())


def test_same_compares_data_and_nothing_else(data):
    """Names and labels may differ; a missing copy is never the same."""
    original = held(data)
    assert same(original, FederationSecret("other", "elsewhere", original.data, {"a": "b"}))
    assert not same(original, None)
    assert not same(original, held({key: value for key, value in data.items() if key != "caKey"}))
    assert not same(original, held(data | {"extra": b"something else"}))
    assert not same(original, held(data | {"replicationToken": str(uuid.uuid4()).encode()}))


# Reading and writing


def test_what_is_read_is_what_the_api_server_has(cluster, api, data):
    """Byte for byte, the last newline of a PEM included; None where there is nothing."""
    api.answers["GET /api/v1/namespaces/consul/secrets/consul-federation"] = 200, secret_object(data)
    found = read(cluster, "consul", "consul-federation")
    assert found is not None
    assert {key: value.reveal() for key, value in found.data.items()} == data
    assert found.labels == {"managed-by": "consul-k8s"}
    assert found.gateways() == {GATEWAY}
    assert read(cluster, "consul", "other") is None


@pytest.mark.parametrize("value", ["not base64!", "QUJ", "ключ"])
def test_a_value_that_is_no_base64_is_one_sentence(cluster, api, data, value):
    """It names the key and not the value."""
    damaged = secret_object(data)
    damaged["data"]["caKey"] = value
    api.answers["GET /api/v1/namespaces/consul/secrets/consul-federation"] = 200, damaged
    with pytest.raises(SecretError) as caught:
        read(cluster, "consul", "consul-federation")
    assert "caKey" in caught.value.found
    assert value not in str(caught.value)


def test_a_missing_secret_says_where_it_was_looked_for(cluster, api, federation):
    """And what to do first."""
    with pytest.raises(SecretError) as caught:
        find(cluster, federation())
    assert "consul/consul-federation" in caught.value.found
    assert "01-primary-setup" in caught.value.hint


def test_a_secret_under_another_name_is_pointed_out(cluster, api, federation):
    """A wrong `global_name` or release in the parameters is the usual cause."""
    other = secret_object({}, "mesh-consul-federation")
    api.answers["GET /api/v1/namespaces/consul/secrets"] = 200, {"items": [other, secret_object({}, "else")]}
    with pytest.raises(SecretError) as caught:
        find(cluster, federation())
    assert "mesh-consul-federation" in caught.value.found
    assert "else" not in caught.value.found
    assert "global_name" in caught.value.hint


def test_a_copy_takes_data_and_label_and_none_of_the_originals_metadata(data):
    """resourceVersion, uid and last-applied annotations must not travel (the page's `-o yaml | apply` carries all)."""
    made = manifest(held(data), "other", "consul-federation")
    assert made["metadata"] == {
        "name": "consul-federation",
        "namespace": "other",
        "labels": {"managed-by": "consul-k8s"},
    }
    assert set(made) == {"apiVersion", "kind", "metadata", "type", "data"}
    assert {key: base64.b64decode(value) for key, value in made["data"].items()} == data
    assert json.load(io.StringIO(json.dumps(made))) == made


def test_the_federations_ca_is_what_the_secret_holds(data, authority):
    """It checks every connection to Consul."""
    assert held(data).ca_pem() == authority.pem
    assert secret.MANAGED_BY == {"managed-by": "consul-k8s"}
