"""When a run ends before its last shard: its time, its workers, its failures.

Pure questions that `state.py` asks; each answer is the end with its code and its reason in
one line, or None.
"""

from __future__ import annotations

from sdbatch.engine.events import Finish
from sdbatch.engine.run_terms import RunTerms, Tally
from sdbatch.engine.watchdog import duration
from sdbatch.engine.worker_pool import WorkerPool
from sdbatch.errors import StorageError

MAX_BARREN_DEATHS = 6  # the ladder of care needs five to get past a row that kills
DONE, STORAGE, ROWS_FAILED, ENGINE, STOPPED = 0, StorageError.exit_code, 4, 5, 75


def out_of_time(terms: RunTerms, now: float) -> Finish | None:
    """Whether `--stop-after` is over."""
    if now < terms.ends_at:
        return None
    return Finish(STOPPED, f"--stop-after {duration(terms.limits.stop_after_s or 0.0)} is over")


def out_of_budget(terms: RunTerms, tally: Tally, worker_s: float) -> Finish | None:
    """Whether `--max-images`, `--max-gpu-hours` or `--max-cost` is reached.

    Args:
        terms: The limits.
        tally: What was committed in this call.
        worker_s: Seconds of all workers of this call, one GPU each.
    """
    budget = terms.limits.budget
    done = terms.images_done + tally.success + tally.failed + tally.filtered
    if budget.max_images is not None and budget.max_images <= done < terms.images:
        return Finish(STOPPED, f"--max-images {budget.max_images:,}: {done:,} are done")
    if budget.max_worker_s is None or worker_s < budget.max_worker_s:
        return None
    spent = f"{worker_s / 3600:,.2f} GPU-hours of this call are spent"
    if budget.max_gpu_hours is not None and worker_s >= budget.max_gpu_hours * 3600:
        return Finish(STOPPED, f"--max-gpu-hours {budget.max_gpu_hours:g}: {spent}")
    return Finish(STOPPED, f"--max-cost {budget.max_cost:g}: {spent}")


def out_of_workers(terms: RunTerms, pool: WorkerPool, trouble: str, now: float) -> Finish | None:
    """Whether too few workers have been up for too long.

    Args:
        terms: How long that may be.
        pool: Who is up.
        trouble: The last thing that went wrong; empty when nothing did.
        now: The time.
    """
    if not pool.overdue(now):
        return None
    who = f"{pool.num_up} of at least {pool.min_workers} workers" if pool.num_up else "no worker"
    why = trouble or f"still waiting for {terms.waits_for}"
    return Finish(ENGINE, f"{who} came up within {duration(terms.wait_s)}: {why}")


def out_of_patience(terms: RunTerms, tally: Tally, pool: WorkerPool, trouble: str) -> Finish | None:
    """Whether too many pictures failed, or too many workers died for nothing."""
    limit, failed = terms.stop_after, tally.failed
    if limit is not None and failed >= max(limit, 1):
        shown = f"{failed} picture" + ("s" if failed > 1 else "")
        # Failures are counted as their shards are stored: several may come at once.
        how = "" if limit else ": the first shard with a failure ends the run"
        return Finish(ROWS_FAILED, f"{shown} failed, the limit is {limit}{how}")
    if pool.barren_deaths >= MAX_BARREN_DEATHS:
        line = f"{pool.barren_deaths} workers died in a row and no picture was finished: "
        return Finish(ENGINE, line + (trouble or "no reason given"))
    return None
