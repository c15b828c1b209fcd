"""A probe measures a run on its own rows, writes nothing, and its speed becomes time and cost."""

import subprocess
import sys

import pytest

from sdbatch import api
from sdbatch.engine import probe_rows
from sdbatch.errors import JobError

SLOW = {"engine": "inline", "model": "fake:ms=20", "size": "64x64", "guidance_scale": 1.0}


@pytest.fixture
def pulled(monkeypatch):
    """Rows that the renderer was asked for."""
    seen = []
    load = probe_rows.load_renderer

    def loading(spec, sizes):
        renderer = load(spec, sizes)
        render = renderer.render

        def watched(rows):
            rows = list(rows)
            seen.extend(rows)
            return render(rows)

        monkeypatch.setattr(renderer, "render", watched, raising=False)
        return renderer

    monkeypatch.setattr(probe_rows, "load_renderer", loading)
    return seen


def test_a_probe_gives_hours_end_and_cost_and_writes_nothing(manifest, tmp_path):
    out = tmp_path / "out"
    report = api.plan(manifest(1000), out, probe=4, price_per_hour=3600.0, workers=2, **SLOW)
    (group,) = report.probed

    assert group.size == "64x64"
    assert group.images >= 4
    assert report.seconds == pytest.approx(1000 * group.seconds_per_image / 2)
    assert report.cost == pytest.approx(1000 * group.seconds_per_image)
    assert report.gpu_hours == pytest.approx(report.cost / 3600)
    assert report.finish is not None
    assert any(note.startswith("probed 64x64, ") for note in report.notes)
    assert not out.exists()


def test_rows_come_from_all_over_the_manifest(manifest, pulled):
    api.plan(manifest(101), probe=3, **SLOW)

    assert {row.row_index for row in pulled} == {0, 50, 100}


def test_each_size_and_number_of_steps_is_measured_for_itself(manifest):
    steps = [2 if row % 2 else 4 for row in range(40)]
    report = api.plan(manifest(40, num_inference_steps=steps), probe=7, **SLOW)
    found = {one.steps: one.seconds_per_image for one in report.probed}

    assert set(found) == {2, 4}
    assert report.seconds == pytest.approx(20 * found[2] + 20 * found[4])


def test_groups_that_no_probed_row_is_of_are_scaled_by_their_work(manifest):
    sizes = [64 if row in (0, 10) else 128 for row in range(11)]
    report = api.plan(manifest(11, width=sizes), probe=2, **SLOW)
    (group,) = report.probed

    assert report.seconds == pytest.approx((2 + 9 * 2) * group.seconds_per_image)


def test_a_run_that_stands_can_be_probed_too(manifest, tmp_path):
    path = manifest(6)
    api.render(path, tmp_path / "out", **SLOW)
    report = api.plan(path, tmp_path / "out", probe=2, **SLOW)
    (group,) = report.probed

    assert report.standing
    assert report.seconds == pytest.approx(6 * group.seconds_per_image)


def test_bad_rows_are_not_probed(manifest, pulled):
    widths = [100, 64, 64]
    api.plan(manifest(3, width=widths), probe=3, bad_rows="fail", **SLOW)

    assert {row.row_index for row in pulled} == {1, 2}
    with pytest.raises(JobError, match="none of 2 rows can be drawn"):
        api.plan(manifest(2, width=[100, 100]), probe=2, bad_rows="fail", **SLOW)


def test_a_probe_holds_a_run_to_its_limits_before_it_begins(manifest, tmp_path):
    with pytest.raises(JobError, match="--max-gpu-hours"):
        api.render(manifest(100), tmp_path / "out", probe=1, max_gpu_hours=1e-6, **SLOW)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"probe": 0}, {"probe": 2, "images_per_s": 3.0}])
def test_a_probe_that_means_nothing_is_refused(options, manifest):
    with pytest.raises(JobError, match="--probe"):
        api.plan(manifest(2), **SLOW, **options)


def test_planning_loads_torch_for_a_probe_alone(manifest):
    code = (
        "import sys\nfrom sdbatch import api\n"
        "report = api.plan(sys.argv[1], probe=int(sys.argv[2]) or None)\n"
        "assert ('torch' in sys.modules) == bool(report.probed), report.probed\n"
        "assert 'ray' not in sys.modules\n"
    )
    for rows in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, manifest(2), rows], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
