"""`run.json`: an in-toto statement about the files of a record, in a DSSE envelope, signed with a key of the user's.

The file has one form only: what `seal` writes. Another spelling of the same JSON or base64 is refused, so that there
is no byte in it that could be changed without being noticed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..canonical import canonical
from ..errors import RecordError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Key, Signer

PREDICATE_TYPE = "urn:consulfed:run-record:v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

_HINT = "it was edited or damaged: take the record from a copy that verifies"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Sealed:
    """What a `run.json` holds: the envelope, and the statement in it."""

    envelope: Envelope
    subjects: Mapping[str, str]
    """File → SHA-256."""
    predicate: Mapping[str, Any]

    @property
    def keyids(self) -> list[str]:
        """Of the keys that are said to have signed it; empty: unsigned."""
        return list(self.envelope.signatures)


def statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The in-toto statement that `predicate` is so of these files (name → SHA-256)."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }


def seal(said: Mapping[str, Any], signers: Sequence[Signer] = ()) -> bytes:
    """The bytes of `run.json`: the statement in its envelope, signed by each signer.

    Raises RecordError when something in it is no JSON, or a signer fails.
    """
    from securesystemslib.dsse import Envelope

    try:
        payload = canonical(said)
    except (ValueError, TypeError) as error:
        raise RecordError(f"The record cannot be written as JSON: {error}.", "please report this") from None
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for signer in signers:
        try:
            envelope.sign(signer)
        except Exception as error:  # each key service has errors of its own
            first = (str(error).splitlines() or ["no message"])[0]
            raise RecordError(
                f"The record cannot be signed ({type(error).__name__}: {first}).",
                "see that the key may sign and its service answers, or leave --sign-key out",
            ) from None
    return _written(envelope)


def unseal(content: bytes) -> Sealed:
    """Read a `run.json`; the signatures are not looked at (`check_signature`).

    Raises RecordError: it is not what `seal` writes, with the reason.
    """
    from securesystemslib.dsse import Envelope

    raw = _json(content, "run.json")
    if not isinstance(raw, dict) or set(raw) != {"payload", "payloadType", "signatures"}:
        raise RecordError("run.json is no DSSE envelope.", _HINT)
    try:
        envelope = Envelope.from_dict(json.loads(content))
        same = _written(envelope) == content
    except Exception:  # whatever a library makes of arbitrary bytes
        raise RecordError(
            "run.json is no DSSE envelope: its payload or a signature is broken.", _HINT
        ) from None
    if not same:
        raise RecordError(
            "run.json is not written as consulfed writes it: some of its bytes were changed.", _HINT
        )
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RecordError(f"run.json holds {envelope.payload_type!r}, not an in-toto statement.", _HINT)
    said = _json(envelope.payload, "The statement in run.json")
    if not isinstance(said, dict) or said.get("_type") != STATEMENT_TYPE:
        raise RecordError("run.json holds no in-toto statement of version 1.", _HINT)
    if said.get("predicateType") != PREDICATE_TYPE:
        raise RecordError(
            f"run.json speaks of {said.get('predicateType')!r}, not of a run of consulfed.", _HINT
        )
    subjects, predicate = _subjects(said.get("subject")), said.get("predicate")
    if subjects is None or not isinstance(predicate, dict):
        raise RecordError("The statement in run.json is incomplete.", _HINT)
    if canonical(statement(subjects, predicate)) != envelope.payload:
        raise RecordError("The statement in run.json is not written as consulfed writes it.", _HINT)
    return Sealed(envelope, subjects, predicate)


def peek(content: bytes) -> Mapping[str, Any]:
    """The predicate of a `run.json`, quickly and without any check. Raises RecordError where there is none."""
    try:
        predicate = json.loads(base64.b64decode(json.loads(content)["payload"]))["predicate"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        predicate = None
    if not isinstance(predicate, dict):
        raise RecordError("run.json cannot be read.", _HINT)
    return predicate


def check_signature(envelope: Envelope, keys: Sequence[Key]) -> list[str]:
    """What is wrong with the signatures, a sentence each; empty: one of these keys signed it, and no signature by
    one of them is broken.
    """
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    if not envelope.signatures:
        return ["it is unsigned"]
    known = [(key, envelope.signatures[key.keyid]) for key in keys if key.keyid in envelope.signatures]
    if not known:
        names = ", ".join(short(keyid) for keyid in envelope.signatures)
        given = ", ".join(short(key.keyid) for key in keys)
        return [f"it is signed by another key: by {names}, not by {given}"]
    problems = []
    for key, signature in known:
        try:
            key.verify_signature(signature, envelope.pae())
        except (UnverifiedSignatureError, VerificationError):
            problems.append(
                f"the signature of key {short(key.keyid)} is broken: it was not made by that key over this content"
            )
    return problems


def short(keyid: str) -> str:
    """
    >>> short("0123456789abcdef" * 4)
    '0123456789ab'
    """
    return keyid[:12]


def _written(envelope: Envelope) -> bytes:
    return canonical(envelope.to_dict()) + b"\n"


def _json(content: bytes, what: str) -> Any:
    """Strictly: no key twice, no NaN, nothing but UTF-8."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{what} is no JSON: {error}.", _HINT) from None


def _subjects(raw: Any) -> dict[str, str] | None:
    """Name → SHA-256; None where it is no list of files."""
    found: dict[str, str] = {}
    for each in raw if isinstance(raw, list) else [None]:
        digest = each.get("digest") if isinstance(each, dict) else None
        sha256 = digest.get("sha256") if isinstance(digest, dict) else None
        name = each.get("name") if isinstance(each, dict) else None
        if (
            not (isinstance(name, str) and isinstance(sha256, str) and _SHA256.fullmatch(sha256))
            or name in found
        ):
            return None
        found[name] = sha256
    return found
