"""The driver: one run from a prepared plan to its last commit.

It decides what is still to be done (rows never drawn, a rework that somebody began) and has
a `Session` do it under the lease on the output. `rework.py` begins reworks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from sdbatch.engine.choice import RunOptions
from sdbatch.engine.driver_loop import EngineResult, Stop
from sdbatch.engine.earlier import EarlierFailures
from sdbatch.engine.ending import create_success, demand_orderly, is_card_due, summarise
from sdbatch.engine.last_word import last_word
from sdbatch.engine.lead import lead, stopped_in_order
from sdbatch.engine.log_lines import RunLog
from sdbatch.engine.open_rework import finish_rework, said_of
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.session import Reporter as Reporter
from sdbatch.engine.session import Session, Work
from sdbatch.engine.summary import Summary
from sdbatch.errors import DamagedError, LeaseHeldError
from sdbatch.plan.sharding import lease_order
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import mark_run


@dataclass
class Run:
    """One call of `render` on one output.

    Attributes:
        prepare_again: Decides once more, over the plan that another driver has just written.
        newly_finished: This call committed the last shard; card and preview are due.
    """

    prepared: Prepared
    options: RunOptions
    report: Reporter
    prepare_again: Callable[[], Prepared]
    newly_finished: bool = False
    _stop: Stop = field(default_factory=Stop)
    _started: float = field(default_factory=time.monotonic)

    def execute(self) -> Summary:
        """Run the plan to its end, or to an orderly stop.

        Raises:
            SdbatchError: Whatever ended the run before an orderly stop.
        """
        store, run = self.prepared.store, self.prepared.run
        folder = RunFolder(store, run)
        if self.prepared.stored is not None and folder.finished():
            return self._nothing_to_do(folder)
        if run != layout.MAIN:
            mark_run(store, run)
        with (
            lead(store, run, self.report.note, self._stop, self.options.limits.drain_s) as lease,
            RunLog(store, run) as log,
            last_word(folder) as word,
            stopped_in_order(self._stop),
        ):
            if self.prepared.stored is None and folder.read_job() is not None:
                self.prepared = self.prepare_again()  # another driver was first
                if folder.finished():
                    return self._nothing_to_do(folder)
            session = self._session()
            result = self._draw(folder, session, log)
            if lease.lost:
                raise LeaseHeldError(f"{store.url}: {self._stop.reason}")
            if result is not None:
                demand_orderly(result)
            if result is None or result.exit_code == 0:
                create_success(folder, session)
                self.newly_finished = True
            return word.of(log.ended(summarise(session, folder, result, self._started)))

    def _session(self) -> Session:
        return Session(self.prepared, self.options, self.report, self._stop)

    def _nothing_to_do(self, folder: RunFolder) -> Summary:
        session = self._session()
        summary = summarise(session, folder, None, self._started)
        if summary.done != summary.images:
            raise DamagedError(
                self.prepared.store.url,
                f"finished with {summary.images:,} pictures, but records name {summary.done:,}: "
                "look with sdbatch verify, mend it with sdbatch repair",
            )
        self.report.note(f"nothing to do, {summary.done:,} of {summary.images:,} done")
        self.newly_finished = is_card_due(session)
        return summary

    def _draw(self, folder: RunFolder, session: Session, log: RunLog) -> EngineResult | None:
        """Rows that nobody has drawn, then what an interrupted rework left; None when nothing."""
        prepared, result = self.prepared, None
        committed = folder.committed()
        if prepared.stored is None or len(committed) != len(prepared.shards):
            with ExitStack() as keep:
                result = session.run(self._work(folder, committed, keep), log)
        if result is not None and result.exit_code != 0:
            return result
        rework = folder.open_rework() if prepared.stored is not None else None
        if rework is None:
            return result
        self.report.note(said_of(rework, folder))
        return finish_rework(session, folder, rework, log) or result

    def _work(self, folder: RunFolder, committed: set[int], keep: ExitStack) -> Work:
        prepared = self.prepared
        if not committed <= {shard.shard_id for shard in prepared.shards}:
            where = prepared.store.join(layout.commits_prefix(prepared.run))
            raise DamagedError(where, "foreign records")
        # Names of records tell what is done: reading them all would keep workers waiting.
        done = sum(shard.num_images for shard in prepared.shards if shard.shard_id in committed)
        if done:
            self.report.note(f"resuming: {done:,} of {prepared.images:,} images done")
        earlier = EarlierFailures(folder, committed, self.report.note)
        keep.callback(earlier.close)
        return Work(
            shards=[s for s in lease_order(prepared.shards) if s.shard_id not in committed],
            images=prepared.images,
            images_done=done,
            num_shards=len(prepared.shards),
            shards_done=len(committed),
            failed_before=earlier,
            committed=len(committed),
        )
