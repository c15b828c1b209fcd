"""Questions about a dataset of several runs: asked of one of them, or of all and added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdbatch.audit.errors import Failures, find_failures
from sdbatch.audit.gc import collect_orphans
from sdbatch.audit.report import Problem, Report
from sdbatch.audit.status import Status, read_status
from sdbatch.audit.verify import verify
from sdbatch.engine.nightly import run_of
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import StopAnswer, newest_epoch, request_stop
from sdbatch.storage.runs import all_runs, finished_runs
from sdbatch.storage.store import Store

ALL = "all"
"""What an answer about several runs calls itself."""
_URGENT = (
    *("damaged", "running", "starting", "stopped", "planned"),
    *("done_with_failures", "done"),
)
_CODES = (3, 1, 2, 5, 75, 4, 0)  # of several runs, the first of these that one has
_COUNTS = ("images", "success", "failed", "filtered", "shards", "shards_done")
_HOURS = ("gpu_hours", "worker_hours", "read_seconds")


def begun_runs(store: Store) -> list[str]:
    """Runs that have a plan or a driver, `main` first; `main` alone where there is none."""
    main, *appended = all_runs(store)
    return [main, *(run for run in appended if _is_begun(store, run))]


def chosen_runs(store: Store, run: str | None) -> list[str]:
    """The named run, or all of them.

    Raises:
        InputError: There is no run of that name.
    """
    return begun_runs(store) if run is None else [run_of(store, run)]


def latest_run(store: Store) -> str:
    """The run that was driven last."""
    since = {}
    for run in begun_runs(store):
        epoch = newest_epoch(store, run)
        since[run] = epoch.since if epoch else ""
    return max(since, key=lambda run: (since[run], run))


def status_of(store: Store, run: str | None = None) -> Status:
    """How a run stands, or all of them together.

    Of several, counts and hours are sums; state, driver and what to do are those of the run
    that most needs looking at, and `runs` has each of them.

    Raises:
        InputError: There is no such run.
        DamagedError: A job or a record cannot be read.
    """
    found = [read_status(store, name) for name in chosen_runs(store, run)]
    if len(found) == 1:
        return found[0]
    urgent = min(found, key=lambda one: _URGENT.index(one.state))
    codes = {one.exit_code for one in found}
    sums: dict[str, Any] = {
        name: sum(getattr(one, name) for one in found) for name in (*_COUNTS, *_HOURS)
    }
    return replace(
        urgent,
        run=ALL,
        errors=_ranked(one.errors for one in found),
        exit_code=next((code for code in _CODES if code in codes), urgent.exit_code),
        runs=tuple(found),
        **sums,
    )


def verify_runs(
    store: Store, run: str | None = None, level: int = 1, sample: float = 1.0
) -> Report:
    """Check a run, or all of them and that they have the same columns; see `verify`.

    Raises:
        InputError: As `verify`, or there is no such run.
        StorageError: The store failed, so that nothing can be said.
    """
    found = [verify(store, name, level, sample) for name in chosen_runs(store, run)]
    if len(found) == 1:
        return found[0]
    whole = Report(store.url, ALL, level)
    for report in found:
        for name in (*_COUNTS[:4], "shards", "committed", "sampled", "files_checked"):
            setattr(whole, name, getattr(whole, name) + getattr(report, name))
        whole.bytes_checked += report.bytes_checked
        whole.images_checked += report.images_checked
        whole.orphans = (*whole.orphans, *report.orphans)
        whole.problems += report.problems
        whole.remarks += report.remarks
        if report.unfinished:
            said = f"run '{report.run}': {report.unfinished}"
            whole.unfinished = f"{whole.unfinished}; {said}" if whole.unfinished else said
    whole.problems += _other_columns(store, [report.run for report in found])
    return whole


def failures_of(store: Store, run: str | None = None, error_type: str | None = None) -> Failures:
    """What failed in a run, or in all of them; see `find_failures`.

    Raises:
        InputError: There is no such run, or nothing failed with this type.
        DamagedError: A record cannot be read.
    """
    return find_failures(store, chosen_runs(store, run), error_type)


def collect_runs(store: Store, run: str | None = None, dry_run: bool = False) -> list[str]:
    """Delete what no record names of a run, or of all that are finished; see `collect_orphans`.

    Raises:
        InputError: The run is not finished, or none is.
        DamagedError: Records of one are not those of its success record.
    """
    runs = [run_of(store, run)] if run is not None else list(finished_runs(store))
    if run is None and len(runs) < 2:
        runs = runs or [layout.MAIN]
    keys: list[str] = []
    refused: list[InputError] = []
    for name in runs:
        try:
            keys += collect_orphans(store, name, dry_run=dry_run)
        except InputError as error:
            refused.append(error)
    if refused and len(refused) == len(runs):
        raise refused[0]
    return keys


def stop_runs(store: Store, run: str | None = None) -> StopAnswer:
    """Ask the driver of a run to stop, or those of all runs that are at work.

    Returns:
        The answer for the run that was driven last among those asked.

    Raises:
        InputError: There is no such run.
        StorageError: The store failed.
    """
    if run is not None:
        return request_stop(store, run_of(store, run))
    last = latest_run(store)
    others = [request_stop(store, name) for name in begun_runs(store) if name != last]
    answer = request_stop(store, last)
    return next((one for one in (answer, *others) if one.asked), answer)


def _is_begun(store: Store, run: str) -> bool:
    return store.head(layout.job_key(run)) is not None or newest_epoch(store, run) is not None


def _ranked(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _other_columns(store: Store, runs: Sequence[str]) -> list[Problem]:
    """Runs whose files do not have the columns of the first run."""
    columns = {
        run: (RunFolder(store, run).read_job() or {}).get("resolved", {}).get("columns")
        for run in runs
    }
    first = columns[runs[0]]
    return [
        Problem(layout.job_key(run), 0, "plan", f"its columns are not those of run '{runs[0]}'")
        for run, has in columns.items()
        if has is not None and first is not None and has != first
    ]
