"""Secrets in what an API server answers: registered where they are read, so that nobody has to remember to do it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from . import register

PUBLIC = {"ca.crt", "tls.crt", "service-ca.crt", "namespace"}
"""Keys of a Secret's data that are no secret: certificates are to be shown, and a namespace's name is everywhere."""

_HELM = "helm.sh/release.v1"
"""Helm's own records: large, and nothing secret but the manifests of Secrets in them (`register_manifests`)."""


def register_answer(answer: Mapping[str, Any]) -> None:
    """Register every secret value in an answer: of a Secret, a list of them, or a token that was asked for."""
    kind = str(answer.get("kind", ""))
    if kind == "Secret":
        _register_secret(answer)
    elif kind in {"SecretList", "List"}:
        for item in answer.get("items") or []:
            # Items of a list do not say their kind.
            if kind == "SecretList" or item.get("kind") == "Secret":
                _register_secret(item)
    elif kind == "TokenRequest" and (token := (answer.get("status") or {}).get("token")):
        register(str(token).encode())


def register_manifests(manifests: list[dict[str, Any]]) -> None:
    """Register what the Secrets among rendered manifests hold."""
    for each in manifests:
        if each.get("kind") == "Secret":
            _register_secret(each)


def _register_secret(secret: Mapping[str, Any]) -> None:
    if secret.get("type") != _HELM:
        for value in _values(secret):
            register(value)


def _values(secret: Mapping[str, Any]) -> Iterator[bytes]:
    for key, value in (secret.get("data") or {}).items():
        if key not in PUBLIC and isinstance(value, str):
            try:
                yield base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):  # not what it should be, and still not to be shown
                yield value.encode()
    for key, value in (secret.get("stringData") or {}).items():
        if key not in PUBLIC and isinstance(value, str):
            yield value.encode()
