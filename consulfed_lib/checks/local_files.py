"""Copies of the federation secret on this machine, which HashiCorp's page makes by hand and tells people to delete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..redact import Secret, forms
from ..results import Finding, several
from . import Check, check

SECRET_KEYS = ("caKey", "replicationToken", "gossipEncryptionKey")
"""What of the federation secret nobody but servers may have; its other keys are public."""

_LARGEST = 256 * 1024
"""Bytes of a file that is looked into: the secret as YAML has about five thousand."""


def folders() -> list[Path]:
    """Where people put such a file: where they work, at home, and among the temporary ones. Not what is below."""
    return list(
        dict.fromkeys(Path(each).resolve() for each in (os.getcwd(), Path.home(), tempfile.gettempdir()))
    )


@check("local-files", "no file where people work by hand holds a key of the federation secret")
def local_files(
    self: Check, subject: str, secrets: Iterable[Secret], where: Iterable[Path]
) -> Iterator[Finding]:
    wanted = [form.encode() for secret in secrets for form in forms(secret.reveal())]
    where, looked, holding = list(where), 0, []
    for path, content in _contents(where):
        looked += 1
        if any(form in content for form in wanted):
            holding.append(str(path))
    if holding:
        yield self.error(
            subject,
            f"{several(len(holding), 'file')} with a key of the federation secret: {', '.join(holding)}",
            f"delete: shred -u {' '.join(holding)}; if others could read it, its keys are no secret any more",
        )
    else:
        yield self.ok(subject, f"none of {several(looked, 'file')} in {', '.join(map(str, where))}")


def _contents(where: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """Every small file that can be read; what this user cannot read, no copy of this user's is."""
    for folder in where:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) and entry.stat().st_size <= _LARGEST:
                    yield Path(entry.path), Path(entry.path).read_bytes()
            except OSError:
                continue
