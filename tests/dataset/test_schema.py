"""The frozen schema, column by column."""

import json

import pyarrow as pa
import pytest

from sdbatch.dataset.schema import (
    RESERVED_COLUMNS,
    dataset_schema,
    errors_schema,
    filtered_schema,
    metadata_schema,
    schema_bytes,
    schema_from_bytes,
    spool_schema,
    user_fields,
)
from sdbatch.errors import InputError

GOLDEN = """
key string
image struct<bytes: binary, path: string>
row_id string
row_index int64
image_index int32
shard_id int32
run_id string
row_hash string
task string
prompt string
negative_prompt string
seed int64
num_inference_steps int32
guidance_scale float
width int32
height int32
scheduler string
scheduler_config string
prompt_syntax string
model string
model_revision string
dtype string
pipeline_class string
status string
format string
image_width int32
image_height int32
image_bytes int64
sha256 string
pixel_sha256 string
is_blank bool
is_uniform bool
mean_luma float
sharpness float
dhash string
prompt_truncated bool
attempts int16
created_at timestamp[us, tz=UTC]
latency_ms float
batch_size int16
gpu_name string
render_env string
sdbatch_version string
diffusers_version string
torch_version string
""".strip().splitlines()

ERRORS = [
    *("key", "row_id", "row_index", "image_index", "shard_id", "run_id", "row_hash"),
    *("status", "error_type", "error_message", "traceback", "attempts", "created_at"),
    *("task", "prompt", "negative_prompt", "seed", "num_inference_steps", "guidance_scale"),
    *("width", "height", "scheduler", "scheduler_config", "prompt_syntax"),
]

USER = [
    pa.field("wanted", pa.large_string(), nullable=False, metadata={"a": "b"}),
    pa.field("nothing", pa.null()),
    pa.field("nested", pa.struct([("tags", pa.large_list(pa.string()))])),
]


def test_columns_and_types_of_data_never_change_unnoticed():
    assert [f"{field.name} {field.type}" for field in dataset_schema([])] == GOLDEN


def test_guidance_beside_the_told_one_has_a_column_only_where_there_is_such():
    schema = dataset_schema(USER, true_cfg=True)

    for kind in (schema, errors_schema(schema), spool_schema(schema), filtered_schema(schema)):
        place = kind.names.index("guidance_scale")
        assert kind.field(place + 1) == pa.field("true_cfg_scale", pa.float32())
    plain = [name for name in schema.names if name != "true_cfg_scale"]
    assert plain == dataset_schema(USER).names
    assert user_fields(schema) == user_fields(dataset_schema(USER))


def test_user_columns_follow_in_their_order_with_frozen_types():
    added = list(dataset_schema(USER))[len(GOLDEN) :]

    assert added == [
        pa.field("wanted", pa.string()),
        pa.field("nothing", pa.string()),
        pa.field("nested", pa.struct([("tags", pa.list_(pa.string()))])),
    ]
    assert user_fields(dataset_schema(USER)) == added


def test_metadata_is_data_without_the_picture():
    names = metadata_schema(dataset_schema(USER)).names

    assert names == [name for name in dataset_schema(USER).names if name != "image"]


def test_errors_say_what_was_asked_and_why_it_failed():
    assert errors_schema(dataset_schema(USER)).names == [*ERRORS, "wanted", "nothing", "nested"]


@pytest.mark.parametrize("derive", [lambda s: s, metadata_schema, errors_schema])
def test_the_huggingface_key_lists_every_column_in_schema_order(derive):
    schema = derive(dataset_schema(USER))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]

    assert list(features) == schema.names
    assert features.get("image", {"_type": "Image"}) == {"_type": "Image"}


@pytest.mark.parametrize("name", ["image", "status", "key", "error_type", "seed"])
def test_a_user_column_may_not_take_a_name_of_ours(name):
    assert name in RESERVED_COLUMNS
    with pytest.raises(InputError, match=f"column '{name}' is a column of the dataset: rename"):
        dataset_schema([pa.field(name, pa.string())])


def test_a_user_column_that_stands_twice_is_refused():
    with pytest.raises(InputError, match="column 'a' stands twice"):
        dataset_schema([pa.field("a", pa.string()), pa.field("a", pa.int8())])


def test_a_schema_survives_storage_with_its_metadata():
    schema = dataset_schema(USER)

    assert schema_from_bytes(schema_bytes(schema)).equals(schema, check_metadata=True)
