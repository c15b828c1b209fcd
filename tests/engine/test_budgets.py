"""Budgets: what a run will cost is said, a limit refuses it or ends it in order."""

import json
from datetime import datetime, timedelta

import pytest

from sdbatch import api
from sdbatch.engine import budgets
from sdbatch.errors import InputError, JobError

INLINE = {"engine": "inline", "model": "fake", "size": "64x64"}
SLOW = INLINE | {"model": "fake:ms=20", "shard_size": 4}


@pytest.fixture
def record(tmp_path):
    """What `sdbatch bench --json` prints, as far as it matters: 2 pictures a second."""
    path = tmp_path / "speed.json"
    path.write_text(
        json.dumps(
            {
                "num_inference_steps": 10,
                "guidance_scale": 5.0,
                "width": 64,
                "height": 64,
                "measured": [{"images_per_s": 2.0}],
            }
        )
    )
    return str(path)


def test_a_plan_says_hours_end_and_cost(manifest):
    report = api.plan(manifest(100), **INLINE, images_per_s=0.1, price_per_hour=3.6, workers=1)
    left = datetime.fromisoformat(report.finish) - datetime.now().astimezone()

    assert report.seconds == pytest.approx(1000)
    assert report.gpu_hours == pytest.approx(1000 / 3600)
    assert report.cost == pytest.approx(1.0)
    assert timedelta(seconds=900) < left < timedelta(seconds=1001)
    assert "about 0.28 GPU-hours on 1 worker, done " in report.describe()
    assert report.describe().count("cost 1.00") == 1


def test_a_benchmark_of_other_rows_is_scaled_to_these(manifest, record):
    plan = {**INLINE, "speed": record, "guidance_scale": 5.0}
    same = api.plan(manifest(20), num_inference_steps=10, **plan)
    twice = api.plan(manifest(20), num_inference_steps=20, **plan)
    unguided = api.plan(manifest(20), num_inference_steps=20, **(plan | {"guidance_scale": 1.0}))
    large = api.plan(manifest(20), num_inference_steps=10, **(plan | {"size": "128x128"}))

    seconds = [report.seconds for report in (same, twice, unguided, large)]
    assert seconds == pytest.approx([10, 20, 10, 40])


def test_without_a_speed_a_plan_says_how_to_name_one(manifest):
    report = api.plan(manifest(5), **INLINE)

    assert report.seconds is report.cost is report.finish is None
    assert "time unknown: measure it, --probe 16, or name it" in report.describe()


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"measured": []}', "[1]"])
def test_a_record_that_is_none_is_refused(manifest, tmp_path, text):
    (tmp_path / "speed.json").write_text(text)

    with pytest.raises(JobError, match="bench --json"):
        api.plan(manifest(5), **INLINE, speed=str(tmp_path / "speed.json"))


def test_a_run_over_its_limit_is_refused_and_nothing_is_written(manifest, tmp_path):
    for door in (api.plan, api.render):
        with pytest.raises(JobError, match=r"--limit 6\) or allow --max-images 10"):
            door(manifest(10), tmp_path / "out", **INLINE, max_images=6)

    assert not (tmp_path / "out").exists()


def test_budgets_are_no_part_of_the_plan(manifest):
    plans = [
        api.plan(manifest(5), **INLINE, dtype="float32", batch_size=4, **more)
        for more in ({}, {"max_images": 5, "price_per_hour": 2.0, "images_per_s": 3.0})
    ]

    assert plans[0].plan_id == plans[1].plan_id is not None


def test_a_standing_run_ends_in_order_at_its_limit_and_goes_on_without(
    manifest, tmp_path, monkeypatch
):
    from tests.engine.runs import run_until

    path, out = manifest(120), tmp_path / "out"
    run_until(4, monkeypatch, path, out, **SLOW)
    limited = api.render(path, out, **SLOW, max_images=40)
    whole = api.render(path, out, **SLOW, max_images=500)

    assert limited.exit_code == 75
    assert "--max-images 40" in limited.reason
    assert 40 <= limited.done < 120
    assert (whole.exit_code, whole.done) == (0, 120)


@pytest.mark.parametrize(
    "limits", [{"max_gpu_hours": 0.0001}, {"max_cost": 0.001, "price_per_hour": 10.0}]
)
def test_hours_that_are_spent_end_a_run_in_order(manifest, tmp_path, limits):
    summary = api.render(manifest(200), tmp_path / "out", **SLOW, **limits)

    assert summary.exit_code == 75
    assert summary.done < 200
    assert next(iter(limits)).replace("_", "-") in summary.reason
    assert "GPU-hours of this call are spent" in summary.reason


def test_a_long_run_begins_only_when_somebody_says_yes(manifest, tmp_path):
    asked = []

    def refuse(question):
        asked.append(question)
        return False

    slow = INLINE | {"images_per_s": 0.0001}
    with pytest.raises(InputError, match="--yes"):
        api.render(manifest(10), tmp_path / "out", **slow, confirm=refuse)
    assert asked == ["This run is expected to take 28 hours. Begin?"]
    assert not (tmp_path / "out").exists()

    summary = api.render(manifest(10), tmp_path / "out", **slow, confirm=lambda _: True)
    short = api.render(manifest(10), tmp_path / "short", **INLINE, images_per_s=1, confirm=refuse)
    assert (summary.exit_code, short.exit_code, len(asked)) == (0, 0, 1)


def test_too_little_room_is_said_before_the_run_with_what_would_help(
    manifest, tmp_path, monkeypatch
):
    class Full:
        free = 10

    monkeypatch.setattr(budgets.shutil, "disk_usage", lambda path: Full)
    notes = api.plan(manifest(5), tmp_path / "deep" / "out", **INLINE).notes
    said = [note for note in notes if "free" in note]

    assert any(f"{tmp_path}/deep/out: 0.0 GB free" in note for note in said)
    assert any("unfinished pictures" in note for note in said)
    assert all("--limit" in note and "--size" in note for note in said)


def test_enough_room_needs_no_word(manifest, tmp_path):
    assert not [n for n in api.plan(manifest(5), tmp_path / "o", **INLINE).notes if "free" in n]
