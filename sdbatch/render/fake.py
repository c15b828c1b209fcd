"""A renderer without torch: a picture computed from the row alone.

It obeys the contract of `protocol.Renderer`, so everything around a renderer can be tested
and timed in milliseconds. A picture shows its row's place, seed and hash, so that a test
can say what any picture must be, and `read_fake` whose a stored one is.
Options stand in the model's name: `fake:ms=5,fail=0.01,lanes=16`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderEnv, RenderSpec
from sdbatch.records import RenderRow, size_name
from sdbatch.render.flawed import flawed
from sdbatch.render.processor import processor_name
from sdbatch.render.protocol import Counters
from sdbatch.results import RenderedImage, RowFailure

FAKE_PREFIX = "fake:"
IDLE_S = 0.002
BITS = 64  # of each number that a picture shows


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """What a fake model may be told.

    Attributes:
        ms: Sleep per picture.
        fail: Share of rows that fail, chosen by their hash.
        black: Share of the rows that come out black.
        same: Share of the rows that all get the same picture.
        lanes: L for every size.
    """

    ms: float = 0.0
    fail: float = 0.0
    black: float = 0.0
    same: float = 0.0
    lanes: int = 8


def fake_options(name: str) -> FakeOptions:
    """Read `fake` or `fake:key=value,key=value`.

    Raises:
        ModelError: A key is unknown or a value no number.
    """
    known = {field.name: field.type for field in fields(FakeOptions)}
    values: dict[str, float] = {}
    for part in filter(None, name.removeprefix("fake").removeprefix(":").split(",")):
        key, _, text = part.partition("=")
        if key not in known:
            raise ModelError(f"model {name}: no option '{key}', known are {', '.join(known)}")
        try:
            values[key] = float(text)
        except ValueError as error:
            raise ModelError(f"model {name}: {key} must be a number, got '{text}'") from error
    options = FakeOptions(**values)  # type: ignore[arg-type]  # lanes, whole a line below
    if options.lanes < 1:
        raise ModelError(f"model {name}: lanes must be at least 1")
    return replace(options, lanes=int(options.lanes))


def fake_pixels(row: RenderRow) -> NDArray[np.uint8]:
    """The picture of a row: its identity as black and white bits, over a colour of its own."""
    identity = f"{row.row_index}/{row.image_index}/{row.seed}/{row.row_hash}"
    digest = hashlib.sha256(identity.encode()).digest()
    height, width = row.height_px, row.width_px
    ramp = np.linspace(0, 64, width, dtype=np.uint8)[None, :, None]
    colour = np.array([byte // 2 + 32 for byte in digest[:3]], dtype=np.uint8)
    pixels = np.broadcast_to(ramp + colour, (height, width, 3)).copy()
    band = height // 8
    values = (
        row.row_index,
        row.image_index,
        row.seed,
        _hash_bits(row.row_hash),
        int.from_bytes(digest[:8], "big"),
    )
    for number, value in enumerate(values):
        bits = np.array([value >> bit & 1 for bit in range(BITS - 1, -1, -1)], dtype=np.uint8)
        strip = bits[np.arange(width) * BITS // width] * 255
        pixels[number * band : (number + 1) * band] = strip[None, :, None]
    return pixels


class Painted(NamedTuple):
    """What a fake picture says of the row it was drawn for.

    Attributes:
        hash_bits: The first 64 bits of its `row_hash`.
    """

    row_index: int
    image_index: int
    seed: int
    hash_bits: int

    @classmethod
    def of(cls, row_index: int, image_index: int, seed: int, row_hash: str) -> Painted:
        """What the picture of such a row must say."""
        return cls(row_index, image_index, seed, _hash_bits(row_hash))


def read_fake(pixels: NDArray[np.uint8]) -> Painted:
    """Read a picture of `fake_pixels` back, `[H, W, 3]`, losslessly stored.

    Raises:
        ValueError: It is too small to hold the bits.
    """
    height, width = pixels.shape[:2]
    if width < BITS or height < 8:
        raise ValueError(f"a fake picture of {width}x{height} cannot be read, 64x8 is the least")
    columns = -(-np.arange(BITS) * width // BITS)  # the first one of each bit
    rows = [number * (height // 8) for number in range(len(Painted._fields))]
    values = []
    for row in rows:
        value = 0
        for bit in pixels[row, columns, 0] >= 128:
            value = value << 1 | int(bit)
        values.append(value)
    return Painted(*values)


def _hash_bits(row_hash: str) -> int:
    """The first 64 bits of a hash in hex digits; of its text where it is none."""
    try:
        return int(row_hash[:16].ljust(16, "0"), 16)
    except ValueError:
        return int.from_bytes(row_hash.encode()[:8].ljust(8, b"\0"), "big")


def fake_fails(row: RenderRow, share: float) -> bool:
    """Whether a row is among the failing ones."""
    return _lot(row) < share


def _lot(row: RenderRow) -> float:
    """A number in [0, 1) that belongs to the row."""
    identity = f"{row.row_index}/{row.image_index}/{row.row_hash}"
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[-8:], "big") / 2.0**64


class FakeRenderer:
    """Draws `fake_pixels`, as slowly and as badly as its options say."""

    def __init__(self, spec: RenderSpec, sizes: Sequence[tuple[int, int]]) -> None:
        self._options = fake_options(spec.model_path)
        lanes = {size_name(*size): self._options.lanes for size in sizes}
        self.lanes: Mapping[str, int] = lanes | dict(spec.lanes)
        self.counters = Counters()
        self.notes: tuple[str, ...] = ()
        self.env = RenderEnv(
            device="cpu",
            device_name=processor_name(),
            dtype="float32" if spec.dtype == "auto" else spec.dtype,
            pipeline_class="FakePipeline",
            torch_version="none",
            diffusers_version="none",
            kernels=f"numpy {np.__version__}",
        )

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[RenderedImage | RowFailure]:
        """Draw every row; see `protocol.Renderer.render`."""
        feed, exhausted = iter(rows), False
        while not exhausted:
            batch: list[RenderRow] = []
            lanes = self._options.lanes
            while len(batch) < lanes and not exhausted:
                try:
                    row = next(feed)
                except StopIteration:
                    exhausted = True
                    break
                if row is None:
                    break
                lanes = self.lanes.get(size_name(row.width_px, row.height_px), lanes)
                batch.append(row)
            if not batch and not exhausted:
                time.sleep(IDLE_S)
            for row in batch:
                yield self._draw(row, lanes)
            self._count_padding(batch, lanes)

    def leave(self) -> None:
        """Nothing to do: it pulls no more rows than it draws next."""

    def _draw(self, row: RenderRow, lanes: int) -> RenderedImage | RowFailure:
        started = time.perf_counter()
        if self._options.ms:
            time.sleep(self._options.ms / 1000)
        if fake_fails(row, self._options.fail):
            return RowFailure(row, "FakeError", "this row was chosen to fail")
        pixels = self._pixels(row)
        if not pixels.any():
            return flawed(row, pixels)
        seconds = time.perf_counter() - started
        self.counters.phase_seconds["denoise"] += seconds
        self.counters.row_steps += row.num_inference_steps
        return RenderedImage(row, pixels, lanes, False, 1000 * seconds)

    def _pixels(self, row: RenderRow) -> NDArray[np.uint8]:
        """The row's own picture, or the one that its lot gives it instead."""
        told, lot = self._options, _lot(row) - self._options.fail
        if lot < told.black:
            return np.zeros((row.height_px, row.width_px, 3), np.uint8)
        if lot < told.black + told.same:
            return fake_pixels(replace(row, row_index=0, image_index=0, seed=0, row_hash=""))
        return fake_pixels(row)

    def _count_padding(self, batch: Sequence[RenderRow], lanes: int) -> None:
        if batch:
            self.counters.lane_steps += sum(row.num_inference_steps for row in batch)
            self.counters.lane_slots += lanes * max(row.num_inference_steps for row in batch)
