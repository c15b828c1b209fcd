"""The numbers at the end of a run."""

import pytest

from sdbatch.engine.summary import Totals, exit_code_of, tolerance
from sdbatch.results import DataFile, ShardResult

FILE = DataFile("data/x", 10, 100, "ab")


def result(shard_id, success, failed, **phases):
    return ShardResult(
        shard_id, "0123abcd", FILE, FILE, None, 10, success, failed, 0, "h", {}, "", "", phases,
        row_steps=100, lane_steps=150, lane_slots=200, worker="w0", device_name="cpu", attempts=1,
    )  # fmt: skip


def test_totals_are_sums_over_records():
    totals = Totals.of([result(0, 9, 1, denoise=2.0), result(1, 10, 0, denoise=3.0, write=0.5)])

    assert (totals.shards, totals.success, totals.failed) == (2, 19, 1)
    assert totals.phase_seconds["denoise"] == 5.0
    assert totals.phase_seconds["write"] == 0.5
    assert totals.occupancy == 0.75


def test_nothing_drawn_has_no_occupancy():
    assert Totals.of([]).occupancy == 0.0


@pytest.mark.parametrize(
    ("text", "images", "allowed"),
    [(None, 100, None), ("0", 100, 0), ("5", 100, 5), ("1%", 250, 2), ("2.5%", 1000, 25)],
)
def test_a_tolerance_is_a_number_or_a_share(text, images, allowed):
    assert tolerance(text, images) == allowed


@pytest.mark.parametrize(
    ("finished", "failed", "allowed", "code"),
    [(True, 0, 0, 0), (True, 3, 3, 0), (True, 4, 3, 4), (False, 0, 0, 75), (False, 9, 0, 75)],
)
def test_the_exit_code_follows_from_counts(finished, failed, allowed, code):
    assert exit_code_of(finished, failed, allowed) == code
