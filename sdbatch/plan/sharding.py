"""Which rows are committed and retried together: decided once, from the rows alone.

Rows of one picture size are cut into consecutive shards. Where sizes differ, each window of
65,536 rows is cut by size, so that a worker draws alike pictures while the rows of a file
stay near one another. Workers, engines and clocks enter nothing: the same manifest and
settings give the same shards on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import JobError
from sdbatch.manifest.shape import RowShape
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.estimate import PNG, image_bytes
from sdbatch.plan.fingerprint import canonical
from sdbatch.records import Shard, size_name

WINDOW_ROWS = 65536
MAX_SHARDS = 99_999
"""Five digits: the longest count that every reader of `train-00000-of-00042` takes."""
SHARD_BYTES = 384_000_000
MAX_SHARD_BYTES = 4_000_000_000
MIN_IMAGES, SHARDS_WANTED = 32, 256
"""A small run is cut finer than its bytes ask for, so that workers share it and a death
costs little; but not below 32 pictures, or commits cost more than drawing."""

SCHEMA = pa.schema(
    [
        ("shard_id", pa.int32()),
        ("first_row", pa.int64()),
        ("end_row", pa.int64()),
        ("group", pa.string()),
        ("skip", pa.int64()),
        ("num_rows", pa.int64()),
        ("num_images", pa.int64()),
        ("cost", pa.float64()),
    ]
)
"""Columns of the stored plan: the fields of `records.Shard`."""


def cut_shards(
    shape: RowShape,
    size: int | None = None,
    max_images: int | None = None,
    image: ImageSpec = PNG,
) -> list[Shard]:
    """Cut a manifest into shards; every row belongs to exactly one.

    Args:
        shape: What the rows ask for.
        size: Manifest rows per shard; None chooses by bytes and number of pictures.
        max_images: Pictures that a shard may hold, where its layout has such a bound.
        image: How pictures are stored.

    Raises:
        JobError: Shards would need more than five digits, hold more than 4 GB each, or more
            pictures than they may.
    """
    shards = _cut(shape, size, max_images, image)
    if max_images is not None:
        _demand_room(shards, max_images)
    return shards


def _cut(
    shape: RowShape, size: int | None, max_images: int | None, image: ImageSpec
) -> list[Shard]:
    segments = list(_segments(shape))
    if size is None:
        targets = _image_targets(shape, segments, max_images, image)
        bounds = [segment.even_bounds(targets[segment.size]) for segment in segments]
    else:
        _demand_possible(shape, segments, size, image)
        bounds = [np.append(np.arange(0, part.num_rows, size), part.num_rows) for part in segments]
    return list(_number(segments, bounds))


def lease_order(shards: Iterable[Shard]) -> list[Shard]:
    """The order of leasing: costliest first, so that no long shard is left for the end."""
    return sorted(shards, key=lambda shard: (-shard.cost, shard.shard_id))


def shards_table(shards: Sequence[Shard]) -> pa.Table:
    """The plan as a table, one row a shard."""
    return pa.Table.from_pylist([asdict(shard) for shard in shards], schema=SCHEMA)


def shards_from_table(table: pa.Table) -> list[Shard]:
    """The shards of a stored plan."""
    return [Shard(**row) for row in table.select(SCHEMA.names).to_pylist()]


def shards_digest(shards: Iterable[Shard]) -> str:
    """Hash over the ranges of all shards: the setting under which they enter a plan's id."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(canonical([shard.first_row, shard.end_row, shard.group, shard.skip]))
        digest.update(canonical([shard.num_rows, shard.num_images]))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Segment:
    """Rows of one size that lie together, before they are cut.

    Attributes:
        first_row: Of the window they lie in.
        end_row: Likewise.
        group: `WxH`, or empty when the window is the whole manifest and not divided.
        size: (width, height) in pixels.
        num_rows: How many they are.
        images: Pictures of rows up to and including each row; None when all rows are alike.
        images_per_row: See `images`.
        cost: Like `images`, for estimated work.
        cost_per_row: See `cost`.
    """

    first_row: int
    end_row: int
    group: str
    size: tuple[int, int]
    num_rows: int
    images: NDArray[np.int64] | None
    images_per_row: int
    cost: NDArray[np.float64] | None
    cost_per_row: float

    @property
    def num_images(self) -> int:
        return self.images_between(0, self.num_rows)

    def images_between(self, low: int, high: int) -> int:
        if self.images is None:
            return (high - low) * self.images_per_row
        return int(self.images[high - 1] - (self.images[low - 1] if low else 0))

    def cost_between(self, low: int, high: int) -> float:
        if self.cost is None:
            return (high - low) * self.cost_per_row
        return float(self.cost[high - 1] - (self.cost[low - 1] if low else 0))

    def even_bounds(self, target_images: int) -> NDArray[np.int64]:
        """Cuts into pieces of about equally many pictures, at most about the target."""
        pieces = min(_pieces(self.num_images, target_images), self.num_rows)
        if self.images is None:
            return np.arange(pieces + 1, dtype=np.int64) * self.num_rows // pieces
        wanted = np.arange(1, pieces, dtype=np.int64) * self.num_images // pieces
        cuts = np.searchsorted(self.images, wanted) + 1
        return np.unique(np.concatenate(([0], cuts, [self.num_rows])))


def _segments(shape: RowShape) -> Iterator[_Segment]:
    if shape.size_index is None:
        yield _segment(shape, 0, shape.num_rows, "", shape.sizes[0], slice(None), shape.num_rows)
        return
    for first_row in range(0, shape.num_rows, WINDOW_ROWS):
        end_row = min(first_row + WINDOW_ROWS, shape.num_rows)
        index = shape.size_index[first_row:end_row]
        order = np.argsort(index, kind="stable") + first_row
        present, counts = np.unique(index, return_counts=True)
        for place, rows in zip(present, np.split(order, np.cumsum(counts)[:-1]), strict=True):
            size = shape.sizes[int(place)]
            yield _segment(shape, first_row, end_row, size_name(*size), size, rows, len(rows))


def _segment(
    shape: RowShape,
    first_row: int,
    end_row: int,
    group: str,
    size: tuple[int, int],
    rows: NDArray[np.int64] | slice,
    num_rows: int,
) -> _Segment:
    pixels = size[0] * size[1]
    images = None if shape.images is None else shape.images[rows].astype(np.int64)
    work = None if shape.work is None else shape.work[rows].astype(np.float64)
    cost = None
    if images is not None or work is not None:
        per_row = shape.images_per_row if images is None else images
        cost = np.cumsum(per_row * (shape.work_per_image if work is None else work) * pixels)
    return _Segment(
        *(first_row, end_row, group, size, num_rows),
        None if images is None else np.cumsum(images),
        shape.images_per_row,
        cost if cost is None else cost.astype(np.float64),
        float(shape.images_per_row * shape.work_per_image * pixels),
    )


def _image_targets(
    shape: RowShape, segments: list[_Segment], max_images: int | None, image: ImageSpec
) -> dict[tuple[int, int], int]:
    """Pictures per shard for every size, grown until five digits suffice."""
    by_count = max(MIN_IMAGES, _pieces(shape.num_images, SHARDS_WANTED))
    targets = {
        size: max(1, min(SHARD_BYTES // image_bytes(*size, image), by_count))
        for size in shape.sizes
    }
    if max_images is not None:  # cuts overshoot by at most one row
        most = max(1, max_images - _most_images(shape))
        targets = {size: min(target, most) for size, target in targets.items()}
    while sum(_pieces(part.num_images, targets[part.size]) for part in segments) > MAX_SHARDS:
        targets = {size: target * 2 for size, target in targets.items()}
        for size, target in targets.items():
            if target * image_bytes(*size, image) > MAX_SHARD_BYTES:
                raise JobError(
                    f"{shape.num_images:,} pictures do not fit into {MAX_SHARDS:,} files of 4 GB: "
                    "split the manifest into runs"
                )
    return targets


def _demand_possible(
    shape: RowShape, segments: list[_Segment], size: int, image: ImageSpec
) -> None:
    count = sum(_pieces(part.num_rows, size) for part in segments)
    if count > MAX_SHARDS:
        least = _pieces(shape.num_rows, MAX_SHARDS)
        raise JobError(
            f"shards.size: {size} rows make {count:,} shards, five digits allow {MAX_SHARDS:,}: "
            f"take {max(least, size + 1)} or more, auto, or split the manifest into runs"
        )
    for part in segments:
        mean = part.num_images / part.num_rows * image_bytes(*part.size, image)
        if min(size, part.num_rows) * mean > MAX_SHARD_BYTES:
            raise JobError(
                f"shards.size: {size} rows of {size_name(*part.size)} make files beyond 4 GB: "
                f"take {max(1, int(MAX_SHARD_BYTES / mean))} or fewer, or auto"
            )


def _most_images(shape: RowShape) -> int:
    """Pictures of the row that asks for most."""
    return shape.images_per_row if shape.images is None else int(shape.images.max())


def _demand_room(shards: Sequence[Shard], max_images: int) -> None:
    largest = max(shards, key=lambda shard: shard.num_images, default=None)
    if largest is not None and largest.num_images > max_images:
        rows = max(1, max_images * largest.num_rows // largest.num_images)
        raise JobError(
            f"shards.size: a shard of {largest.num_images:,} pictures is a folder of more than "
            f"10,000 files, which hubs do not show: take {rows:,} rows or fewer, or auto"
        )


def _number(segments: list[_Segment], bounds: Sequence[NDArray[np.int64]]) -> Iterator[Shard]:
    shard_id = 0
    for part, cuts in zip(segments, bounds, strict=True):
        for low, high in pairwise(cuts.tolist()):
            yield Shard(
                shard_id=shard_id,
                first_row=part.first_row if part.group else low,
                end_row=part.end_row if part.group else high,
                group=part.group,
                skip=low if part.group else 0,
                num_rows=high - low,
                num_images=part.images_between(low, high),
                cost=part.cost_between(low, high),
            )
            shard_id += 1


def _pieces(total: int, target: int) -> int:
    return -(-total // target)
