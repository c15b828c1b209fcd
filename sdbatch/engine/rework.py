"""Retry and repair: shards that stand are made once more, and only those.

One call finishes whatever rework is open first, also another than the one asked for: a
rework that was begun must be closed before the next one can be, nothing of it is lost by
going on, and the asker gets what was asked for by the same line. Then it begins its own.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

from sdbatch.engine.card_runs import is_card_stale, name_files
from sdbatch.engine.choice import RunOptions
from sdbatch.engine.driver_loop import EngineResult, Stop
from sdbatch.engine.ending import create_success, demand_orderly, is_card_due, summarise
from sdbatch.engine.last_word import last_word
from sdbatch.engine.lead import lead, stopped_in_order
from sdbatch.engine.log_lines import RunLog
from sdbatch.engine.open_rework import finish_rework, said_of
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.prepare_standing import demand_manifest
from sdbatch.engine.rework_choice import Wish, choose_failed
from sdbatch.engine.rework_summary import RepairSummary, RetrySummary, differences, retried
from sdbatch.engine.session import Reporter, Session
from sdbatch.engine.summary import Summary
from sdbatch.engine.take_over import DAMAGED
from sdbatch.errors import DamagedError, InputError, LeaseHeldError, SdbatchError
from sdbatch.records import Redo
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.rework import Rework

S = TypeVar("S", bound=Summary)


def _unknown() -> str:
    """Nobody said how the run is resumed."""
    return "sdbatch render"


@dataclass(kw_only=True)
class Reworking(ABC, Generic[S]):
    """One call of `retry` or `repair`.

    Attributes:
        how_to_resume: The command that finishes an unfinished run.
        newly_finished: Files that no record names, card and preview are due.
    """

    prepared: Prepared
    options: RunOptions
    report: Reporter
    how_to_resume: Callable[[], str] = _unknown
    newly_finished: bool = False
    _stop: Stop = field(default_factory=Stop)
    _started: float = field(default_factory=time.monotonic)

    @abstractmethod
    def wants(self, redo: Redo) -> bool:
        """Whether an open rework is the very one that this call asks for."""

    @abstractmethod
    def choose(self, folder: RunFolder) -> Wish | str:
        """What to make again, or in one line why there is nothing."""

    @abstractmethod
    def summed(
        self, summary: Summary, folder: RunFolder, session: Session, rework: Rework | None
    ) -> S:
        """The summary of this call with what it made of a rework; None when there was none."""

    def accepts(self, folder: RunFolder) -> bool:
        """Whether shards without a record may be among those to be made again."""
        return len(folder.committed()) == len(self.prepared.shards)

    def refuse_early(self, folder: RunFolder) -> str:  # noqa: ARG002  # for those who can
        """Why there is nothing to do, where that is cheap to know; a wrong wish is refused.

        It is asked of a finished dataset before the lease is taken, so that a call which does
        nothing writes nothing. Under the lease is chosen again.
        """
        return ""

    def compare(self, session: Session, rework: Rework) -> None:
        """Look what became of a rework before the files it replaces may go."""

    def execute(self) -> S:
        """Make again what is asked for, or stop in order.

        Raises:
            InputError: The run is not finished, or what is asked for is not there.
            DamagedError: Records or files that this call builds on are gone.
            SdbatchError: Whatever ended the rework before an orderly stop.
        """
        store, run = self.prepared.store, self.prepared.run
        folder = RunFolder(store, run)
        self._demand_complete(folder)
        if self._is_idle(folder):
            session = Session(self.prepared, self.options, self.report, self._stop)
            return self.summed(self._summary(folder, session), folder, session, None)
        with (
            lead(store, run, self.report.note, self._stop, self.options.limits.drain_s) as lease,
            last_word(folder) as word,
            stopped_in_order(self._stop),
        ):
            session = Session(self.prepared, self.options, self.report, self._stop)
            self.newly_finished = is_card_due(session)
            if folder.success_number() is None:
                create_success(folder, session)  # a driver died just before
                self.newly_finished = True
            while True:
                rework = self._open(folder) or self._begin(folder)
                if rework is None:
                    return self.summed(self._summary(folder, session), folder, session, None)
                mine = self.wants(rework.redo)
                summary = self._make(folder, session, rework)
                if lease.lost:
                    raise LeaseHeldError(f"{store.url}: {self._stop.reason}")
                if mine or summary.reason:
                    word.of(summary)
                    return summary

    def _is_idle(self, folder: RunFolder) -> bool:
        """Whether nothing is to be done, known without being the driver."""
        if not folder.finished():
            return False  # what is open is finished first, and may change what there is to do
        why = self.refuse_early(folder)
        if not why or is_card_stale(self.prepared.store):
            return False
        self.report.note(why)
        return True

    def _demand_complete(self, folder: RunFolder) -> None:
        if self.accepts(folder):
            return
        url = self.prepared.store.url
        committed, planned = len(folder.committed()), len(self.prepared.shards)
        if folder.success_number() is not None:
            reason = f"{committed:,} of {planned:,} shards have a record"
            raise DamagedError(url, f"{reason}: run first: sdbatch repair {url}")
        how = self.how_to_resume()  # nothing while another driver is at it
        raise InputError(
            f"{url}: {committed:,} of {planned:,} shards are committed, "
            "let the run be finished first" + (f": {how}" if how else "")
        )

    def _open(self, folder: RunFolder) -> Rework | None:
        """A rework that was begun before, if one is open; it is finished first."""
        rework = folder.open_rework()
        if rework is not None:
            self.report.note(said_of(rework, folder))
        return rework

    def _begin(self, folder: RunFolder) -> Rework | None:
        """Choose, and announce the rework; None when there is nothing to make again."""
        wish = self.choose(folder)
        if isinstance(wish, str):
            self.report.note(wish)
            return None
        if self.prepared.stored is None:
            raise SdbatchError("a rework without a plan")
        chosen = set(wish.shards)
        demand_manifest(self.prepared, [s for s in self.prepared.shards if s.shard_id in chosen])
        self.report.note(wish.say)
        plan_id = self.prepared.stored.spec.plan_id
        name_files(self.prepared.store, self.prepared.run)
        return folder.begin_rework(wish.redo, folder.next_revisions(wish.shards), plan_id)

    def _make(self, folder: RunFolder, session: Session, rework: Rework) -> S:
        """Drive a rework to its end, or to an orderly stop."""
        with RunLog(self.prepared.store, self.prepared.run) as log:
            result = finish_rework(session, folder, rework, log)
            if result is not None:
                demand_orderly(result)
            if result is None or result.exit_code == 0:
                self.compare(session, rework)
                create_success(folder, session)
                self.newly_finished = True
            summary = self._summary(folder, session, result)
            log.ended(summary)
            return self.summed(summary, folder, session, rework)

    def _summary(
        self, folder: RunFolder, session: Session, result: EngineResult | None = None
    ) -> Summary:
        return summarise(session, folder, result, self._started)


@dataclass(kw_only=True)
class Retry(Reworking[RetrySummary]):
    """Draws failed or filtered pictures again."""

    redo: Redo

    def wants(self, redo: Redo) -> bool:
        """Whether it is the same wish."""
        return redo == self.redo

    def choose(self, folder: RunFolder) -> Wish | str:
        """Shards with such pictures.

        Raises:
            InputError: No picture failed like that, others did.
            DamagedError: Files of these shards are gone.
        """
        return choose_failed(self.redo, folder, self.prepared.store)

    def refuse_early(self, folder: RunFolder) -> str:
        """Records alone tell."""
        wish = self.choose(folder)
        return wish if isinstance(wish, str) else ""

    def summed(
        self,
        summary: Summary,
        folder: RunFolder,
        session: Session,  # noqa: ARG002  # a repair's
        rework: Rework | None,
    ) -> RetrySummary:
        """Counts before and after, once all of it stands."""
        if rework is None or folder.rework_left(rework):
            return RetrySummary(**asdict(summary))
        done = retried(summary, self.prepared.store, self.prepared.run, rework)
        if rework.redo.kind != DAMAGED:
            self.report.note(done.said)
        return done


@dataclass(kw_only=True)
class Repair(Reworking[RepairSummary]):
    """Makes good what rotted or went."""

    find_damage: Callable[[RunFolder], Wish | str]
    _differ: int = 0

    def wants(self, redo: Redo) -> bool:
        """Whether it is a repair: two differ only in when the damage was seen."""
        return redo.kind == DAMAGED

    def choose(self, folder: RunFolder) -> Wish | str:
        """Shards in which a verification finds damage."""
        return self.find_damage(folder)

    def accepts(self, folder: RunFolder) -> bool:
        """A finished run may have lost records too."""
        return folder.success_number() is not None or super().accepts(folder)

    def compare(self, session: Session, rework: Rework) -> None:
        """Say which pictures of a repair are not what stood before."""
        if rework.redo.kind != DAMAGED:
            return
        store, run = self.prepared.store, self.prepared.run
        for difference in differences(store, run, rework, session.untouched):
            self.report.note(difference.describe())
            self._differ += len(difference.keys or ())

    def summed(
        self,
        summary: Summary,
        folder: RunFolder,  # noqa: ARG002  # a retry's
        session: Session,
        rework: Rework | None,
    ) -> RepairSummary:
        """What this call drew, and what came out otherwise than before."""
        done = RepairSummary(
            **asdict(summary),
            shards_again=len(rework.shards) if rework else 0,
            drawn_again=session.drawn if rework else 0,
            differ=self._differ,
        )
        if rework is not None and not summary.reason and rework.redo.kind == DAMAGED:
            self.report.note(done.said)
        return done
