"""What a run will cost at a measured speed, and whether a person's limits allow it.

Nothing here is guessed: without a speed, time and money are unknown and only pictures can be
counted. The same limits hold while a run goes on, then by the hours that were really spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdbatch.errors import JobError

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one worker draws.

    Attributes:
        images_per_s: Pictures of this run; None where `work_per_s` says it.
        work_per_s: Model calls times lanes times pixels.
    """

    images_per_s: float | None = None
    work_per_s: float | None = None

    def seconds(self, images: int, work: float) -> float:
        """What one worker needs for so many pictures and so much work."""
        if self.images_per_s is not None:
            return images / self.images_per_s
        return work / self.work_per_s if self.work_per_s else 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What a person allows; None for no limit.

    Attributes:
        price_per_hour: Of one worker, that is one GPU.
    """

    price_per_hour: float | None = None
    max_images: int | None = None
    max_gpu_hours: float | None = None
    max_cost: float | None = None

    def demand_sense(self) -> None:
        """Refuse limits that mean nothing.

        Raises:
            JobError: One is not above 0, or a cost has no price.
        """
        said = {
            "--price-per-hour": self.price_per_hour,
            "--max-images": self.max_images,
            "--max-gpu-hours": self.max_gpu_hours,
            "--max-cost": self.max_cost,
        }
        for flag, value in said.items():
            if value is not None and not 0 < value < float("inf"):
                raise JobError(f"{flag} {value:g}: must be above 0")
        if self.max_cost is not None and self.price_per_hour is None:
            raise JobError("--max-cost: say what an hour of one GPU costs: --price-per-hour 2.5")

    @property
    def max_worker_s(self) -> float | None:
        """Seconds of all workers together that may be spent."""
        hours = [self.max_gpu_hours] if self.max_gpu_hours is not None else []
        if self.max_cost is not None and self.price_per_hour is not None:
            hours.append(self.max_cost / self.price_per_hour)
        return min(hours) * SECONDS_PER_HOUR if hours else None


@dataclass(frozen=True, slots=True)
class Bill:
    """What is still to be drawn, and what that takes.

    Attributes:
        gpu_hours: Of all workers together; None when no speed is known.
        seconds: Wall time; None likewise.
        cost: None when no speed or no price is known.
        workers: That share the work.
    """

    rows: int
    images: int
    gpu_hours: float | None
    seconds: float | None
    cost: float | None
    workers: int


def bill_of(
    rows: int, images: int, work: float, speed: Speed | None, workers: int, budget: Budget
) -> Bill:
    """What drawing so much takes."""
    if speed is None:
        return Bill(rows, images, None, None, None, workers)
    seconds = speed.seconds(images, work)
    hours = seconds / SECONDS_PER_HOUR
    price = budget.price_per_hour
    return Bill(
        rows, images, hours, seconds / workers, None if price is None else hours * price, workers
    )


def demand_within(bill: Bill, budget: Budget, from_first: bool = True) -> None:
    """Refuse a run that will pass a limit, with the smallest change that fits.

    Args:
        from_first: Whether the run draws the first rows of its manifest; where others were
            chosen, a limit of so many rows would draw fewer.

    Raises:
        JobError: It will.
    """
    limits: tuple[tuple[str, Any, Any, str], ...] = (
        ("--max-images", bill.images, budget.max_images, "pictures"),
        ("--max-gpu-hours", bill.gpu_hours, budget.max_gpu_hours, "GPU-hours"),
        ("--max-cost", bill.cost, budget.max_cost, "in cost"),
    )
    over = [
        (flag, needed, most, what)
        for flag, needed, most, what in limits
        if needed is not None and most is not None and needed > most
    ]
    if not over:
        return
    said = "; ".join(
        f"{flag} {_number(most)}: the run comes to {_number(needed)} {what}"
        for flag, needed, most, what in over
    )
    share = min(most / needed for _, needed, most, _ in over)
    rows = int(bill.rows * share)
    fits = " ".join(f"{flag} {_ceiling(needed)}" for flag, needed, _, _ in over)
    fewer = f"draw about {rows:,} rows (--limit {rows}) or " if rows and from_first else ""
    raise JobError(f"{said}: {fewer}allow {fits}")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _ceiling(value: float) -> str:
    """The value, or the next hundredth above it."""
    if isinstance(value, int):
        return str(value)
    return f"{-(-value * 100 // 1) / 100:.2f}"
