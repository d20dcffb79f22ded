"""Strip the notebooks whose names stand on stdin, ended by NUL, as they are in git's index; called by pre-commit."""

from __future__ import annotations

import copy
import subprocess
import sys

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # nbformat would compile a grammar for two seconds

try:
    import nbformat
    from nbstripout import strip_output
except ImportError:
    sys.exit("No notebook can be committed: nbstripout is not installed.\nWhat to do: pip install nbstripout")

KEYS = [
    "metadata.signature", "metadata.widgets", "metadata.papermill", "cell.metadata.papermill",
    *(f"metadata.language_info.{each}" for each in (
        "version", "codemirror_mode", "file_extension", "mimetype", "nbconvert_exporter", "pygments_lexer",
    )),
    *(f"cell.metadata.{each}" for each in (
        "ExecuteTime", "collapsed", "editable", "execution", "jp-MarkdownHeadingCollapsed", "jupyter", "scrolled",
        "slideshow",
    )),
]  # fmt: skip
"""What JupyterLab and papermill leave beside outputs and counts."""


def git(*words: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(["git", *words], input=stdin, capture_output=True, check=True).stdout


def strip(name: str) -> bool:
    """Strip one notebook in the index; whether there was anything to strip."""
    mode, digest = git("ls-files", "--stage", "--", f":(literal){name}").decode().split()[:2]
    try:
        before = nbformat.reads(git("cat-file", "blob", digest).decode(), as_version=4)
    except (ValueError, nbformat.validator.NotebookValidationError, AttributeError) as error:
        reason = (str(error).splitlines() or ["it cannot be read"])[0]
        sys.exit(
            f"{name} was not committed: it is no notebook ({reason}).\nWhat to do: mend it, or leave it out."
        )
    after = strip_output(
        copy.deepcopy(before), keep_output=False, keep_count=False, keep_id=True, extra_keys=KEYS
    )
    if after == before:
        return False  # not even another way of writing the same
    blob = (
        git("hash-object", "-w", "--stdin", stdin=(nbformat.writes(after) + "\n").encode()).decode().strip()
    )
    git("update-index", "--cacheinfo", f"{mode},{blob},{name}")
    return True


def main() -> None:
    for name in sys.stdin.read().split("\0"):
        if name and strip(name):
            print(f"{name}: outputs are left out of the commit; your own file keeps them", file=sys.stderr)


if __name__ == "__main__":
    main()
