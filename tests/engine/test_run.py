"""Whole runs in this process, over the renderer whose pictures a test can compute."""

import threading
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.errors import InputError, ManifestError, SdbatchError
from sdbatch.render.fake import fake_fails, fake_pixels
from tests.engine.runs import INLINE, asked_for, hashes, pictures


def test_every_row_becomes_its_own_picture_with_its_own_columns(manifest, tmp_path):
    path = manifest(20, label=[f"label {i}" for i in range(20)])

    summary = api.render(path, tmp_path / "out", model="fake", shard_size=7, **INLINE)

    found = pictures(tmp_path / "out")
    assert summary.exit_code == 0
    assert summary.success == 20
    assert sorted(found) == [(i, 0) for i in range(20)]
    for (index, _), (row, pixels) in found.items():
        assert row["prompt"] == f"picture number {index}"
        assert row["label"] == f"label {index}"
        assert np.array_equal(pixels, fake_pixels(asked_for(row)))


def test_shard_size_decides_nothing_about_pixels(manifest, tmp_path):
    path = manifest(50)
    for size in (7, 64):
        api.render(path, tmp_path / f"out{size}", model="fake", shard_size=size, **INLINE)

    assert hashes(tmp_path / "out7") == hashes(tmp_path / "out64")


def test_several_pictures_of_a_row_have_following_seeds(manifest, tmp_path):
    path = manifest(3, seed=[5, 6, 7])
    api.render(path, tmp_path / "out", model="fake", num_images_per_prompt=4, **INLINE)

    seeds = {key: row["seed"] for key, (row, _) in pictures(tmp_path / "out").items()}
    assert seeds == {(i, k): 5 + i + k for i in range(3) for k in range(4)}


def test_equal_rows_without_ids_get_different_seeds(tmp_path):
    api.render([{"prompt": "same"}] * 5, tmp_path / "out", model="fake", **INLINE)

    rows = [row for row, _ in pictures(tmp_path / "out").values()]
    assert len({row["seed"] for row in rows}) == 5
    assert len({row["row_id"] for row in rows}) == 1


def test_rows_of_several_sizes_go_to_shards_of_one_size(manifest, tmp_path):
    path = manifest(30, width=[64, 128, 96] * 10)
    summary = api.render(path, tmp_path / "out", model="fake", shard_size=4, **INLINE)

    found = pictures(tmp_path / "out")
    sizes = {}
    for row, pixels in found.values():
        assert pixels.shape == (64, row["width"], 3)
        sizes.setdefault(row["shard_id"], set()).add(row["width"])
    assert summary.success == 30
    assert all(len(widths) == 1 for widths in sizes.values())
    assert api.open_dataset(tmp_path / "out").verify(3).exit_code == 0


def test_failed_rows_are_written_down_and_the_exit_code_says_so(manifest, tmp_path):
    path, out = manifest(200), tmp_path / "out"
    summary = api.render(path, out, model="fake:fail=0.1", **INLINE)

    errors = api.open_dataset(out).errors().to_pylist()
    drawn = pictures(out)
    assert summary.exit_code == 4
    assert 0 < summary.failed < 60
    assert summary.failed == len(errors)
    assert summary.success + summary.failed == 200
    assert {(e["row_index"], 0) for e in errors} | set(drawn) == {(i, 0) for i in range(200)}
    assert {e["error_type"] for e in errors} == {"FakeError"}
    assert not any(fake_fails(asked_for(row), 0.1) for row, _ in drawn.values())


def test_allowed_failures_leave_the_exit_code_at_zero(manifest, tmp_path):
    options = {"settings": ["failures.allow=50%"], **INLINE}
    summary = api.render(manifest(200), tmp_path / "o", model="fake:fail=0.1", **options)

    assert summary.failed > 0
    assert summary.exit_code == 0


def test_too_many_failures_end_the_run_early_and_resumably(manifest, tmp_path):
    path, out = manifest(400), tmp_path / "out"
    options = {"shard_size": 10, "settings": ["failures.stop_after=5"], **INLINE}
    summary = api.render(path, out, model="fake:fail=0.5,ms=1", **options)

    assert summary.exit_code == 4
    assert summary.done < 400
    assert api.open_dataset(out).status().exit_code == 4
    assert api.open_dataset(out).verify().exit_code == 75


def test_a_folder_with_files_of_others_is_left_alone(manifest, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")

    with pytest.raises(InputError, match="no run of sdbatch wrote"):
        api.render(manifest(5), out, model="fake", **INLINE)
    assert [p.name for p in out.iterdir()] == ["README.md"]


def test_a_manifest_of_huge_row_groups_is_frozen_into_the_output(tmp_path):
    rows = 140_000
    table = pa.table({"prompt": pa.array(["x"] * rows), "id": [str(i) for i in range(rows)]})
    pq.write_table(table, tmp_path / "big.parquet", row_group_size=rows)
    options = {"limit": 40, "model": "fake", **INLINE}
    summary = api.render(str(tmp_path / "big.parquet"), tmp_path / "out", **options)

    (kept,) = (tmp_path / "out" / "__sdbatch" / "main" / "manifest").iterdir()
    frozen = pq.ParquetFile(kept)
    assert summary.success == 40
    assert frozen.metadata.num_rows == rows
    assert frozen.metadata.row_group(0).num_rows <= 131_072


def test_a_run_in_memory_leaves_its_dataset_in_memory(manifest):
    url = "memory://test-run-in-memory/out"
    summary = api.render(manifest(12), url, model="fake", size="64x64")

    dataset = api.open_dataset(url)
    assert summary.exit_code == 0
    assert dataset.to_table().num_rows == 12
    assert dataset.verify(3).exit_code == 0


def test_memory_is_refused_for_several_processes(manifest):
    with pytest.raises(InputError, match="one process only"):
        api.render(manifest(3), "memory://nowhere", model="fake", engine="ray", size="64x64")


def test_a_run_in_another_thread_works_and_sets_no_signal_handler(manifest, tmp_path):
    box = {}

    def work():
        box["summary"] = api.render(manifest(5), tmp_path / "out", model="fake", **INLINE)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert box["summary"].success == 5


def test_signal_handlers_are_restored(manifest, tmp_path):
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    api.render(manifest(5), tmp_path / "out", model="fake", **INLINE)

    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_summary_adds_up(manifest, tmp_path):
    summary = api.render(manifest(40), tmp_path / "out", model="fake", **INLINE)
    printed = summary.to_dict()

    assert printed["rows"] == printed["images"] == printed["success"] == 40
    steps = api.open_dataset(tmp_path / "out").to_table()["num_inference_steps"].to_pylist()
    assert printed["row_steps"] == sum(steps)
    assert 0 < printed["occupancy"] <= 1
    assert set(printed["phase_seconds"]) >= {"load", "denoise", "image_encode", "write"}
    assert printed["plan_id"] == api.open_dataset(tmp_path / "out").status().plan_id


def test_a_wrong_row_is_refused_before_anything_is_written(manifest, tmp_path):
    path = manifest(10, num_inference_steps=[20] * 7 + [-1, 20, 20])

    with pytest.raises(ManifestError, match=r"row 7, column 'num_inference_steps': -1"):
        api.render(path, tmp_path / "out", model="fake", **INLINE)
    assert not (tmp_path / "out").exists()


def test_every_error_of_a_run_is_one_of_ours(manifest, tmp_path):
    with pytest.raises(SdbatchError):
        api.render(manifest(3), tmp_path / "out", model="no-such-model", **INLINE)
    with pytest.raises(SdbatchError):
        api.render(str(tmp_path / "missing.parquet"), tmp_path / "out", model="fake")


def test_the_first_pictures_are_shown_during_the_run(manifest, tmp_path, report):
    api.render(manifest(20), tmp_path / "out", model="fake", report=report, **INLINE)

    sheet = Image.open(tmp_path / "out" / "preview.jpg")
    assert Counter("first pictures:" in line for line in report.lines)[True] == 1
    assert (tmp_path / "out" / "__sdbatch" / "main" / "preview.jpg").exists()
    assert min(sheet.size) > 600


def test_one_process_with_several_workers_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match="one worker"):
        api.render(manifest(3), tmp_path / "o", model="fake", workers=2, **INLINE)


def test_what_serves_people_alone_cannot_end_a_run(manifest, tmp_path, report):
    out = tmp_path / "out"
    for name in ("progress.json", "preview.jpg"):
        (out / "__sdbatch" / "main" / name).mkdir(parents=True)

    summary = api.render(manifest(20), out, model="fake", report=report, **INLINE)

    assert summary.exit_code == 0
    assert sum("the run goes on" in line for line in report.lines) == 2


def test_an_output_with_an_unreadable_name_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match="readable"):
        api.render(manifest(3), str(tmp_path / "x\udcff"), model="fake", **INLINE)
