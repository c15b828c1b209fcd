"""A folder that holds a run: gone on with, refused, finished, wherever it stands now."""

import shlex

import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import DamagedError, PlanChangedError
from sdbatch.model_specs import Speed
from sdbatch.render import fake
from sdbatch.render.fake import FakeRenderer
from sdbatch.storage.store import open_store
from tests.engine.runs import INLINE, hashes, pictures, run_until


def test_a_finished_run_says_so_and_touches_nothing(manifest, tmp_path, report):
    path, out = manifest(), tmp_path / "out"
    api.render(path, out, model="fake", **INLINE)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}

    summary = api.render(path, out, model="fake", report=report, **INLINE)

    assert "nothing to do, 20 of 20 done" in report.text
    assert summary.exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_a_stopped_run_keeps_what_was_drawn_and_is_resumed_to_the_same_pixels(
    manifest, tmp_path, monkeypatch, report
):
    path, out = manifest(120), tmp_path / "out"
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    stopped = run_until(20, monkeypatch, path, out, **options)
    parts = list((out / "__sdbatch" / "main" / "parts").rglob("*.parquet"))
    kept = sum(pq.read_metadata(part).num_rows for part in parts)

    summary = api.render(path, out, report=report, **options)
    api.render(path, tmp_path / "whole", **options)

    assert stopped.exit_code == 75
    assert stopped.done < 120
    assert kept + stopped.done >= 20
    assert summary.exit_code == 0
    assert hashes(out) == hashes(tmp_path / "whole")
    assert not list((out / "__sdbatch" / "main" / "parts").rglob("*.parquet"))
    assert f"resuming: {stopped.done} of 120" in report.text or stopped.done == 0
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_only_an_explicit_other_value_is_refused_on_resume(manifest, tmp_path, monkeypatch):
    path, out = manifest(120), tmp_path / "out"
    first = {"model": "fake:ms=25", "shard_size": 60, "num_inference_steps": 20, **INLINE}
    run_until(10, monkeypatch, path, out, **first)

    with pytest.raises(PlanChangedError, match="was 20, now 30"):
        api.render(path, out, **(first | {"num_inference_steps": 30}))
    with pytest.raises(PlanChangedError, match="seed: was 0, now 9"):
        api.render(path, out, seed=9, **INLINE)
    summary = api.render(path, out, engine="inline")

    assert summary.exit_code == 0
    assert {row["num_inference_steps"] for row, _ in pictures(out).values()} == {20}


def test_another_manifest_is_refused_in_a_folder_that_holds_a_run(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(5), out, model="fake", **INLINE)
    other = manifest(6, name="other.parquet")

    with pytest.raises(PlanChangedError, match="another job"):
        api.render(other, out, model="fake", **INLINE)


def test_a_manifest_that_changes_under_a_stopped_run_is_refused(manifest, tmp_path, monkeypatch):
    path, out = manifest(120), tmp_path / "out"
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    run_until(10, monkeypatch, path, out, **options)
    manifest(120, prompt=[f"other {i}" for i in range(120)])

    with pytest.raises(PlanChangedError, match="manifest"):
        api.render(path, out, **options)


def test_going_on_with_another_device_is_said_and_allowed(manifest, tmp_path, monkeypatch, report):
    path, out = manifest(120), tmp_path / "out"
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    run_until(10, monkeypatch, path, out, **options)
    monkeypatch.setattr(fake, "processor_name", lambda: "Another CPU")

    summary = api.render(path, out, report=report, **options)

    assert summary.exit_code == 0
    assert "pixels may differ" in report.text
    assert "Another CPU" in report.text


def test_speed_switches_stand_in_the_plan_and_reach_the_worker(manifest, tmp_path, monkeypatch):
    seen, out = [], tmp_path / "out"
    real = FakeRenderer.__init__

    def watched(self, spec, sizes):
        seen.append(spec.speed)
        real(self, spec, sizes)

    monkeypatch.setattr(FakeRenderer, "__init__", watched)
    settings = ["render.channels_last=true", "render.attention=math"]
    options = {"compile": True, "settings": settings, "model": "fake:ms=25", "shard_size": 60}
    run_until(10, monkeypatch, manifest(120), out, **options, **INLINE)
    api.render(manifest(120), out, **INLINE)

    wanted = Speed(compile=True, channels_last=True, attention="math")
    assert seen == [wanted, wanted]


def test_another_switch_than_planned_is_refused_on_resume(manifest, tmp_path, monkeypatch):
    path, out = manifest(120), tmp_path / "out"
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    run_until(10, monkeypatch, path, out, **options)

    with pytest.raises(PlanChangedError, match=r"render.compile: was False, now True"):
        api.render(path, out, compile=True, **options)
    with pytest.raises(PlanChangedError, match=r"render.attention: was auto, now flash"):
        api.render(path, out, settings=["render.attention=flash"], **options)


def test_a_driver_that_died_just_before_its_last_words_is_finished_by_the_next(
    manifest, tmp_path, monkeypatch
):
    path, out = manifest(20), tmp_path / "out"
    options = {"model": "fake", "shard_size": 5, **INLINE}
    api.render(path, out, **options)
    orphan = out / "data" / "train-00001-of-00004-0123abcd.parquet"
    state = out / "__sdbatch" / "main"

    for lost in (["README.md"], ["README.md", "__sdbatch/main/success/0.json"]):
        orphan.write_bytes(b"left by a lost attempt")
        for name in lost:
            (out / name).unlink()
        monkeypatch.setattr("sdbatch.engine.session.run_inline", None)  # nothing is left to draw
        summary = api.render(path, out, **options)

        assert summary.exit_code == 0
        assert (out / "README.md").exists()
        assert (state / "success" / "0.json").exists()
        assert not orphan.exists()


def test_a_moved_output_is_resumed_where_it_stands_now(tmp_path, monkeypatch):
    rows = [{"prompt": f"p{i}"} for i in range(120)]
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    run_until(10, monkeypatch, rows, tmp_path / "before", **options)
    (tmp_path / "before").rename(tmp_path / "after")

    summary = api.render(rows, tmp_path / "after", **options)

    assert summary.exit_code == 0
    assert len(pictures(tmp_path / "after")) == 120


def test_a_moved_manifest_is_read_where_it_lies_now(manifest, tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = {"model": "fake:ms=25", "shard_size": 60, **INLINE}
    run_until(10, monkeypatch, manifest(120), out, **options)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rows.parquet").rename(tmp_path / "elsewhere" / "rows.parquet")

    summary = api.render(str(tmp_path / "elsewhere" / "rows.parquet"), out, **options)

    assert summary.exit_code == 0


def test_a_driver_that_comes_second_takes_the_plan_that_stands_or_is_refused(tmp_path):
    from contextlib import ExitStack

    from sdbatch.api import _preparing
    from sdbatch.engine.request import run_options
    from sdbatch.engine.run import Run
    from sdbatch.reworking import Silent

    rows = [{"prompt": f"p{i}"} for i in range(12)]
    out, options = tmp_path / "out", {"model": "fake", **INLINE}
    with ExitStack() as keep:
        late = {}
        for name, seed in (("same", {}), ("other", {"seed": 9})):
            again = _preparing(rows, out, {**options, **seed}, keep)
            prepared = again()
            late[name] = Run(prepared, run_options(prepared.asked, options), Silent(), again)
        first = api.render(rows, out, **options)
        before = hashes(out)

        second = late["same"].execute()
        with pytest.raises(PlanChangedError, match="seed: was 0, now 9"):
            late["other"].execute()

    assert first.exit_code == second.exit_code == 0
    assert second.success == 12
    assert hashes(out) == before
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_lost_records_of_a_finished_run_are_damage_not_success(manifest, tmp_path):
    path, out = manifest(20), tmp_path / "out"
    options = {"model": "fake", "shard_size": 5, **INLINE}
    api.render(path, out, **options)
    (out / "__sdbatch" / "main" / "commits" / "000" / "00003.json").unlink()

    with pytest.raises(DamagedError, match="records name 15"):
        api.render(path, out, **options)


def test_the_command_that_resumes_works_from_every_folder(manifest, tmp_path, monkeypatch):
    path, out = manifest(40), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    options = {"model": "fake:ms=25", "shard_size": 10, **INLINE}
    run_until(10, monkeypatch, "rows.parquet", out, **options)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    words = shlex.split(api.open_dataset(out).status().resume)
    assert words == ["sdbatch", "render", path, open_store(out).url]
    assert api.render(*words[2:], engine="inline").exit_code == 0
