import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.errors import JobError
from sdbatch.manifest.shape import RowShape
from sdbatch.plan import sharding
from sdbatch.plan.sharding import (
    cut_shards,
    lease_order,
    shards_digest,
    shards_from_table,
    shards_table,
)

SIZES = ((512, 512), (256, 256), (64, 128))


def uniform(rows, size=(512, 512), images=1, work=40):
    return RowShape(rows, (size,), None, None, images, None, work)


@st.composite
def shapes(draw):
    rows = draw(st.integers(1, 60))
    column = st.lists(st.integers(1, 5), min_size=rows, max_size=rows)
    index = draw(st.none() | st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    images = draw(st.none() | column)
    work = draw(st.none() | column)
    return RowShape(
        rows,
        SIZES if index else SIZES[:1],
        None if index is None else np.array(index, np.int32),
        None if images is None else np.array(images, np.int16),
        2,
        None if work is None else np.array(work, np.int32),
        20,
    )


def rows_of(shard, shape):
    rows = np.arange(shard.first_row, shard.end_row)
    if shard.group:
        names = np.array([f"{wide}x{high}" for wide, high in shape.sizes])
        rows = rows[names[shape.size_index[rows]] == shard.group]
    return rows[shard.skip : shard.skip + shard.num_rows].tolist()


@settings(deadline=None, max_examples=40)
@given(shape=shapes(), size=st.none() | st.integers(1, 70))
def test_shards_tile_the_manifest_exactly(shape, size):
    shards = cut_shards(shape, size)

    rows = [row for shard in shards for row in rows_of(shard, shape)]
    assert sorted(rows) == list(range(shape.num_rows))
    assert [shard.shard_id for shard in shards] == list(range(len(shards)))
    assert all(shard.num_rows == len(rows_of(shard, shape)) > 0 for shard in shards)


@settings(deadline=None, max_examples=40)
@given(shape=shapes(), size=st.none() | st.integers(1, 70))
def test_pictures_and_cost_are_those_of_the_rows(shape, size):
    index = np.zeros(shape.num_rows, int) if shape.size_index is None else shape.size_index
    images = np.full(shape.num_rows, 2) if shape.images is None else shape.images
    work = np.full(shape.num_rows, 20) if shape.work is None else shape.work
    pixels = np.array([wide * high for wide, high in shape.sizes])

    for shard in cut_shards(shape, size):
        rows = rows_of(shard, shape)
        assert shard.num_images == images[rows].sum()
        assert shard.cost == pytest.approx((images * work * pixels[index])[rows].sum())


@settings(deadline=None, max_examples=40)
@given(shape=shapes(), size=st.none() | st.integers(1, 70))
def test_a_divided_shard_has_one_picture_size_and_lies_in_its_window(shape, size):
    for shard in cut_shards(shape, size):
        assert bool(shard.group) == (shape.size_index is not None)
        assert shard.first_row % sharding.WINDOW_ROWS == 0 or not shard.group


def test_windows_keep_rows_of_a_shard_near_one_another(monkeypatch):
    monkeypatch.setattr(sharding, "WINDOW_ROWS", 4)
    shape = RowShape(10, SIZES[:2], np.arange(10, dtype=np.int32) % 2, None, 1, None, 20)

    shards = cut_shards(shape, 100)

    ranges = [(shard.first_row, shard.end_row, shard.group, shard.num_rows) for shard in shards]
    assert ranges == [
        (start, end, group, (end - start) // 2)
        for start, end in ((0, 4), (4, 8), (8, 10))
        for group in ("512x512", "256x256")
    ]


def test_an_asked_size_is_rows_per_shard():
    assert [shard.num_rows for shard in cut_shards(uniform(20), 7)] == [7, 7, 6]


def test_small_runs_are_cut_into_shards_of_at_least_32_pictures():
    shards = cut_shards(uniform(256, (64, 64)))

    assert [shard.num_images for shard in shards] == [32] * 8


def test_large_runs_are_cut_by_bytes():
    shards = cut_shards(uniform(1_000_000, (1024, 1024)))

    assert max(shard.num_images for shard in shards) * 1.52e6 < 390e6
    assert len(shards) == 3_969


def test_several_pictures_a_row_make_fewer_rows_a_shard():
    shards = cut_shards(uniform(64, (64, 64), images=8))

    assert {shard.num_images for shard in shards} == {32}
    assert {shard.num_rows for shard in shards} == {4}


def test_files_grow_when_five_digits_would_run_out():
    shards = cut_shards(uniform(100_000_000, (1024, 1024)))

    assert len(shards) <= 99_999
    assert max(shard.num_images for shard in shards) * 1.52e6 <= 4.05e9


def test_more_than_five_digits_of_the_largest_files_are_refused():
    with pytest.raises(JobError, match="split the manifest into runs"):
        cut_shards(uniform(1_000_000_000, (1024, 1024)))


def test_an_asked_size_that_makes_too_many_shards_is_refused_with_one_that_does_not():
    with pytest.raises(JobError, match="take 11 or more"):
        cut_shards(uniform(1_000_000), 1)

    assert len(cut_shards(uniform(1_000_000), 11)) <= 99_999


def test_an_asked_size_beyond_4_gb_is_refused_with_one_that_fits():
    with pytest.raises(JobError, match="files beyond 4 GB: take 2628 or fewer"):
        cut_shards(uniform(10_000, (1024, 1024)), 5000)

    assert cut_shards(uniform(10_000, (1024, 1024)), 2628)


@settings(deadline=None, max_examples=40)
@given(shape=shapes())
def test_a_plan_is_stored_and_read_back_whole(shape):
    shards = cut_shards(shape)

    assert shards_from_table(shards_table(shards)) == shards


def test_costly_shards_are_leased_first_and_equal_ones_in_order():
    work = np.repeat([5, 9, 5, 9], 2).astype(np.int32)
    shape = RowShape(8, SIZES[:1], None, None, 1, work, 5)

    order = [shard.shard_id for shard in lease_order(cut_shards(shape, 2))]

    assert order == [1, 3, 0, 2]


def test_other_ranges_have_another_digest():
    one, same, other = (cut_shards(uniform(20), size) for size in (7, 7, 8))

    assert shards_digest(one) == shards_digest(same) != shards_digest(other)
