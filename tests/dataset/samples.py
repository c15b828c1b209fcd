"""Small real pictures, rows and shards for the tests of this folder."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from sdbatch.dataset.columns import ImageFacts, failure_columns, image_columns
from sdbatch.dataset.images import encode
from sdbatch.dataset.layouts import write_shard
from sdbatch.dataset.protocol import ShardFiles
from sdbatch.dataset.schema import dataset_schema
from sdbatch.dataset.spool import Spool
from sdbatch.model_specs import RenderEnv
from sdbatch.output_specs import ImageSpec
from sdbatch.records import ImageId, RenderRow
from sdbatch.results import RenderedImage, RowFailure

NOON = datetime(2026, 11, 22, 12, 0, 0, 250, tzinfo=UTC)

ENV = RenderEnv(
    device="cpu",
    device_name="Two cores",
    dtype="float32",
    pipeline_class="StableDiffusionPipeline",
    torch_version="2.13.0",
    diffusers_version="0.42.1",
    kernels="1 thread, avx512",
)

FACTS = ImageFacts(
    run="main",
    model="shapes",
    model_revision="ab12",
    env=ENV,
    sdbatch_version="0.1.0",
    shard_id=3,
    attempts=2,
)


def row(row_index, image_index=0, prompt=None):
    return RenderRow(
        row_index=row_index,
        image_index=image_index,
        row_id=f"row-{row_index}",
        prompt=f"prompt {row_index}" if prompt is None else prompt,
        negative_prompt="",
        seed=1000 + row_index + image_index,
        width_px=8,
        height_px=4,
        num_inference_steps=12,
        guidance_scale=3.5,
        scheduler="DDIMScheduler",
        row_hash=f"{row_index:064x}",
    )


def pixels(row_index, image_index=0):
    """A picture that tells which row it belongs to: `[4, 8, 3]`."""
    colour = [row_index % 256, image_index % 256, 7]
    return np.full((4, 8, 3), colour, dtype=np.uint8)


def add_picture(spool: Spool, row_index: int, image_index: int = 0, facts=FACTS, prompt=None):
    drawn = row(row_index, image_index, prompt)
    image = RenderedImage(drawn, pixels(row_index, image_index), 8, False, 12.5)
    encoded = encode(image.pixels, ImageSpec())
    columns = image_columns(image, encoded, facts, NOON)
    return spool.append(drawn.image_id, columns, encoded.data)


def add_failure(spool: Spool, row_index: int, image_index: int = 0, error="NonFiniteError"):
    drawn = row(row_index, image_index)
    failure = RowFailure(drawn, error, "latents hold NaN", "Traceback ...")
    return spool.append(drawn.image_id, failure_columns(failure, FACTS, NOON), None)


def write(
    folder: Path,
    images: Iterable[ImageId],
    failed: Iterable[ImageId] = (),
    user: pa.Table | None = None,
    fields: Sequence[pa.Field] = (),
    prompt: str | None = None,
) -> ShardFiles:
    """Write one shard of small pictures in the order given."""
    images, failed = list(images), list(failed)
    if user is None:
        user = pa.table({"row_index": sorted({index for index, _ in images + failed})})
        user = user.cast(pa.schema([("row_index", pa.int64())]))
    with Spool(folder / "spool", dataset_schema(fields)) as spool:
        for image_id in images:
            add_picture(spool, *image_id, prompt=prompt)
        for image_id in failed:
            add_failure(spool, *image_id)
        return write_shard(spool, user, folder, "plan1234", "main")


def place(root: Path, files: ShardFiles, shard_id: int, num_shards: int) -> None:
    """Put a written shard where the dataset's layout wants it."""
    name = f"train-{shard_id:05d}-of-{num_shards:05d}-{shard_id:08x}.parquet"
    kinds = (("data", files.data), ("metadata", files.metadata), ("errors", files.errors))
    for kind, file in kinds:
        if file is not None:
            (root / kind).mkdir(parents=True, exist_ok=True)
            file.path.rename(root / kind / name)
