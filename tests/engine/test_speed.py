"""How fast a worker is, from what it did lately."""

import math

import pytest

from sdbatch.engine.speed import Meter, seconds_left, typical


def metered(*stretches):
    meter = Meter()
    for work, seconds in stretches:
        meter.add(work, seconds)
    return meter


def test_nothing_is_known_before_anything_was_measured():
    assert Meter().rate() is None
    assert metered((5.0, 0.0)).rate() is None


def test_a_steady_worker_has_its_rate_from_the_first_stretch_on():
    assert metered((4.0, 2.0)).rate() == pytest.approx(2.0)
    assert metered(*[(4.0, 2.0)] * 500).rate() == pytest.approx(2.0)


def test_a_worker_that_slows_down_looks_slow_within_minutes():
    meter = metered(*[(2.0, 1.0)] * 600, *[(0.2, 1.0)] * 180)

    assert 0.2 < meter.rate() < 0.4


def test_silence_makes_slower():
    meter = metered(*[(2.0, 1.0)] * 600)

    assert meter.rate(silent_s=60.0) == pytest.approx(1.0, rel=0.05)


def test_the_typical_rate_leaves_out_who_stands_still_or_is_unknown():
    assert typical([None, 0.0, 1.0, 3.0, 9.0]) == 3.0
    assert typical([None, 0.0]) is None


def test_work_at_no_speed_takes_for_ever():
    assert seconds_left(6.0, 2.0) == 3.0
    assert seconds_left(6.0, 0.0) == math.inf
