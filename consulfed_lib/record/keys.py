"""Keys that sign records and check their signatures: files in PEM, and the key services that securesystemslib knows.

A private key is read into memory and registered as a secret; it goes nowhere else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from .. import redact
from ..errors import RecordError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

_MAKE_ONE = "make one, for example: openssl genpkey -algorithm ed25519 -out key.pem"
_EXTRAS = {"awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hsm": "hsm"}
"""Scheme of a signer's URI → the extra of securesystemslib that it needs."""


def load_signer(key: str | Path, ask: Callable[[str], str] | None = None) -> Signer:
    """The signer that `--sign-key` names.

    Args:
        key: a private key in PEM (Ed25519, ECDSA P-256/384/521, RSA), or `awskms:KEY`, `gcpkms:projects/…`,
            `azurekms://VAULT.vault.azure.net/keys/NAME`, `hsm:[ID][?label=TOKEN]`.
        ask: asks for a passphrase or PIN; default: at the terminal, where there is one.

    Raises:
        RecordError: there is no such key, or it cannot be used, with what to do.
    """
    scheme = urlsplit(str(key)).scheme
    if scheme in _EXTRAS:
        return _service(str(key), scheme, ask or _at_terminal)
    return _file(Path(key), ask or _at_terminal)


def load_public_key(path: Path) -> Key:
    """A public key, or the one in a certificate, in PEM.

    Raises RecordError: it is not there, or is something else (a private key is refused, too: it belongs nowhere here).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path, "public key")
    if b"PRIVATE KEY" in content:
        raise RecordError(
            f"{path} is a private key; a signature is checked with the public one.",
            f"openssl pkey -in {path} -pubout -out public.pem",
        )
    try:
        if b"BEGIN CERTIFICATE" in content:
            public: Any = x509.load_pem_x509_certificate(content).public_key()
        else:
            public = load_pem_public_key(content)
    except Exception:  # the library has many words for "that is no key"
        raise RecordError(
            f"{path} is no public key in PEM.", "openssl pkey -in key.pem -pubout -out public.pem"
        ) from None
    return _of_crypto(public, path)


def _of_crypto(public: Any, path: Path) -> Key:
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(public)
    except Exception:
        raise RecordError(
            f"{path} is a key of a kind that is not used for signatures here.", _MAKE_ONE
        ) from None


def _file(path: Path, ask: Callable[[str], str]) -> Signer:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    content = _read(path, "private key")
    redact.register(content)
    passphrase: bytes | None = None
    if b"ENCRYPTED" in content:
        passphrase = ask(f"Passphrase of {path}").encode()
        redact.register(passphrase)
    try:
        private = load_pem_private_key(content, passphrase)
    except Exception:
        what = "cannot be opened with this passphrase" if passphrase else "is no private key in PEM"
        raise RecordError(f"{path} {what}.", "give the right one" if passphrase else _MAKE_ONE) from None
    try:
        return CryptoSigner(private)
    except Exception:
        raise RecordError(
            f"{path} is a key of a kind that is not used for signatures here.", _MAKE_ONE
        ) from None


def _service(uri: str, scheme: str, ask: Callable[[str], str]) -> Signer:
    """A key that never leaves its service. Its public part is asked for first: the signer checks it at every use."""
    from securesystemslib import signer as signers
    from securesystemslib.exceptions import UnsupportedLibraryError

    parts = urlsplit(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if scheme == "awskms":
                uri, public = signers.AWSSigner.import_(parts.path)
            elif scheme == "gcpkms":
                uri, public = signers.GCPSigner.import_(parts.path)
            elif scheme == "azurekms":
                vault, name = (parts.hostname or "").partition(".")[0], parts.path.split("/")[2]
                uri, public = signers.AzureSigner.import_(vault, name)
            else:  # without a number the key for signatures of the one token there is
                number = int(parts.path) if parts.path else None
                label = dict(parse_qsl(parts.query)).get("label")
                uri, public = signers.HSMSigner.import_(number, label, lambda what: _pin(ask, what))
            return signers.Signer.from_priv_key_uri(uri, public, lambda what: _pin(ask, what))
    except (UnsupportedLibraryError, ImportError):
        extra = f"pip install 'securesystemslib[{_EXTRAS[scheme]}]'"
        raise RecordError(f"Keys of {scheme}: need a library that is not installed.", extra) from None
    except RecordError:
        raise
    except Exception as error:  # each service has errors of its own
        first = (str(error).splitlines() or ["no message"])[0]
        raise RecordError(
            f"The key {uri} cannot be used ({type(error).__name__}: {first}).",
            "see that it is the key's name and that you may read its public part",
        ) from None


def _pin(ask: Callable[[str], str], what: str) -> str:
    answer = ask(what)
    redact.register(answer.encode())
    return answer


def _at_terminal(what: str) -> str:
    if not sys.stdin.isatty():
        raise RecordError(
            f"{what}: there is no terminal to ask for it.",
            "run this at a terminal; a pipeline uses a key without a passphrase out of its own secret store, or a "
            "key service",
        )
    import click

    return str(click.prompt(what, hide_input=True, err=True))


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"The {what} {path} cannot be read: {error.strerror}.", _MAKE_ONE) from None
