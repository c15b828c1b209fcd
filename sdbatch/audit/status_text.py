"""A status in a few lines for people; clock times are local."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from sdbatch.audit.clock import age_s, in_words, local_clock
from sdbatch.audit.plain_text import plain
from sdbatch.audit.status import Status

SLOW_S = 5.0


def describe(status: Status, now: datetime | None = None) -> str:
    """What a person wants to know of a run in the morning."""
    now = now or datetime.now(UTC)
    lines = [_headline(status), *_counts(status), *_runs(status), *_now(status, now)]
    if status.model and not status.runs:
        lines.append(f"model {status.model}, plan {status.plan_id[:12]}{_hours(status)}")
    if status.read_seconds > SLOW_S:
        lines.append(f"({status.shards_done:,} records read in {status.read_seconds:.1f} s)")
    return "\n".join(lines)


def _headline(status: Status) -> str:
    said = status.state.replace("_", " ")
    if not status.images:
        return f"{status.url}: {said}, nothing is planned yet"
    share = status.images_done / status.images
    return (
        f"{status.url}: {said}, {status.images_done:,} of {status.images:,} images "
        f"({share:.0%}), {status.shards_done:,} of {status.shards:,} shards"
    )


def _counts(status: Status) -> list[str]:
    if not status.images:
        return []
    lines = [f"success {status.success:,}, failed {status.failed:,}, filtered {status.filtered:,}"]
    if status.errors:
        shown = ", ".join(f"{plain(name)} {count:,}" for name, count in status.errors.items())
        see = shlex.join(["sdbatch", "errors", status.url])
        lines.append(f"failures: {shown}; see: {see}")
    return lines


def _runs(status: Status) -> list[str]:
    """A line for each run, where there are several."""
    return [
        f"  run {run.run}: {run.state.replace('_', ' ')}, {run.images_done:,} of {run.images:,} "
        f"images, model {plain(run.model)}"
        for run in status.runs
    ]


def _now(status: Status, now: datetime) -> list[str]:
    """What goes on, or what does not and what to do about it."""
    if status.state == "damaged":
        verify = shlex.join(["sdbatch", "verify", status.url])
        return [f"a finished run whose records no longer add up to its plan, run: {verify}"]
    if status.state == "starting":
        return [f"{status.driver} drives: it checks the manifest and waits for its first worker"]
    if status.state == "running":
        paused = [f"paused: {plain(status.paused)}"] if status.paused else []
        return [*_retrying(status), _pace(status, now), *paused]
    if not status.resume:
        return []
    lines = [*_retrying(status), _silence(status, now)]
    verb = "finish with" if status.rework else "resume with"
    return [*lines, f"{verb}: {status.resume}"]


def _retrying(status: Status) -> list[str]:
    if not status.rework:
        return []
    kind, images = status.rework["kind"], status.rework["images"]
    what = "a repair" if kind == "damaged" else f"a retry of {images:,} {kind} pictures"
    shards = f"{status.rework['shards']:,} of {status.rework['of_shards']:,} shards"
    return [f"{what} is unfinished: {shards} are left"]


def _pace(status: Status, now: datetime) -> str:
    parts = []
    if status.workers_wanted is not None:
        starting = f" ({status.workers_starting} starting)" if status.workers_starting else ""
        parts.append(f"{status.workers_up} of {status.workers_wanted} workers up{starting}")
    if status.in_flight is not None:
        parts.append(f"{status.in_flight:,} images in flight")
    if status.images_per_s:
        parts.append(f"{status.images_per_s:.2f} images/s")
    if status.eta:
        parts.append(f"done at about {local_clock(status.eta, now)}")
    return ", ".join(parts) or "no shard is finished yet"


def _silence(status: Status, now: datetime) -> str:
    if not status.driver_seen_at:
        return "no driver has started it yet"
    ago = in_words(age_s(status.driver_seen_at, now))
    if status.ended:
        return f"ended {ago} ago: {plain(status.ended)}"
    return f"no sign of the driver ({status.driver}) for {ago}"


def _hours(status: Status) -> str:
    if status.gpu_hours >= 0.005:
        return f", {status.gpu_hours:,.2f} GPU-hours"
    return f", {status.worker_hours:,.2f} worker-hours" if status.worker_hours >= 0.005 else ""
