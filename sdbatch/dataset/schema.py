"""The frozen schema: which columns a dataset has, in which order and of which type.

It is made once, at plan time, from the manifest's own columns, and every shard of every
night is written with it; nothing is ever inferred from rows. `data/` has all columns,
`metadata/` all but the picture, `errors/` what is known of pictures that failed. All
three carry the key `huggingface`, from which `datasets` knows that `image` is a picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

from sdbatch.dataset.arrow_types import feature, normal_type
from sdbatch.errors import InputError

IMAGE = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))

_IDENTITY = (
    pa.field("row_id", pa.string()),
    pa.field("row_index", pa.int64()),
    pa.field("image_index", pa.int32()),
    pa.field("shard_id", pa.int32()),
    pa.field("run_id", pa.string()),
    pa.field("row_hash", pa.string()),
)
_REQUEST = (
    pa.field("task", pa.string()),
    pa.field("prompt", pa.string()),
    pa.field("negative_prompt", pa.string()),
    pa.field("seed", pa.int64()),
    pa.field("num_inference_steps", pa.int32()),
    pa.field("guidance_scale", pa.float32()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("scheduler", pa.string()),
    pa.field("scheduler_config", pa.string()),
    pa.field("prompt_syntax", pa.string()),
)
_MODEL = (
    pa.field("model", pa.string()),
    pa.field("model_revision", pa.string()),
    pa.field("dtype", pa.string()),
    pa.field("pipeline_class", pa.string()),
)
_RESULT = (
    pa.field("status", pa.string()),
    pa.field("format", pa.string()),
    pa.field("image_width", pa.int32()),
    pa.field("image_height", pa.int32()),
    pa.field("image_bytes", pa.int64()),
    pa.field("sha256", pa.string()),
    pa.field("pixel_sha256", pa.string()),
    pa.field("prompt_truncated", pa.bool_()),
    pa.field("attempts", pa.int16()),
)
_RUN_FACTS = (
    pa.field("created_at", pa.timestamp("us", "UTC")),
    pa.field("latency_ms", pa.float32()),
    pa.field("batch_size", pa.int16()),
    pa.field("gpu_name", pa.string()),
    pa.field("render_env", pa.string()),
    pa.field("sdbatch_version", pa.string()),
    pa.field("diffusers_version", pa.string()),
    pa.field("torch_version", pa.string()),
)
_KEY = pa.field("key", pa.string())
_STATUS = pa.field("status", pa.string())
_FAILURE = (
    pa.field("error_type", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("traceback", pa.string()),
)

DATA_FIELDS = (_KEY, IMAGE, *_IDENTITY, *_REQUEST, *_MODEL, *_RESULT, *_RUN_FACTS)
"""Our own columns of `data/`, before the manifest's."""

ERROR_FIELDS = (
    _KEY,
    *_IDENTITY,
    _STATUS,
    *_FAILURE,
    pa.field("attempts", pa.int16()),
    pa.field("created_at", pa.timestamp("us", "UTC")),
    *_REQUEST,
)
"""Our own columns of `errors/`, before the manifest's."""

SPOOL_SCHEMA = pa.schema((*DATA_FIELDS, *_FAILURE))
"""Pictures and failures alike, without the manifest's columns: spool and parts."""

RESERVED_COLUMNS = frozenset(SPOOL_SCHEMA.names)
"""Names that a manifest's own columns may not have."""

LOW_CARDINALITY = frozenset(
    [
        *("run_id", "task", "negative_prompt", "scheduler", "scheduler_config"),
        "prompt_syntax",
        *("model", "model_revision", "dtype", "pipeline_class", "status", "format"),
        *("gpu_name", "render_env", "sdbatch_version", "diffusers_version", "torch_version"),
        "error_type",
    ]
)
"""Text columns of few values, which Parquet keeps as a dictionary."""


def dataset_schema(user_fields: Sequence[pa.Field]) -> pa.Schema:
    """The schema of `data/`: our columns, then the manifest's own in their order.

    Args:
        user_fields: Manifest columns to pass through; types as listed in
            `arrow_types.py`, nullability and metadata dropped.

    Raises:
        InputError: A name is reserved or stands twice, or a type cannot be stored.
    """
    taken = set(RESERVED_COLUMNS)
    fields = []
    for field in user_fields:
        if field.name in taken:
            why = "is a column of the dataset" if field.name in RESERVED_COLUMNS else "stands twice"
            raise InputError(f"column '{field.name}' {why}: rename it in the manifest")
        taken.add(field.name)
        fields.append(pa.field(field.name, normal_type(field.type, field.name)))
    return _with_features((*DATA_FIELDS, *fields))


def metadata_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `metadata/`: that of `data/` without the picture."""
    return _with_features(field for field in schema if field.name != IMAGE.name)


def errors_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `errors/` for a dataset whose `data/` has `schema`."""
    return _with_features((*ERROR_FIELDS, *user_fields(schema)))


def user_fields(schema: pa.Schema) -> list[pa.Field]:
    """The manifest's own columns in a schema of ours."""
    return [field for field in schema if field.name not in RESERVED_COLUMNS]


def schema_bytes(schema: pa.Schema) -> bytes:
    """A schema as bytes for storage, metadata included."""
    return bytes(schema.serialize())


def schema_from_bytes(data: bytes) -> pa.Schema:
    """The inverse of `schema_bytes`."""
    return pa.ipc.read_schema(pa.py_buffer(data))


def _with_features(fields: Iterable[pa.Field]) -> pa.Schema:
    plain = pa.schema(fields)
    features = {
        field.name: {"_type": "Image"} if field == IMAGE else feature(field.type) for field in plain
    }
    info = json.dumps({"info": {"features": features}})
    return plain.with_metadata({"huggingface": info})
