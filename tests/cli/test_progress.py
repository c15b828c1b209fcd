"""How a run shows itself: rates, clock times, plain lines, silence."""

import json
from datetime import datetime, timedelta

import pytest

from sdbatch.cli.progress import JsonReporter, PlainReporter, Rate, finish_time, reporter
from sdbatch.engine.events import Progress


def at(done, finished=0, workers=2, failed=0):
    return Progress(100, done, finished, failed, 10, done // 10, workers, 2, 4)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_rate_is_over_the_last_half_minute_only():
    clock = Clock()
    rate = Rate(clock)
    for second in range(100):
        clock.now = second
        value = rate.add(second if second < 50 else 50 + 10 * (second - 50))

    assert value == pytest.approx(10.0)


def test_a_rate_is_unknown_at_first():
    assert Rate(Clock()).add(5) == 0.0


def test_the_end_is_said_as_a_clock_time():
    now = datetime(2026, 3, 4, 22, 0, 0)

    assert finish_time(60, 1.0, now) == "22:01:00"
    assert finish_time(6 * 3600, 1.0, now) == "Thu 04:00"
    assert finish_time(20 * 86400, 1.0, now) == f"{now + timedelta(days=20):%d %b}"
    assert finish_time(60, 0.0, now) == "-"


def test_plain_lines_come_every_few_seconds_and_at_the_end(capsys):
    clock = Clock()
    plain = PlainReporter(clock)
    for second in range(21):
        clock.now = second
        plain.progress(at(5 * second))

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("progress 100/100 100.0% 5.0 img/s")
    assert "failed 0" in lines[-1]


def test_nothing_is_shown_while_no_worker_is_up(capsys):
    PlainReporter(Clock()).progress(at(0, workers=0))

    assert capsys.readouterr().err == ""


def test_a_bar_goes_to_stderr_and_none_is_silent(capsys):
    for mode in ("rich", "none"):
        with reporter(mode) as report:
            report.note(f"a line of {mode}")
            report.progress(at(50, finished=5))

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a line of rich" in captured.err
    assert "55/100" in captured.err
    assert "a line of none" not in captured.err


def test_json_lines_are_objects_on_stderr_alone_every_few_seconds_and_at_the_end(capsys):
    clock = Clock()
    told = JsonReporter(clock)
    told.note('a "line"\nof two')
    for second in range(21):
        clock.now = second
        told.progress(at(5 * second, failed=3))
        told.progress(at(5 * second, failed=3))

    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    assert (lines[0]["event"], lines[0]["message"]) == ("note", 'a "line"\nof two')
    assert [line["done"] for line in lines[1:]] == [0, 25, 50, 75, 100]
    assert {"at", "level", "images", "failed", "workers_up", "images_per_s"} <= set(lines[-1])


@pytest.mark.parametrize(("mode", "lines"), [("auto", 1), ("plain", 1), ("rich", 1), ("none", 0)])
def test_the_log_format_overrides_the_display_but_not_silence(mode, lines, capsys):
    with reporter(mode, "json") as report:
        report.note("x")

    assert len(capsys.readouterr().err.splitlines()) == lines
