"""Writing a params file: whole or not at all, and never over what somebody else wrote meanwhile."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import ParamsError


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was looked at.

    Attributes:
        content: None where it was not there.
    """

    file: Path
    content: bytes | None

    @property
    def text(self) -> str:
        return (self.content or b"").decode("utf-8")


def seen(file: Path) -> Seen:
    """The file as it is now. Raises ParamsError where it is there and cannot be read."""
    try:
        return Seen(file, file.read_bytes())
    except FileNotFoundError:
        return Seen(file, None)
    except OSError as error:
        raise ParamsError(
            f"{file} cannot be read: {error.strerror}.", "give the path of a YAML file"
        ) from None


def save(text: str, base: Seen) -> Seen:
    """Write the text where `base` was seen; what is there has to be as it was then, or nothing where nothing was.

    Raises ParamsError, and writes nothing then.
    """
    file = base.file.resolve()  # of a link the file that it leads to, so that the link stays
    content = text.encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as begun:
                begun.write(content)
                begun.flush()
                os.fsync(begun.fileno())
            os.chmod(
                name, file.stat().st_mode & 0o777 if base.content is not None and file.exists() else _usual()
            )
            if seen(file).content != base.content:
                raise _changed(base)
            if base.content is None:
                _put(name, base)
            else:
                os.replace(name, file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    except OSError as error:
        raise ParamsError(
            f"{base.file} cannot be written: {error.strerror}.", "choose a folder that you may write to"
        ) from None
    return Seen(base.file, content)


def _put(name: str, base: Seen) -> None:
    """Give a new file its name, unless another one came to have it in between."""
    try:
        os.link(name, base.file.resolve())
    except FileExistsError:
        raise _changed(base) from None


def _changed(base: Seen) -> ParamsError:
    if base.content is None:
        return ParamsError(
            f"{base.file} is there already; it was left as it is.",
            "open that file to change it, or give another name",
        )
    return ParamsError(
        f"{base.file} was changed by somebody else since it was opened; it was left as it is.",
        "open it again to see what changed, or give another name",
    )


def _usual() -> int:
    """The mode of a new file: what the process's umask leaves."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
