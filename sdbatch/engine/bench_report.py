"""What a benchmark found: figures for machines, and the same in lines for people.

Rates are medians over the rounds, ratios are medians of the ratios within a round: what
slows a machine for a while slows both sides of a round.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sdbatch.model_specs import RenderEnv

GB = 1e9


@dataclass(frozen=True, slots=True)
class Spent:
    """One run of one round.

    Attributes:
        seconds: Wall time.
        row_steps: Table steps of finished rows; a guidance pair counts once.
        lane_steps: Real lanes times passes.
        lane_slots: All lanes times passes.
        phase_seconds: Per phase; phases may overlap.
    """

    seconds: float
    row_steps: int
    lane_steps: int
    lane_slots: int
    phase_seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of drawing the rows, over all rounds.

    Attributes:
        name: `uniform`, `mixed`, `diffusers one by one`, `diffusers in batches`.
        seconds: Of each round.
        row_steps_per_s: None for diffusers, which does not count; so are the next ones.
        occupancy: Real lanes over all lanes.
        flops_per_s: Arithmetic of room 2's passes over the whole wall time, padding included.
        utilisation: Of the measured peak.
    """

    name: str
    images: int
    seconds: list[float]
    images_per_s: float
    row_steps_per_s: float | None = None
    lane_steps_per_s: float | None = None
    occupancy: float | None = None
    flops_per_s: float | None = None
    utilisation: float | None = None
    phase_seconds: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a pass asks for and what the device gives.

    Attributes:
        flops_per_pass: Of one UNet pass, all lanes.
        peak_flops_per_s: Of the fastest product or layer, measured here in the same format.
        peak_of: What that was.
    """

    flops_per_pass: int
    peak_flops_per_s: float
    peak_of: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes while drawing.

    Attributes:
        peak: GPU: most allocated. CPU: growth of the process over what it held before.
        weights: Of them.
        expected: What was counted beforehand.
    """

    peak: int
    weights: int
    expected: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """A finished benchmark.

    Attributes:
        model: Name, and whether the weights were made up.
        ratios: `A / B: figure` to the median of A's figure over B's.
    """

    model: str
    source: str
    random_weights: bool
    env: RenderEnv
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float | None
    scheduler: str
    lanes: int
    rows: int
    rounds: int
    load_seconds: float
    measured: list[Measured]
    ratios: dict[str, float]
    arithmetic: Arithmetic
    memory: Memory

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for people."""
        weights = "random weights" if self.random_weights else "its own weights"
        env, arithmetic = self.env, self.arithmetic
        lines = [
            f"{self.model} ({weights}), {self.width}x{self.height}, "
            f"{self.num_inference_steps} steps, guidance {self.guidance_scale}, {self.scheduler}",
            f"on {env.device_name} ({env.device}, {env.kernels}), {env.dtype}, {self.lanes} lanes; "
            f"{self.rows} rows a run, medians of {self.rounds} rounds; loaded in "
            f"{self.load_seconds:.1f} s",
            *(line for one in self.measured for line in _lines(one)),
            *(f"{name}: {value:.3f}" for name, value in self.ratios.items()),
            f"memory: {self.memory.peak / GB:.2f} GB at most "
            f"({self.memory.weights / GB:.2f} GB of weights; {self.memory.expected / GB:.2f} GB "
            "expected)",
            f"arithmetic: {arithmetic.flops_per_pass / 1e9:,.1f} GFLOP a pass; 100 % is "
            f"{arithmetic.peak_flops_per_s / 1e12:,.3f} TFLOP/s, the fastest measured here: "
            f"{arithmetic.peak_of} in {env.dtype}",
        ]
        return "\n".join(lines)


def rates(
    name: str, images: int, spent: list[Spent], lanes: int, arithmetic: Arithmetic
) -> Measured:
    """Medians of a renderer's rounds."""
    passes = [one.lane_slots / lanes / one.seconds for one in spent]
    flops_per_s = median(passes) * arithmetic.flops_per_pass
    phases = {name: median(one.phase_seconds[name] for one in spent) for name in _phases(spent)}
    return Measured(
        name=name,
        images=images,
        seconds=[one.seconds for one in spent],
        images_per_s=median(images / one.seconds for one in spent),
        row_steps_per_s=median(one.row_steps / one.seconds for one in spent),
        lane_steps_per_s=median(one.lane_steps / one.seconds for one in spent),
        occupancy=sum(one.lane_steps for one in spent) / sum(one.lane_slots for one in spent),
        flops_per_s=flops_per_s,
        utilisation=flops_per_s / arithmetic.peak_flops_per_s,
        phase_seconds=phases,
    )


def plain_rates(name: str, images: int, seconds: list[float]) -> Measured:
    """Medians of the pipeline's rounds."""
    return Measured(name, images, seconds, median(images / one for one in seconds))


def _phases(spent: list[Spent]) -> list[str]:
    return [name for name in spent[0].phase_seconds if name != "load"]


def _lines(one: Measured) -> list[str]:
    first = f"{one.name}: {one.images_per_s:.3f} images/s"
    if one.row_steps_per_s is None or one.phase_seconds is None:
        return [first]
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in one.phase_seconds.items())
    return [
        f"{first}, {one.row_steps_per_s:.2f} row_steps/s, occupancy {one.occupancy:.3f}, "
        f"arithmetic {100 * (one.utilisation or 0):.0f} % of the measured peak",
        f"  seconds of a run: {median(one.seconds):.2f} ({phases})",
    ]
