"""Retry and repair, whole: from a dataset's own plan to its last file.

Both draw some pictures of a finished dataset once more and leave the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from sdbatch.audit.damage import damage_chooser
from sdbatch.audit.finish import S, finish
from sdbatch.audit.status import read_status
from sdbatch.engine.call_options import ReworkOptions
from sdbatch.engine.choice import RunOptions, choose_engine, demand_reachable
from sdbatch.engine.events import Progress
from sdbatch.engine.nightly import other_runs
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.prepare_standing import prepare_again
from sdbatch.engine.request import refuse_unknown, run_options
from sdbatch.engine.rework import Repair, Retry, Reworking
from sdbatch.engine.rework_choice import redo_of
from sdbatch.engine.rework_summary import RepairSummary, RetrySummary
from sdbatch.engine.run import Reporter


class Silent:
    """A reporter that shows nothing."""

    def note(self, line: str) -> None:
        """Drop it."""

    def progress(self, progress: Progress) -> None:
        """Drop it."""


def retry(
    out: str | Path,
    *,
    only: Literal["failed", "filtered"] = "failed",
    error_type: str | Sequence[str] = (),
    reseed: int | None = None,
    report: Reporter | None = None,
    **options: Unpack[ReworkOptions],
) -> RetrySummary:
    """Draw the failed pictures of a finished dataset again; all others keep their bytes.

    An interrupted retry or repair of this dataset is finished first.

    Args:
        out: Folder or URL of the dataset; its plan says everything else.
        only: `failed`, or `filtered`, which needs `reseed`.
        error_type: Only pictures that failed so; empty for all.
        reseed: Draw from other seeds, which follow from the planned ones and this number.
        report: Told how it goes; None is silent.
        options: See `ReworkOptions`.

    Raises:
        InputError: The run is unfinished, or no picture failed so.
        StorageError: The output failed, or holds damage that `repair` must mend first.
        EngineError: No worker came up, or another driver is at work; the same call goes on.
    """
    types = [error_type] if isinstance(error_type, str) else error_type
    redo = redo_of(only, types, reseed)

    def make(prepared: Prepared, how: RunOptions, talk: Reporter) -> Reworking[RetrySummary]:
        return Retry(prepared=prepared, options=how, report=talk, redo=redo)

    return _rework(out, options, report or Silent(), make)


def repair(
    out: str | Path,
    *,
    level: int = 2,
    report: Reporter | None = None,
    **options: Unpack[ReworkOptions],
) -> RepairSummary:
    """Make damaged shards of a finished dataset whole again; all others keep their bytes.

    What its hashes prove intact is taken over, the rest is drawn again. An interrupted
    retry or repair of this dataset is finished first.

    Args:
        out: Folder or URL of the dataset; its plan says everything else.
        level: How closely to look: 1 sizes, 2 every byte, 3 every row and picture.
        report: Told how it goes; None is silent.
        options: See `ReworkOptions`.

    Raises:
        InputError: The run is unfinished.
        StorageError: The output failed.
        EngineError: No worker came up, or another driver is at work; the same call goes on.
    """

    def make(prepared: Prepared, how: RunOptions, talk: Reporter) -> Reworking[RepairSummary]:
        find = damage_chooser(prepared.store, level, talk.note, prepared.run)
        return Repair(prepared=prepared, options=how, report=talk, find_damage=find)

    return _rework(out, options, report or Silent(), make)


def _rework(
    out: str | Path,
    options: Mapping[str, Any],
    talk: Reporter,
    make: Callable[[Prepared, RunOptions, Reporter], Reworking[S]],
) -> S:
    """One call of `retry` or `repair`, from the dataset's own plan."""
    refuse_unknown(options, ReworkOptions.__annotations__)
    prepared = prepare_again(out, options, options.get("run"), talk)
    how = run_options(prepared.asked, options)
    choose_engine(how, prepared.store.private)  # refuses before anything is written
    demand_reachable(how.address)
    for line in other_runs(prepared.store, options.get("run")):
        talk.note(line)
    rework = make(prepared, how, talk)
    rework.how_to_resume = lambda: read_status(prepared.store, prepared.run).resume
    summary = rework.execute()
    if summary.reason:
        talk.note(f"ended early: {summary.reason}; the same command goes on")
    elif rework.newly_finished:
        collect, name = options.get("gc", True), prepared.run
        summary = finish(prepared.store, summary, collect=collect, note=talk.note, run=name)
    return summary
