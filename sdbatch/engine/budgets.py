"""Budgets of a call: the measured speed it names, its limits, and the room on this machine.

None of it is part of a plan: another price or limit resumes the same run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sdbatch.engine.prepare import Prepared
from sdbatch.engine.spool_room import spool_bytes
from sdbatch.errors import JobError
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.budget import Bill, Budget, Speed, bill_of, demand_within
from sdbatch.plan.estimate import smaller_formats
from sdbatch.plan.image_settings import image_spec
from sdbatch.remote import is_url

LONG_S = 12 * 3600.0
"""A run that is expected to take longer is begun only when a person says so."""
ADVICE = "draw fewer rows (--limit) or smaller pictures (--size)"


@dataclass(frozen=True, slots=True)
class Means:
    """What a call says about speed and money.

    Attributes:
        probe: Rows to draw for a measurement; 0 for none.
        probed: What was measured on them (`engine/probe_rows.py`).
    """

    speed: Speed | None
    budget: Budget
    probe: int = 0
    probed: tuple[Any, ...] = ()


def means_of(options: Mapping[str, Any]) -> Means:
    """Read the options of a call.

    Raises:
        JobError: A limit means nothing, or the record of a benchmark cannot be read.
    """
    names = ("price_per_hour", "max_images", "max_gpu_hours", "max_cost")
    budget = Budget(**{name: options.get(name) for name in names})
    budget.demand_sense()
    record, rate = options.get("speed"), options.get("images_per_s")
    rows = options.get("probe")
    if rows is not None:
        if record is not None or rate is not None:
            raise JobError("--probe: measures the speed, leave out --speed and --images-per-s")
        if rows < 1:
            raise JobError(f"--probe {rows}: must be 1 or more")
        return Means(None, budget, rows)
    if record is not None and rate is not None:
        raise JobError("--speed: give either a record or --images-per-s, not both")
    if rate is not None:
        if not 0 < rate < float("inf"):
            raise JobError(f"--images-per-s {rate:g}: must be above 0")
        return Means(Speed(images_per_s=rate), budget)
    return Means(None if record is None else read_speed(record), budget)


def read_speed(path: str | Path) -> Speed:
    """The speed in a record that `sdbatch bench --json` printed.

    Raises:
        JobError: It is no such record.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        guidance = record["guidance_scale"]
        if record.get("true_cfg_scale") is not None:
            guidance = record["true_cfg_scale"]
        calls = record["num_inference_steps"] * (2 if guidance > 1 else 1)
        measured = record["measured"][0]["images_per_s"]
        rate = measured * calls * record["width"] * record["height"]
    except OSError as error:
        raise JobError(f"--speed {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise JobError(
            f"--speed {path}: is no record of a benchmark: make one with "
            "sdbatch bench --json > FILE"
        ) from error
    if not 0 < rate < float("inf"):
        raise JobError(f"--speed {path}: holds no speed")
    return Speed(work_per_s=float(rate))


def bill_for(prepared: Prepared, means: Means) -> Bill:
    """What a new run takes; of one that stands, all of its rows.

    Raises:
        JobError: A new run will pass a limit. One that stands goes on until it does.
    """
    workers = prepared.asked.value("workers.max")
    work = sum(shard.cost for shard in prepared.shards)
    bill = bill_of(
        *(prepared.rows, prepared.images, work, means.speed),
        *(1 if workers == "auto" else workers, means.budget),
    )
    if prepared.stored is None:
        chosen = prepared.selection
        demand_within(bill, means.budget, from_first=chosen is None or not chosen.same)
    return bill


def room_notes(prepared: Prepared, output: str) -> list[str]:
    """A line for each disk of this machine that will not hold what the run puts there."""
    expected = prepared.expected
    if expected is None:
        return []
    image = image_spec(prepared.resolved.values())
    needs = {tempfile.gettempdir(): spool_bytes(prepared.shards, prepared.sizes, image)}
    names = {tempfile.gettempdir(): "unfinished pictures"}
    if output and not is_url(output):
        needs[output], names[output] = expected.size_bytes, "the dataset"
    notes = []
    for place, need in needs.items():
        free = shutil.disk_usage(_there(Path(place))).free
        if free < need:
            notes.append(
                f"warning: {place}: {free / 1e9:.1f} GB free, about {need / 1e9:.1f} GB needed "
                f"for {names[place]}: make room, {ADVICE}{_formats_that_fit(image, free / need)}"
            )
    return notes


def _formats_that_fit(image: ImageSpec, room: float) -> str:
    """Which formats would need no more than a share of what this one does."""
    shares = smaller_formats(image)
    fitting = {flags: share for flags, share in shares.items() if share <= room}
    if not fitting:
        return ""
    flags = max(fitting, key=lambda name: fitting[name])
    return f", or store them with {flags}, about {100 * fitting[flags]:.0f} % of the bytes"


def bill_line(bill: Bill, now: datetime) -> str:
    """Time, end and cost of a run that begins now; empty when no speed is known."""
    if bill.seconds is None or bill.gpu_hours is None:
        return ""
    workers = "1 worker" if bill.workers == 1 else f"{bill.workers:,} workers"
    line = (
        f"about {bill.gpu_hours:,.2f} GPU-hours on {workers}, "
        f"done {finish_at(bill, now):%a %d %b %H:%M} if begun now"
    )
    return line if bill.cost is None else f"{line}, cost {bill.cost:,.2f}"


def finish_at(bill: Bill, now: datetime) -> datetime:
    """When a run that begins now is done, by the clock."""
    try:
        return now + timedelta(seconds=bill.seconds or 0.0)
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)


def question(bill: Bill) -> str:
    """What to ask before a long run; empty when there is nothing to ask."""
    if bill.seconds is None or bill.seconds <= LONG_S:
        return ""
    hours = bill.seconds / 3600
    return f"This run is expected to take {hours:,.0f} hours. Begin?"


def _there(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    path = path.expanduser().absolute()
    while not path.exists():
        path = path.parent
    return path
