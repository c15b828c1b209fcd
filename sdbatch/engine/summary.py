"""What a run came to: the numbers people and schedulers read at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sdbatch.results import ShardResult

PHASES = ("load", "solvers", "text_encode", "denoise", "decode", "image_encode", "write")
FULL, UNFINISHED, ROWS_FAILED = 0, 75, 4


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's end. Counts are of the whole run, times and rates of this call.

    Attributes:
        rows: Planned manifest rows.
        images: Planned pictures.
        seconds: Wall time of this call.
        startup_seconds: Of these, until the first worker could draw.
        images_per_s: Pictures of this call over the time after start-up.
        row_steps: Table steps of finished rows; a guidance pair counts once.
        lane_steps: Model evaluations, padding left out.
        occupancy: Real lanes over all lanes of all passes.
        phase_seconds: Sum over workers; phases overlap.
        reason: Why the run ended early; empty otherwise.
        worker_hours: Hours that workers were up or loading in this call, all together.
        gpu_hours: Of these, those on a GPU.
        run: `main`, or the appended run that this call drew; counts are of that run.
        only_new: Rows by `--only-new`: `new`, `changed`, `same`, `differs`; None without it.
    """

    output: str
    plan_id: str
    rows: int
    images: int
    success: int
    failed: int
    filtered: int
    seconds: float
    startup_seconds: float
    images_per_s: float
    row_steps: int
    lane_steps: int
    occupancy: float
    phase_seconds: dict[str, float]
    workers: int
    exit_code: int
    reason: str = ""
    preview: str = ""
    worker_hours: float = 0.0
    gpu_hours: float = 0.0
    run: str = "main"
    only_new: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)

    @property
    def done(self) -> int:
        """Pictures that have their end."""
        return self.success + self.failed + self.filtered


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the commit records of a run."""

    shards: int
    success: int
    failed: int
    filtered: int
    row_steps: int
    lane_steps: int
    lane_slots: int
    phase_seconds: dict[str, float]

    @classmethod
    def of(cls, results: Iterable[ShardResult]) -> Totals:
        """Add up records, one at a time."""
        counts = dict.fromkeys(
            ("shards", "success", "failed", "filtered", "row_steps", "lane_steps", "lane_slots"), 0
        )
        phases = dict.fromkeys(PHASES, 0.0)
        for result in results:
            counts["shards"] += 1
            for name in counts.keys() - {"shards"}:
                counts[name] += getattr(result, name)
            for name, seconds in result.phase_seconds.items():
                phases[name] = phases.get(name, 0.0) + seconds
        return cls(**counts, phase_seconds={k: round(v, 3) for k, v in phases.items()})

    @property
    def occupancy(self) -> float:
        """Real lanes over all lanes; 0 when nothing was drawn."""
        return round(self.lane_steps / self.lane_slots, 4) if self.lane_slots else 0.0


def tolerance(text: str | None, images: int) -> int | None:
    """Pictures that `12` or `1%` stand for."""
    if text is None:
        return None
    if text.endswith("%"):
        return int(float(text[:-1]) * images / 100)
    return int(float(text))


def allowed_failures(job: Mapping[str, Any]) -> int:
    """Failed pictures that a plan (`job.json`) lets pass: as settled, or else as asked for."""
    for settings in (job["resolved"], job.get("asked", {})):
        if "failures.allow" in settings:
            return tolerance(str(settings["failures.allow"]), job["images"]) or 0
        nested = settings.get("failures")
        if isinstance(nested, Mapping) and "allow" in nested:
            return tolerance(str(nested["allow"]), job["images"]) or 0
    return 0


def exit_code_of(finished: bool, failed: int, allowed: int) -> int:
    """0 all done, 4 more rows failed than allowed, 75 unfinished."""
    if not finished:
        return UNFINISHED
    return ROWS_FAILED if failed > allowed else FULL
