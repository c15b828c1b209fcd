"""The frozen schema: which columns a dataset has, in which order and of which type.

It is made once, at plan time, from the manifest's own columns, and every shard of every
night is written with it; nothing is ever inferred from rows. `data/` has all columns,
`metadata/` all but the picture, `errors/` what is known of pictures that failed, `filtered/`
all columns and the reason. All carry the key `huggingface`, from which `datasets` knows that
`image` is a picture. What a field is for, where its name does not tell, stands in the field's
own metadata, so that a stored schema says it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from sdbatch.dataset.arrow_types import feature, normal_type
from sdbatch.errors import InputError

SCORE, CAPTION = "score", "caption"
"""Roles of fields whose names a run chooses."""

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
    pa.field("is_blank", pa.bool_()),
    pa.field("is_uniform", pa.bool_()),
    pa.field("mean_luma", pa.float32()),
    pa.field("sharpness", pa.float32()),
    pa.field("dhash", pa.string()),
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

FILTER_REASON = pa.field("filter_reason", pa.string())
"""Our own column of `filtered/` beside those of `data/`."""

SPOOL_SCHEMA = pa.schema((*DATA_FIELDS, *_FAILURE, FILTER_REASON))
"""Pictures and failures alike, without the manifest's columns: spool and parts."""

TRUE_CFG = pa.field("true_cfg_scale", pa.float32())
"""Follows `guidance_scale` where a run's model is told that one as a number, and only there."""

MICRO = pa.field("micro_conditioning", pa.string())
"""Follows `prompt_syntax` where a run's model is told of sizes, and only there."""

RESERVED_COLUMNS = frozenset((*SPOOL_SCHEMA.names, TRUE_CFG.name, MICRO.name))
"""Names that a manifest's own columns may not have."""

LOW_CARDINALITY = frozenset(
    [
        *("run_id", "task", "negative_prompt", "scheduler", "scheduler_config"),
        *("prompt_syntax", MICRO.name),
        *("model", "model_revision", "dtype", "pipeline_class", "status", "format"),
        *("gpu_name", "render_env", "sdbatch_version", "diffusers_version", "torch_version"),
        "error_type",
    ]
)
"""Text columns of few values, which Parquet keeps as a dictionary."""


def dataset_schema(
    user_fields: Sequence[pa.Field],
    scores: Sequence[str] = (),
    caption_column: str = "",
    class_labels: Mapping[str, Sequence[str]] = MappingProxyType({}),
    true_cfg: bool = False,
    micro: bool = False,
) -> pa.Schema:
    """The schema of `data/`: our columns, scores, caption, then the manifest's own in their order.

    Args:
        user_fields: Manifest columns to pass through; types as listed in
            `arrow_types.py`, nullability and metadata dropped.
        scores: Columns of numbers that models give pictures: `nsfw` is a bool, others float32.
        caption_column: Name of a column that repeats the prompt, for trainers that want it so.
        class_labels: Manifest column to the names of its classes; stored as their numbers.
        true_cfg: The model has guidance beside the one it is told.
        micro: The model is told of sizes.

    Raises:
        InputError: A name is reserved or stands twice, or a type cannot be stored.
    """
    taken = set(RESERVED_COLUMNS)
    extra = [_role(pa.field(name, _score_type(name)), SCORE) for name in scores]
    if caption_column:
        extra.append(_role(pa.field(caption_column, pa.string()), CAPTION))
    for field in extra:
        _take(field.name, taken, "choose another name for it")
    fields = []
    for field in user_fields:
        _take(field.name, taken, "rename it in the manifest")
        if field.name in class_labels:
            fields.append(_class_field(field.name, class_labels[field.name]))
        else:
            fields.append(pa.field(field.name, normal_type(field.type, field.name)))
    own = _told(DATA_FIELDS, true_cfg, micro)
    return _with_features((*own, *extra, *fields))


def metadata_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `metadata/`: that of `data/` without the picture."""
    return _with_features(field for field in schema if field.name != IMAGE.name)


def errors_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `errors/` for a dataset whose `data/` has `schema`."""
    own = _told(ERROR_FIELDS, TRUE_CFG.name in schema.names, MICRO.name in schema.names)
    return _with_features((*own, *user_fields(schema)))


def filtered_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `filtered/` for a dataset whose `data/` has `schema`."""
    users = user_fields(schema)
    own = list(schema)[: len(schema) - len(users)]
    return _with_features((*own, FILTER_REASON, *users))


def spool_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of spool and parts for a dataset whose `data/` has `schema`."""
    own = _told(SPOOL_SCHEMA, TRUE_CFG.name in schema.names, MICRO.name in schema.names)
    return pa.schema((*own, *score_fields(schema)))


def user_fields(schema: pa.Schema) -> list[pa.Field]:
    """The manifest's own columns in a schema of ours."""
    return [field for field in schema if field.name not in RESERVED_COLUMNS and not role_of(field)]


def score_fields(schema: pa.Schema) -> list[pa.Field]:
    """Columns of numbers that models give pictures."""
    return [field for field in schema if role_of(field) == SCORE]


def role_of(field: pa.Field) -> str:
    """What a field is for, `SCORE` or `CAPTION`; empty when its name tells."""
    role: bytes = (field.metadata or {}).get(b"sdbatch_role", b"")
    return role.decode()


def class_names(field: pa.Field) -> tuple[str, ...]:
    """Names of the classes whose numbers a field holds; empty for other fields."""
    names = (field.metadata or {}).get(b"sdbatch_classes")
    return tuple(json.loads(names)) if names else ()


def schema_bytes(schema: pa.Schema) -> bytes:
    """A schema as bytes for storage, metadata included."""
    return bytes(schema.serialize())


def schema_from_bytes(data: bytes) -> pa.Schema:
    """The inverse of `schema_bytes`."""
    return pa.ipc.read_schema(pa.py_buffer(data))


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """The `datasets` features of a schema of ours, as its `Features.to_dict` would give them."""
    return {field.name: _feature(field) for field in schema}


def _told(fields: Iterable[pa.Field], true_cfg: bool, micro: bool) -> Iterable[pa.Field]:
    """Our own columns with those that some models alone have, in their places."""
    for field in fields:
        yield field
        if true_cfg and field.name == "guidance_scale":
            yield TRUE_CFG
        if micro and field.name == "prompt_syntax":
            yield MICRO


def _with_features(fields: Iterable[pa.Field]) -> pa.Schema:
    plain = pa.schema(fields)
    info = json.dumps({"info": {"features": features_of(plain)}})
    return plain.with_metadata({"huggingface": info})


def _feature(field: pa.Field) -> dict[str, Any]:
    if field == IMAGE:
        return {"_type": "Image"}
    if names := class_names(field):
        return {"names": list(names), "_type": "ClassLabel"}
    return feature(field.type)


def _take(name: str, taken: set[str], instead: str) -> None:
    if name in taken:
        why = "is a column of the dataset" if name in RESERVED_COLUMNS else "stands twice"
        raise InputError(f"column '{name}' {why}: {instead}")
    taken.add(name)


def _role(field: pa.Field, role: str) -> pa.Field:
    return field.with_metadata({"sdbatch_role": role})


def _score_type(name: str) -> pa.DataType:
    return pa.bool_() if name == "nsfw" else pa.float32()


def _class_field(name: str, names: Sequence[str]) -> pa.Field:
    # `datasets` holds classes as int64, and casts anything else when it loads.
    return pa.field(name, pa.int64()).with_metadata({"sdbatch_classes": json.dumps(list(names))})
