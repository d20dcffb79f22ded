"""No secret can be a parameter: they stand in every record, so that one in a params file is a mistake.

A value is judged by what it looks like (a private key, a URL with a password in it, a signed token), and by the key
under which it stands: `CONSUL_HTTP_TOKEN` holds a token, while `secretName`, `secretKey` or `tokenSecret` say where one
is. Helm values count, those of `values_files` included, and so does JSON in a text, as in the chart's
`server.extraConfig`. No sentence and no repr shows what was found.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .files import read_yaml

HIDDEN = "‹redacted›"

_IN_A_SECRET = "put it into a Kubernetes Secret and name that"
_OUT_OF_THE_URL = "leave it out; `helm repo add` and `helm registry login` keep a login for charts"

_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-](?:[A-Za-z0-9+/_-]|\s(?=\S)){39,}={0,2}")
_URL_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/\s:@]*:(?P<password>[^/\s@]+)|[\w-]{20,})@")
_SIGNED = re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")
_ISSUED = re.compile(r"\b(?:hv[sbr]\.[\w-]{20,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_KEY_SIZES = (16, 24, 32)

_SECRET = {
    "token": "token", "tokens": "token", "jwt": "token",
    "password": "password", "passwords": "password", "passwd": "password", "pwd": "password",
    "passphrase": "passphrase", "credential": "credential", "credentials": "credential",
    "encrypt": "gossip key", "gossipkey": "gossip key", "gossipencryption": "gossip key",
    "gossipencryptionkey": "gossip key", "encryptionkey": "key", "privatekey": "private key", "cakey": "private key",
    "tlskey": "private key", "apikey": "key", "accesskey": "key", "accountkey": "key", "sharedkey": "key",
    "signingkey": "key", "clientsecret": "secret", "sharedsecret": "secret", "appsecret": "secret",
    "apisecret": "secret", "signingsecret": "secret", "webhooksecret": "secret", "secretid": "secret",
    "initialmanagement": "token", "agentrecovery": "token",
}  # fmt: skip
"""How the name of a key ends whose value is a secret (letters and digits only, in lower case), and which kind of."""

_NAMES_ONE = ("secret", "secrets", "secretname", "key")
"""How the name of a key ends whose value says where a secret is: it is one only where it cannot be such a name."""

_LICENSE = "license"
_SHORTEST_LICENSE = 32
_SHORTEST_UNQUOTED = 8

_NO_SECRET = re.compile(
    r"(?i:true|false|yes|no|on|off|null|none|enabled?|disabled?)"
    r"|(?:~|\.{1,2})?(?:/[\w.@-]+)+/?"  # a file
    r"|[a-z0-9_.-]+(?:/[a-z0-9_.-]+)+"  # a path in a vault
    r"|(?:ref\+[a-z]+|vault|file|env|secretref|op):\S+"  # a reference that something else resolves
    r"|<[^<>]*>|[*.…]+"  # a placeholder
)
_TEMPLATE = re.compile(r"\{\{|\$\{|\$\(|^\$\w+$")
_NAME_SHAPED = re.compile(r"[A-Za-z0-9._/-]+")
_IN_VALUES = re.compile(r"(?:(?:primary|secondaries\[\d+\])\.)?values\b")
_OF_THE_PARENT = ("value", "data", "literal", "default")
_ASSIGNED = re.compile(
    r"(?P<key>[A-Za-z][\w.-]*)[\"']?[ \t]*[:=](?=[ \t]*(?P<quote>[\"']?)(?P<value>[^\s\"',;&}\]]+))"
)


@dataclass(frozen=True)
class Found:
    """Something that looks like a secret.

    Attributes:
        place: where it stands, in the words of the parameters.
        looks: what it looks like.
        value: the secret itself, for `hide` only.
        remedy: what to do instead.
    """

    place: str
    looks: str
    value: str = field(repr=False)
    remedy: str = _IN_A_SECRET

    @property
    def sentence(self) -> str:
        return f"{self.place}: looks like {self.looks}, and parameters stand in every record; {self.remedy}"


def secrets_in(raw: Mapping[Any, Any]) -> list[Found]:
    """Everything in raw parameters that looks like a secret, in the order in which it stands there.

    A file of Helm values that cannot be read is somebody else's to report.
    """
    return list(_Search().mapping(raw, "", ""))


def hide(text: str, found: list[Found]) -> str:
    """The text without the secrets that were found: another mistake at the same place may quote its value."""
    for value in sorted({each.value for each in found}, key=len, reverse=True):
        forms = {repr(value), json.dumps(value)}  # a short one may be a word of the sentence, too
        forms |= {form for form in (value, *value.splitlines()) if len(form) >= _SHORTEST_UNQUOTED}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, HIDDEN)
    return text


def masked(value: Any, found: list[Found]) -> Any:
    """The same plain data without the secrets that were found: for what quotes a value, and perhaps a part of it."""
    if isinstance(value, Mapping):
        return {masked(key, found): masked(each, found) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each, found) for each in value]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(text, str):
        for secret in (each.value for each in found):
            for form in (secret, json.dumps(secret)[1:-1]):  # as it stands in JSON in a text
                text = text.replace(form, HIDDEN)
    return text


class _Search:
    """One walk through parameters, or through a file of Helm values.

    What YAML's aliases put in several places is looked at once, so that no circle of them is endless.
    """

    def __init__(self, of_values: bool = False) -> None:
        self._of_values = of_values
        self._seen: dict[int, Any] = {}

    def mapping(self, mapping: Mapping[Any, Any], place: str, parent: str) -> Iterator[Found]:
        for key, value in mapping.items():
            text = str(key)
            shape = _shape(text)
            if shape:  # the place would show it
                looks, part, remedy = shape
                yield Found(f"{place or 'parameters'}: a key", looks, part, remedy)
                continue
            inner = f"{place}.{text}" if place else text
            if text == "values_files" and isinstance(value, list):
                yield from self._files(value, inner)
            else:
                yield from self._any(value, inner, _name(text, mapping, parent))

    def _any(self, value: Any, place: str, name: str) -> Iterator[Found]:
        if isinstance(value, bytes):  # YAML's !!binary
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            yield from self._text(value, place, name)
        if not isinstance(value, (Mapping, list, tuple)) or id(value) in self._seen:
            return
        self._seen[id(value)] = value  # kept, so that no other object gets its id
        if isinstance(value, Mapping):
            yield from self.mapping(value, place, name)
        else:
            for i, item in enumerate(value):
                yield from self._any(item, f"{place}[{i}]", name)

    def _text(self, text: str, place: str, name: str) -> Iterator[Found]:
        if text.lstrip()[:1] in ("{", "["):
            try:
                yield from self._any(json.loads(text), place, name)
                return
            except (ValueError, RecursionError):  # a template, or words that begin with a bracket
                pass
        found = _shape(text) or _by_name(name, text.strip())
        if found:
            yield Found(place, *found)
            return
        # Only where programs read it is a plain word behind `token:` a token; in `reason` it is a sentence.
        configuration = self._of_values or _IN_VALUES.match(place)
        for match in _ASSIGNED.finditer(text):
            value = match["value"]
            if match["quote"] or re.search(r"[^A-Za-z-]", value) if configuration else _random(value):
                named = _by_name(match["key"], value)
                if named:
                    yield Found(f"{place}: `{match['key']}`", *named)

    def _files(self, files: list[Any], place: str) -> Iterator[Found]:
        for i, file in enumerate(files):
            if not isinstance(file, str):
                continue
            try:
                values = read_yaml(file)
            except ValueError:  # said with the file's other mistakes
                continue
            for each in _Search(of_values=True).mapping(values, "", ""):
                yield Found(f"{place}[{i}]: {file}: {each.place}", each.looks, each.value, each.remedy)


def _name(key: str, mapping: Mapping[Any, Any], parent: str) -> str:
    """The name by which a value is judged: its key's, or that of what it is the value of.

    `{name: CONSUL_HTTP_TOKEN, value: …}` is a variable of a container, and every text of Consul's `acl.tokens` a token.
    """
    if key in _OF_THE_PARENT:
        named = mapping.get("name")
        return named if isinstance(named, str) else parent
    if _letters(parent).endswith("tokens") and not _letters(key).endswith(_NAMES_ONE):
        return f"{key} token"
    return key


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _by_name(name: str, value: str) -> tuple[str, str, str] | None:
    """(what it looks like, the value, the remedy) of a value that is a secret because of its key's name."""
    letters = _letters(name)
    if not value or _TEMPLATE.search(value) or "agent-inject" in name:  # Vault's: what to fetch from where
        return None
    shape = _random(value)
    kinds = [kind for end, kind in _SECRET.items() if letters.endswith(end)]
    if kinds and (shape or not _NO_SECRET.fullmatch(value)):
        return shape or f"a {kinds[-1]}", value, _IN_A_SECRET
    if letters.endswith(_NAMES_ONE):
        if shape:
            return shape, value, _IN_A_SECRET
        if letters.endswith("secret") and not _NAME_SHAPED.fullmatch(value):
            return "a secret and not like the name of one", value, _IN_A_SECRET
    if letters.endswith(_LICENSE) and len(value) >= _SHORTEST_LICENSE and not _NO_SECRET.fullmatch(value):
        return "the text of a license", value, _IN_A_SECRET
    return None


def _shape(text: str) -> tuple[str, str, str] | None:
    """(what it looks like, the part that is secret, the remedy) of what is a secret under whatever key."""
    if _PRIVATE_KEY.search(text):
        return "a private key", text, _IN_A_SECRET
    for run in _BASE64_RUN.finditer(text):
        for part in (run[0], *run[0].split()):  # wrapped into lines, or behind a word
            decoded = _decoded(part)
            if _PRIVATE_KEY.search(decoded) or _PRIVATE_KEY.search(_decoded(decoded)):
                return "a private key in base64", text, _IN_A_SECRET
    login = _URL_LOGIN.search(text)
    if login and not _TEMPLATE.search(login[0]):
        return "a URL with a password in it", login[0], _OUT_OF_THE_URL
    signed = _SIGNED.search(text)
    if signed:
        return "a signed token (JWT), as those of service accounts are", signed[0], _IN_A_SECRET
    issued = _ISSUED.search(text)
    return ("a token by how it begins", issued[0], _IN_A_SECRET) if issued else None


def _random(value: str) -> str:
    """What a value looks like that nobody would give as a name; empty where it may be one."""
    if _UUID.fullmatch(value):
        return "a UUID, as Consul's tokens are"
    mixed = value.endswith("=") or all(re.search(kind, value) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    if mixed and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", value):
        size = len(base64.b64decode(value)) if len(value) % 4 == 0 else 0
        if size in _KEY_SIZES:
            return f"base64 of {size} bytes, as gossip keys are"
    return ""


def _decoded(text: str) -> str:
    """What a text in base64 says; empty where it is none. A last group that is cut off counts for nothing."""
    plain = re.sub(r"\s", "", text).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain[: len(plain) // 4 * 4]).decode("latin-1")
    except (binascii.Error, ValueError):
        return ""
