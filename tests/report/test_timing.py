"""Times out of commit records."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.report.timing import WORKERS, Clockwork
from sdbatch.results import DataFile, ShardResult

FILE = DataFile("data/x.parquet", 1, 1, "0")
RESULT = ShardResult(
    shard_id=0, attempt="0a1b2c3d", data=FILE, metadata=FILE, errors_file=None, num_rows=1,
    success=1, failed=0, filtered=0, images_sha256="", errors={}, started_at="", finished_at="",
    phase_seconds={}, row_steps=0, lane_steps=0, lane_slots=0, worker="w0", device_name="cpu",
    attempts=1,
)  # fmt: skip
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def shard(began_s, ended_s, images=1, **facts):
    began, ended = (BEGIN + timedelta(seconds=at) for at in (began_s, ended_s))
    times = {"started_at": began.isoformat(), "finished_at": ended.isoformat()}
    return replace(RESULT, success=images, **times, **facts)


SPANS = st.tuples(st.floats(0, 1e6), st.floats(0, 1e5), st.integers(0, 500))


@given(st.lists(SPANS, min_size=1, max_size=20))
def test_the_curve_holds_every_picture(spans):
    clock = Clockwork()
    for began, length, images in spans:
        clock.add(shard(began, began + length, images))
    timing = clock.result()

    if timing.rates:
        drawn = sum(timing.rates) * timing.seconds / len(timing.rates)
        assert drawn == pytest.approx(sum(images for _, _, images in spans), rel=0.01, abs=1e-3)
        assert min(timing.rates) >= -1e-9


def test_phases_come_in_the_order_of_a_picture_and_add_up():
    clock = Clockwork()
    clock.add(shard(0, 5, phase_seconds={"write": 1.0, "denoise": 3.0, "own": 0.5}))
    clock.add(shard(5, 9, phase_seconds={"denoise": 2.0, "load": 4.0}))

    assert list(clock.result().phases.items()) == [
        ("load", 4.0), ("denoise", 5.0), ("write", 1.0), ("own", 0.5),
    ]  # fmt: skip


def test_workers_are_told_apart_and_the_busiest_come_first():
    clock = Clockwork()
    for number in range(WORKERS + 5):
        clock.add(shard(0, 10, images=number, worker=f"w{number}"))
    clock.add(shard(20, 30, images=500, worker="w0"))
    timing = clock.result()

    assert [worker.name for worker in timing.workers[:2]] == ["w0", f"w{WORKERS + 4}"]
    assert (timing.workers[0].shards, timing.workers[0].seconds) == (2, 30.0)
    assert timing.other_workers == 5


def test_records_without_times_give_no_curve():
    clock = Clockwork()
    clock.add(RESULT)

    assert clock.result().rates == ()
    assert clock.result().began is None
