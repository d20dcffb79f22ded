"""The files of a record: read as they are, and held against SHA256SUMS and against the statement.

Two lists name each file's SHA-256, so that where one of them differs it can be told which of the three was edited.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

RUN, SUMS, PLAN = "run.json", "SHA256SUMS", "plan.json"
_LARGEST = 512 * 1024 * 1024
"""Bytes of a file that is still read."""


def read_file(path: Path) -> bytes:
    """A regular file's content; never through a symbolic link. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no ordinary file")
        if status.st_size > _LARGEST:
            raise OSError(0, "it is larger than any record's file")
        return file.read()


def contents_of(folder: Path, problems: list[str]) -> dict[str, bytes] | None:
    """File → content; what cannot be read is a problem. None where there is no folder."""
    if folder.is_symlink() or not folder.is_dir():
        problems.append(f"{folder}: it is no folder")
        return None
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        problems.append(f"{folder}: it cannot be read: {error.strerror}")
        return None
    contents = {}
    for name in names:
        try:
            contents[name] = read_file(folder / name)
        except OSError as error:
            link = " (a symbolic link)" if (folder / name).is_symlink() else ""
            problems.append(f"{name}: it cannot be read: {error.strerror}{link}")
    return contents


def sums(digests: Mapping[str, str]) -> bytes:
    """The content of SHA256SUMS for these files (name → SHA-256), as `sha256sum -c` reads it."""
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests) if name != SUMS]
    return "".join(lines).encode("utf-8", "surrogateescape")


def check_sums(
    content: bytes | None, digests: Mapping[str, str], subjects: Mapping[str, str] | None
) -> list[str]:
    """SHA256SUMS against the files. Where the two differ, the statement tells which of them was changed."""
    if content is None:
        return [f"{SUMS}: it is missing"]
    if content == sums(digests):
        return []
    said = {}
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        sha256, _, name = line.partition("  ")
        said[name] = sha256
    problems = []
    for name, sha256 in digests.items():
        if name == SUMS:
            continue
        if name not in said:
            problems.append(f"{name}: it is not in {SUMS}: it was added, or {SUMS} was edited")
        elif said[name] != sha256 and subjects is not None and subjects.get(name) == sha256:
            problems.append(
                f"{SUMS}: it was edited: it has another SHA-256 of {name} than {RUN} and the file itself"
            )
        elif said[name] != sha256:
            problems.append(f"{name}: it was edited: its SHA-256 is not the one in {SUMS}")
    problems += [f"{name}: it is missing; {SUMS} names it" for name in said if name not in digests]
    if not problems or sums(said) != content:
        problems.append(f"{SUMS}: it is not written as consulfed writes it: it was edited")
    return problems


def check_subjects(digests: Mapping[str, str], subjects: Mapping[str, str]) -> list[str]:
    files = {name: sha256 for name, sha256 in digests.items() if name not in {RUN, SUMS}}
    problems = [f"{name}: {RUN} says nothing of it: it was added" for name in files.keys() - subjects.keys()]
    problems += [f"{name}: it is missing; {RUN} speaks of it" for name in subjects.keys() - files.keys()]
    problems += [
        f"{name}: it was edited: its SHA-256 is not the one in {RUN}"
        for name in files.keys() & subjects.keys()
        if files[name] != subjects[name]
    ]
    return sorted(problems)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; empty where it cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except OSError:
        return ""
