"""Moments and lengths of time, as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from sdbatch.audit.clock import age_s, in_words, local_clock, parsed_time

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("moment", [None, "", "yesterday", 7, "2026-13-01T00:00:00"])
def test_what_is_no_moment_is_infinitely_old(moment):
    assert parsed_time(moment) is None
    assert age_s(moment, NOW) == float("inf")


def test_a_moment_without_a_zone_is_utc():
    assert age_s("2026-03-04T11:59:00", NOW) == age_s("2026-03-04T13:59:00+02:00", NOW) == 60


def test_another_day_is_named():
    later = NOW + timedelta(days=3)
    local = later.astimezone()

    assert local_clock(NOW.isoformat(), NOW) == NOW.astimezone().strftime("%H:%M")
    assert local_clock(later.isoformat(), NOW) == local.strftime("%a %d %b, %H:%M")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
     (172_799, "47 h"), (172_800, "2 d"), (1e6, "11 d")],
)  # fmt: skip
def test_a_length_of_time_has_one_unit(seconds, words):
    assert in_words(seconds) == words
