"""The shape of a manifest: how many pictures of which size, and how much work each is.

All that cutting shards needs, read from the few number columns that decide it. A manifest
without such columns is not read at all: its shape is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.bad_rows import BadRows
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.schema import (
    MAX_IMAGES_PER_PROMPT,
    MAX_SIZE_PX,
    canonical_table,
    read_columns,
)
from sdbatch.manifest.unread import demand_read
from sdbatch.records import RowDefaults

SHAPE_COLUMNS = (
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
    "num_images_per_prompt",
)

_COUNTED = 1 << 24


@dataclass(frozen=True, slots=True)
class RowShape:
    """What every row asks for, as arrays; None where all rows ask for the same.

    Attributes:
        num_rows: Rows of the run, after the limit.
        sizes: Picture sizes (width, height) in pixels, in order of first appearance.
        size_index: Each row's place in `sizes`; None when there is one size.
        images: Pictures of each row; None when every row has `images_per_row`.
        images_per_row: See `images`.
        work: Model calls times lanes of one picture of each row; None when all equal.
        work_per_image: See `work`.
    """

    num_rows: int
    sizes: tuple[tuple[int, int], ...]
    size_index: NDArray[np.int32] | None
    images: NDArray[np.int16] | None
    images_per_row: int
    work: NDArray[np.int32] | None
    work_per_image: int

    @property
    def num_images(self) -> int:
        """Pictures of all rows together."""
        if self.images is None:
            return self.num_rows * self.images_per_row
        return int(self.images.sum(dtype=np.int64))

    def images_by_size(self) -> dict[tuple[int, int], int]:
        """Pictures of each size."""
        if self.size_index is None:
            return {self.sizes[0]: self.num_images}
        counts = np.bincount(self.size_index, weights=self.images, minlength=len(self.sizes))
        per_row = self.images_per_row if self.images is None else 1
        return {size: int(count) * per_row for size, count in zip(self.sizes, counts, strict=True)}

    def images_by_work(self) -> dict[tuple[tuple[int, int], int], int]:
        """Pictures of each size and `work`."""
        most = self.work_per_image if self.work is None else int(self.work.max())
        span = most + 1
        codes = np.zeros(1, np.int64)
        if self.size_index is not None:
            codes = self.size_index.astype(np.int64) * span
        codes = codes + (self.work_per_image if self.work is None else self.work)
        if len(codes) == 1:
            return {(self.sizes[0], int(codes[0])): self.num_images}
        images = self.images if self.images is not None else np.int64(self.images_per_row)
        kinds, index = codes, None
        if len(self.sizes) * span > _COUNTED:  # numbers so large that counting takes more room
            kinds, index = np.unique(codes, return_inverse=True)
        counts = np.bincount(
            codes if index is None else index, weights=np.broadcast_to(images, codes.shape)
        )
        found = np.flatnonzero(counts)
        chosen = found if index is None else kinds[found]
        return {
            (self.sizes[int(code) // span], int(code) % span): int(counts[place])
            for code, place in zip(chosen, found, strict=True)
        }


def manifest_shape(
    manifest: Manifest,
    limit: int | None,
    defaults: RowDefaults,
    storage: Storage = None,
    bad: BadRows | None = None,
) -> RowShape:
    """The shape of a manifest's first `limit` rows, checked before or not.

    Cells of `bad` rows ask for nothing, so that such a row counts like one that says nothing.

    Raises:
        ManifestError: The columns cannot be read, or a row's size or number of pictures is
            out of every bound (`manifest.checks` finds the finer faults).
        ManifestRowsError: Several cells are not what their columns hold.
        StorageError: The store cannot be reached.
    """
    ref = manifest.ref
    num_rows = ref.num_rows if limit is None else min(limit, ref.num_rows)
    columns = read_columns(ref.name, manifest.schema).canonical
    wanted = [name for name in SHAPE_COLUMNS if name in columns]
    lenient = bad is not None
    if not lenient:
        demand_read(manifest, num_rows)
    parts: list[_Part] = []
    first_row = 0
    for batch in iter_tables(ref, wanted, storage=storage, lenient=lenient) if wanted else ():
        if first_row >= num_rows:
            break
        table = batch.slice(0, num_rows - first_row)
        if bad is not None:
            end = first_row + table.num_rows
            table = bad.between(first_row, end).mend(table, np.arange(first_row, end))
        part = _read_part(table, defaults)
        _demand_bounds(ref.name, first_row, part, table)
        parts.append(part)
        first_row += batch.num_rows
    return _join(parts or [_read_part(pa.table({"prompt": [""]}), defaults)], num_rows)


@dataclass(frozen=True, slots=True)
class _Part:
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    images: NDArray[np.int32]
    work: NDArray[np.int32]


def sizes_of(table: pa.Table, defaults: RowDefaults) -> tuple[NDArray[np.int32], ...]:
    """Width and height in pixels of every row, defaults filled in."""
    stated = canonical_table(table)
    return (_filled(stated, "width", defaults.width), _filled(stated, "height", defaults.height))


def _read_part(table: pa.Table, defaults: RowDefaults) -> _Part:
    stated = canonical_table(table)
    width, height = sizes_of(table, defaults)
    images = _filled(stated, "num_images_per_prompt", defaults.num_images_per_prompt)
    steps = _filled(stated, "num_inference_steps", defaults.num_inference_steps)
    if defaults.true_cfg_scale is None:
        guidance = _filled(stated, "guidance_scale", defaults.guidance_scale)
    else:
        guidance = _filled(stated, "true_cfg_scale", defaults.true_cfg_scale)
    return _Part(width, height, images, steps * np.where(guidance > 1.0, 2, 1).astype(np.int32))


def _filled(stated: pa.Table, name: str, default: float) -> NDArray[Any]:
    if name not in stated.column_names:
        return np.full(stated.num_rows, default)
    column = stated.column(name)
    return np.asarray(pc.fill_null(column, pa.scalar(default, column.type)))


def _demand_bounds(manifest: str, first_row: int, part: _Part, table: pa.Table) -> None:
    bounds = (
        ("width", part.width, MAX_SIZE_PX),
        ("height", part.height, MAX_SIZE_PX),
        ("num_images_per_prompt", part.images, MAX_IMAGES_PER_PROMPT),
    )
    for name, values, most in bounds:
        wrong = (values < 1) | (values > most)
        if wrong.any():
            place = int(np.argmax(wrong))
            reason = f"must be a whole number from 1 to {most}"
            # As the manifest has it: NaN and huge numbers look like others once they are int32.
            shown = table.column(name)[place].as_py() if name in table.column_names else None
            shown = values[place] if shown is None else shown
            raise ManifestError(manifest, first_row + place, name, str(shown), reason)


def _join(parts: list[_Part], num_rows: int) -> RowShape:
    width = np.concatenate([part.width for part in parts]).astype(np.int64)
    height = np.concatenate([part.height for part in parts])
    codes, first, index = np.unique(width << 32 | height, return_index=True, return_inverse=True)
    order = np.argsort(first)
    sizes = tuple((int(code) >> 32, int(code) & 0xFFFFFFFF) for code in codes[order])
    images = np.concatenate([part.images for part in parts])
    work = np.concatenate([part.work for part in parts])
    return RowShape(
        num_rows=num_rows,
        sizes=sizes,
        size_index=None if len(sizes) == 1 else np.argsort(order).astype(np.int32)[index],
        images=None if (images == images[0]).all() else images.astype(np.int16),
        images_per_row=int(images[0]),
        work=None if (work == work[0]).all() else work,
        work_per_image=int(work[0]),
    )
