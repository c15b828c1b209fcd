"""What `sdbatch plan` says: each resolved setting with its source, and what a run comes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sdbatch.engine.prepare import Prepared
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
        seconds: Expected wall time; None, since nothing was measured.
        standing: The output holds this plan already.
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

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        width = max(len(key) for key in self.settings)
        lines = [
            f"{key:<{width}}  {_shown(setting.value):<24}  {setting.source}"
            for key, setting in self.settings.items()
        ]
        groups = ", ".join(f"{size}: {shards} shards" for size, shards in self.sizes.items())
        lines += [
            "",
            f"{self.rows:,} rows, {self.images:,} images, {self.shards:,} shards ({groups})",
        ]
        if self.size_bytes is not None:
            lines.append(f"about {_bytes(self.size_bytes)} in {self.files:,} files")
        if self.seconds is None and not self.standing:
            lines.append("time unknown: nothing like it was measured yet")
        lines.append(f"plan {self.plan_id[:12] if self.plan_id else LATER}")
        return "\n".join([*lines, *self.notes])


def report_on(prepared: Prepared, output: str) -> PlanReport:
    """The report of a prepared run."""
    settings = dict(prepared.resolved.settings)
    settings["output"] = Setting(output or None, settings["output"].source)
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
        seconds=expected.seconds if expected else None,
        standing=prepared.stored is not None,
        notes=prepared.notes,
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = "''" if value == "" else str(value)
    return text if len(text) <= 48 else f"{text[:12]}..."


def _bytes(number: int) -> str:
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"


def headline(prepared: Prepared) -> str:
    """What is about to be drawn, and with which settings where a row says nothing."""
    said, model = prepared.resolved.value, prepared.model
    counts = f"{prepared.rows:,} rows, {prepared.images:,} images, {len(prepared.shards):,} shards"
    defaults = ", ".join(
        (
            f"{said('defaults.num_inference_steps')} steps",
            f"guidance {said('defaults.guidance_scale')}",
            f"{said('defaults.scheduler')}",
            f"seed {said('seed')}",
        )
    )
    return f"{counts}; model {model.name} ({model.revision[:12]}), {defaults}"
