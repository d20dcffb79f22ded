"""run.json and its keys: one form only, and each kind of signature that is not right in its own words."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from consulfed_lib import redact
from consulfed_lib.canonical import canonical
from consulfed_lib.errors import RecordError
from consulfed_lib.record.keys import load_public_key, load_signer
from consulfed_lib.record.statement import check_signature, peek, seal, statement, unseal

SUBJECTS = {"b.ipynb": "b" * 64, "a.ipynb": "a" * 64}
SAID = statement(SUBJECTS, {"run": "x", "reason": "because"})
KINDS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


def write_pair(folder: Path, private: Any, name: str = "key", passphrase: bytes = b"") -> tuple[Path, Path]:
    """(private, public) key file in PEM."""
    encryption: Any = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    paths = folder / f"{name}.pem", folder / f"{name}.pub"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[0].write_bytes(private.private_bytes(pem, pkcs8, encryption))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    paths[1].write_bytes(private.public_key().public_bytes(pem, info))
    return paths


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate())


# the statement and its envelope


def test_a_statement_is_in_toto_version_1():
    """Other tools read it."""
    assert SAID == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "a.ipynb", "digest": {"sha256": "a" * 64}},
            {"name": "b.ipynb", "digest": {"sha256": "b" * 64}},
        ],
        "predicateType": "urn:consulfed:run-record:v1",
        "predicate": {"run": "x", "reason": "because"},
    }


def test_what_is_sealed_is_read_again():
    """An unsigned envelope has an empty list of signatures."""
    content = seal(SAID)
    assert content.endswith(b"}\n")
    assert json.loads(content)["signatures"] == []
    assert json.loads(content)["payloadType"] == "application/vnd.in-toto+json"
    found = unseal(content)
    assert found.subjects == SUBJECTS
    assert found.predicate == {"run": "x", "reason": "because"}
    assert found.keyids == []
    assert peek(content) == found.predicate


def test_the_same_statement_is_the_same_file(pair):
    """Whatever the order in which it was made; Ed25519 signs the same the same way."""
    turned = json.loads(json.dumps(SAID))
    turned = {key: turned[key] for key in reversed(turned)}
    assert seal(turned) == seal(SAID)
    assert seal(SAID, [load_signer(pair[0])]) == seal(SAID, [load_signer(pair[0])])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_is_no_json_is_refused(value):
    """JSON has no word for NaN; a reader in another language would stumble."""
    with pytest.raises(RecordError, match="cannot be written as JSON"):
        seal(statement({}, {"x": value}))


def payload(said: Any) -> bytes:
    """An envelope around anything, written as consulfed writes it."""
    raw = said if isinstance(said, bytes) else canonical(said)
    encoded = base64.b64encode(raw).decode()
    envelope = {"payload": encoded, "payloadType": "application/vnd.in-toto+json", "signatures": []}
    return canonical(envelope) + b"\n"


def in_the_alphabet_of_urls() -> bytes:
    """The same bytes in the other spelling of base64."""
    raw = json.loads(payload(statement(SUBJECTS, {"x": "???>>>" * 3})))
    other = raw["payload"].translate(str.maketrans("+/", "-_"))
    assert other != raw["payload"]
    return canonical(raw | {"payload": other}) + b"\n"


SEALED = seal(SAID)
BROKEN = {
    "empty": (b"", "is no JSON"),
    "no JSON": (b"{", "is no JSON"),
    "not UTF-8": (b"\xff\xfe", "is no JSON"),
    "deep": (b"[" * 100_000, "is no JSON"),
    "a list": (b"[]\n", "no DSSE envelope"),
    "a key more": (SEALED.replace(b'{"payload"', b'{"more":1,"payload"'), "no DSSE envelope"),
    "a key twice": (SEALED.replace(b'{"payload"', b'{"payload":"","payload"'), "a key stands twice"),
    "no end of line": (SEALED.rstrip(), "some of its bytes were changed"),
    "white space": (SEALED.replace(b":", b": ", 1), "some of its bytes were changed"),
    "escaped": (SEALED.replace(b"payloadType", b"payload\\u0054ype"), "some of its bytes were changed"),
    "base64 of URLs": (in_the_alphabet_of_urls(), "some of its bytes were changed"),
    "no base64": (SEALED.replace(b'"payload":"', b'"payload":"*'), "payload or a signature is broken"),
    "a number": (b'{"payload":1,"payloadType":"x","signatures":[]}\n', "is broken"),
    "signatures of no shape": (SEALED.replace(b"[]", b"[1]"), "is broken"),
    "another type": (SEALED.replace(b"vnd.in-toto", b"vnd.in-tote"), "not an in-toto statement"),
    "payload no JSON": (payload(b"hello"), "The statement in run.json is no JSON"),
    "payload NaN": (payload(b'{"a":NaN}'), "NaN is no JSON"),
    "no statement": (payload({"a": 1}), "no in-toto statement of version 1"),
    "another predicate": (payload({**SAID, "predicateType": "urn:x"}), "speaks of 'urn:x'"),
    "no subjects": (payload({**SAID, "subject": None}), "incomplete"),
    "subject twice": (payload({**SAID, "subject": SAID["subject"][:1] * 2}), "incomplete"),
    "subject of no shape": (
        payload({**SAID, "subject": [{"name": "a", "digest": {"sha256": "x"}}]}),
        "incomplete",
    ),
    "no predicate": (payload({**SAID, "predicate": []}), "incomplete"),
    "unsorted subjects": (
        payload({**SAID, "subject": SAID["subject"][::-1]}),
        "not written as consulfed writes",
    ),
    "spaces inside": (payload(json.dumps(SAID, sort_keys=True).encode()), "not written as consulfed writes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_kind_of_broken_file_is_said_in_plain_words(name):
    """Never a library's exception, and never taken for a record."""
    content, expected = BROKEN[name]
    with pytest.raises(RecordError) as caught:
        unseal(content)
    assert expected in caught.value.found
    assert caught.value.exit_code == 52


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"payload":"e30="}', b'{"payload":"*"}', b'{"payload":1}']
)
def test_a_quick_look_has_an_error_of_its_own(content):
    """The chain is read with it, over records of whatever state."""
    with pytest.raises(RecordError, match=r"run\.json cannot be read"):
        peek(content)


@pytest.mark.parametrize("signed", [False, True])
def test_no_byte_of_it_can_be_changed(signed, pair):
    """Each single bit flipped at each place: refused, or other content than was sealed, or a broken signature."""
    content = seal(SAID, [load_signer(pair[0])] if signed else [])
    keys = [load_public_key(pair[1])]
    for position in range(len(content)):
        edited = bytearray(content)
        edited[position] ^= 1
        try:
            found = unseal(bytes(edited))
        except RecordError:
            continue
        same = (found.subjects, found.predicate) == (SUBJECTS, SAID["predicate"])
        assert not same or check_signature(found.envelope, keys), position


# signatures


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_key_signs_and_checks(kind, tmp_path):
    """Ed25519, ECDSA and RSA, from PEM files."""
    private, public = write_pair(tmp_path, KINDS[kind]())
    found = unseal(seal(SAID, [load_signer(private)]))
    key = load_public_key(public)
    assert found.keyids == [key.keyid]
    assert check_signature(found.envelope, [key]) == []


def test_a_certificate_is_a_public_key_too(tmp_path, authority):
    """A key of a PKI comes as one."""
    (tmp_path / "key.pem").write_text(authority.key_pem)
    (tmp_path / "ca.pem").write_text(authority.pem)
    found = unseal(seal(SAID, [load_signer(tmp_path / "key.pem")]))
    assert check_signature(found.envelope, [load_public_key(tmp_path / "ca.pem")]) == []


def test_unsigned_another_key_and_a_broken_signature_are_three_things(tmp_path, pair):
    """Each is said in its own words; they have other causes and other cures."""
    other = write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "other")
    key, other_key = load_public_key(pair[1]), load_public_key(other[1])
    assert check_signature(unseal(seal(SAID)).envelope, [key]) == ["it is unsigned"]
    signed = unseal(seal(SAID, [load_signer(pair[0])]))
    assert check_signature(signed.envelope, [other_key]) == [
        f"it is signed by another key: by {key.keyid[:12]}, not by {other_key.keyid[:12]}"
    ]
    forged = unseal(seal(statement(SUBJECTS, {"run": "y"})))
    forged.envelope.signatures = signed.envelope.signatures
    (problem,) = check_signature(forged.envelope, [key])
    assert problem.startswith(f"the signature of key {key.keyid[:12]} is broken")


def test_a_signature_under_another_keys_name_is_broken(tmp_path, pair):
    """The name of a key in an envelope proves nothing."""
    other = load_public_key(write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "other")[1])
    raw = json.loads(seal(SAID, [load_signer(pair[0])]))
    raw["signatures"][0]["keyid"] = other.keyid
    (problem,) = check_signature(unseal(canonical(raw) + b"\n").envelope, [other])
    assert "is broken" in problem


def test_one_of_several_keys_is_enough(tmp_path, pair):
    """A team has several; a record is signed by one of them."""
    other = load_public_key(write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "other")[1])
    signed = unseal(seal(SAID, [load_signer(pair[0])]))
    assert check_signature(signed.envelope, [other, load_public_key(pair[1])]) == []


def test_a_signer_that_fails_is_an_error_of_ours(pair):
    """A key service may be gone by the end of a run."""

    class Gone:
        def sign(self, content: bytes) -> Any:
            raise ConnectionError("no route to the key service")

    with pytest.raises(
        RecordError, match=r"cannot be signed \(ConnectionError: no route to the key service\)"
    ):
        seal(SAID, [Gone()])  # type: ignore[list-item]


# keys


def test_a_passphrase_is_asked_for(tmp_path):
    """And is a secret from then on, as the key is."""
    private, public = write_pair(tmp_path, KINDS["ecdsa"](), passphrase=b"correct horse battery")
    asked = []

    def ask(what: str) -> str:
        asked.append(what)
        return "correct horse battery"

    found = unseal(seal(SAID, [load_signer(private, ask)]))
    assert check_signature(found.envelope, [load_public_key(public)]) == []
    assert asked == [f"Passphrase of {private}"]
    assert "horse" not in redact.scrub("correct horse battery")


def test_a_wrong_passphrase_is_said_without_it(tmp_path):
    """The hint is to give the right one."""
    private, _ = write_pair(tmp_path, KINDS["ed25519"](), passphrase=b"right")
    with pytest.raises(RecordError, match="cannot be opened with this passphrase") as caught:
        load_signer(private, lambda _: "wrong-passphrase")
    assert "wrong-passphrase" not in str(caught.value)


def test_without_a_terminal_nothing_waits_for_a_passphrase(tmp_path, monkeypatch):
    """A pipeline is told what to do instead of hanging."""
    private, _ = write_pair(tmp_path, KINDS["ed25519"](), passphrase=b"right")
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(RecordError, match="there is no terminal to ask for it") as caught:
            load_signer(private)
    assert "secret store" in caught.value.hint


def test_a_private_key_is_a_secret_in_this_process(pair):
    """No output and no record may hold a line of it."""
    load_signer(pair[0])
    line = pair[0].read_text().splitlines()[1]
    assert line not in redact.scrub(f"log: {line}")


def test_what_is_no_private_key_is_refused(tmp_path, pair):
    """Missing, another file, a public key, a kind that signs nothing here: each with what to do."""
    (tmp_path / "text").write_text("hello")
    unknown = tmp_path / "dsa.pem"
    unknown.write_bytes(
        dsa.generate_private_key(1024).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for path, expected in (
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path / "text", "is no private key in PEM"),
        (pair[1], "is no private key in PEM"),
        (unknown, "of a kind that is not used"),
    ):
        with pytest.raises(RecordError, match=expected) as caught:
            load_signer(path)
        assert caught.value.hint


def test_what_is_no_public_key_is_refused(tmp_path, pair):
    """A private key given by mistake is named as such, and not used."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "certificate").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for path, expected in (
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path / "text", "is no public key in PEM"),
        (tmp_path / "certificate", "is no public key in PEM"),
        (pair[0], "is a private key"),
    ):
        with pytest.raises(RecordError, match=expected):
            load_public_key(path)


@pytest.mark.parametrize(
    "uri",
    ["awskms:alias/records", "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
     "azurekms://vault.vault.azure.net/keys/records", "hsm:2?label=token"],
)  # fmt: skip
def test_a_key_service_without_its_library_says_what_to_install(uri):
    """The libraries of the services are extras of securesystemslib."""
    with pytest.raises(RecordError, match="need a library that is not installed") as caught:
        load_signer(uri)
    assert f"securesystemslib[{uri.partition(':')[0]}]" in caught.value.hint
