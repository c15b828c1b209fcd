"""A run whose first pictures are mostly none stops by itself, and no sound run does."""

import dataclasses
import random
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch import api
from sdbatch.engine.canary import AT_ONCE, WATCHED, Canary, Lookout, fact_of
from sdbatch.engine.events import PictureFact
from sdbatch.records import RenderRow
from sdbatch.results import RenderedImage, RowFailure

INLINE = {"engine": "inline", "size": "64x64"}


def row(number=0, row_hash=None):
    return RenderRow(
        number, 0, str(number), "p", "", number, 16, 16, 2, 1.0, "DDIMScheduler",
        row_hash=row_hash or f"{number:032x}",
    )  # fmt: skip


def drawn(number=0, pixels=None, **request):
    if pixels is None:
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    return RenderedImage(row(number, **request), pixels, 4, False, 1.0)


def facts(flaws, first=0):
    """One fact per flaw: `same` stands for one picture that all of them share."""
    return [
        PictureFact(first + i, 7 if flaw == "same" else 1000 + first + i, flaw.replace("same", ""))
        for i, flaw in enumerate(flaws)
    ]


# -- what is seen of a picture ---------------------------------------------------------


def test_a_picture_is_known_by_its_request_and_its_pixels():
    first, again, other = (fact_of(drawn(number)) for number in (1, 1, 2))
    asked_otherwise = fact_of(dataclasses.replace(drawn(1), row=row(9)))

    assert first == again
    assert first.picture != other.picture
    assert first.request != other.request
    assert asked_otherwise.picture == first.picture
    assert asked_otherwise.request != first.request
    assert all(0 <= number < 2**64 for number in (first.request, first.picture))


@pytest.mark.parametrize(
    ("error_type", "flaw"),
    [("BlackImageError", "black"), ("NonFiniteError", "nan"), ("ValueError", "failed")],
)
def test_a_failed_row_is_seen_by_its_reason(error_type, flaw):
    assert fact_of(RowFailure(row(), error_type, "why")).flaw == flaw


@pytest.mark.parametrize("colour", [(255, 255, 255), (9, 0, 0), (10, 20, 30)])
def test_a_picture_of_one_colour_is_blank_and_one_other_pixel_saves_it(colour):
    pixels = np.full((16, 16, 3), colour, np.uint8)
    blank = fact_of(drawn(pixels=pixels))
    pixels[3, 5, 2] ^= 1

    assert blank.flaw == "blank"
    assert fact_of(drawn(pixels=pixels)).flaw == ""


def test_a_worker_tells_of_its_first_pictures_a_few_at_a_time():
    lookout = Lookout()
    told = [lookout.see(drawn(number)) for number in range(WATCHED + 20)]

    assert [len(each) for each in told if each] == [AT_ONCE] * (WATCHED // AT_ONCE)
    assert lookout.rest() == ()


def test_what_has_gathered_is_told_when_asked_for():
    lookout = Lookout()
    lookout.see(drawn(1))

    assert [fact.request for fact in lookout.rest()] == [fact_of(drawn(1)).request]
    assert lookout.rest() == ()


def test_threads_that_look_at_once_lose_and_double_nothing():
    lookout, told = Lookout(), []

    def look(first):
        for number in range(first, first + 30):
            told.extend(lookout.see(drawn(number)))

    threads = [threading.Thread(target=look, args=(30 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.extend(lookout.rest())

    assert len(told) == len({fact.request for fact in told}) == WATCHED


# -- what is made of it ----------------------------------------------------------------


@pytest.mark.parametrize("flaw", ["black", "nan", "blank", "same"])
def test_more_than_half_of_the_first_raise_the_alarm_and_half_does_not(flaw):
    half = WATCHED // 2

    assert Canary("float32").hear(facts([flaw] * half + [""] * (WATCHED - half))) == ""
    assert Canary("float32").hear(facts([""] * (half - 1) + [flaw] * (half + 1)))


@given(flaws=st.lists(st.sampled_from(["black", "nan", "blank", "same", "", "failed"])), seed=...)
def test_the_alarm_rises_exactly_when_more_than_half_are_none(flaws: list[str], seed: int):
    chance, canary, told = random.Random(seed), Canary("float32"), facts(flaws)
    alarms = []
    while told:
        cut = chance.randint(1, len(told))
        alarms.append(canary.hear(told[:cut]))
        told = told[cut:]

    first = flaws[:WATCHED]
    alone = first.count("same") == 1
    bad = sum(flaw not in ("", "failed") for flaw in first) - alone
    assert sum(bool(alarm) for alarm in alarms) == (bad > WATCHED // 2)


def test_the_alarm_is_raised_as_soon_as_it_is_certain_and_once():
    canary = Canary("float32")
    alarms = [canary.hear([fact]) for fact in facts(["black"] * WATCHED)]

    assert [bool(alarm) for alarm in alarms].index(True) == WATCHED // 2
    assert sum(bool(alarm) for alarm in alarms) == 1


def test_later_pictures_are_not_looked_at():
    canary = Canary("float32")

    assert canary.hear(facts([""] * WATCHED)) == ""
    assert canary.hear(facts(["black"] * 500, first=WATCHED)) == ""


def test_equal_requests_count_once_and_may_look_alike():
    canary = Canary("float32")
    twins = [PictureFact(request, 100 + request) for request in (1, 2, 3)] * 60

    assert canary.hear(twins) == ""
    assert canary.hear(facts(["black"] * 32, first=50)) == ""
    assert canary.hear(facts(["black"], first=90))


def test_a_picture_drawn_by_two_workers_counts_once():
    canary = Canary("float32")
    told = facts(["black"] * 32)

    assert canary.hear(told) == ""
    assert canary.hear(told) == ""


@pytest.mark.parametrize(
    ("flaw", "dtype", "words"),
    [
        ("nan", "float16", "float16 is too narrow, mostly in the VAE.*--dtype float32"),
        ("black", "bfloat16", "bfloat16 is too narrow"),
        ("black", "float32", "broken weights"),
        ("blank", "float16", "guidance on a distilled model.*--guidance-scale 1"),
        ("same", "float32", "neither prompt nor seed"),
    ],
)
def test_the_likely_cause_is_named_in_one_line(flaw, dtype, words):
    alarm = Canary(dtype).hear(facts([flaw] * 40))

    assert alarm.startswith("canary: of the first 40 pictures 40 ")
    assert re.search(words, alarm)
    assert "--no-canary" in alarm
    assert "\n" not in alarm


# -- whole runs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"), [("black=1", "black"), ("same=1", "equal"), ("black=0.4,same=0.4", "black")]
)
def test_a_run_of_bad_pictures_stops_resumably_and_says_why(
    model, words, manifest, tmp_path, report
):
    options = {"model": f"fake:{model},ms=2", "shard_size": 100, **INLINE}
    summary = api.render(manifest(1500), tmp_path / "out", report=report, **options)

    assert summary.exit_code == 75
    assert summary.done < 1500
    assert summary.reason.startswith("canary: of the first")
    assert words in summary.reason
    assert "ended early: canary" in report.text
    assert api.open_dataset(tmp_path / "out").status().exit_code == 75


@pytest.mark.parametrize("off", [{"canary": False}, {"settings": ["canary=false"]}])
def test_a_stopped_run_goes_on_without_the_canary(off, manifest, tmp_path):
    options = {"model": "fake:same=1,ms=1", "shard_size": 100, **INLINE}
    path, out = manifest(600), tmp_path / "out"
    stopped = api.render(path, out, **options)

    summary = api.render(path, out, **off, **options)

    assert stopped.exit_code == 75
    assert summary.exit_code == 0
    assert summary.success == 600
    assert summary.plan_id == stopped.plan_id


@pytest.mark.parametrize("share", ["black=0.3", "same=0.3", "fail=0.9"])
def test_a_run_with_some_bad_pictures_or_other_failures_goes_on(share, manifest, tmp_path):
    options = {"model": f"fake:{share},ms=2", "settings": ["failures.allow=100%"], **INLINE}
    summary = api.render(manifest(300), tmp_path / "out", **options)

    assert summary.exit_code == 0
    assert summary.done == 300


def test_rows_that_ask_for_the_same_picture_are_no_reason_to_stop(tmp_path, monkeypatch):
    from sdbatch.render import fake

    real = fake.fake_pixels
    monkeypatch.setattr(
        fake,
        "fake_pixels",
        lambda row: real(dataclasses.replace(row, row_index=0, image_index=0)),
    )
    rows = [{"prompt": "same", "seed": 5, "id": str(i)} for i in range(300)]

    summary = api.render(rows, tmp_path / "out", model="fake:ms=2", **INLINE)

    table = api.open_dataset(tmp_path / "out").to_table(["pixel_sha256"])
    assert summary.exit_code == 0
    assert len(set(table["pixel_sha256"].to_pylist())) == 1


def test_black_rows_are_written_down_with_that_reason(manifest, tmp_path):
    api.render(manifest(100), tmp_path / "out", model="fake:black=0.2", **INLINE)

    errors = api.open_dataset(tmp_path / "out").errors().to_pylist()
    assert errors
    assert {error["error_type"] for error in errors} == {"BlackImageError"}


def test_a_run_smaller_than_half_a_canary_is_never_stopped(manifest, tmp_path):
    options = {"model": "fake:same=1,ms=5", **INLINE}
    summary = api.render(manifest(WATCHED // 2), tmp_path / "out", **options)

    assert summary.exit_code == 0
    assert summary.success == WATCHED // 2
