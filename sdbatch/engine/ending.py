"""How a call ends, whatever it drew: its errors, its last records, its summary."""

from __future__ import annotations

import time
from typing import Any

from sdbatch.engine.card_runs import CARD_KEY, is_card_stale
from sdbatch.engine.driver_loop import EngineResult
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.session import Session
from sdbatch.engine.summary import Summary, Totals, exit_code_of, tolerance
from sdbatch.errors import InputError, NoWorkersError, SdbatchError, StorageError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import appended_runs

ORDERLY = (0, 4, 75)


def demand_orderly(result: EngineResult) -> None:
    """Pass when an engine call ended with everything done, or was stopped in order.

    Raises:
        SdbatchError: What ended it otherwise.
    """
    if result.error is not None:
        raise result.error
    if result.exit_code not in ORDERLY:
        kinds: dict[int, type[SdbatchError]] = {2: InputError, 3: StorageError, 5: NoWorkersError}
        raise kinds.get(result.exit_code, SdbatchError)(result.reason)


def create_success(folder: RunFolder, session: Session) -> None:
    """Write down that all is done; what follows may be lost with this process and made up for.

    Raises:
        StorageError: Shards are missing, or the store failed.
    """
    if session.job is None:
        raise SdbatchError("the engine finished without a plan")
    prepared = session.prepared
    if not appended_runs(prepared.store):
        # The card is the last word of a call: where it is missing, gc and card are still due.
        # Of several runs it is kept, since it alone tells readers which folders are data.
        prepared.store.delete(CARD_KEY)
    folder.create_success(session.job.spec.plan_id, len(prepared.shards))


def is_card_due(session: Session) -> bool:
    """Whether a driver died between its success record and the card, its last word."""
    return is_card_stale(session.prepared.store)


def summarise(
    session: Session, folder: RunFolder, result: EngineResult | None, started: float
) -> Summary:
    """What the dataset holds now, and what this call took."""
    prepared = session.prepared
    totals = Totals.of(record.result for record in folder.records())
    span = session.last_done_at - session.ready_at
    allowed = tolerance(prepared.asked.value("failures.allow"), prepared.images)
    return Summary(
        output=prepared.store.url,
        plan_id=session.job.spec.plan_id if session.job else "",
        rows=prepared.rows,
        images=prepared.images,
        success=totals.success,
        failed=totals.failed,
        filtered=totals.filtered,
        seconds=round(time.monotonic() - started, 3),
        startup_seconds=round(max(session.ready_at - started, 0.0), 3),
        images_per_s=round(session.drawn / span, 3) if session.drawn and span > 0 else 0.0,
        row_steps=totals.row_steps,
        lane_steps=totals.lane_steps,
        occupancy=totals.occupancy,
        phase_seconds=totals.phase_seconds,
        workers=session.workers,
        worker_hours=round(session.worker_hours, 4),
        gpu_hours=round(session.gpu_hours, 4),
        exit_code=(
            result.exit_code
            if result and result.exit_code
            else exit_code_of(folder.finished(), totals.failed, allowed or 0)
        ),
        reason=result.reason if result else "",
        run=prepared.run,
        only_new=prepared.selection.to_dict() if prepared.selection else None,
    )


def nothing_new(prepared: Prepared) -> Summary:
    """The end of a call whose rows stand already: nothing was begun, nothing is missing."""
    none: dict[str, Any] = dict.fromkeys(
        [
            *("rows", "images", "success", "failed", "filtered", "row_steps", "lane_steps"),
            *("workers", "exit_code"),
        ],
        0,
    )
    none |= dict.fromkeys(("seconds", "startup_seconds", "images_per_s", "occupancy"), 0.0)
    return Summary(
        output=prepared.store.url,
        plan_id="",
        phase_seconds={},
        run=prepared.run,
        only_new=prepared.selection.to_dict() if prepared.selection else None,
        **none,
    )
