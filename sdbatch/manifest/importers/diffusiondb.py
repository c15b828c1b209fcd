"""DiffusionDB's metadata: Parquet with numbers for samplers, or the JSON beside a part's pictures.

The JSON of a part maps the name of each picture to its settings, with letters for names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import ManifestError
from sdbatch.manifest.importers.row import Row, as_text, keep, put, put_seed, whole
from sdbatch.manifest.importers.text_lines import whole_text
from sdbatch.manifest.scheduler_names import DIFFUSIONDB

PREFIX = "diffusiondb_"
NAMES = {
    "image_name": "id",
    "prompt": "prompt",
    "p": "prompt",
    "step": "num_inference_steps",
    "st": "num_inference_steps",
    "cfg": "guidance_scale",
    "c": "guidance_scale",
    "width": "width",
    "height": "height",
}
OTHER = "others"
BATCH_ROWS = 8192


def diffusiondb_rows(path: str) -> Iterator[Row]:
    """Rows of a metadata file, streamed, or of a part's JSON.

    Raises:
        ManifestError: It is no Parquet, or has no column of prompts; or no such JSON.
    """
    if path.lower().endswith(".json"):
        yield from _part_rows(path)
        return
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not {"prompt", "p"} & set(file.schema_arrow.names):
                raise ManifestError(path, -1, "", "", "no column 'prompt' or 'p'")
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                for values in batch.to_pylist():
                    yield _row(values)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = f"cannot be read as Parquet: {' '.join(str(error).split())[:160]}"
        raise ManifestError(path, -1, "", "", reason) from error


def is_part(text: str) -> bool:
    """Whether a text is the JSON of a part: names of pictures, each with a prompt `p`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value) and all(map(_is_picture, value.values()))


def _is_picture(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("p"), str)


def _part_rows(path: str) -> Iterator[Row]:
    text = whole_text(path)
    if not is_part(text):
        reason = 'is no JSON of a part such as {"x.png": {"p": "a fox", "se": 7}}'
        raise ManifestError(path, -1, "", "", reason)
    for name, values in json.loads(text).items():
        yield _row({"image_name": name, **values})


def _row(values: dict[str, object]) -> Row:
    row: Row = {}
    for name, value in values.items():
        if value is None:
            continue
        if name in ("sampler", "sa"):
            row["scheduler"] = sampler_name(value)
        elif name in ("seed", "se"):
            put_seed(row, value, name, PREFIX)
        elif name in NAMES:
            put(row, NAMES[name], value, name, PREFIX)
        else:
            keep(row, name, value, PREFIX)
    return row


def sampler_name(value: object) -> str:
    """The sampler behind DiffusionDB's number; 9 and what is unknown is `others`."""
    number = whole(value)
    if number is None:
        # Its own loading script misspells one of its samplers.
        return "k_heun" if value == "ddik_heunm" else as_text(value)
    return DIFFUSIONDB[number - 1] if 1 <= number <= len(DIFFUSIONDB) else OTHER
