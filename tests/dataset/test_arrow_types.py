"""Manifest columns of any Arrow type read the same in every library."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.dataset.arrow_types import feature, normal_type
from sdbatch.errors import InputError

STORED = {
    pa.null(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.binary(4): pa.binary(),
    pa.dictionary(pa.int32(), pa.large_string()): pa.string(),
    pa.run_end_encoded(pa.int32(), pa.int8()): pa.int8(),
    pa.uuid(): pa.binary(),
    pa.json_(): pa.string(),
    pa.decimal32(5, 1): pa.decimal128(5, 1),
    pa.decimal64(12, 1): pa.decimal128(12, 1),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time32("ms"),
    pa.timestamp("s", "UTC"): pa.timestamp("ms", "UTC"),
    pa.large_list(pa.null()): pa.list_(pa.string()),
    pa.list_view(pa.large_string()): pa.list_(pa.string()),
    pa.list_(pa.float32(), 3): pa.list_(pa.float32(), 3),
    pa.map_(pa.string(), pa.int64()): pa.list_(
        pa.struct([("key", pa.string()), ("value", pa.int64())])
    ),
    pa.struct([("a", pa.null()), ("b", pa.list_(pa.binary_view()))]): pa.struct(
        [("a", pa.string()), ("b", pa.list_(pa.binary()))]
    ),
}
KEPT = [
    *(pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.string(), pa.binary(), pa.decimal128(10, 2), pa.decimal256(50, 2), pa.date32()),
    *(pa.time64("ns"), pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"), pa.duration("s")),
]


@pytest.mark.parametrize(("given", "stored"), STORED.items(), ids=str)
def test_a_type_that_readers_disagree_on_is_brought_to_common_ground(given, stored):
    assert normal_type(given, "x") == stored


@pytest.mark.parametrize("kind", KEPT, ids=str)
def test_a_type_that_every_reader_knows_is_kept(kind):
    assert normal_type(kind, "x") == kind


@pytest.mark.parametrize("kind", [*KEPT, *STORED.values()], ids=str)
def test_what_parquet_gives_back_is_the_type_that_was_frozen(kind):
    file = io.BytesIO()
    pq.write_table(pa.table({"x": pa.nulls(1, kind)}), file)

    assert pq.read_table(file).schema.field("x").type == kind
    assert normal_type(kind, "x") == kind


@pytest.mark.readers
@pytest.mark.parametrize("kind", [*KEPT, *STORED.values()], ids=str)
def test_datasets_would_describe_a_column_in_the_same_words(kind):
    from datasets import Features

    theirs = Features.from_arrow_schema(pa.schema([("x", kind)])).to_dict()

    assert {"x": feature(kind)} == theirs


@pytest.mark.parametrize(
    "kind",
    [pa.struct([]), pa.month_day_nano_interval(), pa.list_(pa.struct([]))],
    ids=str,
)
def test_a_type_that_parquet_cannot_hold_is_refused_by_column(kind):
    with pytest.raises(InputError, match=r"column 'x': type .* cannot be stored"):
        normal_type(kind, "x")
