"""Samples say what their rows say, as far as JSON can, in one type each."""

import io
import json
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.dataset.layouts import write_shard
from sdbatch.dataset.schema import dataset_schema
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.webdataset import (
    read_samples,
    sample_columns,
    sample_features,
    sample_json,
    sample_name,
)
from sdbatch.errors import DamagedError
from sdbatch.records import OutputSpec
from tests.dataset.samples import add_picture

NESTED = pa.struct([("x", pa.list_(pa.string()))])
MOMENT = datetime(2026, 11, 22, 12, tzinfo=UTC)
VALUES = [
    (pa.int8(), -3, -3, -1),
    (pa.uint64(), 2**64 - 1, str(2**64 - 1), ""),
    (pa.float32(), 0.5, 0.5, -1.0),
    (pa.float64(), float("nan"), -1.0, -1.0),
    (pa.float64(), float("-inf"), -1.7976931348623157e308, -1.0),
    (pa.bool_(), True, True, False),
    (pa.string(), "a\u0000\U0001f98a<b>", "a\u0000\U0001f98a<b>", ""),
    (pa.binary(), b"\x00\xff", "AP8=", ""),
    (pa.date32(), date(2026, 11, 22), "2026-11-22", ""),
    (pa.timestamp("us", "UTC"), MOMENT, "2026-11-22T12:00:00+00:00", ""),
    (pa.decimal128(5, 2), Decimal("1.50"), "1.50", ""),
    (NESTED, {"x": ["\u05de", None]}, '{"x": ["\u05de", null]}', ""),
]


@pytest.mark.parametrize(("kind", "value", "said", "absent"), VALUES, ids=lambda x: str(x)[:20])
def test_every_type_has_one_json_type_and_never_null(kind, value, said, absent):
    schema = pa.schema([("own", kind)])
    found, missing = (json.loads(sample_json({"own": one}, schema))["own"] for one in (value, None))

    assert (found, missing) == (said, absent)
    assert type(found) is type(missing)


JSON_TYPES = {"int64": int, "float64": float, "bool": bool, "string": str}


@pytest.mark.parametrize(("kind", "value"), [one[:2] for one in VALUES], ids=lambda x: str(x)[:20])
def test_the_card_says_the_type_that_the_json_has(kind, value):
    schema = pa.schema([("own", kind)])
    features = sample_features(schema, "png", captions=False)["features"]
    (column,) = next(one["struct"] for one in features if one["name"] == "json")

    found = json.loads(sample_json({"own": value}, schema))["own"]
    assert type(found) is JSON_TYPES[column["dtype"]]


def tar(folder, images, captions=True):
    schema = dataset_schema([])
    user = pa.table({"row_index": pa.array(sorted({row for row, _ in images}), pa.int64())})
    with Spool(folder / "spool", schema) as spool:
        for image_id in images:
            add_picture(spool, *image_id)
        held = [(one.columns, one.data) for one in spool]
        output = OutputSpec("webdataset", "txt" if captions else "")
        return write_shard(spool, user, folder, "plan", "main", output=output).data, held


def test_samples_come_back_with_their_columns_and_bytes(tmp_path):
    file, held = tar(tmp_path, [(3, 1), (0, 0), (3, 0)])
    with file.path.open("rb") as source:
        found = list(read_samples(source, "a tar"))

    assert [sample.name for sample in found] == ["000000000_000", "000000003_000", "000000003_001"]
    for sample, (columns, data) in zip(found, held, strict=True):
        assert sample.data == data
        assert sample_columns(sample.text, columns.keys()) == columns


def test_a_score_that_nobody_gave_does_not_come_back_as_a_number():
    schema = dataset_schema([], ("nsfw", "nsfw_score", "clip_score"))
    row = dict.fromkeys(schema.names) | {"created_at": MOMENT, "mean_luma": 0.5}
    names = ["created_at", "mean_luma", "nsfw", "nsfw_score", "clip_score"]
    given = {"nsfw": False, "nsfw_score": -0.25, "clip_score": 0.0}

    for scores in (given, dict.fromkeys(given)):
        found = sample_columns(sample_json(row | scores, schema), names)
        assert {name: found[name] for name in given} == scores
        assert found["mean_luma"] == 0.5


def test_only_wanted_samples_are_read(tmp_path):
    file, _ = tar(tmp_path, [(0, 0), (1, 0), (2, 0)], captions=False)
    with file.path.open("rb") as source:
        found = list(read_samples(source, "a tar", frozenset(["000000001_000"])))

    assert [sample.name for sample in found] == ["000000001_000"]


@given(st.data())
def test_a_tar_that_was_cut_short_yields_only_whole_samples(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tar")
    file, held = tar(folder, [(0, 0), (1, 0), (2, 0)])
    whole = file.path.read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = []
    with suppress(DamagedError):
        found.extend(sample.data for sample in read_samples(io.BytesIO(cut), "a tar"))

    assert found == [image for _, image in held][: len(found)]


def test_a_dot_in_a_key_does_not_split_a_sample():
    assert sample_name("night.2-000000012_000") == "night_2-000000012_000"
