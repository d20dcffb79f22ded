"""Every error that a user can meet, and the exit code that goes with it.

    ConsulfedError               1   something of ours is broken: please report it
    ├── ParamsError             10   the parameters are wrong; every mistake is named
    ├── PreflightError          11   a cluster is not ready for the change; nothing was written
    ├── ToolError               12   a program that is needed (helm, kubectl, consul, envoy) is not there
    ├── ApprovalError           13   what would change is not what was approved; nothing was written
    ├── ClusterError            20   a cluster does not answer, or refuses
    ├── SecretError             21   the federation secret is missing, incomplete or wrong
    ├── ApplyError              30   a change did not come to its end
    │   └── WaitTimeoutError    31   something did not become ready before its deadline
    ├── VerifyError             40   looked at afterwards, the world is not as it should be
    ├── LeakError               50   a record would have held a secret; it was withheld
    ├── KernelError             51   a notebook's kernel died, so that its record has no end
    ├── RecordError             52   a record is not what it claims to be, or cannot be written
    ├── SandboxError            60   the sandbox cannot do what was asked
    └── Interrupted            130   stopped by a person or by a signal

A caller that wants them all writes

    try:
        ...
    except ConsulfedError as error:
        print(error)
        raise SystemExit(error.exit_code)
"""

from __future__ import annotations

from typing import Any


class ConsulfedError(Exception):
    """What was found, what was expected, and what to do about it.

    Args:
        found: one sentence of cause, with names, never with a secret's value.
        hint: one sentence of remedy: the next command, or the section of a notebook.
        details: further findings, one a line; shown under the cause.
    """

    exit_code = 1

    def __init__(self, found: str, hint: str = "", details: tuple[str, ...] | list[str] = ()):
        super().__init__(found)
        self.found = found
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        lines = [self.found, *(f"  - {detail}" for detail in self.details)]
        if self.hint:
            lines.append(f"What to do: {self.hint}")
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """The same for a machine: `{class, found, details, hint, exit_code}`."""
        return {
            "class": type(self).__name__,
            "found": self.found,
            "details": list(self.details),
            "hint": self.hint,
            "exit_code": self.exit_code,
        }

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines instead of forty frames of traceback."""
        return [f"{type(self).__name__}: {self}"]


class ParamsError(ConsulfedError):
    """The parameters are wrong; every mistake is named, and nothing was written."""

    exit_code = 10


class PreflightError(ConsulfedError):
    """A cluster is not ready for the change; the notebook that says so wrote nothing."""

    exit_code = 11


class ToolError(ConsulfedError):
    """A program that is needed is not there, or too old."""

    exit_code = 12


class ApprovalError(ConsulfedError):
    """What would change is not what was approved, or was not approved at all; nothing was written."""

    exit_code = 13


class ClusterError(ConsulfedError):
    """A cluster does not answer, or refuses.

    `status` is the HTTP status of the API server's answer, None when there was no answer.
    """

    exit_code = 20

    def __init__(self, found: str, hint: str = "", details: tuple[str, ...] = (), status: int | None = None):
        super().__init__(found, hint, details)
        self.status = status


class SecretError(ConsulfedError):
    """The federation secret is missing, incomplete or wrong."""

    exit_code = 21


class ApplyError(ConsulfedError):
    """A change did not come to its end. Running the same notebook again goes on from here."""

    exit_code = 30


class WaitTimeoutError(ApplyError):
    """Something did not become ready before its deadline; the last state seen is in the message."""

    exit_code = 31


class VerifyError(ConsulfedError):
    """Acted, then looked, and it was not so."""

    exit_code = 40


class LeakError(ConsulfedError):
    """A record would have held a secret; it was withheld."""

    exit_code = 50


class KernelError(ConsulfedError):
    """A notebook's kernel died or was killed, so that its record has no end."""

    exit_code = 51


class RecordError(ConsulfedError):
    """A record was edited, is incomplete, or claims what it does not show; or it cannot be written."""

    exit_code = 52


class SandboxError(ConsulfedError):
    """The sandbox cannot do what was asked."""

    exit_code = 60


class Interrupted(ConsulfedError):
    """Stopped by a person or by a signal; running the same command again goes on."""

    exit_code = 130
