"""Keeping the record of a run: begun before anything is done, and made whatever the run comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import execution
from .errors import ConsulfedError, LeakError, RecordError
from .execution import Tell
from .params import Federation
from .plans import PlanFile
from .plans.file import NAME
from .record.archive import Staging, abandoned, close_abandoned
from .record.pages import Pages
from .record.predicate import beginning, ending, plan_of
from .record.scan import scan


@dataclass(frozen=True)
class Kept:
    """A record in its place: its folder, the outcome that it claims, and the digest of the plan in it."""

    folder: Path
    word: str
    plan: str


class Keeper:
    """Makes the record of one run.

    Raises RecordError when it cannot be begun, and ParamsError when the key that it is to be signed with cannot be
    used: before anything is done.
    """

    def __init__(
        self,
        params: Federation,
        kind: str,
        records: Path,
        sign_key: str,
        approved: PlanFile | None,
        tell: Tell,
    ):
        self._federation = params.federation
        self._approved = approved
        self._tell = tell
        self._signers = []
        if sign_key:
            from .record.keys import load_signer

            self._signers.append(load_signer(sign_key))
        self._records = records
        self._begun = beginning(
            params, kind, execution.notebooks_folder(), approved.digest if approved else ""
        )
        self._staging = Staging(records, params.federation)
        self._pages = Pages()

    def __enter__(self) -> Keeper:
        self._staging.begin(self._begun)
        self._pages.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pages.stop()
        self._staging.close()

    @property
    def run(self) -> str:
        return self._staging.run

    @property
    def folder(self) -> Path:
        """Where notebooks are executed into."""
        return self._staging.path

    @property
    def place(self) -> Path:
        """Where the record will be."""
        return self._staging.place

    def executed(self, output: str) -> None:
        """A notebook came to its end, whichever: make its page meanwhile."""
        self._pages.make(self._staging.path / output)

    def finish(self, error: ConsulfedError | None) -> Kept:
        """Make the record, and before it those of runs that were killed.

        Args:
            error: what the run ended with.

        Raises:
            LeakError: it would have held a secret; nothing of it is left.
            RecordError: it cannot be written, or does not show what it claims.
        """
        self._pages.finish()
        left_out = self._staging.tidy()
        self._staging.pages()  # those that are missing, whatever the reason
        self._close_killed()
        predicate = ending(self._begun, self._staging.path, error)
        if left_out:
            predicate["left_out"] = left_out
        plan = self._plan(error)
        if plan:
            self._staging.write(NAME, plan.bytes())
            predicate["plan"] = {"file": NAME, "digest": plan.digest}
        folder = self._staging.finish(predicate, self._signers, scan)
        return Kept(folder, predicate["outcome"], plan.digest if plan else "")

    def discard(self) -> None:
        """Keep nothing: a notebook would have held a secret."""
        self._pages.finish()
        self._staging.discard()

    def _plan(self, error: ConsulfedError | None) -> PlanFile | None:
        """The approved plan where there is one, else what the notebooks planned; none of a run that failed, because
        half a plan is not to be approved."""
        if self._approved:
            return self._approved
        return None if error else plan_of(self._staging.path, self._federation)

    def _close_killed(self) -> None:
        """What killed runs left becomes a record of its own, scanned for what this run has learnt to be secret."""
        for left in abandoned(self._records, self._federation):
            try:
                made = close_abandoned(left, scan, self._signers)
            except LeakError:
                self._tell(
                    f"The killed run {left.run} had left a secret in its notebooks; they were removed."
                )
            except RecordError as error:
                self._tell(f"The killed run {left.run} leaves no record: {error.found}")
            else:
                if made:
                    self._tell(f"The killed run {left.run} is recorded as interrupted: {made}")
