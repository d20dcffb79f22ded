"""Strip the notebooks whose names stand on stdin, ended by NUL, as they are in git's index; called by pre-commit."""

from __future__ import annotations

import subprocess
import sys

try:
    import nbformat
except ImportError:
    sys.exit(
        "No notebook can be committed here: nbformat is not installed.\nWhat to do: pip install nbstripout"
    )

KEYS = (
    "metadata.widgets metadata.signature metadata.papermill metadata.language_info.version"
    " metadata.language_info.codemirror_mode metadata.language_info.file_extension metadata.language_info.mimetype"
    " metadata.language_info.nbconvert_exporter metadata.language_info.pygments_lexer cell.metadata.papermill"
    " cell.metadata.execution cell.metadata.editable cell.metadata.slideshow cell.metadata.jupyter"
    " cell.metadata.jp-MarkdownHeadingCollapsed"
)
STRIP = [sys.executable, "-m", "nbstripout", "--keep-id", "--extra-keys", KEYS]


def git(*words: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(["git", *words], input=stdin, capture_output=True, check=True).stdout


def strip(name: str) -> bool:
    """Strip one notebook in the index; whether there was anything to strip."""
    mode, digest, _ = git("ls-files", "--stage", "--", f":(literal){name}").split()[:3]
    before = git("cat-file", "blob", digest.decode())
    after = subprocess.run(STRIP, input=before, capture_output=True, check=False)
    if after.returncode:
        reason = (after.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        sys.exit(
            f"{name} was not committed: its outputs cannot be stripped ({reason}).\n"
            "What to do: see that it is a notebook, and that nbstripout is installed (pip install nbstripout)."
        )
    if nbformat.reads(before.decode(), nbformat.NO_CONVERT) == nbformat.reads(
        after.stdout.decode(), nbformat.NO_CONVERT
    ):
        return False  # written in another way at most
    blob = git("hash-object", "-w", "--stdin", stdin=after.stdout).decode().strip()
    git("update-index", "--cacheinfo", f"{mode.decode()},{blob},{name}")
    return True


def main() -> None:
    for name in sys.stdin.read().split("\0"):
        if name and strip(name):
            print(f"{name}: outputs are left out of the commit; your own file keeps them", file=sys.stderr)


if __name__ == "__main__":
    main()
