"""What `sdbatch plan` says: each resolved setting with its source, and what a run comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sdbatch.engine.budgets import bill_line, finish_at
from sdbatch.engine.plan_text import settings_line, settings_lines
from sdbatch.engine.prepare import Prepared
from sdbatch.manifest.aliases import renamed
from sdbatch.plan.budget import Bill
from sdbatch.plan.selection import Selection
from sdbatch.plan.settings import Setting
from sdbatch.records import size_name

LATER = "settled by the first worker"
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan, for reading.

    Attributes:
        settings: Dotted key to value and source; None where a worker settles it.
        sizes: Picture size to number of shards.
        plan_id: None while something waits for a worker.
        size_bytes: Expected bytes of the dataset; None on a resume.
        seconds: Expected wall time; None when no speed was named.
        gpu_hours: Of all workers together; None likewise.
        finish: When a run that begins now is done, ISO 8601; None likewise.
        cost: None when no price was named either.
        standing: The output holds this plan already.
        columns: Manifest columns that are read under another name, with that name.
        probed: What was measured on rows of this run, by size and steps.
        run: `main`, or the run that is appended.
        only_new: Rows by `--only-new`: `new`, `changed`, `same`, `differs`; None without it.
    """

    settings: dict[str, Setting]
    rows: int
    images: int
    shards: int
    sizes: dict[str, int]
    plan_id: str | None
    size_bytes: int | None
    files: int | None
    seconds: float | None
    standing: bool
    notes: tuple[str, ...]
    columns: dict[str, str]
    gpu_hours: float | None = None
    finish: str | None = None
    cost: float | None = None
    time_line: str = ""
    probed: tuple[Any, ...] = ()
    run: str = "main"
    only_new: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        lines = list(settings_lines(self.settings))
        groups = ", ".join(f"{size}: {shards} shards" for size, shards in self.sizes.items())
        chosen = Selection.of(self.only_new)
        lines += [
            "",
            *([chosen.describe()] if chosen else []),
            f"{self.rows:,} rows, {self.images:,} images, {self.shards:,} shards ({groups})",
        ]
        if self.size_bytes is not None:
            lines.append(f"about {_bytes(self.size_bytes)} in {self.files:,} files")
        if self.time_line:
            lines.append(self.time_line)
        elif not self.standing:
            lines.append(
                "time unknown: measure it, --probe 16, or name it, --speed FILE or --images-per-s X"
            )
        lines.append(f"plan {self.plan_id[:12] if self.plan_id else LATER}")
        return "\n".join([*lines, *self.notes])


def report_on(
    prepared: Prepared,
    output: str,
    bill: Bill,
    room: Sequence[str] = (),
    probed: Sequence[Any] = (),
) -> PlanReport:
    """The report of a prepared run.

    Args:
        prepared: The run.
        output: Where it will be, empty when nobody said.
        bill: What it takes.
        room: Lines about disks that are too small.
        probed: What was measured on rows of this run.
    """
    now = datetime.now().astimezone()
    settings = dict(prepared.resolved.settings)
    settings["output"] = Setting(output or None, settings["output"].source)
    settings["model.family"] = Setting(prepared.model.pipeline_class, "its model_index.json")
    waits = prepared.resolved.unsettled()
    names = [size_name(*size) for size in prepared.sizes]
    shards = Counter(shard.group or names[0] for shard in prepared.shards)
    expected = prepared.expected
    return PlanReport(
        settings=settings,
        rows=prepared.rows,
        images=prepared.images,
        shards=len(prepared.shards),
        sizes=dict(shards),
        plan_id=None if waits and prepared.stored is None else prepared.resolved.plan_id(),
        size_bytes=expected.size_bytes if expected else None,
        files=expected.files if expected else None,
        seconds=bill.seconds,
        gpu_hours=bill.gpu_hours,
        finish=None if bill.seconds is None else finish_at(bill, now).isoformat(timespec="minutes"),
        cost=bill.cost,
        time_line=bill_line(bill, now),
        standing=prepared.stored is not None,
        notes=(*prepared.notes, *room),
        probed=tuple(probed),
        columns=renamed(prepared.manifest.view),
        run=prepared.run,
        only_new=prepared.selection.to_dict() if prepared.selection else None,
    )


def _bytes(number: int) -> str:
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"


def headline(prepared: Prepared) -> str:
    """What is about to be drawn, and with which model."""
    model = prepared.model
    counts = f"{prepared.rows:,} rows, {prepared.images:,} images, {len(prepared.shards):,} shards"
    chosen = f"{prepared.selection.describe()}; " if prepared.selection else ""
    named = f"model {model.name} ({model.revision[:12]}), {model.pipeline_class}"
    return f"{chosen}{counts}; {named}"


def opening(prepared: Prepared) -> tuple[str, str]:
    """The first lines of a run: what is drawn, and each setting with who said it."""
    return headline(prepared), settings_line(prepared.resolved.settings)
