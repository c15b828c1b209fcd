"""A picture says of itself what was asked and what came out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa

from sdbatch.dataset.columns import (
    TRACEBACK_CHARS,
    failure_columns,
    image_columns,
    render_env_text,
)
from sdbatch.dataset.images import encode
from sdbatch.dataset.schema import DATA_FIELDS, ERROR_FIELDS
from sdbatch.output_specs import ImageSpec
from sdbatch.results import RenderedImage, RowFailure
from tests.dataset.samples import ENV, FACTS, NOON, pixels, row


def drawn(row_index=5, image_index=2, facts=FACTS, created_at=NOON):
    image = RenderedImage(row(row_index, image_index), pixels(5), 16, True, 12.5)
    return image_columns(image, encode(image.pixels, ImageSpec()), facts, created_at)


def failed(message="no", trace=""):
    return failure_columns(RowFailure(row(5), "NonFiniteError", message, trace), FACTS, NOON)


def test_a_picture_fills_every_column_of_data_but_the_picture_itself():
    assert drawn().keys() == {field.name for field in DATA_FIELDS} - {"image"}
    assert None not in drawn().values()


def test_a_failure_fills_every_column_of_errors():
    assert failed().keys() >= {field.name for field in ERROR_FIELDS}


def test_a_picture_says_what_was_asked_and_what_came_out():
    columns = drawn()

    assert columns["key"] == "000000005_002"
    assert (columns["prompt"], columns["seed"], columns["width"]) == ("prompt 5", 1007, 8)
    assert (columns["status"], columns["format"], columns["batch_size"]) == ("success", "png", 16)
    assert (columns["image_width"], columns["image_height"]) == (8, 4)
    assert (columns["shard_id"], columns["attempts"], columns["prompt_truncated"]) == (3, 2, True)


def test_a_key_of_an_appended_run_carries_its_name():
    assert drawn(facts=replace(FACTS, run="night2"))["key"] == "night2-000000005_002"


def test_a_moment_is_the_same_in_every_time_zone():
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    value = drawn(created_at=tokyo)["created_at"]

    assert pa.array([value], pa.timestamp("us", "UTC"))[0].as_py() == NOON


def test_without_a_moment_it_is_now():
    before = datetime.now(UTC)
    value = drawn(created_at=None)["created_at"]

    moment = pa.array([value], pa.timestamp("us", "UTC"))[0].as_py()
    assert before <= moment <= datetime.now(UTC)


def test_a_message_that_is_no_text_can_still_be_stored():
    columns = failed(message="file \udcff")

    assert pa.array([columns["error_message"]]).to_pylist() == ["file \\udcff"]


def test_of_a_long_traceback_the_end_is_kept():
    columns = failed(trace="x" * TRACEBACK_CHARS + "the last line")

    assert len(columns["traceback"]) == TRACEBACK_CHARS
    assert columns["traceback"].endswith("the last line")


def test_any_difference_of_environment_shows():
    for name in ("device", "device_name", "dtype", "torch_version", "diffusers_version", "kernels"):
        assert render_env_text(replace(ENV, **{name: "other"})) != render_env_text(ENV)
