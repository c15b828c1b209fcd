"""A few rows of a manifest, drawn before the run: how they look, and how long all will take.

Rows come from all over the manifest and are drawn as the run would draw them: the same
seeds, the same model, the same lanes, in this process. The output is not touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.dataset.figures import FRAME, save_png
from sdbatch.dataset.sheet import CELL_PX, contact_sheet
from sdbatch.engine.budgets import Means, bill_for, bill_line
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.probe_rows import spread_rows
from sdbatch.errors import InputError
from sdbatch.plan.budget import Speed
from sdbatch.records import ImageId, RenderRow
from sdbatch.render.loading import load_renderer
from sdbatch.results import RenderedImage, RowFailure

ROWS, MOST_ROWS = 16, 256


@dataclass(frozen=True, slots=True)
class Preview:
    """What a preview drew, and what it says of the whole run.

    Attributes:
        drawn: Pictures on the sheet, of `rows` rows that were tried.
        failures: Row and reason, a line each.
        seconds_per_image: Measured on these rows, on one worker; None when all failed.
        images: Pictures of the whole run; `size_bytes` and `files` of its dataset.
        seconds: Expected wall time of the whole run; None when nothing was measured.
        gpu_hours: Of all workers together; `cost` where a price was named.
    """

    file: str
    rows: int
    drawn: int
    failures: tuple[str, ...]
    seconds_per_image: float | None
    images: int
    size_bytes: int
    files: int
    seconds: float | None
    gpu_hours: float | None
    cost: float | None
    time_line: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `preview --json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for people."""
        lines = [f"{self.file}: {self.drawn:,} of {self.rows:,} rows drawn"]
        lines += [f"failed: {each}" for each in self.failures]
        if self.seconds_per_image is not None:
            lines.append(f"{self.seconds_per_image:.3g} s an image")
        size = f"{self.size_bytes / 1e6:,.1f} MB in {self.files:,} files"
        lines.append(f"the whole run: {self.images:,} images, about {size}")
        return "\n".join([*lines, self.time_line] if self.time_line else lines)


def draw_preview(
    prepared: Prepared, means: Means, rows: int, out: Path, note: Callable[[str], None]
) -> Preview:
    """Draw some rows of a prepared run onto a labelled sheet.

    Args:
        means: Limits and prices of the call; the speed is measured here.
        rows: How many rows, spread over the manifest.
        out: Local file for the sheet, a PNG.
        note: Told what is being done.

    Raises:
        InputError: A number means nothing, no row can be drawn, or the model not be loaded.
        StorageError: The sheet cannot be written.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise InputError(f"--rows {rows}: a number from 1 to {MOST_ROWS}")
    sample = spread_rows(prepared, rows)
    sizes = sorted({(row.width_px, row.height_px) for row in sample})
    note(f"drawing {len(sample):,} of {prepared.rows:,} rows with model {prepared.model.name}")
    renderer = load_renderer(prepared.render, sizes)
    started = time.perf_counter()
    drawn: dict[ImageId, RenderedImage | RowFailure] = {
        result.row.image_id: result for result in renderer.render(sample)
    }
    seconds = time.perf_counter() - started
    columns = min(math.ceil(math.sqrt(len(sample))), 8)
    sheet = contact_sheet([_labelled(drawn[row.image_id]) for row in sample], columns)
    return _told(prepared, means, list(drawn.values()), seconds, save_png(sheet, out))


def _labelled(result: RenderedImage | RowFailure) -> tuple[NDArray[np.uint8], str]:
    row = result.row
    if isinstance(result, RenderedImage):
        return result.pixels, f"{row.row_index}: {row.prompt}"
    blank = np.full((CELL_PX, CELL_PX, 3), FRAME, np.uint8)
    return blank, f"{row.row_index} failed: {result.error_type}: {row.prompt}"


def _told(
    prepared: Prepared,
    means: Means,
    results: list[RenderedImage | RowFailure],
    seconds: float,
    file: str,
) -> Preview:
    images = [result for result in results if isinstance(result, RenderedImage)]
    failed = [result for result in results if isinstance(result, RowFailure)]
    if images and seconds > 0:
        speed = Speed(work_per_s=sum(_work(image.row) for image in images) / seconds)
        means = replace(means, speed=speed)
    bill, expected = bill_for(prepared, means), prepared.expected
    return Preview(
        file=file,
        rows=len(results),
        drawn=len(images),
        failures=tuple(f"row {one.row.row_index}: {one.error_message}" for one in failed),
        seconds_per_image=seconds / len(images) if images else None,
        images=prepared.images,
        size_bytes=expected.size_bytes if expected else 0,
        files=expected.files if expected else 0,
        seconds=bill.seconds,
        gpu_hours=bill.gpu_hours,
        cost=bill.cost,
        time_line=bill_line(bill, datetime.now().astimezone()),
    )


def _work(row: RenderRow) -> float:
    """Model calls times lanes times pixels: the plan's unit of a shard's cost."""
    return row.num_inference_steps * (2 if row.guided else 1) * row.width_px * row.height_px
